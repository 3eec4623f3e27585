//! The slot machine as tables: scripts of events with the commands and the phase that they
//! must give, every reason at every step, every order at every step. A script that does not
//! hold prints what came instead, in the form of the script. [`common::Device`] also checks
//! the rules of the machine at each line.

mod common;

use common::{Bytes, Cut, Device, Release, command_text, digest, facts, order, run, summary};
use fleetway_protocol::limits::{STEP_RETRY_MS, STEP_RETRY_MS_MAX, VERIFY_RETRIES_MAX};
use fleetway_protocol::machine::{Command, Event, Machine, Phase, Token};
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::order::{Action, Policy};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Ending, Place, SlotId, SlotState, SlotTable};

// --- scripts ---------------------------------------------------------------------------------

/// Every reason there is.
const REASONS: [Reason; 24] = [
    Reason::Golden,
    Reason::LoadFailed,
    Reason::SelfTestCrashed,
    Reason::SelfTestTimeout,
    Reason::SelfTestMemory,
    Reason::HealthErrors,
    Reason::HealthLatency,
    Reason::HealthCollapse,
    Reason::Interrupted,
    Reason::Verification,
    Reason::BelowFloor,
    Reason::Poisoned,
    Reason::NoVariant,
    Reason::NotOnDevice,
    Reason::Untrusted,
    Reason::Network,
    Reason::DiskFull,
    Reason::DiskError,
    Reason::Environment,
    Reason::Superseded,
    Reason::ActivationFailed,
    Reason::Corrupt,
    Reason::Expired,
    Reason::Stale,
];

/// Those that say something about the release: design, P5.
const VERDICTS: [Reason; 11] = [
    Reason::Golden,
    Reason::LoadFailed,
    Reason::SelfTestCrashed,
    Reason::SelfTestTimeout,
    Reason::SelfTestMemory,
    Reason::HealthErrors,
    Reason::HealthLatency,
    Reason::HealthCollapse,
    Reason::Interrupted,
    Reason::Verification,
    Reason::ActivationFailed,
];

/// Those that pass by themselves.
const PASSING: [Reason; 4] =
    [Reason::Network, Reason::DiskFull, Reason::DiskError, Reason::Environment];

fn reason(name: &str) -> Reason {
    let found = REASONS.into_iter().find(|r| format!("{r:?}") == name);
    found.unwrap_or_else(|| panic!("no reason {name}"))
}

/// One event of a script.
fn act(device: &mut Device, event: &str) {
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
            let verdict = words.get(1).map_or(Ok(()), |name| Err(reason(name)));
            device.send(Event::Health(token, verdict));
        }
        "late" => {
            let late = device.answered.last().expect("an answer").clone();
            device.send(late);
        }
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

/// What came of it: `persist, fetch b [Download]`.
fn came(device: &mut Device) -> String {
    let commands: Vec<_> = device.issued.drain(..).map(command_text).collect();
    let phase = device.machine.phase();
    let waiting = device.machine.waiting().map_or(String::new(), |r| format!(" waits for {r:?}"));
    let commands = if commands.is_empty() { "-".to_owned() } else { commands.join(", ") };
    format!("{commands} [{phase:?}]{waiting}")
}

