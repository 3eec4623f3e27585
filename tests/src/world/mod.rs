//! A whole fleet in one process, by the second, from one seed.
//!
//! The real planner and controller core ([`fleetway_controller::fleet::Fleet`]), the real
//! device core ([`fleetway_agent::device::Device`]: slot machine, transfer, storage, trust
//! checks), a broker model that loses, repeats and reorders ([`broker`]), and disks that
//! lose unsynced writes ([`disk`]). Engines and applications are made up; signatures are
//! not. Time is virtual.
//!
//! A run has a stormy part, in which power, links, disks, controller and broker fail, and a
//! calm part, in which everything must come right ([`check`]). A failing run names its seed.

pub mod broker;
pub mod check;
pub mod device;
pub mod disk;
pub mod releases;
pub mod story;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use fleetway_agent::device::{Now, Publish};
use fleetway_controller::fleet::{By, Effect, Fleet};
use fleetway_controller::store::MemStore;
use fleetway_protocol::codec;
use fleetway_protocol::ids::{DeviceId, Digest, ModelName};
use fleetway_protocol::limits::REPORT_BYTES_MAX;
use fleetway_protocol::machine::Token;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::{Ack, BLOCK_BYTES_MAX, Block, Presence, State, Telemetry, Want};
use fleetway_protocol::topics::{Piece, ROOT_DEFAULT, Topic};
use fleetway_protocol::trust_file::TrustFile;

use broker::Broker;
use check::Checker;
use device::SimDevice;
use releases::{Keys, Release};

use crate::authority::Authority;

/// When the world begins, Unix seconds.
const EPOCH_S: u64 = 1_800_000_000;
/// How often the controller looks at its fleet, milliseconds.
const CONTROLLER_TICK_MS: u64 = 1_000;

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A message reaches a device, if it still has that connection.
    ToDevice { device: usize, connection: u64, topic: String, payload: Vec<u8> },
    /// A message reaches the controller.
    ToController { topic: String, payload: Vec<u8> },
    /// The device's timer.
    Wake { device: usize, boot: u64 },
    /// A self-test ended.
    SelfTested {
        device: usize,
        boot: u64,
        model: ModelName,
        token: Token,
        result: Result<(), Reason>,
    },
    /// An engine loaded, or did not.
    Activated {
        device: usize,
        boot: u64,
        model: ModelName,
        token: Token,
        result: Result<Digest, Reason>,
    },
    /// Nothing is served any more.
    Unloaded { device: usize, boot: u64, model: ModelName, token: Token },
    /// The link of a device comes up.
    LinkUp { device: usize, boot: u64 },
    /// A device boots.
    Boot { device: usize },
    /// A release that takes the power with it.
    Dies { device: usize, boot: u64, release: Digest },
    /// The disk is well again.
    DiskWell { device: usize },
    /// The controller's timer.
    ControllerTick,
    /// The controller starts again.
    ControllerBoot,
    /// Something breaks, by chance.
    Fault,
}

/// The world. See the module page.
pub struct World {
    /// The seed that it came from.
    pub seed: u64,
    rng: fastrand::Rng,
    now_ms: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Boxed)>>,
    broker: Broker,
    keys: Keys,
    authority: Authority,
    /// The root that every device carries.
    pinned: Vec<u8>,
    model: ModelName,
    devices: Vec<SimDevice>,
    releases: BTreeMap<Digest, Release>,
    seeded: std::collections::BTreeSet<Digest>,
    store: Arc<MemStore>,
    controller: Option<Fleet>,
    stormy: bool,
    /// What was seen.
    pub checker: Checker,
}

/// Happenings have no order of their own; time and number decide. In a box: the queue moves them about.
#[derive(Debug)]
struct Boxed(Box<Happening>);

impl PartialEq for Boxed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Boxed {}
impl PartialOrd for Boxed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Boxed {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl World {
    fn now(&self) -> Now {
        Now { ms: self.now_ms, unix_s: self.now_s() }
    }

    fn now_s(&self) -> u64 {
        EPOCH_S + self.now_ms / 1000
    }

