//! Power is cut at every command of every story: before its effect, halfway, after it; once
//! at each place, twice at each pair of places, and many times by seed. After each cut the
//! device goes on from its durable table alone, and [`common::Device`] checks at each step
//! that the promises hold. The last tests break the device on purpose: a checker that sees
//! nothing there would prove nothing here.

mod common;

use std::collections::BTreeSet;

use common::{Bytes, Cut, Device, Flaw, Release, Rng, digest, facts, nature, order, run, summary};
use fleetway_protocol::limits::{POISON_MAX, TRIAL_TRIES_MAX};
use fleetway_protocol::machine::{Command, Event, Machine};
use fleetway_protocol::order::Action;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Ending, Poison, SlotId, SlotState, SlotTable};
use proptest::prelude::*;

// --- stories ---------------------------------------------------------------------------------

/// What happens, when nothing is cut.
#[derive(Clone, Copy)]
enum Scene {
    Give(Action, Release),
    /// Give it while the device is at this command of the one before.
    GiveAt(u32, Action, Release),
    Stop,
    StopAt(u32),
    /// The bytes of a slot rot while the device is off, and it boots.
    Rot(SlotId),
}
use Action::{Remove, Rollback, Run};
use Scene::{Give, GiveAt, Rot, Stop, StopAt};

#[derive(Clone, Copy)]
struct Story<'a> {
    name: &'a str,
    factory: Option<Release>,
    confirmed: &'a [Release],
    scenes: &'a [Scene],
    /// What serves in the end, whatever was cut (fewer than three times in a trial).
    serves: Option<Release>,
    /// What may serve instead, where it depends on the cuts what was confirmed before.
    or: Option<Release>,
}

const STORIES: &[Story<'static>] = &[
    story("first install", None, &[], &[Give(Run, 1)], Some(1)),
    story("first install over a factory model", Some(0), &[], &[Give(Run, 1)], Some(1)),
    story("upgrade", None, &[1], &[Give(Run, 2)], Some(2)),
    story("two upgrades", Some(0), &[1], &[Give(Run, 2), Give(Run, 3)], Some(3)),
    story("golden vectors fail", None, &[1], &[Give(Run, 4)], Some(1)),
    story("unhealthy", None, &[1], &[Give(Run, 5)], Some(1)),
    story("crashes", None, &[1], &[Give(Run, 6)], Some(1)),
    story("crashes, over a factory model", Some(0), &[], &[Give(Run, 6)], Some(0)),
    story("will not load", None, &[1], &[Give(Run, 7)], Some(1)),
    story("never verifies", None, &[1], &[Give(Run, 8)], Some(1)),
    story("untrusted", None, &[1], &[Give(Run, 9)], Some(1)),
    story("unhealthy, then the next", None, &[1], &[Give(Run, 5), Give(Run, 10)], Some(10)),
    story("back to the slot before", None, &[1, 2], &[Give(Rollback, 1)], Some(1)),
    story("back and forth", None, &[1, 2], &[Give(Rollback, 1), Give(Run, 2)], Some(2)),
    story("back to the factory model", Some(0), &[1], &[Give(Rollback, 0)], Some(0)),
    story("back to nothing known", None, &[1], &[Give(Rollback, 3)], Some(1)),
    story("removed", None, &[1, 2], &[Give(Remove, 2)], None),
    story("removed over a factory model", Some(0), &[1], &[Give(Remove, 1)], None),
    story("removed and back", Some(0), &[1], &[Give(Remove, 1), Give(Run, 2)], Some(2)),
    story("rot, then fetched again", None, &[1, 2], &[Rot(SlotId::B), Give(Run, 2)], Some(2)),
    story("rot of all", Some(0), &[1, 2], &[Rot(SlotId::A), Rot(SlotId::B), Give(Run, 3)], Some(3)),
    story("stopped in rest", None, &[1], &[Stop, Give(Run, 2), Stop], Some(2)),
    story("stopped in the download", None, &[1], &[Give(Run, 2), StopAt(5)], Some(2)),
    story("stopped in the trial", None, &[1], &[Give(Run, 2), StopAt(10)], Some(2)),
    story("superseded in the download", None, &[1], &[Give(Run, 2), GiveAt(4, Run, 3)], Some(3)),
    story("superseded in the trial", None, &[1], &[Give(Run, 2), GiveAt(10, Run, 3)], Some(3)),
    story("aborted in the trial", Some(0), &[1], &[Give(Run, 2), GiveAt(10, Rollback, 1)], Some(1)),
    story("removed in the trial", None, &[1], &[Give(Run, 2), GiveAt(10, Remove, 2)], None),
];

