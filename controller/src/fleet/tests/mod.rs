//! The fleet against a handful of devices that live in this file: they take orders, answer,
//! repeat themselves and fall silent. The store is kept in memory and reopened at will.

mod follow;
mod identities;
mod known_bad;
mod orders;
mod planned;
mod record;
mod scenarios;
mod telemetry;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{Authority, Context, Envelope, PublicKey, sign};
use fleetway_protocol::ids::{
    Counter, DeviceId, Digest, Generation, ModelName, RolloutId, Version,
};
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::manifest::{Artifact, GoldenRule, Manifest, Variant, VariantKind};
use fleetway_protocol::order::{Action, Order};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::{Ack, Nonce, Presence, Progress, Stamp, State};
use fleetway_protocol::slot::{Ending, Outcome};

use super::*;
use crate::planner::{Labels, PhaseSpec, RolloutSpec, Selector, Size};
use crate::store::MemStore;

pub(super) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(super) fn id(n: usize) -> DeviceId {
    DeviceId::new(&format!("cam-{n:02}")).unwrap()
}

pub(super) fn model() -> ModelName {
    ModelName::new("digits").unwrap()
}

pub(super) fn manifest(version: &str, counter: Counter) -> Manifest {
    let artifact = Artifact {
        digest: Digest::of(version.as_bytes()),
        bytes: 1000,
        chunk_bytes: 256,
        chunk_list: Digest([1; 32]),
    };
    let mut variants = heapless::Vec::new();
    variants.push(Variant { kind: VariantKind::Onnx, model: artifact, golden: artifact }).unwrap();
    Manifest {
        model: model(),
        version: Version::new(version).unwrap(),
        counter,
        min_release: counter.saturating_sub(1),
        variants,
        golden: GoldenRule { abs_err_max: 0.1, same_top1: true },
        golden_mismatch_accepted: None,
        attestations: Default::default(),
        hardware: Default::default(),
        health: Default::default(),
    }
}

pub(super) fn envelope(manifest: &Manifest, key: &SigningKey) -> Vec<u8> {
    let mut buf = [0; MANIFEST_BYTES_MAX];
    let payload = codec::encode(manifest, &mut buf).unwrap();
    let mut envelope = Envelope::new(payload);
    envelope.push(sign(key, Context::Manifest, payload)).unwrap();
    envelope.encode(&mut [0; ENVELOPE_BYTES_MAX]).unwrap().to_vec()
}

/// A device as far as the controller can tell.
#[derive(Clone, Debug)]
pub(super) struct Dev {
    pub(super) stamp: Stamp,
    pub(super) generation: Generation,
    pub(super) running: Option<Digest>,
    pub(super) last: Option<Outcome>,
    /// Orders as they came, by generation.
    pub(super) orders: BTreeMap<Generation, Vec<u8>>,
}

impl Dev {
    fn next(&mut self) -> Stamp {
        self.stamp.seq += 1;
        self.stamp
    }

    pub(super) fn state(&mut self) -> State {
        State {
            stamp: self.next(),
            generation: self.generation,
            running: self.running,
            phase: Phase::Idle,
            target: None,
            progress: Progress::default(),
            waiting: None,
            held: None,
            shadow: None,
            last: self.last,
            floor: 0,
            poisoned: 0,
            poison_dropped: 0,
        }
    }

    pub(super) fn presence(&mut self, online: bool) -> Presence {
        let agent = Version::new("0.1").unwrap();
        let (stamp, generation) = (self.next(), self.generation);
        Presence { stamp, online, agent, generation, sandbox: None, hardware: None }
    }

    pub(super) fn ack(&mut self, payload: &[u8], refused: Option<Reason>) -> Ack {
        let order: Order = codec::decode(payload, 4096).unwrap();
        let stamp = self.next();
        Ack { stamp, generation: order.generation, order: Digest::of(payload), refused }
    }
}

/// A controller, its store, and its devices.
pub(super) struct World {
    pub(super) store: MemStore,
    pub(super) fleet: Fleet,
    pub(super) now_s: u64,
    pub(super) devices: BTreeMap<DeviceId, Dev>,
    pub(super) effects: Vec<Effect>,
}

impl World {
    /// `devices` online devices and the releases v1, v2, v3.
    pub(super) fn new(devices: usize) -> Self {
        let store = MemStore::new();
        let mut world = Self {
            fleet: open(&store, 1000),
            store,
            now_s: 1000,
            devices: BTreeMap::new(),
            effects: Vec::new(),
        };
        for n in 0..devices {
            let labels: Labels = [("site".to_owned(), "berlin".to_owned())].into();
            world.fleet.add_device(world.by(), &id(n), &labels).unwrap();
            let dev = Dev {
                stamp: Stamp { epoch: 1, seq: 0 },
                generation: 0,
                running: Some(world.release("v0", 0)),
                last: None,
                orders: BTreeMap::new(),
            };
            world.devices.insert(id(n), dev);
            world.online(n);
        }
        for (version, counter) in [("v1", 1), ("v2", 2), ("v3", 3)] {
            let bytes = envelope(&manifest(version, counter), &key());
            world.fleet.publish_release(world.by(), &bytes).unwrap();
        }
        world
    }

