//! Changes on their way to the store: written together, then taken over in memory. Nothing
//! in memory changes before the store has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass, RolloutId};

use super::book::Book;
use super::records::{
    AUDIT_KEY, AccessRecord, DeviceRecord, IdentityRecord, META_KEY, MetaRecord, OrderRecord,
    ReleaseRecord, RolloutRecord, deployment_key, encode, known_bad_key,
};
use super::{Device, Effect, Fleet, FleetError, JOURNAL_ENTRIES_MAX, Live, ReleaseView, Rollout};
use crate::audit::chain::{Entry, Head, bounded};
use crate::planner::{Deployment, KnownBad, Verdict};
use crate::store::{Batch, Kind};

/// The changes of one command, report or tick.
#[derive(Default)]
pub(super) struct Txn {
    /// `None`: removed, its order with it.
    pub(super) devices: BTreeMap<DeviceId, Option<DeviceRecord>>,
    pub(super) identities: BTreeMap<DeviceId, IdentityRecord>,
    pub(super) orders: BTreeMap<DeviceId, OrderRecord>,
    pub(super) releases: Vec<(ReleaseView, ReleaseRecord)>,
    pub(super) rollouts: BTreeMap<RolloutId, RolloutRecord>,
    /// Of rollouts that begin.
    pub(super) members: BTreeMap<RolloutId, Arc<BTreeSet<DeviceId>>>,
    pub(super) deployments: BTreeMap<(RolloutId, DeviceId), Deployment>,
    /// What is known against releases.
    pub(super) known_bad: BTreeMap<(Digest, HardwareClass), KnownBad>,
    /// `None`: revoked.
    pub(super) tokens: BTreeMap<String, Option<AccessRecord>>,
    /// Rollout numbers that may have been used by what was lost.
    pub(super) rollouts_skipped: RolloutId,
    journal: Vec<Entry>,
    /// The audit log begins here from now on.
    pub(super) floor: Option<Head>,
}

/// What a journal entry is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About<'a> {
    pub(super) rollout: Option<RolloutId>,
    pub(super) device: Option<&'a DeviceId>,
}

impl<'a> About<'a> {
    pub(super) fn rollout(rollout: RolloutId) -> Self {
        Self { rollout: Some(rollout), device: None }
    }

    pub(super) fn device(device: &'a DeviceId) -> Self {
        Self { rollout: None, device: Some(device) }
    }
}

impl Txn {
    /// Adds an entry to the journal; its number is given at the commit.
    pub(super) fn note(
        &mut self,
        now_s: u64,
        who: &str,
        what: &str,
        about: About<'_>,
        text: String,
    ) {
        self.note_signed(now_s, who, what, about, None, text);
    }

    /// The same with the ids of the keys that signed what it is about.
    pub(super) fn note_signed(
        &mut self,
        now_s: u64,
        who: &str,
        what: &str,
        about: About<'_>,
        key: Option<String>,
        text: String,
    ) {
        self.journal.push(Entry {
            seq: 0,
            time_s: now_s,
            who: who.to_owned(),
            what: what.to_owned(),
            rollout: about.rollout,
            device: about.device.cloned(),
            key,
            text: bounded(text),
        });
    }

    /// Whether it holds something that somebody decided: what only was reported is no decision.
    fn decides(&self) -> bool {
        !(self.orders.is_empty()
            && self.identities.is_empty()
            && self.releases.is_empty()
            && self.rollouts.is_empty()
            && self.known_bad.is_empty()
            && self.tokens.is_empty()
            && self.floor.is_none())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.devices.is_empty()
            && self.identities.is_empty()
            && self.orders.is_empty()
            && self.releases.is_empty()
            && self.rollouts.is_empty()
            && self.known_bad.is_empty()
            && self.deployments.is_empty()
            && self.tokens.is_empty()
            && self.journal.is_empty()
            && self.floor.is_none()
    }

    /// The device's record as changed so far, to be changed further.
    pub(super) fn device_mut(&mut self, id: &DeviceId, now: &Device) -> Option<&mut DeviceRecord> {
        let entry = self.devices.entry(id.clone()).or_insert_with(|| Some(now.record.clone()));
        entry.as_mut()
    }
}

impl Fleet {
    /// Makes the changes durable, then takes them over.
    pub(super) fn commit(&mut self, mut txn: Txn) -> Result<(), FleetError> {
        if txn.is_empty() {
            return Ok(());
        }
        debug_assert!(!txn.decides() || !txn.journal.is_empty(), "a decision without an entry");
        let mut meta = self.meta;
        meta.rollout_last =
            meta.rollout_last.max(txn.rollouts.keys().next_back().copied().unwrap_or(0));
        meta.rollout_last = meta.rollout_last.saturating_add(txn.rollouts_skipped);
        let mut batch = Batch::new();
        let mut audit = self.audit;
        audit.floor = txn.floor.unwrap_or(audit.floor);
        write_journal(&mut txn.journal, &mut audit.head, &mut batch)?;
        if audit != self.audit {
            batch.put(Kind::Meta, AUDIT_KEY, encode("the audit log's bounds", &audit)?);
        }
        write_records(&txn, &mut batch)?;
        if meta != self.meta {
            batch.put(Kind::Meta, META_KEY, encode("the fleet's counters", &meta)?);
        }
        self.store.commit(&batch)?;
        self.audit = audit;
        self.take_over(txn, meta);
        self.refresh_seeds();
        Ok(())
    }

