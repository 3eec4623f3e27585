//! What a device has said, it must go on saying.

use fleetway_firmware::device::Device;
use fleetway_firmware::hardware::Flash as _;
use fleetway_firmware::kept::Kept;
use fleetway_firmware::store::Part;
use fleetway_protocol::codec;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::report::{Ack, Stamp, State};
use fleetway_protocol::slot::{Ending, SlotId, SlotState};
use fleetway_protocol::topics::Topic;

use crate::fleet::Fleet;
use crate::nor::Nor;
use crate::world::LAYOUT;

/// The most that was ever said.
#[derive(Clone, Default)]
pub(crate) struct Claims {
    stamp: Stamp,
    generation: u64,
    floor: u64,
    /// The release that was reported as confirmed, and by which order: until a newer one. (A
    /// rollout of this fleet has the number of its order.)
    confirmed: Option<(u64, Digest)>,
    /// How the last order ended, as reported.
    pub(crate) last: Option<Ending>,
    /// The highest generation that the fleet gave out.
    pub(crate) issued: u64,
    /// Whether the whole flash is lost: a device cannot remember then.
    pub(crate) forgets: bool,
    /// Whether a slot may be rotten: it counts as confirmed no longer.
    pub(crate) rotten: bool,
}

impl Claims {
    /// A report that holds.
    pub(crate) fn hear(
        &mut self,
        topic: &Topic,
        bytes: &[u8],
        device: &Device<'_, Nor>,
    ) -> Result<(), String> {
        match topic {
            Topic::State(..) => {
                let state: State = codec::decode(bytes, 4096).map_err(|e| e.to_string())?;
                self.rises(state.stamp)?;
                if state.running != device.running().map(|(_, digest)| digest) {
                    return Err("reports to serve what it does not".into());
                }
                let table = &device.kept().table;
                if (state.floor, state.last) != (table.version_floor, table.last) {
                    return Err("I6: says what is not durable".into());
                }
                let fell = state.floor < self.floor || state.generation < self.generation;
                if fell && !self.forgets {
                    return Err("I6: a floor or a generation fell in a report".into());
                }
                (self.floor, self.generation) = (state.floor, state.generation);
                self.last = state.last.map(|last| last.result);
                self.confirmed = state
                    .last
                    .filter(|last| last.result == Ending::Confirmed)
                    .map(|last| (last.rollout, last.release));
            }
            Topic::Ack(_) => {
                let ack: Ack = codec::decode(bytes, 4096).map_err(|e| e.to_string())?;
                self.rises(ack.stamp)?;
                if ack.refused.is_none() {
                    self.generation = self.generation.max(ack.generation);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rises(&mut self, stamp: Stamp) -> Result<(), String> {
        if stamp <= self.stamp && !self.forgets {
            return Err(format!("a stamp fell: {stamp:?} after {:?}", self.stamp));
        }
        self.stamp = stamp;
        Ok(())
    }

    /// What the durable table says is there is there, to the byte.
    pub(crate) fn check_slots(
        &self,
        device: &Device<'_, Nor>,
        fleet: &Fleet,
    ) -> Result<(), String> {
        for id in SlotId::BOTH {
            let slot = device.kept().table.slot(id);
            let is_named = !matches!(slot.state, SlotState::Empty | SlotState::Receiving);
            let digest = slot.release.filter(|_| is_named).map(|release| release.digest);
            let release = fleet.releases.iter().find(|r| Some(r.digest) == digest);
            let model = LAYOUT.slot(id).part(Part::Model);
            let there = &device.store().flash().mapped()[model.at as usize..];
            let is_there = release.is_none_or(|release| there.starts_with(&release.model));
            if !is_there && !self.rotten && !self.forgets {
                return Err(format!("I10: a slot is {:?}, and its model is not there", slot.state));
            }
        }
        Ok(())
    }

    /// A boot found `kept`.
    pub(crate) fn check_boot(&self, kept: &Kept) -> Result<(), String> {
        if !kept.table.is_sane() {
            return Err(format!("the table is not sane: {:?}", kept.table));
        }
        if self.forgets {
            return Ok(());
        }
        if kept.epoch < self.stamp.epoch {
            return Err("a boot's number was forgotten".into());
        }
        if kept.generation < self.generation {
            return Err("I6: a generation was forgotten that had been acknowledged".into());
        }
        if kept.table.version_floor < self.floor {
            return Err("I6: the floor fell".into());
        }
        let still = |digest: &Digest| {
            let in_slot = SlotId::BOTH.into_iter().any(|id| {
                let slot = kept.table.slot(id);
                slot.state == SlotState::Confirmed && slot.holds(digest)
            });
            in_slot || kept.table.factory.is_some_and(|factory| factory.digest == *digest)
        };
        match &self.confirmed {
            Some((order, digest))
                if kept.generation == *order && !self.rotten && !still(digest) =>
            {
                Err("I6: what was reported as confirmed was forgotten".into())
            }
            _ => Ok(()),
        }
    }
}
