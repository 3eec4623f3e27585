//! From a plan to a start and on: what was shown is held to, what was there is kept over a
//! restart, and a further try is a new order.

use fleetway_protocol::ids::HardwareClass;

use super::*;
use crate::ErrorKind;
use crate::planner::{Membership, Retry, RetryOn};

#[test]
fn a_start_is_held_to_the_plan_that_was_shown() {
    let mut world = World::new(4);
    let spec = world.spec("v2", 2, &[Size::Count(1)]);
    let plan = world.fleet.plan_rollout(&spec, world.now_s).unwrap();
    let shown = plan.hash.to_string();
    let refused = |world: &mut World, spec: &RolloutSpec, says: &str| {
        let error = world.fleet.start_planned(world.by(), spec, Some(&shown)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(says), "{error}");
        assert!(world.fleet.rollouts(world.now_s).is_empty());
    };
    // Time passes and a device goes away whose place nobody takes: nothing that was decided.
    world.now_s += 50;
    let away = &plan.phases[1].devices[0];
    world.offline((0..4).find(|n| id(*n) == *away).unwrap());
    assert_eq!(world.fleet.plan_rollout(&spec, world.now_s).unwrap().hash.differs(&shown), None);
    let other = RolloutSpec { failures_max: 3, ..spec.clone() };
    refused(&mut world, &other, "shown: the specification changed;");
    let other = world.spec("v3", 3, &[Size::Count(1)]);
    refused(&mut world, &other, "the specification; the release changed;");
    let labels: Labels = [("site".to_owned(), "paris".to_owned())].into();
    world.fleet.add_device(world.by(), &id(8), &labels).unwrap();
    refused(&mut world, &spec, "shown: which devices move, or in which phase changed;");
    world.fleet.remove_device(world.by(), &id(8)).unwrap();
    world.devices.get_mut(&id(3)).unwrap().running = Some(spec.release);
    world.online(3);
    refused(&mut world, &spec, "which devices are left out, or why changed;");
    let error = world.fleet.start_planned(world.by(), &spec, Some("beef")).unwrap_err();
    assert!(error.to_string().contains("is no plan"), "{error}");
    let shown = world.fleet.plan_rollout(&spec, world.now_s).unwrap().hash.to_string();
    assert_eq!(world.fleet.start_planned(world.by(), &spec, Some(&shown)).unwrap(), 1);
}

#[test]
fn a_plan_knows_bytes_time_and_who_signed() {
    let mut world = World::new(3);
    let spec = world.spec("v2", 2, &[]);
    let mut state = world.devices.get_mut(&id(1)).unwrap().state();
    (state.target, state.progress) = (Some(spec.release), Progress { have: 3, total: 4 });
    world.fleet.handle_state(world.now_s, &id(1), &model(), &state).unwrap();
    let plan = world.fleet.plan_rollout(&spec, world.now_s).unwrap();
    let (all, some) = (plan.bytes_of(&id(0)), plan.bytes_of(&id(1)));
    assert!(all == plan.bytes_per_device && some == all / 4, "{all} {some}");
    assert_eq!(plan.bytes_total(), 2 * all + some);
    assert_eq!(plan.signers.len(), 1);
    assert_eq!(plan.takes.total_s, Some(spec.terms.probation_s.into()), "{}", plan.takes.how);
    // What devices took before says more.
    world.start("v1", 1, &[]);
    for device in world.tick() {
        world.now_s += 7;
        world.carry_out(&device, None);
    }
    world.tick();
    let plan = world.fleet.plan_rollout(&spec, world.now_s).unwrap();
    assert_eq!(plan.takes.total_s, Some(14));
    assert!(plan.takes.how.starts_with("14 s per device (the median"), "{}", plan.takes.how);
}

#[test]
fn canaries_are_planned_by_name_or_refused() {
    let mut world = World::new(5);
    let spec = RolloutSpec { canary: vec![id(3), id(1)], ..world.spec("v2", 2, &[Size::Count(9)]) };
    world.offline(1);
    let plan = world.fleet.plan_rollout(&spec, world.now_s).unwrap();
    assert_eq!(plan.phases[0].devices, [id(3), id(1)], "the one that is away as well");
    let refused = |spec: &RolloutSpec, world: &World| {
        world.fleet.plan_rollout(spec, world.now_s).unwrap_err().to_string()
    };
    let unknown = RolloutSpec { canary: vec![id(9)], ..spec.clone() };
    assert!(
        refused(&unknown, &world).contains("the canary cam-09 cannot go first"),
        "{}",
        refused(&unknown, &world)
    );
    world.devices.get_mut(&id(3)).unwrap().running = Some(spec.release);
    world.online(3);
    assert!(refused(&spec, &world).contains("cannot go first: ran it before"));
    let mut many = world.spec("v2", 2, &[Size::Percent(40)]);
    many.phases[0].reporters_min = 3;
    assert!(refused(&many, &world).contains("wants reports of 3 devices and has 2"));
}

