//! Releases that turned out bad on a class of hardware: what an operator sees of them, and how one
//! is lifted. The planner finds them ([`crate::planner::KnownBad`]).

use fleetway_protocol::ids::{Digest, HardwareClass};

use super::txn::{About, Txn};
use super::{By, Fleet, KnownBadError};
use crate::planner::KnownBad;

impl Fleet {
    /// All of them, lifted ones included, by release and class.
    pub fn known_bad(&self) -> Vec<KnownBad> {
        self.known_bad.values().cloned().collect()
    }

    /// Lets a release be offered to a class again, by other rollouts than the one that found it bad.
    /// Lifted already: nothing to do.
    ///
    /// # Errors
    /// [`KnownBadError`]; nothing has changed then.
    pub fn lift_known_bad(
        &mut self,
        by: By<'_>,
        release: Digest,
        class: &HardwareClass,
        reason: &str,
    ) -> Result<KnownBad, KnownBadError> {
        let key = (release, class.clone());
        let unknown = || KnownBadError::Unknown { release, class: class.clone() };
        let mut bad = self.known_bad.get(&key).ok_or_else(unknown)?.clone();
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(KnownBadError::NoReason);
        }
        if bad.lifted_s.is_some() {
            return Ok(bad);
        }
        bad.lifted_s = Some(by.now_s);
        let mut txn = Txn::default();
        let text = format!(
            "release {release:.12} may be offered to {class} again, which rollout {} found bad: {reason}",
            bad.rollout
        );
        txn.note(by.now_s, by.who, "release.lift", About::default(), text);
        txn.known_bad.insert(key, bad.clone());
        self.commit(txn)?;
        Ok(bad)
    }
}
