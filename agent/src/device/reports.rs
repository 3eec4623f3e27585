//! What the device says about itself: presence, state, telemetry, and the status for a
//! person standing at the box.

use fleetway_protocol::codec;
use fleetway_protocol::hold::Held;
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::limits::REPORT_BYTES_MAX;
use fleetway_protocol::machine::Phase;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::{Host, Presence, Progress, Stamp, State, Telemetry};
use fleetway_protocol::sandbox::Sandbox;
use fleetway_protocol::shadow::ShadowReport;
use fleetway_protocol::slot::{Outcome, Place, SlotId, SlotTable};
use fleetway_protocol::telemetry::Heard;
use fleetway_protocol::topics::Topic;
use serde::Serialize;

use super::refused::heard_check;
use super::{Device, Model, Now, Output, ProbationStatus};
use crate::fs::Fs;
use crate::telemetry::Record;

/// Shortest time between two reports that differ in progress alone, milliseconds.
const PROGRESS_REPORT_MS: u64 = 250;

/// Shortest time between two reports that differ in the numbers of a shadow, milliseconds: they
/// change with every copy, and nobody steers by them.
const SHADOW_REPORT_MS: u64 = 2_000;

/// Presence and states are said again after this long, milliseconds, changed or not: brokers lose what
/// they acknowledged, and the controller must learn the truth all the same.
pub(super) const REFRESH_MS: u64 = 60_000;

/// A report as bytes. Reports are bounded by their types, so that they always fit.
pub(crate) fn encode<T: Serialize>(report: &T) -> Vec<u8> {
    let mut buf = [0; REPORT_BYTES_MAX];
    let bytes = codec::encode(report, &mut buf);
    bytes.expect("a report of bounded parts fits REPORT_BYTES_MAX").to_vec()
}

/// One model, for a person.
#[derive(Clone, Debug)]
pub struct ModelStatus {
    /// Its name.
    pub model: ModelName,
    /// What the engine has loaded, and from where.
    pub running: Option<(Place, Digest)>,
    /// Where an update is.
    pub phase: Phase,
    /// What it works on.
    pub target: Option<Digest>,
    /// How far the download is.
    pub progress: Progress,
    /// What the step waits for.
    pub waiting: Option<Reason>,
    /// How the last order ended.
    pub last: Option<Outcome>,
    /// All that is durable.
    pub table: SlotTable,
    /// The probation under way.
    pub probation: Option<ProbationStatus>,
    /// All that a held update waits for.
    pub held: Option<Held>,
    /// The candidate in the shadow, or how the last one did.
    pub shadow: Option<ShadowReport>,
}

impl Model {
    /// What is durable; the machine's own table may be ahead of it while a disk fails.
    /// Nothing that is not durable is reported.
    fn durable_table(&self) -> SlotTable {
        self.table.value().cloned().unwrap_or_else(|| SlotTable::new(self.machine.table().factory))
    }
}

impl Model {
    fn waits_for(&self, now: Now) -> Option<Reason> {
        let machine = self.machine.waiting();
        machine.or(self.waits_for_trust()).or(self.waits_in_shadow(now))
    }
}

impl<F: Fs> Device<F> {
    pub(super) fn stamp(&mut self) -> Stamp {
        self.seq += 1;
        Stamp { epoch: self.epoch, seq: self.seq }
    }

    pub(super) fn publish_presence(&mut self, now: Now) {
        self.presence_at_ms = now.ms;
        let payload = self.presence(true);
        self.publish(Topic::Presence(self.config.id.clone()), payload, true, true);
    }

    /// Presence as bytes; with `online: false` it is the last will.
    pub fn presence(&mut self, online: bool) -> Vec<u8> {
        let stamp = self.stamp();
        let generation = self.store.device().generation;
        let agent = self.config.agent.clone();
        let sandbox = self.sandbox.clone();
        let hardware = self.config.hardware.clone();
        encode(&Presence { stamp, online, agent, generation, sandbox, hardware })
    }

    /// How well self-tests are fenced in, as the last one found it.
    pub fn handle_sandbox(&mut self, now: Now, sandbox: Sandbox) {
        if self.sandbox.as_ref() != Some(&sandbox) {
            self.sandbox = Some(sandbox);
            if self.up {
                self.publish_presence(now);
            }
        }
    }

    /// Counters of a model, to be sent to the controller, now or when there is a link again.
    pub fn handle_telemetry(&mut self, now: Now, model: &ModelName, mut telemetry: Telemetry) {
        telemetry.stamp = self.stamp();
        telemetry.numbered.time_s = now.unix_s;
        self.out.push_back(Output::Telemetry(Record::Model(model.clone(), Box::new(telemetry))));
    }