#[test]
fn who_was_there_and_what_hardware_it_is_outlasts_a_restart() {
    let mut world = World::new(3);
    for n in 0..2 {
        let mut presence = world.devices.get_mut(&id(n)).unwrap().presence(true);
        presence.hardware = HardwareClass::new("pi4").ok();
        world.fleet.handle_presence(world.now_s, &id(n), &presence).unwrap();
    }
    let spec = RolloutSpec {
        selector: "hardware=pi4".parse().unwrap(),
        membership: Membership::Snapshot,
        max_unavailable: Size::Count(1),
        ..world.spec("v2", 2, &[])
    };
    let rollout = world.fleet.start_rollout(world.by(), &spec).unwrap();
    world.fleet = open(&world.store, world.now_s);
    // Nobody has spoken yet: the rollout is for two all the same.
    let view = world.fleet.rollout(rollout, world.now_s).unwrap();
    assert_eq!((view.report.total, view.report.late), (2, 0));
    assert_eq!(world.fleet.device(&id(1)).unwrap().hardware, HardwareClass::new("pi4").ok());
}

#[test]
fn approval_is_durable_and_nobody_goes_around_it() {
    let mut world = World::new(3);
    let spec = RolloutSpec { approval: true, ..world.spec("v2", 2, &[]) };
    let rollout = world.fleet.start_rollout(world.by(), &spec).unwrap();
    assert_eq!(world.tick(), []);
    world.restart();
    assert_eq!((world.tick(), world.state(rollout)), (vec![], "waiting_for_approval"));
    assert!(world.fleet.pause_rollout(world.by(), rollout).is_err());
    assert!(world.fleet.resume_rollout(world.by(), rollout).is_err());
    world.fleet.approve_rollout(world.by(), rollout).unwrap();
    assert_eq!(world.tick().len(), 3);
    world.fleet.approve_rollout(world.by(), rollout).unwrap();
    let journal = world.fleet.journal(100, Some(rollout), None).unwrap();
    assert_eq!(
        journal.iter().filter(|e| e.what == "rollout.approve" && e.who == "anna").count(),
        1
    );
}

#[test]
fn a_further_try_is_a_new_order_and_an_old_answer_is_none_to_it() {
    let mut world = World::new(1);
    let retry = Retry { times: 1, wait_s: 10, on: vec![RetryOn::Trust] };
    let spec = RolloutSpec { retry: Some(retry), ..world.spec("v2", 2, &[]) };
    let rollout = world.fleet.start_rollout(world.by(), &spec).unwrap();
    assert_eq!(world.tick().len(), 1);
    let fail = |world: &mut World| {
        let order = world.newest(&id(0));
        let dev = world.devices.get_mut(&id(0)).unwrap();
        dev.generation = order.generation;
        let result = Ending::Failed(Reason::MetadataMissing);
        let release = order.models[0].release;
        dev.last = Some(Outcome { release, rollout, result, evidence: None });
        let state = dev.state();
        world.fleet.handle_state(world.now_s, &id(0), &model(), &state).unwrap();
    };
    fail(&mut world);
    assert_eq!((world.tick().len(), world.why(rollout, &id(0))), (0, "RETRYING"));
    world.now_s += 20;
    assert_eq!(world.tick(), [id(0)]);
    let generations: Vec<_> = world.devices[&id(0)].orders.keys().copied().collect();
    assert_eq!(generations, [1, 2]);
    // Said before it heard of the second order.
    let state = world.devices.get_mut(&id(0)).unwrap().state();
    world.fleet.handle_state(world.now_s, &id(0), &model(), &state).unwrap();
    world.tick();
    assert_eq!((world.state(rollout), world.why(rollout, &id(0))), ("running", "IN_PROGRESS"));
    fail(&mut world);
    world.tick();
    assert_eq!(world.state(rollout), "halted", "there was one further try");
}
