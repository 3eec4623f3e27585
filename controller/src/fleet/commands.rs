//! What an operator does with devices and releases. Each is durable before `Ok`, and may be
//! given again: the second time changes nothing.

use fleetway_protocol::envelope::Envelope;
use fleetway_protocol::ids::{DeviceId, Digest};
use fleetway_protocol::keyset::ReleaseKeys;
use fleetway_protocol::manifest::{Artifact, Manifest};

use super::records::{DeviceRecord, ReleaseRecord, RolloutRecord};
use super::txn::{About, Txn};
use super::{By, DeviceError, Fleet, FleetError, PublishError, ReleaseView};
use crate::audit::Head;
use crate::planner::{Labels, PausedBy, RolloutState, check_label};

impl Fleet {
    /// Who may sign releases from now on. What is published stays; devices ask for themselves.
    pub fn set_release_keys(&mut self, release_keys: ReleaseKeys) {
        self.release_keys = release_keys;
    }

    /// Adds a device. Again with the same labels: nothing to do.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn add_device(
        &mut self,
        by: By<'_>,
        id: &DeviceId,
        labels: &Labels,
    ) -> Result<(), DeviceError> {
        check_labels(labels)?;
        match self.devices.get(id) {
            Some(device) if device.record.labels == *labels => return Ok(()),
            Some(_) => return Err(DeviceError::Exists(id.clone())),
            None => {}
        }
        let mut txn = Txn::default();
        let record =
            DeviceRecord { labels: labels.clone(), added_s: by.now_s, ..DeviceRecord::default() };
        txn.devices.insert(id.clone(), Some(record));
        let text = format!("added {id} with {}", show_labels(labels));
        txn.note(by.now_s, by.who, "device.add", About::device(id), text);
        Ok(self.commit(txn)?)
    }

    /// Sets some labels of a device and removes others.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn label_device(
        &mut self,
        by: By<'_>,
        id: &DeviceId,
        set: &Labels,
        remove: &[String],
    ) -> Result<(), DeviceError> {
        check_labels(set)?;
        let device = self.devices.get(id).ok_or_else(|| DeviceError::NotFound(id.clone()))?;
        let mut record = device.record.clone();
        record.labels.retain(|key, _| !remove.contains(key));
        record.labels.extend(set.clone());
        if record.labels == device.record.labels {
            return Ok(());
        }
        let mut txn = Txn::default();
        let text = format!("{id} has {} now", show_labels(&record.labels));
        txn.devices.insert(id.clone(), Some(record));
        txn.note(by.now_s, by.who, "device.label", About::device(id), text);
        Ok(self.commit(txn)?)
    }

    /// Removes a device: it is counted nowhere any more, and gets no orders. Revoking its
    /// certificate is the shell's part.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn remove_device(&mut self, by: By<'_>, id: &DeviceId) -> Result<(), DeviceError> {
        if !self.devices.contains_key(id) {
            return Err(DeviceError::NotFound(id.clone()));
        }
        let mut txn = Txn::default();
        txn.devices.insert(id.clone(), None);
        self.leave_rollouts(by.now_s, id, &mut txn);
        txn.note(by.now_s, by.who, "device.remove", About::device(id), format!("removed {id}"));
        Ok(self.commit(txn)?)
    }

    /// Publishes a signed release. Its signature is checked once more. Again: nothing to do.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish_release(&mut self, by: By<'_>, envelope: &[u8]) -> Result<Digest, PublishError> {
        let (manifest, digest) = self.release_keys.read(envelope).map_err(PublishError::Trust)?;
        if self.releases.contains_key(&digest) {
            return Ok(digest);
        }
        let (model, counter) = (manifest.model.clone(), manifest.counter);
        let others = || self.releases.values().map(|r| &r.manifest).filter(|m| m.model == model);
        if others().any(|m| m.version == manifest.version) {
            return Err(PublishError::Version { model, version: manifest.version });
        }
        if let Some(top) = others().max_by_key(|m| m.counter)
            && top.counter >= counter
        {
            return Err(PublishError::Counter {
                counter,
                highest: top.counter,
                version: top.version.clone(),
                next: top.counter.saturating_add(1),
                model,
            });
        }
        // Chunks travel under the artifact's digest and a number: cut in two ways they would collide.
        let published = self.releases.values().flat_map(|r| artifacts(&r.manifest));
        let is_cut_otherwise = |a: &&Artifact| {
            artifacts(&manifest).any(|b| a.digest == b.digest && a.chunk_bytes != b.chunk_bytes)
        };
        if let Some(other) = published.into_iter().find(is_cut_otherwise) {
            let Artifact { digest, chunk_bytes, .. } = *other;
            return Err(PublishError::Chunks { artifact: digest, chunk_bytes });
        }
        let mut txn = Txn::default();
        let accepted = match &manifest.golden_mismatch_accepted {
            Some(note) => format!("; its golden vectors do not match, accepted: {note}"),
            None => String::new(),
        };
        let text = format!(
            "published {model} {} ({digest:.12}), counter {counter}{accepted}",
            manifest.version
        );
        let key = signers(envelope);
        txn.note_signed(by.now_s, by.who, "release.publish", About::default(), key, text);
        let record = ReleaseRecord { published_s: by.now_s, envelope: envelope.to_vec() };
        txn.releases.push((ReleaseView { digest, manifest, published_s: by.now_s }, record));
        self.commit(txn)?;
        Ok(digest)
    }

    /// The store was rewound by `lost_commits`
    /// ([`Opened::Rewound`](crate::store::Opened::Rewound)): what was aborted may run again,
    /// and orders were given that nobody here knows of. So running rollouts are paused until
    /// a person has looked, numbers go on above everything that may have been used, and tokens
    /// are revoked.
    /// Call it right after [`Fleet::open`].
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn recover_rewound(&mut self, by: By<'_>, lost_commits: u64) -> Result<(), FleetError> {
        let mut txn = Txn::default();
        let why = format!(
            "the store lost its last {lost_commits} commits; compare with what you remember, then resume or abort"
        );
        txn.note(by.now_s, by.who, "store.rewound", About::default(), why.clone());
        for (id, rollout) in &self.rollouts {
            if let RolloutState::Running { phase } = rollout.record.state {
                let by = PausedBy::Inconclusive(why.clone());
                let state = RolloutState::Paused { phase, by };
                txn.rollouts.insert(*id, RolloutRecord { state, ..rollout.record.clone() });
            }
        }
        for (id, device) in &self.devices {
            if let Some(record) = txn.device_mut(id, device) {
                // A commit gives a device at most one order.
                record.generation = record.generation.saturating_add(lost_commits);
            }
        }
        // One that was revoked would be good again. Whoever owns the socket makes new ones.
        for name in self.tokens.keys() {
            txn.tokens.insert(name.clone(), None);
        }
        txn.rollouts_skipped = lost_commits;
        self.commit(txn)?;
        for device in self.devices.values_mut().filter(|d| d.order.is_some()) {
            device.live.reissue_above = Some(device.record.generation);
        }
        Ok(())
    }

    /// An entry of the shell's own in the journal (a device joined, the store was rebuilt).
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn note(
        &mut self,
        by: By<'_>,
        what: &str,
        device: Option<&DeviceId>,
        text: &str,
    ) -> Result<(), FleetError> {
        let mut txn = Txn::default();
        txn.note(by.now_s, by.who, what, About { rollout: None, device }, text.to_owned());
        self.commit(txn)
    }

    /// The same for something that was signed: `key` names the keys.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn note_signed(
        &mut self,
        by: By<'_>,
        what: &str,
        key: Option<String>,
        text: &str,
    ) -> Result<(), FleetError> {
        let mut txn = Txn::default();
        let text = text.to_owned();
        txn.note_signed(by.now_s, by.who, what, About::default(), key, text);
        self.commit(txn)
    }

    /// Orders are signed with this key from now on; the audit log names it.
    pub fn set_director(&mut self, key: String) {
        self.director = Some(key);
    }

    /// Certificates are signed by this authority; the audit log names it.
    pub fn set_issuer(&mut self, authority: String) {
        self.issuer = Some(authority);
    }

    /// The audit log's lines up to `floor` are removed after this: what is left begins there.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn set_audit_floor(&mut self, by: By<'_>, floor: Head) -> Result<(), FleetError> {
        let mut txn = Txn::default();
        txn.floor = Some(floor);
        let text = format!("lines up to {} are removed: the log has its bound", floor.seq);
        txn.note(by.now_s, by.who, "audit.rotate", About::default(), text);
        self.commit(txn)
    }
}

/// Ids of the keys whose signatures an envelope carries.
pub(super) fn signers(envelope: &[u8]) -> Option<String> {
    let envelope = Envelope::decode(envelope).ok()?;
    let ids: Vec<_> = envelope.signers().map(|id| id.to_string()).collect();
    Some(ids.join(" "))
}

pub(super) fn check_labels(labels: &Labels) -> Result<(), DeviceError> {
    for (key, value) in labels {
        check_label(key, value)?;
    }
    Ok(())
}

fn show_labels(labels: &Labels) -> String {
    if labels.is_empty() {
        return "no labels".to_owned();
    }
    let shown: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    shown.join(",")
}

fn artifacts(manifest: &Manifest) -> impl Iterator<Item = &Artifact> {
    manifest.variants.iter().flat_map(|variant| [&variant.model, &variant.golden])
}
