//! What follows on a rollout: promoted, undone, tried again, taken back to a named release. Each
//! is held to the planner's own check with every tick, and survives a restart.

use super::*;
use crate::ErrorKind;
use crate::planner::Why;

/// Everybody on `version` by a rollout of its own.
fn roll(world: &mut World, version: &str, counter: Counter) -> RolloutId {
    let rollout = world.start(version, counter, &[]);
    for device in world.tick() {
        world.carry_out(&device, None);
    }
    world.tick();
    assert_eq!(world.state(rollout), "succeeded");
    rollout
}

/// Carries out what is ordered until nothing is.
fn settle(world: &mut World) {
    loop {
        let moved = world.tick();
        if moved.is_empty() {
            return;
        }
        for device in moved {
            world.carry_out(&device, None);
        }
    }
}

fn runs(world: &World, n: usize) -> Option<Digest> {
    world.devices[&id(n)].running
}

fn codes(stays: &[(DeviceId, Why)]) -> Vec<(String, &'static str)> {
    stays.iter().map(|(id, why)| (id.to_string(), why.code())).collect()
}

/// Each of the rollouts' histories says it, and by whom.
fn noted(world: &World, what: &str, rollouts: &[RolloutId]) {
    for id in rollouts {
        let journal = world.fleet.journal(1000, Some(*id), None).unwrap();
        assert!(journal.iter().any(|e| e.what == what && e.who == "anna"), "{what} of {id}");
    }
}

#[test]
fn undone_devices_run_what_each_ran_before() {
    let mut world = World::new(4);
    // Two kinds of before: v1 on two devices, v2 on the others.
    let labels: Labels = [("site".to_owned(), "paris".to_owned())].into();
    for n in [2, 3] {
        world.fleet.label_device(world.by(), &id(n), &labels, &[]).unwrap();
    }
    for (version, counter, site) in [("v1", 1, "site=berlin"), ("v2", 2, "site=paris")] {
        let mut spec = world.spec(version, counter, &[]);
        spec.selector = site.parse().unwrap();
        world.fleet.start_rollout(world.by(), &spec).unwrap();
        settle(&mut world);
    }
    let rollout = world.start("v3", 3, &[]);
    let error = world.fleet.follow(world.by(), &Follow::Undo(rollout)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "it is not over");
    settle(&mut world);
    assert_eq!(world.state(rollout), "succeeded");

    let plan = world.fleet.plan_follow(&Follow::Undo(rollout), world.now_s).unwrap();
    let before = world.fleet.rollouts.len();
    assert_eq!(plan.rollouts.len(), 2, "one for each release to go back to");
    let ids = world.fleet.follow(world.by(), &Follow::Undo(rollout)).unwrap();
    assert_eq!(ids, plan.rollouts.iter().map(|p| p.rollout).collect::<Vec<_>>());
    assert_eq!(world.fleet.rollouts.len(), before + 2);
    world.restart();
    settle(&mut world);
    let (v1, v2) = (world.release("v1", 1), world.release("v2", 2));
    assert_eq!([0, 1, 2, 3].map(|n| runs(&world, n)), [v1, v1, v2, v2].map(Some));
    assert!(ids.iter().all(|id| world.state(*id) == "succeeded"));
    noted(&world, "rollout.undo", &[rollout, ids[0], ids[1]]);
    let again = world.fleet.follow(world.by(), &Follow::Undo(rollout)).unwrap_err();
    assert!(again.to_string().contains("moved on by the newer rollout"), "{again}");
}

#[test]
fn undoing_a_halted_rollout_leaves_those_alone_that_went_back() {
    let mut world = World::new(4);
    roll(&mut world, "v1", 1);
    let rollout = world.start("v2", 2, &[]);
    let moved = world.tick();
    world.carry_out(&moved[0], None);
    world.carry_out(&moved[1], Some(Reason::HealthCollapse));
    world.tick();
    assert_eq!(world.state(rollout), "halted");
    // The third is at it still, the fourth never answers.
    world.carry_out(&moved[2], None);
    let plan = world.fleet.plan_follow(&Follow::Undo(rollout), world.now_s).unwrap();
    assert_eq!(codes(&plan.stays), [(moved[1].to_string(), "ROLLED_BACK")]);
    let planned = plan.rollouts[0].phases.last().unwrap().up_to;
    assert_eq!(planned, 3, "confirmed and in flight alike");
    let ids = world.fleet.follow(world.by(), &Follow::Undo(rollout)).unwrap();
    settle(&mut world);
    assert_eq!(world.state(ids[0]), "succeeded");
    let v1 = world.release("v1", 1);
    for device in [&moved[0], &moved[2], &moved[3]] {
        assert_eq!(world.devices[device].running, Some(v1), "{device}");
    }
}

#[test]
fn a_way_back_keeps_to_the_bounds_and_stops_itself() {
    let mut world = World::new(6);
    roll(&mut world, "v1", 1);
    let rollout = world.start("v2", 2, &[Size::Count(1), Size::Count(3)]);
    settle(&mut world);
    assert_eq!(world.state(rollout), "succeeded");
    let ids = world.fleet.follow(world.by(), &Follow::Undo(rollout)).unwrap();
    let moved = world.tick();
    assert_eq!(moved.len(), 1, "the same canary");
    world.carry_out(&moved[0], Some(Reason::HealthErrors));
    assert_eq!(world.tick(), []);
    assert_eq!(world.state(ids[0]), "halted");
}

