//! The transfer over a bad network: chunks come late, twice, wrong, from one source only, or
//! not at all, and the link comes and goes. A referee looks at every ask; the last tests break
//! its rules on purpose, so that it is known to see.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Rng;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::{CHUNK_BACKOFF_MS_MAX, CHUNK_TIMEOUT_MS, WINDOW_CHUNKS_MAX};
use fleetway_protocol::manifest::Artifact;
use fleetway_protocol::transfer::{Ask, Bitmap, Config, Event, Transfer};
use proptest::prelude::*;

/// Time from an ask to its chunk.
const ROUND_TRIP_MS: u64 = 40;

/// How bad the world is until `calm_at_ms`; after that nothing is lost any more.
#[derive(Clone, Debug)]
struct Weather {
    calm_at_ms: u64,
    lost_percent: u64,
    twice_percent: u64,
    wrong_percent: u64,
    /// Mean time between changes of the link, 0 for a link that stays.
    flaps_ms: u64,
    /// Sources that never answer, calm or not.
    retained_dead: bool,
    reply_dead: bool,
}

const CALM: Weather = Weather {
    calm_at_ms: 0,
    lost_percent: 0,
    twice_percent: 0,
    wrong_percent: 0,
    flaps_ms: 0,
    retained_dead: false,
    reply_dead: false,
};

/// How whoever carries out the asks is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    AsksTwiceAsMuch,
    ForgetsToLeave,
    AsksForWhatItHas,
    Sleeps,
    KnowsNoBudget,
}

struct World {
    transfer: Transfer,
    config: Config,
    chunks: u32,
    chunk_bytes: u32,
    now_ms: u64,
    up: bool,
    weather: Weather,
    rng: Rng,
    flaw: Option<Flaw>,
    /// Chunks on their way: when, which, right or wrong.
    arrivals: BTreeMap<(u64, u64), (u32, bool)>,
    sent: u64,
    subscribed: BTreeSet<u32>,
    /// Asked for and not there yet.
    open: BTreeSet<u32>,
    have: BTreeSet<u32>,
    /// Chunks that were on disk when the transfer began.
    resumed: BTreeSet<u32>,
    spent: Vec<(u64, u64)>,
    subscribes: u32,
    wants: u32,
    ticked_at_ms: Option<u64>,
}

impl World {
    fn new(chunks: u32, have: &[u32], config: Config, weather: Weather, seed: u64) -> Self {
        let chunk_bytes = 1000;
        let artifact = Artifact {
            digest: Digest([1; 32]),
            bytes: chunks * chunk_bytes - 7,
            chunk_bytes,
            chunk_list: Digest([2; 32]),
        };
        let mut bitmap = Bitmap::default();
        have.iter().for_each(|n| bitmap.set(*n));
        let bitmap = Bitmap::from_bytes(bitmap.as_bytes());
        let have: BTreeSet<_> = have.iter().copied().filter(|n| *n < chunks).collect();
        Self {
            transfer: Transfer::new(&artifact, bitmap, config, 0, true),
            config,
            chunks,
            chunk_bytes,
            now_ms: 0,
            up: true,
            weather,
            rng: Rng::new(seed),
            flaw: None,
            arrivals: BTreeMap::new(),
            sent: 0,
            subscribed: BTreeSet::new(),
            open: BTreeSet::new(),
            resumed: have.clone(),
            have,
            spent: Vec::new(),
            subscribes: 0,
            wants: 0,
            ticked_at_ms: None,
        }
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.now_ms < self.weather.calm_at_ms && self.rng.below(100) < percent
    }

    /// A chunk leaves for here, if the weather lets it.
    fn send(&mut self, chunk: u32, dead: bool) {
        if dead || self.percent(self.weather.lost_percent) {
            return;
        }
        for _ in 0..1 + u64::from(self.percent(self.weather.twice_percent)) {
            let wrong = self.percent(self.weather.wrong_percent);
            let late = if self.percent(20) { self.rng.below(12_000) } else { 0 };
            self.sent += 1;
            let at = (self.now_ms + ROUND_TRIP_MS + late, self.sent);
            self.arrivals.insert(at, (chunk, !wrong));
        }
    }

