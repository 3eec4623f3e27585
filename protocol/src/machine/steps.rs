//! What the answer to a step's command leads to: the next step, a wait, or a verdict.
//!
//! The answer to `Activate` has its own file, `activation`.

use super::orders::is_it;
use super::{Machine, Next, Purpose, Step};
use crate::health::Finding;
use crate::hold::Point;
use crate::ids::{Digest, RolloutId};
use crate::limits::VERIFY_RETRIES_MAX;
use crate::reason::Reason;
use crate::slot::{Ending, Outcome, Place, ReleaseFacts, SlotId, SlotState};

impl Machine {
    pub(super) fn handle_persisted(&mut self, now_ms: u64, result: Result<(), Reason>) {
        let Step::Persist(next) = self.step else { return };
        match (result, next) {
            (Ok(()), _) => {}
            // Serving the good model again does not wait for a disk; the table follows.
            (Err(_), Next::Rollback) => self.dirty = true,
            // Nor does serving anything at all after a boot; the trial follows.
            (Err(_), Next::Activate(_, Purpose::Trial))
                if self.running.is_none() && self.place_to_serve().is_some() =>
            {
                return self.go_back();
            }
            (Err(reason), _) => return self.wait_and_retry(now_ms, reason),
        }
        match next {
            Next::Halt => self.enter(Step::Halted),
            // The next boot takes it up from the table.
            _ if self.stopping => self.enter(Step::Idle),
            // A newer order came meanwhile.
            Next::Erase(..) | Next::Fetch(_) | Next::SelfTest(_) | Next::Hold(..)
                if self.queued.is_some() =>
            {
                self.enter(Step::Idle);
            }
            Next::Activate(Place::Slot(slot), Purpose::Trial)
                if self.is_superseded()
                    && (self.running.is_some() || self.place_to_serve().is_some()) =>
            {
                self.supersede_trial(slot);
            }
            Next::Erase(slot, release) => self.enter(Step::Erase(slot, release)),
            Next::Fetch(slot) => self.hold(Point::Download, slot),
            Next::Hold(point, slot) => self.hold_on(point, slot),
            Next::SelfTest(slot) => self.enter(Step::SelfTest(slot)),
            Next::Activate(place, purpose) => self.enter(Step::Activate(place, purpose)),
            Next::Rollback => self.go_back(),
            Next::Remove => self.enter(Step::Unload(Purpose::Remove)),
            Next::Idle => self.enter(Step::Idle),
        }
    }

    pub(super) fn handle_admitted(&mut self, now_ms: u64, result: Result<ReleaseFacts, Reason>) {
        let (Step::Admit, Some(goal)) = (self.step, self.goal.clone()) else { return };
        let facts = match result {
            Ok(facts) if !is_it(&facts, &goal) => {
                let result = Ending::Failed(Reason::Untrusted);
                return self.finish(goal.release, goal.rollout, result);
            }
            Ok(facts) if facts.counter < self.table.version_floor => {
                let result = Ending::Failed(Reason::BelowFloor);
                return self.finish(goal.release, goal.rollout, result);
            }
            Ok(facts) => facts,
            Err(reason) if reason.is_transient() => return self.wait_and_retry(now_ms, reason),
            Err(reason) => {
                return self.finish(goal.release, goal.rollout, Ending::Failed(reason));
            }
        };
        let spare = self.spare();
        let held = SlotId::BOTH.into_iter().find(|id| {
            let slot = self.table.slot(*id);
            slot.holds(&facts.digest) && slot.release == Some(facts)
        });
        if let Some(slot) = held {
            // Its bytes are here: check and try them again, fetch nothing.
            self.table.slot_mut(slot).take_over(&goal);
            return self.enter(Step::Verify(slot));
        }
        let entry = self.table.slot(spare);
        let resumes = entry.state == SlotState::Receiving && entry.release == Some(facts);
        if resumes {
            self.table.slot_mut(spare).take_over(&goal);
            return self.enter(Step::Persist(Next::Fetch(spare)));
        }
        self.refill(spare, facts);
    }

