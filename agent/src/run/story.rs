//! What happens to the models, as log lines with fields: what an order ended in, and what is waited
//! for. The rest of the log says what was done; this is what a person searches for by model,
//! rollout or reason.

use std::collections::BTreeMap;

use fleetway_protocol::ids::ModelName;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Ending, Outcome};

use crate::device::ModelStatus;

/// What was logged last, by model.
#[derive(Debug, Default)]
pub(super) struct Story {
    told: BTreeMap<ModelName, (Option<Outcome>, Option<Reason>)>,
}

impl Story {
    /// Logs what is new. What a boot finds ended before, and is not told again.
    pub(super) fn tell(&mut self, models: &[ModelStatus]) {
        for status in models {
            let now = (status.last, status.waiting);
            let Some((last, waiting)) = self.told.insert(status.model.clone(), now) else {
                continue;
            };
            if let Some(outcome) = status.last
                && last != status.last
            {
                tell_end(&status.model, &outcome);
            }
            if let Some(reason) = status.waiting
                && waiting != status.waiting
            {
                let (model, code) = (&status.model, reason.code());
                tracing::warn!(%model, reason = code, "waits: {reason}");
            }
        }
    }
}

fn tell_end(model: &ModelName, outcome: &Outcome) {
    let Outcome { release, rollout, result, evidence: _ } = outcome;
    match result {
        Ending::Confirmed => tracing::info!(%model, rollout, %release, "confirmed"),
        Ending::Removed => tracing::info!(%model, rollout, %release, "removed"),
        Ending::Failed(reason) => {
            tracing::warn!(%model, rollout, %release, reason = reason.code(), "failed: {reason}");
        }
        Ending::RolledBack(reason) => {
            tracing::warn!(%model, rollout, %release, reason = reason.code(), "rolled back: {reason}");
        }
    }
}
