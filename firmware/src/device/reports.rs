//! What the device says: one report per turn, signed with its own key, about what is durable and
//! nothing else. What the link has no room for is said later; a state is said again every minute.

use ed25519_dalek::Signer as _;
use fleetway_protocol::codec;
use fleetway_protocol::ids::{Digest, Generation};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::record::crc32c;
use fleetway_protocol::report::{Ack, Presence, Stamp, State, Telemetry, Want};
use fleetway_protocol::signed::{self, Algorithm, SignedReport};
use fleetway_protocol::telemetry::Numbered;
use fleetway_protocol::topics::Topic;
use serde::Serialize;

use super::Device;
use crate::hardware::{Flash, Uplink};

/// Largest report of this device, bytes: counters of one model, nearly full.
const REPORT_BYTES_MAX: usize = 2048;
/// Its signature and what frames it, bytes.
const SIGNED_BYTES_MAX: usize = REPORT_BYTES_MAX + 80;
/// Presence and state are said again after this long, milliseconds: whoever carries them forgets.
const REFRESH_MS: u64 = 60_000;
/// Counters are said this often, milliseconds.
const TELEMETRY_MS: u64 = 60_000;
/// A download's progress is said this often, milliseconds.
const PROGRESS_MS: u64 = 2_000;

/// What was said, and what is to be.
#[derive(Default)]
pub(super) struct Said {
    seq: u64,
    presence_at_ms: Option<u64>,
    state_at_ms: Option<u64>,
    /// Checksum of the last state, its stamp and progress left out.
    state: u32,
    telemetry_at_ms: Option<u64>,
    telemetry_number: u64,
    answer: Option<(Generation, Digest, Option<Reason>)>,
    want: Option<Want>,
    /// Times that the engine loaded something in this boot.
    pub(super) load: u32,
    /// 95th percentile of the latency of what served before, microseconds.
    pub(super) before_p95_us: Option<u64>,
}

impl Said {
    /// The answer to an order; a later one takes its place.
    pub(super) fn answer(&mut self, generation: Generation, of: Digest, refused: Option<Reason>) {
        self.answer = Some((generation, of, refused));
    }

    /// Somebody listens from now on: everything is said again.
    pub(super) fn begin(&mut self) {
        (self.presence_at_ms, self.state_at_ms) = (None, None);
    }
}

impl<F: Flash> Device<'_, F> {
    /// Says the most pressing thing, if there is one and the link has room.
    pub fn report(&mut self, now_ms: u64, link: &mut impl Uplink) {
        if !self.up || !self.kept_boot {
            return;
        }
        let due = |at: Option<u64>, pause_ms: u64| at.is_none_or(|at| now_ms >= at + pause_ms);
        let stamp = Stamp { epoch: self.kept.epoch, seq: self.said.seq + 1 };
        self.said.want = self.said.want.take().or_else(|| self.want(now_ms));
        if due(self.said.presence_at_ms, REFRESH_MS) {
            if self.say(now_ms, link, &Topic::Presence(self.id().clone()), &self.presence(stamp)) {
                self.said.presence_at_ms = Some(now_ms);
            }
        } else if let Some((generation, order, refused)) = self.said.answer {
            let ack = Ack { stamp, generation, order, refused };
            if self.say(now_ms, link, &Topic::Ack(self.id().clone()), &ack) {
                self.said.answer = None;
            }
        } else if let Some(want) = self.said.want.clone() {
            let want = Want { stamp, ..want };
            if self.say(now_ms, link, &Topic::Want(self.id().clone()), &want) {
                self.said.want = None;
            }
        } else if self.state_is_due(now_ms) {
            let state = self.state(stamp);
            let topic = Topic::State(self.id().clone(), self.provision.model.clone());
            if self.say(now_ms, link, &topic, &state) {
                (self.said.state, self.said.state_at_ms) = (checksum(&state), Some(now_ms));
            }
        } else if self.serving.is_some() && due(self.said.telemetry_at_ms, TELEMETRY_MS) {
            self.say_telemetry(now_ms, link, stamp);
        }
    }

    fn say_telemetry(&mut self, now_ms: u64, link: &mut impl Uplink, stamp: Stamp) {
        let first = self.said.telemetry_at_ms.is_none();
        let Some(serving) = self.serving.as_ref() else { return };
        let number = self.said.telemetry_number + 1;
        // Counters only rise within a boot, so that a later report has all that a lost one had.
        let numbered =
            Numbered { series: stamp.epoch, number, first: number, time_s: self.kept.time_floor_s };
        let report = Telemetry {
            stamp,
            numbered,
            release: serving.release,
            load: self.said.load,
            counters: serving.counters.clone(),
            rss_bytes: None,
            dropped: 0,
        };
        let topic = Topic::Telemetry(self.id().clone(), self.provision.model.clone());
        if first || self.say(now_ms, link, &topic, &report) {
            self.said.telemetry_at_ms = Some(now_ms);
            self.said.telemetry_number += u64::from(!first);
        }
    }

    /// Signs and sends; whether the link took it.
    fn say<T: Serialize>(
        &mut self,
        now_ms: u64,
        link: &mut impl Uplink,
        topic: &Topic,
        report: &T,
    ) -> bool {
        let mut buf = [0; REPORT_BYTES_MAX];
        // What is larger than any of ours is never said, and never tried again either.
        let Ok(bytes) = codec::encode(report, &mut buf) else { return true };
        let message = signed::message(&self.provision.ca, Algorithm::Ed25519, topic, bytes);
        let signature = self.key.sign(&message).to_bytes();
        let Some(report) = SignedReport::new(bytes, Algorithm::Ed25519, &signature) else {
            return true;
        };
        let mut buf = [0; SIGNED_BYTES_MAX];
        let Ok(bytes) = report.encode(&mut buf) else { return true };
        let sent = link.send(now_ms, topic, bytes);
        self.said.seq += u64::from(sent);
        sent
    }

    fn presence(&self, stamp: Stamp) -> Presence {
        Presence {
            stamp,
            online: true,
            agent: self.provision.firmware.clone(),
            generation: self.kept.generation,
            sandbox: None,
            hardware: Some(self.provision.hardware.clone()),
        }
    }

    fn state_is_due(&self, now_ms: u64) -> bool {
        let Some(said_at_ms) = self.said.state_at_ms else { return true };
        let age_ms = now_ms.saturating_sub(said_at_ms);
        let pause_ms = if self.fetch.is_some() { PROGRESS_MS } else { REFRESH_MS };
        age_ms >= pause_ms || checksum(&self.state(Stamp::default())) != self.said.state
    }

    /// What is durable, and what is being done about it.
    fn state(&self, stamp: Stamp) -> State {
        let table = &self.kept.table;
        State {
            stamp,
            generation: self.kept.generation,
            running: self.machine.running().map(|(_, digest)| digest),
            phase: self.machine.phase(),
            target: self.machine.goal().map(|goal| goal.release),
            progress: self.fetch.as_ref().map(|fetch| fetch.progress()).unwrap_or_default(),
            waiting: self.machine.waiting(),
            last: table.last,
            floor: table.version_floor,
            poisoned: table.poison.len() as u8,
            poison_dropped: table.poison_dropped,
            held: self.machine.held(),
            shadow: None,
        }
    }
}

/// Tells a state from another one, whenever it is said and however far a download is.
fn checksum(state: &State) -> u32 {
    let state = State { stamp: Stamp::default(), progress: Default::default(), ..state.clone() };
    let mut buf = [0; REPORT_BYTES_MAX];
    codec::encode(&state, &mut buf).map_or(0, crc32c)
}
