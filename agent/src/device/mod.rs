//! The device: one state machine per model, an order, and the link between them and the
//! world. Synchronous and without a clock, so that the daemon ([`crate::run`]) and the
//! simulated world of the `tests` crate run the very same code.
//!
//! **Contract.** Call one of the `handle_*` functions, then drain [`Device::poll`] until it
//! gives `None`; call [`Device::handle_tick`] at [`Device::poll_timeout`]. File effects go
//! through [`crate::fs::Fs`] at once; what takes long (self-test, loading an engine) comes
//! out as a job and its answer goes back in.
//!
//! Where things are checked: an order in [`orders`], a release and every chunk in
//! [`fetch`], all bytes once more in [`commands`] before they are tried or served. What an
//! update waits for comes in by [`consent`], how a candidate does in the shadow by [`shadow`]. The
//! decisions are `fleetway_protocol::machine`'s.

mod admission;
mod check;
mod commands;
mod consent;
mod factory;
mod fetch;
mod jobs;
mod orders;
mod probation;
mod refused;
mod reports;
mod shadow;
mod stored;
mod trust;

use std::collections::{BTreeMap, VecDeque};
use std::io;

use fleetway_protocol::hold::Hold;
use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass, ModelName, Version};
use fleetway_protocol::machine::{Event, Machine, Token};
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::State;
use fleetway_protocol::sandbox::Sandbox;
use fleetway_protocol::slot::SlotTable;
use fleetway_protocol::topics::{Piece, Topic};
use fleetway_protocol::transfer;
use fleetway_protocol::trust::Target;

use crate::fs::Fs;
use crate::store::{RecordFile, Store};
use admission::{Admitted, Pending};
pub use check::{CheckAnswer, CheckJob, CheckRule};
pub use consent::Surroundings;
pub use factory::FactoryError;
use fetch::Fetch;
pub use jobs::{ActivateJob, Output, Publish, SelfTestJob, ShadowJob};
pub use probation::ProbationStatus;
use probation::{Judged, Probation, Steady};
pub use refused::Counts;
pub(crate) use reports::encode;
pub use reports::{ModelStatus, place_name};
use shadow::ShadowRun;
pub use stored::{StoredModel, StoredPlace};
use trust::Trust;
pub use trust::TrustStatus;

/// Both clocks, read by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds.
    pub ms: u64,
    /// Unix seconds, as good as the system knows.
    pub unix_s: u64,
}

/// What a device is told once.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Its id.
    pub id: DeviceId,
    /// Root of all topics, ends in `/`.
    pub root: String,
    /// Root of the release authority, from which all trust follows.
    pub trust_root: Vec<u8>,
    /// What hardware it is, if releases shall be told apart by it.
    pub hardware: Option<HardwareClass>,
    /// The forms of a release that its engines run, the best one first.
    pub forms: &'static [VariantKind],
    /// What its owner has every update wait for, beside what the order says.
    pub hold: Hold,
    /// How it downloads.
    pub transfer: transfer::Config,
    /// Version of this agent.
    pub agent: Version,
    /// Whether there is somebody to ask which orders are old, should the device not know. It
    /// takes no order then before [`Device::handle_floor`].
    pub asks_floor: bool,
    /// Models whose releases a check of the device's own has a word on.
    pub checks: BTreeMap<ModelName, CheckRule>,
}

impl DeviceConfig {
    fn target(&self) -> Target<'_> {
        Target { hardware: self.hardware.as_ref(), forms: self.forms }
    }
}

struct Model {
    name: ModelName,
    /// Why its factory model is not served.
    no_factory: Option<FactoryError>,
    machine: Machine,
    table: RecordFile<SlotTable>,
    fetch: Option<Fetch>,
    /// The release that was admitted for the machine's goal.
    admitted: Option<Admitted>,
    /// The release that waits until the release authority lists it.
    pending: Option<Pending>,
    probation: Option<Probation>,
    judged: Option<Judged>,
    steady: Steady,
    shadow: Option<ShadowRun>,
    reported: Option<State>,
    reported_at_ms: u64,
    halted: bool,
}

