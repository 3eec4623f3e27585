//! What an operator does with rollouts. Decisions are the planner's; this only notes what
//! was asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleetway_protocol::ids::{DeviceId, RolloutId};

use super::records::RolloutRecord;
use super::txn::{About, Txn};
use super::{By, Device, Fleet, PhasePreview, PlanHash, PlanPreview, ReleaseView, RolloutError};
use crate::planner::analysis::Looks;
use crate::planner::{
    PausedBy, Preview, RolloutFacts, RolloutSpec, RolloutState, SpecError, Target, UNKNOWN_RELEASE,
    Why, preview, unwise,
};

impl Fleet {
    /// What a rollout would do if it were started now, exactly. Changes nothing.
    ///
    /// # Errors
    /// [`RolloutError`], as [`Fleet::start_rollout`] would give.
    pub fn plan_rollout(
        &self,
        spec: &RolloutSpec,
        now_s: u64,
    ) -> Result<PlanPreview, RolloutError> {
        self.plan_as(self.meta.rollout_last + 1, spec, now_s)
    }

    /// The same for a rollout that will have the number `id`.
    pub(super) fn plan_as(
        &self,
        id: RolloutId,
        spec: &RolloutSpec,
        now_s: u64,
    ) -> Result<PlanPreview, RolloutError> {
        let spec = spec.clone().checked()?;
        let release = self.check_release(&spec)?;
        self.check_selector(&spec)?;
        let Preview { movable, later, out } = self.preview(id, &spec, now_s);
        if let Some((canary, why)) = out.iter().find(|(id, _)| spec.canary.contains(id)) {
            let (canary, why) = (canary.clone(), why.to_string());
            return Err(RolloutError::Canary { canary, why });
        }
        if movable.is_empty() && later.is_empty() {
            let why = nothing_moves(&out);
            return Err(RolloutError::NothingMoves { why, out });
        }
        let phases = self.phases(&spec, movable, &later)?;
        let manifest = &release.manifest;
        let bytes = self.bytes_of(release);
        Ok(PlanPreview {
            rollout: id,
            counter: manifest.counter,
            notes: self.notes(&spec, release, later.len()),
            later,
            bytes_per_device: bytes,
            bytes_known: self.bytes_known(&spec, &phases, bytes),
            takes: self.estimate(&spec, &phases, bytes, now_s),
            signers: self.signers(&spec.release),
            golden_mismatch: manifest.golden_mismatch_accepted.as_ref().map(ToString::to_string),
            hash: PlanHash::of(&spec, bytes, &phases, &out),
            left_out: out,
            phases,
            spec,
        })
    }

    /// Who is offered the release in which phase.
    fn phases(
        &self,
        spec: &RolloutSpec,
        movable: Vec<DeviceId>,
        later: &[(DeviceId, Why)],
    ) -> Result<Vec<PhasePreview>, RolloutError> {
        let total = movable.len() + later.len();
        let is_canary = |id: &DeviceId| spec.canary.binary_search(id).is_ok();
        let mut queue: Vec<_> =
            movable.into_iter().chain(later.iter().map(|l| l.0.clone())).collect();
        // Named canaries come first whether they can move now or not.
        queue.sort_by_key(|id| !is_canary(id));
        let mut done = 0;
        let mut phases = Vec::new();
        for (at, phase) in spec.phases.iter().enumerate() {
            let up_to = spec.phase_bound(at, total).max(done);
            if phase.reporters_min as usize > up_to {
                let (reporters, size) = (phase.reporters_min, up_to);
                return Err(SpecError::Reporters { phase: at + 1, reporters, size }.into());
            }
            let devices = queue.drain(..up_to - done).collect();
            done = up_to;
            phases.push(PhasePreview { devices, up_to, soak_s: phase.soak_s });
        }
        Ok(phases)
    }

    /// Starts a rollout; the next tick moves its first devices.
    ///
    /// # Errors
    /// [`RolloutError`]; nothing was started then.
    pub fn start_rollout(
        &mut self,
        by: By<'_>,
        spec: &RolloutSpec,
    ) -> Result<RolloutId, RolloutError> {
        self.start_planned(by, spec, None)
    }

    /// The same, if the plan is still the one that was `shown`: its hash.
    ///
    /// # Errors
    /// [`RolloutError::Changed`] says what is not as it was; nothing was started then.
    pub fn start_planned(
        &mut self,
        by: By<'_>,
        spec: &RolloutSpec,
        shown: Option<&str>,
    ) -> Result<RolloutId, RolloutError> {
        let preview = self.plan_rollout(spec, by.now_s)?;
        if let Some(what) = shown.and_then(|shown| preview.hash.differs(shown)) {
            return Err(RolloutError::Changed { what });
        }
        let mut txn = Txn::default();
        let id = self.begin_rollout(&mut txn, by, preview);
        self.commit(txn)?;
        Ok(id)
    }

