//! Scripts of updates that run in the shadow and wait for consent: where they wait, what they
//! say, what lets them go, and what passes them by.

use fleetway_protocol::hold::{Condition, Conditions, Hold};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::order::Action;
use fleetway_protocol::shadow::ShadowPolicy;

use crate::common::Device;
use crate::common::release::{HOLD, order};
use crate::script::{act, check, v1, v2};

/// Release 13 at its hold before the activation, locked.
fn held(device: Device) -> Device {
    check(
        device,
        "
        run 13       -> admit [Eligibility]
        ok           -> persist [Download]
        ok           -> erase b [Download]
        ok           -> persist [Download]
        ok           -> - [Held] waits for HeldForMains
        facts battery -> persist [Held]
        ok           -> - [Held] waits for HeldForMains
        facts locked -> fetch b [Download]
        ok           -> verify b [Verification]
        ok           -> persist [Verification]
        ok           -> test b [SelfTest]
        ok           -> shadow b [Shadow]
        ok           -> - [Held] waits for HeldByApplication
        = a=1:confirmed* b=13:verified floor=0 last=1:Confirmed@1
        ",
    )
}

#[test]
fn an_update_goes_on_when_all_is_so() {
    let device = check(
        held(v1()),
        "
        facts battery -> - [Held] waits for HeldForMains
        facts locked  -> - [Held] waits for HeldByApplication
        facts good    -> persist [Activation]
        facts battery -> - [Activation]
        ok            -> activate b [Activation]
        ok            -> - [Probation]
        healthy       -> persist [Idle]
        ok            -> - [Idle]
        = a=1:confirmed b=13:confirmed* floor=1 last=13:Confirmed@10
        ",
    );
    assert_eq!(device.machine.held(), None);
    assert!(!device.machine.wants_facts());
}

#[test]
fn a_bad_verdict_is_never_held() {
    check(
        held(v1()),
        "
        facts good          -> persist [Activation]
        ok                  -> activate b [Activation]
        ok                  -> - [Probation]
        facts locked        -> - [Probation]
        sick HealthErrors   -> persist [Rollback]
        ok                  -> activate a [Rollback]
        ok                  -> - [Idle]
        ",
    );
}

#[test]
fn a_trial_that_began_goes_on_after_a_cut_without_new_consent() {
    check(
        held(v1()),
        "
        facts good    -> persist [Activation]
        cut after     -> persist [Activation]
        ok            -> activate b [Activation]
        facts locked  -> - [Activation]
        ok            -> - [Probation]
        ",
    );
}

#[test]
fn a_cut_while_held_begins_again_with_the_bytes_at_hand() {
    let device = check(
        held(v1()),
        "
        cut          -> activate a [Rollback]
        ok           -> - [Idle]
        tell         -> admit [Eligibility]
        ok           -> verify b [Verification]
        ok           -> persist [Verification]
        ok           -> test b [SelfTest]
        ok           -> shadow b [Shadow]
        cut          -> activate a [Rollback]
        ok           -> - [Idle]
        tell         -> admit [Eligibility]
        ok           -> verify b [Verification]
        ok           -> persist [Verification]
        ok           -> test b [SelfTest]
        ok           -> shadow b [Shadow]
        ok           -> - [Held] waits for HeldByApplication
        = a=1:confirmed* b=13:verified floor=0 last=1:Confirmed@1
        facts good   -> persist [Activation]
        ",
    );
    assert_eq!(device.engine.map(|e| e.1), Some(1), "what serves was not touched");
}

#[test]
fn a_stop_and_any_newer_order_pass_a_hold() {
    check(held(v1()), "stop -> persist [Idle]\n ok -> halt [Idle]");
    check(held(v1()), "run 3 -> admit [Eligibility]");
    check(held(v1()), "back 1 @11 -> persist [Idle]");
    check(held(v1()), "remove 1 -> persist [Removal]");
    // And are not held themselves: going back touches nothing that must be spared more.
    let mut device = v2();
    device.owner = HOLD;
    device.boot();
    device.settle(&mut |_| None).expect("settles");
    check(
        device,
        "
        facts locked -> - [Idle]
        back 1       -> persist [Rollback]
        ok           -> activate a [Rollback]
        ",
    );
}

#[test]
fn the_same_wish_by_terms_without_a_hold_goes_at_once() {
    let mut device = held(v1());
    let mut order = order(Action::Run, 13, 11);
    order.terms.hold = Hold::default();
    device.give(order);
    check(device, "ok -> activate b [Activation]");
}

#[test]
fn the_same_wish_by_terms_without_a_shadow_ends_it() {
    let mut device = v1();
    act(&mut device, "run 12");
    for _ in 0..8 {
        act(&mut device, "ok");
    }
    assert_eq!(device.machine.phase(), Phase::Shadow);
    let mut order = order(Action::Run, 12, 11);
    order.terms.shadow = None;
    device.give(order);
    assert_eq!(device.machine.shadow(), None, "whoever runs it ends it");
    check(device, "ok -> activate b [Activation]");
}

