//! A whole device core, fed with messages: what it asks for, what it installs, what it refuses,
//! and what a refresh costs on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ed25519_dalek::SigningKey;
use fleetway_agent::device::{Device, DeviceConfig, Now, Output};
use fleetway_agent::fs::RealFs;
use fleetway_agent::store::Store;
use fleetway_engine::load::FORMS;
use fleetway_protocol::codec;
use fleetway_protocol::envelope::Context;
use fleetway_protocol::health::Answer;
use fleetway_protocol::ids::{DeviceId, Digest, ModelName, Version};
use fleetway_protocol::limits::ORDER_BYTES_MAX;
use fleetway_protocol::machine::Phase;
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::order::{Action, ModelOrder, Order, Terms};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::Ending;
use fleetway_protocol::topics::{ROOT_DEFAULT, Topic};
use fleetway_protocol::transfer;
use fleetway_protocol::trust_file::TrustFile;
use fleetway_tests::authority::{Authority, DAY_S, NOW_S, Team, key, seal};
use fleetway_tests::world::releases::{Keys, Nature, Release};

/// The bound of the issue.
pub(crate) const QUIET_REFRESH_BYTES_MAX: usize = 3_000;

mod anew;
mod factory;
mod files;
mod floor;
mod late;

struct Box {
    dir: tempfile::TempDir,
    pinned: Vec<u8>,
    authority: Authority,
    director: SigningKey,
    keys: Keys,
    /// What the broker keeps.
    kept: BTreeMap<String, Vec<u8>>,
    subscribed: BTreeSet<String>,
    /// What its engines run.
    forms: &'static [VariantKind],
    device: Device<RealFs>,
    now: Now,
    generation: u64,
    wire_bytes: usize,
}

fn config(pinned: &[u8], forms: &'static [VariantKind], asks_floor: bool) -> DeviceConfig {
    DeviceConfig {
        id: DeviceId::new("cam-01").unwrap(),
        root: ROOT_DEFAULT.to_owned(),
        trust_root: pinned.to_vec(),
        hardware: None,
        forms,
        hold: Default::default(),
        transfer: transfer::Config { window_chunks: 4, bytes_per_s: 0, seed: 1 },
        agent: Version::new("0.1.0").unwrap(),
        asks_floor,
        checks: Default::default(),
    }
}

fn device(dir: &Path, config: DeviceConfig, now: Now) -> Device<RealFs> {
    Device::open(config, Store::open(RealFs, dir, None).unwrap(), now).unwrap()
}

fn model() -> ModelName {
    ModelName::new("digits").unwrap()
}

impl Box {
    /// A new device, a release authority with a keyset, and nothing published yet.
    fn new() -> Self {
        Self::running_forms(FORMS)
    }

    /// The same, with engines for these forms.
    fn running_forms(forms: &'static [VariantKind]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut authority, keys, director) = (Authority::default(), Keys::default(), key(2));
        let pinned = authority.publish_root(&[]);
        authority.publish_keyset(1, &[&key(1)], &director);
        let now = Now { ms: 0, unix_s: NOW_S };
        let device = device(dir.path(), config(&pinned, forms, false), now);
        Self {
            dir,
            pinned,
            authority,
            director,
            keys,
            kept: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            forms,
            device,
            now,
            generation: 0,
            wire_bytes: 0,
        }
    }

    fn boot(&mut self) {
        self.subscribed.clear();
        let config = config(&self.pinned, self.forms, false);
        self.device = device(self.dir.path(), config, self.now);
        self.settle();
    }

    fn up(&mut self) {
        self.device.handle_up(self.now);
        self.subscribe(Topic::Order(DeviceId::new("cam-01").unwrap()).text(ROOT_DEFAULT).as_str());
        self.settle();
    }

    fn release(&mut self, counter: u64, nature: Nature) -> Release {
        self.release_of(&model(), counter, nature)
    }

    fn release_of(&mut self, model: &ModelName, counter: u64, nature: Nature) -> Release {
        let mut rng = fastrand::Rng::with_seed(counter);
        let release = self.keys.release(model, counter, nature, &mut rng);
        for ((of, piece), bytes) in &release.pieces {
            let topic = Topic::Blob(*of, *piece).text(ROOT_DEFAULT);
            self.kept.insert(topic.as_str().to_owned(), bytes.clone());
        }
        release
    }

    fn list(&mut self, release: &Release, counter: u64) {
        self.list_of(&model(), release, counter);
    }

    fn list_of(&mut self, model: &ModelName, release: &Release, counter: u64) {
        let envelope = fleetway_protocol::envelope::Envelope::decode(&release.envelope).unwrap();
        let path = format!("{model}/{}", release.version);
        self.authority.list(&path, envelope.payload_unchecked(), counter);
    }

    /// Everything that the authority published reaches the broker, and who subscribed.
    fn publish(&mut self) {
        for (name, bytes) in self.authority.files.clone() {
            let file = TrustFile::parse(&name).expect("a name of ours");
            self.send(Topic::Trust(file), &bytes);
        }
    }

