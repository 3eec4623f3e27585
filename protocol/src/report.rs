//! What a device says: presence, reported state, telemetry, acks, nonces, and chunk requests.
//!
//! Reports carry the boot's epoch and a rising sequence number, because brokers lose,
//! repeat and reorder: of two reports the one with the greater `(epoch, seq)` is newer.
//! Whose they are is [`crate::signed`]'s.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::hold::Held;
use crate::ids::{Counter, Digest, Generation, HardwareClass, ShortDigest, Version};
use crate::limits::{CHUNK_BYTES_MAX, CHUNKS_MAX, WANT_PIECES_MAX};
use crate::machine::Phase;
use crate::reason::Reason;
use crate::sandbox::Sandbox;
use crate::shadow::ShadowReport;
use crate::slot::Outcome;
use crate::telemetry::Numbered;
use crate::topics::Piece;

/// When something was said: a boot, and a number that rises within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// Number of the boot, counted durably by the device.
    pub epoch: u64,
    /// Rises with every report of that boot.
    pub seq: u64,
}

/// Whether a device is there. The last will says the same with `online: false`; one of an
/// older epoch than the newest seen is a leftover and ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// When.
    pub stamp: Stamp,
    /// There or not.
    pub online: bool,
    /// Version of the agent.
    pub agent: Version,
    /// Highest generation acted on: the controller must order above it.
    pub generation: Generation,
    /// How well self-tests are fenced in, once that is known.
    pub sandbox: Option<Sandbox>,
    /// What hardware it is, if its configuration says so.
    pub hardware: Option<HardwareClass>,
}

/// Progress of a download.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Chunks on disk.
    pub have: u32,
    /// Chunks in all.
    pub total: u32,
}

/// Reported state of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// When.
    pub stamp: Stamp,
    /// Generation of the order that it is about.
    pub generation: Generation,
    /// Digest of the release that the engine has loaded.
    pub running: Option<Digest>,
    /// Where the update is.
    pub phase: Phase,
    /// The release it works on.
    pub target: Option<Digest>,
    /// How far the download is.
    pub progress: Progress,
    /// What the current step waits for.
    pub waiting: Option<Reason>,
    /// How the last order ended.
    pub last: Option<Outcome>,
    /// The version floor.
    pub floor: Counter,
    /// Number of releases remembered as bad.
    pub poisoned: u8,
    /// Bad releases forgotten because the list was full.
    pub poison_dropped: u32,
    /// All that a held update waits for.
    pub held: Option<Held>,
    /// The candidate in the shadow, or how the last one did there.
    pub shadow: Option<ShadowReport>,
}

/// Counters of one model since the engine loaded this release. They only rise until the
/// epoch or the load changes; the controller takes differences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry<C = Counters> {
    /// When.
    pub stamp: Stamp,
    /// Which one, and of when.
    pub numbered: Numbered,
    /// The release that gave the answers.
    pub release: Digest,
    /// How many times the engine had loaded something in this boot: the counters began with it.
    pub load: u32,
    /// What it answered; by reference where nobody has room for a copy.
    pub counters: C,
    /// Resident memory of the agent, bytes.
    pub rss_bytes: Option<u64>,
    /// Telemetry reports of this series that are lost, as far as the device knows.
    pub dropped: u64,
}

impl Telemetry {
    /// Counters at zero.
    pub fn new(release: Digest) -> Self {
        Self {
            stamp: Stamp::default(),
            numbered: Numbered::default(),
            release,
            load: 0,
            counters: Counters::new(),
            rss_bytes: None,
            dropped: 0,
        }
    }
}

/// How the machine does that the agent runs on. What the system does not say is absent, never 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// When.
    pub stamp: Stamp,
    /// Which one, and of when.
    pub numbered: Numbered,
    /// Seconds since the system started.
    pub uptime_s: Option<u64>,
    /// Share of the processor time used by anybody since the last report, per thousand of all
    /// processors.
    pub cpu_permille: Option<u16>,
    /// Memory that there is, bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that programs could still have, bytes.
    pub memory_available_bytes: Option<u64>,
    /// The hottest sensor, thousandths of a degree Celsius.
    pub temperature_milli_c: Option<i32>,
    /// Room on the disk that the agent's data is on, bytes.
    pub disk_bytes: Option<u64>,
    /// Of that, what the agent could still use, bytes.
    pub disk_free_bytes: Option<u64>,
}

/// A device's answer to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// When.
    pub stamp: Stamp,
    /// The order's generation (0 if it could not be read).
    pub generation: Generation,
    /// Digest of the order's payload as received, so that the controller knows which.
    pub order: Digest,
    /// Taken, or why not.
    pub refused: Option<Reason>,
}

/// What a device asks the controller for, when the broker does not have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// When.
    pub stamp: Stamp,
    /// Of what.
    pub of: ShortDigest,
    /// Which pieces.
    pub pieces: Vec<Piece, WANT_PIECES_MAX>,
}

impl Want {
    /// Whether the request keeps its bounds.
    pub fn is_sane(&self) -> bool {
        self.pieces.iter().all(|p| match p {
            Piece::Chunk(n) => (*n as usize) < CHUNKS_MAX,
            Piece::Release | Piece::ChunkList => true,
        })
    }
}

/// What the next order of a device without a clock must carry, so that the device knows it to be
/// made after this was said. A device believes orders with its newest nonce only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonce {
    /// When.
    pub stamp: Stamp,
    /// Another one in every boot, and not to be guessed before.
    pub nonce: [u8; 16],
}

/// A piece in reply to a [`Want`]: this header, then the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block<'a> {
    /// Of what.
    pub of: ShortDigest,
    /// Which piece.
    pub piece: Piece,
    /// Its bytes.
    #[serde(borrow)]
    pub bytes: &'a [u8],
}

/// Largest encoded [`Block`], in bytes.
pub const BLOCK_BYTES_MAX: usize = CHUNK_BYTES_MAX as usize + 64;

impl<'a> Block<'a> {
    /// Reads a block; its bytes are not checked yet.
    ///
    /// # Errors
    /// As [`crate::codec::decode`].
    pub fn decode(message: &'a [u8]) -> Result<Self, crate::codec::DecodeError> {
        crate::codec::decode(message, BLOCK_BYTES_MAX)
    }
}
