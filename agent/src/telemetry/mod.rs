//! Telemetry out: every report gets a number and a place on disk, leaves at once if it can, and
//! else behind everything else, until the controller says that it has it.
//!
//! **Contract.** Synchronous, without a clock, over [`Fs`]. Call one of the `handle_*` functions, then
//! drain [`Outlet::poll`] until it gives `None`; call it again at [`Outlet::poll_timeout`]. Reports come
//! in by [`Outlet::handle_record`] whether there is a link or not.
//!
//! Two lanes. A report of now leaves as soon as it is durable, if the link is up and the day's budget
//! allows it. What did not leave, or was not answered within [`RETRY_MS`], is filled in: the oldest
//! first, only while nothing else waits to be sent and no update is being fetched, at most
//! [`IN_FLIGHT_MAX`] unanswered at a time and so many a second. What is over the budget stays on
//! disk like everything else; what the disk's bound drops is lost and counted.
//!
//! Nothing here waits for anybody, and nothing waits for it: the daemon runs it on a thread of its
//! own (`run/telemetry.rs`), so that a disk that hangs under a report stops neither the event
//! loop nor an answer.

mod budget;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;

use fleetway_protocol::ids::DeviceId;
use fleetway_protocol::limits::REPORT_SIGNATURE_BYTES_MAX;
use fleetway_protocol::telemetry::Heard;
use fleetway_protocol::topics::Topic;

use crate::fs::Fs;
use crate::spool::{Counts, Spool, Waiting};
use budget::{Budget, Lane};
pub use record::Record;

/// Reports filled in and not answered at a time: about as many as the controller answers at once.
pub const IN_FLIGHT_MAX: usize = 8;
/// After this time without an answer a report is sent again, milliseconds. The controller answers
/// within ten seconds; a link of 4 kB/s with chunks in front may take a minute.
pub const RETRY_MS: u64 = 90_000;
/// Reports of now that wait for room in the outbox: a round of eight models and the machine. More of
/// them are filled in later.
const FRESH_MAX: usize = 9;
/// Look again for room after this time, milliseconds.
const ROOM_MS: u64 = 50;
/// Bytes around a report: version, lengths, algorithm and signature.
const SEAL_BYTES: usize = REPORT_SIGNATURE_BYTES_MAX + 5;

/// What a device may do about its telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of disk at most.
    pub spool_bytes: u64,
    /// Bytes that leave in any 24 hours at most, MQTT payloads and topics; 0 for no bound.
    pub bytes_per_day: u64,
    /// Reports filled in per second at most.
    pub backfill_per_s: u32,
}

impl Default for Settings {
    /// A day of a report a minute of eight models on disk; per day, reports of eight models every
    /// ten seconds and as much again.
    fn default() -> Self {
        Self { spool_bytes: crate::spool::BYTES_MAX, bytes_per_day: 64 << 20, backfill_per_s: 4 }
    }
}

/// What the link can take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Few enough messages wait that one more does no harm.
    pub live: bool,
    /// Nothing at all waits to be sent, and no update is being fetched.
    pub idle: bool,
}

/// A report to be sent, at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where.
    pub topic: Topic,
    /// What, to be signed.
    pub report: Vec<u8>,
    /// Its number.
    pub number: u64,
}

/// The telemetry of one device. See the module page.
#[derive(Debug)]
pub struct Outlet<F> {
    fs: F,
    device: DeviceId,
    settings: Settings,
    spool: Spool,
    budget: Budget,
    up: bool,
    /// Reports of now.
    fresh: VecDeque<(u64, Record)>,
    /// Sent as they were made, and when; not answered.
    live: BTreeMap<u64, u64>,
    /// The same for those that were filled in.
    filled: BTreeMap<u64, u64>,
    /// Read ahead from the spool.
    ahead: VecDeque<Waiting>,
    heard: Option<Heard>,
    fill_at_ms: u64,
}

impl<F: Fs> Outlet<F> {
    /// Opens what is on disk below `dir`. `series` is a name that no earlier run of numbers has: the
    /// number of this boot.
    ///
    /// # Errors
    /// The disk's: reports cannot be numbered then. Count them for [`Outlet::handle_unnumbered`],
    /// and try again.
    pub fn open(
        fs: F,
        dir: &Path,
        device: DeviceId,
        settings: Settings,
        series: u64,
        now_ms: u64,
    ) -> io::Result<Self> {
        let spool = Spool::open(&fs, dir, settings.spool_bytes, series)?;
        Ok(Self {
            fs,
            device,
            settings,
            spool,
            budget: Budget::new(settings.bytes_per_day, now_ms),
            up: false,
            fresh: VecDeque::new(),
            live: BTreeMap::new(),
            filled: BTreeMap::new(),
            ahead: VecDeque::new(),
            heard: None,
            fill_at_ms: 0,
        })
    }

    /// What became of all reports so far, as far as the device knows.
    pub fn counts(&self) -> Counts {
        self.spool.counts()
    }

    /// The link came up.
    pub fn handle_up(&mut self) {
        self.up = true;
    }

