//! The tick: decide, make durable, then let it out.

use std::collections::{BTreeMap, BTreeSet};

use fleetway_protocol::ids::DeviceId;

use super::facts::is_live;
use super::orders::is_due;
use super::txn::{About, Txn};
use super::{Effect, Fleet, FleetError, RENEWALS_PER_TICK_MAX};
use crate::planner::{
    Assignment, Change, Input, Plan, RolloutState, Verdict, Wish, deployment_after, plan_and_check,
    wanted,
};

impl Fleet {
    /// Decides what moves now. Assignments, generations and the exact order payloads become
    /// durable in one commit; only then are they queued as effects.
    ///
    /// # Errors
    /// [`FleetError`]; nothing has changed then, and the next tick tries again.
    pub fn tick(&mut self, now_s: u64) -> Result<(), FleetError> {
        let mut txn = Txn::default();
        for event in self.store.take_events() {
            txn.note(now_s, "store", "store.rotten", About::default(), event.to_string());
        }
        let plan = if self.rollouts.values().any(is_live) {
            let mut input = self.input(now_s, is_live);
            for id in wanted(&input) {
                let found = input.rollouts.iter_mut().find(|r| r.id == id);
                found.into_iter().for_each(|r| r.evidence = self.evidence(id, now_s));
            }
            let plan = plan_and_check(&input);
            self.decided = self.keeps_decisions.then(|| (input, plan.clone()));
            plan
        } else {
            Plan::default()
        };
        self.write_changes(&plan, now_s, &mut txn);
        self.write_deployments(&plan, now_s, &mut txn);
        self.write_orders(&plan, now_s, &mut txn)?;
        self.write_boots(&mut txn);
        let mut due: BTreeSet<DeviceId> = txn.orders.keys().cloned().collect();
        self.commit(txn)?;
        self.forget_watches();
        let unheard = self.devices.iter().filter(|(_, d)| !d.is_revoked() && d.is_unheard(now_s));
        let unheard: Vec<DeviceId> = unheard.map(|(id, _)| id.clone()).collect();
        self.resent += unheard.len() as u64;
        due.extend(unheard);
        for device in due {
            self.resend_to(&device);
            if let Some(device) = self.devices.get_mut(&device) {
                device.live.sent_s = Some(now_s);
            }
        }
        Ok(())
    }

    /// From now on the planner's input and decision are there to be taken after each tick.
    pub fn keep_decisions(&mut self) {
        self.keeps_decisions = true;
    }

    /// What the last tick decided on, if it decided anything.
    pub fn take_decision(&mut self) -> Option<(Input, Plan)> {
        self.decided.take()
    }

    /// Boots that were heard of since the last tick, all in one commit: after a restart of ours
    /// nobody gets a report of an earlier boot believed.
    fn write_boots(&self, txn: &mut Txn) {
        for (id, device) in self.devices.iter().filter(|(_, device)| device.live.booted) {
            txn.device_mut(id, device);
        }
    }

    fn write_changes(&self, plan: &Plan, now_s: u64, txn: &mut Txn) {
        for change in &plan.changes {
            match change {
                Change::TimedOut { rollout, device, verdict } => {
                    let found = self.rollouts.get(rollout).and_then(|r| r.deployments.get(device));
                    let Some(mut deployment) = found.cloned() else { continue };
                    deployment.verdict = Some(*verdict);
                    deployment.verdict_s = now_s;
                    txn.deployments.insert((*rollout, device.clone()), deployment);
                    let about = About { rollout: Some(*rollout), device: Some(device) };
                    let what = match verdict {
                        Verdict::Late => "was not done in time",
                        _ => "was silent for too long",
                    };
                    let text = format!("{device} {what}: counts as failed");
                    txn.note(now_s, "planner", "verdict", about, text);
                }
                Change::State { rollout, to, why } => {
                    let Some(found) = self.rollouts.get(rollout) else { continue };
                    let record =
                        txn.rollouts.entry(*rollout).or_insert_with(|| found.record.clone());
                    record.state = to.clone();
                    let what = match to {
                        RolloutState::Running { phase } => format!("enters phase {}", phase + 1),
                        RolloutState::WaitingForApproval { phase } => {
                            format!("waits for approval of phase {}", phase + 1)
                        }
                        to => format!("is {}", to.word()),
                    };
                    let text = format!("rollout {rollout} {what}: {why}");
                    txn.note(now_s, "planner", "rollout.state", About::rollout(*rollout), text);
                }
                Change::Looked { rollout, ended, looked } => {
                    let Some(found) = self.rollouts.get(rollout) else { continue };
                    let record =
                        txn.rollouts.entry(*rollout).or_insert_with(|| found.record.clone());
                    record.looks.phase = ended.or(record.looks.phase);
                    record.looks.last = Some(looked.clone());
                    let text = format!("rollout {rollout}: {}", looked.summary());
                    txn.note(now_s, "planner", "rollout.gates", About::rollout(*rollout), text);
                }
                Change::Bad(bad) => {
                    txn.known_bad.insert((bad.release, bad.class.clone()), bad.clone());
                    let text = format!("release {:.12} is {}", bad.release, bad.sentence());
                    let about = About::rollout(bad.rollout);
                    txn.note(now_s, "planner", "release.bad", about, text);
                }
            }
        }
    }

