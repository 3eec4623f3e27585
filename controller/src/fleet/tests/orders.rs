//! Orders and their generations: sent again with the same bytes until they are answered, above
//! what a device has seen or a lost store may have sent, renewed before they expire. A device
//! refuses a generation that it has passed, and would then hear no order at all.

use super::*;

fn worldwide() -> (World, RolloutId, DeviceId) {
    let mut world = World::new(1);
    let rollout = world.start("v2", 2, &[]);
    let device = world.tick().remove(0);
    (world, rollout, device)
}

#[test]
fn an_order_is_sent_again_with_the_same_bytes_after_anything() {
    let (mut world, _, device) = worldwide();
    let before = world.devices[&device].orders.clone();
    world.fleet.resend_all();
    assert_eq!(world.deliver(), []);
    world.restart();
    assert!(world.fleet.effects.contains(&Effect::Seed(world.release("v2", 2))));
    assert_eq!(world.deliver(), []);
    assert_eq!(world.tick(), []);
    assert_eq!(world.devices[&device].orders, before);
}

#[test]
fn a_device_that_is_ahead_gets_its_order_above_that() {
    let (mut world, _, device) = worldwide();
    world.devices.get_mut(&device).unwrap().generation = 41;
    world.online(0);
    // Even if the controller dies between hearing it and ordering.
    world.fleet = open(&world.store, world.now_s);
    world.deliver();
    assert_eq!(world.tick(), std::slice::from_ref(&device));
    let order = world.newest(&device);
    assert_eq!((order.generation, order.models[0].release), (42, world.release("v2", 2)));
    world.online(0);
    assert_eq!(world.tick(), []);
    // One that lies drives nothing to its end.
    world.devices.get_mut(&device).unwrap().generation = u64::MAX;
    world.online(0);
    assert_eq!(world.tick(), []);
}

#[test]
fn a_device_without_a_clock_gets_its_order_with_its_newest_nonce() {
    let (mut world, _, device) = worldwide();
    assert_eq!(world.newest(&device).nonce, None);
    let say = |world: &mut World, nonce: [u8; 16]| {
        let stamp = world.devices.get_mut(&device).unwrap().next();
        let said = Nonce { stamp, nonce };
        world.fleet.handle_nonce(world.now_s, &device, &said);
        said
    };
    let first = say(&mut world, [1; 16]);
    assert_eq!(world.tick(), std::slice::from_ref(&device));
    let order = world.newest(&device);
    assert_eq!((order.generation, order.nonce), (2, Some([1; 16])));
    // Said again, it is no news; and after a restart of ours the order keeps it.
    say(&mut world, [1; 16]);
    assert_eq!(world.tick(), []);
    world.restart();
    world.deliver();
    assert_eq!(world.tick(), []);
    // The next boot.
    say(&mut world, [2; 16]);
    world.fleet.handle_nonce(world.now_s, &device, &first);
    assert_eq!(world.tick(), std::slice::from_ref(&device));
    assert_eq!(world.newest(&device).nonce, Some([2; 16]), "an old one changes nothing");
    // What comes next carries it too.
    world.start("v3", 3, &[]);
    world.tick();
    assert_eq!(world.newest(&device).nonce, Some([2; 16]));
}

#[test]
fn a_stale_answer_is_believed_once_and_only_about_the_order_in_force() {
    let (mut world, _, device) = worldwide();
    let payload = world.devices[&device].orders[&1].clone();
    let refused = Some(Reason::Stale);
    let ack = world.devices.get_mut(&device).unwrap().ack(&payload, refused);
    world.fleet.handle_ack(world.now_s, &device, &ack).unwrap();
    world.fleet.handle_ack(world.now_s, &device, &ack).unwrap();
    assert_eq!(world.tick(), std::slice::from_ref(&device));
    // It took that one; a second delivery of it is stale, and no reason for another.
    let payload = world.devices[&device].orders[&2].clone();
    for refused in [None, refused] {
        let ack = world.devices.get_mut(&device).unwrap().ack(&payload, refused);
        world.fleet.handle_ack(world.now_s, &device, &ack).unwrap();
    }
    assert!(world.fleet.device(&device).unwrap().taken);
    assert_eq!(world.tick(), []);
    // So after a restart, when only the state tells that it was taken.
    world.carry_out(&device, None);
    world.restart();
    world.deliver();
    let ack = world.devices.get_mut(&device).unwrap().ack(&payload, refused);
    world.fleet.handle_ack(world.now_s, &device, &ack).unwrap();
    assert_eq!(world.tick(), []);
}

#[test]
fn an_order_that_is_refused_is_a_failure() {
    let (mut world, rollout, device) = worldwide();
    let payload = world.devices[&device].orders[&1].clone();
    let ack = world.devices.get_mut(&device).unwrap().ack(&payload, Some(Reason::Untrusted));
    world.fleet.handle_ack(world.now_s, &device, &ack).unwrap();
    world.tick();
    assert_eq!((world.state(rollout), world.why(rollout, &device)), ("halted", "FAILED"));
    assert_eq!(world.fleet.device(&device).unwrap().refused, Some(Reason::Untrusted));
}

