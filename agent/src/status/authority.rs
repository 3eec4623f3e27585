//! What the device knows of the release authority, and of its own certificate, for a person.

use serde::{Deserialize, Serialize};

use crate::device;

/// What is known of the release authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Version of the keyset in force; absent until the first has come.
    pub keyset: Option<u64>,
    /// Its metadata, from the root down.
    pub roles: Vec<Role>,
    /// What is wrong or missing.
    pub problem: Option<String>,
}

/// One file of metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// `root`, `timestamp`, `snapshot`, `targets`.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// When it expires, Unix seconds.
    pub expires_s: u64,
    /// Seconds until then; 0 when it has expired.
    pub good_for_s: u64,
}

impl Authority {
    pub(super) fn of(facts: &device::TrustStatus, now_s: u64) -> Self {
        let role = |role: &fleetway_tuf::client::RoleState| Role {
            role: role.role.to_owned(),
            version: role.version,
            expires_s: role.expires_s,
            good_for_s: role.expires_s.saturating_sub(now_s),
        };
        let roles = facts.roles.iter().map(role).collect();
        Self { keyset: facts.keyset, roles, problem: facts.problem.clone() }
    }
}

/// The device's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// When it ends, Unix seconds.
    pub ends_s: Option<u64>,
    /// Seconds that it is still good for; 0 when it has ended.
    pub left_s: Option<u64>,
    /// Why the last renewal failed, if it did.
    pub problem: Option<String>,
}
