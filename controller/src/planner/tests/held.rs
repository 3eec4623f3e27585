//! Devices that are held: waited for at first, then set aside, and never taken for good ones.

use fleetway_protocol::hold::{Condition, Conditions, Held, Point};

use super::*;

const HOUR_S: u64 = spec::HOLD_ASIDE_S_DEFAULT;

/// The device says that its update is held since then.
fn hold(input: &mut Input, n: usize, since_s: u64) {
    let conditions = Conditions::NONE.with(Condition::Unlocked).with(Condition::Mains);
    let facts = Arc::make_mut(&mut input.devices[n].models)
        .get_mut(&model(0))
        .expect("it was offered something");
    facts.phase = Phase::Held;
    facts.held = Some(Held { before: Point::Activation, conditions, since_s });
}

fn offered(input: &Input) -> Vec<usize> {
    let offered = &input.rollouts[0].deployments;
    (0..input.devices.len()).filter(|n| offered.contains_key(&id(*n))).collect()
}

fn confirm(input: &mut Input, n: usize) {
    let now_s = input.now_s;
    let deployment = input.rollouts[0].deployments.get_mut(&id(n)).expect("offered");
    (deployment.verdict, deployment.verdict_s) = (Some(Verdict::Confirmed), now_s);
    let facts = Arc::make_mut(&mut input.devices[n].models).get_mut(&model(0)).expect("offered");
    (facts.phase, facts.held) = (Phase::Idle, None);
}

/// Ten devices, two at once; the first two are offered the release, and one of them is held.
fn one_of_two_held(since_s: u64) -> (Input, usize, usize) {
    let asked = RolloutSpec { max_unavailable: Size::Count(2), ..spec(1, &[(Size::Count(4), 0)]) };
    let mut world = input(10, vec![(1, asked)]);
    assert_eq!(go(&mut world).orders.len(), 2);
    let first = offered(&world);
    hold(&mut world, first[0], since_s);
    (world, first[0], first[1])
}

#[test]
fn a_held_device_says_for_what_and_takes_a_place_for_an_hour() {
    let (mut world, held, other) = one_of_two_held(NOW_S);
    let plan = go(&mut world);
    assert_eq!(why(&plan, held), "HELD");
    let said = plan.report.iter().find(|r| r.device == id(held)).unwrap().why.to_string();
    assert!(said.contains("before the activation: an application holds a lock"), "{said}");
    assert!(said.contains("; not on mains power"), "{said}");
    assert!(!said.contains("goes on without it"), "{said}");
    later(&mut world, HOUR_S - 1);
    assert_eq!(go(&mut world).orders, [], "both places are taken");
    later(&mut world, 1);
    let plan = go(&mut world);
    assert_eq!(plan.orders.len(), 1, "one place is free: {:?}", plan.orders);
    let said = plan.report.iter().find(|r| r.device == id(held)).unwrap().why.to_string();
    assert!(said.ends_with("the rollout goes on without it meanwhile"), "{said}");
    // It goes on, and takes its place again: nobody new is offered anything.
    Arc::make_mut(&mut world.devices[held].models).get_mut(&model(0)).unwrap().phase =
        Phase::Probation;
    confirm(&mut world, other);
    assert_eq!(go(&mut world).orders, [], "two are in flight again");
}

#[test]
fn a_phase_does_not_wait_for_ever_and_the_last_one_does_not_lie() {
    let (mut world, held, other) = one_of_two_held(NOW_S);
    confirm(&mut world, other);
    later(&mut world, HOUR_S);
    // The four of the canary phase: one held, three confirm.
    assert_eq!(go(&mut world).orders.len(), 2, "the rest of the phase");
    assert_eq!(world.rollouts[0].state, RolloutState::Running { phase: 0 });
    for _ in 0..9 {
        for n in offered(&world).into_iter().filter(|n| *n != held) {
            confirm(&mut world, n);
        }
        go(&mut world);
        assert_eq!(world.rollouts[0].state, RolloutState::Running { phase: 1 });
    }
    // All others have it; the rollout is not over, and says why.
    assert_eq!(offered(&world).len(), 10);
    let plan = go(&mut world);
    assert_eq!(world.rollouts[0].state, RolloutState::Running { phase: 1 });
    let Gate::Waiting(why) = &plan.rollouts[0].gate else { panic!("{:?}", plan.rollouts[0].gate) };
    assert_eq!(why, "1 in flight, 1 of them held and set aside, 9 confirmed");
    confirm(&mut world, held);
    go(&mut world);
    assert_eq!(world.rollouts[0].state, RolloutState::Succeeded);
}

#[test]
fn a_phase_of_which_most_is_held_is_not_judged_by_the_rest() {
    let asked = spec(1, &[(Size::Count(3), 0)]);
    let mut world = input(10, vec![(1, asked)]);
    go(&mut world);
    let phase = offered(&world);
    phase[..2].iter().for_each(|n| hold(&mut world, *n, NOW_S));
    confirm(&mut world, phase[2]);
    later(&mut world, 100 * HOUR_S);
    let plan = go(&mut world);
    assert_eq!(plan.orders, []);
    assert_eq!(world.rollouts[0].state, RolloutState::Running { phase: 0 });
    let Gate::Waiting(why) = &plan.rollouts[0].gate else { panic!("{:?}", plan.rollouts[0].gate) };
    assert!(why.starts_with("2 of 3 devices are held, too many"), "{why}");
    // One of them goes on and confirms: two of three is enough.
    confirm(&mut world, phase[0]);
    go(&mut world);
    assert_eq!(world.rollouts[0].state, RolloutState::Running { phase: 1 });
}

#[test]
fn a_failure_is_no_better_for_those_set_aside() {
    let (mut world, _, other) = one_of_two_held(NOW_S);
    later(&mut world, HOUR_S);
    let deployment = world.rollouts[0].deployments.get_mut(&id(other)).unwrap();
    deployment.verdict = Some(Verdict::Failed(Reason::Golden));
    go(&mut world);
    assert_eq!(world.rollouts[0].state.word(), "halted");
}

/// Unknown is not held; and no clock of a device sets it aside at once.
#[test]
fn only_who_is_heard_and_was_ordered_long_ago_is_set_aside() {
    // The first moment of a wait, a clock that is years behind, one that is ahead.
    for since_s in [0, 1, NOW_S + 9 * HOUR_S] {
        let (mut world, ..) = one_of_two_held(since_s);
        later(&mut world, HOUR_S - 1);
        assert_eq!(go(&mut world).orders, [], "{since_s}");
    }
    let (mut world, held, _) = one_of_two_held(NOW_S);
    world.devices[held].online = false;
    later(&mut world, HOUR_S);
    assert_eq!(go(&mut world).orders, [], "it is silent");
    // What it says of another rollout's order is nothing about this one.
    let (mut world, held, _) = one_of_two_held(NOW_S);
    Arc::make_mut(&mut world.devices[held].models).get_mut(&model(0)).unwrap().assigned =
        Some((9, digest(3)));
    later(&mut world, HOUR_S);
    assert_eq!(go(&mut world).orders, []);
}
