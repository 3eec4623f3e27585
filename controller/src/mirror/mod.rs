//! The JSON mirror: what devices say, once more for dashboards, as flat messages that everything
//! reads. Published by the controller alone, from reports that were checked and accepted.
//!
//! Pure: facts in, messages out, and a queue of them. The queue is bounded by what there is: a retained
//! topic waits once, with its newest payload; of the rest the oldest go, and are counted. Whoever
//! publishes takes from it only when nothing else waits to be sent.
//!
//! [`keys`] is the table of all keys, from which schemas and documentation are made; [`home_assistant`] tells
//! that program where to find them.

mod flat;
pub mod home_assistant;
pub mod keys;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use fleetway_protocol::counters::{Confidence, Counters};
use fleetway_protocol::drift::DRIFT_SAMPLES_MIN;
use fleetway_protocol::health::{Health, drifts};
use fleetway_protocol::ids::{DeviceId, Digest, Generation, ModelName};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::{Host, State, Telemetry};
use fleetway_protocol::slot::{Ending, Outcome};

use crate::fleet::{ReportTotals, Sum};
use flat::Flat;
use keys::{EVENT, HOST, STATE, TELEMETRY};

/// A message, bytes. Small enough for every bridge and for a microcontroller's buffer.
pub const BYTES_MAX: usize = 512;
/// Messages that are not retained and wait: ten seconds of a fleet of a thousand.
const WAITING_MAX: usize = 1024;

/// A message to publish, at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where, below the root of all topics.
    pub topic: String,
    /// What; empty to clear what is retained.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it.
    pub retain: bool,
}

/// Messages that wait.
#[derive(Debug, Default)]
pub struct Mirror {
    retained: BTreeMap<String, Vec<u8>>,
    /// Topics of those, in the order in which they came.
    order: VecDeque<String>,
    passing: VecDeque<Message>,
    dropped: u64,
    retained_next: bool,
}

impl Mirror {
    /// A message that waits from now on.
    pub fn push(&mut self, message: Message) {
        if message.retain {
            if self.retained.insert(message.topic.clone(), message.payload).is_none() {
                self.order.push_back(message.topic);
            }
            return;
        }
        if self.passing.len() >= WAITING_MAX {
            self.passing.pop_front();
            self.dropped += 1;
        }
        self.passing.push_back(message);
    }

    /// The next one: of both kinds in turn.
    pub fn pop(&mut self) -> Option<Message> {
        self.retained_next = !self.retained_next;
        if self.retained_next {
            self.pop_retained().or_else(|| self.passing.pop_front())
        } else {
            self.passing.pop_front().or_else(|| self.pop_retained())
        }
    }

    fn pop_retained(&mut self) -> Option<Message> {
        let topic = self.order.pop_front()?;
        let payload = self.retained.remove(&topic).unwrap_or_default();
        Some(Message { topic, payload, retain: true })
    }

    /// Messages that were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// A release as dashboards name it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Its digest.
    pub digest: Digest,
    /// Its version, if it is published here.
    pub version: Option<&'a str>,
}

impl Named<'_> {
    fn short(&self) -> String {
        format!("{:.12}", self.digest)
    }
}

/// `j/<device>/on`.
pub fn online(device: &DeviceId, online: bool) -> Message {
    let payload = if online { b"1" } else { b"0" };
    Message { topic: format!("j/{device}/on"), payload: payload.to_vec(), retain: true }
}

/// Takes back what is retained of a device that left.
pub fn gone<'a>(
    device: &DeviceId,
    models: impl Iterator<Item = &'a ModelName>,
) -> impl Iterator<Item = Message> {
    let states = models.map(|model| format!("j/{device}/st/{model}"));
    let topics: Vec<_> = states.chain([format!("j/{device}/on")]).collect();
    topics.into_iter().map(|topic| Message { topic, payload: Vec::new(), retain: true })
}

/// What the mirror knows of a telemetry report beyond what it says.
#[derive(Clone, Copy, Debug)]
pub struct TelemetryFacts<'a> {
    /// Of which release.
    pub release: Named<'a>,
    /// What healthy means for it, if it is published here.
    pub health: Option<&'a Health>,
    /// It waited on the device's disk.
    pub late: bool,
    /// Answers over all loads; of reports of now.
    pub answers: Option<Sum>,
}

