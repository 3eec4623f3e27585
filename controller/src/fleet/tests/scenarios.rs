//! Rollouts from start to end: phases, the first failure, silence, abort, pause; then the same
//! with a crash at every commit, with reports repeated and reordered, and with a store that fails
//! or rots. Nothing is ordered that is not durable, and what is durable goes on.

use super::*;
use crate::ErrorKind;
use crate::store::Kind;

#[test]
fn the_happy_path_goes_by_phases_to_success() {
    let mut world = World::new(6);
    let rollout = world.start("v2", 2, &[Size::Count(1), Size::Count(3)]);
    assert!(world.fleet.effects.contains(&Effect::Seed(world.release("v2", 2))));
    for expected in [1, 2, 3] {
        let moved = world.tick();
        assert_eq!(moved.len(), expected);
        assert_eq!(world.tick(), []);
        for device in moved {
            assert_eq!(world.newest(&device).models[0].release, world.release("v2", 2));
            world.carry_out(&device, None);
        }
    }
    world.tick();
    assert_eq!(world.state(rollout), "succeeded");
    assert!(world.effects.contains(&Effect::Unseed(world.release("v2", 2))));
    let journal = world.fleet.journal(1000, Some(rollout), None).unwrap();
    let count = |what: &str| journal.iter().filter(|e| e.what == what).count();
    assert_eq!((count("order"), count("verdict")), (6, 6));
    assert_eq!((count("rollout.start"), count("rollout.state")), (1, 3));
    assert!(journal.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(world.why(rollout, &id(0)), "CONFIRMED");
}

#[test]
fn the_first_failure_halts_and_says_why() {
    let mut world = World::new(6);
    let rollout = world.start("v2", 2, &[Size::Count(2)]);
    let moved = world.tick();
    world.carry_out(&moved[0], Some(Reason::HealthCollapse));
    assert_eq!(world.tick(), []);
    assert_eq!(world.state(rollout), "halted");
    world.carry_out(&moved[1], None);
    world.now_s += 1_000_000;
    assert_eq!(world.tick().len(), 1, "the confirmed one's order is renewed, nothing else");
    assert_eq!(world.why(rollout, &moved[0]), "ROLLED_BACK");
    assert_eq!(world.why(rollout, &moved[1]), "CONFIRMED");
    let error = world.fleet.resume_rollout(world.by(), rollout).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("start a new rollout"), "{error}");
}

#[test]
fn a_silent_device_holds_the_phase_then_halts_and_may_speak_again() {
    let mut world = World::new(3);
    let rollout = world.start("v2", 2, &[Size::Count(1)]);
    let device = world.tick().remove(0);
    let n = (0..3).find(|n| id(*n) == device).unwrap();
    world.offline(n);
    world.now_s += 3600;
    assert_eq!(world.tick(), []);
    assert_eq!(
        (world.state(rollout), world.why(rollout, &device)),
        ("running", "SILENT_IN_PROGRESS")
    );
    world.now_s += 24 * 3600;
    world.tick();
    assert_eq!((world.state(rollout), world.why(rollout, &device)), ("halted", "SILENT"));
    world.online(n);
    world.carry_out(&device, None);
    world.tick();
    assert_eq!((world.state(rollout), world.why(rollout, &device)), ("halted", "CONFIRMED"));
}

#[test]
fn aborting_turns_devices_back_and_stays_aborted() {
    let mut world = World::new(3);
    let before = world.release("v0", 0);
    let rollout = world.start("v2", 2, &[]);
    let moved = world.tick();
    assert_eq!(moved.len(), 3);
    world.carry_out(&moved[0], None);
    world.fleet.abort_rollout(world.by(), rollout).unwrap();
    world.fleet.abort_rollout(world.by(), rollout).unwrap();
    world.restart();
    let turned = world.tick();
    assert_eq!(turned, moved[1..]);
    for device in &turned {
        let order = world.newest(device);
        assert_eq!(order.generation, 2);
        assert_eq!((order.models[0].action, order.models[0].release), (Action::Rollback, before));
        world.carry_out(device, None);
        assert_eq!(world.why(rollout, device), "REVERTED");
    }
    assert_eq!(world.tick(), []);
    assert_eq!(world.why(rollout, &moved[0]), "CONFIRMED");
    assert_eq!(world.state(rollout), "aborted");
}

