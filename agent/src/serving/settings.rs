//! How much of the device each model may take, as the configuration says.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetway_protocol::ids::ModelName;

use super::limits::{BATCH_ROWS_MAX, BATCH_WAIT};

/// Bounds of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSettings {
    /// Runs of this model at once; the device's own bound holds too.
    pub concurrent_max: usize,
    /// Rows of different requests that may share a run; 1 is no batching.
    pub batch_max: usize,
    /// How long a request waits for others to share a run with.
    pub batch_wait: Duration,
}

impl ModelSettings {
    /// The usual ones.
    pub fn new(concurrent_max: usize) -> Self {
        Self { concurrent_max, batch_max: BATCH_ROWS_MAX, batch_wait: BATCH_WAIT }
    }
}

/// Bounds of all models.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of those that have none of their own.
    pub usual: ModelSettings,
    /// Of those that have.
    pub own: BTreeMap<ModelName, ModelSettings>,
}

impl Settings {
    /// The same for all models.
    pub fn new(usual: ModelSettings) -> Self {
        Self { usual, own: BTreeMap::new() }
    }

    /// Those of one model.
    pub fn of(&self, model: &ModelName) -> ModelSettings {
        self.own.get(model).copied().unwrap_or(self.usual)
    }
}

impl Default for Settings {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(ModelSettings::new(processors))
    }
}
