//! How an artifact arrives, whatever happens to the link: bitmap, window, timeouts.
//!
//! The receiver pulls. A few chunks at a time are asked for, each from one of two sources:
//! the broker's retained copy (subscribe to the chunk's exact topic) or the controller's
//! reply to a `want`. A chunk that does not come in time, or comes wrong, is asked for at
//! the other source, with a growing, jittered pause. What is on disk is in the bitmap;
//! nothing else has to survive a cut.
//!
//! **Contract.** [`Transfer::handle`] one event, then drain [`Transfer::poll`]. The bytes
//! never come here: the caller checks a chunk against the signed chunk list, writes it, and
//! then says [`Event::Stored`] (or [`Event::Bad`]).

use heapless::Vec;

use crate::limits::{CHUNK_BACKOFF_MS_MAX, CHUNK_TIMEOUT_MS, CHUNKS_MAX, WINDOW_CHUNKS_MAX};
use crate::manifest::Artifact;
use crate::report::Progress;

/// Bytes of a bitmap.
pub const BITMAP_BYTES: usize = CHUNKS_MAX / 8;
/// Timeouts in a row at one source before the other is asked first.
const SOURCE_MISSES_MAX: u32 = 3;

/// Which chunks are on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap([u8; BITMAP_BYTES]);

impl Default for Bitmap {
    fn default() -> Self {
        Self([0; BITMAP_BYTES])
    }
}

impl Bitmap {
    /// A bitmap from stored bytes; missing bytes are zero, so nothing is assumed.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut bitmap = Self::default();
        let len = bytes.len().min(BITMAP_BYTES);
        bitmap.0[..len].copy_from_slice(&bytes[..len]);
        bitmap
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; BITMAP_BYTES] {
        &self.0
    }

    /// Whether chunk `n` is there.
    pub fn has(&self, n: u32) -> bool {
        self.0.get(n as usize / 8).is_some_and(|b| b >> (n % 8) & 1 == 1)
    }

    /// Notes that chunk `n` is there.
    pub fn set(&mut self, n: u32) {
        if let Some(byte) = self.0.get_mut(n as usize / 8) {
            *byte |= 1 << (n % 8);
        }
    }

    /// Number of chunks below `total` that are there.
    pub fn count(&self, total: u32) -> u32 {
        (0..total).filter(|n| self.has(*n)).count() as u32
    }
}

/// How a transfer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Chunks in flight, 1 to [`WINDOW_CHUNKS_MAX`].
    pub window_chunks: u8,
    /// Bytes per second that may be asked for; 0 is no bound.
    pub bytes_per_s: u32,
    /// Makes the jitter of one device differ from that of the next.
    pub seed: u32,
}

/// Where chunks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Retained,
    Reply,
}

impl Source {
    fn other(self) -> Self {
        match self {
            Self::Retained => Self::Reply,
            Self::Reply => Self::Retained,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    chunk: u32,
    source: Source,
    attempts: u32,
    /// Asked: when it is late. Not asked: when to ask.
    at_ms: u64,
    asked: bool,
    /// Whoever carries out [`Ask::Subscribe`] keeps the topic over a lost link, so it is
    /// remembered here too until it is given up.
    subscribed: bool,
}

/// What to do for the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Subscribe to the chunk's topic.
    Subscribe(u32),
    /// Give the subscription up.
    Unsubscribe(u32),
    /// Ask the controller for the chunk.
    Want(u32),
}

/// What happened to the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The link came up: what was asked for before is asked for again.
    Up,
    /// The link went down.
    Down,
    /// The chunk was checked and is on disk.
    Stored(u32),
    /// The chunk's bytes were wrong.
    Bad(u32),
    /// Time passed.
    Tick,
}

/// One artifact on its way. See the module page.
#[derive(Clone, Debug)]
pub struct Transfer {
    chunks: u32,
    chunk_bytes: u32,
    config: Config,
    have: Bitmap,
    have_count: u32,
    /// Every chunk below this one is there or in flight.
    next: u32,
    flights: Vec<Flight, WINDOW_CHUNKS_MAX>,
    /// Subscriptions to give up.
    leave: Vec<u32, { 2 * WINDOW_CHUNKS_MAX }>,
    up: bool,
    prefer: Source,
    misses: u32,
    late: u32,
    /// Thousandths of bytes that may be asked for now, so that whoever polls every
    /// millisecond loses no part of a byte; may go below zero by one chunk.
    credit_millibytes: i64,
    credit_at_ms: u64,
}

