//! Any event in any order, wrong and late answers included, by seed and by proptest: the
//! promises hold at every step, and once the faults end a good release is soon confirmed. A
//! failing seed prints the shortest list of events that still fails.

use fleetway_protocol::hold::Facts;
use fleetway_protocol::machine::{Command, Event};
use fleetway_protocol::order::Action::{Remove, Rollback};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Ending, SlotId, SlotState, SlotTable};
use proptest::prelude::*;

use crate::common::release::{GOOD, HOLD, Release, digest, facts, order, run};
use crate::common::text::summary;
use crate::common::{Bytes, Cut, Device};
use crate::rng::Rng;

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
    let release = detail % 16;
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
                device.send(Event::Health(token, Err(reason.into())));
            }
        }
        29 if detail < 128 => device.send(Event::Stopping),
        29 => {
            let (locked, mains) = (detail & 1 == 0, detail & 2 == 0);
            device.send(Event::Facts(Facts { locked, mains, ..GOOD }));
        }
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
    | Command::Shadow(token, _)
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
        4 => Event::Health(token, result.map_err(Into::into)),
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
    let mut device = Device::confirmed(factory, confirmed);
    if seed % 6 == 5 {
        // Its owner holds everything.
        device.owner = HOLD;
        device.machine.set_owner(HOLD);
    }
    device
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
    // The last two asked for more than can be: a way back to a factory model that does not load.
    for seed in (0..60_000).chain([63_474, 393_108]) {
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
