//! Scripts of the way back: ordered or forced, to a slot or to the factory model, with a full
//! disk, and to what may not serve any more. Success is told of what serves, never before.

use crate::common::Device;
use crate::script::{check, v1, v2};

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
        ok     -> persist [Idle]
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
