//! The status: what runs on this device, why, and what is wrong, for a person standing at the box.
//!
//! The event loop publishes facts on the [`Board`] whenever they change; whoever asks gets them
//! with what only the moment knows (uptime, counters). So a loop that is busy with a disk delays
//! nobody who wants to know why. The answer travels as JSON over the agent's own socket and is
//! shown by [`render`]; an agent that does not run has no status, and nothing is guessed from the
//! disk ([`fetch`]).

mod authority;
mod endings;
pub mod fetch;
mod held;
mod problems;
pub mod render;
mod sandbox;
mod serving;
mod telemetry;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fleetway_engine::{Require, Sandbox};
use fleetway_protocol::ids::{DeviceId, Digest};
use fleetway_protocol::machine::Phase;
use serde::{Deserialize, Serialize};

pub use authority::{Authority, Certificate, Role};
pub use endings::{Last, Why};
pub use held::{Held, Lock, Shadow};
pub use render::phase_name;
pub use sandbox::SandboxState;
pub use serving::Serving;
pub use telemetry::Reports;

use crate::clock::Clock;
use crate::device::{self, place_name};
use crate::gateway::DownstreamStatus;
use crate::serving::live::{Live, Loaded, Models};
use crate::serving::locks::Locks;

/// What a person at the box wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Which device.
    pub device: String,
    /// Version of the agent.
    pub agent: String,
    /// Seconds since the agent started.
    pub uptime_s: u64,
    /// The link to the broker.
    pub link: Link,
    /// Where applications ask.
    pub serving: Serving,
    /// The certificate, if the agent has one and renews it.
    #[serde(default)]
    pub certificate: Certificate,
    /// How well self-tests are fenced in.
    pub sandbox: SandboxState,
    /// What became of the telemetry reports; absent until their place on disk is open.
    #[serde(default)]
    pub telemetry: Option<Reports>,
    /// The models.
    pub models: Vec<Model>,
    /// What is known of the release authority; absent where fixed keys are believed.
    pub authority: Option<Authority>,
    /// Locks that applications hold.
    #[serde(default)]
    pub locks: Vec<Lock>,
    /// Generation of the order that was acted on last; 0 before the first.
    #[serde(default)]
    pub generation: u64,
    /// How often each check refused something since the agent started.
    pub refused: BTreeMap<String, u64>,
    /// How often something was asked for again because it did not come in time, by kind.
    #[serde(default)]
    pub late: BTreeMap<String, u64>,
    /// Devices that hang on this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<DownstreamStatus>,
    /// What is wrong: a sentence each.
    pub problems: Vec<String>,
}

/// Counts by name, as they are printed.
fn named(counts: &device::Counts) -> BTreeMap<String, u64> {
    counts.iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// The link to the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its address.
    pub broker: String,
    /// Whether it is there.
    pub connected: bool,
    /// For how long it has been so, seconds.
    pub for_s: u64,
    /// The last error, which may be over.
    pub last_error: Option<String>,
}

/// One model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// What answers, if anything does.
    pub running: Option<Running>,
    /// Where an update is.
    pub phase: String,
    /// The release that the order wants.
    pub target: Option<String>,
    /// Chunks of a download.
    pub progress: Option<Progress>,
    /// What the current step waits for.
    pub waiting: Option<Why>,
    /// All that a held update waits for.
    pub held: Option<Held>,
    /// The candidate in the shadow, or how the last one did.
    pub shadow: Option<Shadow>,
    /// How the last order ended.
    pub last: Option<Last>,
    /// The probation under way.
    pub probation: Option<Probation>,
    /// Releases below this counter are refused.
    pub floor: u64,
    /// Releases remembered as bad.
    pub poisoned: Vec<Poisoned>,
    /// Bad releases forgotten because the list was full.
    pub poison_dropped: u32,
    /// What it answered since this release was loaded.
    pub answers: Answers,
}

/// What answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Digest of the release, hexadecimal.
    pub release: String,
    /// What people call it.
    pub version: String,
    /// `a`, `b` or `factory`.
    pub slot: String,
    /// What runs it: `qnn` or `tract`.
    #[serde(default)]
    pub engine: String,
}

/// Chunks of a download.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// On disk.
    pub have: u32,
    /// In all.
    pub total: u32,
}

