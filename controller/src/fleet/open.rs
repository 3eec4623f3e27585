//! From the store to memory. What does not read back is left out and told in the journal;
//! the fleet goes on with the rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fleetway_protocol::ids::{DeviceId, Digest};
use fleetway_protocol::keyset::ReleaseKeys;
use serde::de::DeserializeOwned;

use super::book::Book;
use super::once::OnceRecord;
use super::records::{
    AUDIT_KEY, IdentityRecord, META_KEY, MetaRecord, OrderRecord, ReleaseRecord, decode, encode,
    read_deployment_key,
};
use super::txn::{About, Txn};
use super::{Device, Fleet, FleetError, Ignored, Live, ReleaseView, Rollout};
use crate::audit::Bounds;
use crate::planner::KnownBad;
use crate::store::{Batch, Kind, Store};

/// What could not be read, for the journal.
type Lost = Vec<String>;

impl Fleet {
    /// The fleet as it is in the store. `release_keys` are asked again about every
    /// release. Silence of devices counts from `now_s`.
    ///
    /// # Errors
    /// [`FleetError`] if the store fails; rotten records are no error.
    pub fn open(
        store: Arc<dyn Store>,
        release_keys: impl Into<ReleaseKeys>,
        now_s: u64,
    ) -> Result<Self, FleetError> {
        let mut lost = Lost::new();
        let mut fleet = Self {
            release_keys: release_keys.into(),
            meta: MetaRecord::default(),
            devices: BTreeMap::new(),
            releases: BTreeMap::new(),
            envelopes: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            known_bad: BTreeMap::new(),
            listening_since_s: Some(now_s),
            effects: VecDeque::new(),
            seeded: BTreeSet::new(),
            ignored: Ignored::default(),
            answered: Default::default(),
            resent: 0,
            audit: Bounds::default(),
            director: None,
            issuer: None,
            decided: None,
            keeps_decisions: false,
            watches: BTreeMap::new(),
            tokens: BTreeMap::new(),
            once: BTreeMap::new(),
            mirror: None,
            home_assistant: None,
            store,
        };
        fleet.read_devices(&mut lost)?;
        fleet.read_releases(&mut lost)?;
        fleet.read_rollouts(&mut lost)?;
        fleet.read_known_bad(&mut lost)?;
        fleet.read_meta()?;
        let name = |raw: &[u8]| {
            let name = String::from_utf8(raw.to_vec()).ok()?;
            super::tokens::is_name(&name).then_some(name)
        };
        let key = |raw: &[u8]| Some(Digest(raw.try_into().ok()?));
        let once = fleet.read_all::<_, OnceRecord>(Kind::Once, key, &mut lost)?;
        fleet.once = once.into_iter().map(|(key, note)| (key, note.at_s)).collect();
        fleet.tokens = fleet.read_all(Kind::Access, name, &mut lost)?.into_iter().collect();
        fleet.find_lost_orders();
        fleet.refresh_seeds();
        fleet.resend_all();
        let mut txn = Txn::default();
        for event in fleet.store.take_events() {
            txn.note(now_s, "store", "store.rotten", About::default(), event.to_string());
        }
        for text in lost {
            txn.note(now_s, "store", "store.unreadable", About::default(), text);
        }
        fleet.commit(txn)?;
        Ok(fleet)
    }

    fn read_all<K, T: DeserializeOwned>(
        &self,
        kind: Kind,
        key: impl Fn(&[u8]) -> Option<K>,
        lost: &mut Lost,
    ) -> Result<Vec<(K, T)>, FleetError> {
        let mut records = Vec::new();
        for (raw, value) in self.store.list(kind)? {
            match (key(&raw), decode(&value)) {
                (Some(key), Some(record)) => records.push((key, record)),
                _ => lost.push(unreadable(kind, &raw)),
            }
        }
        Ok(records)
    }

