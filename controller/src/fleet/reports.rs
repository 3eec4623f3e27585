//! What devices say. Reports come late, twice and out of order: of two the one with the
//! greater stamp is newer, and hearing one again changes nothing. The newest boot of a device
//! is durable, so that this holds over a restart as well. That a report is its device's own
//! was found out before ([`Fleet::is_from`]).

use std::collections::BTreeMap;

use fleetway_protocol::ids::{DeviceId, Digest, Generation, ModelName, RolloutId};
use fleetway_protocol::limits::MODELS_PER_DEVICE_MAX;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::{Ack, Nonce, Presence, Stamp, State, Want};
use fleetway_protocol::slot::Ending;

use super::orders::{GENERATION_SANE_MAX, is_due};
use super::txn::{About, Txn};
use super::{Device, Fleet, FleetError, Ignored, RESEND_S};
use crate::planner::{Verdict, Why};

impl Fleet {
    /// Our own connection to the broker. While it is down nobody is blamed for silence, and
    /// nobody is offered a release; when it is back, silence counts from now.
    pub fn handle_link(&mut self, now_s: u64, up: bool) {
        self.listening_since_s = match (up, self.listening_since_s) {
            (true, None) => Some(now_s),
            (true, since) => since,
            (false, _) => None,
        };
    }

    /// Presence. A last will of an older boot than the newest seen is a leftover.
    ///
    /// # Errors
    /// [`FleetError`]; the report may be given again.
    pub fn handle_presence(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        presence: &Presence,
    ) -> Result<(), FleetError> {
        let Some(device) = reporter(&mut self.devices, &mut self.ignored, id, presence.stamp)
        else {
            return Ok(());
        };
        let newest = device.live.presence.unwrap_or_default();
        if !presence.online {
            // A last will carries the stamp of its connection's beginning, and was written
            // before the sandbox was known.
            device.live.online = false;
            device.live.agent = Some(presence.agent.clone());
            device.live.sandbox = presence.sandbox.clone().or(device.live.sandbox.take());
            device.live.presence = Some(newest.max(presence.stamp));
            self.mirror_online(id);
            return self.handle_generation(now_s, id, presence.generation);
        }
        if device.live.presence.is_some() && presence.stamp <= newest && device.live.online
            || presence.stamp < newest
        {
            self.ignored.old += 1;
            return Ok(());
        }
        device.live.presence = Some(presence.stamp);
        device.live.online = true;
        device.live.heard_s = Some(now_s);
        device.live.agent = Some(presence.agent.clone());
        device.live.sandbox = presence.sandbox.clone().or(device.live.sandbox.take());
        if device.record.hardware != presence.hardware {
            // Durable: who a rollout is for must not hang on who spoke since our last start.
            let mut txn = Txn::default();
            if let Some(record) = txn.device_mut(id, device) {
                record.hardware = presence.hardware.clone();
            }
            self.commit(txn)?;
        }
        self.mirror_online(id);
        self.handle_generation(now_s, id, presence.generation)
    }

    /// Reported state of one model.
    ///
    /// # Errors
    /// [`FleetError`]; the report may be given again.
    pub fn handle_state(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        model: &ModelName,
        state: &State,
    ) -> Result<(), FleetError> {
        let Some(device) = reporter(&mut self.devices, &mut self.ignored, id, state.stamp) else {
            return Ok(());
        };
        let old = device.record.states.get(model);
        if old.is_some_and(|old| state.stamp <= old.stamp) {
            self.ignored.old += 1;
            return Ok(());
        }
        if old.is_none() && device.record.states.len() >= MODELS_PER_DEVICE_MAX {
            self.ignored.too_many_models += 1;
            return Ok(());
        }
        let before = old.cloned();
        let changed = old.is_none_or(|old| {
            (old.running, old.last, old.generation, old.floor)
                != (state.running, state.last, state.generation, state.floor)
        });
        if changed {
            let mut txn = Txn::default();
            let device = &*device;
            if let Some(record) = txn.device_mut(id, device) {
                record.states.insert(model.clone(), state.clone());
            }
            self.judge_outcome(now_s, id, model, state, &mut txn);
            self.commit(txn)?;
        } else {
            device.record.states.insert(model.clone(), state.clone());
        }
        if let Some(device) = self.devices.get_mut(id) {
            device.live.heard_s = Some(now_s);
            let ours = device.order.as_ref().map(|o| o.order.generation);
            if ours == Some(state.generation) {
                device.live.taken = ours;
            }
        }
        self.mirror_state(now_s, id, model, before.as_ref(), state);
        self.handle_generation(now_s, id, state.generation)
    }

