//! What lies in the slots, for somebody who wants to know without a change: each place that could
//! serve by the table on disk, checked as a boot or a trial would check it.

use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Place, SlotId, SlotState, SlotTable};

use super::{Device, FactoryError};
use crate::fs::Fs;

/// One place and what its bytes are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPlace {
    /// Which model.
    pub model: ModelName,
    /// Which place.
    pub place: Place,
    /// What the table says of the slot; `None` for the factory place.
    pub state: Option<SlotState>,
    /// The release that the table names.
    pub release: Digest,
    /// What people call it, if its manifest is as signed.
    pub version: Option<String>,
    /// Whether signature and every byte hold.
    pub checked: Result<(), Reason>,
}

/// What is stored of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredModel {
    /// Which.
    pub model: ModelName,
    /// Copies of its slot table that cannot be read, of two.
    pub damaged: u8,
    /// Why its factory model is not served.
    pub no_factory: Option<FactoryError>,
    /// Every place that could serve.
    pub places: Vec<StoredPlace>,
}

impl<F: Fs> Device<F> {
    /// What the disk holds now, read again; not what a boot has made of it.
    pub fn stored(&self) -> Vec<StoredModel> {
        self.models.iter().map(|model| self.stored_model(&model.name)).collect()
    }

    fn stored_model(&self, model: &ModelName) -> StoredModel {
        let file = self.store.table(model);
        let damaged = file.as_ref().map_or(2, |file| file.damaged());
        let table = file.ok().and_then(|file| file.value().cloned());
        let factory = self.factory(model);
        let no_factory = factory.clone().err();
        let factory = factory.unwrap_or_default();
        let table = SlotTable { factory, ..table.unwrap_or_else(|| SlotTable::new(factory)) };
        let places = [Place::Slot(SlotId::A), Place::Slot(SlotId::B), Place::Factory];
        let places = places.into_iter().filter_map(|at| self.stored_place(model, &table, at));
        StoredModel { model: model.clone(), damaged, no_factory, places: places.collect() }
    }

    fn stored_place(
        &self,
        model: &ModelName,
        table: &SlotTable,
        place: Place,
    ) -> Option<StoredPlace> {
        let release = table.release_at(place)?;
        let state = match place {
            Place::Slot(slot) => Some(table.slot(slot).state),
            Place::Factory => None,
        };
        if matches!(state, Some(SlotState::Empty | SlotState::Receiving | SlotState::Bad(_))) {
            return None;
        }
        let checked = self.checked_release(model, place, release);
        Some(StoredPlace {
            model: model.clone(),
            place,
            state,
            release: release.digest,
            version: checked.as_ref().ok().map(|c| c.manifest.get().version.to_string()),
            checked: checked.map(drop),
        })
    }
}