    fn after(&mut self, delay_ms: u64, happening: Happening) {
        self.order += 1;
        let at = self.now_ms + delay_ms;
        self.queue.push(Reverse((at, self.order, Boxed(happening.into()))));
    }

    /// Lets time pass until `until_ms`.
    fn run_until(&mut self, until_ms: u64) {
        while let Some(Reverse((at, ..))) = self.queue.peek()
            && *at <= until_ms
        {
            let Some(Reverse((at, _, Boxed(happening)))) = self.queue.pop() else { break };
            self.now_ms = at;
            self.happen(*happening);
        }
        self.now_ms = until_ms;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToController { topic, payload } => self.controller_hears(&topic, &payload),
            Happening::ControllerTick => {
                self.controller_acts();
                self.after(CONTROLLER_TICK_MS, Happening::ControllerTick);
            }
            Happening::ControllerBoot => self.controller_boots(),
            Happening::Fault => self.fault(),
            of_device => self.device_happens(of_device),
        }
    }

    // ---- the controller's side ----

    fn controller_boots(&mut self) {
        let store: Arc<MemStore> = Arc::clone(&self.store);
        let opened = Fleet::open(store, self.keys.release_authority(), self.now_s());
        let mut fleet = opened.expect("the store opens");
        fleet.handle_link(self.now_s(), true);
        fleet.resend_all();
        self.checker.controller_booted(&fleet, self.now_s());
        self.controller = Some(fleet);
        self.seed_trust();
        for (topic, payload) in self.broker.kept_for_controller() {
            self.after(1, Happening::ToController { topic, payload });
        }
        self.carry_out();
    }

    fn controller_dies(&mut self) {
        self.controller = None;
        self.seeded.clear();
        let delay = self.rng.u64(500..20_000);
        self.after(delay, Happening::ControllerBoot);
    }

    fn controller_acts(&mut self) {
        let now_s = self.now_s();
        if let Some(fleet) = &mut self.controller {
            fleet.tick(now_s).expect("the store takes it");
        }
        self.carry_out();
    }

    fn controller_hears(&mut self, topic: &str, payload: &[u8]) {
        let now_s = self.now_s();
        let Some(fleet) = &mut self.controller else { return };
        let decoded = Topic::parse(ROOT_DEFAULT, topic);
        let result = match decoded {
            Some(Topic::Presence(id)) => match codec::decode::<Presence>(payload, REPORT_BYTES_MAX)
            {
                Ok(presence) => fleet.handle_presence(now_s, &id, &presence),
                Err(_) => Ok(()),
            },
            Some(Topic::State(id, model)) => {
                match codec::decode::<State>(payload, REPORT_BYTES_MAX) {
                    Ok(state) => fleet.handle_state(now_s, &id, &model, &state),
                    Err(_) => Ok(()),
                }
            }
            Some(Topic::Ack(id)) => match codec::decode::<Ack>(payload, REPORT_BYTES_MAX) {
                Ok(ack) => fleet.handle_ack(now_s, &id, &ack),
                Err(_) => Ok(()),
            },
            Some(Topic::Telemetry(id, model)) => {
                if let Ok(t) = codec::decode::<Telemetry>(payload, REPORT_BYTES_MAX) {
                    fleet.handle_telemetry(now_s, &id, &model, &t);
                }
                Ok(())
            }
            Some(Topic::Want(id)) => {
                if let Ok(want) = codec::decode::<Want>(payload, REPORT_BYTES_MAX) {
                    self.controller_replies(&id, &want);
                }
                Ok(())
            }
            _ => Ok(()),
        };
        result.expect("the store takes it");
        self.carry_out();
    }

