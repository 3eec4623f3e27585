//! Telemetry at the controller: late reports count and do not show, each counts once, also over a
//! restart, and what dashboards hear is what was accepted.

use super::*;
use crate::mirror::home_assistant::HomeAssistant;
use fleetway_protocol::report::Telemetry;
use fleetway_protocol::telemetry::{Heard, Numbered, Span};
use serde_json::Value;

fn said(epoch: u64, number: u64, first: u64, requests: u64) -> Telemetry {
    let mut telemetry = Telemetry::new(Digest([9; 32]));
    telemetry.stamp = Stamp { epoch, seq: number };
    telemetry.numbered = Numbered { series: 1, number, first, time_s: number };
    telemetry.counters.requests = requests;
    telemetry
}

fn tell(world: &mut World, telemetry: &Telemetry) {
    world.fleet.handle_telemetry(world.now_s, &id(0), &model(), telemetry);
}

fn totals(world: &World) -> (u64, u64, u64) {
    let ReportTotals { produced, delivered, lost } = world.fleet.report_totals(&id(0)).unwrap();
    (produced, delivered, lost)
}

fn shown(world: &World) -> u64 {
    let view = world.fleet.device(&id(0)).unwrap();
    view.models[&model()].telemetry.as_ref().map_or(0, |view| view.counters.requests)
}

/// Messages for dashboards so far, under a topic.
fn mirrored(world: &mut World, topic: &str) -> Vec<Value> {
    let all = std::iter::from_fn(|| world.fleet.poll_mirror());
    let of: Vec<_> = all.filter(|message| message.topic.ends_with(topic)).collect();
    of.iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect()
}

#[test]
fn a_late_report_counts_and_does_not_show() {
    let mut world = World::new(1);
    tell(&mut world, &said(2, 5, 1, 50));
    assert_eq!((totals(&world), shown(&world)), ((5, 1, 0), 50));
    // Of the boot before, and it says so in its own time.
    for number in [1, 2, 2, 3] {
        tell(&mut world, &said(1, number, 1, 1_000 + number));
    }
    assert_eq!((totals(&world), shown(&world)), ((5, 4, 0), 50));
    assert_eq!(world.fleet.ignored().old, 1, "the repetition");
    // What the device gave up is lost; what comes after all is not.
    tell(&mut world, &said(2, 6, 6, 60));
    assert_eq!((totals(&world), shown(&world)), ((6, 5, 1), 60));
    tell(&mut world, &said(1, 4, 6, 0));
    assert_eq!(totals(&world), (6, 5, 1), "a report that was given up stays lost");
}

#[test]
fn a_device_is_answered_when_its_book_is_durable() {
    let mut world = World::new(2);
    let answer = |through, lost, above: &[(u64, u64)]| {
        let above = above.iter().map(|(from, to)| Span { from: *from, to: *to }).collect();
        Heard { device: id(0), series: 1, through, lost, above }
    };
    tell(&mut world, &said(1, 1, 1, 1));
    assert_eq!(world.fleet.settle(world.now_s).unwrap(), []);
    world.now_s += 10;
    assert_eq!(world.fleet.settle(world.now_s).unwrap(), [answer(1, 0, &[])]);
    assert_eq!(world.fleet.settle(world.now_s + 99).unwrap(), [], "nothing new");
    // Eight reports do not wait for the clock.
    for number in [3, 4, 5, 6, 7, 9, 10, 12] {
        tell(&mut world, &said(1, number, 1, number));
    }
    let above = [(3, 7), (9, 10), (12, 12)];
    assert_eq!(world.fleet.settle(world.now_s).unwrap(), [answer(1, 0, &above)]);
    // What was answered is known after a restart; what was not comes again and counts then.
    tell(&mut world, &said(1, 8, 1, 8));
    assert_eq!(totals(&world), (12, 10, 0));
    world.restart();
    assert_eq!(totals(&world), (12, 9, 0));
    tell(&mut world, &said(1, 12, 1, 12));
    tell(&mut world, &said(1, 8, 1, 8));
    assert_eq!(totals(&world), (12, 10, 0));
    // Nobody of ours, and nobody's any more.
    let strange = DeviceId::new("strange").unwrap();
    world.fleet.handle_telemetry(world.now_s, &strange, &model(), &said(1, 1, 1, 1));
    assert_eq!(world.fleet.ignored().unknown_device, 1);
    world.fleet.remove_device(world.by(), &id(0)).unwrap();
    assert_eq!(world.fleet.report_totals(&id(0)), None);
    world.fleet = open(&world.store, world.now_s);
    world.fleet.add_device(world.by(), &id(0), &Labels::new()).unwrap();
    assert_eq!(totals(&world), (0, 0, 0), "another device of that name begins anew");
}

