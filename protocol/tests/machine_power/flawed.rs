//! The checks can fail: a device that is broken on purpose is seen, and by the rule that it
//! breaks. Without this the cuts would prove nothing.

use std::collections::BTreeSet;

use fleetway_protocol::machine::Machine;
use fleetway_protocol::slot::{SlotState, SlotTable};

use crate::common::{Cut, Device, Flaw};
use crate::story::STORIES;

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
