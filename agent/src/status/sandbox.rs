//! How well self-tests are fenced in, for a person: what stands, what does not, what is required.

use fleetway_engine::selftest::sandbox::Missing;
use fleetway_engine::{Require, Sandbox};
use serde::{Deserialize, Serialize};

/// How well self-tests are fenced in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    /// `full`, `partial` or `none`; `unknown` until the first self-test process ran.
    pub state: String,
    /// Fences that do not stand, and why.
    pub missing: Vec<String>,
    /// What agent.toml requires: `full`, `confined` or `limits`.
    pub require: String,
    /// Whether that is met; where not, no new model is tried.
    pub met: bool,
}

impl SandboxState {
    pub(super) fn unknown(require: Require) -> Self {
        let (state, require) = ("unknown".to_owned(), require.name().to_owned());
        Self { state, require, missing: Vec::new(), met: true }
    }

    pub(super) fn of(sandbox: &Sandbox, require: Require) -> Self {
        let name = |missing: &Missing| format!("{} ({})", missing.fence.name(), missing.why);
        Self {
            state: sandbox.state().to_owned(),
            missing: sandbox.missing().iter().map(name).collect(),
            require: require.name().to_owned(),
            met: require.is_met_by(sandbox),
        }
    }
}
