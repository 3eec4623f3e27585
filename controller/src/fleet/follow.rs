//! Rollouts that follow on another: undo it, offer it again where it failed, go back to a named
//! release. Each is a rollout like any other, with phases, bounds and gates of its own: the way
//! back is a change of what runs, too, and may be wrong as well.
//!
//! What devices ran before differs from one to the next, so undoing one rollout may take several:
//! one for each release to go back to. They are begun in one commit, all of them or none.

use std::collections::BTreeMap;

use fleetway_protocol::ids::{Counter, DeviceId, Digest, RolloutId};
use fleetway_protocol::reason::Reason;

use super::rollouts::refused;
use super::txn::{About, Txn};
use super::{By, Fleet, PlanPreview, ReleaseView, Rollout, RolloutError};
use crate::planner::{
    Deployment, Gate, Previous, RolloutSpec, RolloutState, Selector, Verdict, Why, survey,
};

/// What an operator asks for once it is known how a rollout did.
#[derive(Clone, Debug, PartialEq)]
pub enum Follow {
    /// Its devices go back to what each of them ran before it.
    Undo(RolloutId),
    /// The devices on which it failed are offered the release again.
    Retry(RolloutId),
    /// The devices that run a newer release of its model than this one go back to it.
    Back(Box<RolloutSpec>),
}

/// What following on would do.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowPlan {
    /// The rollouts that it takes, in the order of their numbers.
    pub rollouts: Vec<PlanPreview>,
    /// The devices that stay as they are, and why.
    pub stays: Vec<(DeviceId, Why)>,
}

/// Devices by what they are to run; the others stay.
#[derive(Default)]
struct Sorted {
    moves: BTreeMap<Digest, Vec<DeviceId>>,
    stays: Vec<(DeviceId, Why)>,
}

impl Fleet {
    /// What following on would do if it were started now. Changes nothing.
    ///
    /// # Errors
    /// [`RolloutError`]: no such rollout, it is not over, or nothing would move.
    pub fn plan_follow(&self, follow: &Follow, now_s: u64) -> Result<FollowPlan, RolloutError> {
        let sorted = match follow {
            Follow::Undo(id) => self.sort_undo(self.ended(*id)?, *id),
            Follow::Retry(id) => self.sort_retry(self.ended(*id)?, *id),
            Follow::Back(spec) => self.sort_back(spec)?,
        };
        let mut plan = FollowPlan { rollouts: Vec::new(), stays: sorted.stays };
        for (release, devices) in sorted.moves {
            let Some(spec) = self.follow_spec(follow, release, &devices) else { continue };
            let id = self.meta.rollout_last + 1 + plan.rollouts.len() as RolloutId;
            match self.plan_as(id, &spec, now_s) {
                Ok(preview) => {
                    plan.stays.extend(preview.left_out.iter().cloned());
                    plan.rollouts.push(preview);
                }
                Err(RolloutError::NothingMoves { out, .. }) => plan.stays.extend(out),
                Err(error) => return Err(error),
            }
        }
        plan.stays.sort_by(|a, b| a.0.cmp(&b.0));
        if plan.rollouts.is_empty() {
            return Err(RolloutError::NothingFollows { why: nothing_follows(&plan.stays) });
        }
        Ok(plan)
    }

    /// Starts what [`Fleet::plan_follow`] says.
    ///
    /// # Errors
    /// [`RolloutError`]; nothing was started then.
    pub fn follow(&mut self, by: By<'_>, follow: &Follow) -> Result<Vec<RolloutId>, RolloutError> {
        let plan = self.plan_follow(follow, by.now_s)?;
        let mut txn = Txn::default();
        let ids: Vec<_> =
            plan.rollouts.into_iter().map(|p| self.begin_rollout(&mut txn, by, p)).collect();
        let numbers: Vec<_> = ids.iter().map(|id| format!("rollout {id}")).collect();
        let numbers = numbers.join(", ");
        let stays = plan.stays.len();
        let (word, about, what) = match follow {
            Follow::Undo(id) => ("undo", Some(*id), format!("rollout {id} is undone by {numbers}")),
            Follow::Retry(id) => {
                ("retry", Some(*id), format!("rollout {id} is tried again by {numbers}"))
            }
            Follow::Back(spec) => {
                ("rollback", None, format!("back to {} {} by {numbers}", spec.model, spec.version))
            }
        };
        let text = match stays {
            0 => what,
            1 => format!("{what}; 1 device stays as it is"),
            n => format!("{what}; {n} devices stay as they are"),
        };
        let word = format!("rollout.{word}");
        for id in about.into_iter().chain(ids.iter().copied()) {
            txn.note(by.now_s, by.who, &word, About::rollout(id), text.clone());
        }
        self.commit(txn)?;
        Ok(ids)
    }

