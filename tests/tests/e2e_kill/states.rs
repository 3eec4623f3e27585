//! What is hit: the state on the agent's disk, and the state of a rollout.

use std::path::Path;

use fleetway_agent::fs::RealFs;
use fleetway_agent::store::RecordFile;
use fleetway_protocol::limits::TABLE_BYTES_MAX;
use fleetway_protocol::slot::{Ending, SlotId, SlotState, SlotTable};
use fleetway_tests::harness::views::Rollout;

/// What an agent's disk says about a rollout, in the words of the slot table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OnDisk {
    /// Nothing of it yet.
    Nothing,
    /// The slot is being filled.
    Receiving,
    /// All bytes are there; the self-test runs or is about to.
    Verified,
    /// It answers applications, on trial.
    Trial,
    /// Confirmed.
    Confirmed,
}

impl OnDisk {
    pub(crate) const ALL: [Self; 5] =
        [Self::Nothing, Self::Receiving, Self::Verified, Self::Trial, Self::Confirmed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "ordered, nothing kept",
            Self::Receiving => "receiving",
            Self::Verified => "verified, self-testing",
            Self::Trial => "trial",
            Self::Confirmed => "just confirmed",
        }
    }

    /// How long it may last, milliseconds: moments are drawn from this.
    pub(crate) fn span_ms(self) -> u64 {
        match self {
            Self::Nothing => 20,
            Self::Receiving => 900,
            Self::Verified => 60,
            Self::Trial => 900,
            Self::Confirmed => 40,
        }
    }
}

/// The slot table of model `digits`, read beside the agent: of two copies one is whole.
pub(crate) fn table(data: &Path) -> Option<SlotTable> {
    let dir = data.join("models/digits");
    RecordFile::<SlotTable>::open(&RealFs, &dir, "table", TABLE_BYTES_MAX).ok()?.value().cloned()
}

/// What the disk says about `rollout`.
pub(crate) fn on_disk(data: &Path, rollout: u64) -> OnDisk {
    let Some(table) = table(data) else { return OnDisk::Nothing };
    assert!(table.is_sane(), "an insane slot table: {table:?}");
    if table.last.is_some_and(|o| o.rollout == rollout && o.result == Ending::Confirmed) {
        return OnDisk::Confirmed;
    }
    let slots = SlotId::BOTH.map(|id| *table.slot(id));
    let slot = slots.iter().filter(|slot| slot.rollout == rollout && slot.release.is_some());
    let state = |slot: &fleetway_protocol::slot::Slot| match slot.state {
        SlotState::Receiving => OnDisk::Receiving,
        SlotState::Verified => OnDisk::Verified,
        SlotState::Trial { .. } => OnDisk::Trial,
        SlotState::Confirmed => OnDisk::Confirmed,
        SlotState::Empty | SlotState::Bad(_) => OnDisk::Nothing,
    };
    slot.map(state).max().unwrap_or(OnDisk::Nothing)
}

/// Where a rollout is, as the controller knows it: the farthest of its devices says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Midst {
    /// Its start was acknowledged, no device has said anything.
    Acknowledged,
    /// A device downloads.
    Downloading,
    /// A device tries it.
    Probation,
    /// A device confirmed it.
    Confirming,
}

impl Midst {
    pub(crate) const ALL: [Self; 4] =
        [Self::Acknowledged, Self::Downloading, Self::Probation, Self::Confirming];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "just acknowledged",
            Self::Downloading => "devices downloading",
            Self::Probation => "devices on probation",
            Self::Confirming => "devices confirming",
        }
    }

    /// How long to wait after it is seen, at most, milliseconds.
    pub(crate) fn span_ms(self) -> u64 {
        match self {
            Self::Acknowledged => 1,
            Self::Downloading => 500,
            Self::Probation => 600,
            Self::Confirming => 100,
        }
    }
}

/// What the controller last said.
pub(crate) fn midst(rollout: &Rollout) -> Midst {
    let device = |device: &fleetway_tests::harness::views::RolloutDevice| {
        let phase = device.model.as_ref().map_or("", |model| model.phase.as_str());
        match (device.state.as_str(), phase) {
            ("confirmed", _) => Midst::Confirming,
            ("moving", phase) if phase.contains("probation") => Midst::Probation,
            ("moving", phase) if !phase.contains("idle") => Midst::Downloading,
            _ => Midst::Acknowledged,
        }
    };
    rollout.devices.iter().map(device).max().unwrap_or(Midst::Acknowledged)
}
