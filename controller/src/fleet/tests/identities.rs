//! Tokens, keys and revocation: good once, bound to the id, durable, and final.

use fleetway_protocol::enroll::{Refusal, Token};
use rcgen::{KeyPair, PublicKeyData as _};

use super::*;
use crate::pki::DeviceKey;

pub(super) fn device_key() -> DeviceKey {
    DeviceKey::from_point(KeyPair::generate().unwrap().der_bytes()).unwrap()
}

fn token(n: u8) -> Digest {
    Token([n; 16]).digest(&id(0))
}

impl World {
    pub(super) fn invite(&mut self, n: u8) -> u64 {
        let by = self.by();
        self.fleet.invite_device(by, &id(0), &Labels::new(), token(n), true).unwrap()
    }

    pub(super) fn enroll(&mut self, n: u8, key: &DeviceKey) -> Result<(), Refusal> {
        let ends_s = self.now_s + 100;
        match self.fleet.enroll_device(self.now_s, &id(0), &token(n), key, ends_s) {
            Ok(()) => Ok(()),
            Err(EnrollError::Refused(refusal)) => Err(refusal),
            Err(EnrollError::Fleet(failed)) => panic!("{failed}"),
        }
    }

    pub(super) fn renew(&mut self, key: &DeviceKey) -> Result<(), Refusal> {
        match self
            .fleet
            .renew_device(self.now_s, &id(0), self.now_s + 100, |enrolled| enrolled == key)
        {
            Ok(_) => Ok(()),
            Err(EnrollError::Refused(refusal)) => Err(refusal),
            Err(EnrollError::Fleet(failed)) => panic!("{failed}"),
        }
    }

    fn reopen(&mut self) {
        self.fleet = open(&self.store, self.now_s);
    }
}

#[test]
fn a_token_is_good_once_and_again_for_the_key_that_used_it() {
    let mut world = World::new(0);
    let (key, other) = (device_key(), device_key());
    assert_eq!(world.enroll(1, &key), Err(Refusal::Token), "nobody was invited");
    world.invite(1);
    world.reopen();
    assert_eq!(world.enroll(1, &key), Ok(()));
    world.reopen();
    assert_eq!(world.enroll(1, &key), Ok(()), "the answer was lost");
    assert_eq!(world.enroll(1, &other), Err(Refusal::TokenUsed));
    assert_eq!(world.renew(&key), Ok(()));
    assert_eq!(world.renew(&other), Err(Refusal::OtherKey));
    // Set up anew: the old key is out.
    world.invite(2);
    assert_eq!(world.enroll(1, &key), Err(Refusal::Token), "void since there is a newer one");
    assert_eq!(world.enroll(2, &other), Ok(()));
    assert_eq!(world.renew(&key), Err(Refusal::OtherKey));
}

#[test]
fn a_token_ends_by_time_and_by_guesses() {
    let mut world = World::new(0);
    let key = device_key();
    let until_s = world.invite(1);
    world.now_s = until_s;
    assert_eq!(world.enroll(1, &key), Err(Refusal::TokenExpired));
    world.invite(2);
    for _ in 0..TOKEN_TRIES {
        assert_eq!(world.enroll(9, &key), Err(Refusal::Token));
    }
    world.reopen();
    assert_eq!(world.enroll(2, &key), Err(Refusal::TokenLocked), "counted durably");
    world.invite(3);
    assert_eq!(world.enroll(3, &key), Ok(()));
}

#[test]
fn a_revoked_device_gets_nothing_and_is_not_heard() {
    let mut world = World::new(2);
    let key = device_key();
    world.invite(1);
    world.enroll(1, &key).unwrap();
    world.online(0);
    let rollout = world.start("v1", 1, &[Size::Percent(100)]);
    assert_eq!(world.tick(), [id(0), id(1)]);
    world.fleet.revoke_device(world.by(), &id(0)).unwrap();
    world.effects.clear();
    world.deliver();
    let cleared = |e: &Effect| matches!(e, Effect::ClearOrder(device) if *device == id(0));
    let cut = |e: &Effect| matches!(e, Effect::Identity(view) if view.device == id(0) && view.revoked_s.is_some());
    assert!(world.effects.iter().any(cleared) && world.effects.iter().any(cut));

    // What it says counts for nothing; the rollout ends without it.
    world.carry_out(&id(0), None);
    world.online(0);
    assert!(world.fleet.ignored().revoked >= 2);
    assert!(!world.fleet.device(&id(0)).unwrap().online);
    world.carry_out(&id(1), None);
    world.now_s += 10;
    world.tick();
    assert_eq!(world.state(rollout), "succeeded");
    // No renewal, no way back, and a restart or a reconnect changes nothing of it.
    for _ in 0..2 {
        assert_eq!(world.renew(&key), Err(Refusal::Revoked));
        assert_eq!(world.enroll(1, &key), Err(Refusal::Token));
        world.effects.clear();
        world.fleet.resend_all();
        let got = world.deliver();
        assert!(!got.contains(&id(0)) && world.effects.iter().any(cut), "{got:?}");
        assert!(world.effects.iter().any(cleared));
        world.reopen();
    }
    world.online(1);
    world.start("v2", 2, &[Size::Percent(100)]);
    assert_eq!(world.tick(), [id(1)]);
    // A new string lets a new key in. Where the broker cannot tell keys apart, only when the
    // old certificate is over.
    let by = world.by();
    let early = world.fleet.invite_device(by, &id(0), &Labels::new(), token(2), false);
    assert!(matches!(early, Err(DeviceError::StillValid { .. })));
    world.now_s += 200;
    let by = world.by();
    world.fleet.invite_device(by, &id(0), &Labels::new(), token(2), false).unwrap();
    assert_eq!(world.renew(&key), Err(Refusal::Revoked), "invited is not joined");
    let new = device_key();
    assert_eq!(world.enroll(2, &new), Ok(()));
    assert_eq!(world.renew(&key), Err(Refusal::OtherKey));
    assert_eq!(world.renew(&new), Ok(()));
    assert!(world.fleet.device(&id(0)).unwrap().identity.revoked_s.is_none());
}
