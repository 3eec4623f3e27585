//! A release that is bad on one class of hardware: found in what devices counted, kept over a
//! restart, held to by every rollout, and lifted by a person.

use fleetway_protocol::counters::Answer;
use fleetway_protocol::ids::HardwareClass;
use fleetway_protocol::report::Telemetry;
use fleetway_protocol::telemetry::Numbered;

use super::*;
use crate::planner::analysis::{GateSpec, Metric};
use crate::planner::{HaltScope, Why};

const DEVICES: usize = 40;
/// Requests in each report.
const REQUESTS: u64 = 300;

fn class(n: usize) -> HardwareClass {
    HardwareClass::new(["orin", "pi5"][n % 2]).unwrap()
}

fn say_what_they_are(world: &mut World) {
    for n in 0..DEVICES {
        let presence = world.devices.get_mut(&id(n)).unwrap().presence(true);
        let presence = Presence { hardware: Some(class(n)), ..presence };
        world.fleet.handle_presence(world.now_s, &id(n), &presence).unwrap();
    }
}

/// Everybody tells what was counted since its model was loaded; of `bad` every third on a pi5 fails.
fn tell(world: &mut World, number: u64, requests: u64, bad: Digest) {
    for n in 0..DEVICES {
        let dev = world.devices.get_mut(&id(n)).unwrap();
        let running = dev.running.unwrap();
        let mut telemetry = Telemetry::new(running);
        telemetry.stamp = dev.next();
        telemetry.numbered = Numbered { series: 1, number, first: 1, time_s: world.now_s };
        for at in 0..requests {
            let fails = running == bad && n % 2 == 1 && at % 3 == 0;
            let answer = if fails { Answer::failed(900) } else { Answer::ok(900, None) };
            telemetry.counters.record(&answer);
        }
        world.fleet.handle_telemetry(world.now_s, &id(n), &model(), &telemetry);
    }
}

/// Ticks until nobody new gets an order; who got one carries it out. How many of each class did.
fn carried_out(world: &mut World) -> [usize; 2] {
    let mut by_class = [0; 2];
    loop {
        let got = world.tick();
        if got.is_empty() {
            return by_class;
        }
        for device in got {
            let n: usize = device.as_str().trim_start_matches("cam-").parse().unwrap();
            by_class[n % 2] += 1;
            world.carry_out(&device, None);
        }
    }
}

fn noted(world: &World, what: &str) -> usize {
    let lines = world.fleet.journal(10_000, None, None).unwrap();
    lines.iter().filter(|line| line.what == what).count()
}

#[test]
fn what_is_bad_on_a_class_is_offered_to_it_by_nobody_until_a_person_lifts_it() {
    let mut world = World::new(DEVICES);
    say_what_they_are(&mut world);
    let bad = world.release("v1", 1);
    let spec = RolloutSpec {
        halt: HaltScope::Class,
        gates: vec![GateSpec::of(Metric::ErrorRate)],
        ..world.spec("v1", 1, &[Size::Percent(50)])
    };
    let first = world.fleet.start_rollout(world.by(), &spec).unwrap();
    let canaries = world.tick();
    assert_eq!(canaries.len(), DEVICES / 2);
    tell(&mut world, 1, 0, bad);
    canaries.iter().for_each(|device| world.carry_out(device, None));
    world.now_s += 90;
    tell(&mut world, 2, REQUESTS, bad);

    let later = carried_out(&mut world);
    assert!(later[0] > 0 && later[1] == 0, "only the good class went on: {later:?}");
    let known = world.fleet.known_bad();
    assert_eq!(known.len(), 1, "{known:?}");
    assert_eq!((&known[0].class, known[0].release, known[0].rollout), (&class(1), bad, first));
    assert_eq!((world.state(first), noted(&world, "release.bad")), ("succeeded", 1));

    // It is durable, and other rollouts hold to it.
    world.restart();
    say_what_they_are(&mut world);
    assert_eq!(world.fleet.known_bad(), known);
    let spec = world.spec("v1", 1, &[]);
    let refused = world.fleet.start_rollout(world.by(), &spec);
    let Err(RolloutError::NothingMoves { out, .. }) = refused else { panic!("{refused:?}") };
    let barred = out.iter().filter(|(_, why)| matches!(why, Why::KnownBad { .. })).count();
    let left = |n: &usize| n % 2 == 1 && world.devices[&id(*n)].running != Some(bad);
    assert_eq!(barred, (0..DEVICES).filter(left).count(), "{out:?}");
    assert!(barred > 0, "not every pi5 was a canary");

    // Lifting wants a reason, is on record, and changes nothing for the rollout that found out.
    let refused = world.fleet.lift_known_bad(world.by(), bad, &class(1), " ");
    assert!(matches!(refused, Err(KnownBadError::NoReason)), "{refused:?}");
    let refused = world.fleet.lift_known_bad(world.by(), bad, &class(0), "it is fine");
    assert!(matches!(refused, Err(KnownBadError::Unknown { .. })), "{refused:?}");
    world.fleet.lift_known_bad(world.by(), bad, &class(1), "the driver was old").unwrap();
    assert_eq!(noted(&world, "release.lift"), 1);
    world.restart();
    say_what_they_are(&mut world);
    assert!(world.fleet.known_bad()[0].lifted_s.is_some());
    let third = world.start("v1", 1, &[]);
    let offered = carried_out(&mut world);
    assert_eq!((offered[0], world.state(third)), (0, "succeeded"));
    assert!(offered[1] > 0, "the class is offered it again");
}
