//! Staged becomes published, once everything holds that a device will ask.
//!
//! The server adds what people need not: the snapshot that pins the targets, and the timestamp
//! that says how fresh it all is. Their keys sign nothing else.

use std::collections::BTreeMap;

use fleetway_protocol::ids::Digest;
use fleetway_protocol::keyset::Keyset;
use fleetway_protocol::trust::Verified;
use fleetway_tuf::limits::Limits;
use fleetway_tuf::roles::{Head, Pin, Pins};

use super::meta::Meta;
use super::repo::{Repo, root_keys};
use super::signer::{self, Signer};
use super::{RESIGN_S, SNAPSHOT_S, TIMESTAMP_S, TrustError, rehearse};

/// The server's keys.
pub struct Online<'a> {
    /// Signs snapshots.
    pub snapshot: &'a dyn Signer,
    /// Signs timestamps.
    pub timestamp: &'a dyn Signer,
}

impl Online<'_> {
    /// Their ids, for the audit log.
    pub fn ids(&self) -> String {
        [self.snapshot, self.timestamp].map(|key| key.public().id().to_string()).join(" ")
    }
}

impl Repo {
    /// Puts what is staged into force.
    ///
    /// # Errors
    /// [`TrustError`] says whose signature is missing, or what a device would refuse; nothing
    /// is changed then.
    pub fn publish(&self, online: &Online<'_>, now_s: u64) -> Result<Self, TrustError> {
        if self.staged.is_empty() {
            return Err(TrustError::Nothing);
        }
        let missing: Vec<_> =
            self.needs()?.iter().filter_map(super::ceremony::Need::sentence).collect();
        if !missing.is_empty() {
            return Err(TrustError::Missing(missing.join(", and ")));
        }
        self.check_expiry(now_s)?;
        if let (Some(before), Some(next)) = (&self.published.keyset, &self.staged.keyset) {
            let pinned = Digest::of(before.payload());
            Verified::<Keyset>::recheck(before.bytes(), &pinned)?.advance(next.bytes())?;
        }
        let mut next = self.clone();
        let staged = std::mem::take(&mut next.staged);
        let published = &mut next.published;
        if staged.root.is_some() {
            next.roots.extend(published.root.take().map(|root| root.bytes()));
        }
        if let (Some(_), Some(before)) = (&staged.keyset, &published.keyset) {
            next.keysets.insert(before.keyset.version, before.bytes().to_vec());
        }
        published.root = staged.root.or(published.root.take());
        published.keyset = staged.keyset.or(published.keyset.take());
        published.targets = staged.targets.or(published.targets.take());
        published.teams.extend(staged.teams);
        let known = next.teams();
        next.published.teams.retain(|name, _| known.iter().any(|team| team.name == *name));
        next.sign_snapshot(online, now_s)?;
        next.check()?;
        rehearse::check(self, &next, now_s)?;
        Ok(next)
    }

    /// Signs anew what grows old; `None` if nothing does.
    ///
    /// # Errors
    /// The signers'.
    pub fn renew(&self, online: &Online<'_>, now_s: u64) -> Result<Option<Self>, TrustError> {
        let (Some(snapshot), Some(timestamp)) = (&self.snapshot, &self.timestamp) else {
            return Ok(None);
        };
        let mut next = self.clone();
        if now_s + SNAPSHOT_S / 2 >= snapshot.expires_s() {
            next.sign_snapshot(online, now_s)?;
        } else if now_s + TIMESTAMP_S >= timestamp.expires_s() + RESIGN_S {
            next.sign_timestamp(online, now_s)?;
        } else {
            return Ok(None);
        }
        Ok(Some(next))
    }

