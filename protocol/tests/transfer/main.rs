//! The transfer over a bad network: chunks come late, twice, wrong, from one source only, or
//! not at all, and the link comes and goes. A referee looks at every ask; the last tests break
//! its rules on purpose, so that it is known to see.
//!
//! `world` is the network and the referee; this file is what must hold in it.

#[path = "../common/rng.rs"]
mod rng;
mod world;

use std::collections::BTreeSet;

use fleetway_protocol::limits::CHUNK_BACKOFF_MS_MAX;
use fleetway_protocol::transfer::{Config, Event};
use proptest::prelude::*;
use world::{CALM, Flaw, ROUND_TRIP_MS, Weather, World};

fn config(window_chunks: u8, bytes_per_s: u32) -> Config {
    Config { window_chunks, bytes_per_s, seed: 7 }
}

fn weather() -> impl Strategy<Value = Weather> {
    let dead =
        prop_oneof![4 => Just((false, false)), 1 => Just((true, false)), 1 => Just((false, true))];
    (0..200_000u64, 0..=100u64, 0..60u64, 0..60u64, prop_oneof![Just(0), 500..40_000u64], dead)
        .prop_map(|(calm_at_ms, lost, twice, wrong, flaps_ms, (retained_dead, reply_dead))| {
            Weather {
                calm_at_ms,
                lost_percent: lost,
                twice_percent: twice,
                wrong_percent: wrong,
                flaps_ms,
                retained_dead,
                reply_dead,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The referee looks at every ask; in the end everything is there and every topic left.
    #[test]
    fn it_completes_once_loss_stops(
        chunks in 1u32..120, have in prop::collection::vec(0u32..140, 0..60), window in 0u8..12,
        rate in prop_oneof![Just(0u32), 200u32..100_000], weather in weather(), seed in any::<u64>()
    ) {
        let mut world = World::new(chunks, &have, config(window, rate), weather.clone(), seed);
        let until_ms = weather.calm_at_ms + 2 * weather.flaps_ms + world.enough_ms();
        prop_assert_eq!(world.run(until_ms), Ok(()));
    }

    /// Numbers from outside that are not in flight change nothing.
    #[test]
    fn hostile_numbers_do_nothing(chunks in 1u32..50, number in any::<u32>(), window in 1u8..8) {
        let mut world = World::new(chunks, &[], config(window, 0), CALM, 1);
        prop_assert_eq!(world.drain(), Ok(()));
        let number = number.saturating_add(chunks);
        let before = format!("{:?}", world.transfer);
        world.transfer.handle(0, Event::Stored(number));
        world.transfer.handle(0, Event::Bad(number));
        // Not asked for yet: wrong bytes of it mean nothing either.
        if u32::from(window) < chunks {
            world.transfer.handle(0, Event::Bad(chunks - 1));
        }
        prop_assert_eq!(format!("{:?}", world.transfer), before);
        prop_assert_eq!(world.transfer.poll(0), None);
        prop_assert!(!world.transfer.wants(number));
    }
}

#[test]
fn what_is_on_disk_is_not_asked_for_again() {
    let have: Vec<_> = (0..100).filter(|n| n % 3 != 0).collect();
    let mut world = World::new(100, &have, config(4, 0), CALM, 1);
    assert_eq!(world.run(100_000), Ok(()));
    assert_eq!(world.subscribes + world.wants, 34);
    let mut whole = World::new(5, &[0, 1, 2, 3, 4, 5, 99], config(4, 0), CALM, 1);
    assert!(whole.transfer.is_complete());
    assert_eq!((whole.transfer.poll(0), whole.transfer.poll_timeout()), (None, None));
    assert_eq!(whole.run(0), Ok(()));
}

#[test]
fn with_one_source_dead_the_other_serves_and_is_asked_first_soon() {
    for (retained_dead, reply_dead) in [(true, false), (false, true)] {
        let weather = Weather { retained_dead, reply_dead, ..CALM };
        let mut world = World::new(100, &[], config(4, 0), weather, 1);
        assert_eq!(world.run(100_000), Ok(()), "done in {} ms", world.now_ms);
        let dead = if retained_dead { world.subscribes } else { world.wants };
        assert!(dead <= 8, "{dead} asks at the dead source");
        assert!(world.now_ms < 30_000, "{} ms", world.now_ms);
    }
    // A source that dies half way, and the other one before it.
    let mut world = World::new(100, &[], config(4, 0), CALM, 1);
    world.weather.reply_dead = true;
    while world.have.len() < 50 {
        world.drain().expect("sane");
        world.now_ms += ROUND_TRIP_MS;
        world.arrive().expect("sane");
    }
    (world.weather.reply_dead, world.weather.retained_dead) = (false, true);
    world.arrivals.clear();
    assert_eq!(world.run(200_000), Ok(()));
    assert!(world.wants >= 46, "{}", world.wants);
}

/// Never slower than its budget by more than a tenth, however often it is polled.
#[test]
fn the_budget_is_used_as_well_as_kept() {
    for rate in [300, 999, 1000, 1500, 1999, 50_000] {
        let mut world = World::new(60, &[], config(4, rate), CALM, 1);
        world.drain().expect("sane");
        while !world.transfer.is_complete() {
            world.now_ms += 1;
            while world.arrivals.keys().next().is_some_and(|k| k.0 <= world.now_ms) {
                world.arrive().expect("sane");
            }
            world.handle(Event::Tick).expect("sane");
            assert!(world.now_ms < 400_000, "{rate} B/s: {:?}", world.transfer.progress());
        }
        let ideal_ms = 60 * 1000 * 1000 / u64::from(rate);
        assert!(world.now_ms <= ideal_ms * 11 / 10 + 1000, "{rate} B/s: {} ms", world.now_ms);
    }
}

/// A large chunk at a small rate: a debt of many minutes is paid in as many, not more.
#[test]
fn a_long_debt_is_paid_in_time() {
    let config = config(1, 5);
    let mut world = World::new(10, &[], config, CALM, 1);
    assert_eq!(world.run(10_000_000), Ok(()));
    assert!(world.now_ms <= 10 * 1000 * 1000 / 5 * 11 / 10, "{} ms", world.now_ms);
}

/// Subscribed, the link goes, the chunk comes by the link's own re-subscription before the
/// transfer may ask again: the topic must still be left.
#[test]
fn a_subscription_outlives_the_link() {
    let mut world = World::new(3, &[], config(1, 1000), CALM, 1);
    world.drain().expect("sane");
    assert_eq!(world.subscribed, BTreeSet::from([0]));
    world.change_link(false).expect("sane");
    assert_eq!(world.transfer.subscribed().collect::<Vec<_>>(), [0], "for whoever gives up now");
    world.change_link(true).expect("sane");
    world.now_ms += 1;
    world.handle(Event::Stored(0)).expect("sane");
    assert!(!world.subscribed.contains(&0));
}

/// Whatever was on its way is lost with the link, and asked for as soon as it is back.
#[test]
fn a_link_that_comes_back_is_used_at_once() {
    for retained_dead in [false, true] {
        let mut world = World::new(4, &[], config(4, 0), CALM, 1);
        world.weather.retained_dead = retained_dead;
        world.drain().expect("sane");
        if retained_dead {
            // On to the other source, and cut there.
            world.now_ms = 7_000;
            world.handle(Event::Tick).expect("sane");
        }
        let asked = world.subscribes + world.wants;
        world.change_link(false).expect("sane");
        assert_eq!(world.timeout(), None, "nothing to wake for");
        world.now_ms += 1000;
        world.change_link(true).expect("sane");
        assert_eq!(world.subscribes + world.wants, asked + 4);
    }
}

#[test]
fn no_step_takes_longer_than_the_longest_wait() {
    let mut world = World::new(4, &[], config(4, 0), CALM, 1);
    (world.weather.retained_dead, world.weather.reply_dead) = (true, true);
    world.drain().expect("sane");
    let mut waits = Vec::new();
    for _ in 0..200 {
        let at_ms = world.timeout().expect("a time to wake");
        waits.push(at_ms - world.now_ms);
        world.now_ms = at_ms;
        world.handle(Event::Tick).expect("sane");
    }
    let longest = waits.iter().max().copied().unwrap_or(0);
    assert!(longest <= CHUNK_BACKOFF_MS_MAX * 5 / 4, "{longest}");
    assert!(longest > CHUNK_BACKOFF_MS_MAX / 2, "the pauses grow: {longest}");
    let asks = world.subscribes + world.wants;
    assert!(asks <= 204 && world.subscribes > 20 && world.wants > 20, "{asks}");
}

#[test]
fn the_clock_at_its_end_does_not_panic() {
    let mut world = World::new(4, &[], config(2, 10), CALM, 1);
    for now_ms in [u64::MAX, 0, u64::MAX - 1] {
        for event in [Event::Tick, Event::Down, Event::Up, Event::Bad(0), Event::Stored(3)] {
            world.transfer.handle(now_ms, event);
            while world.transfer.poll(now_ms).is_some() {}
            let _ = world.transfer.poll_timeout();
        }
    }
}

#[test]
fn the_referee_sees() {
    let check = |flaw, config: Config, complaint: &str| {
        let mut world = World::new(40, &[7], config, CALM, 1);
        world.flaw = Some(flaw);
        if flaw == Flaw::KnowsNoBudget {
            world.config.bytes_per_s = 2000;
        }
        let seen = world.run(1_000_000).err().unwrap_or_default();
        assert!(seen.contains(complaint), "{flaw:?}: {seen:?}");
    };
    check(Flaw::AsksTwiceAsMuch, config(4, 0), "in flight");
    check(Flaw::ForgetsToLeave, config(4, 0), "still subscribed");
    check(Flaw::AsksForWhatItHas, config(4, 0), "which is there");
    check(Flaw::Sleeps, config(4, 500), "sleeps for ever");
    check(Flaw::KnowsNoBudget, config(4, 0), "bytes in");
}
