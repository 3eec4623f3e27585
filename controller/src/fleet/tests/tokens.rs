//! Tokens and notes of commands: durable, bounded, and final.

use super::*;
use crate::access::{LIFE_S_MAX, Role, Secret};
use crate::fleet::{Begun, Kept, ONCE_S, TokenError};

fn digest(n: u8) -> Digest {
    Secret::new([n; 32]).digest()
}

#[test]
fn a_token_is_durable_named_once_and_revoked_for_good() {
    let mut world = World::new(1);
    let make = |world: &mut World, name: &str, life_s| {
        let by = world.by();
        world.fleet.create_token(by, name, Role::Operator, digest(1), life_s)
    };
    let made = make(&mut world, "ci", 60).unwrap();
    assert_eq!(made.expires_s, world.now_s + 60);
    assert!(matches!(make(&mut world, "ci", 60), Err(TokenError::Exists(_))));
    for name in ["", "a b", "a/b", "ä", &"a".repeat(65)] {
        assert!(matches!(make(&mut world, name, 60), Err(TokenError::Name(_))), "{name}");
    }
    for life_s in [0, LIFE_S_MAX + 1] {
        assert!(matches!(make(&mut world, "x", life_s), Err(TokenError::Life)), "{life_s}");
    }
    world.restart();
    assert_eq!(world.fleet.tokens(), [made]);
    let by = world.by();
    world.fleet.revoke_token(by, "ci").unwrap();
    assert!(matches!(world.fleet.revoke_token(by, "ci"), Err(TokenError::NotFound(_))));
    world.restart();
    assert_eq!(world.fleet.tokens(), []);
}

/// Otherwise a revocation that was lost would let somebody in again.
#[test]
fn a_store_that_lost_its_end_has_no_tokens() {
    let mut world = World::new(1);
    let by = world.by();
    world.fleet.create_token(by, "ci", Role::Admin, digest(1), 60).unwrap();
    world.fleet.recover_rewound(by, 1).unwrap();
    assert_eq!(world.fleet.tokens(), []);
    world.restart();
    assert_eq!(world.fleet.tokens(), []);
}

#[test]
fn a_command_is_begun_once_and_its_answer_is_kept_for_a_day() {
    let mut world = World::new(1);
    let kept = Kept { status: 200, tag: None, location: None, body: b"{}".to_vec() };
    let begin = |world: &mut World, key, request| {
        let now_s = world.now_s;
        world.fleet.begin_once(now_s, digest(key), digest(request)).unwrap()
    };
    assert_eq!(begin(&mut world, 1, 10), Begun::New);
    // Under way, or we died under it: either way nobody does it again.
    assert_eq!(begin(&mut world, 1, 10), Begun::Unknown);
    world.restart();
    assert_eq!(begin(&mut world, 1, 10), Begun::Unknown);
    let now_s = world.now_s;
    world.fleet.end_once(now_s, digest(1), digest(10), Some(Some(kept.clone()))).unwrap();
    world.restart();
    assert_eq!(begin(&mut world, 1, 10), Begun::Before(kept));
    assert_eq!(begin(&mut world, 1, 11), Begun::OtherRequest);
    assert_eq!(begin(&mut world, 2, 10), Begun::New, "another key");
    // Nothing was done: it may be asked again.
    world.fleet.end_once(now_s, digest(2), digest(10), Some(None)).unwrap();
    assert_eq!(begin(&mut world, 2, 10), Begun::New);
    world.now_s += ONCE_S;
    assert_eq!(begin(&mut world, 1, 11), Begun::New, "a day later");
}