    /// How the machine does, to be sent to the controller, now or when there is a link again.
    pub fn handle_host(&mut self, now: Now, mut host: Host) {
        host.stamp = self.stamp();
        host.numbered.time_s = now.unix_s;
        self.out.push_back(Output::Telemetry(Record::Host(Box::new(host))));
    }

    /// What the controller has of our telemetry, if it is the controller who says so.
    pub(super) fn handle_heard(&mut self, bytes: &[u8]) {
        // Before the first keyset nobody is believed; the controller answers again.
        let Some(keyring) = self.trust.keyring() else { return };
        match Heard::open(bytes, keyring, &self.config.id) {
            Ok(heard) => self.out.push_back(Output::Heard(Box::new(heard))),
            Err(error) => self.refused.count(heard_check(&error)),
        }
    }

    fn state(&self, model: &Model, now: Now) -> State {
        let machine = &model.machine;
        let table = model.durable_table();
        State {
            stamp: Stamp::default(),
            generation: self.store.device().generation,
            running: machine.running().map(|(_, digest)| digest),
            phase: machine.phase(),
            target: machine.goal().map(|goal| goal.release),
            progress: model.fetch.as_ref().map(|f| f.progress()).unwrap_or_default(),
            waiting: model.waits_for(now),
            last: table.last,
            floor: table.version_floor,
            poisoned: table.poison.len() as u8,
            poison_dropped: table.poison_dropped,
            held: machine.held(),
            shadow: model.shadow_report(),
        }
    }

    /// When the next report is due: one of progress that was held back, or the refresh.
    pub(super) fn report_due_ms(&self, model: &Model) -> Option<u64> {
        let reported = model.reported.as_ref().filter(|_| self.up)?;
        let progress = model.fetch.as_ref().map(|f| f.progress()).unwrap_or_default();
        let pause_ms = if reported.progress != progress {
            PROGRESS_REPORT_MS
        } else if reported.shadow != model.shadow_report() {
            SHADOW_REPORT_MS
        } else {
            REFRESH_MS
        };
        Some(model.reported_at_ms + pause_ms)
    }

    /// Reports a model whose state changed. What is not durable yet is not said.
    pub(super) fn report(&mut self, at: usize, now: Now) {
        if !self.up {
            return;
        }
        let mut state = self.state(&self.models[at], now);
        let model = &self.models[at];
        if let Some(reported) = &model.reported
            && now.ms < model.reported_at_ms + REFRESH_MS
        {
            let seen = State { stamp: state.stamp, ..reported.clone() };
            if seen == state {
                return;
            }
            let age_ms = now.ms.saturating_sub(model.reported_at_ms);
            let seen = State { progress: state.progress, ..seen };
            if seen == state && age_ms < PROGRESS_REPORT_MS {
                return;
            }
            let seen = State { shadow: state.shadow, ..seen };
            if seen == state && age_ms < SHADOW_REPORT_MS {
                return;
            }
        }
        state.stamp = self.stamp();
        let model = &mut self.models[at];
        model.reported_at_ms = now.ms;
        model.reported = Some(state.clone());
        let topic = Topic::State(self.config.id.clone(), model.name.clone());
        self.publish(topic, encode(&state), true, true);
    }

    /// All models, for a person.
    pub fn status(&self, now: Now) -> Vec<ModelStatus> {
        let status = |model: &Model| {
            let table = model.durable_table();
            ModelStatus {
                model: model.name.clone(),
                running: model.machine.running(),
                phase: model.machine.phase(),
                target: model.machine.goal().map(|goal| goal.release),
                progress: model.fetch.as_ref().map(|f| f.progress()).unwrap_or_default(),
                waiting: model.waits_for(now),
                last: table.last,
                table,
                probation: model.probation_status(now),
                held: model.machine.held(),
                shadow: model.shadow_report(),
            }
        };
        self.models.iter().map(status).collect()
    }

    /// Why the last order was not taken, if so.
    pub fn order_problem(&self) -> Option<&str> {
        self.order_problem.as_deref()
    }

    /// Which factory models are not served, and why.
    pub fn factory_problems(&self) -> impl Iterator<Item = String> {
        self.models.iter().filter_map(|model| {
            let error = model.no_factory.as_ref()?;
            Some(format!("the factory model of {} is not served: {error}", model.name))
        })
    }
}

/// The slot's letter, or `factory`.
pub fn place_name(place: Place) -> &'static str {
    match place {
        Place::Slot(SlotId::A) => "a",
        Place::Slot(SlotId::B) => "b",
        Place::Factory => "factory",
    }
}