/// Lines `event -> what came`; a line `= table` says what the table is then.
fn check(mut device: Device, script: &str) -> Device {
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

/// Release 1 serves from slot A.
fn v1() -> Device {
    Device::confirmed(None, &[1])
}

/// Release 2 serves from slot B, 1 is in slot A.
fn v2() -> Device {
    Device::confirmed(None, &[1, 2])
}

/// A factory model (release 0) serves.
fn factory() -> Device {
    let mut device = Device::fresh(Some(0));
    device.settle(&mut |_| None).expect("settles");
    device
}

#[test]
fn the_happy_path() {
    check(
        v1(),
        "
        run 2     -> admit [Eligibility]
        ok        -> persist [Download]
        ok        -> erase b [Download]
        ok        -> persist [Download]
        ok        -> fetch b [Download]
        ok        -> verify b [Verification]
        ok        -> persist [Verification]
        ok        -> test b [SelfTest]
        ok        -> persist [Activation]
        ok        -> activate b [Activation]
        = a=1:confirmed* b=2:trial/2 floor=0 last=1:Confirmed@1
        ok        -> - [Probation]
        = a=1:confirmed* b=2:trial/2 floor=0 last=1:Confirmed@1
        healthy   -> persist [Idle]
        = a=1:confirmed b=2:confirmed* floor=1 last=2:Confirmed@10
        ok        -> - [Idle]
        run 2 @11 -> persist [Idle]
        ok        -> - [Idle]
        = a=1:confirmed b=2:confirmed* floor=1 last=2:Confirmed@11
        ",
    );
}

#[test]
fn the_first_model_and_the_factory_model() {
    check(
        factory(),
        "
        run 0             -> persist [Idle]
        ok                -> - [Idle]
        = a=- b=- floor=0 last=0:Confirmed@10
        run 1             -> admit [Eligibility]
        ok                -> persist [Download]
        ok                -> erase a [Download]
        ok                -> persist [Download]
        ok                -> fetch a [Download]
        ok                -> verify a [Verification]
        ok                -> persist [Verification]
        ok                -> test a [SelfTest]
        ok                -> persist [Activation]
        ok                -> activate a [Activation]
        ok                -> - [Probation]
        sick HealthErrors -> persist [Rollback]
        ok                -> activate factory [Rollback]
        ok                -> - [Idle]
        = a=1:bad/HealthErrors b=- floor=0 poison=1:HealthErrors last=1:RolledBack(HealthErrors)@10
        ",
    );
}

#[test]
fn removed_and_put_back() {
    check(
        v2(),
        "
        remove 2 -> persist [Removal]
        = a=- b=- floor=1 removed last=2:Confirmed@1
        ok       -> unload [Removal]
        ok       -> erase a [Removal]
        ok       -> erase b [Removal]
        ok       -> persist [Idle]
        ok       -> - [Idle]
        = a=- b=- floor=1 removed last=2:Removed@10
        cut      -> - [Idle]
        tell     -> persist [Removal]
        ok       -> unload [Removal]
        ok       -> erase a [Removal]
        ok       -> erase b [Removal]
        ok       -> - [Idle]
        run 1    -> admit [Eligibility]
        ok       -> persist [Download]
        = a=- b=- floor=1 removed last=2:Removed@10
        run 2    -> - [Download]
        ok       -> admit [Eligibility]
        ok       -> persist [Download]
        = a=- b=- floor=1 removed last=2:Removed@10
        ",
    );
}

#[test]
fn a_rollback_is_durable_first_and_told_when_it_serves() {
    check(
        v2(),
        "
        back 1     -> persist [Rollback]
        = a=1:confirmed* b=2:confirmed floor=1 last=2:Confirmed@1
        ok         -> activate a [Rollback]
        ok         -> persist [Idle]
        = a=1:confirmed* b=2:confirmed floor=1 last=1:Confirmed@10
        ok         -> - [Idle]
        back 1 @12 -> persist [Idle]
        ok         -> - [Idle]
        = a=1:confirmed* b=2:confirmed floor=1 last=1:Confirmed@12
        run 2      -> admit [Eligibility]
        ok         -> verify b [Verification]
        ok         -> persist [Verification]
        ok         -> test b [SelfTest]
        ok         -> persist [Activation]
        ok         -> activate b [Activation]
        ok         -> - [Probation]
        = a=1:confirmed* b=2:trial/2 floor=1 last=1:Confirmed@12
        ",
    );
}

#[test]
fn a_rollback_whose_bytes_rotted_is_no_success() {
    check(
        v2(),
        "
        rot a      -> - [Idle]
        back 1     -> persist [Rollback]
        ok         -> activate a [Rollback]
        ok         -> persist [Rollback]
        = a=1:bad/Corrupt b=2:confirmed floor=1 last=1:Failed(Corrupt)@10
        ok         -> activate b [Rollback]
        ok         -> - [Idle]
        = a=1:bad/Corrupt b=2:confirmed floor=1 last=1:Failed(Corrupt)@10
        back 1 @12 -> persist [Idle]
        ok         -> - [Idle]
        = a=1:bad/Corrupt b=2:confirmed floor=1 last=1:Failed(NotOnDevice)@12
        ",
    );
}

#[test]
fn a_rollback_does_not_wait_for_the_disk() {
    check(
        v1(),
        "
        run 2              -> admit [Eligibility]
        ok                 -> persist [Download]
        ok                 -> erase b [Download]
        ok                 -> persist [Download]
        ok                 -> fetch b [Download]
        ok                 -> verify b [Verification]
        ok                 -> persist [Verification]
        ok                 -> test b [SelfTest]
        ok                 -> persist [Activation]
        ok                 -> activate b [Activation]
        ok                 -> - [Probation]
        sick HealthLatency -> persist [Rollback]
        fail DiskFull      -> activate a [Rollback]
        ok                 -> persist [Idle]
        fail DiskFull      -> - [Idle] waits for DiskFull
        tick               -> persist [Idle] waits for DiskFull
        ok                 -> - [Idle]
        = a=1:confirmed* b=2:bad/HealthLatency floor=0 poison=2:HealthLatency last=2:RolledBack(HealthLatency)@10
        ",
    );
}

#[test]
fn back_to_the_factory_model_gives_the_slots_up_only_when_it_serves() {
    let mut device = Device::confirmed(Some(0), &[1]);
    check(
        device.clone(),
        "
        back 0 -> activate factory [Rollback]
        = a=1:confirmed* b=- floor=0 last=1:Confirmed@1
        ok     -> persist [Idle]
        = a=1:verified b=- floor=0 last=0:Confirmed@10
        ok     -> - [Idle]
        cut    -> activate factory [Rollback]
        ok     -> - [Idle]
        ",
    );
    device.factory_ok = false;
    check(
        device,
        "
        back 0 -> activate factory [Rollback]
        ok     -> persist [Rollback]
        = a=1:confirmed* b=- floor=0 last=0:Failed(Corrupt)@10
        ok     -> activate a [Rollback]
        ok     -> - [Idle]
        = a=1:confirmed* b=- floor=0 last=0:Failed(Corrupt)@10
        ",
    );
}

#[test]
fn what_is_below_the_floor_is_refused() {
    check(
        Device::confirmed(Some(0), &[1, 2]),
        "
        back 0 -> persist [Idle]
        ok     -> - [Idle]
        = a=1:confirmed b=2:confirmed* floor=1 last=0:Failed(BelowFloor)@10
        run 0  -> admit [Eligibility]
        ok     -> - [Idle]
        ok     -> - [Idle]
        = a=1:confirmed b=2:confirmed* floor=1 last=0:Failed(BelowFloor)@10
        ",
    );
}

#[test]
fn a_poisoned_release_is_refused_and_every_rollout_hears_it() {
    check(
        v1(),
        "
        run 4     -> admit [Eligibility]
        ok        -> persist [Download]
        ok        -> erase b [Download]
        ok        -> persist [Download]
        ok        -> fetch b [Download]
        ok        -> verify b [Verification]
        ok        -> persist [Verification]
        ok        -> test b [SelfTest]
        ok        -> persist [Idle]
        ok        -> - [Idle]
        = a=1:confirmed* b=4:bad/Golden floor=0 poison=4:Golden last=4:Failed(Golden)@10
        run 4     -> - [Idle]
        run 4 @11 -> persist [Idle]
        ok        -> - [Idle]
        = a=1:confirmed* b=4:bad/Golden floor=0 poison=4:Golden last=4:Failed(Poisoned)@11
        cut       -> activate a [Rollback]
        tell      -> - [Rollback]
        ok        -> - [Idle]
        ",
    );
}

#[test]
fn rot_at_boot_goes_down_the_list() {
    let device = Device::confirmed(Some(0), &[1, 2]);
    check(
        device,
        "
        rot b       -> - [Idle]
        cut         -> activate b [Rollback]
        ok          -> persist [Rollback]
        = a=1:confirmed b=2:bad/Corrupt floor=1 last=2:Confirmed@1
        ok          -> activate a [Rollback]
        ok          -> - [Idle]
        rot a       -> - [Idle]
        cut         -> activate a [Rollback]
        ok          -> persist [Rollback]
        ok          -> activate factory [Rollback]
        ok          -> - [Idle]
        = a=1:bad/Corrupt b=2:bad/Corrupt floor=1 last=2:Confirmed@1
        rot factory -> - [Idle]
        cut         -> activate factory [Rollback]
        ok          -> unload [Rollback]
        ok          -> - [Idle]
        = a=1:bad/Corrupt b=2:bad/Corrupt floor=1 last=2:Confirmed@1
        run 2       -> admit [Eligibility]
        ok          -> persist [Download]
        ok          -> erase a [Download]
        ok          -> persist [Download]
        ok          -> fetch a [Download]
        ok          -> verify a [Verification]
        ok          -> persist [Verification]
        ok          -> test a [SelfTest]
        ok          -> persist [Activation]
        ok          -> activate a [Activation]
        ok          -> - [Probation]
        healthy     -> persist [Idle]
        ok          -> - [Idle]
        = a=2:confirmed* b=2:bad/Corrupt floor=1 last=2:Confirmed@10
        ",
    );
}

#[test]
fn a_disk_that_cannot_read_is_rot_after_a_while() {
    check(
        v2(),
        "
        cut            -> activate b [Rollback]
        fail DiskError -> - [Rollback] waits for DiskError
        tick           -> activate b [Rollback] waits for DiskError
        fail DiskError -> - [Rollback] waits for DiskError
        tick           -> activate b [Rollback] waits for DiskError
        fail DiskError -> persist [Rollback]
        ok             -> activate a [Rollback]
        ok             -> - [Idle]
        = a=1:confirmed b=2:bad/Corrupt floor=1 last=2:Confirmed@1
        ",
    );
}

#[test]
fn an_engine_that_cannot_start_is_nobodys_fault() {
    check(
        v1(),
        "
        cut              -> activate a [Rollback]
        fail Environment -> - [Rollback] waits for Environment
        early            -> - [Rollback] waits for Environment
        tick             -> activate a [Rollback] waits for Environment
        fail Environment -> - [Rollback] waits for Environment
        tick             -> activate a [Rollback] waits for Environment
        fail Environment -> - [Rollback] waits for Environment
        run 2            -> - [Rollback] waits for Environment
        tick             -> activate a [Rollback] waits for Environment
        fail Environment -> - [Rollback] waits for Environment
        tick             -> activate a [Rollback] waits for Environment
        fail Environment -> admit [Eligibility]
        ok               -> persist [Download]
        ok               -> erase b [Download]
        remove 2         -> - [Download]
        ok               -> persist [Download]
        ok               -> persist [Removal]
        ok               -> unload [Removal]
        ok               -> erase a [Removal]
        ok               -> erase b [Removal]
        = a=- b=- floor=0 removed last=1:Confirmed@1
        ",
    );
}

#[test]
fn bytes_that_rot_are_fetched_again_and_then_it_is_the_release() {
    check(
        v1(),
        "
        run 8 -> admit [Eligibility]
        ok    -> persist [Download]
        ok    -> erase b [Download]
        ok    -> persist [Download]
        ok    -> fetch b [Download]
        ok    -> verify b [Verification]
        ok    -> persist [Download]
        = a=1:confirmed* b=- floor=0 last=1:Confirmed@1
        ok    -> erase b [Download]
        ok    -> persist [Download]
        ok    -> fetch b [Download]
        ok    -> verify b [Verification]
        ok    -> persist [Download]
        ok    -> erase b [Download]
        ok    -> persist [Download]
        ok    -> fetch b [Download]
        ok    -> verify b [Verification]
        ok    -> persist [Idle]
        = a=1:confirmed* b=8:bad/Verification floor=0 poison=8:Verification last=8:Failed(Verification)@10
        ok    -> - [Idle]
        ",
    );
}

#[test]
fn a_rotten_slot_that_runs_is_not_erased() {
    // Superseded in its trial with nothing to go back to, so it serves unconfirmed.
    let mut device = Device::fresh(None);
    device.give(run(1, 5));
    while device.machine.probation().is_none() {
        device.step();
    }
    check(
        device,
        "
        back 3  -> persist [Idle]
        ok      -> persist [Idle]
        ok      -> - [Idle]
        = a=1:verified b=- floor=0 last=3:Failed(NotOnDevice)@10
        run 1   -> admit [Eligibility]
        ok      -> verify a [Verification]
        rot a   -> - [Verification]
        ok      -> persist [Download]
        = a=1:bad/Corrupt b=- floor=0 last=3:Failed(NotOnDevice)@10
        ok      -> erase b [Download]
        ok      -> persist [Download]
        ok      -> fetch b [Download]
        ok      -> verify b [Verification]
        ok      -> persist [Verification]
        ok      -> test b [SelfTest]
        ok      -> persist [Activation]
        ok      -> activate b [Activation]
        ok      -> - [Probation]
        healthy -> persist [Idle]
        ok      -> - [Idle]
        = a=1:bad/Corrupt b=1:confirmed* floor=0 last=1:Confirmed@10
        ",
    );
}

/// Unconfirmed and serving for want of anything else; a verdict on it ends that too.
#[test]
fn what_serves_and_is_judged_bad_serves_no_longer() {
    let mut device = Device::fresh(None);
    device.give(run(1, 5));
    while device.machine.probation().is_none() {
        device.step();
    }
    let device = check(
        device,
        "
        back 3      -> persist [Idle]
        ok          -> persist [Idle]
        ok          -> - [Idle]
        run 1       -> admit [Eligibility]
        ok          -> verify a [Verification]
        ok          -> persist [Verification]
        ok          -> test a [SelfTest]
        fail Golden -> persist [Rollback]
        ok          -> unload [Rollback]
        ok          -> - [Idle]
        = a=1:bad/Golden b=- floor=0 poison=1:Golden last=1:Failed(Golden)@10
        ",
    );
    assert_eq!(device.engine, None);
}

/// Confirmed long ago and only not loaded yet: ordered again, it is loaded, not put on trial.
#[test]
fn a_confirmed_model_is_not_put_on_trial_for_want_of_memory() {
    check(
        v1(),
        "
        cut              -> activate a [Rollback]
        run 1            -> - [Rollback]
        fail Environment -> - [Rollback] waits for Environment
        tick             -> activate a [Rollback] waits for Environment
        fail Environment -> - [Rollback] waits for Environment
        tick             -> activate a [Rollback] waits for Environment
        fail Environment -> - [Rollback] waits for Environment
        tick             -> activate a [Rollback] waits for Environment
        fail Environment -> - [Rollback] waits for Environment
        tick             -> activate a [Rollback] waits for Environment
        fail Environment -> activate a [Rollback]
        ok               -> persist [Idle]
        ok               -> - [Idle]
        = a=1:confirmed* b=- floor=0 last=1:Confirmed@10
        ",
    );
}

#[test]
fn each_boot_in_a_trial_costs_a_try() {
    check(
        v1(),
        "
        run 2     -> admit [Eligibility]
        ok        -> persist [Download]
        ok        -> erase b [Download]
        ok        -> persist [Download]
        ok        -> fetch b [Download]
        ok        -> verify b [Verification]
        ok        -> persist [Verification]
        ok        -> test b [SelfTest]
        ok        -> persist [Activation]
        ok        -> activate b [Activation]
        cut       -> persist [Activation]
        = a=1:confirmed* b=2:trial/1 floor=0 last=1:Confirmed@1
        tell      -> - [Activation]
        ok        -> activate b [Activation]
        ok        -> - [Probation]
        cut       -> persist [Activation]
        = a=1:confirmed* b=2:trial/0 floor=0 last=1:Confirmed@1
        ok        -> activate b [Activation]
        ok        -> - [Probation]
        cut       -> persist [Rollback]
        = a=1:confirmed* b=2:bad/Interrupted floor=0 poison=2:Interrupted last=2:RolledBack(Interrupted)@10
        tell      -> - [Rollback]
        ok        -> activate a [Rollback]
        ok        -> - [Idle]
        = a=1:confirmed* b=2:bad/Interrupted floor=0 poison=2:Interrupted last=2:RolledBack(Interrupted)@10
        run 2 @11 -> persist [Idle]
        ok        -> - [Idle]
        = a=1:confirmed* b=2:bad/Interrupted floor=0 poison=2:Interrupted last=2:Failed(Poisoned)@11
        ",
    );
}

#[test]
fn a_stop_is_not_blamed_on_the_trial() {
    check(
        v1(),
        "
        run 2   -> admit [Eligibility]
        ok      -> persist [Download]
        ok      -> erase b [Download]
        ok      -> persist [Download]
        ok      -> fetch b [Download]
        ok      -> verify b [Verification]
        ok      -> persist [Verification]
        ok      -> test b [SelfTest]
        ok      -> persist [Activation]
        ok      -> activate b [Activation]
        stop    -> - [Activation]
        ok      -> persist [Idle]
        ok      -> halt [Idle]
        = a=1:confirmed* b=2:trial/2 floor=0 graceful last=1:Confirmed@1
        exit    -> persist [Activation]
        = a=1:confirmed* b=2:trial/2 floor=0 last=1:Confirmed@1
        ok      -> activate b [Activation]
        ok      -> - [Probation]
        stop    -> persist [Idle]
        stop    -> - [Idle]
        ok      -> halt [Idle]
        exit    -> persist [Activation]
        ok      -> activate b [Activation]
        ok      -> - [Probation]
        healthy -> persist [Idle]
        ok      -> - [Idle]
        = a=1:confirmed b=2:confirmed* floor=1 last=2:Confirmed@10
        ",
    );
}

#[test]
fn a_trial_whose_boot_the_disk_does_not_take_lets_the_confirmed_model_serve() {
    check(
        v1(),
        "
        run 2         -> admit [Eligibility]
        ok            -> persist [Download]
        ok            -> erase b [Download]
        ok            -> persist [Download]
        ok            -> fetch b [Download]
        ok            -> verify b [Verification]
        ok            -> persist [Verification]
        ok            -> test b [SelfTest]
        ok            -> persist [Activation]
        ok            -> activate b [Activation]
        cut           -> persist [Activation]
        fail DiskFull -> activate a [Rollback]
        = a=1:confirmed* b=2:trial/1 floor=0 last=1:Confirmed@1
        tell          -> - [Rollback]
        ok            -> persist [Activation]
        fail DiskFull -> - [Activation] waits for DiskFull
        early         -> - [Activation] waits for DiskFull
        tick          -> persist [Activation] waits for DiskFull
        ok            -> activate b [Activation]
        ok            -> - [Probation]
        healthy       -> persist [Idle]
        ok            -> - [Idle]
        = a=1:confirmed b=2:confirmed* floor=1 last=2:Confirmed@10
        ",
    );
}

#[test]
fn a_trial_that_was_put_off_gives_way_to_a_newer_order() {
    check(
        v1(),
        "
        run 2          -> admit [Eligibility]
        ok             -> persist [Download]
        ok             -> erase b [Download]
        ok             -> persist [Download]
        ok             -> fetch b [Download]
        ok             -> verify b [Verification]
        ok             -> persist [Verification]
        ok             -> test b [SelfTest]
        ok             -> persist [Activation]
        ok             -> activate b [Activation]
        cut            -> persist [Activation]
        fail DiskError -> activate a [Rollback]
        run 3          -> - [Rollback]
        ok             -> admit [Eligibility]
        ok             -> persist [Download]
        = a=1:confirmed* b=- floor=0 last=2:Failed(Superseded)@10
        ok             -> erase b [Download]
        ok             -> persist [Download]
        ",
    );
}

#[test]
fn a_newer_order_does_not_wait_for_what_waits() {
    check(
        v1(),
        "
        run 2            -> admit [Eligibility]
        fail Network     -> - [Eligibility] waits for Network
        run 3            -> admit [Eligibility]
        ok               -> persist [Download]
        fail DiskFull    -> - [Download] waits for DiskFull
        run 2            -> admit [Eligibility]
        ok               -> persist [Download]
        ok               -> erase b [Download]
        fail DiskError   -> - [Download] waits for DiskError
        run 3            -> admit [Eligibility]
        ok               -> persist [Download]
        ok               -> erase b [Download]
        ok               -> persist [Download]
        ok               -> fetch b [Download]
        fail Network     -> - [Download] waits for Network
        run 2            -> cancel, admit [Eligibility]
        ok               -> persist [Download]
        ok               -> erase b [Download]
        ok               -> persist [Download]
        ok               -> fetch b [Download]
        ok               -> verify b [Verification]
        ok               -> persist [Verification]
        fail DiskFull    -> - [Verification] waits for DiskFull
        run 2            -> - [Verification] waits for DiskFull
        tick             -> persist [Verification] waits for DiskFull
        run 3            -> - [Verification] waits for DiskFull
        ok               -> admit [Eligibility]
        ok               -> persist [Download]
        ok               -> erase b [Download]
        ok               -> persist [Download]
        ok               -> fetch b [Download]
        ok               -> verify b [Verification]
        ok               -> persist [Verification]
        fail Environment -> - [Verification] waits for Environment
        run 2            -> admit [Eligibility]
        ok               -> persist [Download]
        ok               -> erase b [Download]
        ok               -> persist [Download]
        ok               -> fetch b [Download]
        ok               -> verify b [Verification]
        ok               -> persist [Verification]
        ok               -> test b [SelfTest]
        ok               -> persist [Activation]
        fail DiskFull    -> - [Activation] waits for DiskFull
        back 1           -> persist [Rollback]
        fail DiskFull    -> activate a [Rollback]
        ok               -> persist [Idle]
        ok               -> - [Idle]
        = a=1:confirmed* b=2:verified floor=0 last=1:Confirmed@10
        ",
    );
}

#[test]
fn bytes_that_rot_in_a_trial_are_not_the_releases_fault() {
    check(
        v1(),
        "
        run 2     -> admit [Eligibility]
        ok        -> persist [Download]
        ok        -> erase b [Download]
        ok        -> persist [Download]
        ok        -> fetch b [Download]
        ok        -> verify b [Verification]
        ok        -> persist [Verification]
        ok        -> test b [SelfTest]
        ok        -> persist [Activation]
        rot b     -> - [Activation]
        ok        -> activate b [Activation]
        ok        -> persist [Rollback]
        ok        -> activate a [Rollback]
        = a=1:confirmed* b=2:bad/Corrupt floor=0 last=2:RolledBack(Corrupt)@10
        run 2 @11 -> - [Rollback]
        ok        -> admit [Eligibility]
        ok        -> persist [Download]
        ",
    );
}

#[test]
fn another_form_of_the_release_that_runs_is_another_wish() {
    let mut device = v1();
    let mut other = run(1, 10);
    other.variant = VariantKind::Onnx;
    device.give(other);
    assert_eq!(came(&mut device), "admit [Eligibility]");
    let Some(Command::Admit(token)) = device.pending.take() else { panic!("admit") };
    let mut facts = facts(1);
    facts.variant = VariantKind::Onnx;
    device.send(Event::Admitted(token, Ok(facts)));
    assert_eq!(came(&mut device), "persist [Download]");
}

#[test]
fn what_is_admitted_or_loaded_must_be_what_was_ordered() {
    let mut device = v1();
    device.give(run(2, 10));
    let Some(Command::Admit(token)) = device.pending.take() else { panic!("admit") };
    device.send(Event::Admitted(token, Ok(facts(3))));
    device.settle(&mut |_| None).expect("settles");
    assert!(summary(&device.durable).ends_with("last=2:Failed(Untrusted)@10"));

    device.give(run(2, 11));
    while !matches!(device.pending, Some(Command::Activate(..))) {
        device.answer(Ok(()));
    }
    let Some(Command::Activate(token, _)) = device.pending.take() else { panic!("activate") };
    device.send(Event::Activated(token, Ok(digest(3))));
    device.settle(&mut |_| None).expect("settles");
    assert!(summary(&device.durable).ends_with("last=2:RolledBack(ActivationFailed)@11"));
    assert_eq!(device.engine, Some((Place::Slot(SlotId::A), 1)));
}

#[test]
fn the_newest_policy_judges() {
    let mut device = v1();
    device.give(run(2, 10));
    device.answer(Ok(()));
    let stricter = Policy { probation_s: 7, ..Policy::default() };
    let mut again = run(2, 11);
    again.policy = stricter;
    while device.machine.probation().is_none() {
        device.answer(Ok(()));
    }
    device.give(again);
    assert_eq!(device.machine.probation().map(|p| p.2), Some(stricter));
    device.settle(&mut |_| None).expect("settles");
    assert!(summary(&device.durable).ends_with("last=2:Confirmed@11"));
}

// --- every reason at every step --------------------------------------------------------------

/// A step of an upgrade to release 2, by the command that it waits for.
const STEPS: [&str; 12] = [
    "admit",
    "persist",
    "erase b",
    "persist",
    "fetch b",
    "verify b",
    "persist",
    "test b",
    "persist",
    "activate b",
    "healthy",
    "persist",
];

/// The device at step `at` of the upgrade.
fn at_step(at: usize) -> Device {
    let mut device = v1();
    device.give(run(2, 10));
    for step in &STEPS[..at] {
        match *step {
            "healthy" => act(&mut device, "healthy"),
            _ => act(&mut device, "ok"),
        }
    }
    let now = device.pending.map(command_text);
    assert_eq!(now.as_deref().unwrap_or("healthy"), STEPS[at]);
    device.issued.clear();
    device
}

/// How an upgrade ends whose step `at` fails with `reason`, always; `None`: it waits.
fn expected(at: usize, reason: Reason) -> Option<Ending> {
    let passes = PASSING.contains(&reason);
    match STEPS[at] {
        "persist" | "erase b" => None,
        "healthy" => Some(Ending::RolledBack(reason)),
        _ if passes => None,
        "activate b" if reason == Reason::Corrupt => Some(Ending::RolledBack(reason)),
        "activate b" => Some(Ending::RolledBack(Reason::ActivationFailed)),
        _ => Some(Ending::Failed(reason)),
    }
}

/// What is remembered of the release then.
fn expected_poison(at: usize, ending: Ending) -> Option<Reason> {
    let (Ending::Failed(reason) | Ending::RolledBack(reason)) = ending else { return None };
    // Admission says nothing about the bytes.
    (STEPS[at] != "admit" && VERDICTS.contains(&reason)).then_some(reason)
}

#[test]
fn every_reason_at_every_step() {
    for (at, step) in STEPS.iter().enumerate() {
        for reason in REASONS {
            let mut device = at_step(at);
            let label = format!("step {at} ({step}), {reason:?}");
            match expected(at, reason) {
                None => waits_and_goes_on(&mut device, reason, &label),
                Some(ending) => fails(&mut device, at, reason, ending, &label),
            }
        }
    }
}

/// The same command again, ever later, until it works; nobody is blamed.
fn waits_and_goes_on(device: &mut Device, reason: Reason, label: &str) {
    let command = device.pending.map(command_text);
    let mut pause_ms = STEP_RETRY_MS;
    for _ in 0..8 {
        device.answer(Err(reason));
        assert_eq!(device.machine.waiting(), Some(reason), "{label}");
        assert_eq!(device.pending, None, "{label}");
        let at_ms = device.machine.poll_timeout();
        assert_eq!(at_ms, Some(device.now_ms + pause_ms), "{label}");
        act(device, "early");
        assert_eq!(device.pending, None, "{label}: too early");
        act(device, "tick");
        assert_eq!(device.pending.map(command_text), command, "{label}");
        pause_ms = (2 * pause_ms).min(STEP_RETRY_MS_MAX);
    }
    device.answer(Ok(()));
    assert_eq!(device.machine.waiting(), None, "{label}");
    device.settle(&mut |_| None).unwrap_or_else(|e| panic!("{label}: {e}"));
    assert_eq!(
        summary(&device.durable),
        "a=1:confirmed b=2:confirmed* floor=1 last=2:Confirmed@10",
        "{label}"
    );
}

fn fails(device: &mut Device, at: usize, reason: Reason, ending: Ending, label: &str) {
    let command = device.pending.map(command_text);
    let mut tries = 0;
    for _ in 0..60 {
        if device.machine.probation().is_some() && command.is_none() {
            tries += 1;
            let (token, ..) = device.machine.probation().expect("a probation");
            device.send(Event::Health(token, Err(reason)));
        } else if device.pending.is_some() && device.pending.map(command_text) == command {
            tries += 1;
            device.answer(Err(reason));
        } else if !device.step() {
            break;
        }
        assert_eq!(device.broken, None, "{label}");
    }
    let refetches = matches!(STEPS[at], "fetch b" | "verify b");
    let allowed = 1 + if refetches { u32::from(VERIFY_RETRIES_MAX) } else { 0 };
    assert_eq!(tries, allowed, "{label}");
    let table = &device.durable;
    assert_eq!(table.last.map(|l| (l.release, l.result)), Some((digest(2), ending)), "{label}");
    assert_eq!(table.poisoned(&digest(2)), expected_poison(at, ending), "{label}");
    assert_eq!(device.engine, Some((Place::Slot(SlotId::A), 1)), "{label}");
    assert_eq!(device.machine.phase(), Phase::Idle, "{label}");
    assert_eq!((table.version_floor, table.serving), (0, Some(SlotId::A)), "{label}");
    if STEPS[at] != "admit" {
        let (Ending::Failed(why) | Ending::RolledBack(why)) = ending else { panic!("{label}") };
        assert_eq!(table.slot(SlotId::B).state, SlotState::Bad(why), "{label}");
    }
}

#[test]
fn the_reasons_are_sorted() {
    for reason in REASONS {
        assert_eq!(reason.is_verdict(), VERDICTS.contains(&reason), "{reason:?}");
        assert_eq!(reason.is_transient(), PASSING.contains(&reason), "{reason:?}");
    }
}

// --- every order at every step ---------------------------------------------------------------

/// Devices at every step of every kind of work, with the name of the work.
fn everywhere() -> Vec<(String, Device)> {
    let works: [(&str, Device, &str); 9] = [
        ("upgrade", v1(), "run 2"),
        ("unhealthy", v1(), "run 5"),
        ("golden", v1(), "run 4"),
        ("no load", v1(), "run 7"),
        ("rotten", v1(), "run 8"),
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

#[test]
fn a_new_order_at_every_step_is_carried_out_and_answered() {
    for (label, device) in everywhere() {
        for event in [
            "run 3 @20",
            "run 2 @20",
            "run 5 @20",
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

// --- what does not fit changes nothing -------------------------------------------------------

fn token_of(command: Command) -> Option<Token> {
    match command {
        Command::Persist(t)
        | Command::Admit(t)
        | Command::Erase(t, _)
        | Command::Fetch(t, _)
        | Command::Verify(t, _)
        | Command::SelfTest(t, _)
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
        all.push(("health", Event::Health(token, result)));
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
