//! What an order does to what is under way, and how each action begins.

use super::{Machine, Next, Phase, Purpose, Step};
use crate::ids::{Digest, RolloutId};
use crate::order::{Action, ModelOrder};
use crate::reason::Reason;
use crate::slot::{Ending, Place, ReleaseFacts, SlotId, SlotState};

/// Times that an engine may fail to start with what served before, until a newer order goes
/// ahead of that: half a minute of serving nothing.
pub(super) const BACK_RETRIES_MAX: u32 = 4;

/// Whether `facts` are about what `order` names. Which form of it is the device's choice.
pub(super) fn is_it(facts: &ReleaseFacts, order: &ModelOrder) -> bool {
    facts.digest == order.release
}

impl Machine {
    pub(super) fn handle_order(&mut self, order: ModelOrder) {
        if self.step != Step::Idle && self.queued.is_none() && self.is_under_way(&order) {
            // The same wish again, maybe by another rollout: carry on, judge by the newest
            // terms, report to the newest rollout.
            let before = self.terms_at_hand();
            for slot in SlotId::BOTH {
                let entry = self.table.slot_mut(slot);
                if entry.release.is_some_and(|r| is_it(&r, &order)) {
                    entry.take_over(&order);
                }
            }
            self.goal = Some(order);
            return self.look_again(before);
        }
        self.queued = Some(order);
        match self.step {
            Step::Fetch(_) => {
                self.cancel_fetch = true;
                self.enter(Step::Idle);
            }
            Step::Admit
            | Step::Verify(_)
            | Step::SelfTest(_)
            | Step::Shadow(_)
            | Step::Hold(..) => self.enter(Step::Idle),
            Step::Probation(slot) => self.supersede_trial(slot),
            _ if self.retry_at_ms.is_some() => self.give_way(),
            _ => {}
        }
    }

    /// Whether `order` is what is being done already, with its end still open. After a boot
    /// the goal is not known until the stored order comes, but the slot on trial is.
    fn is_under_way(&self, order: &ModelOrder) -> bool {
        let wish = |o: &ModelOrder| (o.release, o.action);
        let is_goal = self.goal.as_ref().is_some_and(|goal| wish(goal) == wish(order));
        let on_trial = self.table.trial().and_then(|(slot, _)| self.table.slot(slot).release);
        let before_trial = matches!(
            self.step,
            Step::Admit
                | Step::Erase(..)
                | Step::Fetch(_)
                | Step::Verify(_)
                | Step::SelfTest(_)
                | Step::Shadow(_)
                | Step::Hold(..)
                | Step::Persist(
                    Next::Erase(..) | Next::Fetch(_) | Next::SelfTest(_) | Next::Hold(..)
                )
        );
        match order.action {
            Action::Run => on_trial.is_some_and(|r| is_it(&r, order)) || is_goal && before_trial,
            Action::Remove => is_goal && self.phase() == Phase::Removal,
            // Quickly done again, and then it is known how it ended.
            Action::Rollback => false,
        }
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.queued.as_ref().is_some_and(|order| !self.is_under_way(order))
    }

    /// A fault must not keep a newer order waiting: it may be the way back.
    pub(super) fn give_way(&mut self) {
        match self.step {
            Step::Erase(..) | Step::EraseRemoved(_) => self.enter(Step::Idle),
            Step::Persist(
                Next::Erase(..) | Next::Fetch(_) | Next::SelfTest(_) | Next::Hold(..) | Next::Idle,
            ) => {
                self.dirty = true;
                self.enter(Step::Idle);
            }
            Step::Persist(Next::Activate(Place::Slot(slot), Purpose::Trial))
            | Step::Activate(Place::Slot(slot), Purpose::Trial) => self.supersede_trial(slot),
            Step::Activate(_, Purpose::Factory) => self.go_back(),
            // Serving comes first, but not for ever: the order may be the only way out.
            Step::Activate(_, Purpose::Back) if self.retries >= BACK_RETRIES_MAX => {
                // What still runs must not keep the only slot that there is to fill.
                let elsewhere = self.running.is_some_and(|r| Some(r.0) != self.table.fallback());
                self.enter(if elsewhere { Step::Unload(Purpose::Back) } else { Step::Idle });
            }
            _ => {}
        }
    }

