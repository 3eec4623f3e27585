//! What a device remembers of releases that failed it, and where that ends: the poison list is
//! bounded and counts what it drops, and only ungraceful ends of a trial count against it.

use fleetway_protocol::limits::POISON_MAX;
use fleetway_protocol::machine::Event;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Poison, SlotTable};

use crate::common::release::{Nature, Release, digest, facts, nature, run};
use crate::common::{Bytes, Cut, Device};

#[test]
fn a_full_poison_list_drops_the_oldest_and_counts_it() {
    let mut table = SlotTable::new(Some(facts(0)));
    for n in 0..POISON_MAX as u8 {
        let entry = Poison { release: digest(100 + n), reason: Reason::Golden };
        table.poison.push(entry).expect("room");
    }
    let mut device = Device::new(table, [Bytes::None; 2]);
    for (release, reason) in [(4, Reason::Golden), (5, Reason::HealthErrors), (4, Reason::Golden)] {
        assert_ne!(nature(release), Nature::Good);
        device.give(run(release, 3));
        device.settle(&mut |_| None).expect("settles");
        assert_eq!(device.durable.poisoned(&digest(release)), Some(reason));
    }
    assert_eq!(device.durable.poison.len(), POISON_MAX);
    assert_eq!(device.durable.poison_dropped, 2);
    let held = |n| device.durable.poisoned(&digest(n)).is_some();
    assert!(!held(100) && !held(101) && held(102));
}

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
