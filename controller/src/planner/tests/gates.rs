//! Metric gates in a rollout's life, and releases that are known to be bad on a class.

use std::collections::BTreeMap;

use fleetway_protocol::ids::HardwareClass;

use super::*;
use crate::planner::analysis::{Evidence, GateSpec, Metric, Mode, Sample};

fn class(n: usize) -> HardwareClass {
    HardwareClass::new(["orin", "pi5"][n % 2]).unwrap()
}

/// Forty devices of two classes; the first phase takes a quarter.
fn world(change: impl FnOnce(&mut RolloutSpec)) -> Input {
    let mut spec = spec(1, &[(Size::Percent(25), 0)]);
    change(&mut spec);
    let mut world = input(40, vec![(1, spec)]);
    for (n, device) in world.devices.iter_mut().enumerate() {
        device.hardware = Some(class(n));
        Arc::make_mut(&mut device.models).insert(model(0), facts(Some(0), None));
    }
    world
}

fn error_gate(mode: Mode) -> Vec<GateSpec> {
    vec![GateSpec { mode, ..GateSpec::of(Metric::ErrorRate) }]
}

/// What both sides counted: a thousand requests each, of which so many failed on those with the
/// release, by class.
fn counted(world: &Input, errors: [u64; 2]) -> Evidence {
    let sample = |n: usize, errors| Sample {
        class: Some(class(n)),
        requests: 1_000,
        errors,
        ..Sample::default()
    };
    let deployments = &world.rollouts[0].deployments;
    let (mut cohort, mut control) = (BTreeMap::new(), BTreeMap::new());
    for (n, device) in world.devices.iter().enumerate() {
        match deployments.contains_key(&device.id) {
            true => cohort.insert(device.id.clone(), sample(n, errors[n % 2] + n as u64 % 3)),
            false => control.insert(device.id.clone(), sample(n, 10 + n as u64 % 3)),
        };
    }
    Evidence { since_s: NOW_S, cohort, control, control_kind: Default::default() }
}

/// Confirms everybody, hands in what was counted if it is asked for, and plans.
fn look(world: &mut Input, errors: [u64; 2]) -> Plan {
    judge(world, Verdict::Confirmed);
    assert_eq!(wanted(world), [1], "the phase ends: its gates are looked at");
    let waiting = plan_and_check(world);
    assert!(matches!(waiting.rollouts[0].gate, Gate::Waiting(_)), "not without evidence");
    assert_eq!((waiting.orders.len(), waiting.changes.len()), (0, 0));
    world.rollouts[0].evidence = Some(counted(world, errors));
    go(world)
}

/// Everybody confirms and runs it, as often as somebody new is offered it.
fn finish(world: &mut Input) -> Plan {
    for _ in 0..4 {
        judge(world, Verdict::Confirmed);
        go(world);
    }
    let confirmed = |d: &Deployment| d.verdict == Some(Verdict::Confirmed);
    for device in &mut world.devices {
        if world.rollouts[0].deployments.get(&device.id).is_some_and(confirmed) {
            Arc::make_mut(&mut device.models).insert(model(0), facts(Some(1), Some((1, 1))));
        }
    }
    go(world)
}

#[test]
fn a_phase_ends_only_past_its_gates() {
    let check = |mode, errors, expected: &str, offered: usize| {
        let mut world = world(|spec| spec.gates = error_gate(mode));
        go(&mut world);
        assert_eq!(world.rollouts[0].deployments.len(), 10);
        look(&mut world, [errors, errors]);
        let rollout = &world.rollouts[0];
        assert_eq!(rollout.state.word(), expected, "{mode:?} {errors}: {:?}", rollout.looks);
        assert_eq!(rollout.deployments.len(), offered, "{mode:?} {errors}");
    };
    check(Mode::Halt, 10, "running", 40);
    check(Mode::Halt, 110, "halted", 10);
    check(Mode::DryRun, 110, "running", 40);
    check(Mode::Require, 10, "running", 40);
    check(Mode::Require, 110, "halted", 10);
}