    /// A newer order ends a trial before it was judged. With something to go back to the
    /// device goes back; else the release keeps serving until the newer one takes over.
    pub(super) fn supersede_trial(&mut self, slot: SlotId) {
        self.table.slot_mut(slot).state = SlotState::Verified;
        self.set_last(slot, Ending::Failed(Reason::Superseded));
        let next = if self.table.fallback().is_some() { Next::Rollback } else { Next::Idle };
        self.enter(Step::Persist(next));
    }

    pub(super) fn begin(&mut self, order: ModelOrder) {
        let (release, rollout) = (order.release, order.rollout);
        let action = order.action;
        let wanted = |facts: &ReleaseFacts| is_it(facts, &order);
        let running = self.running.filter(|(place, digest)| {
            *digest == release && self.table.release_at(*place).as_ref().is_some_and(wanted)
        });
        let to_serve = self.place_to_serve();
        let serves = to_serve.and_then(|p| self.table.release_at(p)).as_ref().is_some_and(wanted);
        self.goal = Some(order);
        self.verify_retries = 0;
        if let Some((slot, _)) = self.table.trial() {
            // It was put off, and now there is something newer.
            self.table.slot_mut(slot).state = SlotState::Verified;
            self.set_last(slot, Ending::Failed(Reason::Superseded));
            self.dirty = true;
        }
        if action == Action::Remove {
            return self.begin_removal();
        }
        if self.table.poisoned(&release).is_some() {
            // How it failed is worth more than that it is now refused; but a new rollout
            // hears that it was refused.
            let told = self.table.last.is_some_and(|l| {
                let failed = matches!(l.result, Ending::Failed(_) | Ending::RolledBack(_));
                l.release == release && l.rollout == rollout && failed
            });
            if told {
                return self.enter(Step::Idle);
            }
            return self.finish(release, rollout, Ending::Failed(Reason::Poisoned));
        }
        match running {
            Some((Place::Factory, _)) => {
                self.set_removed(false);
                return self.finish(release, rollout, Ending::Confirmed);
            }
            Some((Place::Slot(slot), _)) if self.table.slot(slot).state == SlotState::Confirmed => {
                self.table.slot_mut(slot).rollout = rollout;
                self.set_removed(false);
                return self.finish(release, rollout, Ending::Confirmed);
            }
            _ => {}
        }
        match action {
            Action::Rollback => self.begin_rollback(release, rollout),
            // Confirmed long ago, only not loaded: not a thing to put on trial.
            Action::Run if serves => self.go_back(),
            Action::Run | Action::Remove => {
                // A further try on the same behalf: how the one before ended is no answer to it.
                let before = self.table.last.filter(|l| {
                    let failed = matches!(l.result, Ending::Failed(_) | Ending::RolledBack(_));
                    l.release == release && l.rollout == rollout && failed
                });
                if before.is_some() {
                    self.table.last = None;
                    self.dirty = true;
                }
                self.enter(Step::Admit);
            }
        }
    }

    fn begin_removal(&mut self) {
        for slot in SlotId::BOTH {
            self.table.clear_slot(slot);
        }
        self.table.serving = None;
        self.table.removed = true;
        self.enter(Step::Persist(Next::Remove));
    }

    fn begin_rollback(&mut self, release: Digest, rollout: RolloutId) {
        let confirmed = SlotId::BOTH.into_iter().find(|id| {
            let slot = self.table.slot(*id);
            slot.state == SlotState::Confirmed && slot.holds(&release)
        });
        let factory = self.table.factory.filter(|f| f.digest == release);
        let counter = match (confirmed, factory) {
            (Some(slot), _) => self.table.slot(slot).release.map_or(0, |r| r.counter),
            (None, Some(factory)) => factory.counter,
            (None, None) => {
                let result = Ending::Failed(Reason::NotOnDevice);
                return self.finish(release, rollout, result);
            }
        };
        if counter < self.table.version_floor {
            return self.finish(release, rollout, Ending::Failed(Reason::BelowFloor));
        }
        let Some(slot) = confirmed else {
            return self.enter(Step::Activate(Place::Factory, Purpose::Factory));
        };
        self.table.slot_mut(slot).rollout = rollout;
        self.table.serving = Some(slot);
        self.table.removed = false;
        self.enter(Step::Persist(Next::Rollback));
    }

    fn set_removed(&mut self, removed: bool) {
        self.dirty |= self.table.removed != removed;
        self.table.removed = removed;
    }
}