    /// A rollout as planned begins; the next tick moves its first devices.
    pub(super) fn begin_rollout(
        &self,
        txn: &mut Txn,
        by: By<'_>,
        preview: PlanPreview,
    ) -> RolloutId {
        let (id, spec) = (preview.rollout, preview.spec);
        let text = format!(
            "started rollout {id}: {} {} ({:.12}) to {:.200}, {} devices in {} phases",
            spec.model,
            spec.version,
            spec.release,
            spec.selector,
            preview.phases.last().map_or(0, |p| p.up_to),
            spec.phases.len(),
        );
        txn.note(by.now_s, by.who, "rollout.start", About::rollout(id), text);
        let members: BTreeSet<DeviceId> = self.selected(&spec).cloned().collect();
        let state = if spec.wants_approval(0) {
            RolloutState::WaitingForApproval { phase: 0 }
        } else {
            RolloutState::Running { phase: 0 }
        };
        let record = RolloutRecord {
            spec,
            state,
            started_s: by.now_s,
            started_by: by.who.to_owned(),
            looks: Looks::default(),
        };
        txn.members.insert(id, Arc::new(members));
        txn.rollouts.insert(id, record);
        id
    }

    /// Holds a rollout: nobody new is offered the release. Paused already: nothing to do.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub fn pause_rollout(&mut self, by: By<'_>, id: RolloutId) -> Result<(), RolloutError> {
        match self.state_of(id)? {
            RolloutState::Running { phase } => {
                let to = RolloutState::Paused { phase, by: PausedBy::Operator };
                self.set_state(by, id, "rollout.pause", to)
            }
            RolloutState::Paused { .. } => Ok(()),
            state @ RolloutState::WaitingForApproval { .. } => Err(refused(
                id,
                &state,
                "nothing moves before somebody approves; abort it to end it",
            )),
            state => Err(refused(id, &state, "only a running rollout can be paused")),
        }
    }

    /// Approves the phase that a rollout waits with. Running already: nothing to do.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub fn approve_rollout(&mut self, by: By<'_>, id: RolloutId) -> Result<(), RolloutError> {
        match self.state_of(id)? {
            RolloutState::WaitingForApproval { phase } => {
                self.set_state(by, id, "rollout.approve", RolloutState::Running { phase })
            }
            RolloutState::Running { .. } => Ok(()),
            state => Err(refused(id, &state, "only a rollout that waits for it can be approved")),
        }
    }

    /// Goes on with a paused rollout. Running: nothing to do.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub fn resume_rollout(&mut self, by: By<'_>, id: RolloutId) -> Result<(), RolloutError> {
        match self.state_of(id)? {
            RolloutState::Paused { phase, .. } => {
                self.set_state(by, id, "rollout.resume", RolloutState::Running { phase })
            }
            RolloutState::Running { .. } => Ok(()),
            state @ RolloutState::Halted { .. } => Err(refused(
                id,
                &state,
                "it stopped itself for a reason; mend that, then start a new rollout",
            )),
            state @ RolloutState::WaitingForApproval { .. } => {
                Err(refused(id, &state, "approve it (`fleetway rollout approve`)"))
            }
            state => Err(refused(id, &state, "it is over; start a new rollout")),
        }
    }

    /// Ends a rollout for good; devices in flight go back to what they ran before. Aborted
    /// already: nothing to do.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub fn abort_rollout(&mut self, by: By<'_>, id: RolloutId) -> Result<(), RolloutError> {
        match self.state_of(id)? {
            RolloutState::Aborted => Ok(()),
            state @ RolloutState::Succeeded => Err(refused(
                id,
                &state,
                "every device has it; take it back with `fleetway rollout undo`",
            )),
            _ => self.set_state(by, id, "rollout.abort", RolloutState::Aborted),
        }
    }

    pub(super) fn state_of(&self, id: RolloutId) -> Result<RolloutState, RolloutError> {
        let found = self.rollouts.get(&id).ok_or(RolloutError::NotFound(id))?;
        Ok(found.record.state.clone())
    }

    fn set_state(
        &mut self,
        by: By<'_>,
        id: RolloutId,
        what: &str,
        to: RolloutState,
    ) -> Result<(), RolloutError> {
        let from = self.state_of(id)?.word();
        let text = format!("rollout {id} was {from}, is {} now", to.word());
        self.set_state_because(by, id, what, to, text)
    }

    pub(super) fn set_state_because(
        &mut self,
        by: By<'_>,
        id: RolloutId,
        what: &str,
        to: RolloutState,
        text: String,
    ) -> Result<(), RolloutError> {
        let found = self.rollouts.get(&id).ok_or(RolloutError::NotFound(id))?;
        let mut record = found.record.clone();
        record.state = to;
        let mut txn = Txn::default();
        txn.rollouts.insert(id, record);
        txn.note(by.now_s, by.who, what, About::rollout(id), text);
        Ok(self.commit(txn)?)
    }

    pub(super) fn check_release(&self, spec: &RolloutSpec) -> Result<&ReleaseView, RolloutError> {
        let missing = || RolloutError::NoRelease(spec.release);
        let release = self.releases.get(&spec.release).ok_or_else(missing)?;
        let manifest = &release.manifest;
        if manifest.model != spec.model {
            return Err(RolloutError::OtherModel {
                release: spec.release,
                of: manifest.model.clone(),
                model: spec.model.clone(),
            });
        }
        Ok(release)
    }

    pub(super) fn check_selector(&self, spec: &RolloutSpec) -> Result<(), RolloutError> {
        let selected =
            |id: &DeviceId| self.devices.get(id).is_some_and(|d| self.selects(spec, id, d));
        let unselected = |canary: &&DeviceId| !selected(canary);
        if let Some(canary) = spec.canary.iter().find(unselected) {
            let (canary, selector) = (canary.clone(), spec.selector.to_string());
            return Err(RolloutError::Canary {
                canary,
                why: format!("`{selector}` does not match it"),
            });
        }
        if self.selected(spec).next().is_some() {
            return Ok(());
        }
        let labels: Vec<_> = self
            .labels_in_use()
            .into_iter()
            .map(|(key, values)| {
                let values: Vec<_> = values.into_iter().collect();
                format!("{key}={}", values.join("|"))
            })
            .collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        let selector = spec.selector.to_string();
        Err(RolloutError::NoDevices { selector, devices: self.devices.len(), labels })
    }

    /// The devices that a specification's selector matches now.
    fn selected<'a>(&'a self, spec: &'a RolloutSpec) -> impl Iterator<Item = &'a DeviceId> {
        let selected = |(id, device): &(&DeviceId, &Device)| self.selects(spec, id, device);
        self.devices.iter().filter(selected).map(|(id, _)| id)
    }

    pub(super) fn selects(&self, spec: &RolloutSpec, id: &DeviceId, device: &Device) -> bool {
        let running = device.record.states.get(&spec.model).and_then(|state| state.running);
        let version = |digest| match self.releases.get(&digest) {
            Some(release) => release.manifest.version.as_str(),
            None => UNKNOWN_RELEASE,
        };
        let target = Target {
            id,
            labels: &device.record.labels,
            hardware: device.record.hardware.as_ref().map(|h| h.as_str()),
            release: running.map(version),
        };
        !device.is_revoked() && spec.selector.matches(&target)
    }

    /// The planner's view of a rollout that is not there yet.
    fn preview(&self, id: RolloutId, spec: &RolloutSpec, now_s: u64) -> Preview {
        let mut input = self.input(now_s, super::facts::is_live);
        input.rollouts.push(RolloutFacts {
            id,
            spec: spec.clone(),
            state: RolloutState::Running { phase: 0 },
            members: None,
            deployments: std::collections::BTreeMap::new(),
            looks: Looks::default(),
            evidence: None,
        });
        preview(&input, id)
    }

    fn notes(&self, spec: &RolloutSpec, release: &ReleaseView, later: usize) -> Vec<String> {
        let mut notes = Vec::new();
        if later > 0 {
            notes.push(format!(
                "{later} devices cannot move now; the rollout is not done before they did"
            ));
        }
        notes.extend(unwise(spec).into_iter().map(|found| found.text));
        let others = self
            .rollouts
            .iter()
            .filter(|(_, r)| r.record.state.is_open() && r.record.spec.model == spec.model);
        for (id, other) in others {
            notes.push(format!(
                "rollout {id} of {} {} is {}; devices in flight there wait for its verdict",
                spec.model,
                other.record.spec.version,
                other.record.state.word()
            ));
        }
        let newest = self.releases.values().filter(|r| r.manifest.model == spec.model);
        if let Some(newest) = newest.max_by_key(|r| r.manifest.counter)
            && newest.manifest.counter > release.manifest.counter
        {
            notes.push(format!(
                "{} is newer: this goes back from it, as far as each device's floor allows",
                newest.manifest.version
            ));
        }
        notes
    }
}

pub(super) fn refused(
    rollout: RolloutId,
    state: &RolloutState,
    mend: &'static str,
) -> RolloutError {
    RolloutError::State { rollout, state: state.word(), mend }
}

fn nothing_moves(out: &[(DeviceId, Why)]) -> String {
    if out.iter().all(|(_, why)| *why == Why::AlreadyRuns) {
        return format!("all {} matching devices run it already", out.len());
    }
    let first = out.iter().find(|(_, why)| *why != Why::AlreadyRuns);
    let example = first.map_or(String::new(), |(id, why)| format!("; {id}: {why}"));
    format!("none of the {} matching devices can take it{example}", out.len())
}
