//! What the device remembers, in one record: the slot table, which orders are old, which keyset
//! is in force, and what was about to be run when the device last went dark.

use fleetway_protocol::ids::{Digest, Generation};
use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use fleetway_protocol::slot::SlotTable;
use serde::{Deserialize, Serialize};

/// Everything that survives a reset. It becomes durable as a whole ([`crate::journal`]). Without its
/// table (`Kept<()>`) it is small enough to be handed about, and with a table that lies elsewhere
/// (`Kept<&SlotTable>`) it is written without a copy of that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept<T = SlotTable> {
    /// Number of this boot.
    pub epoch: u64,
    /// Highest generation acted on; never falls.
    pub generation: Generation,
    /// Digest of that order's payload: the same order may be taken up again, no other one of its
    /// generation. The order itself is not stored; the gateway says it again.
    pub order: Digest,
    /// Latest time that a signed order told, Unix seconds: no earlier one is believed.
    pub time_floor_s: u64,
    /// The keyset in force, if it is not the one that the device was born with.
    pub keyset: Option<KeptKeyset>,
    /// The release whose self-test has begun and not ended.
    pub ordeal: Option<Ordeal>,
    /// The slots of the device's model.
    pub table: T,
}

/// A stored keyset: its bytes lie in one of two places, this says in which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptKeyset {
    /// 0 or 1.
    pub place: u8,
    /// Digest of its payload.
    pub digest: Digest,
}

/// A self-test, noted before it runs: a model that never comes back must not be tried for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordeal {
    /// Of which release.
    pub release: Digest,
    /// Power cuts that are still taken for power cuts.
    pub tries_left: u8,
}

impl Ordeal {
    /// The first self-test of a release.
    pub fn first(release: Digest) -> Self {
        Self { release, tries_left: TRIAL_TRIES_MAX - 1 }
    }
}

impl<T> Kept<T> {
    /// A device that has never been on.
    pub fn new(table: T) -> Self {
        Self {
            epoch: 0,
            generation: 0,
            order: Digest([0; 32]),
            time_floor_s: 0,
            keyset: None,
            ordeal: None,
            table,
        }
    }

    /// The same with another table.
    pub(crate) fn with<U>(&self, table: U) -> Kept<U> {
        let Self { epoch, generation, order, time_floor_s, keyset, ordeal, .. } = *self;
        Kept { epoch, generation, order, time_floor_s, keyset, ordeal, table }
    }

    /// Takes everything but the table.
    pub(crate) fn take<U>(&mut self, other: &Kept<U>) {
        let Kept { epoch, generation, order, time_floor_s, keyset, ordeal, .. } = *other;
        (self.epoch, self.generation, self.order) = (epoch, generation, order);
        (self.time_floor_s, self.keyset, self.ordeal) = (time_floor_s, keyset, ordeal);
    }
}
