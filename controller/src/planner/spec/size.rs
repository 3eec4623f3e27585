//! How many devices: a number or a share. Phases and bounds round a share differently.

use serde::{Deserialize, Serialize};

use super::SpecError;

/// A number of devices, absolute or as a share of the rollout's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded up for phases and down for bounds; at least one.
    Percent(u8),
}

impl Size {
    /// The size of a phase among `total` devices.
    pub fn phase_of(self, total: usize) -> usize {
        match self {
            Self::Count(n) => (n as usize).min(total),
            Self::Percent(p) => (total * usize::from(p)).div_ceil(100).min(total),
        }
    }

    /// A bound among `total` devices: at least one, or nothing would ever move.
    pub fn bound_of(self, total: usize) -> usize {
        match self {
            Self::Count(n) => (n as usize).max(1),
            Self::Percent(p) => (total * usize::from(p) / 100).max(1),
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(n) => write!(f, "{n}"),
            Self::Percent(p) => write!(f, "{p}%"),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = SpecError;
    /// `5` or `5%`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let refused = || SpecError::Size(text.to_owned());
        let size = match text.strip_suffix('%') {
            Some(percent) => Self::Percent(percent.parse().map_err(|_| refused())?),
            None => Self::Count(text.parse().map_err(|_| refused())?),
        };
        if size.is_sane() { Ok(size) } else { Err(refused()) }
    }
}

impl Size {
    pub(super) fn is_sane(self) -> bool {
        match self {
            Self::Count(n) => n > 0,
            Self::Percent(p) => (1..=100).contains(&p),
        }
    }
}