const fn story<'a>(
    name: &'a str,
    factory: Option<Release>,
    confirmed: &'a [Release],
    scenes: &'a [Scene],
    serves: Option<Release>,
) -> Story<'a> {
    Story { name, factory, confirmed, scenes, serves, or: serves }
}

/// How many commands and verdicts came, and where the power goes.
struct Power<'a> {
    at: u32,
    cuts: &'a [(u32, Cut)],
    in_trial: u32,
}

impl Power<'_> {
    fn boundary(&mut self, device: &Device) -> Option<Cut> {
        self.at += 1;
        let cut = self.cuts.iter().find(|c| c.0 == self.at).map(|c| c.1);
        self.in_trial += u32::from(cut.is_some() && on_trial(device, cut));
        cut
    }
}

/// Whether a cut here is an ungraceful end of a trial.
fn on_trial(device: &Device, cut: Option<Cut>) -> bool {
    device.durable.trial().is_some()
        || cut == Some(Cut::After) && device.machine.table().trial().is_some()
}

impl Story<'_> {
    fn device(&self) -> Device {
        Device::confirmed(self.factory, self.confirmed)
    }

    /// Plays the story with these cuts; the number of places where one was possible.
    fn play(&self, device: &mut Device, cuts: &[(u32, Cut)]) -> Result<u32, String> {
        let mut power = Power { at: 0, cuts, in_trial: 0 };
        for (at, scene) in self.scenes.iter().enumerate() {
            match *scene {
                Give(action, release) | GiveAt(_, action, release) => {
                    device.give(order(action, release, 10 + at as u64));
                }
                Stop | StopAt(_) => device.send(Event::Stopping),
                Rot(slot) => {
                    device.bytes[slot as usize] = Bytes::Rot;
                    device.net_rotten = true;
                    device.cut(Cut::Before);
                }
            }
            match self.scenes.get(at + 1) {
                Some(GiveAt(n, ..) | StopAt(n)) => advance(device, *n, &mut power)?,
                _ => device.settle(&mut |d| power.boundary(d))?,
            }
        }
        self.check_end(device, power.in_trial)?;
        Ok(power.at)
    }

    fn check_end(&self, device: &Device, cuts_in_trial: u32) -> Result<(), String> {
        let serves = device.engine.map(|e| e.1);
        // Three ends in one trial are the release's fault, as far as the device can know.
        let interrupted = cuts_in_trial >= u32::from(TRIAL_TRIES_MAX)
            && device.durable.poison.iter().any(|p| p.reason == Reason::Interrupted);
        if ![self.serves, self.or].contains(&serves) && !interrupted {
            let table = summary(&device.durable);
            return Err(format!("serves {serves:?}, not {:?}: {table}", self.serves));
        }
        if device.machine.table() != &device.durable {
            return Err("at rest, and the table is not durable".into());
        }
        Ok(())
    }
}

/// Goes on for `n` steps, or to the end.
fn advance(device: &mut Device, n: u32, power: &mut Power<'_>) -> Result<(), String> {
    for _ in 0..n {
        if !device.told && device.order.is_some() {
            device.tell();
        }
        match power.boundary(device) {
            Some(cut) => device.cut(cut),
            None => drop(device.step()),
        }
        if let Some(broken) = &device.broken {
            return Err(broken.clone());
        }
    }
    Ok(())
}