    pub(super) fn handle_done(&mut self, now_ms: u64, result: Result<(), Reason>) {
        match (self.step, result) {
            // To have erased or unloaded nothing is no verdict, whatever the reason says.
            (Step::Erase(..) | Step::Unload(_) | Step::EraseRemoved(_), Err(reason)) => {
                return self.wait_and_retry(now_ms, reason);
            }
            (
                Step::Fetch(_) | Step::Verify(_) | Step::SelfTest(_) | Step::Shadow(_),
                Err(reason),
            ) if reason.is_transient() => {
                return self.wait_and_retry(now_ms, reason);
            }
            _ => {}
        }
        match (self.step, result) {
            (Step::Erase(slot, release), _) => {
                let Some(goal) = self.goal.clone() else { return self.enter(Step::Idle) };
                let entry = self.table.slot_mut(slot);
                entry.state = SlotState::Receiving;
                entry.release = Some(release);
                entry.take_over(&goal);
                self.enter(Step::Persist(Next::Fetch(slot)));
            }
            (Step::Fetch(slot), Ok(())) => self.enter(Step::Verify(slot)),
            (Step::Verify(slot), Ok(())) => {
                if self.table.slot(slot).state == SlotState::Receiving {
                    self.table.slot_mut(slot).state = SlotState::Verified;
                }
                self.enter(Step::Persist(Next::SelfTest(slot)));
            }
            (Step::Fetch(slot) | Step::Verify(slot), Err(reason)) => self.refetch(slot, reason),
            (Step::SelfTest(slot), Ok(())) => self.shadow_or_hold(slot),
            (Step::Shadow(slot), Ok(())) => self.hold(Point::Activation, slot),
            (Step::SelfTest(slot) | Step::Shadow(slot), Err(reason)) => self.reject(slot, reason),
            (Step::Unload(Purpose::Remove), _) => {
                self.running = None;
                self.enter(Step::EraseRemoved(SlotId::A));
            }
            (Step::Unload(_), _) => {
                self.running = None;
                self.enter(Step::Idle);
            }
            (Step::EraseRemoved(SlotId::A), _) => self.enter(Step::EraseRemoved(SlotId::B)),
            (Step::EraseRemoved(SlotId::B), _) => {
                if let Some(goal) = self.goal.clone() {
                    self.finish(goal.release, goal.rollout, Ending::Removed);
                }
            }
            _ => {}
        }
    }

    pub(super) fn handle_health(&mut self, verdict: Result<(), Finding>) {
        let Step::Probation(slot) = self.step else { return };
        if let Err(finding) = verdict {
            self.reject(slot, finding.reason);
            if let Some(last) = &mut self.table.last {
                last.evidence = finding.evidence;
            }
            return;
        }
        self.set_last(slot, Ending::Confirmed);
        let min_release = self.table.slot(slot).release.map_or(0, |r| r.min_release);
        self.table.slot_mut(slot).state = SlotState::Confirmed;
        self.table.serving = Some(slot);
        self.table.version_floor = self.table.version_floor.max(min_release);
        self.enter(Step::Persist(Next::Idle));
    }

    /// Empties a slot in the table first, then on disk: the table never names bytes that
    /// may be gone.
    fn refill(&mut self, slot: SlotId, release: ReleaseFacts) {
        self.table.clear_slot(slot);
        self.enter(Step::Persist(Next::Erase(slot, release)));
    }

    /// The slot whose bytes nobody needs: not the one to go back to, not the running one.
    fn spare(&self) -> SlotId {
        let back = match self.table.fallback() {
            Some(Place::Slot(slot)) => Some(slot),
            _ => None,
        };
        let running = match self.running {
            Some((Place::Slot(slot), _)) => Some(slot),
            _ => None,
        };
        back.or(running).map_or(SlotId::A, SlotId::other)
    }

    /// The bytes on disk are not what was signed: once more from the start, then give up.
    fn refetch(&mut self, slot: SlotId, reason: Reason) {
        let release = self.table.slot(slot).release;
        match release {
            Some(release) if self.verify_retries < VERIFY_RETRIES_MAX => {
                self.verify_retries += 1;
                self.mark_corrupt(slot);
                // Not always the same slot: it may be the one that runs.
                self.refill(self.spare(), release);
            }
            _ => self.reject(slot, reason),
        }
    }

    pub(super) fn mark_corrupt(&mut self, slot: SlotId) {
        self.table.slot_mut(slot).state = SlotState::Bad(Reason::Corrupt);
        if self.table.serving == Some(slot) {
            self.table.serving = None;
        }
    }

    /// A verdict on the release in `slot`, or the end of its trial.
    pub(super) fn reject(&mut self, slot: SlotId, reason: Reason) {
        let was_on_trial = matches!(self.table.slot(slot).state, SlotState::Trial { .. });
        let result = if was_on_trial { Ending::RolledBack(reason) } else { Ending::Failed(reason) };
        self.set_last(slot, result);
        self.table.slot_mut(slot).state = SlotState::Bad(reason);
        if let (true, Some(release)) = (reason.is_verdict(), self.table.slot(slot).release) {
            self.table.add_poison(release.digest, reason);
        }
        let runs = self.running.is_some_and(|(place, _)| place == Place::Slot(slot));
        let next = if was_on_trial || runs { Next::Rollback } else { Next::Idle };
        self.enter(Step::Persist(next));
    }

    pub(super) fn set_last(&mut self, slot: SlotId, result: Ending) {
        let slot = self.table.slot(slot);
        if let Some(release) = slot.release {
            let release = release.digest;
            self.table.last =
                Some(Outcome { release, rollout: slot.rollout, result, evidence: None });
        }
    }

    pub(super) fn finish(&mut self, release: Digest, rollout: RolloutId, result: Ending) {
        let outcome = Outcome { release, rollout, result, evidence: None };
        if self.table.last != Some(outcome) {
            self.table.last = Some(outcome);
            self.dirty = true;
        }
        self.enter(Step::Idle);
    }
}
