//! What the engine's answer to `Activate` leads to: the release serves, never will, or may
//! later.

use super::orders::{BACK_RETRIES_MAX, is_it};
use super::{Machine, Next, Purpose, Step};
use crate::ids::Digest;
use crate::order::Action;
use crate::reason::Reason;
use crate::slot::{Ending, Outcome, Place, SlotId, SlotState};

/// Times that a disk may fail to read a confirmed slot before its bytes count as rotten
/// and the device goes on to the next best: six seconds of serving nothing.
const READ_RETRIES_MAX: u32 = 2;

impl Machine {
    pub(super) fn handle_activated(&mut self, now_ms: u64, result: Result<Digest, Reason>) {
        let Step::Activate(place, purpose) = self.step else { return };
        let named = self.table.release_at(place).map(|r| r.digest);
        match result {
            Ok(digest) if named == Some(digest) => {
                self.running = Some((place, digest));
                self.activated(place, purpose, digest);
            }
            // What the engine says it loaded is not what the table names.
            Ok(_) => self.not_activated(place, purpose, Reason::ActivationFailed),
            // No process, no memory: says nothing about the bytes. A disk that cannot read
            // them does, after a while.
            Err(reason) if reason.is_transient() => {
                let rotten = reason == Reason::DiskError && self.retries >= READ_RETRIES_MAX;
                if rotten && purpose == Purpose::Back {
                    self.not_activated(place, purpose, Reason::Corrupt);
                } else {
                    self.activate_later(now_ms, purpose, reason);
                }
            }
            Err(reason) => self.not_activated(place, purpose, reason),
        }
    }

    fn activated(&mut self, place: Place, purpose: Purpose, digest: Digest) {
        if let (Purpose::Trial, Place::Slot(slot)) = (purpose, place) {
            self.enter(Step::Probation(slot));
            if self.stopping {
                self.enter(Step::Idle);
            } else if let Some(order) = self.queued.take() {
                // It came while the trial was being activated.
                self.handle_order(order);
            }
            return;
        }
        if place == Place::Factory {
            self.factory_failed = false;
        }
        if purpose == Purpose::Factory {
            self.give_up_slots();
        }
        let facts = self.table.release_at(place);
        match self.goal.as_ref().map(|g| (facts.is_some_and(|f| is_it(&f, g)), g.action, g.rollout))
        {
            // What was ordered serves again.
            Some((true, Action::Run | Action::Rollback, rollout)) => {
                self.finish(digest, rollout, Ending::Confirmed);
            }
            _ => self.enter(Step::Idle),
        }
    }

    /// What is at `place` cannot be loaded, and trying again will not help.
    fn not_activated(&mut self, place: Place, purpose: Purpose, reason: Reason) {
        match (purpose, place) {
            (Purpose::Trial, Place::Slot(slot)) => {
                // Bytes that rotted since the self-test are not the release's fault.
                let rotten = reason == Reason::Corrupt;
                self.reject(slot, if rotten { reason } else { Reason::ActivationFailed });
            }
            (_, Place::Slot(slot)) => {
                // What was confirmed does not load any more: the bytes rotted. Not the
                // release's fault; the order, given again, fetches them anew.
                self.mark_corrupt(slot);
                self.fail_order(place);
                self.enter(Step::Persist(Next::Rollback));
            }
            (Purpose::Factory, Place::Factory) => {
                self.factory_failed = true;
                self.fail_order(place);
                self.enter(Step::Persist(Next::Rollback));
            }
            (_, Place::Factory) => {
                self.factory_failed = true;
                self.fail_order(place);
                self.enter(Step::Unload(Purpose::Back));
            }
        }
    }

    /// The engine could not be started for want of something.
    fn activate_later(&mut self, now_ms: u64, purpose: Purpose, reason: Reason) {
        let serves_nothing = self.running.is_none() && self.place_to_serve().is_some();
        if self.stopping {
            self.enter(Step::Idle);
        } else if self.queued.is_some()
            && (purpose != Purpose::Back || self.retries >= BACK_RETRIES_MAX)
        {
            self.give_way();
        } else if purpose == Purpose::Trial && serves_nothing {
            // After a boot: what is confirmed serves meanwhile.
            self.go_back();
        } else {
            self.wait_and_retry(now_ms, reason);
        }
    }

    /// What was ordered is at `place` and does not load. An order to go back has failed; one
    /// to run it is begun anew, and this time fetches it.
    fn fail_order(&mut self, place: Place) {
        let (Some(goal), Some(facts)) = (&self.goal, self.table.release_at(place)) else { return };
        match goal.action {
            _ if !is_it(&facts, goal) => {}
            Action::Rollback => {
                let result = Ending::Failed(Reason::Corrupt);
                let (release, rollout) = (goal.release, goal.rollout);
                self.table.last = Some(Outcome { release, rollout, result, evidence: None });
            }
            Action::Run if self.queued.is_none() => self.queued = self.goal.clone(),
            Action::Run | Action::Remove => {}
        }
    }

    /// The factory model serves because the operator said so: no slot may come before it.
    fn give_up_slots(&mut self) {
        for slot in SlotId::BOTH {
            if self.table.slot(slot).state == SlotState::Confirmed {
                self.table.slot_mut(slot).state = SlotState::Verified;
            }
        }
        self.table.serving = None;
        self.table.removed = false;
        self.dirty = true;
    }
}