    /// Goes on to the next phase now, or with `full` to the last, whatever the gate waits for. A
    /// paused rollout goes on with it. In the last phase it ends the soak. The bounds on failures
    /// and on devices in flight hold as before.
    ///
    /// # Errors
    /// [`RolloutError`]; nothing has changed then.
    pub fn promote_rollout(
        &mut self,
        by: By<'_>,
        id: RolloutId,
        full: bool,
    ) -> Result<(), RolloutError> {
        let state = self.state_of(id)?;
        let (RolloutState::Running { phase } | RolloutState::Paused { phase, .. }) = state else {
            return Err(refused(id, &state, "only a running or paused rollout can be promoted"));
        };
        let spec = &self.rollouts.get(&id).ok_or(RolloutError::NotFound(id))?.record.spec;
        let last = spec.phases.len() as u32 - 1;
        let next = if full { last } else { (phase + 1).min(last) };
        // Who may end a wait is not who may approve: no phase is skipped that wants to be.
        let unapproved = (phase + 1..=next).find(|at| spec.wants_approval(*at as usize));
        let to = match unapproved {
            Some(phase) => RolloutState::WaitingForApproval { phase },
            None if phase < last => RolloutState::Running { phase: next },
            None if self.only_soaks(id, phase, by.now_s) => RolloutState::Succeeded,
            None => {
                let mend = "it is in its last phase, which ends when its devices are done";
                return Err(refused(id, &state, mend));
            }
        };
        let gate = self.rollout(id, by.now_s).map(|view| view.report.gate);
        let waited = match gate {
            Some(Gate::Waiting(text) | Gate::Inconclusive(text) | Gate::Fail(text)) => text,
            Some(Gate::Pass) | None => "it was good".to_owned(),
        };
        let now = match to {
            RolloutState::Running { phase } => {
                format!("goes on with phase {} of {}", phase + 1, last + 1)
            }
            RolloutState::WaitingForApproval { phase } => {
                format!("waits for the approval of phase {} of {}", phase + 1, last + 1)
            }
            _ => "soaks no longer".to_owned(),
        };
        let text = format!("rollout {id} {now}; its gate said: {waited}");
        self.set_state_because(by, id, "rollout.promote", to, text)
    }

    /// Whether a rollout would be done if it did not soak, and its gates were not waited for.
    fn only_soaks(&self, id: RolloutId, phase: u32, now_s: u64) -> bool {
        let mut input = self.input(now_s, |r| r.record.state.is_open());
        for rollout in input.rollouts.iter_mut().filter(|r| r.id == id) {
            rollout.state = RolloutState::Running { phase };
            rollout.spec.phases.iter_mut().for_each(|phase| phase.soak_s = 0);
            (rollout.spec.gates, rollout.spec.gates_in) = Default::default();
        }
        let report = survey(&input).rollouts.into_iter().find(|r| r.rollout == id);
        report.is_some_and(|r| r.gate == Gate::Pass)
    }

    fn ended(&self, id: RolloutId) -> Result<&Rollout, RolloutError> {
        let rollout = self.rollouts.get(&id).ok_or(RolloutError::NotFound(id))?;
        match &rollout.record.state {
            state if state.is_open() => Err(refused(id, state, "wait for its end, or abort it")),
            _ => Ok(rollout),
        }
    }

    fn sort_undo(&self, rollout: &Rollout, id: RolloutId) -> Sorted {
        let mut sorted = Sorted::default();
        for (device, deployment) in &rollout.deployments {
            let known = |release: &Digest| self.releases.contains_key(release);
            match (self.stays(rollout, id, device, deployment), deployment.previous) {
                (Some(why), _) => sorted.stays.push((device.clone(), why)),
                (None, Previous::Release(release)) if known(&release) => {
                    sorted.moves.entry(release).or_default().push(device.clone());
                }
                (None, previous) => {
                    let why = match previous {
                        Previous::Release(release) => Why::BeforeNotPublished(release),
                        Previous::Nothing => Why::NothingBefore,
                        Previous::Unknown => Why::BeforeUnknown,
                    };
                    sorted.stays.push((device.clone(), why));
                }
            }
        }
        sorted
    }