    fn read_devices(&mut self, lost: &mut Lost) -> Result<(), FleetError> {
        for (id, record) in self.read_all(Kind::Device, read_device_id, lost)? {
            let (live, moved_by) = (Live::default(), BTreeMap::new());
            let identity = IdentityRecord::default();
            let (book, order) = (Book::default(), None);
            self.devices.insert(id, Device { record, identity, order, book, moved_by, live });
        }
        for (raw, value) in self.store.list(Kind::Enrollment)? {
            let (id, identity) = (read_device_id(&raw), IdentityRecord::read(&value));
            let Some((id, identity)) = id.zip(identity) else {
                lost.push(unreadable(Kind::Enrollment, &raw));
                continue;
            };
            // Without one its own record rotted; that was told already.
            if let Some(device) = self.devices.get_mut(&id) {
                device.identity = identity;
            }
        }
        for (id, book) in self.read_all(Kind::Telemetry, read_device_id, lost)? {
            if let Some(device) = self.devices.get_mut(&id) {
                device.book = book;
            }
        }
        for (raw, payload) in self.store.list(Kind::Order)? {
            let device = read_device_id(&raw).and_then(|id| self.devices.get_mut(&id));
            match (device, OrderRecord::read(payload)) {
                (Some(device), Some(order)) => {
                    device.record.generation = device.record.generation.max(order.order.generation);
                    // It was heard to be ahead, and the order above that was not written.
                    let ahead = device.record.generation > order.order.generation;
                    device.live.reissue_above = ahead.then_some(device.record.generation);
                    device.order = Some(order);
                }
                (None, _) => {} // The device's own record rotted; that was told already.
                (_, None) => lost.push(unreadable(Kind::Order, &raw)),
            }
        }
        Ok(())
    }

    fn read_releases(&mut self, lost: &mut Lost) -> Result<(), FleetError> {
        let digest = |raw: &[u8]| Some(Digest(raw.try_into().ok()?));
        for (digest, record) in self.read_all::<_, ReleaseRecord>(Kind::Release, digest, lost)? {
            match self.release_keys.read(&record.envelope) {
                Ok((manifest, of)) if of == digest => {
                    let published_s = record.published_s;
                    self.releases.insert(digest, ReleaseView { digest, manifest, published_s });
                    self.envelopes.insert(digest, record.envelope);
                }
                Ok(_) => lost.push(unreadable(Kind::Release, &digest.0)),
                Err(error) => lost.push(format!(
                    "published release {digest:.12} is left out: {error}; publish it again under the current release keys"
                )),
            }
        }
        Ok(())
    }

    fn read_rollouts(&mut self, lost: &mut Lost) -> Result<(), FleetError> {
        let id = |raw: &[u8]| Some(u64::from_be_bytes(raw.try_into().ok()?));
        for (id, record) in self.read_all(Kind::Rollout, id, lost)? {
            // Without its list nobody was there at the start: only the last phase takes them.
            let members = Some(Arc::default());
            self.rollouts.insert(id, Rollout { record, members, deployments: BTreeMap::new() });
        }
        for (id, members) in self.read_all::<_, BTreeSet<DeviceId>>(Kind::Member, id, lost)? {
            if let Some(rollout) = self.rollouts.get_mut(&id) {
                rollout.members = Some(Arc::new(members));
            }
        }
        let deployments = self.read_all(Kind::Deployment, read_deployment_key, lost)?;
        for ((id, device), deployment) in deployments {
            self.take_over_deployment(id, device, deployment);
        }
        Ok(())
    }

    fn read_known_bad(&mut self, lost: &mut Lost) -> Result<(), FleetError> {
        for ((), bad) in self.read_all::<_, KnownBad>(Kind::KnownBad, |_| Some(()), lost)? {
            self.known_bad.insert((bad.release, bad.class.clone()), bad);
        }
        Ok(())
    }

    /// The counters, never below what is in use.
    fn read_meta(&mut self) -> Result<(), FleetError> {
        let value = self.store.get(Kind::Meta, META_KEY)?;
        let stored: MetaRecord = value.and_then(|v| decode(&v)).unwrap_or_default();
        let rollout_last = self.rollouts.keys().next_back().copied().unwrap_or(0);
        self.audit = read_audit(self.store.as_ref())?;
        self.meta = MetaRecord { rollout_last: stored.rollout_last.max(rollout_last) };
        Ok(())
    }
}

/// Where the audit log begins and ends by a store.
///
/// # Errors
/// [`FleetError`] if the store fails.
pub fn read_audit(store: &dyn Store) -> Result<Bounds, FleetError> {
    let value = store.get(Kind::Meta, AUDIT_KEY)?;
    Ok(value.and_then(|value| decode(&value)).unwrap_or_default())
}

/// Says where the audit log begins and ends, before the fleet is opened: for a log that is ahead
/// of a store that was rewound or begun anew.
///
/// # Errors
/// [`FleetError`] if the store fails.
pub fn write_audit(store: &dyn Store, bounds: &Bounds) -> Result<(), FleetError> {
    let mut batch = Batch::new();
    batch.put(Kind::Meta, AUDIT_KEY, encode("the audit log's bounds", bounds)?);
    Ok(store.commit(&batch)?)
}

fn unreadable(kind: Kind, key: &[u8]) -> String {
    let (name, key) = (kind.name(), key.escape_ascii());
    format!("the stored {name} {key} does not read back and is left out")
}

fn read_device_id(raw: &[u8]) -> Option<DeviceId> {
    DeviceId::new(std::str::from_utf8(raw).ok()?).ok()
}