fn must(story: &Story<'_>, device: &Device, cuts: &[(u32, Cut)]) -> u32 {
    story.play(&mut device.clone(), cuts).unwrap_or_else(|problem| {
        // The same once more, for the log that tells what happened.
        let mut again = device.clone();
        again.log = Some(Vec::new());
        let _ = story.play(&mut again, cuts);
        let log = again.log.unwrap_or_default().join("\n");
        panic!("{}, cuts {cuts:?}: {problem}\n{log}", story.name)
    })
}

#[test]
fn the_stories_end_well_without_a_cut() {
    for story in STORIES {
        assert!(must(story, &story.device(), &[]) > 0);
    }
}

#[test]
fn one_cut_at_every_place_of_every_story() {
    for story in STORIES {
        let device = story.device();
        let places = must(story, &device, &[]);
        for at in 1..=places {
            for cut in Cut::ALL {
                must(story, &device, &[(at, cut)]);
            }
        }
    }
}

#[test]
fn two_cuts_at_every_pair_of_places_recovery_included() {
    let mut runs = 0u32;
    for story in STORIES {
        let device = story.device();
        let places = must(story, &device, &[]);
        for first in 1..=places {
            for cut in Cut::ALL {
                let longer = must(story, &device, &[(first, cut)]);
                for second in first + 1..=longer {
                    let then = Cut::ALL[(first + second) as usize % 3];
                    must(story, &device, &[(first, cut), (second, then)]);
                    runs += 1;
                }
            }
        }
    }
    assert!(runs > 10_000, "{runs}");
}

#[test]
fn an_order_or_a_stop_at_every_place_with_one_cut_at_every_place() {
    let ends = [
        (GiveAt(0, Run, 3), Some(3)),
        (GiveAt(0, Run, 2), Some(2)),
        (GiveAt(0, Run, 1), Some(1)),
        (GiveAt(0, Run, 5), Some(1)),
        (GiveAt(0, Rollback, 1), Some(1)),
        (GiveAt(0, Rollback, 3), Some(1)),
        (GiveAt(0, Remove, 1), None),
        (StopAt(0), Some(2)),
    ];
    for (end, serves) in ends {
        for place in 0..14 {
            let end = match end {
                GiveAt(_, action, release) => GiveAt(place, action, release),
                _ => StopAt(place),
            };
            let scenes = [Give(Run, 2), end];
            let mut story = story("an order on the way", None, &[1], &scenes, serves);
            if serves == Some(1) {
                story.or = Some(2);
            }
            let device = story.device();
            let places = must(&story, &device, &[]);
            for at in 1..=places {
                for cut in Cut::ALL {
                    must(&story, &device, &[(at, cut)]);
                }
            }
        }
    }
}

#[test]
fn three_and_more_cuts_by_seed() {
    let devices: Vec<_> = STORIES.iter().map(|s| (s, s.device())).collect();
    for seed in 0..60_000 {
        let mut rng = Rng::new(seed);
        let (story, device) = &devices[rng.below(devices.len() as u64) as usize];
        let cuts: Vec<_> = (0..3 + rng.below(6))
            .map(|_| (1 + rng.below(45) as u32, Cut::ALL[rng.below(3) as usize]))
            .collect();
        must(story, device, &cuts);
    }
}

// --- anything, in any order ------------------------------------------------------------------

const REASONS: [Reason; 12] = [
    Reason::Network,
    Reason::DiskFull,
    Reason::DiskError,
    Reason::Environment,
    Reason::Golden,
    Reason::LoadFailed,
    Reason::Verification,
    Reason::Corrupt,
    Reason::Untrusted,
    Reason::HealthLatency,
    Reason::Interrupted,
    Reason::Superseded,
];

