//! How well self-tests are fenced in, as a device reports it: which fences do not stand, and
//! whether the device's own policy is content with that.
//!
//! What a kernel does not offer is named, never silently left out: a device in an emulator,
//! or with a kernel of five years ago, is a fact that an operator decides about. Why a fence
//! does not stand is told at the device alone; it is for the person who can mend it.

use heapless::Vec;
use serde::{Deserialize, Serialize};

/// One fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fence {
    /// Memory, CPU time, file sizes, open files; no core file; no new rights; death with the parent.
    Limits,
    /// landlock: no file or directory is opened, made, changed or run. Linux 6.2; 5.13 lacks one rule.
    Files,
    /// landlock: no TCP port is bound or connected to. Linux 6.7.
    Tcp,
    /// seccomp: only the system calls that computing takes. Any Linux of today, not every emulator.
    SystemCalls,
}

impl Fence {
    /// All, in the order in which they are named.
    pub const ALL: [Self; 4] = [Self::Limits, Self::Files, Self::Tcp, Self::SystemCalls];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Files => "landlock-files",
            Self::Tcp => "landlock-tcp",
            Self::SystemCalls => "seccomp",
        }
    }
}

/// What a device says about its sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Fences that do not stand.
    pub missing: Vec<Fence, { Fence::ALL.len() }>,
    /// Whether the device's policy tries new models all the same.
    pub met: bool,
}

impl Sandbox {
    /// `full`, `partial` or `none`.
    pub fn state(&self) -> &'static str {
        state(|fence| !self.missing.contains(&fence))
    }
}

/// The state's name by which fences stand: `full`, `partial` or `none`.
pub fn state(stands: impl Fn(Fence) -> bool) -> &'static str {
    match Fence::ALL.into_iter().filter(|fence| stands(*fence)).count() {
        0 => "none",
        count if count == Fence::ALL.len() => "full",
        _ => "partial",
    }
}
