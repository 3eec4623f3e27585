//! What devices say of how they do: the live view from the newest report, the counts from all of
//! them, each once, whenever it comes. A report that waited on its device's disk is of another boot
//! than the newest, and counts all the same.

use fleetway_protocol::counters::Counters;
use fleetway_protocol::ids::{DeviceId, ModelName};
use fleetway_protocol::limits::MODELS_PER_DEVICE_MAX;
use fleetway_protocol::report::{Host, Stamp, Telemetry};
use fleetway_protocol::telemetry::{Heard, Numbered};

use super::book::{Entry, ReportTotals};
use super::evidence::News;
use super::history::added;
use super::records::encode;
use super::{Device, Fleet, FleetError, TelemetryView};
use crate::store::{Batch, Kind};

/// Reports after which a device is answered at the next look: as many as it has on their way when
/// it fills in.
const ANSWER_REPORTS: u32 = 8;
/// Seconds after which it is answered, however few came: long before it sends them again.
const ANSWER_S: u64 = 10;
/// Devices answered at one look: a fleet that comes back together is answered over some seconds,
/// and no order waits behind a thousand signatures.
const ANSWERS_MAX: usize = 256;

/// Reports of a device that it was not told about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unanswered {
    reports: u32,
    since_s: u64,
}

impl Unanswered {
    fn is_due(&self, now_s: u64) -> bool {
        self.reports >= ANSWER_REPORTS || self.reports > 0 && now_s >= self.since_s + ANSWER_S
    }
}

/// What was counted since the report before. Counters begin anew with every load of the engine.
fn since((stamp, before): (Stamp, &TelemetryView), now: &Telemetry) -> Counters {
    let goes_on = stamp.epoch == now.stamp.epoch
        && before.release == now.release
        && before.counters.requests <= now.counters.requests;
    if goes_on { now.counters.since(&before.counters) } else { now.counters.clone() }
}

impl Fleet {
    /// Telemetry of one model.
    pub fn handle_telemetry(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        model: &ModelName,
        telemetry: &Telemetry,
    ) {
        let Telemetry { stamp, numbered, .. } = telemetry;
        let Some((device, entry)) = self.hear(now_s, id, *stamp, numbered) else { return };
        if entry == Entry::New {
            device.book.count(model, telemetry);
        }
        let known = device.live.telemetry.get(model);
        let full = known.is_none() && device.live.telemetry.len() >= MODELS_PER_DEVICE_MAX;
        let newer = known.is_none_or(|(known, _)| stamp > known);
        let is_live = device.book.is_newest(numbered) && newer && !full;
        if full {
            self.ignored.too_many_models += 1;
        } else if is_live {
            let before = known.map(|(stamp, view)| (*stamp, view));
            let counters = before.map(|before| since(before, telemetry));
            let view = TelemetryView {
                heard_s: now_s,
                release: telemetry.release,
                counters: telemetry.counters.clone(),
                rss_bytes: telemetry.rss_bytes,
                dropped: telemetry.dropped,
            };
            if let Some(counted) = added(known, telemetry) {
                device.live.history.entry(model.clone()).or_default().push(now_s, &counted);
            }
            device.live.telemetry.insert(model.clone(), (*stamp, view));
            device.live.speaks(now_s);
            // The first report after our start says how far it was, and is where we begin.
            if let Some(counted) = &counters {
                self.answered.add(model, telemetry.release, counted);
            }
            let (release, epoch) = (telemetry.release, stamp.epoch);
            self.watch(now_s, id, &News { model, release, epoch, counters });
        }
        if entry == Entry::New || is_live {
            self.mirror_telemetry(id, model, telemetry, is_live);
        }
    }

    /// How a device's machine does: the last is kept in memory and shown.
    pub fn handle_host(&mut self, now_s: u64, id: &DeviceId, host: &Host) {
        let Host { stamp, numbered, .. } = host;
        let Some((device, entry)) = self.hear(now_s, id, *stamp, numbered) else { return };
        let newer = device.live.host.as_ref().is_none_or(|known| *stamp > known.stamp);
        let is_live = newer && device.book.is_newest(numbered);
        if is_live {
            device.live.host = Some(host.clone());
            device.live.speaks(now_s);
        }
        if entry == Entry::New || is_live {
            self.mirror_host(id, host, is_live);
        }
    }

    /// Enters a report in its device's book.
    fn hear(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        stamp: Stamp,
        numbered: &Numbered,
    ) -> Option<(&mut Device, Entry)> {
        let lost_before = self.devices.get(id).map(|device| device.book.totals().lost);
        let device = match self.devices.get_mut(id) {
            Some(device) if device.is_revoked() => {
                self.ignored.revoked += 1;
                return None;
            }
            Some(device) => device,
            None => {
                self.ignored.unknown_device += 1;
                return None;
            }
        };
        let entry = device.book.hear(stamp, numbered);
        match entry {
            Entry::Old => {
                self.ignored.old += 1;
                return None;
            }
            Entry::Repeat => self.ignored.old += 1,
            Entry::New | Entry::Full => {}
        }
        if stamp.epoch > device.record.epoch {
            device.record.epoch = stamp.epoch;
            device.live.booted = true;
        }
        let unanswered = &mut device.live.unanswered;
        if unanswered.reports == 0 {
            unanswered.since_s = now_s;
        }
        unanswered.reports = unanswered.reports.saturating_add(1);
        let lost = device.book.totals().lost - lost_before.unwrap_or(0);
        if lost > 0 {
            self.mirror_lost(now_s, id, lost);
        }
        self.devices.get_mut(id).map(|device| (device, entry))
    }

    /// Makes the books of devices that wait for an answer durable, in one commit, and gives the
    /// answers: sign each (context `Heard`) and send it, at most once. One that is lost is given
    /// again with the next report.
    ///
    /// # Errors
    /// [`FleetError`]; nobody is answered then, and the devices keep their reports.
    pub fn settle(&mut self, now_s: u64) -> Result<Vec<Heard>, FleetError> {
        let mut batch = Batch::new();
        let mut due = Vec::new();
        for (id, device) in &self.devices {
            if due.len() < ANSWERS_MAX && device.live.unanswered.is_due(now_s) {
                let value = encode("a telemetry book", &device.book)?;
                batch.put(Kind::Telemetry, id.as_str().as_bytes(), value);
                due.push(id.clone());
            }
        }
        if due.is_empty() {
            return Ok(Vec::new());
        }
        self.store.commit(&batch)?;
        let mut answers = Vec::new();
        for id in due {
            if let Some(device) = self.devices.get_mut(&id) {
                device.live.unanswered = Unanswered::default();
                answers.push(device.book.answer(&id));
            }
        }
        Ok(answers)
    }

    /// What became of a device's telemetry reports.
    pub fn report_totals(&self, id: &DeviceId) -> Option<ReportTotals> {
        self.devices.get(id).map(|device| device.book.totals())
    }
}
