//! What does not fit changes nothing, at every step: late answers, answers of another kind,
//! the same answer twice, a command done twice.

use fleetway_protocol::machine::{Command, Event, Machine, Token};
use fleetway_protocol::reason::Reason;

use crate::common::release::{digest, facts};
use crate::script::everywhere;

#[test]
fn late_and_unfitting_answers_change_nothing_at_any_step() {
    let unchanged = |label: &str, machine: &Machine, now_ms: u64, event: Event| {
        let mut after = machine.clone();
        after.handle(now_ms, event.clone());
        assert_eq!(format!("{after:?}"), format!("{machine:?}"), "{label}: {event:?}");
        assert_eq!(after.poll(), None, "{label}: {event:?}");
    };
    for (label, device) in everywhere() {
        let (machine, now_ms) = (&device.machine, device.now_ms);
        let current = device.pending.and_then(token_of).or(machine.probation().map(|p| p.0));
        if let Some(token) = current {
            for (kind, event) in answers(token) {
                if kind != fitting(device.pending) {
                    unchanged(&label, machine, now_ms, event);
                }
            }
        }
        for late in &device.answered {
            unchanged(&label, machine, now_ms, late.clone());
        }
        // A tick before its time, or when nothing is timed.
        unchanged(&label, machine, now_ms, Event::Tick);
    }
}

/// The same answer twice is one answer, at every step.
#[test]
fn duplicates_are_one() {
    for (label, mut device) in everywhere() {
        if device.pending.is_none() {
            continue;
        }
        device.answer(Ok(()));
        let once = format!("{:?}", device.machine);
        let again = device.answered.last().expect("the answer").clone();
        device.send(again);
        assert_eq!(format!("{:?}", device.machine), once, "{label}");
    }
}

/// Every command can be repeated: done twice, the device is as if it was done once.
#[test]
fn commands_done_twice_do_no_harm() {
    for (label, device) in everywhere() {
        let Some(command) = device.pending else { continue };
        let mut once = device.clone();
        once.answer(Ok(()));
        let mut twice = device.clone();
        twice.answer(Ok(()));
        let bytes = twice.bytes;
        twice.pending = Some(command);
        twice.answer(Ok(()));
        assert_eq!(twice.bytes, bytes, "{label}");
        assert_eq!((once.engine, &once.durable), (twice.engine, &twice.durable), "{label}");
    }
}

fn token_of(command: Command) -> Option<Token> {
    match command {
        Command::Persist(t)
        | Command::Admit(t)
        | Command::Erase(t, _)
        | Command::Fetch(t, _)
        | Command::Verify(t, _)
        | Command::SelfTest(t, _)
        | Command::Shadow(t, _)
        | Command::Activate(t, _)
        | Command::Unload(t) => Some(t),
        Command::CancelFetch | Command::Halt => None,
    }
}

fn answers(token: Token) -> Vec<(&'static str, Event)> {
    let mut all = Vec::new();
    for result in [Ok(()), Err(Reason::Network), Err(Reason::Golden)] {
        all.push(("persisted", Event::Persisted(token, result)));
        all.push(("admitted", Event::Admitted(token, result.map(|()| facts(3)))));
        all.push(("done", Event::Done(token, result)));
        all.push(("activated", Event::Activated(token, result.map(|()| digest(3)))));
        all.push(("health", Event::Health(token, result.map_err(Into::into))));
    }
    all
}

/// The kind of answer that a command waits for.
fn fitting(command: Option<Command>) -> &'static str {
    match command {
        None => "health",
        Some(Command::Persist(_)) => "persisted",
        Some(Command::Admit(_)) => "admitted",
        Some(Command::Activate(..)) => "activated",
        Some(_) => "done",
    }
}
