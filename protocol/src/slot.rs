//! What a device remembers about one model: the slot table.
//!
//! The table is the only durable truth of the update machine. It is written as two
//! alternating records ([`crate::record`]), so a power cut at any byte leaves either the
//! old or the new table, never none. Everything that is not in here is re-derived at boot.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::health::Evidence;
use crate::ids::{Counter, Digest, RolloutId};
use crate::limits::POISON_MAX;
use crate::manifest::VariantKind;
use crate::order::{ModelOrder, Terms};
use crate::reason::Reason;

/// One of the two places for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SlotId {
    /// The first.
    A,
    /// The second.
    B,
}

impl SlotId {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Lower-case letter, for paths and people.
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// Where the bytes of a running model are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In a slot.
    Slot(SlotId),
    /// The factory model: read-only, never erased.
    Factory,
}

/// What a slot's bytes are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotState {
    /// Nothing in it that counts.
    Empty,
    /// Being filled; may be resumed for the same release.
    Receiving,
    /// All bytes there, and they are what was signed.
    Verified,
    /// Activated, not confirmed. Survives `tries_left` more ungraceful ends.
    Trial {
        /// Ungraceful ends it may still cause before it is given up.
        tries_left: u8,
    },
    /// Passed its probation.
    Confirmed,
    /// Judged bad.
    Bad(Reason),
}

/// What the table keeps about the release in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFacts {
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its counter.
    pub counter: Counter,
    /// The floor that it brings once confirmed.
    pub min_release: Counter,
    /// The form.
    pub variant: VariantKind,
    /// Ungraceful ends in its trial that its health policy tolerates.
    pub crashes_max: u8,
}

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// What its bytes are good for.
    pub state: SlotState,
    /// Which release, unless empty.
    pub release: Option<ReleaseFacts>,
    /// On whose behalf it came here.
    pub rollout: RolloutId,
    /// What that rollout asks of it, so that a reboot in trial judges the same way.
    pub terms: Terms,
    /// When this update first had to wait for consent or a safe point, Unix seconds; 0: it has
    /// not. Durable, so that a limit to that wait counts across reboots.
    pub held_since_s: u64,
}

impl Slot {
    fn empty() -> Self {
        Self {
            state: SlotState::Empty,
            release: None,
            rollout: 0,
            terms: Terms::default(),
            held_since_s: 0,
        }
    }

    /// The update is `order`'s from now on: judged by its terms, and its patience begins anew.
    pub(crate) fn take_over(&mut self, order: &ModelOrder) {
        if self.rollout != order.rollout {
            self.held_since_s = 0;
        }
        (self.rollout, self.terms) = (order.rollout, order.terms);
    }

    /// Whether it holds `release` in one of the states that can be run again.
    pub fn holds(&self, release: &Digest) -> bool {
        self.release.is_some_and(|r| r.digest == *release)
            && matches!(self.state, SlotState::Verified | SlotState::Confirmed)
    }
}

/// A release that must not be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poison {
    /// Digest of its manifest.
    pub release: Digest,
    /// Why.
    pub reason: Reason,
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The release ordered.
    pub release: Digest,
    /// On whose behalf.
    pub rollout: RolloutId,
    /// How.
    pub result: Ending,
    /// What was measured, where the verdict rests on a measurement.
    pub evidence: Option<Evidence>,
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It runs and passed its probation.
    Confirmed,
    /// It never ran; what ran before was not touched.
    Failed(Reason),
    /// It ran, was judged bad, and the device went back.
    RolledBack(Reason),
    /// The model was removed.
    Removed,
}

/// Everything that survives a reset, for one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotTable {
    /// Releases below this counter are refused. Only rises, only at Confirmed.
    pub version_floor: Counter,
    /// The slot to go back to: the last one that was confirmed.
    pub serving: Option<SlotId>,
    /// The slots.
    pub slots: [Slot; 2],
    /// The factory release, if the device carries one.
    pub factory: Option<ReleaseFacts>,
    /// The operator removed the model: nothing is served until the next order.
    pub removed: bool,
    /// The last stop was asked for; a trial is not blamed for it.
    pub graceful: bool,
    /// Releases that are not tried again, oldest first.
    pub poison: Vec<Poison, POISON_MAX>,
    /// Entries that fell off a full poison list, for the report.
    pub poison_dropped: u32,
    /// How the last order ended.
    pub last: Option<Outcome>,
}

impl SlotTable {
    /// The table of a device that never had an order for this model.
    pub fn new(factory: Option<ReleaseFacts>) -> Self {
        Self {
            version_floor: 0,
            serving: None,
            slots: [Slot::empty(); 2],
            factory,
            removed: false,
            graceful: false,
            poison: Vec::new(),
            poison_dropped: 0,
            last: None,
        }
    }

    /// A slot.
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id as usize]
    }

    pub(crate) fn slot_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.slots[id as usize]
    }

    pub(crate) fn clear_slot(&mut self, id: SlotId) {
        *self.slot_mut(id) = Slot::empty();
    }

    /// Why `release` must not be tried, if it must not.
    pub fn poisoned(&self, release: &Digest) -> Option<Reason> {
        self.poison.iter().find(|p| p.release == *release).map(|p| p.reason)
    }

    pub(crate) fn add_poison(&mut self, release: Digest, reason: Reason) {
        if self.poisoned(&release).is_some() {
            return;
        }
        if self.poison.is_full() {
            self.poison.remove(0);
            self.poison_dropped = self.poison_dropped.saturating_add(1);
        }
        // There is room: the oldest entry just made it.
        let _ = self.poison.push(Poison { release, reason });
    }

    /// The slot in trial, if there is one.
    pub fn trial(&self) -> Option<(SlotId, u8)> {
        SlotId::BOTH.into_iter().find_map(|id| match self.slot(id).state {
            SlotState::Trial { tries_left } => Some((id, tries_left)),
            _ => None,
        })
    }

    /// What to serve when nothing is on trial: the last confirmed slot, else the other
    /// one if it was confirmed too, else the factory model.
    pub fn fallback(&self) -> Option<Place> {
        if self.removed {
            return None;
        }
        let confirmed = |id: &SlotId| matches!(self.slot(*id).state, SlotState::Confirmed);
        self.serving
            .filter(confirmed)
            .or_else(|| SlotId::BOTH.into_iter().find(confirmed))
            .map(Place::Slot)
            .or(self.factory.map(|_| Place::Factory))
    }

    /// The release at `place`.
    pub fn release_at(&self, place: Place) -> Option<ReleaseFacts> {
        match place {
            Place::Slot(id) => self.slot(id).release,
            Place::Factory => self.factory,
        }
    }

    /// Whether the table is one that the machine can have written; the sanity check that
    /// tests run after every step.
    pub fn is_sane(&self) -> bool {
        let one_trial = SlotId::BOTH
            .iter()
            .filter(|id| matches!(self.slot(**id).state, SlotState::Trial { .. }))
            .count()
            <= 1;
        let serving_confirmed =
            self.serving.is_none_or(|id| self.slot(id).state == SlotState::Confirmed);
        let named = SlotId::BOTH.iter().all(|id| {
            (self.slot(*id).state == SlotState::Empty) == self.slot(*id).release.is_none()
        });
        one_trial && serving_confirmed && named
    }
}
