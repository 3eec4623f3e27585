//! Scripts of what an order begins: an upgrade, the first model, a removal, the form of
//! a release, and a newer order while the one before still waits.

use fleetway_protocol::machine::{Command, Event};
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::order::Terms;
use fleetway_protocol::slot::{Place, ReleaseFacts, SlotId};

use crate::common::release::{digest, facts, run};
use crate::common::text::summary;
use crate::script::{check, factory, v1, v2};

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
fn which_form_is_fetched_is_the_devices_choice() {
    let mut device = v1();
    device.give(run(2, 10));
    let Some(Command::Admit(token)) = device.pending.take() else { panic!("admit") };
    let facts = ReleaseFacts { variant: VariantKind::Onnx, ..facts(2) };
    device.send(Event::Admitted(token, Ok(facts)));
    device.settle(&mut |_| None).expect("settles");
    let slots = SlotId::BOTH.map(|id| device.durable.slot(id).release);
    assert!(slots.contains(&Some(facts)), "{slots:?}");
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
fn the_newest_terms_judge() {
    let mut device = v1();
    device.give(run(2, 10));
    device.answer(Ok(()));
    let stricter = Terms { probation_s: 7, ..Terms::default() };
    let mut again = run(2, 11);
    again.terms = stricter;
    while device.machine.probation().is_none() {
        device.answer(Ok(()));
    }
    device.give(again);
    assert_eq!(device.machine.probation().map(|p| p.2), Some(stricter));
    device.settle(&mut |_| None).expect("settles");
    assert!(summary(&device.durable).ends_with("last=2:Confirmed@11"));
}