    /// A device's answer to an order.
    ///
    /// # Errors
    /// [`FleetError`]; the report may be given again.
    pub fn handle_ack(&mut self, now_s: u64, id: &DeviceId, ack: &Ack) -> Result<(), FleetError> {
        let Some(device) = reporter(&mut self.devices, &mut self.ignored, id, ack.stamp) else {
            return Ok(());
        };
        if device.live.ack.is_some_and(|stamp| ack.stamp <= stamp) {
            self.ignored.old += 1;
            return Ok(());
        }
        device.live.heard_s = Some(now_s);
        device.live.online = true;
        let ours = device.order.as_ref();
        let Some(order) =
            ours.filter(|o| o.order.generation == ack.generation && o.digest() == ack.order)
        else {
            device.live.ack = Some(ack.stamp);
            self.ignored.other_order += 1;
            return Ok(());
        };
        let generation = order.order.generation;
        let taken = device.live.taken == Some(generation);
        match ack.refused {
            None => {
                device.live.taken = Some(generation);
                device.live.refused = None;
            }
            // It was delivered twice.
            Some(Reason::Stale) if taken || device.acted_on() == generation => {}
            Some(Reason::Stale) => device.live.reissue_above = Some(generation),
            Some(Reason::Expired) if is_due(&order.order, now_s) => {
                device.live.reissue_above = Some(generation);
            }
            Some(reason) => {
                let news = device.live.refused.replace(reason) != Some(reason);
                // A clock that is wrong may be set right, a full disk may be freed: the order
                // is sent again. Anything else is an answer.
                if reason != Reason::Expired && !reason.is_transient() && !taken {
                    self.refuse_order(now_s, id, reason)?;
                }
                if news {
                    self.mirror_refused(now_s, id, generation, reason);
                }
            }
        }
        if let Some(device) = self.devices.get_mut(id) {
            device.live.ack = Some(ack.stamp);
        }
        Ok(())
    }

    /// A device without a clock says what its next order must carry: the one in force is made
    /// again, with that, above itself.
    pub fn handle_nonce(&mut self, now_s: u64, id: &DeviceId, said: &Nonce) {
        let Some(device) = reporter(&mut self.devices, &mut self.ignored, id, said.stamp) else {
            return;
        };
        if device.live.nonce.as_ref().is_some_and(|newest| said.stamp <= newest.stamp) {
            self.ignored.old += 1;
            return;
        }
        device.live.speaks(now_s);
        device.live.nonce = Some(said.clone());
        let carries = device.order.as_ref().map(|o| (o.order.generation, o.order.nonce));
        if let Some((generation, nonce)) = carries
            && nonce != Some(said.nonce)
        {
            let above = device.live.reissue_above.map_or(generation, |above| above.max(generation));
            device.live.reissue_above = Some(above);
        }
    }

    /// A device asks for chunks: whether it may be given some.
    pub fn handle_want(&mut self, id: &DeviceId, want: &Want) -> bool {
        let Some(device) = reporter(&mut self.devices, &mut self.ignored, id, want.stamp) else {
            return false;
        };
        if device.live.want.is_some_and(|stamp| want.stamp <= stamp) {
            self.ignored.old += 1;
            return false;
        }
        device.live.want = Some(want.stamp);
        true
    }

    /// Whether a report is its device's own: `key` is the digest of the key that verified it,
    /// `None` if it was not signed. Asked here, after all that was decided before it, because
    /// the device may have enrolled anew since its signature was looked at.
    pub fn is_from(&mut self, id: &DeviceId, key: Option<&Digest>) -> bool {
        // What is not in the fleet is counted as that.
        let own = self.devices.get(id).is_none_or(|device| device.speaks_by(key));
        self.ignored.other_key += u64::from(!own);
        own
    }

    /// A device that acted on a generation above ours (we were restored from a backup, or
    /// the device is another's) hears the same order again, above that.
    fn handle_generation(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        generation: Generation,
    ) -> Result<(), FleetError> {
        let Some(device) = self.devices.get_mut(id) else { return Ok(()) };
        if generation <= device.record.generation || generation > GENERATION_SANE_MAX {
            return Ok(());
        }
        let mut txn = Txn::default();
        let given = device.record.generation;
        if let Some(record) = txn.device_mut(id, device) {
            record.generation = generation;
        }
        let text =
            format!("{id} acted on order {generation}, we are at {given}: orders go on above that");
        txn.note(now_s, "fleet", "device.ahead", About::device(id), text);
        self.commit(txn)?;
        if let Some(device) = self.devices.get_mut(id) {
            device.live.reissue_above = Some(generation);
        }
        Ok(())
    }