#[test]
fn the_same_wish_by_terms_with_a_shadow_begins_one_before_it_goes_on() {
    let mut device = v1();
    act(&mut device, "run 11");
    for _ in 0..4 {
        act(&mut device, "ok");
    }
    act(&mut device, "facts good");
    for _ in 0..4 {
        act(&mut device, "ok");
    }
    let mut order = order(Action::Run, 11, 11);
    order.terms.shadow = Some(ShadowPolicy::default());
    device.give(order.clone());
    let device = check(device, "ok -> - [Held] waits for HeldByApplication");
    // One that had its shadow does not begin it again.
    let mut device = device;
    device.give(order);
    check(device, "facts good -> persist [Activation]");
}

#[test]
fn the_owner_holds_what_the_order_does_not() {
    let mut device = v1();
    device.owner = Hold { activation: Conditions::NONE.with(Condition::Unlocked), ..HOLD };
    device.machine.set_owner(device.owner);
    let device = check(
        device,
        "
        run 2        -> admit [Eligibility]
        ok           -> persist [Download]
        ok           -> erase b [Download]
        ok           -> persist [Download]
        ok           -> - [Held] waits for HeldForMains
        facts locked -> fetch b [Download]
        ok           -> verify b [Verification]
        ok           -> persist [Verification]
        ok           -> test b [SelfTest]
        ok           -> - [Held] waits for HeldByApplication
        facts locked -> persist [Held]
        ok           -> - [Held] waits for HeldByApplication
        facts good   -> persist [Activation]
        ",
    );
    assert_eq!(device.machine.held(), None);
}

#[test]
fn a_download_pauses_when_its_conditions_end_and_keeps_what_it_has() {
    let mut device = v1();
    act(&mut device, "run 11");
    for _ in 0..3 {
        act(&mut device, "ok");
    }
    check(
        device,
        "
        ok            -> - [Held] waits for HeldForMains
        facts good    -> fetch b [Download]
        facts good    -> - [Download]
        facts battery -> cancel, persist [Held]
        ok            -> - [Held] waits for HeldForMains
        late          -> - [Held] waits for HeldForMains
        facts good    -> fetch b [Download]
        ok            -> verify b [Verification]
        ",
    );
}

#[test]
fn patience_ends_across_reboots() {
    let mut device = v1();
    let mut order = order(Action::Run, 11, 10);
    order.terms.hold = Hold { download: Conditions::NONE, s_max: 3600, ..HOLD };
    device.give(order);
    let device = check(
        device,
        "
        ok            -> persist [Download]
        ok            -> erase b [Download]
        ok            -> persist [Download]
        ok            -> fetch b [Download]
        ok            -> verify b [Verification]
        ok            -> persist [Verification]
        ok            -> test b [SelfTest]
        ok            -> - [Held] waits for HeldByApplication
        facts battery -> persist [Held]
        ok            -> - [Held] waits for HeldForMains
        cut           -> activate a [Rollback]
        ok            -> - [Idle]
        tell          -> admit [Eligibility]
        ok            -> verify b [Verification]
        ok            -> persist [Verification]
        ok            -> test b [SelfTest]
        ok            -> - [Held] waits for HeldByApplication
        facts battery -> - [Held] waits for HeldForMains
        facts later   -> persist [Activation]
        ",
    );
    assert_eq!(device.machine.held(), None);
}

#[test]
fn a_disk_that_fails_while_held_keeps_nobody_waiting() {
    check(
        v1(),
        "
        run 11         -> admit [Eligibility]
        ok             -> persist [Download]
        ok             -> erase b [Download]
        ok             -> persist [Download]
        ok             -> - [Held] waits for HeldForMains
        facts battery  -> persist [Held]
        fail DiskFull  -> - [Held] waits for DiskFull
        facts good     -> - [Held] waits for DiskFull
        tick           -> persist [Held] waits for DiskFull
        ok             -> - [Held] waits for HeldForMains
        facts good     -> fetch b [Download]
        ",
    );
}

#[test]
fn a_release_that_disagrees_never_serves() {
    let device = check(
        v1(),
        "
        run 14     -> admit [Eligibility]
        ok         -> persist [Download]
        ok         -> erase b [Download]
        ok         -> persist [Download]
        ok         -> fetch b [Download]
        ok         -> verify b [Verification]
        ok         -> persist [Verification]
        ok         -> test b [SelfTest]
        ok         -> shadow b [Shadow]
        ok         -> persist [Idle]
        ok         -> - [Idle]
        = a=1:confirmed* b=14:bad/ShadowDisagrees floor=0 poison=14:ShadowDisagrees last=14:Failed(ShadowDisagrees)@10
        ",
    );
    assert_eq!(device.engine.map(|e| e.1), Some(1));
}

#[test]
fn a_shadow_that_cannot_be_started_waits_and_one_without_evidence_blames_nobody() {
    let mut device = v1();
    act(&mut device, "run 12");
    for _ in 0..8 {
        act(&mut device, "ok");
    }
    check(
        device,
        "
        fail Environment        -> - [Shadow] waits for Environment
        tick                    -> shadow b [Shadow] waits for Environment
        fail ShadowInconclusive -> persist [Idle]
        ok                      -> - [Idle]
        = a=1:confirmed* b=12:bad/ShadowInconclusive floor=0 last=12:Failed(ShadowInconclusive)@10
        run 12 @11              -> admit [Eligibility]
        ",
    );
}
