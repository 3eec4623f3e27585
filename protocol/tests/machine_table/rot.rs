//! Scripts of bytes that rot and engines that will not start: at boot, on the way in, in a
//! trial, and in the slot that runs. What is fetched again is not blamed on the release, what
//! runs is not erased, and the list of what may serve is gone down one by one.

use crate::common::Device;
use crate::common::release::run;
use crate::script::{check, v1, v2};

/// Release 1 on trial in slot A with nothing to go back to: superseded, it serves unconfirmed.
fn first_trial() -> Device {
    let mut device = Device::fresh(None);
    device.give(run(1, 5));
    while device.machine.probation().is_none() {
        device.step();
    }
    device
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
fn a_rotten_slot_that_runs_is_not_erased() {
    check(
        first_trial(),
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
    let device = check(
        first_trial(),
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