    /// A verdict on a deployment, if the state holds one that is not known yet.
    fn judge_outcome(
        &self,
        now_s: u64,
        id: &DeviceId,
        model: &ModelName,
        state: &State,
        txn: &mut Txn,
    ) {
        let Some(outcome) = state.last else { return };
        let verdict = match outcome.result {
            // Confirmed is what the engine runs, not what was said of it.
            Ending::Confirmed if state.running == Some(outcome.release) => Verdict::Confirmed,
            Ending::Confirmed | Ending::Removed => return,
            // Another order took its place: that says nothing about the release.
            Ending::Failed(Reason::Superseded) | Ending::RolledBack(Reason::Superseded) => return,
            Ending::Failed(reason) => Verdict::Failed(reason),
            Ending::RolledBack(reason) => Verdict::RolledBack(reason),
        };
        let ours = self.rollouts.get(&outcome.rollout).filter(|r| r.record.spec.model == *model);
        let known = ours.and_then(|r| r.deployments.get(id));
        // How an earlier try ended, said before the device heard of this one.
        let order = self.devices.get(id).and_then(|d| d.order.as_ref());
        let earlier = order.is_some_and(|o| state.generation < o.order.generation);
        if earlier && verdict.is_failure() && known.is_some_and(|d| d.attempts > 0) {
            return;
        }
        if known.is_some_and(|d| d.release == outcome.release) {
            self.write_verdict(now_s, id, outcome.rollout, verdict, txn);
        }
    }

    fn write_verdict(
        &self,
        now_s: u64,
        id: &DeviceId,
        rollout: RolloutId,
        verdict: Verdict,
        txn: &mut Txn,
    ) {
        let known = self.rollouts.get(&rollout).and_then(|r| r.deployments.get(id));
        let Some(deployment) = known else { return };
        if deployment.verdict == Some(verdict) || deployment.verdict == Some(Verdict::Left) {
            return;
        }
        let mut deployment = deployment.clone();
        deployment.verdict = Some(verdict);
        deployment.verdict_s = now_s;
        let release = deployment.release;
        txn.deployments.insert((rollout, id.clone()), deployment);
        let why = match verdict {
            Verdict::Confirmed => Why::Confirmed,
            Verdict::Failed(reason) => Why::Failed(reason),
            Verdict::RolledBack(reason) => Why::RolledBack(reason),
            Verdict::Silent => Why::Silent,
            Verdict::Left => Why::Left,
            Verdict::Late => Why::Late,
        };
        let about = About { rollout: Some(rollout), device: Some(id) };
        txn.note(now_s, "fleet", "verdict", about, format!("{id} on {release:.12}: {why}"));
    }

    /// The device will not take its order: every deployment in it that is under way failed.
    fn refuse_order(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        reason: Reason,
    ) -> Result<(), FleetError> {
        let mut txn = Txn::default();
        let order = self.devices.get(id).and_then(|d| d.order.as_ref());
        for entry in order.iter().flat_map(|o| o.order.models.iter()) {
            let rollout = self.rollouts.get(&entry.rollout);
            let deployment = rollout.and_then(|r| r.deployments.get(id));
            if deployment.is_some_and(|d| d.verdict.is_none() && d.release == entry.release) {
                self.write_verdict(now_s, id, entry.rollout, Verdict::Failed(reason), &mut txn);
            }
        }
        self.commit(txn)
    }
}

/// The device that reports, if it may.
fn reporter<'a>(
    devices: &'a mut BTreeMap<DeviceId, Device>,
    ignored: &mut Ignored,
    id: &DeviceId,
    stamp: Stamp,
) -> Option<&'a mut Device> {
    match devices.get_mut(id) {
        Some(device) if device.is_revoked() => ignored.revoked += 1,
        Some(device) if stamp.epoch < device.record.epoch => ignored.old += 1,
        Some(device) if stamp.epoch > device.record.epoch => {
            device.record.epoch = stamp.epoch;
            device.live.booted = true;
            return Some(device);
        }
        Some(device) => return Some(device),
        None => ignored.unknown_device += 1,
    }
    None
}

impl Device {
    /// The highest generation that its states speak of.
    fn acted_on(&self) -> Generation {
        self.record.states.values().map(|s| s.generation).max().unwrap_or(0)
    }

    /// Whether the order in force was sent, and the device, which is there, never said that
    /// it has it. One that refused it for good has it.
    pub(super) fn is_unheard(&self, now_s: u64) -> bool {
        let heard = self.acted_on().max(self.live.taken.unwrap_or(0));
        let waits = self.order.as_ref().is_some_and(|o| o.order.generation > heard);
        let sent_long_ago = self.live.sent_s.is_none_or(|at| now_s >= at + RESEND_S);
        let passes = |reason: Reason| reason.is_transient() || reason == Reason::Expired;
        waits && self.live.online && sent_long_ago && self.live.refused.is_none_or(passes)
    }

    /// Digest of what the order in force asks for.
    pub(super) fn desired(&self, model: &ModelName) -> Option<(RolloutId, Digest)> {
        let entry = self.order.as_ref()?.entry(model)?;
        Some((entry.rollout, entry.release))
    }
}