/// The device. See the module page.
pub struct Device<F> {
    config: DeviceConfig,
    store: Store<F>,
    models: Vec<Model>,
    epoch: u64,
    seq: u64,
    up: bool,
    presence_at_ms: u64,
    stopping: bool,
    halted: bool,
    order_problem: Option<String>,
    /// An order that no key of the keyset in force signed: the next keyset may know better.
    order_unknown: Option<Vec<u8>>,
    trust: Trust,
    refused: Counts,
    late: Counts,
    sandbox: Option<Sandbox>,
    out: VecDeque<Output>,
}

impl<F: Fs> Device<F> {
    /// The device after a boot: slot tables recovered, the stored order taken up again.
    ///
    /// # Errors
    /// The disk's, when not even the device's own record can be read or written.
    pub fn open(config: DeviceConfig, mut store: Store<F>, now: Now) -> io::Result<Self> {
        let record = orders::begin(&store, config.asks_floor, now);
        store.put_device(record)?;
        store.clear_floor();
        let trust = Trust::open(&config.trust_root, &mut store)?;
        let mut device = Self {
            config,
            store,
            models: Vec::new(),
            epoch: record.epoch,
            seq: 0,
            up: false,
            presence_at_ms: 0,
            stopping: false,
            halted: false,
            order_problem: None,
            order_unknown: None,
            trust,
            refused: Counts::default(),
            late: Counts::default(),
            sandbox: None,
            out: VecDeque::new(),
        };
        for name in device.store.models() {
            device.open_model(name)?;
        }
        device.refresh_trust(now);
        device.drive(now);
        device.resume_order(now);
        device.drive(now);
        Ok(device)
    }

    fn open_model(&mut self, name: ModelName) -> io::Result<usize> {
        let table = self.store.table(&name)?;
        let (factory, no_factory) = match self.factory(&name) {
            Ok(factory) => (factory, None),
            Err(error) => {
                tracing::warn!(model = %name, "the factory model is not served: {error}");
                (None, Some(error))
            }
        };
        let mut value = table.value().cloned().unwrap_or_else(|| SlotTable::new(factory));
        value.factory = factory;
        let mut machine = Machine::recover(value);
        machine.set_owner(self.config.hold);
        self.models.push(Model {
            name,
            no_factory,
            machine,
            table,
            fetch: None,
            admitted: None,
            pending: None,
            probation: None,
            judged: None,
            steady: Steady::default(),
            shadow: None,
            reported: None,
            reported_at_ms: 0,
            halted: false,
        });
        Ok(self.models.len() - 1)
    }

    /// The link came up. What the standing subscriptions give (the order, replies) comes
    /// through [`Device::handle_message`].
    pub fn handle_up(&mut self, now: Now) {
        self.up = true;
        self.publish_presence(now);
        self.trust_up(now);
        self.admissions_up(now);
        for model in &mut self.models {
            model.reported = None;
            if let Some(fetch) = &mut model.fetch {
                fetch.transfer.handle(now.ms, transfer::Event::Up);
            }
        }
        self.drive(now);
    }

    /// The link went down.
    pub fn handle_down(&mut self, now: Now) {
        self.up = false;
        for fetch in self.models.iter_mut().filter_map(|m| m.fetch.as_mut()) {
            fetch.transfer.handle(now.ms, transfer::Event::Down);
        }
        self.drive(now);
    }

    /// A message arrived. Whatever it is, it is checked before anything is believed.
    pub fn handle_message(&mut self, now: Now, topic: &str, payload: &[u8]) {
        match Topic::parse(&self.config.root, topic) {
            Some(Topic::Order(id)) if id == self.config.id => self.handle_order(now, payload),
            Some(Topic::Blob(of, piece)) => self.handle_piece(now, of, piece, payload),
            Some(Topic::Block(id)) if id == self.config.id => self.handle_block(now, payload),
            Some(Topic::Heard(id)) if id == self.config.id => return self.handle_heard(payload),
            Some(Topic::Trust(file)) => self.handle_trust(now, &file, payload),
            _ => self.refused.count("topic"),
        }
        self.drive(now);
    }

