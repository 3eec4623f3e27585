//! A rollout's devices in numbers.

use super::cohort::{Member, Standing, is_aside, is_barred, is_silent};
use super::facts::{Deployment, DeviceFacts, Input, RolloutFacts, Verdict};
use super::spec::PHASES_MAX;

/// How a rollout's devices are doing, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) total: usize,
    /// Of all, the ones that enter in the last phase.
    pub(super) late: usize,
    /// Of all, the canaries that the rollout names.
    pub(super) canaries: usize,
    pub(super) offered: usize,
    pub(super) in_flight: usize,
    /// Of those in flight, the ones that are set aside: see [`is_aside`].
    pub(super) aside: usize,
    /// Of those in flight, the ones that failed and wait to be tried again.
    pub(super) retrying: usize,
    pub(super) silent: usize,
    pub(super) confirmed: usize,
    pub(super) failed: usize,
    /// Not in any of the other numbers: the release is known to be bad on their hardware.
    pub(super) barred: usize,
    /// Of those that failed, the ones that were silent for too long or late.
    pub(super) unheard: usize,
    /// Failed ones by the phase in which they were offered the release.
    pub(super) failed_in: [usize; PHASES_MAX],
    /// When the last verdict was heard.
    pub(super) verdict_s: u64,
}

impl Tally {
    /// Devices that take a place in `max_unavailable`.
    pub(super) fn moving(&self) -> usize {
        self.in_flight - self.aside - self.retrying
    }

    /// Devices of which a verdict was heard.
    pub(super) fn reported(&self) -> usize {
        self.confirmed + self.failed - self.unheard
    }

    /// Devices that may have been offered the release in a phase (from 0). Late ones never widen
    /// one but the last, and named canaries are the first one.
    pub(super) fn bound(&self, rollout: &RolloutFacts, phase: usize) -> usize {
        let spec = &rollout.spec;
        if phase + 1 >= spec.phases.len() {
            return self.total;
        }
        let base = self.total - self.late;
        if spec.canary.is_empty() {
            return spec.phase_bound(phase, base);
        }
        if phase == 0 { self.canaries } else { spec.phase_bound(phase, base).max(self.canaries) }
    }

    pub(super) fn count(&mut self, input: &Input, rollout: &RolloutFacts, member: &Member<'_>) {
        if is_barred(input, rollout, member.device) && member.standing.is_ours() {
            self.barred += 1;
            return;
        }
        match &member.standing {
            Standing::Out(_) => return,
            Standing::Offered(Deployment { verdict: Some(Verdict::Left), .. }) => return,
            Standing::Movable | Standing::Later(_) => {}
            Standing::Retrying(..) => {
                self.offered += 1;
                self.in_flight += 1;
                self.retrying += 1;
            }
            Standing::Offered(deployment) => {
                self.offered += 1;
                self.count_offered(input, rollout, member.device, deployment);
            }
        }
        self.total += 1;
        self.late += usize::from(member.late);
        self.canaries += usize::from(member.canary);
    }

    fn count_offered(
        &mut self,
        input: &Input,
        rollout: &RolloutFacts,
        device: Option<&DeviceFacts>,
        deployment: &Deployment,
    ) {
        match deployment.verdict {
            None => {
                self.in_flight += 1;
                let silent = is_silent(input, rollout, device, deployment).is_some();
                self.silent += usize::from(silent);
                self.aside += usize::from(is_aside(input, rollout, device, deployment));
                return;
            }
            Some(Verdict::Confirmed) => self.confirmed += 1,
            Some(verdict) => {
                self.failed += 1;
                self.unheard += usize::from(matches!(verdict, Verdict::Silent | Verdict::Late));
                if let Some(failed) = self.failed_in.get_mut(deployment.phase as usize) {
                    *failed += 1;
                }
            }
        }
        self.verdict_s = self.verdict_s.max(deployment.verdict_s);
    }
}
