//! How well the self-test's child is fenced in, in words that travel: to the log, to the status,
//! to the policy that says whether a model may be tried at all.
//!
//! Four fences. Any one of the last three alone keeps a model from writing a file; together they
//! do not depend on one feature of one kernel. What a kernel does not offer is named, never
//! silently left out: a device in an emulator, or with a kernel of five years ago, is a fact that
//! an operator decides about.

use crate::limits::bounded;
use fleetway_protocol::sandbox as wire;
pub use fleetway_protocol::sandbox::Fence;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A fence that does not stand, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Which.
    pub fence: Fence,
    /// Why.
    pub why: String,
}

/// The state of the fences around a child. Shown as `full`, `partial: ...` or `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    missing: Vec<Missing>,
}

impl Sandbox {
    /// No fence stands, all for one reason: there is nothing to fence in.
    pub fn absent(why: &str) -> Self {
        let mut sandbox = Self::default();
        Fence::ALL.into_iter().for_each(|fence| sandbox.lacks(fence, why));
        sandbox
    }

    /// Notes that a fence does not stand.
    pub(super) fn lacks(&mut self, fence: Fence, why: impl fmt::Display) {
        self.missing.push(Missing { fence, why: bounded(why.to_string()) });
    }

    /// What does not stand.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Whether `fence` stands whole.
    pub fn has(&self, fence: Fence) -> bool {
        self.missing.iter().all(|missing| missing.fence != fence)
    }

    /// `full`, `partial` or `none`.
    pub fn state(&self) -> &'static str {
        wire::state(|fence| self.has(fence))
    }

    /// What the device reports of it.
    pub fn report(&self, require: Require) -> wire::Sandbox {
        let missing = Fence::ALL.into_iter().filter(|fence| !self.has(*fence)).collect();
        wire::Sandbox { missing, met: require.is_met_by(self) }
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.state())?;
        for (at, Missing { fence, why }) in self.missing.iter().enumerate() {
            let before = if at == 0 { ": no" } else { ", no" };
            write!(f, "{before} {} ({why})", fence.name())?;
        }
        Ok(())
    }
}

/// What a policy asks of the fences before a model is parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Require {
    /// Every fence.
    Full,
    /// The limits, and seccomp or landlock's files: what keeps a model from the device's files
    /// is there, be it once instead of twice. The default: every kernel of a maintained Linux
    /// meets it (5.10 has seccomp), and an emulator that has nothing does not.
    #[default]
    Confined,
    /// The limits alone: for emulators and kernels without either.
    Limits,
}

impl Require {
    /// Whether `sandbox` is enough.
    pub fn is_met_by(self, sandbox: &Sandbox) -> bool {
        let limits = sandbox.has(Fence::Limits);
        match self {
            Self::Full => sandbox.missing.is_empty(),
            Self::Confined => {
                limits && (sandbox.has(Fence::SystemCalls) || sandbox.has(Fence::Files))
            }
            Self::Limits => limits,
        }
    }

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Confined => "confined",
            Self::Limits => "limits",
        }
    }
}

/// Not the name of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be \"full\", \"confined\" or \"limits\"")]
pub struct RequireError;

impl FromStr for Require {
    type Err = RequireError;

    fn from_str(text: &str) -> Result<Self, RequireError> {
        let all = [Self::Full, Self::Confined, Self::Limits];
        all.into_iter().find(|require| require.name() == text).ok_or(RequireError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(fences: &[Fence]) -> Sandbox {
        let mut sandbox = Sandbox::default();
        fences.iter().for_each(|fence| sandbox.lacks(*fence, "old kernel"));
        sandbox
    }

    #[test]
    fn states_are_named_and_policies_hold() {
        use Fence::{Files, Limits, SystemCalls, Tcp};
        // What is missing, its name, and whether full, confined and limits are met.
        let table: [(&[Fence], &str, [bool; 3]); 6] = [
            (&[], "full", [true, true, true]),
            (&[Tcp], "partial", [false, true, true]),
            (&[Files, Tcp], "partial", [false, true, true]),
            (&[SystemCalls], "partial", [false, true, true]),
            (&[Files, Tcp, SystemCalls], "partial", [false, false, true]),
            (&Fence::ALL, "none", [false, false, false]),
        ];
        for (fences, state, met) in table {
            let sandbox = lacking(fences);
            assert_eq!(sandbox.state(), state, "{fences:?}");
            let report = sandbox.report(Require::Confined);
            assert_eq!((report.state(), report.met), (state, met[1]), "{fences:?}");
            assert_eq!(&report.missing[..], fences);
            let policies = [Require::Full, Require::Confined, Require::Limits];
            assert_eq!(policies.map(|require| require.is_met_by(&sandbox)), met, "{fences:?}");
            assert!(policies.iter().all(|require| require.name().parse() == Ok(*require)));
        }
        assert_eq!(
            lacking(&[Limits, Tcp]).to_string(),
            "partial: no limits (old kernel), no landlock-tcp (old kernel)"
        );
        assert_eq!("rlimits".parse::<Require>(), Err(RequireError));
    }
}
