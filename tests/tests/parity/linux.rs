//! The agent: its device core over its store, on a disk that loses what was not synced; real engines, and
//! a broker that keeps what is retained.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fleetway_agent::device::{ActivateJob, Device, DeviceConfig, Now, Output, SelfTestJob};
use fleetway_agent::store::Store;
use fleetway_engine::golden::GoldenRule;
use fleetway_engine::load::load;
use fleetway_engine::tensor::TensorData;
use fleetway_engine::watch::Watcher;
use fleetway_engine::{Engine, GoldenSet, ModelBytes, Tensor};
use fleetway_protocol::envelope::Envelope;
use fleetway_protocol::ids::{Digest, HardwareClass, ModelName, Version};
use fleetway_protocol::machine::{Phase, Token};
use fleetway_protocol::manifest::{Manifest, VariantKind};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::SlotTable;
use fleetway_protocol::topics::{ROOT_DEFAULT, Topic};
use fleetway_protocol::transfer;
use fleetway_protocol::trust::{Verified, VerifiedArtifact};
use fleetway_protocol::trust_file::TrustFile;
use fleetway_tests::authority::Authority;
use fleetway_tests::world::disk::SimFs;
use fleetway_tuf::client::KEYSET_PATH;
use fleetway_tuf::roles::TargetFile;

use crate::fleet::{Fleet, Nature, id, model};
use crate::{Dark, Shell, Stop, TURN_MS, TURNS_MAX, releases};

/// When the traces take place, Unix seconds: the fleet's orders are good then.
const BEGAN_S: u64 = 1_700_000_100;

/// What happens to the device next.
enum Event {
    Message(String, Vec<u8>),
    Tested(ModelName, Token, Result<(), Reason>),
    Activated(ModelName, Token, Result<Digest, Reason>),
    Unloaded(ModelName, Token),
}

/// What its engine has loaded.
struct Serving {
    release: Digest,
    engine: Arc<dyn Engine>,
    watcher: Watcher,
}

pub(crate) struct Linux {
    fleet: &'static Fleet,
    fs: SimFs,
    rng: fastrand::Rng,
    pinned: Vec<u8>,
    /// What the broker keeps.
    kept: BTreeMap<String, Vec<u8>>,
    device: Device<SimFs>,
    events: VecDeque<Event>,
    serving: Option<Serving>,
    now: Now,
    generation: u64,
}

fn text(topic: Topic) -> String {
    topic.text(ROOT_DEFAULT).as_str().to_owned()
}

/// Lists the fleet's keyset and every release, as its release authority would.
fn published(fleet: &Fleet) -> (Vec<u8>, BTreeMap<String, Vec<u8>>) {
    let mut authority = Authority::default();
    let pinned = authority.publish_root(&[]);
    let keyset = &fleet.keysets[0];
    let (digest, bytes) = (Digest::of(keyset), keyset.len() as u64);
    authority.targets.insert(KEYSET_PATH.to_owned(), TargetFile::new(digest, bytes, None));
    authority.files.insert(TrustFile::Keyset(digest).to_string(), keyset.clone());
    for (n, release) in fleet.releases.iter().enumerate() {
        let envelope = Envelope::decode(&release.envelope).unwrap();
        let path = format!("{}/v{n}", model());
        authority.list(&path, envelope.payload_unchecked(), 10 * (n as u64 + 1));
    }
    authority.publish();
    let topic = |name: &String| text(Topic::Trust(TrustFile::parse(name).unwrap()));
    (pinned, authority.files.iter().map(|(name, bytes)| (topic(name), bytes.clone())).collect())
}

fn opened(fs: &SimFs, pinned: &[u8], now: Now) -> Device<SimFs> {
    let config = DeviceConfig {
        id: id(),
        root: ROOT_DEFAULT.to_owned(),
        trust_root: pinned.to_vec(),
        hardware: Some(HardwareClass::new("mps2-an386").unwrap()),
        forms: &[VariantKind::Qnn],
        hold: Default::default(),
        transfer: transfer::Config { window_chunks: 1, bytes_per_s: 0, seed: 0 },
        agent: Version::new("0.1.0").unwrap(),
        asks_floor: false,
        checks: Default::default(),
    };
    let store = Store::open(fs.clone(), "data".as_ref(), None).unwrap();
    Device::open(config, store, now).unwrap()
}

impl Linux {
    pub(crate) fn new(fleet: &'static Fleet, seed: u64) -> Self {
        let (fs, now) = (SimFs::default(), Now { ms: 0, unix_s: BEGAN_S });
        let (pinned, kept) = published(fleet);
        let device = opened(&fs, &pinned, now);
        let mut linux = Self {
            fleet,
            rng: fastrand::Rng::with_seed(seed),
            kept,
            device,
            events: VecDeque::new(),
            serving: None,
            now,
            generation: 0,
            fs,
            pinned,
        };
        linux.up();
        linux
    }

    fn up(&mut self) {
        self.device.handle_up(self.now);
        self.subscribe(text(Topic::Order(id())));
        self.drain();
    }

    fn subscribe(&mut self, topic: String) {
        let piece = match Topic::parse(ROOT_DEFAULT, &topic) {
            Some(Topic::Blob(of, piece)) => self.fleet.piece(of, piece).map(<[u8]>::to_vec),
            _ => self.kept.get(&topic).cloned(),
        };
        self.events.extend(piece.map(|bytes| Event::Message(topic, bytes)));
    }

