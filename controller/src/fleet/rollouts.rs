//! What an operator does with rollouts. Decisions are the planner's; this only notes what
//! was asked for.

use fleetway_protocol::ids::RolloutId;
use fleetway_protocol::manifest::VariantKind;

use super::records::RolloutRecord;
use super::txn::{About, Txn};
use super::{By, Fleet, PhasePreview, PlanPreview, ReleaseView, RolloutError};
use crate::planner::{PausedBy, Preview, RolloutFacts, RolloutSpec, RolloutState, Why, preview};

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
        if movable.is_empty() && later.is_empty() {
            let why = nothing_moves(&out);
            return Err(RolloutError::NothingMoves { why, out });
        }
        let total = movable.len() + later.len();
        let mut queue: Vec<_> =
            movable.into_iter().chain(later.iter().map(|l| l.0.clone())).collect();
        let mut done = 0;
        let phases = spec.phases.iter().enumerate().map(|(at, phase)| {
            let up_to = spec.phase_bound(at, total).max(done);
            let devices = queue.drain(..up_to - done).collect();
            done = up_to;
            PhasePreview { devices, up_to, soak_s: phase.soak_s }
        });
        let phases = phases.collect();
        let manifest = &release.manifest;
        let envelope_bytes = self.envelopes.get(&spec.release).map_or(0, Vec::len);
        let artifacts = manifest.variant(spec.variant).map(|v| [v.model, v.golden]);
        let artifact_bytes = artifacts
            .iter()
            .flatten()
            .map(|a| u64::from(a.bytes) + u64::from(a.chunk_list_bytes()))
            .sum::<u64>();
        Ok(PlanPreview {
            rollout: id,
            counter: manifest.counter,
            phases,
            notes: self.notes(&spec, release, later.len()),
            later,
            left_out: out,
            bytes_per_device: artifact_bytes + envelope_bytes as u64,
            golden_mismatch: manifest.golden_mismatch_accepted.as_ref().map(ToString::to_string),
            spec,
        })
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
        let preview = self.plan_rollout(spec, by.now_s)?;
        let mut txn = Txn::default();
        let id = begin(&mut txn, by, preview);
        self.commit(txn)?;
        Ok(id)
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
            state => Err(refused(id, &state, "only a running rollout can be paused")),
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
        if manifest.variant(spec.variant).is_none() {
            let has: Vec<_> = manifest.variants.iter().map(|v| variant_word(v.kind)).collect();
            return Err(RolloutError::NoVariant {
                release: spec.release,
                wanted: variant_word(spec.variant),
                has: has.join(", "),
            });
        }
        Ok(release)
    }

    pub(super) fn check_selector(&self, spec: &RolloutSpec) -> Result<(), RolloutError> {
        let mut devices = self.devices.iter();
        if devices.any(|(id, device)| spec.selector.matches(id, &device.record.labels)) {
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

    /// The planner's view of a rollout that is not there yet.
    fn preview(&self, id: RolloutId, spec: &RolloutSpec, now_s: u64) -> Preview {
        let mut input = self.input(now_s, super::facts::is_live);
        input.rollouts.push(RolloutFacts {
            id,
            spec: spec.clone(),
            state: RolloutState::Running { phase: 0 },
            deployments: std::collections::BTreeMap::new(),
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
        if spec.failures_max > 0 && spec.success_percent_min == 100 {
            notes.push(format!(
                "{} failures are tolerated, but 100% must confirm: the first failure stops the rollout; lower the share",
                spec.failures_max
            ));
        }
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

/// A rollout as planned begins; the next tick moves its first devices.
pub(super) fn begin(txn: &mut Txn, by: By<'_>, preview: PlanPreview) -> RolloutId {
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
    let record = RolloutRecord {
        spec,
        state: RolloutState::Running { phase: 0 },
        started_s: by.now_s,
        started_by: by.who.to_owned(),
    };
    txn.rollouts.insert(id, record);
    id
}

/// The form of a release in one word.
pub(super) fn variant_word(kind: VariantKind) -> &'static str {
    match kind {
        VariantKind::Onnx => "onnx",
        VariantKind::Qnn => "qnn",
    }
}

pub(super) fn refused(
    rollout: RolloutId,
    state: &RolloutState,
    mend: &'static str,
) -> RolloutError {
    RolloutError::State { rollout, state: state.word(), mend }
}

fn nothing_moves(out: &[(fleetway_protocol::ids::DeviceId, Why)]) -> String {
    if out.iter().all(|(_, why)| *why == Why::AlreadyRuns) {
        return format!("all {} matching devices run it already", out.len());
    }
    let first = out.iter().find(|(_, why)| *why != Why::AlreadyRuns);
    let example = first.map_or(String::new(), |(id, why)| format!("; {id}: {why}"));
    format!("none of the {} matching devices can take it{example}", out.len())
}
