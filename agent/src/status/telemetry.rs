//! What became of the telemetry reports, as a person is told.

use serde::{Deserialize, Serialize};

use crate::spool::Counts;

/// What became of the telemetry reports that this device ever made, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reports {
    /// Made.
    pub produced: u64,
    /// The controller has them.
    pub delivered: u64,
    /// Nobody has them.
    pub lost: u64,
    /// On disk, until the controller has them.
    pub waiting: u64,
}

impl From<Counts> for Reports {
    fn from(counts: Counts) -> Self {
        let Counts { produced, delivered, lost, waiting } = counts;
        Self { produced, delivered, lost, waiting }
    }
}

impl Reports {
    /// `1200 made, 1190 delivered, 10 wait`.
    pub(super) fn text(&self) -> String {
        let Self { produced, delivered, lost, waiting } = self;
        let lost = if *lost > 0 { format!(", {lost} LOST") } else { String::new() };
        format!("{produced} made, {delivered} delivered, {waiting} wait{lost}")
    }
}