/// A probation under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// Seconds since it began.
    pub age_s: u64,
    /// Seconds that it lasts at least.
    pub needed_s: u64,
    /// Real answers since it began.
    pub answers: u64,
    /// Answers that are needed.
    pub answers_needed: u32,
    /// Whether all that is missing is the yes of the device's own check.
    #[serde(default)]
    pub checking: bool,
}

/// A release remembered as bad.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poisoned {
    /// Which.
    pub release: String,
    /// Why.
    pub why: Why,
}

/// What a model answered since this release was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Requests, failed ones included.
    pub requests: u64,
    /// Failed ones.
    pub errors: u64,
    /// Half of the answers took no longer, microseconds.
    pub p50_us: Option<u64>,
    /// 95 of 100 took no longer, microseconds.
    pub p95_us: Option<u64>,
    /// Answers by class.
    pub classes: Vec<u32>,
    /// Runs past their deadline that still go on.
    pub hung_runs: usize,
}

impl Answers {
    fn of(live: &Live) -> Self {
        let hung_runs = live.current().map_or(0, |loaded| loaded.hung_runs());
        let Some(telemetry) = live.recorder().snapshot() else {
            return Self { hung_runs, ..Self::default() };
        };
        let counters = telemetry.counters;
        Self {
            requests: counters.requests,
            errors: counters.errors,
            p50_us: counters.latency.quantile_us(500),
            p95_us: counters.latency.quantile_us(950),
            classes: counters.classes.to_vec(),
            hung_runs,
        }
    }
}

impl Running {
    pub(crate) fn of(loaded: &Loaded) -> Self {
        Self {
            release: loaded.release.to_string(),
            version: loaded.version.clone(),
            slot: place_name(loaded.place).to_owned(),
            engine: loaded.engine.kind().to_owned(),
        }
    }
}

impl Model {
    /// The machine's facts in words, and what `live` really answers.
    pub fn of(facts: &device::ModelStatus, live: Option<&Live>) -> Self {
        let poisoned = |poison: &fleetway_protocol::slot::Poison| Poisoned {
            release: poison.release.to_string(),
            why: poison.reason.into(),
        };
        let progress = facts.progress;
        Self {
            name: facts.model.to_string(),
            running: live.and_then(Live::current).map(|loaded| Running::of(&loaded)),
            phase: phase_name(facts.phase).to_owned(),
            target: facts.target.as_ref().map(Digest::to_string),
            progress: (facts.phase == Phase::Download && progress.total > 0)
                .then_some(Progress { have: progress.have, total: progress.total }),
            waiting: facts.waiting.map(Why::from),
            held: facts.held.map(|held| Held::of(&held)),
            shadow: facts.shadow.map(|report| Shadow::of(&report)),
            last: facts.last.map(Last::from),
            probation: facts.probation.map(|probation| Probation {
                age_s: probation.age_ms / 1000,
                needed_s: probation.needed_ms / 1000,
                answers: probation.answers,
                answers_needed: probation.answers_needed,
                checking: probation.checking,
            }),
            floor: facts.table.version_floor,
            poisoned: facts.table.poison.iter().map(poisoned).collect(),
            poison_dropped: facts.table.poison_dropped,
            answers: live.map(Answers::of).unwrap_or_default(),
        }
    }
}

/// What the event loop last said, and where the rest of a status comes from.
pub struct Board {
    device: DeviceId,
    clock: Clock,
    models: Arc<Models>,
    require: Require,
    locks: Arc<Locks>,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    link: Link,
    link_since_ms: u64,
    serving: Serving,
    certificate: Certificate,
    renewal_problem: Option<String>,
    sandbox: SandboxState,
    telemetry: Option<Reports>,
    models: Vec<device::ModelStatus>,
    problems: Vec<String>,
    trust: Option<device::TrustStatus>,
    generation: u64,
    refused: device::Counts,
    late: device::Counts,
    gateway: Vec<DownstreamStatus>,
}

impl Board {
    /// A board on which nothing is said yet.
    pub fn new(
        device: DeviceId,
        broker: String,
        require: Require,
        clock: Clock,
        models: Arc<Models>,
    ) -> Self {
        let link = Link { broker, ..Link::default() };
        let sandbox = SandboxState::unknown(require);
        let facts = Mutex::new(Facts { link, sandbox, ..Facts::default() });
        Self { device, clock, models, require, locks: Arc::default(), facts }
    }