    /// A self-test ended.
    pub fn handle_self_test(
        &mut self,
        now: Now,
        model: &ModelName,
        token: Token,
        result: Result<(), Reason>,
    ) {
        self.tell(now, model, Event::Done(token, result));
    }

    /// An engine serves, or did not load.
    pub fn handle_activated(
        &mut self,
        now: Now,
        model: &ModelName,
        token: Token,
        result: Result<Digest, Reason>,
    ) {
        self.tell(now, model, Event::Activated(token, result));
    }

    /// Nothing is served any more.
    pub fn handle_unloaded(&mut self, now: Now, model: &ModelName, token: Token) {
        self.tell(now, model, Event::Done(token, Ok(())));
    }

    fn tell(&mut self, now: Now, model: &ModelName, event: Event) {
        if let Some(model) = self.models.iter_mut().find(|m| m.name == *model) {
            model.machine.handle(now.ms, event);
        }
        self.drive(now);
    }

    /// Time passed.
    pub fn handle_tick(&mut self, now: Now) {
        for model in &mut self.models {
            model.machine.handle(now.ms, Event::Tick);
            if let Some(fetch) = &mut model.fetch {
                let before = fetch.transfer.late();
                fetch.transfer.handle(now.ms, transfer::Event::Tick);
                self.late.add("piece", u64::from(fetch.transfer.late() - before));
            }
        }
        self.drive(now);
    }

    /// The process was asked to end: [`Output::Halt`] says when.
    pub fn handle_stop(&mut self, now: Now) {
        self.stopping = true;
        for model in &mut self.models {
            model.machine.handle(now.ms, Event::Stopping);
        }
        self.drive(now);
    }

    /// The next thing to do, `None` when there is nothing more for now.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to call [`Device::handle_tick`], monotonic milliseconds.
    pub fn poll_timeout(&self, now: Now) -> Option<u64> {
        let presence = self.up.then_some(self.presence_at_ms + reports::REFRESH_MS);
        self.models
            .iter()
            .flat_map(|m| {
                let probation = m.probation_due_ms(now);
                let fetch = m.fetch.as_ref().and_then(|f| f.transfer.poll_timeout());
                let admission = self.admission_due_ms(m);
                let (held, shadow) = (consent::due_ms(m, now), shadow::due_ms(m, now));
                let due = [m.machine.poll_timeout(), fetch, probation, self.report_due_ms(m)];
                due.into_iter().chain([admission, held, shadow])
            })
            .chain([presence, self.trust.timeout_ms().filter(|_| self.up)])
            .flatten()
            .min()
    }

    /// Number of this boot.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The time by which orders are judged, Unix seconds: never behind what was signed.
    pub fn time_floor_s(&self) -> u64 {
        self.store.device().time_floor_s
    }

    /// What it was told.
    pub fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// Does everything that is due: machines, transfers, judgements, reports.
    fn drive(&mut self, now: Now) {
        self.ask_for_trust(now);
        for at in 0..self.models.len() {
            self.judge(at, now);
            self.judge_shadow(at, now);
            self.watch_admission(at, now);
            while let Some(command) = self.models[at].machine.poll() {
                self.execute(at, now, command);
            }
            self.drive_fetch(at, now);
            self.watch_probation(at, now);
            self.watch_shadow(at);
            self.report(at, now);
        }
        if self.up && now.ms >= self.presence_at_ms + reports::REFRESH_MS {
            self.publish_presence(now);
        }
        let all_halted = self.models.iter().all(|m| m.halted);
        if self.stopping && all_halted && !self.halted {
            self.halted = true;
            self.out.push_back(Output::Halt);
        }
    }

    fn publish(&mut self, topic: Topic, payload: Vec<u8>, at_least_once: bool, retain: bool) {
        let topic = topic.text(&self.config.root).as_str().to_owned();
        self.out.push_back(Output::Publish(Publish { topic, payload, at_least_once, retain }));
    }

    fn blob_topic(&self, of: fleetway_protocol::ids::ShortDigest, piece: Piece) -> String {
        Topic::Blob(of, piece).text(&self.config.root).as_str().to_owned()
    }
}
