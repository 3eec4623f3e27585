//! Every field of a specification, one test each that fails if the planner ignores it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::spec::Membership;
use super::*;

const HOUR_S: u64 = 3600;

/// A fleet of ten, and a rollout to all of them at once but for what `change` asks.
fn world(phases: &[(Size, u64)], change: impl FnOnce(&mut RolloutSpec)) -> Input {
    let mut asked = spec(1, phases);
    change(&mut asked);
    let mut world = input(10, vec![(1, asked.checked().expect("makes sense"))]);
    start(&mut world);
    world
}

/// Notes who is there, as a start does.
fn start(world: &mut Input) {
    let members: BTreeSet<_> = world.devices.iter().map(|d| d.id.clone()).collect();
    world.rollouts[0].members = Some(Arc::new(members));
}

fn offered(world: &Input) -> Vec<usize> {
    (0..world.devices.len())
        .filter(|n| world.rollouts[0].deployments.contains_key(&id(*n)))
        .collect()
}

fn fail(world: &mut Input, n: usize, verdict: Verdict) {
    let now_s = world.now_s;
    let deployment = world.rollouts[0].deployments.get_mut(&id(n)).expect("it was offered it");
    (deployment.verdict, deployment.verdict_s) = (Some(verdict), now_s);
}

fn state(world: &Input) -> &'static str {
    world.rollouts[0].state.word()
}

#[test]
fn named_canaries_go_first_and_nobody_goes_in_their_place() {
    let mut world = world(&[(Size::Count(5), 0)], |s| s.canary = vec![id(7), id(2)]);
    world.devices[7].online = false;
    assert_eq!(go(&mut world).orders.len(), 1);
    assert_eq!(offered(&world), [2]);
    judge(&mut world, Verdict::Confirmed);
    let plan = go(&mut world);
    assert_eq!((plan.orders.len(), why(&plan, 7), why(&plan, 1)), (0, "OFFLINE", "NOT_YOUR_PHASE"));
    world.devices[7].online = true;
    go(&mut world);
    assert_eq!(offered(&world), [2, 7]);
    judge(&mut world, Verdict::Confirmed);
    assert_eq!(go(&mut world).orders.len(), 8, "the phase of two is over");
    // Canaries that are gone are not canaries that passed.
    let mut world = self::world(&[], |s| s.canary = vec![id(7)]);
    world.devices.remove(7);
    let plan = go(&mut world);
    assert_eq!(plan.orders, []);
    assert!(matches!(plan.rollouts[0].gate, Gate::Inconclusive(_)), "{:?}", plan.rollouts[0].gate);
}

#[test]
fn who_comes_later_enters_last_or_not_at_all() {
    let phases = [(Size::Percent(50), 0)];
    for (membership, last) in [(Membership::Dynamic, 30), (Membership::Snapshot, 10)] {
        let mut world = world(&phases, |s| s.membership = membership);
        world.devices.extend((10..30).map(device));
        assert_eq!(go(&mut world).orders.len(), 5, "half of those who were there");
        assert!(offered(&world).iter().all(|n| *n < 10));
        judge(&mut world, Verdict::Confirmed);
        let plan = go(&mut world);
        assert_eq!(offered(&world).len(), last, "{membership:?}");
        let code = why(&plan, 20);
        assert_eq!(code, if last == 30 { "ORDERED" } else { "CAME_LATER" });
        judge(&mut world, Verdict::Confirmed);
        go(&mut world);
        assert_eq!(state(&world), "succeeded");
    }
    // A snapshot does not ask for labels again; otherwise who lost them is out.
    for (membership, total) in [(Membership::Snapshot, 5), (Membership::Dynamic, 4)] {
        let mut world = world(&[], |s| s.selector = "site=a".parse().unwrap());
        world.rollouts[0].spec.membership = membership;
        let there = (0..10).step_by(2).map(id).collect();
        world.rollouts[0].members = Some(Arc::new(there));
        Arc::make_mut(&mut world.devices[0].labels).clear();
        assert_eq!(go(&mut world).rollouts[0].total, total, "{membership:?}");
    }
}