/// Does one thing to the device: `what` chooses, `detail` says the rest.
fn disturb(device: &mut Device, what: u8, detail: u8) {
    let reason = REASONS[usize::from(detail) % REASONS.len()];
    let release = detail % 14;
    match what % 32 {
        0..=13 => drop(device.step()),
        14 | 15 => device.answer(Err(REASONS[usize::from(detail) % 4])),
        16 => device.answer(Err(reason)),
        17 if matches!(device.pending, Some(Command::Persist(_))) => {
            // Written, and reported as failed: nobody knows.
            device.write();
            device.answer(Err(Reason::DiskError));
        }
        17 | 18 => answer_wrongly(device, detail),
        19 => {
            if let Some(late) = device.answered.get(usize::from(detail) % 8).cloned() {
                device.send(late);
            }
        }
        20 | 21 => device.give(run(release, u64::from(detail / 14))),
        22 => device.give(order(Rollback, release, u64::from(detail / 14))),
        23 if detail < 64 => device.give(order(Remove, release, u64::from(detail / 14))),
        23..=25 => device.cut(Cut::ALL[usize::from(detail) % 3]),
        26 => device.tell(),
        27 => {
            device.now_ms += u64::from(detail) * 300;
            device.send(Event::Tick);
        }
        28 => {
            if let Some((token, ..)) = device.machine.probation() {
                device.send(Event::Health(token, Err(reason)));
            }
        }
        29 => device.send(Event::Stopping),
        30 if device.halted || detail < 128 => device.boot(),
        31 if detail < 24 => {
            device.bytes[usize::from(detail) % 2] = Bytes::Rot;
            device.net_rotten = true;
        }
        _ => drop(device.step()),
    }
}

/// An answer of another kind than was asked for, or of another release.
fn answer_wrongly(device: &mut Device, detail: u8) {
    let Some(command) = device.pending else { return };
    let (Command::Persist(token)
    | Command::Admit(token)
    | Command::Erase(token, _)
    | Command::Fetch(token, _)
    | Command::Verify(token, _)
    | Command::SelfTest(token, _)
    | Command::Activate(token, _)
    | Command::Unload(token)) = command
    else {
        return;
    };
    let result = if detail & 1 == 0 { Ok(()) } else { Err(Reason::Network) };
    let event = match (detail >> 1) % 5 {
        0 if !matches!(command, Command::Persist(_)) => Event::Persisted(token, result),
        1 if !matches!(command, Command::Admit(_)) => {
            Event::Admitted(token, result.map(|()| facts(detail % 14)))
        }
        2 if matches!(command, Command::Persist(_) | Command::Admit(_) | Command::Activate(..)) => {
            Event::Done(token, result)
        }
        3 if !matches!(command, Command::Activate(..)) => {
            Event::Activated(token, result.map(|()| digest(detail)))
        }
        4 => Event::Health(token, result),
        // Of the right kind, about another release: no success either.
        _ if matches!(command, Command::Admit(_)) => {
            device.pending = None;
            Event::Admitted(token, Ok(facts(200)))
        }
        _ => return,
    };
    device.send(event);
}

/// Faults end, a good new release is ordered: it serves, confirmed, after few events.
fn must_recover(device: &mut Device) -> Result<(), String> {
    device.flaw = None;
    device.factory_ok = true;
    let fresh = 250;
    if device.halted {
        device.boot();
    }
    device.settle(&mut |_| None)?;
    device.give(run(fresh, 99));
    let mut steps = 0;
    device.settle(&mut |_| {
        steps += 1;
        None
    })?;
    let last = device.machine.table().last.map(|l| (l.release, l.rollout, l.result));
    if last != Some((digest(fresh), 99, Ending::Confirmed))
        || device.engine.map(|e| e.1) != Some(fresh)
    {
        return Err(format!("not confirmed: {}", summary(device.machine.table())));
    }
    if steps > 40 {
        return Err(format!("took {steps} commands"));
    }
    Ok(())
}

fn world(seed: u64) -> Device {
    let factory = (seed & 1 == 0).then_some(0);
    let confirmed: &[Release] = [&[][..], &[1], &[1, 2]][(seed / 2 % 3) as usize];
    Device::confirmed(factory, confirmed)
}