impl Transfer {
    /// A transfer of `artifact` of which `have` is on disk already.
    pub fn new(artifact: &Artifact, have: Bitmap, config: Config, now_ms: u64, up: bool) -> Self {
        Self::of_chunks(artifact.chunk_count(), artifact.chunk_bytes, have, config, now_ms, up)
    }

    /// A transfer of one piece that is no chunk: a manifest, a chunk list.
    pub fn single(config: Config, now_ms: u64, up: bool) -> Self {
        Self::of_chunks(1, 0, Bitmap::default(), config, now_ms, up)
    }

    fn of_chunks(
        chunks: u32,
        chunk_bytes: u32,
        have: Bitmap,
        config: Config,
        now_ms: u64,
        up: bool,
    ) -> Self {
        Self {
            chunks,
            chunk_bytes,
            have_count: have.count(chunks),
            have,
            config,
            next: 0,
            flights: Vec::new(),
            leave: Vec::new(),
            up,
            prefer: Source::Retained,
            misses: 0,
            late: 0,
            credit_millibytes: 1000 * i64::from(config.bytes_per_s),
            credit_at_ms: now_ms,
        }
    }

    /// Whether every chunk is on disk.
    pub fn is_complete(&self) -> bool {
        self.have_count == self.chunks
    }

    /// Whether chunk `n` is still wanted, asked for or not.
    pub fn wants(&self, n: u32) -> bool {
        n < self.chunks && !self.have.has(n)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress { have: self.have_count, total: self.chunks }
    }

    /// Chunks that were asked for and did not come in time, each time counted.
    pub fn late(&self) -> u32 {
        self.late
    }

    /// What is on disk.
    pub fn have(&self) -> &Bitmap {
        &self.have
    }