#[test]
fn hardware_and_what_runs_now_select() {
    let mut world = world(&[], |s| s.selector = "hardware=pi4,release=v0".parse().unwrap());
    for (n, runs) in [(0, 0), (1, 0), (2, 0), (4, 3)] {
        Arc::make_mut(&mut world.devices[n].models).insert(model(0), facts(Some(runs), None));
    }
    Arc::make_mut(&mut world.devices[6].models).insert(model(1), facts(Some(0), None));
    go(&mut world);
    assert_eq!(offered(&world), [0, 2]);
    // A release that is not known here has no name, and is not none.
    let mut world = self::world(&[], |s| s.selector = "release,release!=v0".parse().unwrap());
    for (n, runs) in [(0, 0), (1, 9)] {
        Arc::make_mut(&mut world.devices[n].models).insert(model(0), facts(Some(runs), None));
    }
    go(&mut world);
    assert_eq!(offered(&world), [1]);
}

#[test]
fn a_phase_has_bounds_of_its_own() {
    // Reports that must have come.
    let mut world = world(&[(Size::Count(4), 0)], |s| {
        s.success_percent_min = 25;
        s.phases[0].reporters_min = 3;
    });
    go(&mut world);
    let phase = offered(&world);
    phase[..2].iter().for_each(|n| fail(&mut world, *n, Verdict::Confirmed));
    let plan = go(&mut world);
    assert_eq!(plan.orders, []);
    let gate = Gate::Waiting("2 of the 3 devices have reported that must".to_owned());
    assert_eq!(plan.rollouts[0].gate, gate);
    fail(&mut world, phase[2], Verdict::Confirmed);
    assert_eq!(go(&mut world).orders.len(), 6);
    // Success.
    let mut world = self::world(&[(Size::Count(4), 0)], |s| {
        (s.success_percent_min, s.failures_max) = (100, 4);
        s.phases[0].success_percent_min = Some(50);
    });
    go(&mut world);
    let phase = offered(&world);
    phase[..2].iter().for_each(|n| fail(&mut world, *n, Verdict::Failed(Reason::Golden)));
    phase[2..].iter().for_each(|n| fail(&mut world, *n, Verdict::Confirmed));
    go(&mut world);
    assert_eq!(world.rollouts[0].state.word(), "halted", "the last phase wants all of them");
    assert_eq!(offered(&world).len(), 4);
    // Failures, also after the phase.
    let mut world = self::world(&[(Size::Count(4), 0)], |s| {
        (s.success_percent_min, s.failures_max) = (1, 5);
        s.phases[0].failures_max = Some(1);
    });
    go(&mut world);
    let phase = offered(&world);
    judge(&mut world, Verdict::Confirmed);
    go(&mut world);
    phase[..1].iter().for_each(|n| fail(&mut world, *n, Verdict::Failed(Reason::Golden)));
    go(&mut world);
    assert_eq!(state(&world), "running");
    fail(&mut world, phase[1], Verdict::RolledBack(Reason::HealthErrors));
    go(&mut world);
    assert_eq!(state(&world), "halted");
    // Devices at once.
    let mut world = self::world(&[(Size::Count(4), 0)], |s| {
        s.phases[0].max_unavailable = Some(Size::Count(1));
    });
    let plan = go(&mut world);
    assert_eq!(plan.orders.len(), 1);
    assert!(plan.report.iter().any(|r| r.why == Why::WaitingForSlot { in_flight: 1, max: 1 }));
}

#[test]
fn a_rate_holds_in_any_minute_and_grows_with_success() {
    let mut world = world(&[], |s| {
        let ramp = Ramp { factor_permille: 2000, every: 2, per_minute_max: 4 };
        s.rate = Some(Rate { per_minute: 2, ramp: Some(ramp) });
    });
    let plan = go(&mut world);
    assert_eq!(plan.orders.len(), 2);
    assert!(plan.report.iter().any(|r| r.why == Why::RateLimited { per_minute: 2 }));
    later(&mut world, 59);
    assert_eq!(go(&mut world).orders, []);
    later(&mut world, 1);
    assert_eq!(go(&mut world).orders.len(), 2);
    judge(&mut world, Verdict::Confirmed);
    later(&mut world, 60);
    assert_eq!(go(&mut world).orders.len(), 4, "four confirmed: twice doubled, at most four");
}