#[test]
fn dashboards_hear_what_was_accepted() {
    let mut world = World::new(1);
    assert_eq!(world.fleet.poll_mirror(), None, "off unless switched on");
    world.fleet.set_mirror(true);
    world.fleet.mirror_all(world.now_s);
    assert_eq!(mirrored(&mut world, "/on"), [1]);
    let rollout = world.start("v2", 2, &[]);
    let device = world.tick().remove(0);
    // It begins, and says so twice; then it is done.
    let target = world.release("v2", 2);
    for _ in 0..2 {
        let dev = world.devices.get_mut(&device).unwrap();
        let state = State { phase: Phase::Download, target: Some(target), ..dev.state() };
        world.fleet.handle_state(world.now_s, &device, &model(), &state).unwrap();
        // The same words again are no news, to anybody.
        world.fleet.handle_state(world.now_s, &device, &model(), &state).unwrap();
    }
    world.carry_out(&device, Some(Reason::HealthCollapse));
    let events = mirrored(&mut world, "/ev");
    let of: Vec<_> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(of, ["started", "rolled_back"]);
    assert_eq!((&events[1]["version"], &events[1]["rollout"]), (&"v2".into(), &rollout.into()));
    assert_eq!(events[1]["code"], Reason::HealthCollapse.code());
    // Telemetry: live, late, lost.
    for (number, first, requests) in [(2, 1, 20), (1, 1, 10), (5, 5, 50)] {
        tell(&mut world, &said(1, number, first, requests));
    }
    let messages: Vec<_> = std::iter::from_fn(|| world.fleet.poll_mirror()).collect();
    let read = |end: &str| -> Vec<Value> {
        let of = messages.iter().filter(|message| message.topic.contains(end));
        of.map(|message| serde_json::from_slice(&message.payload).unwrap()).collect()
    };
    let telemetry = read("/tm/");
    let late: Vec<_> = telemetry.iter().map(|said| said["late"].as_u64().unwrap()).collect();
    let of: Vec<_> = telemetry.iter().map(|said| said["ts"].as_u64().unwrap()).collect();
    assert_eq!((late, of), (vec![0, 1, 0], vec![2_000, 1_000, 5_000]));
    assert_eq!(telemetry[2]["infer_total"], 50);
    assert_eq!(read("/ev")[0]["lost"], 2);
    // An order that it will not take, and then it goes.
    let payload = world.devices[&device].orders.values().next_back().unwrap().clone();
    let ack = world.devices.get_mut(&device).unwrap().ack(&payload, Some(Reason::WrongHardware));
    world.fleet.handle_ack(world.now_s, &device, &ack).unwrap();
    world.offline(0);
    assert_eq!(mirrored(&mut world, "/ev").iter().filter(|e| e["kind"] == "refused").count(), 1);
    world.online(0);
    world.offline(0);
    assert_eq!(mirrored(&mut world, "/on"), [0], "only the last counts");
}

#[test]
fn home_assistant_is_told_of_a_device_when_there_is_news() {
    let mut world = World::new(2);
    let bridge = HomeAssistant { root: "f/".into(), page: None };
    world.fleet.set_home_assistant(Some(bridge.clone()));
    world.fleet.mirror_all(world.now_s);
    world.online(0);
    assert_eq!(world.fleet.poll_mirror(), None, "nothing without a mirror");
    // Of a new fleet: devices that were not heard since the start are not told of.
    world.fleet = open(&world.store, world.now_s);
    world.fleet.set_home_assistant(Some(bridge));
    world.fleet.set_mirror(true);
    world.fleet.mirror_all(world.now_s);
    assert_eq!(mirrored(&mut world, "/config"), [Value::Null; 0]);
    world.online(0);
    let told = mirrored(&mut world, "fleetway_cam-00/config");
    assert_eq!(told.len(), 1, "{told:?}");
    let update = format!("{}_update", model());
    assert!(told[0]["components"].get(&update).is_some(), "{}", told[0]);
    // The same once more is no news, but a broker that may have forgotten hears it again.
    world.offline(0);
    world.online(0);
    assert_eq!(mirrored(&mut world, "/config").len(), 0);
    world.fleet.mirror_all(world.now_s);
    assert_eq!(mirrored(&mut world, "/config"), told);
    // It leaves.
    world.fleet.remove_device(world.by(), &id(0)).unwrap();
    let mut gone = std::iter::from_fn(|| world.fleet.poll_mirror());
    let gone = gone.find(|message| message.topic.ends_with("fleetway_cam-00/config")).unwrap();
    assert!(gone.payload.is_empty() && gone.retain);
}