    /// Chunks that are subscribed to now, for a caller that gives the transfer up.
    pub fn subscribed(&self) -> impl Iterator<Item = u32> + '_ {
        let flying = self.flights.iter().filter(|f| f.subscribed);
        flying.map(|f| f.chunk).chain(self.leave.iter().copied())
    }

    /// Takes one event at `now_ms` (monotonic milliseconds).
    pub fn handle(&mut self, now_ms: u64, event: Event) {
        self.refill_credit(now_ms);
        match event {
            Event::Up => self.up = true,
            Event::Down => {
                self.up = false;
                for flight in &mut self.flights {
                    flight.asked = false;
                    flight.at_ms = now_ms;
                }
            }
            Event::Stored(n) => self.stored(n),
            Event::Bad(n) => {
                if let Some(at) = self.flights.iter().position(|f| f.chunk == n) {
                    self.retry(at, now_ms);
                }
            }
            Event::Tick => {
                for at in 0..self.flights.len() {
                    let flight = self.flights[at];
                    if flight.asked && now_ms >= flight.at_ms {
                        self.late = self.late.saturating_add(1);
                        self.missed(flight.source);
                        self.retry(at, now_ms);
                        // The wait for it was the pause.
                        self.flights[at].at_ms = now_ms;
                    }
                }
            }
        }
    }

    fn stored(&mut self, n: u32) {
        if !self.wants(n) {
            return;
        }
        self.have.set(n);
        self.have_count += 1;
        if let Some(at) = self.flights.iter().position(|f| f.chunk == n) {
            self.give_up(at);
            let flight = self.flights.swap_remove(at);
            if flight.source == self.prefer {
                self.misses = 0;
            }
        }
    }

    /// Leaves the subscription of a flight that has one.
    fn give_up(&mut self, at: usize) {
        let flight = &mut self.flights[at];
        if core::mem::take(&mut flight.subscribed) {
            // Drained by every poll, and at most one per flight in between.
            let _ = self.leave.push(flight.chunk);
        }
    }

    fn missed(&mut self, source: Source) {
        if source != self.prefer {
            return;
        }
        self.misses += 1;
        if self.misses >= SOURCE_MISSES_MAX {
            self.misses = 0;
            self.prefer = self.prefer.other();
        }
    }

    fn retry(&mut self, at: usize, now_ms: u64) {
        self.give_up(at);
        let pause_ms = self.pause_ms(self.flights[at].chunk, self.flights[at].attempts);
        let flight = &mut self.flights[at];
        flight.source = flight.source.other();
        flight.attempts = flight.attempts.saturating_add(1);
        flight.asked = false;
        flight.at_ms = now_ms.saturating_add(pause_ms);
    }

    /// Doubles with every attempt up to its bound, and adds up to a quarter by a hash of
    /// device, chunk and attempt, so that a fleet does not ask in step.
    fn pause_ms(&self, chunk: u32, attempts: u32) -> u64 {
        let base = (CHUNK_TIMEOUT_MS << attempts.min(8)).min(CHUNK_BACKOFF_MS_MAX);
        let mut hash = self.config.seed ^ chunk.wrapping_mul(0x9e37_79b9) ^ attempts << 16;
        hash ^= hash >> 16;
        hash = hash.wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 13;
        base + base / 4 * u64::from(hash & 0xff) / 256
    }

    fn refill_credit(&mut self, now_ms: u64) {
        let rate = i64::from(self.config.bytes_per_s);
        let passed_ms = now_ms.saturating_sub(self.credit_at_ms).min(i64::MAX as u64) as i64;
        let most = 1000 * rate.max(i64::from(self.chunk_bytes));
        self.credit_at_ms = self.credit_at_ms.max(now_ms);
        self.credit_millibytes =
            self.credit_millibytes.saturating_add(rate.saturating_mul(passed_ms)).min(most);
    }

    fn has_credit(&self) -> bool {
        self.config.bytes_per_s == 0 || self.credit_millibytes > 0
    }

    /// The next thing to do, `None` when there is nothing more for now.
    pub fn poll(&mut self, now_ms: u64) -> Option<Ask> {
        if let Some(chunk) = self.leave.pop() {
            return Some(Ask::Unsubscribe(chunk));
        }
        if !self.up {
            return None;
        }
        self.refill_credit(now_ms);
        self.fill_window(now_ms);
        if !self.has_credit() {
            return None;
        }
        let at = self.flights.iter().position(|f| !f.asked && now_ms >= f.at_ms)?;
        let Flight { chunk, attempts, source, .. } = self.flights[at];
        self.flights[at].at_ms = now_ms.saturating_add(self.pause_ms(chunk, attempts));
        self.flights[at].asked = true;
        self.flights[at].subscribed |= source == Source::Retained;
        self.credit_millibytes -= 1000 * i64::from(self.chunk_bytes);
        Some(match source {
            Source::Retained => Ask::Subscribe(chunk),
            Source::Reply => Ask::Want(chunk),
        })
    }

    fn fill_window(&mut self, now_ms: u64) {
        let window = usize::from(self.config.window_chunks).clamp(1, WINDOW_CHUNKS_MAX);
        while self.flights.len() < window && self.next < self.chunks {
            let chunk = self.next;
            self.next += 1;
            if self.have.has(chunk) {
                continue;
            }
            let source = self.prefer;
            let flight = Flight {
                chunk,
                source,
                attempts: 0,
                at_ms: now_ms,
                asked: false,
                subscribed: false,
            };
            // The window is at most the capacity.
            let _ = self.flights.push(flight);
        }
    }

    /// When to send [`Event::Tick`] and poll again, monotonic milliseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        if !self.up {
            return None;
        }
        let rate = u64::from(self.config.bytes_per_s);
        let credit_at_ms = if self.has_credit() {
            0
        } else {
            let debt = self.credit_millibytes.unsigned_abs() + 1;
            self.credit_at_ms.saturating_add(debt.div_ceil(rate.max(1)))
        };
        let due = |f: &Flight| if f.asked { f.at_ms } else { f.at_ms.max(credit_at_ms) };
        self.flights.iter().map(due).min()
    }
}