    /// A retained message; one that is the same as before is not sent again.
    fn send(&mut self, topic: Topic, bytes: &[u8]) {
        let topic = topic.text(ROOT_DEFAULT).as_str().to_owned();
        if self.kept.insert(topic.clone(), bytes.to_vec()).as_deref() == Some(bytes) {
            return;
        }
        if self.subscribed.contains(&topic) {
            self.arrive(&topic, bytes);
        }
    }

    fn arrive(&mut self, topic: &str, bytes: &[u8]) {
        // PUBLISH at QoS 1 under MQTT 5, and its PUBACK.
        self.wire_bytes += 4 + 2 + topic.len() + 2 + 1 + bytes.len() + 4;
        self.device.handle_message(self.now, topic, bytes);
        self.settle();
    }

    fn subscribe(&mut self, topic: &str) {
        // SUBSCRIBE and SUBACK.
        self.wire_bytes += 2 + 2 + 1 + 2 + topic.len() + 1 + 6;
        self.subscribed.insert(topic.to_owned());
        if let Some(bytes) = self.kept.get(topic).cloned() {
            self.arrive(topic, &bytes);
        }
    }

    /// Carries out what the device wants; engines are made up and good.
    fn settle(&mut self) {
        while let Some(output) = self.device.poll() {
            match output {
                Output::Subscribe(topic) => self.subscribe(&topic),
                Output::Unsubscribe(topic) => drop(self.subscribed.remove(&topic)),
                Output::SelfTest(job) => {
                    self.device.handle_self_test(self.now, &job.model, job.token, Ok(()));
                }
                Output::Activate(job) => {
                    let digest = Ok(job.manifest.digest());
                    self.device.handle_activated(self.now, &job.model, job.token, digest);
                }
                Output::Unload(model, token) => {
                    self.device.handle_unloaded(self.now, &model, token);
                }
                // No order here asks for one.
                Output::Shadow(_) | Output::EndShadow(_) => {}
                Output::Telemetry(_) | Output::Heard(_) => {}
                Output::Publish(_) | Output::Check(_) | Output::Halt => {}
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass_unasked(1);
            self.ask();
        }
    }

    fn pass_unasked(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now.ms += 1_000;
            self.now.unix_s += 1;
            self.device.handle_tick(self.now);
            self.settle();
        }
    }

    /// An application gets enough answers for a judgement.
    fn ask(&mut self) {
        let Some(release) = self.running() else { return };
        for class in (0..10).cycle().take(30) {
            self.device.handle_answer(&model(), release, &Answer::ok(100, Some(class)));
        }
    }

    fn order(&mut self, release: &Release) {
        self.order_by(release.digest, &self.director.clone());
    }

    fn order_by(&mut self, release: Digest, director: &SigningKey) {
        self.order_all(&[(model(), release)], director);
    }

    fn order_all(&mut self, wishes: &[(ModelName, Digest)], director: &SigningKey) {
        self.generation += 1;
        let id = DeviceId::new("cam-01").unwrap();
        let terms = Terms { probation_s: 1, probation_answers: 0, ..Terms::default() };
        let action = Action::Run;
        let wish = |(model, release): &(ModelName, Digest)| {
            let (model, release) = (model.clone(), *release);
            ModelOrder { model, release, action, rollout: 1, terms }
        };
        let order = Order {
            device: id.clone(),
            generation: self.generation,
            issued_s: self.now.unix_s,
            expires_s: self.now.unix_s + 7 * DAY_S,
            nonce: None,
            models: wishes.iter().map(wish).collect(),
        };
        let mut buf = [0; ORDER_BYTES_MAX];
        let payload = codec::encode(&order, &mut buf).unwrap().to_vec();
        self.send(Topic::Order(id), &seal(&[director], Context::Order, &payload));
    }

    fn running(&self) -> Option<Digest> {
        self.device.status(self.now).first().and_then(|m| m.running).map(|(_, digest)| digest)
    }

    fn waiting(&self) -> Option<Reason> {
        self.device.status(self.now).first().and_then(|m| m.waiting)
    }

    fn refused(&self, check: &str) -> u64 {
        self.device.refused().iter().find(|(c, _)| *c == check).map_or(0, |(_, n)| n)
    }

    /// A device that runs release 1.
    fn running_one() -> (Self, Release) {
        Self::new().run_one()
    }

    fn run_one(self) -> (Self, Release) {
        let mut bench = self;
        let one = bench.release(1, Nature::Good);
        bench.list(&one, 1);
        bench.authority.publish();
        bench.publish();
        bench.up();
        bench.order(&one);
        bench.pass(5);
        assert_eq!(bench.running(), Some(one.digest));
        (bench, one)
    }
}