    /// Carries out what the device wants; the answers come later.
    fn drain(&mut self) {
        while let Some(output) = self.device.poll() {
            match output {
                Output::Subscribe(topic) => self.subscribe(topic),
                Output::SelfTest(job) => {
                    let release = Some(job.manifest.digest());
                    let result = match releases::is(release, Nature::HangsInTest) {
                        true => Err(Reason::SelfTestTimeout),
                        false => tested(&job),
                    };
                    self.events.push_back(Event::Tested(job.model, job.token, result));
                }
                Output::Activate(job) => {
                    let (release, engine) = (job.manifest.digest(), engine_of(&job));
                    let watcher = Watcher::new(&job.manifest.get().health);
                    self.serving = Some(Serving { release, engine, watcher });
                    self.events.push_back(Event::Activated(job.model, job.token, Ok(release)));
                }
                Output::Unload(model, token) => {
                    self.serving = None;
                    self.events.push_back(Event::Unloaded(model, token));
                }
                // No order here asks for a shadow, and no device has a check of its own.
                _ => {}
            }
        }
    }

    fn happen(&mut self) {
        let now = self.now;
        match self.events.pop_front() {
            None => {}
            Some(Event::Message(topic, bytes)) => self.device.handle_message(now, &topic, &bytes),
            Some(Event::Tested(model, token, result)) => {
                self.device.handle_self_test(now, &model, token, result);
            }
            Some(Event::Activated(model, token, result)) => {
                self.device.handle_activated(now, &model, token, result);
            }
            Some(Event::Unloaded(model, token)) => {
                self.device.handle_unloaded(now, &model, token);
            }
        }
        self.drain();
    }

    /// An application asks about the same image again.
    fn ask(&mut self) {
        let Some(serving) = &self.serving else { return };
        let specs = serving.engine.inputs();
        let data = TensorData::F32(crate::image().to_vec());
        let inputs = [Tensor::new(specs[0].shape.clone(), data).unwrap()];
        let outputs = serving.engine.run(&inputs).unwrap();
        let answer = serving.watcher.answer(0, specs, &inputs, &outputs);
        self.device.handle_answer(&model(), serving.release, &answer);
    }

    fn is_at_rest(&self) -> bool {
        let model = self.device.status(self.now).into_iter().next();
        self.device.generation() >= self.generation
            && self.events.is_empty()
            && model.is_some_and(|m| m.phase == Phase::Idle && m.waiting.is_none())
    }
}

/// The golden vectors, by the rule of the agent's own child.
fn tested(job: &SelfTestJob) -> Result<(), Reason> {
    let engine = engine(&job.manifest, job.variant, &job.model_bytes);
    let rule = GoldenRule::of(job.manifest.get(), job.variant);
    let golden = GoldenSet::decode(&job.golden_bytes).unwrap();
    let verdict = golden.check(&*engine, rule).unwrap();
    if verdict.passed { Ok(()) } else { Err(Reason::Golden) }
}

fn engine_of(job: &ActivateJob) -> Arc<dyn Engine> {
    engine(&job.manifest, job.variant, &job.model_bytes)
}

fn engine(manifest: &Verified<Manifest>, kind: VariantKind, bytes: &ModelBytes) -> Arc<dyn Engine> {
    let pick = |m: &Manifest| m.variant(kind).map(|variant| variant.model);
    let proof = VerifiedArtifact::check(bytes, manifest, pick).unwrap();
    load(kind, &proof, bytes.clone()).unwrap()
}

impl Shell for Linux {
    fn hear(&mut self, order: &[u8], generation: u64) {
        let topic = text(Topic::Order(id()));
        self.kept.insert(topic.clone(), order.to_vec());
        self.events.push_back(Event::Message(topic, order.to_vec()));
        self.generation = generation;
    }

    fn live(&mut self, phase: Option<Phase>) -> Stop {
        for _ in 0..TURNS_MAX {
            let serves = self.serving.as_ref().map(|serving| serving.release);
            if releases::is(serves, Nature::Hangs) {
                return Stop::Died;
            }
            self.happen();
            self.now.ms += TURN_MS;
            self.now.unix_s = BEGAN_S + self.now.ms / 1000;
            self.ask();
            self.device.handle_tick(self.now);
            self.drain();
            let model = self.device.status(self.now).into_iter().next();
            if phase.is_some() && phase == model.map(|m| m.phase) {
                return Stop::There;
            }
            if self.is_at_rest() {
                return Stop::Rest;
            }
        }
        panic!("the agent never rests: {:?}", self.device.status(self.now));
    }

    fn restart(&mut self, how: Dark) {
        if how == Dark::Power {
            self.fs.cut(&mut self.rng);
        }
        self.serving = None;
        self.events.clear();
        self.device = opened(&self.fs, &self.pinned, self.now);
        self.up();
    }

    fn table(&self) -> SlotTable {
        let model = self.device.status(self.now).into_iter().next();
        model.map_or_else(|| SlotTable::new(None), |model| model.table)
    }

    fn running(&self) -> Option<Digest> {
        self.serving.as_ref().map(|serving| serving.release)
    }
}