    /// Why undoing a rollout leaves a device alone, if it does: it has not got the release.
    fn stays(
        &self,
        rollout: &Rollout,
        id: RolloutId,
        device: &DeviceId,
        deployment: &Deployment,
    ) -> Option<Why> {
        let moved_by = match self.devices.get(device).filter(|d| !d.is_revoked()) {
            None => return Some(Why::Left),
            Some(device) => device.moved_by.get(&rollout.record.spec.model),
        };
        match (deployment.verdict, moved_by) {
            (Some(Verdict::Left), _) => Some(Why::Left),
            (Some(Verdict::Failed(reason)), _) => Some(Why::Failed(reason)),
            (Some(Verdict::RolledBack(reason)), _) => Some(Why::RolledBack(reason)),
            (_, Some((newer, _))) if *newer > id => Some(Why::TakenByNewerRollout(*newer)),
            _ if deployment.reverted => Some(Why::Reverted),
            _ => None,
        }
    }

    fn sort_retry(&self, rollout: &Rollout, id: RolloutId) -> Sorted {
        let mut sorted = Sorted::default();
        for (device, deployment) in &rollout.deployments {
            let why = match deployment.verdict {
                Some(Verdict::Failed(reason) | Verdict::RolledBack(reason))
                    if reason.is_verdict() || reason == Reason::Poisoned =>
                {
                    Why::RemembersAsBad(reason)
                }
                Some(verdict) if verdict.is_failure() => {
                    let there = self.devices.get(device).filter(|d| !d.is_revoked());
                    let moved = there.and_then(|d| d.moved_by.get(&rollout.record.spec.model));
                    match (there, moved) {
                        (None, _) => Why::Left,
                        (_, Some((newer, _))) if *newer > id => Why::TakenByNewerRollout(*newer),
                        _ => {
                            let moves = sorted.moves.entry(deployment.release).or_default();
                            moves.push(device.clone());
                            continue;
                        }
                    }
                }
                // It did not fail: nothing to try again.
                _ => continue,
            };
            sorted.stays.push((device.clone(), why));
        }
        sorted
    }

    fn sort_back(&self, spec: &RolloutSpec) -> Result<Sorted, RolloutError> {
        let to = self.check_release(spec)?.manifest.counter;
        self.check_selector(spec)?;
        let mut sorted = Sorted::default();
        let ours = self.devices.iter().filter(|(id, device)| self.selects(spec, id, device));
        for (id, device) in ours {
            let state = device.record.states.get(&spec.model);
            let of = |release: Digest| self.releases.get(&release).map(counter);
            // What it is to run counts as well: it may be on its way there.
            let running = state.and_then(|s| s.running).and_then(of);
            let ordered = device.desired(&spec.model).and_then(|(_, release)| of(release));
            if running.max(ordered).is_some_and(|counter| counter > to) {
                sorted.moves.entry(spec.release).or_default().push(id.clone());
            } else {
                sorted.stays.push((id.clone(), Why::NothingNewer));
            }
        }
        Ok(sorted)
    }

    /// The rollout of `release` to `devices`, with the bounds of the one that it follows.
    fn follow_spec(
        &self,
        follow: &Follow,
        release: Digest,
        devices: &[DeviceId],
    ) -> Option<RolloutSpec> {
        let selector = Selector::devices(devices)?;
        // Named canaries that do not move now are none of the new rollout's.
        let again = |of: &RolloutSpec| {
            let canary = of.canary.iter().filter(|id| devices.contains(id)).cloned().collect();
            RolloutSpec { selector: selector.clone(), canary, ..of.clone() }
        };
        match follow {
            Follow::Back(spec) => Some(again(spec)),
            Follow::Retry(id) => Some(again(&self.rollouts.get(id)?.record.spec)),
            Follow::Undo(id) => {
                let of = &self.rollouts.get(id)?.record.spec;
                let manifest = &self.releases.get(&release)?.manifest;
                let (model, version) = (of.model.clone(), manifest.version.clone());
                let mut terms = of.terms;
                // What goes back served before: nothing has to be found out about it first.
                terms.shadow = None;
                Some(RolloutSpec {
                    phases: of.phases.clone(),
                    success_percent_min: of.success_percent_min,
                    failures_max: of.failures_max,
                    max_unavailable: of.max_unavailable,
                    offline_after_s: of.offline_after_s,
                    device_timeout_s: of.device_timeout_s,
                    hold_aside_s: of.hold_aside_s,
                    terms,
                    ..RolloutSpec::new(model, release, version, selector)
                })
            }
        }
    }
}

fn counter(release: &ReleaseView) -> Counter {
    release.manifest.counter
}

/// Why nothing moves, in one sentence: the first device stands for the others.
fn nothing_follows(stays: &[(DeviceId, Why)]) -> String {
    match stays {
        [] => "it holds no device that could".to_owned(),
        [(device, why)] => format!("{device}: {why}"),
        [(device, why), ..] => format!("{} devices stay as they are; {device}: {why}", stays.len()),
    }
}