#[test]
fn orders_are_renewed_before_they_expire_and_bad_ones_are_not() {
    let (mut world, _, device) = worldwide();
    world.carry_out(&device, None);
    let expires_s = world.newest(&device).expires_s;
    world.now_s += ORDER_LIFE_S / 3 * 2 - 1;
    assert_eq!(world.tick(), []);
    world.now_s += 1;
    assert_eq!(world.tick(), std::slice::from_ref(&device));
    let order = world.newest(&device);
    assert_eq!(order.generation, 2);
    assert!(order.expires_s > expires_s);
    assert_eq!(world.tick(), []);

    let (mut world, _, device) = worldwide();
    world.carry_out(&device, Some(Reason::Golden));
    world.now_s += ORDER_LIFE_S;
    assert_eq!(world.tick(), []);
}

#[test]
fn an_order_names_every_model_and_lets_go_of_what_was_halted() {
    let mut world = World::new(1);
    let faces = ModelName::new("faces").unwrap();
    let other = Manifest { model: faces.clone(), ..manifest("f1", 1) };
    let release = world.fleet.publish_release(world.by(), &envelope(&other, &key())).unwrap();
    let digits = world.start("v2", 2, &[]);
    let device = world.tick().remove(0);
    let version = Version::new("f1").unwrap();
    let spec = RolloutSpec::new(faces.clone(), release, version, Selector::all());
    world.fleet.start_rollout(world.by(), &spec).unwrap();
    world.tick();
    let names = |world: &World| {
        let order = world.newest(&device);
        order.models.iter().map(|m| m.model.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&world), ["digits", "faces"]);
    world.fleet.abort_rollout(world.by(), digits).unwrap();
    world.tick();
    let order = world.newest(&device);
    assert_eq!(order.models[0].action, Action::Rollback);
    assert_eq!(order.models[1].action, Action::Run);
}

#[test]
fn a_removed_device_counts_no_more_and_may_come_back() {
    let mut world = World::new(3);
    let rollout = world.start("v2", 2, &[]);
    let moved = world.tick();
    world.fleet.remove_device(world.by(), &moved[0]).unwrap();
    assert!(world.fleet.effects.contains(&Effect::ClearOrder(moved[0].clone())));
    world.carry_out(&moved[1], None);
    world.carry_out(&moved[2], None);
    world.tick();
    assert_eq!(world.state(rollout), "succeeded");
    assert_eq!(world.why(rollout, &moved[0]), "LEFT");
    let generation = *world.devices[&moved[0]].orders.keys().next_back().unwrap();
    world.devices.get_mut(&moved[0]).unwrap().generation = generation;
    world.fleet.add_device(world.by(), &moved[0], &Labels::new()).unwrap();
    world.online((0..3).find(|n| id(*n) == moved[0]).unwrap());
    let next = world.start("v3", 3, &[]);
    assert_eq!(world.tick().len(), 3);
    assert_eq!(world.newest(&moved[0]).generation, generation + 1);
    assert_eq!(world.state(next), "running");
}

#[test]
fn a_rewound_store_pauses_rollouts_and_numbers_go_on_above_what_was_lost() {
    let mut world = World::new(2);
    let rollout = world.start("v2", 2, &[Size::Count(1)]);
    let device = world.tick().remove(0);
    world.fleet = open(&world.store, world.now_s);
    world.fleet.recover_rewound(world.by(), 10).unwrap();
    world.online(0);
    world.online(1);
    assert_eq!(
        world.tick(),
        std::slice::from_ref(&device),
        "its order again, above what it may have seen"
    );
    assert_eq!(world.newest(&device).generation, 12);
    world.carry_out(&device, None);
    assert_eq!(world.tick(), []);
    assert_eq!(world.state(rollout), "paused");
    world.fleet.resume_rollout(world.by(), rollout).unwrap();
    assert_eq!(world.tick().len(), 1);
    assert_eq!(world.start("v3", 3, &[]), rollout + 11);
}

#[test]
fn an_order_that_nobody_heard_of_is_sent_again_until_it_is_answered() {
    let (mut world, _, device) = worldwide();
    let sent = |world: &mut World, after_s: u64| {
        world.effects.clear();
        world.now_s += after_s;
        world.tick();
        let sent = world.effects.iter().filter(|e| matches!(e, Effect::SendOrder { .. }));
        sent.count()
    };
    assert_eq!(sent(&mut world, RESEND_S - 1), 0);
    assert_eq!(sent(&mut world, 1), 1);
    let payload = world.devices[&device].orders[&1].clone();
    let answer = |world: &mut World, refused| {
        let ack = world.devices.get_mut(&device).unwrap().ack(&payload, refused);
        world.fleet.handle_ack(world.now_s, &device, &ack).unwrap();
    };
    answer(&mut world, Some(Reason::DiskFull));
    assert_eq!(sent(&mut world, RESEND_S), 1);
    answer(&mut world, Some(Reason::Untrusted));
    assert_eq!(sent(&mut world, RESEND_S), 0);
    answer(&mut world, None);
    assert_eq!(sent(&mut world, RESEND_S), 0);
}
