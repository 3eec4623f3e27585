//! Every decision is an entry of the audit log, with who and, where something was signed, by whom.
//! (The operator's own verbs are in `tests/tests/e2e_audit/verbs.rs`.)

use super::identities::device_key;
use super::*;

/// Who, what, what the sentence says, whose signature.
type Expected = (&'static str, &'static str, &'static str, Option<&'static str>);

fn check(world: &World, expected: &[Expected]) {
    let journal = world.fleet.journal(1000, None, None).unwrap();
    for (who, what, says, key) in expected {
        let found = journal.iter().any(|entry| {
            let (by, of) = (entry.who == *who, entry.what == *what);
            by && of && entry.text.contains(says) && entry.key.as_deref() == *key
        });
        assert!(found, "no {what} by {who} with {says:?} and {key:?} in {journal:#?}");
    }
}

#[test]
fn what_the_planner_decides() {
    let mut world = World::new(6);
    world.fleet.set_director("dd".into());
    let good = world.start("v2", 2, &[Size::Count(1), Size::Count(6)]);
    while world.state(good) == "running" {
        for device in world.tick() {
            world.carry_out(&device, None);
        }
    }
    let bad = world.start("v3", 3, &[Size::Count(2)]);
    let moved = world.tick();
    world.carry_out(&moved[0], Some(Reason::HealthCollapse));
    world.tick();
    assert_eq!(world.state(bad), "halted");
    check(
        &world,
        &[
            ("anna", "rollout.start", "started rollout 1", None),
            ("planner", "order", "to cam-", Some("dd")),
            ("planner", "rollout.state", "rollout 1 enters phase 2", None),
            ("planner", "rollout.state", "rollout 1 is succeeded", None),
            ("fleet", "verdict", "on", None),
            ("planner", "rollout.state", "rollout 2 is halted", None),
        ],
    );

    let mut world = World::new(2);
    let rollout = world.start("v2", 2, &[Size::Count(1)]);
    let device = world.tick().remove(0);
    let n = (0..2).find(|n| id(*n) == device).unwrap();
    world.offline(n);
    world.now_s += 48 * 3600;
    world.tick();
    assert_eq!(world.state(rollout), "halted");
    check(&world, &[("planner", "verdict", "silent for too long", None)]);
}

#[test]
fn who_was_let_in_and_who_was_not() {
    let mut world = World::new(1);
    world.fleet.set_issuer("ca".into());
    let (key, by) = (device_key(), world.by());
    // A key comes in once: the one that joins is another.
    world.fleet.register_key(by, &id(0), &device_key(), 2000).unwrap();
    world.invite(1);
    world.enroll(9, &key).unwrap_err();
    world.enroll(1, &key).unwrap();
    world.renew(&key).unwrap();
    world.fleet.revoke_device(by, &id(0)).unwrap();
    check(
        &world,
        &[
            ("anna", "device.key", "was given the key", Some("ca")),
            ("anna", "device.enroll", "may join", None),
            ("enrolment", "device.token", "a wrong token", None),
            ("enrolment", "device.join", "joined with the key", Some("ca")),
            ("enrolment", "device.renew", "certificate until 1970-01-01T", Some("ca")),
            ("anna", "device.revoke", "revoked", None),
        ],
    );
}