    /// Everything that the transfer wants done now, looked at by the referee.
    fn drain(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            let Some(ask) = self.transfer.poll(self.now_ms) else { return self.check_timeout() };
            let times = 1 + u32::from(self.flaw == Some(Flaw::AsksTwiceAsMuch));
            match ask {
                Ask::Unsubscribe(_) if self.flaw == Some(Flaw::ForgetsToLeave) => {}
                Ask::Unsubscribe(n) => {
                    if !self.subscribed.remove(&n) {
                        return Err(format!("leaves {n}, which is not subscribed"));
                    }
                }
                Ask::Subscribe(n) | Ask::Want(n) => {
                    for more in 0..times {
                        self.check_ask(n + more * 100)?;
                    }
                    match ask {
                        Ask::Subscribe(_) => {
                            self.subscribes += 1;
                            self.subscribed.insert(n);
                            self.send(n, self.weather.retained_dead);
                        }
                        _ => {
                            self.wants += 1;
                            self.send(n, self.weather.reply_dead);
                        }
                    }
                }
            }
        }
        Err("poll never ends".into())
    }

    fn check_ask(&mut self, n: u32) -> Result<(), String> {
        let n = match self.have.first() {
            Some(there) if self.flaw == Some(Flaw::AsksForWhatItHas) => *there,
            _ => n,
        };
        if !self.up {
            return Err("asks over a link that is down".into());
        }
        if self.have.contains(&n) || self.resumed.contains(&n) {
            return Err(format!("asks for {n}, which is there"));
        }
        self.open.insert(n);
        if self.open.len() > usize::from(self.config.window_chunks).clamp(1, WINDOW_CHUNKS_MAX) {
            return Err(format!("{} in flight", self.open.len()));
        }
        self.spent.push((self.now_ms, u64::from(self.chunk_bytes)));
        self.check_budget()
    }

    /// In any stretch of time: the rate, and two chunks or a second's worth and a chunk.
    fn check_budget(&self) -> Result<(), String> {
        let rate = u64::from(self.config.bytes_per_s);
        if rate == 0 {
            return Ok(());
        }
        let slack = rate.max(u64::from(self.chunk_bytes)) + u64::from(self.chunk_bytes);
        let mut bytes = 0;
        for (at_ms, spent) in self.spent.iter().rev() {
            bytes += spent;
            let allowed = rate * (self.now_ms - at_ms) / 1000 + slack;
            if bytes > allowed {
                return Err(format!("{bytes} bytes in {} ms", self.now_ms - at_ms));
            }
        }
        Ok(())
    }

    /// While the link is up and something is missing there is a time to wake, and after a tick
    /// it is later than now: neither asleep for ever nor spinning.
    fn check_timeout(&self) -> Result<(), String> {
        let at_ms = self.timeout();
        match at_ms {
            None if self.up && !self.transfer.is_complete() => Err("sleeps for ever".into()),
            Some(at_ms) if at_ms <= self.now_ms && self.ticked_at_ms == Some(self.now_ms) => {
                Err("spins".into())
            }
            _ => Ok(()),
        }
    }

    fn timeout(&self) -> Option<u64> {
        self.transfer.poll_timeout().filter(|_| self.flaw != Some(Flaw::Sleeps))
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        if let Event::Stored(n) = event {
            self.have.insert(n);
            self.open.remove(&n);
        }
        if event == Event::Tick {
            self.ticked_at_ms = Some(self.now_ms);
        }
        self.transfer.handle(self.now_ms, event);
        self.drain()
    }

    fn change_link(&mut self, up: bool) -> Result<(), String> {
        if up == self.up {
            return Ok(());
        }
        self.up = up;
        if up {
            // The link's own table is subscribed again, and brings what is retained.
            for n in self.subscribed.clone() {
                self.send(n, self.weather.retained_dead);
            }
        } else {
            self.arrivals.clear();
        }
        self.handle(if up { Event::Up } else { Event::Down })
    }

    fn arrive(&mut self) -> Result<(), String> {
        let Some((_, (chunk, right))) = self.arrivals.pop_first() else { return Ok(()) };
        if self.transfer.wants(chunk) {
            self.handle(if right { Event::Stored(chunk) } else { Event::Bad(chunk) })?;
        }
        Ok(())
    }

    /// Runs until all is there, at most until `until_ms`.
    fn run(&mut self, until_ms: u64) -> Result<(), String> {
        let mut flap_at_ms = self.next_flap();
        self.drain()?;
        while !self.transfer.is_complete() && self.now_ms < until_ms {
            let arrival = self.arrivals.keys().next().map(|k| k.0);
            let next = [arrival, self.timeout(), flap_at_ms].into_iter().flatten().min();
            let Some(next) = next else { return Err("nothing will ever happen".into()) };
            self.now_ms = self.now_ms.max(next);
            if arrival == Some(next) {
                self.arrive()?;
            } else if flap_at_ms == Some(next) {
                let calm = self.now_ms >= self.weather.calm_at_ms;
                self.change_link(calm || !self.up)?;
                flap_at_ms = self.next_flap().filter(|_| !calm);
            } else {
                self.handle(Event::Tick)?;
            }
        }
        if !self.transfer.is_complete() {
            return Err(format!("incomplete: {:?}", self.transfer.progress()));
        }
        self.check_end()
    }

    fn next_flap(&mut self) -> Option<u64> {
        let mean = self.weather.flaps_ms;
        (mean > 0).then(|| self.now_ms + 1 + self.rng.below(2 * mean))
    }

    fn check_end(&self) -> Result<(), String> {
        if !self.subscribed.is_empty() {
            return Err(format!("still subscribed: {:?}", self.subscribed));
        }
        if self.transfer.subscribed().next().is_some() {
            return Err("believes that it is subscribed".into());
        }
        let all: BTreeSet<_> = (0..self.chunks).collect();
        if self.have != all {
            return Err("says that it is complete and is not".into());
        }
        Ok(())
    }

    /// Longest time that it may take once nothing is lost any more.
    fn enough_ms(&self) -> u64 {
        let rate = u64::from(self.config.bytes_per_s);
        let bytes = u64::from(self.chunks) * u64::from(self.chunk_bytes);
        // Each chunk may be asked for at the dead source first; the last waits are the longest.
        let asks = u64::from(self.chunks) * CHUNK_TIMEOUT_MS * 5 / 4 + 3 * CHUNK_BACKOFF_MS_MAX;
        asks + (4 * bytes * 1000).checked_div(rate).unwrap_or(0)
    }
}

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