    fn write_deployments(&self, plan: &Plan, now_s: u64, txn: &mut Txn) {
        for order in &plan.orders {
            let key = (order.rollout, order.device.clone());
            // Not what a verdict by time in this very plan made of it: that is in the transaction.
            let stored =
                self.rollouts.get(&order.rollout).and_then(|r| r.deployments.get(&order.device));
            let before = txn.deployments.get(&key).or(stored);
            if let Some(deployment) = deployment_after(order, before, now_s) {
                txn.deployments.insert(key, deployment);
            }
        }
    }

    fn write_orders(&self, plan: &Plan, now_s: u64, txn: &mut Txn) -> Result<(), FleetError> {
        let mut wishes: BTreeMap<&DeviceId, Vec<&Assignment>> = BTreeMap::new();
        for order in &plan.orders {
            wishes.entry(&order.device).or_default().push(order);
        }
        for (id, wishes) in &wishes {
            self.write_order(id, wishes, now_s, "", txn)?;
        }
        let rest = self.devices.iter();
        let rest = rest.filter(|(id, device)| !wishes.contains_key(id) && !device.is_revoked());
        let mut renewals = 0;
        for (id, device) in rest {
            let due = device.order.as_ref().is_some_and(|o| is_due(&o.order, now_s));
            if device.live.reissue_above.is_some() {
                self.write_order(id, &[], now_s, "again, above the last; ", txn)?;
            } else if due && renewals < RENEWALS_PER_TICK_MAX {
                renewals += usize::from(self.write_order(id, &[], now_s, "renewed; ", txn)?);
            }
        }
        Ok(())
    }

    /// Writes the next order of a device; `false` if there is nothing to say.
    fn write_order(
        &self,
        id: &DeviceId,
        wishes: &[&Assignment],
        now_s: u64,
        why: &str,
        txn: &mut Txn,
    ) -> Result<bool, FleetError> {
        let (Some(device), Some(record)) = (self.devices.get(id), self.compose(id, wishes, now_s)?)
        else {
            return Ok(false);
        };
        let generation = record.order.generation;
        if let Some(stored) = txn.device_mut(id, device) {
            stored.generation = generation;
        }
        let about = About { rollout: wishes.first().map(|w| w.rollout), device: Some(id) };
        let wishes: Vec<_> = wishes.iter().map(|wish| show(wish)).collect();
        let text = format!("order {generation} to {id}: {why}{}", wishes.join("; "));
        let text = text.trim_end_matches("; ").to_owned();
        txn.note_signed(now_s, "planner", "order", about, self.director.clone(), text);
        txn.orders.insert(id.clone(), record);
        Ok(true)
    }

    /// The next thing for the shell to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Gives every effect again from durable state: after a start, and after every
    /// reconnect to the broker, which may have forgotten everything.
    pub fn resend_all(&mut self) {
        let cleared = |e: &Effect| {
            matches!(e, Effect::ClearOrder(_) | Effect::Unseed(_) | Effect::Identity(_))
        };
        self.effects.retain(cleared);
        self.seeded = BTreeSet::new();
        self.refresh_seeds();
        let devices: Vec<DeviceId> = self.devices.keys().cloned().collect();
        for device in devices {
            self.resend_to(&device);
        }
        self.resend_revocations();
    }

    /// Gives the order in force for one device again: the same bytes, the same generation.
    pub fn resend_to(&mut self, device: &DeviceId) {
        let device_now = self.devices.get(device).filter(|d| !d.is_revoked());
        if let Some(record) = device_now.and_then(|d| d.order.as_ref()) {
            self.effects.push_back(Effect::SendOrder {
                device: device.clone(),
                payload: record.payload.clone(),
                generation: record.order.generation,
            });
        }
    }
}

fn show(order: &Assignment) -> String {
    let (model, rollout) = (&order.model, order.rollout);
    match order.wish {
        Wish::Run(digest) => {
            format!("run {model} {digest:.12} (rollout {rollout}, phase {})", order.phase + 1)
        }
        Wish::Rollback(digest) => {
            format!("{model} back to {digest:.12} (rollout {rollout} was aborted)")
        }
        Wish::Remove(_) => {
            format!("remove {model}: nothing ran before (rollout {rollout} was aborted)")
        }
        Wish::Withdraw => format!(
            "say nothing of {model}: what ran before is not known (rollout {rollout} was aborted)"
        ),
    }
}
