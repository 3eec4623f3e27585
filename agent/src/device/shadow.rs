//! A candidate in the shadow of what serves: started, judged, ended. The copies and the
//! comparing are the shell's; the numbers and the verdict are `fleetway_protocol::shadow`'s.
//!
//! If power fails anywhere here, the slot is `Verified` and what serves was never touched: the
//! next boot begins the shadow anew.

use fleetway_protocol::ids::ModelName;
use fleetway_protocol::machine::{Event, Token};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::shadow::{Compared, Otherwise, Shadow, ShadowPolicy, ShadowReport};
use fleetway_protocol::slot::{Place, SlotId};

use super::commands::Checked;
use super::{Device, Model, Now, Output, ShadowJob};
use crate::fs::Fs;

/// How often a candidate is judged when nothing was compared, milliseconds: its time may be up.
const LOOK_MS: u64 = 500;

/// A candidate in the shadow, or what was seen of the last one.
pub(super) struct ShadowRun {
    token: Token,
    seen: Shadow,
    runs: bool,
}

/// When to judge again.
pub(super) fn due_ms(model: &Model, now: Now) -> Option<u64> {
    model.machine.shadow().map(|_| now.ms + LOOK_MS)
}

impl Model {
    /// The candidate in the shadow, or how the last one did.
    pub(super) fn shadow_report(&self) -> Option<ShadowReport> {
        self.shadow.as_ref().map(|run| run.seen.report())
    }

    /// What a shadow waits for that has had its time.
    pub(super) fn waits_in_shadow(&self, now: Now) -> Option<Reason> {
        let (_, policy) = self.policy_in_shadow()?;
        let late = self.shadow.as_ref()?.seen.is_late(now.ms, &policy);
        late.then_some(Reason::ShadowInconclusive)
    }

    /// Token and policy of the shadow under way.
    fn policy_in_shadow(&self) -> Option<(Token, ShadowPolicy)> {
        let (token, _, terms) = self.machine.shadow()?;
        Some((token, terms.shadow.unwrap_or_default()))
    }

    /// The run that `token` belongs to, while its verdict is open.
    fn shadow_run(&mut self, token: Token) -> Option<&mut ShadowRun> {
        self.shadow.as_mut().filter(|run| run.runs && run.token == token)
    }

    fn end_shadow(&mut self, now: Now, token: Token, verdict: Result<(), Reason>) {
        if let Some(run) = self.shadow_run(token) {
            run.seen.end(verdict);
            self.machine.handle(now.ms, Event::Done(token, verdict));
        }
    }
}

impl<F: Fs> Device<F> {
    pub(super) fn start_shadow(&mut self, at: usize, now: Now, token: Token, slot: SlotId) {
        let terms = self.models[at].machine.table().slot(slot).terms;
        let checked = self.checked(at, Place::Slot(slot));
        let model = &mut self.models[at];
        // An order that came meanwhile may ask for none.
        let Some(shadow) = terms.shadow else {
            return model.machine.handle(now.ms, Event::Done(token, Ok(())));
        };
        // It was right a moment ago: the disk, not the release. Tried again later.
        let Ok(Checked { manifest, variant, model_bytes, .. }) = checked else {
            return model.machine.handle(now.ms, Event::Done(token, Err(Reason::DiskError)));
        };
        let seen = Shadow::new(manifest.digest(), now.ms);
        model.shadow = Some(ShadowRun { token, seen, runs: true });
        let model = model.name.clone();
        let job = ShadowJob { model, token, manifest, variant, model_bytes, shadow, terms };
        self.out.push_back(Output::Shadow(Box::new(job)));
    }

    /// What came of copies, and how many more were not made.
    pub fn handle_compared(
        &mut self,
        now: Now,
        model: &ModelName,
        token: Token,
        compared: &[Compared],
        dropped: u32,
    ) {
        let model = self.models.iter_mut().find(|m| m.name == *model);
        if let Some(run) = model.and_then(|model| model.shadow_run(token)) {
            run.seen.record_dropped(dropped);
            compared.iter().for_each(|of| run.seen.record(*of));
        }
        self.drive(now);
    }

    /// The candidate ended by itself, or could not even begin.
    pub fn handle_shadow_ended(
        &mut self,
        now: Now,
        model: &ModelName,
        token: Token,
        reason: Reason,
    ) {
        if let Some(model) = self.models.iter_mut().find(|m| m.name == *model) {
            let differs = model.policy_in_shadow().map(|(_, policy)| policy.interface_differs);
            let verdict = match (reason, differs) {
                (Reason::ShadowInterface, Some(Otherwise::Proceed)) => Ok(()),
                _ => Err(reason),
            };
            model.end_shadow(now, token, verdict);
        }
        self.drive(now);
    }

    pub(super) fn judge_shadow(&mut self, at: usize, now: Now) {
        let model = &mut self.models[at];
        let Some((token, policy)) = model.policy_in_shadow() else { return };
        let Some(run) = model.shadow_run(token) else { return };
        if let Some(verdict) = run.seen.judge(now.ms, &policy) {
            model.end_shadow(now, token, verdict);
        }
    }

    /// Ends a run that the machine is done with.
    pub(super) fn watch_shadow(&mut self, at: usize) {
        let model = &mut self.models[at];
        let current = model.machine.shadow().map(|(token, ..)| token);
        if let Some(run) = &mut model.shadow
            && run.runs
            && current != Some(run.token)
        {
            run.runs = false;
            self.out.push_back(Output::EndShadow(model.name.clone()));
        }
    }
}
