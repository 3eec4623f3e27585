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
            Ok(_) => Ok(()),
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
    // A key enrols once: by it a report is of one enrolment.
    world.invite(3);
    for used in [&key, &other] {
        assert_eq!(world.enroll(3, used), Err(Refusal::KeyUsed));
    }
    assert_eq!(world.enroll(3, &device_key()), Ok(()), "the token was not spent");
}

/// A device with a key that carries an order out, and its order's generation.
fn ordered(key: &DeviceKey) -> (World, RolloutId, Generation) {
    let mut world = World::new(1);
    let by = world.by();
    let floor = world.fleet.register_key(by, &id(0), key, world.now_s + 1000).unwrap();
    assert_eq!((floor.generation, floor.epoch), (0, 0), "nothing was ever ordered");
    world.online(0);
    let rollout = world.start("v2", 2, &[]);
    assert_eq!(world.tick(), [id(0)]);
    let generation = world.newest(&id(0)).generation;
    (world, rollout, generation)
}

#[test]
fn a_new_key_begins_a_new_sequence() {
    let key = device_key();
    let (mut world, rollout, generation) = ordered(&key);
    let dev = world.devices.get_mut(&id(0)).unwrap();
    dev.stamp = Stamp { epoch: 0, seq: 0 };
    world.carry_out(&id(0), None);
    assert_eq!(world.why(rollout, &id(0)), "IN_PROGRESS", "its stamps are old");
    let new = device_key();
    let floor = world.fleet.register_key(world.by(), &id(0), &new, world.now_s + 1000).unwrap();
    assert!(floor.generation > generation, "every order so far is old");
    assert!(world.fleet.is_from(&id(0), Some(&new.digest())));
    for other in [Some(key.digest()), None] {
        assert!(!world.fleet.is_from(&id(0), other.as_ref()), "the key before, or none");
    }
    assert_eq!(world.fleet.ignored().other_key, 2);
    // Whatever is forgotten in between, the order comes again above the floor.
    world.reopen();
    world.devices.get_mut(&id(0)).unwrap().generation = floor.generation;
    world.online(0);
    assert_eq!(world.tick(), [id(0)]);
    assert!(world.newest(&id(0)).generation > floor.generation);
    world.carry_out(&id(0), None);
    assert_eq!(world.why(rollout, &id(0)), "CONFIRMED");
    // The old key does not come back, neither by a token nor by `device add`.
    world.invite(1);
    assert_eq!(world.enroll(1, &key), Err(Refusal::KeyUsed));
    let back = world.fleet.register_key(world.by(), &id(0), &key, world.now_s + 1000);
    assert!(matches!(back, Err(DeviceError::KeyUsed(_))));
}

#[test]
fn a_device_that_forgot_is_told_where_orders_begin() {
    let key = device_key();
    let (mut world, rollout, generation) = ordered(&key);
    let ask = |world: &mut World, epoch, key: &DeviceKey| {
        world.fleet.floor_device(world.now_s, &id(0), epoch, &key.digest())
    };
    let stranger = ask(&mut world, 0, &device_key());
    assert!(matches!(stranger, Err(EnrollError::Refused(Refusal::OtherKey))));
    // Without a clock it counts from the beginning, and is told not to.
    world.devices.get_mut(&id(0)).unwrap().stamp = Stamp { epoch: 57, seq: 0 };
    world.online(0);
    let first = ask(&mut world, 1, &key).unwrap();
    assert!(first.generation > generation && first.epoch == 58);
    // The answer was lost, and we died.
    world.reopen();
    let floor = ask(&mut world, 1, &key).unwrap();
    assert_eq!(floor.generation, first.generation, "nothing was ordered in between");
    let dev = world.devices.get_mut(&id(0)).unwrap();
    let forgotten = (dev.presence(true), dev.state());
    let old = world.fleet.ignored().old;
    world.fleet.handle_presence(world.now_s, &id(0), &forgotten.0).unwrap();
    world.fleet.handle_state(world.now_s, &id(0), &model(), &forgotten.1).unwrap();
    assert_eq!(world.fleet.ignored().old, old + 2, "of the life before");
    assert!(!world.fleet.device(&id(0)).unwrap().online);
    let dev = world.devices.get_mut(&id(0)).unwrap();
    (dev.stamp, dev.generation) = (Stamp { epoch: floor.epoch, seq: 0 }, floor.generation);
    world.online(0);
    assert_eq!(world.tick(), [id(0)]);
    assert!(world.newest(&id(0)).generation > floor.generation);
    world.carry_out(&id(0), None);
    assert_eq!(world.why(rollout, &id(0)), "CONFIRMED");
    // With a clock its boots are above all before, and stay as they are.
    assert_eq!(ask(&mut world, 1_800_000_000, &key).unwrap().epoch, 1_800_000_000);
}