    /// The link is gone, and with it whatever was on its way.
    pub fn handle_down(&mut self) {
        self.up = false;
        self.fresh.clear();
        self.live.clear();
        self.filled.clear();
    }

    /// A report was made.
    ///
    /// # Errors
    /// The disk's: the report is lost, and counted.
    pub fn handle_record(&mut self, record: Record) -> io::Result<()> {
        let pushed = self.spool.push(&self.fs, &record.encode())?;
        if self.up {
            if self.fresh.len() >= FRESH_MAX {
                self.fresh.pop_front();
            }
            self.fresh.push_back((pushed.number, record));
        }
        Ok(())
    }

    /// So many reports were made and never came here: they are lost, and counted.
    pub fn handle_unnumbered(&mut self, reports: u64) {
        self.spool.skip(reports);
    }

    /// What the controller has, its signature checked.
    ///
    /// # Errors
    /// The disk's: what it has is sent again after the next start.
    pub fn handle_heard(&mut self, heard: Heard) -> io::Result<()> {
        if heard.series != self.spool.series() {
            return Ok(());
        }
        self.live.retain(|number, _| !heard.settles(*number));
        self.filled.retain(|number, _| !heard.settles(*number));
        let (through, lost) = (heard.through, heard.lost);
        // An older answer that comes late says less.
        if self.heard.as_ref().is_none_or(|known| through >= known.through) {
            self.heard = Some(heard);
        }
        self.spool.delivered(&self.fs, through, Some(lost))
    }

    /// The next report to send, `None` when there is none that may leave now.
    pub fn poll(&mut self, now_ms: u64, room: Room) -> Option<Outgoing> {
        if !self.up {
            return None;
        }
        for sent in [&mut self.live, &mut self.filled] {
            sent.retain(|_, at_ms| now_ms < *at_ms + RETRY_MS);
        }
        while room.live
            && let Some((number, record)) = self.fresh.pop_front()
        {
            // What the budget does not allow is on disk, and comes when it does.
            if let Some(report) = self.leave(now_ms, number, record, Lane::Live) {
                self.live.insert(number, now_ms);
                return Some(report);
            }
        }
        if !room.idle || now_ms < self.fill_at_ms || self.filled.len() >= IN_FLIGHT_MAX {
            return None;
        }
        self.fill_at_ms = now_ms + 1000 / u64::from(self.settings.backfill_per_s.max(1));
        let Waiting { number, bytes } = self.next_waiting()?;
        let Some(record) = Record::decode(&bytes) else {
            // Another build's: nobody will read it.
            self.spool.forget(number);
            return None;
        };
        let report = self.leave(now_ms, number, record, Lane::Backfill);
        if report.is_some() {
            self.filled.insert(number, now_ms);
        }
        report
    }

    /// When to call [`Outlet::poll`] again, monotonic milliseconds; `None`: when something happens.
    pub fn poll_timeout(&self, now_ms: u64) -> Option<u64> {
        if !self.up {
            return None;
        }
        if !self.fresh.is_empty() {
            return Some(now_ms + ROOM_MS);
        }
        if self.filled.len() < IN_FLIGHT_MAX && self.unsent().is_some() {
            return Some(self.fill_at_ms.max(now_ms + ROOM_MS));
        }
        let sent = self.live.values().chain(self.filled.values());
        sent.map(|at_ms| at_ms.saturating_add(RETRY_MS)).min()
    }

    /// The oldest report that has to be filled in.
    fn unsent(&self) -> Option<u64> {
        let mut from = 0;
        loop {
            let number = self.spool.first_from(from)?;
            let spans = self.heard.iter().flat_map(|heard| heard.above.iter());
            if let Some(span) = spans.into_iter().find(|s| (s.from..=s.to).contains(&number)) {
                from = span.to + 1;
            } else if self.live.contains_key(&number) || self.filled.contains_key(&number) {
                from = number + 1;
            } else {
                return Some(number);
            }
        }
    }

    fn next_waiting(&mut self) -> Option<Waiting> {
        let from = self.unsent()?;
        if !self.ahead.iter().any(|waiting| waiting.number == from) {
            // A disk that does not read now may do so later.
            self.ahead = self.spool.waiting(&self.fs, from, IN_FLIGHT_MAX).ok()?.into();
        }
        while let Some(waiting) = self.ahead.pop_front() {
            if waiting.number == from {
                return Some(waiting);
            }
        }
        // It rotted since the start.
        self.spool.forget(from);
        None
    }

    /// The report as it leaves, if the budget allows.
    fn leave(
        &mut self,
        now_ms: u64,
        number: u64,
        mut record: Record,
        lane: Lane,
    ) -> Option<Outgoing> {
        let (series, first) = (self.spool.series(), self.spool.first());
        let report = record.report(series, number, first, self.spool.counts().lost);
        let topic = record.topic(&self.device);
        let bytes = report.len() + SEAL_BYTES + topic.text("").len();
        let allowed = self.budget.take(now_ms, bytes as u64, lane);
        allowed.then_some(Outgoing { topic, report, number })
    }
}
