//! A new order, and a stop, at every step of every kind of work: the order is carried out and
//! answered, the stop ends soon and costs a trial nothing.

use fleetway_protocol::machine::{Event, Phase};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Ending, SlotTable};

use crate::script::{act, everywhere};

#[test]
fn a_new_order_at_every_step_is_carried_out_and_answered() {
    for (label, device) in everywhere() {
        for event in [
            "run 3 @20",
            "run 2 @20",
            "run 5 @20",
            "run 13 @20",
            "run 1 @20",
            "back 1 @20",
            "remove 1 @20",
            "run 9 @20",
        ] {
            let mut device = device.clone();
            act(&mut device, event);
            // The disk works again, and whoever was stopped boots.
            let settled = device.settle(&mut |_| None);
            assert_eq!(settled, Ok(()), "{label}, {event}");
            let last = device.durable.last.expect("an answer");
            assert_eq!(
                (last.rollout, device.machine.phase()),
                (20, Phase::Idle),
                "{label}, {event}"
            );
            let serves = device.engine.map(|e| e.1);
            let done = match event {
                "run 3 @20" => serves == Some(3) && last.result == Ending::Confirmed,
                "run 13 @20" => serves == Some(13) && last.result == Ending::Confirmed,
                // Cut three times in its trial, or judged before.
                "run 2 @20" => serves == Some(2) && last.result == Ending::Confirmed,
                "run 5 @20" => serves != Some(5) && last.result != Ending::Confirmed,
                "remove 1 @20" => serves.is_none() && last.result == Ending::Removed,
                "run 9 @20" => last.result == Ending::Failed(Reason::Untrusted),
                "run 1 @20" => serves == Some(1) && last.result == Ending::Confirmed,
                _ => {
                    let there = serves == Some(1) && last.result == Ending::Confirmed;
                    there || last.result == Ending::Failed(Reason::NotOnDevice)
                }
            };
            assert!(done, "{label}, {event}: serves {serves:?}, {last:?}");
        }
    }
}

#[test]
fn a_stop_at_every_step_ends_soon_and_loses_nothing() {
    for (label, mut device) in everywhere() {
        device.send(Event::Stopping);
        if device.machine.waiting().is_some() {
            assert_eq!(label, "stop: persist failed");
            act(&mut device, "tick");
        }
        let mut answers = 0;
        while !device.halted {
            // Only that the stop itself is durable is worth a wait.
            assert!(device.step(), "{label}");
            assert!(device.machine.waiting().is_none(), "{label}");
            answers += 1;
        }
        assert!(answers <= 4, "{label}: {answers} answers");
        assert_eq!(device.broken, None, "{label}");
        assert!(device.durable.graceful, "{label}");
        let tries = |t: &SlotTable| t.trial().map(|t| t.1);
        let before = tries(&device.durable);
        device.boot();
        assert_eq!(tries(device.machine.table()), before, "{label}");
        assert_eq!(device.settle(&mut |_| None), Ok(()), "{label}");
    }
}