    fn check_expiry(&self, now_s: u64) -> Result<(), TrustError> {
        let expired = |file: String, at_s: u64| match at_s > now_s {
            true => Ok(()),
            false => Err(TrustError::Expired { file }),
        };
        let staged = &self.staged;
        if let Some(meta) = &staged.root {
            expired(format!("{}.root.json", meta.version()), meta.expires_s())?;
        }
        if let Some(meta) = &staged.targets {
            expired(format!("{}.targets.json", meta.version()), meta.expires_s())?;
        }
        for (team, meta) in &staged.teams {
            expired(format!("{}.{team}.json", meta.version()), meta.expires_s())?;
        }
        Ok(())
    }

    fn sign_snapshot(&mut self, online: &Online<'_>, now_s: u64) -> Result<(), TrustError> {
        let mut meta = BTreeMap::new();
        if let Some(targets) = &self.published.targets {
            meta.insert("targets.json".to_owned(), Pin::of(targets.version(), &targets.bytes()));
        }
        for (team, targets) in &self.published.teams {
            meta.insert(format!("{team}.json"), Pin::of(targets.version(), &targets.bytes()));
        }
        let version = self.snapshot.as_ref().map_or(0, Meta::version) + 1;
        let head = Head::new("snapshot", version, now_s + SNAPSHOT_S)?;
        self.snapshot = Some(self.signed(Pins { head, meta }, "snapshot", online.snapshot)?);
        self.sign_timestamp(online, now_s)
    }

    fn sign_timestamp(&mut self, online: &Online<'_>, now_s: u64) -> Result<(), TrustError> {
        let snapshot = self.snapshot.as_ref().ok_or(TrustError::Nothing)?;
        let pin = Pin::of(snapshot.version(), &snapshot.bytes());
        let version = self.timestamp.as_ref().map_or(0, Meta::version) + 1;
        let head = Head::new("timestamp", version, now_s + TIMESTAMP_S)?;
        let meta = [("snapshot.json".to_owned(), pin)].into();
        self.timestamp = Some(self.signed(Pins { head, meta }, "timestamp", online.timestamp)?);
        Ok(())
    }

    /// A file with the one signature of a server's key that the root names.
    fn signed(&self, pins: Pins, role: &str, by: &dyn Signer) -> Result<Meta<Pins>, TrustError> {
        let root = self.published.root.as_ref().ok_or(TrustError::None)?;
        let (keys, _) = root_keys(&root.role, role);
        if !keys.iter().any(|named| named.key == by.public()) {
            let (key, what) = (self.name(&by.public()), format!("the {role}"));
            return Err(TrustError::Foreign { key, what, scope: "nothing of the kind".to_owned() });
        }
        let mut meta = Meta::new(pins)?;
        let raw = signer::sign(by, &meta.message())?;
        meta.add(&by.public(), &raw);
        Ok(meta)
    }

    /// What stands in the way of any device, in words for whoever can mend it. All else the
    /// devices' own client says ([`rehearse`]).
    fn check(&self) -> Result<(), TrustError> {
        let refused = |why: String| Err(TrustError::Refused(why));
        let published = &self.published;
        let (Some(root), Some(targets)) = (&published.root, &published.targets) else {
            return refused("there are no targets yet; sign with a targets key first".to_owned());
        };
        let limits = Limits::DEVICE;
        let pairs =
            [&self.snapshot, &self.timestamp].map(|meta| meta.as_ref().ok_or(TrustError::Nothing));
        let [snapshot, timestamp] = pairs;
        let sizes = [
            ("root", root.bytes().len(), limits.root_bytes_max),
            ("targets", targets.bytes().len(), limits.targets_bytes_max),
            ("snapshot", snapshot?.bytes().len(), limits.snapshot_bytes_max),
            ("timestamp", timestamp?.bytes().len(), limits.timestamp_bytes_max),
        ];
        let teams = published.teams.iter();
        let teams =
            teams.map(|(team, m)| (team.as_str(), m.bytes().len(), limits.targets_bytes_max));
        for (name, bytes, max) in sizes.into_iter().chain(teams) {
            if bytes > max {
                return refused(format!(
                    "{name} has {bytes} bytes, devices take {max}; delegate to teams, or drop old releases"
                ));
            }
        }
        Ok(())
    }
}