#[test]
fn a_budget_is_spent_by_the_day_and_in_all() {
    let mut world = world(&[], |s| {
        s.budget = Budget { per_day_bytes: 3999, total_bytes: 5000 };
    });
    let plan = go(&mut world);
    assert_eq!(plan.orders.len(), 3, "a device takes 1000 bytes");
    assert!(plan.report.iter().any(|r| r.why == Why::OverBudget { bytes: 1000 }));
    judge(&mut world, Verdict::Confirmed);
    later(&mut world, 24 * HOUR_S - 1);
    assert_eq!(go(&mut world).orders, []);
    later(&mut world, 1);
    assert_eq!(go(&mut world).orders.len(), 2);
    later(&mut world, 48 * HOUR_S);
    judge(&mut world, Verdict::Confirmed);
    let plan = go(&mut world);
    assert_eq!(plan.orders, []);
    let Gate::Waiting(why) = &plan.rollouts[0].gate else { panic!("{:?}", plan.rollouts[0].gate) };
    assert!(
        why.contains("5 of 10 devices cannot be offered it yet: waits: the byte budget"),
        "{why}"
    );
}

#[test]
fn a_schedule_begins_ends_and_has_windows() {
    let mut world = world(&[(Size::Count(1), 0)], |s| {
        s.schedule.not_before_s = Some(NOW_S + 10);
        s.schedule.not_after_s = Some(NOW_S + 100);
    });
    let plan = go(&mut world);
    assert_eq!((plan.orders.len(), why(&plan, 0)), (0, "NOT_BEFORE"));
    later(&mut world, 10);
    assert_eq!(go(&mut world).orders.len(), 1);
    later(&mut world, 90);
    let plan = go(&mut world);
    assert_eq!((state(&world), plan.orders.len()), ("running", 0), "one is still at it");
    judge(&mut world, Verdict::Confirmed);
    let plan = go(&mut world);
    assert_eq!((state(&world), plan.orders.len()), ("halted", 0));
    let RolloutState::Halted { why, .. } = &world.rollouts[0].state else { panic!() };
    assert!(why.contains("1 of 10 devices confirmed"), "{why}");

    // 1_000_000 s is a Monday, 12 January 1970, 13:46:40 in UTC and an hour later in Berlin.
    let mut world = self::world(&[], |s| {
        let window = "mon 15:00-16:00".parse().unwrap();
        s.schedule.windows = vec![LocalWindow { window, zone: "Europe/Berlin".to_owned() }];
    });
    let plan = go(&mut world);
    assert_eq!(plan.orders, []);
    let opens_s = Some(NOW_S + 800);
    assert!(plan.report.iter().all(|r| r.why == Why::OutsideWindow { opens_s }), "{plan:?}");
    later(&mut world, 799);
    assert_eq!(go(&mut world).orders, []);
    later(&mut world, 1);
    assert_eq!(go(&mut world).orders.len(), 10);
}

#[test]
fn nobody_moves_before_somebody_approves() {
    let mut world = world(&[(Size::Count(1), 0)], |s| s.phases[0].approval = true);
    world.rollouts[0].spec.phases[1].approval = true;
    world.rollouts[0].state = RolloutState::WaitingForApproval { phase: 0 };
    let plan = go(&mut world);
    assert_eq!((plan.orders.len(), why(&plan, 0)), (0, "WAITING_FOR_APPROVAL"));
    world.rollouts[0].state = RolloutState::Running { phase: 0 };
    assert_eq!(go(&mut world).orders.len(), 1);
    judge(&mut world, Verdict::Confirmed);
    assert_eq!(go(&mut world).orders, []);
    assert_eq!(world.rollouts[0].state, RolloutState::WaitingForApproval { phase: 1 });
    let canary = offered(&world)[0];
    fail(&mut world, canary, Verdict::RolledBack(Reason::HealthErrors));
    go(&mut world);
    assert_eq!(state(&world), "halted", "a failure is heard meanwhile");
}

