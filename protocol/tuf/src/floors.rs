//! Versions never fall: the highest of every role that was verified, kept apart from the files.
//!
//! The library seeds its own check from cached files and skips a file that does not verify. A
//! torn or rotten cache would so forget what was seen, and an older version would pass. These
//! floors are a small record of their own, which the caller keeps crash-safe.
//!
//! They belong to the keys of timestamp and snapshot. When a root exchanges those, the floors
//! begin anew: it is how a fleet recovers after a thief of these keys signed version 2^60.

use std::collections::BTreeMap;

use fleetway_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use sigstore_tuf::{Root, Snapshot, Timestamp};

use crate::client::TrustError;

/// The highest versions that were verified. See the module page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floors {
    /// Of the root.
    pub root: u64,
    /// Digest over who may sign timestamp and snapshot.
    keys: Option<[u8; 32]>,
    /// Of the timestamp.
    pub timestamp: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of every targets file that the snapshot pinned, by name.
    targets: BTreeMap<String, u64>,
}

/// Who may sign timestamp and snapshot, as a digest.
pub(crate) fn keys(root: &Root) -> [u8; 32] {
    let mut text = String::new();
    for name in ["timestamp", "snapshot"] {
        let Some(role) = root.role(name) else { continue };
        let mut ids: Vec<_> = role.keyids.iter().map(String::as_str).collect();
        ids.sort_unstable();
        text.push_str(&format!("{name} {} of {ids:?}\n", role.threshold));
    }
    Digest::of(text.as_bytes()).0
}

impl Floors {
    /// Whether what was kept is still bound by them under `root`.
    pub(crate) fn bind(&self, root: &Root) -> bool {
        self.keys.is_none_or(|seen| seen == keys(root))
    }

    pub(crate) fn see_root(&mut self, root: &Root) {
        self.root = self.root.max(root.version);
    }

    /// Takes a verified timestamp, or says that it would be a step back.
    pub(crate) fn see_timestamp(
        &mut self,
        root: &Root,
        timestamp: &Timestamp,
    ) -> Result<(), TrustError> {
        let pinned = timestamp.snapshot_meta().map_or(0, |pin| pin.version);
        if self.keys != Some(keys(root)) {
            *self = Self { root: self.root, keys: Some(keys(root)), ..Self::default() };
        }
        not_below("timestamp", timestamp.version, self.timestamp)?;
        not_below("snapshot", pinned, self.snapshot)?;
        (self.timestamp, self.snapshot) = (timestamp.version, pinned);
        Ok(())
    }

    /// Takes a verified snapshot: nothing that it pins may fall or be gone.
    pub(crate) fn see_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), TrustError> {
        not_below("snapshot", snapshot.version, self.snapshot)?;
        for (name, seen) in &self.targets {
            let pinned = snapshot.meta.get(name).map_or(0, |pin| pin.version);
            not_below(name, pinned, *seen)?;
        }
        self.snapshot = snapshot.version;
        let pins = snapshot.meta.iter();
        self.targets = pins.map(|(name, pin)| (name.clone(), pin.version)).collect();
        Ok(())
    }
}

fn not_below(role: &str, got: u64, seen: u64) -> Result<(), TrustError> {
    if got < seen {
        return Err(TrustError::Version(format!(
            "{role} {got} is older than {seen}, which was seen"
        )));
    }
    Ok(())
}