#[test]
fn a_crash_at_every_commit_changes_nothing_in_the_end() {
    let end = |crash_at: Option<u64>| {
        let mut world = World::new(5);
        world.store.fail_after(crash_at.unwrap_or(u64::MAX));
        let spec = world.spec("v2", 2, &[Size::Count(2)]);
        let mut rollout = None;
        for _ in 0..30 {
            world.now_s += 1;
            if rollout.is_none() {
                rollout = world.fleet.start_rollout(world.by(), &spec).ok();
            }
            if world.fleet.tick(world.now_s).is_err() || rollout.is_none() {
                world.store.crash();
                world.restart();
                continue;
            }
            for device in world.deliver() {
                let order = world.newest(&device);
                let dev = world.devices.get_mut(&device).unwrap();
                dev.generation = order.generation;
                dev.running = Some(order.models[0].release);
                let (release, rollout) = (order.models[0].release, order.models[0].rollout);
                dev.last =
                    Some(Outcome { release, rollout, result: Ending::Confirmed, evidence: None });
                let state = dev.state();
                // Said again by whoever hears that it was not taken: here, at a restart.
                if world.fleet.handle_state(world.now_s, &device, &model(), &state).is_err() {
                    world.store.crash();
                    world.restart();
                }
            }
        }
        let states: Vec<_> = world.devices.values().map(|d| (d.running, d.orders.len())).collect();
        (world.state(rollout.unwrap()), states)
    };
    let expected = end(None);
    assert_eq!(expected.0, "succeeded");
    for crash_at in 0..16 {
        assert_eq!(end(Some(crash_at)), expected, "crash at commit {crash_at}");
    }
}

#[test]
fn repeated_reordered_and_foreign_reports_change_nothing() {
    let mut world = World::new(2);
    let rollout = world.start("v2", 2, &[]);
    let device = world.tick().remove(0);
    let old = world.devices.get_mut(&device).unwrap().state();
    world.carry_out(&device, None);
    let entries = world.fleet.journal(1000, None, None).unwrap().len();
    let newest = State { stamp: world.devices[&device].stamp, ..old.clone() };
    for state in [&old, &newest, &old] {
        world.fleet.handle_state(world.now_s, &device, &model(), state).unwrap();
    }
    assert_eq!(world.why(rollout, &device), "CONFIRMED");
    assert_eq!(world.fleet.journal(1000, None, None).unwrap().len(), entries);
    assert_eq!(world.fleet.ignored().old, 3);
    let stranger = DeviceId::new("stranger").unwrap();
    world.fleet.handle_state(world.now_s, &stranger, &model(), &old).unwrap();
    assert_eq!(world.fleet.ignored().unknown_device, 1);
    // A verdict about another release or another rollout is not ours.
    for (release, of) in [(world.release("v3", 3), rollout), (world.release("v2", 2), 99)] {
        let other = id(1);
        let dev = world.devices.get_mut(&other).unwrap();
        let result = Ending::RolledBack(Reason::Golden);
        dev.last = Some(Outcome { release, rollout: of, result, evidence: None });
        let state = dev.state();
        world.fleet.handle_state(world.now_s, &other, &model(), &state).unwrap();
        assert_ne!(world.why(rollout, &other), "ROLLED_BACK");
    }
    // Confirmed, but the engine runs something else.
    let other = id(1);
    let release = world.release("v2", 2);
    let dev = world.devices.get_mut(&other).unwrap();
    dev.last = Some(Outcome { release, rollout, result: Ending::Confirmed, evidence: None });
    let state = dev.state();
    world.fleet.handle_state(world.now_s, &other, &model(), &state).unwrap();
    assert_ne!(world.why(rollout, &other), "CONFIRMED");
}