    fn controller_replies(&mut self, id: &DeviceId, want: &Want) {
        for piece in &want.pieces {
            let has = self.releases.values().find_map(|r| r.pieces.get(&(want.of, *piece)));
            let Some(bytes) = has else { continue };
            let block = Block { of: want.of, piece: *piece, bytes };
            let mut buf = vec![0; BLOCK_BYTES_MAX];
            let payload = codec::encode(&block, &mut buf).expect("fits").to_vec();
            let topic = Topic::Block(id.clone()).text(ROOT_DEFAULT).as_str().to_owned();
            self.broker_delivers(&topic, &payload, false);
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.controller.as_mut().and_then(Fleet::poll_effect) {
            match effect {
                // Nobody is revoked here, and there is no door.
                Effect::Identity(_) => {}
                Effect::SendOrder { device, payload, generation } => {
                    self.checker.order_sent(&device, generation, &payload);
                    let envelope = self.keys.order(&payload);
                    let topic = Topic::Order(device).text(ROOT_DEFAULT).as_str().to_owned();
                    self.broker.retain(&topic, &envelope);
                    self.broker_delivers(&topic, &envelope, true);
                }
                Effect::Seed(digest) => self.seed_release(digest),
                Effect::Unseed(digest) => {
                    self.seeded.remove(&digest);
                    for topic in self.piece_topics(digest) {
                        self.broker.retain(&topic, &[]);
                    }
                }
                Effect::ClearOrder(device) => {
                    let topic = Topic::Order(device).text(ROOT_DEFAULT).as_str().to_owned();
                    self.broker.retain(&topic, &[]);
                }
            }
        }
    }

    fn piece_topics(&self, digest: Digest) -> Vec<String> {
        let pieces = self.releases.get(&digest).into_iter().flat_map(|r| r.pieces.keys());
        pieces.map(|(of, piece)| blob_topic(*of, *piece)).collect()
    }

    /// What the release authority published, to the broker and to who is subscribed; the
    /// timestamp last, as the controller does it.
    fn seed_trust(&mut self) {
        let mut files: Vec<_> = self.authority.files.clone().into_iter().collect();
        files.sort_by_key(|(name, _)| name == "timestamp.json");
        for (name, bytes) in files {
            let file = TrustFile::parse(&name).expect("a name of ours");
            let topic = Topic::Trust(file).text(ROOT_DEFAULT).as_str().to_owned();
            if self.broker.kept(&topic).as_deref() != Some(&*bytes) {
                self.broker.retain(&topic, &bytes);
                self.broker_delivers(&topic, &bytes, true);
            }
        }
    }

    fn seed_release(&mut self, digest: Digest) {
        self.seeded.insert(digest);
        let Some(release) = self.releases.get(&digest) else { return };
        for ((of, piece), bytes) in release.pieces.clone() {
            let topic = blob_topic(of, piece);
            self.broker.retain(&topic, &bytes);
            self.broker_delivers(&topic, &bytes, false);
        }
    }

    // ---- the broker ----

    fn broker_delivers(&mut self, topic: &str, payload: &[u8], at_least_once: bool) {
        for device in self.broker.subscribers(topic) {
            self.deliver(device, topic, payload, at_least_once);
        }
    }

    fn deliver(&mut self, device: usize, topic: &str, payload: &[u8], at_least_once: bool) {
        let connection = self.devices[device].connection;
        for delay in self.broker.carry(&mut self.rng, at_least_once) {
            let mut payload = payload.to_vec();
            self.broker.maybe_flip(&mut self.rng, &mut payload);
            let topic = topic.to_owned();
            self.after(delay, Happening::ToDevice { device, connection, topic, payload });
        }
    }

    fn device_publishes(&mut self, publish: Publish) {
        let Publish { topic, payload, at_least_once, retain } = publish;
        if retain {
            self.broker.retain(&topic, &payload);
        }
        for delay in self.broker.carry(&mut self.rng, at_least_once) {
            let (topic, payload) = (topic.clone(), payload.clone());
            self.after(delay, Happening::ToController { topic, payload });
        }
    }

    /// The operator of the world.
    fn operator(&self) -> By<'static> {
        By { who: "operator", now_s: self.now_s() }
    }
}

fn blob_topic(of: fleetway_protocol::ids::ShortDigest, piece: Piece) -> String {
    Topic::Blob(of, piece).text(ROOT_DEFAULT).as_str().to_owned()
}