    fn take_over(&mut self, txn: Txn, meta: MetaRecord) {
        self.meta = meta;
        for (id, record) in txn.devices {
            match record {
                Some(record) => {
                    let new = || Device {
                        record: DeviceRecord::default(),
                        identity: IdentityRecord::default(),
                        order: None,
                        book: Book::default(),
                        moved_by: BTreeMap::new(),
                        live: Live::default(),
                    };
                    let device = self.devices.entry(id).or_insert_with(new);
                    device.record = record;
                    device.live.booted = false;
                }
                None => {
                    let gone = self.devices.remove(&id);
                    self.mirror_gone(&id, gone.as_ref());
                    self.effects.push_back(Effect::ClearOrder(id));
                }
            }
        }
        for (id, identity) in txn.identities {
            if let Some(device) = self.devices.get_mut(&id) {
                device.identity = identity;
                self.effects.push_back(Effect::Identity(device.identity_of(&id)));
            }
        }
        for (id, order) in txn.orders {
            if let Some(device) = self.devices.get_mut(&id) {
                device.live.taken = None;
                device.live.refused = None;
                device.live.reissue_above = None;
                device.order = Some(order);
            }
        }
        for (view, record) in txn.releases {
            self.envelopes.insert(view.digest, record.envelope);
            self.releases.insert(view.digest, view);
        }
        for (id, record) in txn.rollouts {
            let record = match self.rollouts.get_mut(&id) {
                Some(rollout) => {
                    rollout.record = record;
                    continue;
                }
                None => record,
            };
            let members = Some(txn.members.get(&id).cloned().unwrap_or_default());
            self.rollouts.insert(id, Rollout { record, members, deployments: BTreeMap::new() });
        }
        self.known_bad.extend(txn.known_bad);
        for (name, record) in txn.tokens {
            match record {
                Some(record) => self.tokens.insert(name, record),
                None => self.tokens.remove(&name),
            };
        }
        for ((id, device), deployment) in txn.deployments {
            self.take_over_deployment(id, device, deployment);
        }
    }

    pub(super) fn take_over_deployment(
        &mut self,
        id: RolloutId,
        device: DeviceId,
        deployment: Deployment,
    ) {
        // Without its rollout it says nothing any more.
        let Some(rollout) = self.rollouts.get_mut(&id) else { return };
        if let Some(moved) = self.devices.get_mut(&device)
            && deployment.verdict != Some(Verdict::Left)
        {
            let by = (id, deployment.release);
            let newest = moved.moved_by.entry(rollout.record.spec.model.clone()).or_insert(by);
            *newest = by.max(*newest);
        }
        rollout.deployments.insert(device, deployment);
    }

    /// A release is offered on the broker while a rollout of it is open.
    pub(super) fn refresh_seeds(&mut self) {
        let open = self.rollouts.values().filter(|r| r.record.state.is_open());
        let wanted: BTreeSet<Digest> = open.map(|r| r.record.spec.release).collect();
        for digest in wanted.difference(&self.seeded) {
            self.effects.push_back(Effect::Seed(*digest));
        }
        for digest in self.seeded.difference(&wanted) {
            self.effects.push_back(Effect::Unseed(*digest));
        }
        self.seeded = wanted;
    }
}

fn write_journal(
    journal: &mut [Entry],
    head: &mut Head,
    batch: &mut Batch,
) -> Result<(), FleetError> {
    for entry in journal {
        entry.seq = head.seq + 1;
        let line = entry.line(head);
        let (line, next) = line.map_err(|error| FleetError::Encode {
            what: "a line of the audit log",
            detail: error.to_string(),
        })?;
        *head = next;
        batch.put(Kind::Journal, entry.seq.to_be_bytes(), line);
        if let Some(old) = entry.seq.checked_sub(JOURNAL_ENTRIES_MAX) {
            batch.remove(Kind::Journal, old.to_be_bytes());
        }
    }
    Ok(())
}

fn write_records(txn: &Txn, batch: &mut Batch) -> Result<(), FleetError> {
    for (id, record) in &txn.devices {
        let key = id.as_str().as_bytes();
        match record {
            Some(record) => batch.put(Kind::Device, key, encode("a device", record)?),
            None => {
                batch.remove(Kind::Device, key);
                batch.remove(Kind::Order, key);
                batch.remove(Kind::Enrollment, key);
                batch.remove(Kind::Telemetry, key);
            }
        }
    }
    for (id, identity) in &txn.identities {
        let value = encode("an identity", identity)?;
        batch.put(Kind::Enrollment, id.as_str().as_bytes(), value);
    }
    for (id, order) in &txn.orders {
        batch.put(Kind::Order, id.as_str().as_bytes(), order.payload.clone());
    }
    for (view, record) in &txn.releases {
        batch.put(Kind::Release, view.digest.0, encode("a release", record)?);
    }
    for (id, record) in &txn.rollouts {
        batch.put(Kind::Rollout, id.to_be_bytes(), encode("a rollout", record)?);
    }
    for ((release, class), bad) in &txn.known_bad {
        let key = known_bad_key(release, class);
        batch.put(Kind::KnownBad, key, encode("a bad release", bad)?);
    }
    for (name, record) in &txn.tokens {
        match record {
            Some(record) => batch.put(Kind::Access, name.as_bytes(), encode("a token", record)?),
            None => batch.remove(Kind::Access, name.as_bytes()),
        }
    }
    for (id, members) in &txn.members {
        let value = encode("the members of a rollout", members.as_ref())?;
        batch.put(Kind::Member, id.to_be_bytes(), value);
    }
    for ((id, device), deployment) in &txn.deployments {
        let value = encode("a deployment", deployment)?;
        batch.put(Kind::Deployment, deployment_key(*id, device), value);
    }
    Ok(())
}