#[test]
fn the_newest_boot_outlasts_a_restart() {
    let mut world = World::new(1);
    let mut before = world.devices[&id(0)].clone();
    world.devices.get_mut(&id(0)).unwrap().stamp = Stamp { epoch: 9, seq: 0 };
    world.online(0);
    world.tick();
    world.reopen();
    before.stamp = Stamp { epoch: 8, seq: 1_000 };
    world.fleet.handle_presence(world.now_s, &id(0), &before.presence(true)).unwrap();
    assert!(!world.fleet.device(&id(0)).unwrap().online, "a boot that is over");
    world.online(0);
    assert!(world.fleet.device(&id(0)).unwrap().online);
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

#[test]
fn what_hangs_on_a_gateway_is_a_device_of_its_own() {
    let mut world = World::new(2);
    let mcu = DeviceId::new("mcu").unwrap();
    let key = |seed| {
        DeviceKey::from_ed25519(PublicKey::of(&SigningKey::from_bytes(&[seed; 32])).to_bytes())
    };
    let adopt = |world: &mut World, id: &DeviceId, via: &DeviceId, seed| {
        let (key, hardware) = (key(seed).unwrap(), HardwareClass::new("mps2").unwrap());
        let adopted = Adopted { via: via.clone(), hardware, key };
        let by = world.by();
        world.fleet.adopt_device(by, id, &Labels::new(), &adopted).map(drop)
    };
    let refuses = |result: Result<(), DeviceError>, part: &str| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    };
    refuses(
        adopt(&mut world, &mcu, &DeviceId::new("nobody").unwrap(), 1),
        "its gateway nobody is not in",
    );
    adopt(&mut world, &mcu, &id(0), 1).unwrap();
    world.reopen();
    let identity = world.fleet.device(&mcu).unwrap().identity;
    assert_eq!((identity.via, identity.key), (Some(id(0)), key(1)));
    let own = key(1).unwrap().digest();
    assert!(world.fleet.is_from(&mcu, Some(&own)) && !world.fleet.is_from(&mcu, None));
    // Not below itself, not two deep, not beside a connection of its own.
    refuses(adopt(&mut world, &mcu, &mcu, 1), "cannot hang on itself");
    refuses(adopt(&mut world, &id(1), &mcu, 2), "hangs on cam-0");
    refuses(adopt(&mut world, &id(0), &id(1), 2), "is a gateway itself, of mcu");
    world.invite(1);
    world.enroll(1, &device_key()).unwrap();
    let (by, other) = (world.by(), device_key());
    refuses(world.fleet.register_key(by, &mcu, &other, 9).map(drop), "revoke it first");
    let (by, none) = (world.by(), Labels::new());
    let invited = world.fleet.invite_device(by, &mcu, &none, token(3), true);
    refuses(invited.map(drop), "revoke it first");
    // Moved, with its key and what it said; set up anew, with neither.
    adopt(&mut world, &mcu, &id(1), 1).unwrap();
    assert_eq!(world.fleet.device(&mcu).unwrap().identity.via, Some(id(1)));
    adopt(&mut world, &mcu, &id(1), 3).unwrap();
    assert!(!world.fleet.is_from(&mcu, Some(&own)));
    refuses(adopt(&mut world, &mcu, &id(1), 1), "once before");
    // Taken out like any other, and in again.
    let by = world.by();
    world.fleet.revoke_device(by, &mcu).unwrap();
    assert!(world.fleet.device(&mcu).unwrap().identity.revoked_s.is_some());
    adopt(&mut world, &mcu, &id(0), 3).unwrap();
    assert!(world.fleet.device(&mcu).unwrap().identity.revoked_s.is_none());
}

#[test]
fn an_identity_of_an_older_build_reads() {
    // As it was before devices could hang on others: no last field.
    let record = IdentityRecord { key: vec![4; 65], enrolled_s: 7, ..IdentityRecord::default() };
    let now = super::records::encode("an identity", &record).unwrap();
    assert_eq!(IdentityRecord::read(&now), Some(record.clone()));
    assert_eq!(IdentityRecord::read(&now[..now.len() - 1]), Some(record));
    assert_eq!(IdentityRecord::read(&now[..now.len() - 2]), None);
}
