//! Tokens and sessions as the API shows them.

use fleetway_controller::access::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenCreate {
    /// Its name, which the audit log will show: 1 to 64 letters, digits and `-_.@`.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
    /// Seconds that it is good for, at most ten years.
    pub(crate) life_s: u64,
}

/// Its answer: the only time that the token is shown.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TokenCreated {
    /// The token: a secret.
    pub(crate) token: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub(crate) view: TokenView,
}

/// `GET /v1/tokens` is a list of these.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TokenView {
    /// Its name.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
    /// By whom it was made.
    pub(crate) created_by: String,
    /// When, Unix seconds.
    pub(crate) created_s: u64,
    /// From when it is good for nothing, Unix seconds.
    pub(crate) expires_s: u64,
    /// Whether that is so already.
    pub(crate) expired: bool,
}

/// `POST /v1/session`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionOpen {
    /// A token.
    pub(crate) token: String,
}

/// `GET /v1/session`: who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SessionView {
    /// The token's name, or the operator's on the unix socket.
    pub(crate) name: String,
    /// What they may do.
    pub(crate) role: Role,
    /// What requests that change something repeat in the header `fleetway-csrf`, in a session.
    pub(crate) csrf: Option<String>,
    /// When the session ends at the latest, Unix seconds.
    pub(crate) expires_s: Option<u64>,
}
