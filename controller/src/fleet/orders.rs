//! What an order says: everything that still holds of the one before, and what is new.

use fleetway_protocol::ids::{DeviceId, Generation};
use fleetway_protocol::order::{Action, ModelOrder, Order};

use super::records::OrderRecord;
use super::{Device, Fleet, FleetError, ORDER_LIFE_S};
use crate::planner::{Assignment, Deployment, RolloutSpec, Verdict, Wish};

/// Generations above this are not overtaken: a device that reports one lies or is broken,
/// and must not drive the number to its end.
pub(super) const GENERATION_SANE_MAX: Generation = u64::MAX / 2;

fn run_entry(id: u64, spec: &RolloutSpec) -> ModelOrder {
    ModelOrder {
        model: spec.model.clone(),
        release: spec.release,
        action: Action::Run,
        rollout: id,
        terms: spec.terms,
    }
}

impl Fleet {
    /// The next order of a device: its entries that still hold, with `wishes` carried out.
    /// `None` if it would say nothing and nothing has to be taken back.
    pub(super) fn compose(
        &self,
        id: &DeviceId,
        wishes: &[&Assignment],
        now_s: u64,
    ) -> Result<Option<OrderRecord>, FleetError> {
        let Some(device) = self.devices.get(id) else { return Ok(None) };
        let old = device.order.as_ref().map(|o| o.order.models.as_slice()).unwrap_or_default();
        let mut entries: Vec<ModelOrder> =
            old.iter().filter(|entry| self.still_holds(id, entry)).cloned().collect();
        self.add_lost(id, &mut entries);
        for wish in wishes {
            let Some(rollout) = self.rollouts.get(&wish.rollout) else { continue };
            entries.retain(|entry| entry.model != wish.model);
            let run = run_entry(wish.rollout, &rollout.record.spec);
            match wish.wish {
                Wish::Run(release) => entries.push(ModelOrder { release, ..run }),
                Wish::Rollback(release) => {
                    entries.push(ModelOrder { release, action: Action::Rollback, ..run });
                }
                Wish::Remove(release) => {
                    entries.push(ModelOrder { release, action: Action::Remove, ..run });
                }
                Wish::Withdraw => {}
            }
        }
        if entries.is_empty() && wishes.is_empty() {
            return Ok(None);
        }
        entries.sort_by(|a, b| a.model.cmp(&b.model));
        let models = entries.as_slice().try_into().map_err(|_| FleetError::Encode {
            what: "an order",
            detail: format!("{} models for {id}", entries.len()),
        })?;
        OrderRecord::of(Order {
            device: id.clone(),
            generation: next_generation(device),
            issued_s: now_s,
            expires_s: now_s.saturating_add(ORDER_LIFE_S),
            nonce: nonce(device),
            models,
        })
        .map(Some)
    }

    /// Whether an entry is repeated in the next order. What a halted or aborted rollout left
    /// in flight is not: a device that has not begun never will, one that has decides alone.
    fn still_holds(&self, id: &DeviceId, entry: &ModelOrder) -> bool {
        if entry.action != Action::Run {
            return true;
        }
        let Some(rollout) = self.rollouts.get(&entry.rollout) else { return false };
        let deployment = rollout.deployments.get(id);
        match deployment.and_then(|d| d.verdict) {
            Some(Verdict::Confirmed) => true,
            None | Some(Verdict::Silent | Verdict::Late) => {
                rollout.record.state.is_open() && deployment.is_some()
            }
            Some(_) => false,
        }
    }

    /// An order that rotted in the store is made again from the deployments under way.
    fn add_lost(&self, id: &DeviceId, entries: &mut Vec<ModelOrder>) {
        for (rollout, of) in self.rollouts.iter().rev() {
            let spec = &of.record.spec;
            let under_way = |d: &Deployment| d.verdict.is_none() && !d.reverted;
            if of.record.state.is_open()
                && of.deployments.get(id).is_some_and(under_way)
                && !entries.iter().any(|entry| entry.model == spec.model)
            {
                entries.push(run_entry(*rollout, spec));
            }
        }
    }

    /// Notes that deployments under way which are in no order need one: the order rotted.
    pub(super) fn find_lost_orders(&mut self) {
        let mut lost = Vec::new();
        for (id, device) in &self.devices {
            let order = device.order.as_ref();
            let mut entries = order.map(|o| o.order.models.to_vec()).unwrap_or_default();
            let before = entries.len();
            self.add_lost(id, &mut entries);
            if entries.len() > before {
                lost.push(id.clone());
            }
        }
        for id in lost {
            if let Some(device) = self.devices.get_mut(&id) {
                device.live.reissue_above = Some(device.record.generation);
            }
        }
    }
}

/// Above everything that the device was given or says it acted on.
fn next_generation(device: &Device) -> Generation {
    let given = device.order.as_ref().map_or(0, |o| o.order.generation);
    let above = device.live.reissue_above.unwrap_or(0);
    // Reports are held below GENERATION_SANE_MAX, so this never reaches the end.
    given.max(device.record.generation).max(above).saturating_add(1)
}

/// What the device's next order must carry: what it said last, or what the last order carried, if
/// it has said nothing since our start.
fn nonce(device: &Device) -> Option<[u8; 16]> {
    let said = device.live.nonce.as_ref().map(|said| said.nonce);
    said.or_else(|| device.order.as_ref()?.order.nonce)
}

/// Whether two thirds of an order's life are over.
pub(super) fn is_due(order: &Order, now_s: u64) -> bool {
    now_s >= order.issued_s.saturating_add(ORDER_LIFE_S / 3 * 2)
}