#[test]
fn what_ran_nothing_before_stays_and_says_so() {
    let mut world = World::new(2);
    for n in [0, 1] {
        world.devices.get_mut(&id(n)).unwrap().running = None;
        world.online(n);
    }
    let rollout = roll(&mut world, "v1", 1);
    let error = world.fleet.plan_follow(&Follow::Undo(rollout), world.now_s).unwrap_err();
    assert!(error.to_string().contains("nothing to go back to"), "{error}");
    let unknown = world.fleet.plan_follow(&Follow::Undo(99), world.now_s).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

#[test]
fn what_failed_by_chance_is_tried_again_and_a_verdict_is_not() {
    let mut world = World::new(4);
    roll(&mut world, "v1", 1);
    let mut spec = world.spec("v2", 2, &[]);
    (spec.failures_max, spec.success_percent_min) = (4, 1);
    let rollout = world.fleet.start_rollout(world.by(), &spec).unwrap();
    let moved = world.tick();
    world.carry_out(&moved[0], None);
    world.carry_out(&moved[1], Some(Reason::DiskFull));
    world.carry_out(&moved[2], Some(Reason::Golden));
    world.carry_out(&moved[3], Some(Reason::Poisoned));
    world.tick();
    assert_eq!(world.state(rollout), "succeeded");
    let plan = world.fleet.plan_follow(&Follow::Retry(rollout), world.now_s).unwrap();
    let mut bad = [&moved[2], &moved[3]].map(|id| (id.to_string(), "REMEMBERS_AS_BAD"));
    bad.sort();
    assert_eq!(codes(&plan.stays), bad);
    assert_eq!(plan.rollouts[0].phases.last().unwrap().devices, [moved[1].clone()]);
    let ids = world.fleet.follow(world.by(), &Follow::Retry(rollout)).unwrap();
    noted(&world, "rollout.retry", &[rollout, ids[0]]);
    settle(&mut world);
    assert_eq!(world.state(ids[0]), "succeeded");
    assert_eq!(world.devices[&moved[1]].running, Some(world.release("v2", 2)));
}

#[test]
fn back_to_a_named_release_as_far_as_floors_allow() {
    let mut world = World::new(4);
    roll(&mut world, "v1", 1);
    let mut spec = world.spec("v3", 3, &[]);
    spec.selector = Selector::devices([&id(0), &id(1), &id(2)]).unwrap();
    world.fleet.start_rollout(world.by(), &spec).unwrap();
    settle(&mut world);
    // One confirmed a release that closes the way back.
    let dev = world.devices.get_mut(&id(1)).unwrap();
    let state = State { floor: 3, ..dev.state() };
    world.fleet.handle_state(world.now_s, &id(1), &model(), &state).unwrap();
    let back = Follow::Back(Box::new(world.spec("v1", 1, &[])));
    let plan = world.fleet.plan_follow(&back, world.now_s).unwrap();
    let expected = [(id(1), "BELOW_FLOOR"), (id(3), "NOTHING_NEWER")];
    assert_eq!(codes(&plan.stays), expected.map(|(id, code)| (id.to_string(), code)));
    let ids = world.fleet.follow(world.by(), &back).unwrap();
    noted(&world, "rollout.rollback", &ids);
    settle(&mut world);
    let v1 = world.release("v1", 1);
    assert_eq!([runs(&world, 0), runs(&world, 2)], [Some(v1); 2]);
    assert_eq!(runs(&world, 1), Some(world.release("v3", 3)));
    let nothing = world.fleet.plan_follow(&back, world.now_s).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::Conflict);
}

#[test]
fn promoting_skips_the_wait_and_no_bound() {
    let mut world = World::new(6);
    let mut spec = world.spec("v2", 2, &[Size::Count(1), Size::Count(2), Size::Percent(100)]);
    spec.phases.iter_mut().for_each(|phase| phase.soak_s = 1000);
    spec.max_unavailable = Size::Count(2);
    let rollout = world.fleet.start_rollout(world.by(), &spec).unwrap();
    let moved = world.tick();
    world.carry_out(&moved[0], None);
    assert_eq!(world.tick(), [], "it soaks");
    world.fleet.promote_rollout(world.by(), rollout, false).unwrap();
    let moved = world.tick();
    assert_eq!(moved.len(), 1, "the second phase");
    world.fleet.pause_rollout(world.by(), rollout).unwrap();
    world.fleet.promote_rollout(world.by(), rollout, true).unwrap();
    assert_eq!(world.tick().len(), 1, "two may be in flight, not more");
    let early = world.fleet.promote_rollout(world.by(), rollout, false).unwrap_err();
    assert!(early.to_string().contains("last phase"), "{early}");
    for device in (0..6).map(id) {
        if world.devices[&device].orders.len() == 1 && world.devices[&device].generation == 0 {
            world.carry_out(&device, None);
        }
    }
    settle(&mut world);
    assert_eq!(world.state(rollout), "running", "the last phase soaks");
    world.fleet.promote_rollout(world.by(), rollout, false).unwrap();
    assert_eq!(world.state(rollout), "succeeded");
    let over = world.fleet.promote_rollout(world.by(), rollout, true).unwrap_err();
    assert_eq!(over.kind(), ErrorKind::Conflict);
    let journal = world.fleet.journal(1000, Some(rollout), None).unwrap();
    let promoted = journal.iter().filter(|e| e.what == "rollout.promote" && e.who == "anna");
    let texts: Vec<_> = promoted.map(|e| e.text.as_str()).collect();
    assert_eq!(
        texts[0],
        "rollout 1 goes on with phase 2 of 3; its gate said: soaks for 1000 s more"
    );
    assert_eq!(texts.len(), 3);
}
