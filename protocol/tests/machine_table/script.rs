//! How a script is played: one event a line, `event -> what came`, and `= table` for what the
//! table is then. The words of an event are those of [`act`]; [`everywhere`] gives the devices
//! at every step of every kind of work, for what must hold at all of them.

use fleetway_protocol::hold::Facts;
use fleetway_protocol::machine::Event;
use fleetway_protocol::order::Action;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::SlotId;

use crate::common::release::{GOOD, Release, order};
use crate::common::text::{command_text, summary};
use crate::common::{Bytes, Cut, Device};
use crate::reasons::REASONS;

/// Lines `event -> what came`; a line `= table` says what the table is then.
pub(crate) fn check(mut device: Device, script: &str) -> Device {
    device.issued.clear();
    let lines: Vec<_> = script.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let mut actual = Vec::new();
    for line in &lines {
        if line.starts_with('=') {
            actual.push(format!("= {}", summary(device.machine.table())));
            continue;
        }
        let event = line.split("->").next().unwrap_or_default().trim();
        act(&mut device, event);
        actual.push(format!("{event} -> {}", came(&mut device)));
        assert_eq!(device.broken, None, "after {actual:#?}");
    }
    let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let same = lines.iter().map(|l| plain(l)).eq(actual.iter().map(|l| plain(l)));
    assert!(same, "came instead:\n        {}\n", actual.join("\n        "));
    device
}

/// One event of a script.
pub(crate) fn act(device: &mut Device, event: &str) {
    let words: Vec<_> = event.split_whitespace().collect();
    let release = |at: usize| words[at].parse::<Release>().expect("a release");
    let rollout =
        words.get(2).and_then(|w| w.strip_prefix('@')).map_or(10, |n| n.parse().expect("@n"));
    let slot = |at: usize| if words[at] == "a" { SlotId::A } else { SlotId::B };
    match words[0] {
        "run" => device.give(order(Action::Run, release(1), rollout)),
        "back" => device.give(order(Action::Rollback, release(1), rollout)),
        "remove" => device.give(order(Action::Remove, release(1), rollout)),
        "tell" => device.tell(),
        "ok" => device.answer(Ok(())),
        "fail" => device.answer(Err(reason(words[1]))),
        "healthy" | "sick" => {
            let (token, ..) = device.machine.probation().expect("a probation");
            let verdict = words.get(1).map_or(Ok(()), |name| Err(reason(name).into()));
            device.send(Event::Health(token, verdict));
        }
        "late" => {
            let late = device.answered.last().expect("an answer").clone();
            device.send(late);
        }
        "facts" => device.send(Event::Facts(facts_named(words[1]))),
        "stop" => device.send(Event::Stopping),
        "tick" | "early" => {
            let at_ms = device.machine.poll_timeout().expect("a timeout");
            device.now_ms = at_ms - u64::from(words[0] == "early");
            device.send(Event::Tick);
        }
        "cut" => device.cut(match words.get(1) {
            Some(&"half") => Cut::Half,
            Some(&"after") => Cut::After,
            _ => Cut::Before,
        }),
        "exit" => {
            assert!(device.halted, "the machine said Halt");
            device.boot();
        }
        "rot" if words[1] == "factory" => (device.factory_ok, device.net_rotten) = (false, true),
        "rot" => {
            device.bytes[slot(1) as usize] = Bytes::Rot;
            device.net_rotten = true;
        }
        other => panic!("no event {other}"),
    }
}

/// `good`, or good but for one thing.
fn facts_named(name: &str) -> Facts {
    match name {
        "good" => GOOD,
        "locked" => Facts { locked: true, ..GOOD },
        "battery" => Facts { mains: false, ..GOOD },
        "later" => Facts { unix_s: GOOD.unix_s + 3600, mains: false, ..GOOD },
        other => panic!("no facts {other}"),
    }
}

fn reason(name: &str) -> Reason {
    let found = REASONS.into_iter().find(|r| format!("{r:?}") == name);
    found.unwrap_or_else(|| panic!("no reason {name}"))
}

/// What came of it: `persist, fetch b [Download]`.
pub(crate) fn came(device: &mut Device) -> String {
    let commands: Vec<_> = device.issued.drain(..).map(command_text).collect();
    let phase = device.machine.phase();
    let waiting = device.machine.waiting().map_or(String::new(), |r| format!(" waits for {r:?}"));
    let commands = if commands.is_empty() { "-".to_owned() } else { commands.join(", ") };
    format!("{commands} [{phase:?}]{waiting}")
}

/// Release 1 serves from slot A.
pub(crate) fn v1() -> Device {
    Device::confirmed(None, &[1])
}

/// Release 2 serves from slot B, 1 is in slot A.
pub(crate) fn v2() -> Device {
    Device::confirmed(None, &[1, 2])
}

/// A factory model (release 0) serves.
pub(crate) fn factory() -> Device {
    let mut device = Device::fresh(Some(0));
    device.settle(&mut |_| None).expect("settles");
    device
}

/// Devices at every step of every kind of work, with the name of the work.
pub(crate) fn everywhere() -> Vec<(String, Device)> {
    let works: [(&str, Device, &str); 11] = [
        ("upgrade", v1(), "run 2"),
        ("unhealthy", v1(), "run 5"),
        ("golden", v1(), "run 4"),
        ("no load", v1(), "run 7"),
        ("rotten", v1(), "run 8"),
        ("held and shadowed", v1(), "run 13"),
        ("disagrees", v1(), "run 14"),
        ("back", v2(), "back 1"),
        ("back to factory", Device::confirmed(Some(0), &[1]), "back 0"),
        ("remove", Device::confirmed(Some(0), &[1, 2]), "remove 2"),
        ("stop", v1(), "stop"),
    ];
    let mut all = Vec::new();
    for (name, mut device, event) in works {
        device.order = None;
        act(&mut device, event);
        for _ in 0..40 {
            device.issued.clear();
            let now = device.pending.map_or("at rest".to_owned(), command_text);
            let label = format!("{name}: {now} [{:?}]", device.machine.phase());
            all.push((label, device.clone()));
            // The same step, waiting for want of something; and after a cut there.
            if device.pending.is_some() {
                let mut waits = device.clone();
                waits.answer(Err(Reason::DiskError));
                all.push((format!("{name}: {now} failed"), waits));
                let mut cut = device.clone();
                cut.cut(Cut::After);
                all.push((format!("{name}: {now} cut"), cut));
            }
            if device.halted || !device.step() {
                break;
            }
        }
    }
    assert!(all.len() > 150, "{}", all.len());
    all
}
