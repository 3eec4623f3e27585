//! Notes of commands that must be done once, however often they are sent: durable before the
//! command and after it, kept for a day. See `api/idempotency.rs` for what they are good for.

use fleetway_protocol::ids::Digest;
use serde::{Deserialize, Serialize};

use super::records::encode;
use super::{Fleet, FleetError};
use crate::store::{Batch, Kind};

/// Seconds that a note is kept: longer than anybody repeats a request by himself.
pub const ONCE_S: u64 = 24 * 3600;
/// Most notes. Past it the oldest go: one a second for a day is more than people and programs send.
const NOTES_MAX: usize = 86_400;
/// Notes that go in one commit.
const GOING_MAX: usize = 256;

/// What is kept of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// HTTP status.
    pub status: u16,
    /// The state that it showed.
    pub tag: Option<String>,
    /// Where the same can be read.
    pub location: Option<String>,
    /// The body; empty if it was too large and can be read.
    pub body: Vec<u8>,
}

/// A note, under the digest of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OnceRecord {
    /// Digest of the request.
    fingerprint: Digest,
    pub(super) at_s: u64,
    /// `None`: it was begun, and nobody knows more.
    answer: Option<Kept>,
}

/// What a command under a key is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is new, and noted: do it.
    New,
    /// It was done: this was the answer.
    Before(Kept),
    /// The key was used for another request.
    OtherRequest,
    /// It was begun. It is under way, or we died under it.
    Unknown,
}

impl Fleet {
    /// Notes durably that a command is about to be done.
    ///
    /// # Errors
    /// [`FleetError`] if the store fails; then nothing may be done.
    pub fn begin_once(
        &mut self,
        now_s: u64,
        key: Digest,
        fingerprint: Digest,
    ) -> Result<Begun, FleetError> {
        if self.once.get(&key).is_some_and(|at_s| now_s < at_s.saturating_add(ONCE_S)) {
            let stored = self.store.get(Kind::Once, &key.0)?;
            // A rotten one: that it was begun is all that is known.
            let stored = stored.and_then(|value| super::records::decode::<OnceRecord>(&value));
            return Ok(match stored {
                Some(note) if note.fingerprint != fingerprint => Begun::OtherRequest,
                Some(OnceRecord { answer: Some(kept), .. }) => Begun::Before(kept),
                _ => Begun::Unknown,
            });
        }
        let note = OnceRecord { fingerprint, at_s: now_s, answer: None };
        let mut batch = Batch::new();
        batch.put(Kind::Once, key.0, encode("a note", &note)?);
        let going = self.going(now_s);
        for key in &going {
            batch.remove(Kind::Once, key.0);
        }
        self.store.commit(&batch)?;
        for key in &going {
            self.once.remove(key);
        }
        self.once.insert(key, now_s);
        Ok(Begun::New)
    }

    /// Notes what came of it: `None` if nobody can know, `Some(None)` if nothing was done.
    ///
    /// # Errors
    /// [`FleetError`] if the store fails.
    pub fn end_once(
        &mut self,
        now_s: u64,
        key: Digest,
        fingerprint: Digest,
        answer: Option<Option<Kept>>,
    ) -> Result<(), FleetError> {
        let Some(answer) = answer else { return Ok(()) };
        let at_s = self.once.get(&key).copied().unwrap_or(now_s);
        let mut batch = Batch::new();
        match answer {
            None => {
                batch.remove(Kind::Once, key.0);
            }
            answer => {
                let note = OnceRecord { fingerprint, at_s, answer };
                batch.put(Kind::Once, key.0, encode("a note", &note)?);
            }
        }
        self.store.commit(&batch)?;
        if batch.ops().iter().any(|op| matches!(op, crate::store::Op::Remove(..))) {
            self.once.remove(&key);
        }
        Ok(())
    }

    /// Notes that are old, or too many: the oldest.
    fn going(&self, now_s: u64) -> Vec<Digest> {
        let old = |at_s: u64| now_s >= at_s.saturating_add(ONCE_S);
        let mut going: Vec<Digest> =
            self.once.iter().filter(|(_, at_s)| old(**at_s)).map(|(key, _)| *key).collect();
        if going.is_empty() && self.once.len() >= NOTES_MAX {
            let oldest = self.once.iter().min_by_key(|(_, at_s)| **at_s);
            going.extend(oldest.map(|(key, _)| *key));
        }
        going.truncate(GOING_MAX);
        going
    }
}