#[test]
fn an_old_last_will_is_a_leftover() {
    let mut world = World::new(1);
    let online = |world: &World| world.fleet.device(&id(0)).unwrap().online;
    let will = world.devices.get_mut(&id(0)).unwrap().presence(false);
    world.devices.get_mut(&id(0)).unwrap().stamp = Stamp { epoch: 2, seq: 0 };
    world.online(0);
    world.fleet.handle_presence(world.now_s, &id(0), &will).unwrap();
    assert!(online(&world));
    world.offline(0);
    assert!(!online(&world));
    world.online(0);
    assert!(online(&world));
}

#[test]
fn pausing_holds_and_resuming_goes_on() {
    let mut world = World::new(4);
    let rollout = world.start("v2", 2, &[Size::Count(1)]);
    let device = world.tick().remove(0);
    world.fleet.pause_rollout(world.by(), rollout).unwrap();
    world.carry_out(&device, None);
    assert_eq!(world.tick(), []);
    world.restart();
    assert_eq!(world.tick(), []);
    assert_eq!(world.state(rollout), "paused");
    world.fleet.resume_rollout(world.by(), rollout).unwrap();
    assert_eq!(world.tick().len(), 3);
}

#[test]
fn publishing_keeps_the_order_of_counters() {
    let mut world = World::new(0);
    let mut publish = |manifest: &Manifest, key: &SigningKey| {
        let by = By { who: "anna", now_s: 1 };
        world
            .fleet
            .publish_release(by, &envelope(manifest, key))
            .map_err(|e| (e.kind(), e.to_string()))
    };
    assert!(publish(&manifest("v3", 3), &key()).is_ok(), "again");
    let (kind, text) = publish(&manifest("v4", 3), &key()).unwrap_err();
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(text.contains("counter 3 (v3)") && text.contains("with counter 4"), "{text}");
    let (kind, _) = publish(&manifest("v3", 9), &key()).unwrap_err();
    assert_eq!(kind, ErrorKind::Conflict);
    let (kind, _) = publish(&manifest("v4", 4), &SigningKey::from_bytes(&[8; 32])).unwrap_err();
    assert_eq!(kind, ErrorKind::Trust);
    let mut cut = manifest("v4", 4);
    cut.variants[0].model = manifest("v3", 3).variants[0].model;
    cut.variants[0].model.chunk_bytes *= 2;
    let (kind, text) = publish(&cut, &key()).unwrap_err();
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(text.contains("again with --chunk-bytes"), "{text}");
    let broken = Manifest { min_release: 9, ..manifest("v4", 4) };
    assert_eq!(publish(&broken, &key()).unwrap_err().0, ErrorKind::Trust);
    assert!(publish(&manifest("v4", 4), &key()).is_ok());
    assert_eq!(world.fleet.next_counter(&model()), 5);
    assert_eq!(world.fleet.find_release(&model(), "v4").unwrap().manifest.counter, 4);
    let digest = world.release("v4", 4).to_string();
    assert!(world.fleet.find_release(&model(), &digest[..8]).is_some());
    assert!(world.fleet.find_release(&model(), &digest[..7]).is_none());
}

#[test]
fn a_plan_is_exactly_what_then_happens() {
    let mut world = World::new(6);
    world.offline(5);
    let spec = world.spec("v2", 2, &[Size::Count(2)]);
    let preview = world.fleet.plan_rollout(&spec, world.now_s).unwrap();
    assert_eq!(preview.phases.len(), 2);
    assert_eq!(preview.phases[1].up_to, 6);
    assert_eq!(preview.later.len(), 1);
    assert!(preview.bytes_per_device > 2000);
    let rollout = world.fleet.start_rollout(world.by(), &spec).unwrap();
    assert_eq!(rollout, preview.rollout);
    let sorted = |devices: &[DeviceId]| {
        let mut devices = devices.to_vec();
        devices.sort();
        devices
    };
    let moved = world.tick();
    assert_eq!(sorted(&moved), sorted(&preview.phases[0].devices));
    for device in &moved {
        world.carry_out(device, None);
    }
    let moved = world.tick();
    assert_eq!(sorted(&moved), sorted(&preview.phases[1].devices[..3]));
}