fn disturbed(mut device: Device, things: &[(u8, u8)]) -> Result<(), String> {
    for (what, detail) in things {
        disturb(&mut device, *what, *detail);
        if let Some(broken) = &device.broken {
            return Err(format!("{broken}\n{}", device.log.unwrap_or_default().join("\n")));
        }
    }
    let ended = must_recover(&mut device);
    ended.map_err(|problem| format!("{problem}\n{}", device.log.unwrap_or_default().join("\n")))
}

#[test]
fn any_events_by_seed_keep_the_promises_and_end_well() {
    let worlds: Vec<_> = (0..6).map(world).collect();
    for seed in 0..60_000 {
        let mut rng = Rng::new(seed);
        let things: Vec<_> = (0..20 + rng.below(100))
            .map(|_| (rng.next() as u8, (rng.next() >> 40) as u8))
            .collect();
        let start = &worlds[(seed % 6) as usize];
        if disturbed(start.clone(), &things).is_err() {
            let things = shrink(start, things);
            let mut again = start.clone();
            again.log = Some(Vec::new());
            let problem = disturbed(again, &things).expect_err("fails again");
            panic!("seed {seed}, world {}, {things:?}: {problem}", seed % 6);
        }
    }
}

/// The shortest list of things, by leaving out one at a time, that still fails.
fn shrink(start: &Device, mut things: Vec<(u8, u8)>) -> Vec<(u8, u8)> {
    let mut at = 0;
    while at < things.len() {
        let mut fewer = things.clone();
        fewer.remove(at);
        if disturbed(start.clone(), &fewer).is_err() {
            (things, at) = (fewer, 0);
        } else {
            at += 1;
        }
    }
    things
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_events_by_proptest_keep_the_promises_and_end_well(
        seed in 0u64..6, things in prop::collection::vec(any::<(u8, u8)>(), 0..80)
    ) {
        prop_assert_eq!(disturbed(world(seed), &things), Ok(()));
    }

    /// Not only tables that a machine wrote: whatever decodes must not panic.
    #[test]
    fn no_table_makes_it_panic(
        states in any::<[(u8, u8, u8); 2]>(), bits in any::<u8>(), floor in any::<u8>(),
        things in prop::collection::vec(any::<(u8, u8)>(), 0..40)
    ) {
        let mut table = SlotTable::new((bits & 1 == 1).then_some(facts(0)));
        for (slot, (state, release, tries)) in table.slots.iter_mut().zip(states) {
            slot.release = (release % 4 != 0).then(|| facts(release));
            slot.state = match state % 7 {
                0 => SlotState::Empty,
                1 => SlotState::Receiving,
                2 => SlotState::Verified,
                3 | 4 => SlotState::Trial { tries_left: tries },
                5 => SlotState::Confirmed,
                _ => SlotState::Bad(REASONS[usize::from(tries) % REASONS.len()]),
            };
        }
        table.serving = [None, Some(SlotId::A), Some(SlotId::B)][usize::from(bits / 2 % 3)];
        (table.removed, table.graceful) = (bits & 64 != 0, bits & 128 != 0);
        table.version_floor = u64::from(floor);
        let bytes = states.map(|(_, release, _)| Bytes::Whole(release));
        let mut device = Device::new(table, bytes);
        for (what, detail) in things {
            disturb(&mut device, what, detail);
        }
    }
}

#[test]
fn a_full_poison_list_drops_the_oldest_and_counts_it() {
    let mut table = SlotTable::new(Some(facts(0)));
    for n in 0..POISON_MAX as u8 {
        let entry = Poison { release: digest(100 + n), reason: Reason::Golden };
        table.poison.push(entry).expect("room");
    }
    let mut device = Device::new(table, [Bytes::None; 2]);
    for (release, reason) in [(4, Reason::Golden), (5, Reason::HealthErrors), (4, Reason::Golden)] {
        assert_ne!(nature(release), common::Nature::Good);
        device.give(run(release, 3));
        device.settle(&mut |_| None).expect("settles");
        assert_eq!(device.durable.poisoned(&digest(release)), Some(reason));
    }
    assert_eq!(device.durable.poison.len(), POISON_MAX);
    assert_eq!(device.durable.poison_dropped, 2);
    let held = |n| device.durable.poisoned(&digest(n)).is_some();
    assert!(!held(100) && !held(101) && held(102));
}

