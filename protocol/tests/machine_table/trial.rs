//! Scripts of trials that are cut, stopped, or put off: each boot without a graceful stop costs
//! a try, the last one poisons the release, and a stop or a full disk costs nothing.

use crate::script::{check, v1};

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

/// The release's own policy may tolerate fewer crashes than three.
#[test]
fn a_policy_without_patience_poisons_at_the_first_crash() {
    check(
        v1(),
        "
        run 15    -> admit [Eligibility]
        ok        -> persist [Download]
        ok        -> erase b [Download]
        ok        -> persist [Download]
        ok        -> fetch b [Download]
        ok        -> verify b [Verification]
        ok        -> persist [Verification]
        ok        -> test b [SelfTest]
        ok        -> persist [Activation]
        ok        -> activate b [Activation]
        ok        -> - [Probation]
        cut       -> persist [Rollback]
        = a=1:confirmed* b=15:bad/Interrupted floor=0 poison=15:Interrupted last=15:RolledBack(Interrupted)@10
        ",
    );
}