/// `j/<device>/tm/<model>`.
pub fn telemetry(
    device: &DeviceId,
    model: &ModelName,
    said: &Telemetry,
    facts: &TelemetryFacts<'_>,
) -> Message {
    let counters = &said.counters;
    let latency_ms = |permille| counters.latency.quantile_us(permille).map(|us| us as f64 / 1000.0);
    let (class, share_pct) = top_class(counters).unzip();
    let (psi_max, drift) = facts.health.and_then(|health| psi(counters, health)).unzip();
    let mut flat = Flat::new(&TELEMETRY);
    flat.int("ts", said.numbered.time_s.saturating_mul(1000))
        .text("device", Some(device.as_str()))
        .text("model", Some(model.as_str()))
        .flag("late", facts.late)
        .int("number", said.numbered.number)
        .text("release", Some(facts.release.short()))
        .int("boot", said.stamp.epoch)
        .int("load_infer_total", counters.requests)
        .int("load_infer_err_total", counters.errors)
        .int("infer_total", facts.answers.map(|sum| sum.requests))
        .int("infer_err_total", facts.answers.map(|sum| sum.errors))
        .text("version", facts.release.version)
        .num("lat_p50_ms", latency_ms(500), 3)
        .num("lat_p99_ms", latency_ms(990), 3)
        .num("psi_max", psi_max, 4)
        .flag("drift", drift)
        .num("confidence", counters.confidence().map(|c| f64::from(Confidence::share(c))), 4)
        .int("top_class", class)
        .num("top_class_pct", share_pct, 1)
        .num("rss_mb", mb(said.rss_bytes), 1);
    passing(format!("j/{device}/tm/{model}"), &flat)
}

fn mb(bytes: Option<u64>) -> Option<f64> {
    bytes.map(|bytes| bytes as f64 / 1e6)
}

/// `j/<device>/hw`; `reports` is what became of all reports, of one of now.
pub fn host(device: &DeviceId, said: &Host, late: bool, reports: Option<ReportTotals>) -> Message {
    let cpu_pct = said.cpu_permille.map(|permille| f64::from(permille) / 10.0);
    let temp_c = said.temperature_milli_c.map(|milli_c| f64::from(milli_c) / 1000.0);
    let mut flat = Flat::new(&HOST);
    flat.int("ts", said.numbered.time_s.saturating_mul(1000))
        .text("device", Some(device.as_str()))
        .flag("late", late)
        .int("number", said.numbered.number)
        .num("cpu_pct", cpu_pct, 1)
        .num("mem_mb", mb(said.memory_bytes), 1)
        .num("mem_free_mb", mb(said.memory_available_bytes), 1)
        .num("temp_c", temp_c, 1)
        .num("disk_mb", mb(said.disk_bytes), 1)
        .num("disk_free_mb", mb(said.disk_free_bytes), 1)
        .int("uptime_s", said.uptime_s)
        .int("reports_total", reports.map(|reports| reports.produced))
        .int("reports_delivered_total", reports.map(|reports| reports.delivered))
        .int("reports_lost_total", reports.map(|reports| reports.lost));
    passing(format!("j/{device}/hw"), &flat)
}

/// The most frequent class, and its share in per cent.
fn top_class(counters: &Counters) -> Option<(u64, f64)> {
    let all: u64 = counters.classes.iter().map(|count| u64::from(*count)).sum();
    let classes = counters.classes.iter().enumerate().rev();
    let (class, count) = classes.max_by_key(|(_, count)| **count).filter(|_| all > 0)?;
    Some((class as u64, f64::from(*count) * 100.0 / all as f64))
}

/// The largest distance to the reference, and whether one is above its bound; on enough answers.
fn psi(counters: &Counters, health: &Health) -> Option<(f64, bool)> {
    let psi_max = f64::from(health.policy.psi_milli_max) / 1000.0;
    let found = drifts(&health.reference, counters, psi_max).filter_map(|(_, drift)| drift);
    let enough: Vec<_> = found.filter(|drift| drift.samples >= DRIFT_SAMPLES_MIN).collect();
    let largest = enough.iter().map(|drift| drift.psi).max_by(f64::total_cmp)?;
    Some((largest, psi_max > 0.0 && enough.iter().any(|drift| drift.psi > drift.bound)))
}