    /// The locks that applications hold, for whoever takes them and whoever looks.
    pub fn locks(&self) -> Arc<Locks> {
        Arc::clone(&self.locks)
    }

    fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The link came up.
    pub fn link_up(&self) {
        let now_ms = self.clock.monotonic_ms();
        self.change(|facts| {
            facts.link.connected = true;
            facts.link_since_ms = now_ms;
        });
    }

    /// The link is down. Said again with every failed attempt, it keeps its first time.
    pub fn link_down(&self, error: String) {
        let now_ms = self.clock.monotonic_ms();
        self.change(|facts| {
            if std::mem::take(&mut facts.link.connected) {
                facts.link_since_ms = now_ms;
            }
            facts.link.last_error = Some(error);
        });
    }

    /// How the devices are that hang on this one.
    pub fn set_gateway(&self, devices: Vec<DownstreamStatus>) {
        self.change(|facts| facts.gateway = devices);
    }

    /// Where applications ask.
    pub fn set_serving(&self, serving: Serving) {
        self.change(|facts| facts.serving = serving);
    }

    /// When the certificate ends, or why that is not known.
    pub fn set_certificate(&self, ends_s: Option<u64>, problem: Option<String>) {
        self.change(|facts| facts.certificate = Certificate { ends_s, left_s: None, problem });
    }

    /// How the last renewal went.
    pub fn set_renewal_problem(&self, problem: Option<String>) {
        self.change(|facts| facts.renewal_problem = problem);
    }

    /// How the last self-test was fenced in.
    pub fn set_sandbox(&self, sandbox: &Sandbox) {
        self.change(|facts| facts.sandbox = SandboxState::of(sandbox, self.require));
    }

    /// What the machines say, and what else is wrong (an order that was refused, a weak sandbox).
    pub fn set_models(&self, models: Vec<device::ModelStatus>, problems: Vec<String>) {
        self.change(|facts| {
            facts.models = models;
            facts.problems = problems;
        });
    }

    /// What is believed, and the generation of the order acted on last.
    pub fn set_trust(&self, trust: device::TrustStatus, acted_on: u64) {
        self.change(|facts| (facts.trust, facts.generation) = (Some(trust), acted_on));
    }

    /// What was refused, and what did not come in time.
    pub fn set_counts(&self, refused: device::Counts, late: device::Counts) {
        self.change(|facts| (facts.refused, facts.late) = (refused, late));
    }

    /// What became of the telemetry reports.
    pub fn set_telemetry(&self, counts: Option<crate::spool::Counts>) {
        self.change(|facts| facts.telemetry = counts.map(Reports::from));
    }

    /// The status of this moment.
    pub fn status(&self) -> Status {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.clock.monotonic_ms();
        let model = |facts: &device::ModelStatus| {
            let live = self.models.get(facts.model.as_str());
            Model::of(facts, live.as_deref())
        };
        let for_s = now_ms.saturating_sub(facts.link_since_ms) / 1000;
        let mut status = Status {
            device: self.device.to_string(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: now_ms / 1000,
            link: Link { for_s, ..facts.link.clone() },
            serving: facts.serving.clone(),
            certificate: Certificate {
                left_s: facts.certificate.ends_s.map(|s| s.saturating_sub(self.clock.unix_s())),
                problem: facts.certificate.problem.clone().or(facts.renewal_problem.clone()),
                ..facts.certificate.clone()
            },
            sandbox: facts.sandbox.clone(),
            telemetry: facts.telemetry,
            models: facts.models.iter().map(model).collect(),
            locks: self.locks.list(now_ms).into_iter().map(Lock::from).collect(),
            generation: facts.generation,
            authority: facts.trust.as_ref().map(|t| Authority::of(t, self.clock.unix_s())),
            refused: named(&facts.refused),
            late: named(&facts.late),
            gateway: facts.gateway.clone(),
            problems: facts.problems.clone(),
        };
        drop(facts);
        let mut found = problems::find(&status, self.clock.is_behind());
        status.problems.append(&mut found);
        status
    }
}
