//! Devices without a connection of their own: which gateway they hang on, and by which key they are known.
//!
//! A device has one way in: through its gateway, or by itself.

use fleetway_protocol::enroll::Floor;
use fleetway_protocol::ids::DeviceId;

use super::records::{DeviceRecord, IdentityRecord};
use super::txn::{About, Txn};
use super::{Adopted, By, DeviceError, Fleet, GatewayError};
use crate::planner::Labels;

impl Fleet {
    /// Takes in a device that has no connection of its own and hangs on another one, its gateway
    /// `via`. From now on it is whoever signs with `key`, and the gateway alone brings what it says.
    /// Again with another gateway: it was moved there.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn adopt_device(
        &mut self,
        by: By<'_>,
        id: &DeviceId,
        labels: &Labels,
        adopted: &Adopted,
    ) -> Result<Floor, DeviceError> {
        super::commands::check_labels(labels)?;
        let Adopted { via, hardware, key } = adopted;
        self.check_gateway(id, via)?;
        let known = self.devices.get(id);
        let mut identity = known.map(|d| d.identity.clone()).unwrap_or_default();
        if identity.past.contains(&key.digest()) {
            return Err(DeviceError::KeyUsed(id.clone()));
        }
        let has_own = identity.via.is_none() && !identity.key.is_empty();
        if has_own && identity.revoked_s.is_none() {
            return Err(DeviceError::HasItsOwn(id.clone()));
        }
        let mut txn = Txn::default();
        let mut record = match known {
            Some(device) if !labels.is_empty() && device.record.labels != *labels => {
                return Err(DeviceError::Exists(id.clone()));
            }
            Some(device) => device.record.clone(),
            None => {
                let labels = labels.clone();
                DeviceRecord { labels, added_s: by.now_s, ..DeviceRecord::default() }
            }
        };
        record.hardware = Some(hardware.clone());
        txn.devices.insert(id.clone(), Some(record));
        let anew = identity.take(key, by.now_s, 0);
        identity.token = None;
        identity.via = Some(via.clone());
        txn.identities.insert(id.clone(), identity);
        let text = format!("{id} ({hardware}) hangs on {via}, with the key {:.12}", key.digest());
        txn.note(by.now_s, by.who, "device.adopt", About::device(id), text);
        Ok(self.begin(id, anew, txn)?)
    }

    /// Whether `id` may hang on `via`: a gateway has a connection of its own.
    fn check_gateway(&self, id: &DeviceId, via: &DeviceId) -> Result<(), GatewayError> {
        let (device, named) = (id.clone(), via.clone());
        if id == via {
            return Err(GatewayError::Itself(device));
        }
        let gateway = self.devices.get(via);
        let gateway = gateway.ok_or(GatewayError::Unknown { device, via: named.clone() })?;
        if gateway.is_revoked() {
            return Err(GatewayError::Revoked(named));
        }
        if let Some(on) = gateway.identity.via.clone() {
            return Err(GatewayError::Hangs { via: named, on });
        }
        let mut carried = self
            .devices
            .iter()
            .filter(|(_, device)| device.identity.via.as_ref() == Some(id) && !device.is_revoked());
        match carried.next() {
            Some((of, _)) => Err(GatewayError::Carries { device: id.clone(), of: of.clone() }),
            None => Ok(()),
        }
    }
}

/// Whether a device of this identity may get a connection of its own.
pub(super) fn check_own(id: &DeviceId, identity: &IdentityRecord) -> Result<(), DeviceError> {
    match &identity.via {
        Some(via) if identity.revoked_s.is_none() => {
            Err(DeviceError::HangsOn { device: id.clone(), via: via.clone() })
        }
        _ => Ok(()),
    }
}