#[test]
fn an_order_before_everything_else_is_carried_out_once_the_rest_has_come() {
    let mut bench = Box::new();
    bench.up();
    let one = bench.release(1, Nature::Good);
    bench.order(&one);
    assert_eq!(bench.running(), None);
    assert!(bench.device.order_problem().is_some_and(|p| p.contains("first keyset")));
    // The keyset comes, and with it the order; its release is not listed yet.
    bench.authority.publish();
    bench.publish();
    bench.pass(1);
    assert_eq!(bench.waiting(), Some(Reason::NotReleased));
    assert_eq!(bench.refused("not a target"), 1);
    bench.list(&one, 1);
    bench.authority.publish_next();
    bench.publish();
    bench.pass(5);
    assert_eq!(bench.running(), Some(one.digest));
    let status = bench.device.trust_status();
    assert_eq!((status.keyset, status.problem), (Some(1), None));
}

#[test]
fn a_release_that_nobody_lists_ends_with_its_reason_and_no_poison() {
    let (mut bench, one) = Box::running_one();
    let two = bench.release(2, Nature::Good);
    bench.order(&two);
    bench.pass(590);
    assert_eq!(bench.waiting(), Some(Reason::NotReleased));
    bench.pass(20);
    let status = &bench.device.status(bench.now)[0];
    let last = status.last.unwrap();
    assert_eq!((last.release, last.result), (two.digest, Ending::Failed(Reason::NotReleased)));
    assert!(status.table.poison.is_empty());
    assert_eq!(bench.running(), Some(one.digest));
}

#[test]
fn expired_metadata_stops_what_is_new_and_nothing_else() {
    let (mut bench, one) = Box::running_one();
    let two = bench.release(2, Nature::Good);
    bench.list(&two, 2);
    bench.authority.publish_next();
    bench.publish();
    bench.now.unix_s += 2 * DAY_S;
    bench.order(&two);
    bench.pass(2);
    assert_eq!(bench.waiting(), Some(Reason::MetadataExpired));
    bench.boot();
    bench.pass(2);
    assert_eq!(bench.running(), Some(one.digest), "a boot needs no fresh metadata");
    bench.up();
    bench.pass(2);
    assert_eq!(bench.waiting(), Some(Reason::MetadataExpired));
    bench.authority.expires_s[1] = bench.now.unix_s + DAY_S;
    bench.authority.versions[1] += 1;
    bench.authority.publish_timestamp(bench.authority.snapshot_pin());
    bench.publish();
    bench.pass(5);
    assert_eq!(bench.running(), Some(two.digest));
}

#[test]
fn what_runs_survives_the_rotation_of_every_key() {
    let (mut bench, one) = Box::running_one();
    let (release, director) = (key(101), key(102));
    bench.authority.rotate(|a| {
        (a.targets_key, a.snapshot_key, a.timestamp_key) = (key(70), key(71), key(72));
    });
    bench.authority.publish_keyset(2, &[&release], &director);
    bench.authority.publish_next();
    bench.publish();
    let status = bench.device.trust_status();
    assert_eq!((status.keyset, status.problem.as_deref()), (Some(2), None));
    bench.boot();
    bench.up();
    bench.pass(5);
    assert_eq!(bench.running(), Some(one.digest), "admitted under keyset 1");

    // The old director and the old release key have nothing to say any more.
    let two = bench.release(2, Nature::Good);
    bench.list(&two, 2);
    bench.authority.publish_next();
    bench.publish();
    let before = bench.refused("order signature");
    bench.order(&two);
    bench.pass(2);
    assert_eq!(bench.refused("order signature"), before + 1);
    assert_eq!(bench.running(), Some(one.digest));
    bench.order_by(two.digest, &director);
    bench.pass(600);
    assert_eq!(bench.running(), Some(one.digest));
    assert!(bench.refused("release signature") > 0);
    let last = bench.device.status(bench.now)[0].last.unwrap();
    assert_eq!((last.release, last.result), (two.digest, Ending::Failed(Reason::Untrusted)));
}

#[test]
fn an_order_by_the_next_director_waits_for_the_keyset_that_names_it() {
    let (mut bench, _) = Box::running_one();
    let two = bench.release(2, Nature::Good);
    bench.list(&two, 2);
    bench.authority.publish_next();
    bench.publish();
    bench.order_by(two.digest, &key(102));
    bench.pass(2);
    assert_eq!(bench.refused("order signature"), 1);
    bench.authority.publish_keyset(2, &[&key(1)], &key(102));
    bench.authority.publish_next();
    bench.publish();
    bench.pass(5);
    assert_eq!(bench.running(), Some(two.digest));
}

#[test]
fn a_release_of_a_team_is_looked_up_in_the_list_of_that_team() {
    let (mut bench, _) = Box::running_one();
    let two = bench.release(2, Nature::Good);
    bench.list(&two, 2);
    let targets = bench.authority.targets.remove_entry("digits/v2").into_iter().collect();
    let paths = vec!["digits/*".to_owned()];
    let team = Team { key: key(30), paths, targets, version: 1 };
    bench.authority.teams.insert("vision".to_owned(), team);
    bench.authority.publish_next();
    bench.publish();
    bench.order(&two);
    bench.pass(5);
    assert_eq!(bench.running(), Some(two.digest));
}