// --- a time bound, and ends of trials --------------------------------------------------------

/// Ends of trial `n`: how the device ended each time. What became of the release?
fn ends_of_trial(ends: &[bool]) -> (Option<Release>, Option<Reason>) {
    let mut device = Device::confirmed(None, &[1]);
    device.give(run(2, 5));
    for graceful in ends {
        for _ in 0..20 {
            if device.machine.probation().is_some() {
                break;
            }
            device.step();
        }
        if *graceful {
            device.send(Event::Stopping);
            while !device.halted {
                device.answer(Ok(()));
            }
            device.boot();
        } else {
            device.cut(Cut::Before);
        }
        device.tell();
    }
    device.settle(&mut |_| None).expect("settles");
    (device.engine.map(|e| e.1), device.durable.poisoned(&digest(2)))
}

#[test]
fn three_ungraceful_ends_poison_and_graceful_ones_never_count() {
    let (graceful, not) = (true, false);
    let (kept, poisoned) = ((Some(2), None), (Some(1), Some(Reason::Interrupted)));
    assert_eq!(ends_of_trial(&[]), kept);
    assert_eq!(ends_of_trial(&[not]), kept);
    assert_eq!(ends_of_trial(&[not, not]), kept);
    assert_eq!(ends_of_trial(&[not, not, not]), poisoned);
    assert_eq!(ends_of_trial(&[graceful; 20]), kept);
    assert_eq!(ends_of_trial(&[not, graceful, not, graceful, graceful]), kept);
    assert_eq!(ends_of_trial(&[not, graceful, not, graceful, not]), poisoned);
}

// --- the checks can fail ---------------------------------------------------------------------

/// What the checker says of a device with `flaw`, over all stories with one cut.
fn complaints(flaw: Flaw) -> BTreeSet<String> {
    let mut complaints = BTreeSet::new();
    for story in STORIES {
        let mut device = story.device();
        device.flaw = Some(flaw);
        for at in 0..40 {
            for cut in Cut::ALL {
                let played = story.play(&mut device.clone(), &[(at, cut)]);
                complaints.extend(played.err().and_then(|p| p.lines().next().map(str::to_owned)));
            }
        }
    }
    complaints
}

#[test]
fn a_broken_device_is_seen() {
    let check = |flaw, rule: &str| {
        let complaints = complaints(flaw);
        assert!(complaints.iter().any(|c| c.contains(rule)), "{flaw:?}: {complaints:?}");
    };
    check(Flaw::WritesBehind, "rule 1");
    check(Flaw::KeepsTries, "P5: one trial too many");
    check(Flaw::ErasesTheOther, "the bytes of the running slot are gone");
    check(Flaw::ForgetsPoison, "poison was forgotten");
    check(Flaw::ForgetsFloor, "the floor was forgotten");
    check(Flaw::LoadsNothing, "success is reported of something that is not served");
}

/// The machine itself broken, as far as that can be done from outside: its table is swapped.
#[test]
fn a_broken_table_is_seen() {
    let check = |spoil: fn(&mut SlotTable), rule: &str| {
        let mut device = Device::confirmed(None, &[1, 2]);
        let mut table = device.durable.clone();
        spoil(&mut table);
        device.durable = table.clone();
        device.machine = Machine::recover(table);
        device.engine = None;
        device.drain();
        let _ = device.settle(&mut |_| None);
        let broken = device.broken.unwrap_or_default();
        assert!(broken.contains(rule), "{broken:?}");
    };
    check(|t| t.version_floor = 0, "the floor was forgotten");
    check(|t| t.slots[1].state = SlotState::Verified, "the table is not sane");
    check(|t| t.slots[0].release = None, "the table is not sane");
    check(
        |t| {
            t.serving = None;
            t.slots.iter_mut().for_each(|s| s.state = SlotState::Verified);
        },
        "P1: no way back",
    );
}