#[test]
fn the_higher_priority_has_the_device_first() {
    let other = RolloutSpec { model: model(1), priority: 5, ..spec(1, &[]) };
    let mut world = input(4, vec![(1, other), (2, spec(1, &[]))]);
    let plan = go(&mut world);
    assert_eq!(plan.orders.len(), 4);
    assert!(plan.orders.iter().all(|o| o.rollout == 1), "the older one of the higher priority");
    let waits = plan.report.iter().filter(|r| r.rollout == 2).map(|r| &r.why);
    assert!(waits.clone().count() == 4 && waits.clone().all(|w| *w == Why::GivesWay(1)));
    judge(&mut world, Verdict::Confirmed);
    assert_eq!(go(&mut world).orders.len(), 4);
    // Of one priority they move at the same time.
    let mut world =
        input(4, vec![(1, RolloutSpec { model: model(1), ..spec(1, &[]) }), (2, spec(1, &[]))]);
    assert_eq!(go(&mut world).orders.len(), 8);
}

#[test]
fn an_abort_may_leave_what_is_in_flight() {
    for (on_abort, turned) in [(OnAbort::Revert, 10), (OnAbort::Keep, 0)] {
        let mut world = world(&[], |s| s.on_abort = on_abort);
        go(&mut world);
        world.rollouts[0].state = RolloutState::Aborted;
        assert_eq!(go(&mut world).orders.len(), turned, "{on_abort:?}");
    }
}

#[test]
fn a_device_that_speaks_and_is_not_done_is_late() {
    let mut world = world(&[(Size::Count(2), 0)], |s| s.deadline_s = HOUR_S);
    go(&mut world);
    let late = offered(&world)[0];
    later(&mut world, HOUR_S - 1);
    go(&mut world);
    assert_eq!(state(&world), "running");
    later(&mut world, 1);
    let plan = go(&mut world);
    assert_eq!((state(&world), why(&plan, late)), ("halted", "LATE"));
}

#[test]
fn a_failure_is_tried_again_by_its_kind_with_a_wait_of_its_own() {
    let silent = Verdict::Failed(Reason::MetadataMissing);
    let retry = Retry { times: 2, wait_s: 100, on: vec![RetryOn::Trust] };
    let mut world = world(&[(Size::Count(4), 0)], |s| s.retry = Some(retry));
    go(&mut world);
    let phase = offered(&world);
    judge(&mut world, silent);
    let plan = go(&mut world);
    assert_eq!((state(&world), plan.orders.len()), ("running", 0));
    let due: BTreeSet<u64> = plan
        .report
        .iter()
        .filter_map(|r| match r.why {
            Why::Retrying { due_s, attempt: 2, of: 3, .. } => Some(due_s),
            _ => None,
        })
        .collect();
    assert!(due.len() > 1, "they do not come back together: {due:?}");
    assert!(due.iter().all(|s| (NOW_S + 100..NOW_S + 200).contains(s)), "{due:?}");
    later(&mut world, 200);
    let plan = go(&mut world);
    assert_eq!(plan.orders.len(), 4, "all of them again");
    assert!(world.rollouts[0].deployments.values().all(|d| d.attempts == 1 && d.verdict.is_none()));
    // The second further try waits twice as long, a third one there is not.
    judge(&mut world, silent);
    later(&mut world, 199);
    assert_eq!(go(&mut world).orders, []);
    later(&mut world, 201);
    assert_eq!(go(&mut world).orders.len(), 4);
    fail(&mut world, phase[0], silent);
    go(&mut world);
    assert_eq!(state(&world), "halted");
    // A verdict on the release is never tried again, nor is a kind that was not named.
    for verdict in [Verdict::Failed(Reason::Golden), Verdict::Silent] {
        let retry = Retry { times: 2, wait_s: 100, on: vec![RetryOn::Trust] };
        let mut world = self::world(&[], |s| s.retry = Some(retry));
        go(&mut world);
        judge(&mut world, verdict);
        go(&mut world);
        assert_eq!(state(&world), "halted", "{verdict:?}");
    }
}

#[test]
fn one_that_does_not_come_back_to_be_tried_again_has_failed() {
    let retry = Retry { times: 1, wait_s: 10, on: RetryOn::ALL.to_vec() };
    let mut world = world(&[(Size::Count(1), 0)], |s| s.retry = Some(retry));
    go(&mut world);
    let gone = offered(&world)[0];
    world.devices[gone].online = false;
    let timeout_s = world.rollouts[0].spec.device_timeout_s;
    later(&mut world, timeout_s);
    let plan = go(&mut world);
    assert_eq!((state(&world), why(&plan, gone)), ("running", "RETRYING"));
    later(&mut world, timeout_s + 20);
    go(&mut world);
    assert_eq!(state(&world), "halted");
}
