//! The chain itself: pure. An entry becomes one line of JSON that ends in its own hash; the hash
//! covers every byte before it, the hash of the line before included.
//!
//! ```text
//! {"seq":7,"time_s":..,"who":"ann","what":"rollout.start",..,"prev":"<hash of 6>","hash":"<hash of 7>"}
//! ```
//!
//! So a changed line does not have its hash, a removed or moved one is missed by its neighbour,
//! and whoever knows the last hash knows all of the log. Not a signature: whoever can write the
//! file *and* the store can forge a whole new chain, which only a head noted elsewhere gives away.

use std::fmt;
use std::str::FromStr;

use fleetway_protocol::ids::{DeviceId, Digest, RolloutId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of one line: a person's name, a sentence, ids. An order for eight models has some 900.
pub const LINE_BYTES_MAX: usize = 16 << 10;
/// Bytes of the text of an entry; what is longer is cut before it is written.
pub const TEXT_BYTES_MAX: usize = 4 << 10;
/// What the hash begins with, so that it is no hash of anything else.
const CONTEXT: &[u8] = b"fleetway audit line v1\0";
/// What stands between the hashed part of a line and the hash.
const SEAM: &str = ",\"hash\":\"";

/// What happened: one entry of the journal, and one line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number; rises by one.
    pub seq: u64,
    /// Unix seconds.
    pub time_s: u64,
    /// A person, or `planner`, `fleet` or `store`.
    pub who: String,
    /// One stable lower-case word with dots: `rollout.start`, `order`, `verdict`.
    pub what: String,
    /// About which rollout.
    pub rollout: Option<RolloutId>,
    /// About which device.
    #[schemars(with = "Option<String>")]
    pub device: Option<DeviceId>,
    /// Ids of the keys that signed what this is about, if anything was signed.
    pub key: Option<String>,
    /// One sentence, the reason included.
    pub text: String,
}

/// How far a chain is: the number and the hash of its last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Number of the last line, 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Head {
    /// Before the first line.
    pub const START: Self = Self { seq: 0, hash: Digest([0; 32]) };
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// Not a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no head of a log; it looks like 1234:<64 hexadecimal digits>, as `audit verify` prints"
)]
pub struct HeadError;

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let (seq, hash) = text.split_once(':').ok_or(HeadError)?;
        let seq = seq.parse().map_err(|_| HeadError)?;
        Ok(Self { seq, hash: hash.parse().map_err(|_| HeadError)? })
    }
}

/// Why a line is not the next one of a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It does not parse.
    #[error("is no line of a log: {0}")]
    Malformed(String),
    /// It does not have the hash that it ends with.
    #[error("was changed: it does not have the hash that it ends with")]
    Changed,
    /// Its number is not the next one.
    #[error("is number {got}, and number {expected} should be here: lines were removed or moved")]
    Gap {
        /// The number that should be here.
        expected: u64,
        /// The number that is here.
        got: u64,
    },
    /// It follows another line than the one before it.
    #[error("follows another line than the one before it: that one was replaced")]
    Link,
}

impl Entry {
    /// The line after `head`, without a line break, and the head after it.
    ///
    /// # Errors
    /// If it does not encode, which no entry with a bounded text can cause.
    pub fn line(&self, head: &Head) -> Result<(String, Head), serde_json::Error> {
        let mut line = serde_json::to_string(self)?;
        line.pop();
        line.push_str(&format!(",\"prev\":\"{}\"", head.hash));
        let hash = hash_of(&line);
        line.push_str(&format!("{SEAM}{hash}\"}}"));
        Ok((line, Head { seq: self.seq, hash }))
    }
}

fn hash_of(body: &str) -> Digest {
    Digest::of(&[CONTEXT, body.as_bytes()].concat())
}

/// Reads one line by itself: its entry, the hash it follows, and the head after it.
///
/// # Errors
/// [`Broken::Malformed`] and [`Broken::Changed`].
pub fn read_line(line: &[u8]) -> Result<(Entry, Digest, Head), Broken> {
    let malformed = |why: &str| Broken::Malformed(why.to_owned());
    if line.len() > LINE_BYTES_MAX {
        return Err(malformed("it is far too long"));
    }
    let text = std::str::from_utf8(line).map_err(|_| malformed("it is no text"))?;
    let (body, hash) = text.rsplit_once(SEAM).ok_or_else(|| malformed("it has no hash"))?;
    let hash = hash.strip_suffix("\"}").and_then(|hash| hash.parse::<Digest>().ok());
    let hash = hash.ok_or_else(|| malformed("its hash is none"))?;
    let (entry, prev) = body.rsplit_once(",\"prev\":\"").ok_or_else(|| malformed("no `prev`"))?;
    let prev = prev.strip_suffix('"').and_then(|prev| prev.parse::<Digest>().ok());
    let prev = prev.ok_or_else(|| malformed("its `prev` is none"))?;
    if hash_of(body) != hash {
        return Err(Broken::Changed);
    }
    let entry: Entry = serde_json::from_str(&format!("{entry}}}"))
        .map_err(|error| Broken::Malformed(error.to_string()))?;
    let head = Head { seq: entry.seq, hash };
    Ok((entry, prev, head))
}

/// The next line of a chain that is at `head`.
///
/// # Errors
/// [`Broken`] says what is wrong with it.
pub fn follow(head: &Head, line: &[u8]) -> Result<(Entry, Head), Broken> {
    let (entry, prev, next) = read_line(line)?;
    let expected = head.seq.saturating_add(1);
    if entry.seq != expected {
        return Err(Broken::Gap { expected, got: entry.seq });
    }
    if prev != head.hash {
        return Err(Broken::Link);
    }
    Ok((entry, next))
}

/// Cuts a text to what a line holds.
pub(crate) fn bounded(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let cut = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}