    pub(super) fn by(&self) -> By<'static> {
        By { who: "anna", now_s: self.now_s }
    }

    pub(super) fn release(&self, version: &str, counter: Counter) -> Digest {
        let mut buf = [0; MANIFEST_BYTES_MAX];
        Digest::of(codec::encode(&manifest(version, counter), &mut buf).unwrap())
    }

    pub(super) fn spec(&self, version: &str, counter: Counter, phases: &[Size]) -> RolloutSpec {
        let release = self.release(version, counter);
        RolloutSpec {
            phases: phases.iter().map(|size| PhaseSpec::new(*size, 0)).collect(),
            max_unavailable: Size::Percent(100),
            ..RolloutSpec::new(model(), release, Version::new(version).unwrap(), Selector::all())
        }
    }

    pub(super) fn start(&mut self, version: &str, counter: Counter, phases: &[Size]) -> RolloutId {
        let spec = self.spec(version, counter, phases);
        self.fleet.start_rollout(self.by(), &spec).unwrap()
    }

    /// The device comes up and says everything.
    pub(super) fn online(&mut self, n: usize) {
        let dev = self.devices.get_mut(&id(n)).unwrap();
        let (presence, state) = (dev.presence(true), dev.state());
        self.fleet.handle_presence(self.now_s, &id(n), &presence).unwrap();
        self.fleet.handle_state(self.now_s, &id(n), &model(), &state).unwrap();
    }

    /// Its last will.
    pub(super) fn offline(&mut self, n: usize) {
        let presence = self.devices.get_mut(&id(n)).unwrap().presence(false);
        self.fleet.handle_presence(self.now_s, &id(n), &presence).unwrap();
    }

    /// A tick, and every effect carried out. Two different orders under one generation are
    /// never allowed. Gives the devices that got a new order.
    pub(super) fn tick(&mut self) -> Vec<DeviceId> {
        self.fleet.tick(self.now_s).unwrap();
        self.deliver()
    }

    pub(super) fn deliver(&mut self) -> Vec<DeviceId> {
        let mut got = Vec::new();
        while let Some(effect) = self.fleet.poll_effect() {
            if let Effect::SendOrder { device, payload, generation } = &effect {
                let dev = self.devices.get_mut(device).unwrap();
                if let Some(before) = dev.orders.insert(*generation, payload.clone()) {
                    assert_eq!(before, *payload, "two orders under generation {generation}");
                } else {
                    let newest = *dev.orders.keys().next_back().unwrap();
                    assert_eq!(newest, *generation, "generations only rise");
                    got.push(device.clone());
                }
            }
            self.effects.push(effect);
        }
        got
    }

    pub(super) fn newest(&self, device: &DeviceId) -> Order {
        let payload = self.devices[device].orders.values().next_back().unwrap();
        codec::decode(payload, 4096).unwrap()
    }

    /// The device carries its newest order out and says how it ended.
    pub(super) fn carry_out(&mut self, device: &DeviceId, bad: Option<Reason>) {
        let order = self.newest(device);
        let dev = self.devices.get_mut(device).unwrap();
        dev.generation = order.generation;
        for entry in &order.models {
            let result = match (entry.action, bad) {
                (Action::Remove, _) => Ending::Removed,
                (_, Some(reason)) => Ending::RolledBack(reason),
                (_, None) => Ending::Confirmed,
            };
            match result {
                Ending::Confirmed => dev.running = Some(entry.release),
                Ending::Removed => dev.running = None,
                _ => {}
            }
            let outcome =
                Outcome { release: entry.release, rollout: entry.rollout, result, evidence: None };
            dev.last = Some(outcome);
        }
        let state = dev.state();
        self.fleet.handle_state(self.now_s, device, &model(), &state).unwrap();
    }

    /// The controller dies and comes back on its store; devices say what is retained.
    pub(super) fn restart(&mut self) {
        self.fleet = open(&self.store, self.now_s);
        for n in 0..self.devices.len() {
            self.online(n);
        }
    }

    pub(super) fn state(&self, rollout: RolloutId) -> &'static str {
        self.fleet.rollout(rollout, self.now_s).unwrap().state.word()
    }

    pub(super) fn why(&self, rollout: RolloutId, device: &DeviceId) -> &'static str {
        let view = self.fleet.rollout(rollout, self.now_s).unwrap();
        view.devices.iter().find(|d| d.device == *device).unwrap().why.code()
    }
}

pub(super) fn open(store: &MemStore, now_s: u64) -> Fleet {
    let authority = Authority::new(&[PublicKey::of(&key())], 1).unwrap();
    Fleet::open(Arc::new(store.clone()), authority, now_s).unwrap()
}