/// `j/<device>/st/<model>`.
pub fn state<'a>(
    now_s: u64,
    device: &DeviceId,
    model: &ModelName,
    said: &State,
    named: impl Fn(Digest) -> Named<'a>,
) -> Message {
    let running = said.running.map(&named);
    let target = said.target.filter(|_| said.phase != Phase::Idle).map(&named);
    let total = u64::from(said.progress.total);
    let progress = (said.phase == Phase::Download && total > 0)
        .then(|| f64::from(said.progress.have) * 100.0 / total as f64);
    let mut flat = Flat::new(&STATE);
    flat.int("ts", now_s.saturating_mul(1000))
        .text("device", Some(device.as_str()))
        .text("model", Some(model.as_str()))
        .text("phase", Some(said.phase.code()))
        .int("generation", said.generation)
        .text("release", running.map(|release| release.short()))
        .text("version", running.and_then(|release| release.version))
        .text("target_release", target.map(|release| release.short()))
        .text("target_version", target.and_then(|release| release.version))
        .num("progress_pct", progress, 1)
        .text("waiting_code", said.waiting.map(Reason::code))
        .text("result", said.last.map(|last| result_code(last.result)))
        .text("result_code", said.last.and_then(|last| reason(last.result)).map(Reason::code))
        .int("rollout", said.last.map(|last| last.rollout))
        .int("floor", said.floor)
        .int("poisoned", u64::from(said.poisoned));
    let topic = format!("j/{device}/st/{model}");
    Message { topic, payload: flat.finish(), retain: true }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An update began.
    Started(&'a ModelName, Named<'a>, Generation),
    /// An order ended.
    Ended(&'a ModelName, Named<'a>, Outcome),
    /// An order was not taken.
    Refused(Generation, Reason),
    /// So many telemetry reports will never come.
    ReportsLost(u64),
}

/// `j/<device>/ev`.
pub fn event(now_s: u64, device: &DeviceId, event: Event<'_>) -> Message {
    let mut flat = Flat::new(&EVENT);
    flat.int("ts", now_s.saturating_mul(1000)).text("device", Some(device.as_str()));
    let name = |release: Named<'_>| release.version.map_or_else(|| release.short(), str::to_owned);
    let of = |flat: &mut Flat, model: &ModelName, release: Named<'_>| {
        flat.text("model", Some(model.as_str())).text("release", Some(release.short()));
        flat.text("version", release.version);
    };
    match event {
        Event::Started(model, release, generation) => {
            let text = format!("{model}: takes release {}", name(release));
            flat.text("kind", Some("started")).text("text", Some(text));
            of(&mut flat, model, release);
            flat.int("generation", generation);
        }
        Event::Ended(model, release, outcome) => {
            let kind = result_code(outcome.result);
            let why = reason(outcome.result);
            let because = why.map(|why| format!(": {why}")).unwrap_or_default();
            let words = kind.replace('_', " ");
            let text = format!("{model}: release {} {words}{because}", name(release));
            flat.text("kind", Some(kind)).text("text", Some(text));
            of(&mut flat, model, release);
            flat.text("code", why.map(Reason::code)).int("rollout", outcome.rollout);
        }
        Event::Refused(generation, why) => {
            let text = format!("order {generation} is not taken: {why}");
            flat.text("kind", Some("refused")).text("text", Some(text));
            flat.text("code", Some(why.code())).int("generation", generation);
        }
        Event::ReportsLost(lost) => {
            let text = format!("{lost} telemetry reports are lost");
            flat.text("kind", Some("reports_lost")).text("text", Some(text)).int("lost", lost);
        }
    }
    passing(format!("j/{device}/ev"), &flat)
}

fn passing(topic: String, flat: &Flat) -> Message {
    Message { topic, payload: flat.finish(), retain: false }
}

fn result_code(ending: Ending) -> &'static str {
    match ending {
        Ending::Confirmed => "confirmed",
        Ending::Failed(_) => "failed",
        Ending::RolledBack(_) => "rolled_back",
        Ending::Removed => "removed",
    }
}

fn reason(ending: Ending) -> Option<Reason> {
    match ending {
        Ending::Failed(reason) | Ending::RolledBack(reason) => Some(reason),
        Ending::Confirmed | Ending::Removed => None,
    }
}