#[test]
fn what_makes_no_sense_is_refused_with_the_mend() {
    let mut world = World::new(2);
    let good = world.spec("v2", 2, &[]);
    let refused = |spec: &RolloutSpec, fleet: &Fleet| {
        let error = fleet.plan_rollout(spec, 1000).unwrap_err();
        (error.kind(), error.to_string())
    };
    let spec = RolloutSpec { selector: "site=paris".parse().unwrap(), ..good.clone() };
    let (kind, text) = refused(&spec, &world.fleet);
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(text.contains("matches none of 2 devices; labels in use: site=berlin"), "{text}");
    let spec = RolloutSpec { release: Digest([9; 32]), ..good.clone() };
    assert_eq!(refused(&spec, &world.fleet).0, ErrorKind::NotFound);
    let spec = RolloutSpec { success_percent_min: 0, ..good.clone() };
    assert_eq!(refused(&spec, &world.fleet).0, ErrorKind::Usage);
    for n in 0..2 {
        world.devices.get_mut(&id(n)).unwrap().running = Some(good.release);
        world.online(n);
    }
    assert!(refused(&good, &world.fleet).1.contains("run it already"));
    let labels: Labels = [("id".to_owned(), "x".to_owned())].into();
    assert_eq!(
        world.fleet.add_device(world.by(), &id(9), &labels).unwrap_err().kind(),
        ErrorKind::Usage
    );
    assert!(world.fleet.label_device(world.by(), &id(9), &Labels::new(), &[]).is_err());
    assert!(world.fleet.abort_rollout(world.by(), 77).is_err());
}

#[test]
fn nothing_changes_when_the_store_fails() {
    let mut world = World::new(2);
    world.store.fail_after(0);
    let spec = world.spec("v2", 2, &[]);
    let error = world.fleet.start_rollout(world.by(), &spec).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(world.fleet.rollouts(world.now_s).is_empty());
    assert!(world.fleet.add_device(world.by(), &id(7), &Labels::new()).is_err());
    assert!(!world.fleet.has_device(&id(7)));
    world.store.crash();
    assert_eq!(world.fleet.start_rollout(world.by(), &spec).unwrap(), 1);
    world.store.fail_after(0);
    assert!(world.fleet.tick(world.now_s).is_err());
    assert!(!world.fleet.effects.iter().any(|e| matches!(e, Effect::SendOrder { .. })));
    world.store.crash();
    assert_eq!(world.tick().len(), 2);
}

#[test]
fn rotten_records_are_told_and_the_rest_goes_on() {
    let mut world = World::new(3);
    let rollout = world.start("v2", 2, &[]);
    world.tick();
    let order = id(1);
    assert!(world.store.rot(Kind::Order, order.as_str().as_bytes(), 77));
    assert!(world.store.rot(Kind::Device, id(2).as_str().as_bytes(), 99));
    assert!(world.store.rot(Kind::Meta, b"fleet", 50));
    world.fleet = open(&world.store, world.now_s);
    let journal = world.fleet.journal(1000, None, None).unwrap();
    assert_eq!(journal.iter().filter(|e| e.what == "store.rotten").count(), 3);
    assert!(!world.fleet.has_device(&id(2)));
    world.devices.remove(&id(2));
    world.deliver();
    // The lost order is made again, above the lost one.
    assert_eq!(world.tick(), std::slice::from_ref(&order));
    assert_eq!(world.newest(&order).generation, 2);
    assert_eq!(world.newest(&order).models[0].rollout, rollout);
    assert_eq!(world.tick(), []);
}
