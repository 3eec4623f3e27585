//! Between the self-test and the trial: the shadow, and the wait for consent and a safe point;
//! the same wait before a download. Slots and what serves stay untouched all the while.

use super::{Machine, Next, Purpose, Step};
use crate::hold::{Condition, Conditions, Facts, Held, Hold, Point};
use crate::limits::TRIAL_TRIES_MAX;
use crate::order::Terms;
use crate::slot::{Place, SlotId, SlotState};

impl Machine {
    /// The device owner's own rule, which holds beside that of every order.
    pub fn set_owner(&mut self, owner: Hold) {
        self.owner = owner;
    }

    /// What is held, and what it waits for.
    pub fn held(&self) -> Option<Held> {
        let (Step::Hold(before, slot) | Step::Persist(Next::Hold(before, slot))) = self.step else {
            return None;
        };
        let since_s = self.table.slot(slot).held_since_s;
        Some(Held { before, conditions: self.unmet, since_s })
    }

    /// Whether facts, told again and again, can change what it does now.
    pub fn wants_facts(&self) -> bool {
        match self.step {
            Step::Hold(..) => true,
            Step::Fetch(slot) => !self.conditions(Point::Download, slot).is_empty(),
            _ => false,
        }
    }

    /// Facts are looked at when they are told and not kept: a lock may be taken a second later.
    pub(super) fn handle_facts(&mut self, facts: &Facts) {
        let (point, slot) = match self.step {
            Step::Hold(point, slot) => (point, slot),
            Step::Fetch(slot) => (Point::Download, slot),
            _ => return,
        };
        let unmet = self.unmet(point, slot, Some(facts));
        match self.step {
            Step::Hold(..) if unmet.is_empty() => return self.go_on(point, slot),
            Step::Fetch(_) if unmet.is_empty() => return,
            // What is there stays there, and the rest comes later.
            Step::Fetch(_) => {
                self.cancel_fetch = true;
                self.wait_held(point, slot, unmet);
            }
            _ => self.wait_held(point, slot, unmet),
        }
        let since_s = &mut self.table.slot_mut(slot).held_since_s;
        if *since_s == 0 {
            *since_s = facts.unix_s.max(1);
            self.enter(Step::Persist(Next::Hold(point, slot)));
        }
    }

    /// The terms of what is in the shadow or held.
    pub(super) fn terms_at_hand(&self) -> Option<Terms> {
        let (Step::Shadow(slot) | Step::Hold(_, slot)) = self.step else { return None };
        Some(self.table.slot(slot).terms)
    }

    /// The terms changed from `before`: they may ask for less now, or for a shadow.
    pub(super) fn look_again(&mut self, before: Option<Terms>) {
        let wanted = self.terms_at_hand().is_some_and(|terms| terms.shadow.is_some());
        let had = before.is_some_and(|terms| terms.shadow.is_some());
        match self.step {
            Step::Shadow(slot) if !wanted => self.hold(Point::Activation, slot),
            Step::Hold(Point::Activation, slot) if wanted && !had => self.shadow_or_hold(slot),
            Step::Hold(point, slot) if self.unmet(point, slot, None).is_empty() => {
                self.go_on(point, slot);
            }
            _ => {}
        }
    }

    /// When it first waited is durable: it waits on.
    pub(super) fn hold_on(&mut self, point: Point, slot: SlotId) {
        self.wait_held(point, slot, self.unmet);
    }

    fn wait_held(&mut self, point: Point, slot: SlotId, unmet: Conditions) {
        if self.step != Step::Hold(point, slot) {
            self.enter(Step::Hold(point, slot));
        }
        self.unmet = unmet;
        self.waiting = unmet.iter().next().map(Condition::reason);
    }

    /// The candidate is good by itself: how does it do beside what serves?
    pub(super) fn shadow_or_hold(&mut self, slot: SlotId) {
        let wanted = self.table.slot(slot).terms.shadow.is_some();
        // With nothing beside it there is nothing to compare, and nothing to lose.
        if wanted && self.running.is_some() {
            self.enter(Step::Shadow(slot));
        } else {
            self.hold(Point::Activation, slot);
        }
    }

    /// Waits at `point` for what has to be so, if anything has.
    pub(super) fn hold(&mut self, point: Point, slot: SlotId) {
        let unmet = self.unmet(point, slot, None);
        if unmet.is_empty() { self.go_on(point, slot) } else { self.wait_held(point, slot, unmet) }
    }

    fn go_on(&mut self, point: Point, slot: SlotId) {
        match point {
            Point::Download => self.enter(Step::Fetch(slot)),
            Point::Activation => self.begin_trial(slot),
        }
    }

    fn begin_trial(&mut self, slot: SlotId) {
        let entry = self.table.slot_mut(slot);
        let crashes_max = entry.release.map_or(0, |r| r.crashes_max);
        let tries_left = crashes_max.min(TRIAL_TRIES_MAX - 1);
        (entry.state, entry.held_since_s) = (SlotState::Trial { tries_left }, 0);
        if self.table.serving == Some(slot) {
            self.table.serving = None;
        }
        self.table.removed = false;
        self.enter(Step::Persist(Next::Activate(Place::Slot(slot), Purpose::Trial)));
    }

    /// All that may have to be so at `point`, by either rule.
    fn conditions(&self, point: Point, slot: SlotId) -> Conditions {
        self.table.slot(slot).terms.hold.at(point).or(self.owner.at(point))
    }

    /// What is not so yet, by either rule; without facts, all that has to be.
    fn unmet(&self, point: Point, slot: SlotId, facts: Option<&Facts>) -> Conditions {
        // A device that serves nothing interrupts nobody, and gets its model.
        if point == Point::Activation && self.running.is_none() {
            return Conditions::NONE;
        }
        let entry = self.table.slot(slot);
        let rules = [&entry.terms.hold, &self.owner];
        let unmet = rules.map(|rule| rule.unmet(point, facts, entry.held_since_s));
        unmet[0].or(unmet[1])
    }
}