#[test]
fn a_required_gate_without_evidence_holds_the_phase_and_says_what_is_missing() {
    let mut world = world(|spec| spec.gates = error_gate(Mode::Require));
    go(&mut world);
    judge(&mut world, Verdict::Confirmed);
    let mut evidence = counted(&world, [10, 10]);
    evidence.cohort.values_mut().skip(3).for_each(|sample| *sample = Sample::default());
    world.rollouts[0].evidence = Some(evidence);
    let plan = go(&mut world);
    assert_eq!(plan.orders, []);
    let Gate::Inconclusive(why) = &plan.rollouts[0].gate else { panic!("{:?}", plan.rollouts) };
    assert!(why.contains("3 of 10 devices of the cohort have told enough"), "{why}");
    // Looked at again when it is time, and not before.
    assert!(wanted(&world).is_empty());
    later(&mut world, 60);
    assert_eq!(wanted(&world), [1]);
    world.rollouts[0].evidence = Some(counted(&world, [10, 10]));
    assert_eq!(go(&mut world).orders.len(), 30);
    assert_eq!(world.rollouts[0].looks.last.as_ref().unwrap().number, 2, "and a look is spent");
}

#[test]
fn what_is_bad_on_a_class_stops_there_and_everywhere() {
    let mut world = world(|spec| {
        (spec.gates, spec.halt) = (error_gate(Mode::Halt), HaltScope::Class);
    });
    go(&mut world);
    let of = |world: &Input, n: usize| {
        let hardware = |id: &DeviceId| world.devices.iter().find(|d| d.id == *id)?.hardware.clone();
        let of = |id: &&DeviceId| hardware(id) == Some(class(n));
        world.rollouts[0].deployments.keys().filter(of).count()
    };
    let canaries = of(&world, 0);
    assert!((1..10).contains(&canaries), "canaries of both classes");
    look(&mut world, [300, 10]);
    assert_eq!(world.known_bad.len(), 1, "{:?}", world.rollouts[0].looks);
    assert_eq!(world.known_bad[0].class, class(0));
    assert_eq!(world.rollouts[0].state.word(), "running");
    finish(&mut world);
    assert_eq!(world.rollouts[0].state, RolloutState::Succeeded);
    assert_eq!(of(&world, 1), 20, "the others went on");
    assert_eq!(of(&world, 0), canaries, "nobody of that class followed");

    // Another rollout of the same release, anywhere: not to that class.
    let again = || RolloutSpec { gates: Vec::new(), ..spec(1, &[]) };
    world.rollouts.push(input(0, vec![(2, again())]).rollouts.remove(0));
    let plan = go(&mut world);
    assert_eq!(plan.orders, []);
    let barred = plan.report.iter().filter(|r| r.rollout == 2 && r.why.code() == "KNOWN_BAD");
    assert_eq!(barred.count(), 20 - of(&world, 0));
    let RolloutState::Halted { why, .. } = &world.rollouts[1].state else { panic!("it is over") };
    assert!(why.contains("known to be bad"), "{why}");

    // Until an operator says otherwise.
    world.known_bad[0].lifted_s = Some(NOW_S);
    world.rollouts.push(input(0, vec![(3, again())]).rollouts.remove(0));
    assert!(!go(&mut world).orders.is_empty());
}

/// The devices' own verdicts halt a class, too, and it takes another class's tolerance away from
/// nobody.
#[test]
fn verdicts_of_one_class_halt_that_class() {
    let mut world = world(|spec| {
        (spec.gates, spec.halt) = (Vec::new(), HaltScope::Class);
        spec.success_percent_min = 90;
        spec.phases[0].size = Size::Percent(50);
    });
    go(&mut world);
    let bad: Vec<_> = world.devices.iter().filter(|d| d.hardware == Some(class(1))).collect();
    let bad: Vec<_> = bad.into_iter().map(|d| d.id.clone()).collect();
    for (id, deployment) in &mut world.rollouts[0].deployments {
        if bad.contains(id) {
            deployment.verdict = Some(Verdict::RolledBack(Reason::HealthErrors));
        }
    }
    judge(&mut world, Verdict::Confirmed);
    let plan = go(&mut world);
    assert_eq!(world.known_bad[0].class, class(1));
    assert!(!plan.orders.is_empty() && plan.orders.iter().all(|o| !bad.contains(&o.device)));
    let plan = finish(&mut world);
    assert_eq!(world.rollouts[0].state, RolloutState::Succeeded);
    assert_eq!((plan.rollouts[0].total, plan.rollouts[0].barred), (20, 20));
}
