//! What is durable, and how it reads back. Every value is a record version, then postcard;
//! the store adds a checksum around it.

use std::collections::BTreeMap;

use fleetway_protocol::codec;
use fleetway_protocol::ids::{DeviceId, Digest, Generation, HardwareClass, ModelName, RolloutId};
use fleetway_protocol::limits::ORDER_BYTES_MAX;
use fleetway_protocol::order::{ModelOrder, Order};
use fleetway_protocol::report::State;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::FleetError;
use crate::access::Role;
use crate::planner::analysis::Looks;
use crate::planner::{Labels, RolloutSpec, RolloutState};

/// Version of the records that this build writes and reads.
const RECORD_VERSION: u8 = 3;
/// The key of the fleet's counters, of [`crate::store::Kind::Meta`].
pub(super) const META_KEY: &[u8] = b"fleet";
/// The key of the audit log's bounds, of the same kind.
pub(super) const AUDIT_KEY: &[u8] = b"audit";

/// Counters of the fleet as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MetaRecord {
    pub(super) rollout_last: RolloutId,
}

/// A device. Its newest states are kept in memory; they are written when what they say has
/// changed, not at each step of a download.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct DeviceRecord {
    pub(super) labels: Labels,
    pub(super) added_s: u64,
    /// The highest generation given to it or reported by it. Here as well as in its order,
    /// so that one rotten record does not lower it.
    pub(super) generation: Generation,
    /// The newest boot heard of. Reports of earlier ones are old, whoever repeats them.
    pub(super) epoch: u64,
    pub(super) states: BTreeMap<ModelName, State>,
    /// What hardware it last said that it is.
    pub(super) hardware: Option<HardwareClass>,
}

/// A device's identity: how it may come in, with which key, or that it may not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IdentityRecord {
    /// The last token made for it.
    pub(super) token: Option<TokenRecord>,
    /// The enrolled public key (a P-256 point, or an Ed25519 key); empty until it enrolled.
    pub(super) key: Vec<u8>,
    /// When it enrolled, Unix seconds.
    pub(super) enrolled_s: u64,
    /// When its newest certificate ends, Unix seconds.
    pub(super) certificate_ends_s: u64,
    /// When it was revoked, if it is.
    pub(super) revoked_s: Option<u64>,
    /// Digests of the keys that it enrolled with before, oldest first. None enrols again: by
    /// its key a report belongs to one enrolment.
    pub(super) past: Vec<Digest>,
    /// The device that it hangs on, and that speaks for it.
    pub(super) via: Option<DeviceId>,
}

impl IdentityRecord {
    /// Reads one. What an older build wrote ends before `via`: nothing hung on anything.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        const NONE: u8 = 0;
        decode(bytes).or_else(|| decode(&[bytes, &[NONE]].concat()))
    }
}

/// A token of the API, under its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AccessRecord {
    pub(super) role: Role,
    /// SHA-256 of the secret.
    pub(super) digest: Digest,
    pub(super) created_by: String,
    pub(super) created_s: u64,
    pub(super) expires_s: u64,
}

/// What is kept of a device's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenRecord {
    /// [`Token::digest`](fleetway_protocol::enroll::Token::digest).
    pub(super) digest: Digest,
    pub(super) expires_s: u64,
    /// Wrong ones that may still be tried.
    pub(super) tries_left: u8,
    pub(super) used_s: Option<u64>,
}

/// A release: when, and the envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ReleaseRecord {
    pub(super) published_s: u64,
    pub(super) envelope: Vec<u8>,
}

/// A rollout. Its deployments and its list of members are records of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RolloutRecord {
    pub(super) spec: RolloutSpec,
    pub(super) state: RolloutState,
    pub(super) started_s: u64,
    pub(super) started_by: String,
    /// When its metric gates were looked at. Durable: what was spent stays spent.
    pub(super) looks: Looks,
}

/// The order in force for a device: the exact payload, and what it says. Only the payload
/// is stored, so the two cannot differ.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OrderRecord {
    pub(super) payload: Vec<u8>,
    pub(super) order: Order,
}

impl OrderRecord {
    pub(super) fn of(order: Order) -> Result<Self, FleetError> {
        let mut buf = [0; ORDER_BYTES_MAX];
        let payload = codec::encode(&order, &mut buf)
            .map_err(|e| FleetError::Encode { what: "an order", detail: e.to_string() })?;
        Ok(Self { payload: payload.to_vec(), order })
    }

    pub(super) fn read(payload: Vec<u8>) -> Option<Self> {
        let order = codec::decode(&payload, ORDER_BYTES_MAX).ok()?;
        Some(Self { payload, order })
    }

    pub(super) fn entry(&self, model: &ModelName) -> Option<&ModelOrder> {
        self.order.models.iter().find(|m| m.model == *model)
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }
}

pub(super) fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, FleetError> {
    postcard::to_extend(value, vec![RECORD_VERSION])
        .map_err(|e| FleetError::Encode { what, detail: e.to_string() })
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (version, rest) = bytes.split_first()?;
    if *version != RECORD_VERSION {
        return None;
    }
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// The key of what is known against a release on a class.
pub(super) fn known_bad_key(release: &Digest, class: &HardwareClass) -> Vec<u8> {
    let mut key = release.0.to_vec();
    key.extend_from_slice(class.as_str().as_bytes());
    key
}

pub(super) fn deployment_key(rollout: RolloutId, device: &DeviceId) -> Vec<u8> {
    let mut key = rollout.to_be_bytes().to_vec();
    key.extend_from_slice(device.as_str().as_bytes());
    key
}

pub(super) fn read_deployment_key(key: &[u8]) -> Option<(RolloutId, DeviceId)> {
    let (rollout, device) = key.split_at_checked(8)?;
    let device = DeviceId::new(std::str::from_utf8(device).ok()?).ok()?;
    Some((RolloutId::from_be_bytes(rollout.try_into().ok()?), device))
}
