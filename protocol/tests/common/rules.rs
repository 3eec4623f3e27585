//! What must hold of a device: after every event ([`Device::check`]) and before every command
//! ([`Device::check_command`]). P1, P5 and P7 are the
//! promises of that name in the design.

use fleetway_protocol::hold::Point;
use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use fleetway_protocol::machine::{Command, Phase};
use fleetway_protocol::order::Action;
use fleetway_protocol::slot::{Ending, Place, ReleaseFacts, SlotId, SlotState, SlotTable};

use super::release::digest;
use super::text::summary;
use super::{Bytes, Device};

impl Device {
    pub(super) fn fail(&mut self, rule: &str) {
        if self.broken.is_none() {
            let (table, durable) = (summary(self.machine.table()), summary(&self.durable));
            self.broken = Some(format!(
                "{rule}\n  pending {:?}, phase {:?}, engine {:?}, bytes {:?}\n  table   {table}\n  durable {durable}",
                self.pending,
                self.machine.phase(),
                self.engine,
                self.bytes
            ));
        }
    }

    fn intact(&self, place: Place) -> bool {
        match place {
            Place::Slot(slot) => {
                let named = self.durable.slot(slot).release.map(|r| r.digest.0[0]);
                named.is_some_and(|n| self.bytes[slot as usize] == Bytes::Whole(n))
            }
            Place::Factory => self.factory_ok,
        }
    }

    pub(super) fn check_command(&mut self, command: Command) {
        let busy = matches!(
            self.pending,
            Some(
                Command::Persist(_)
                    | Command::Erase(..)
                    | Command::Fetch(..)
                    | Command::Activate(..)
                    | Command::Unload(_)
            )
        );
        if busy {
            self.fail("a command with an effect was given up before its answer");
        }
        let newest = self.order.as_ref().filter(|_| self.told).map(|o| (o.action, o.release));
        let wanted = |release: Option<ReleaseFacts>| {
            newest.is_none_or(|(action, r)| {
                action == Action::Run && release.is_some_and(|f| f.digest == r)
            })
        };
        match command {
            Command::Erase(_, slot) | Command::Fetch(_, slot) => {
                let place = Some(Place::Slot(slot));
                let named = [self.durable.fallback(), self.machine.table().fallback()];
                if named.contains(&place) || self.engine.map(|e| e.0) == place {
                    self.fail("rule 3: Erase and Fetch name only the spare slot");
                }
                let entry = self.durable.slot(slot);
                let announced = match command {
                    Command::Erase(..) => entry.state == SlotState::Empty,
                    _ => entry.state == SlotState::Receiving,
                };
                let release = entry.release;
                if !announced {
                    self.fail("rule 1: Erase or Fetch before the table says so");
                }
                if matches!(command, Command::Fetch(..)) && self.is_held(Point::Download, slot) {
                    self.fail("consent: fetches while something keeps it back");
                }
                if matches!(command, Command::Fetch(..)) && !wanted(release) {
                    self.fail("P7: fetches for an order that is not the newest");
                }
            }
            Command::SelfTest(_, slot) | Command::Shadow(_, slot) => {
                if matches!(command, Command::Shadow(..)) && self.engine.is_none() {
                    self.fail("a shadow of nothing");
                }
                let entry = *self.durable.slot(slot);
                if !matches!(entry.state, SlotState::Verified | SlotState::Confirmed) {
                    self.fail("rule 1: a self-test of what is not verified");
                }
                if !wanted(entry.release) {
                    self.fail("P7: tests for an order that is not the newest");
                }
            }
            Command::Activate(_, Place::Slot(slot)) => {
                let states = [&self.durable, self.machine.table()].map(|t| t.slot(slot).state);
                let proper =
                    |s: &SlotState| matches!(s, SlotState::Trial { .. } | SlotState::Confirmed);
                if !states.iter().all(proper) {
                    self.fail("rule 1: serves what is neither on trial nor confirmed");
                }
                if states[1] != SlotState::Confirmed {
                    self.check_trial(slot);
                }
            }
            Command::Persist(_) => {
                self.check_success();
                self.check_consent();
            }
            _ => {}
        }
    }

    fn check_trial(&mut self, slot: SlotId) {
        let release = self.durable.slot(slot).release;
        let Some(release) = release.map(|r| r.digest) else { return };
        if self.durable.poisoned(&release).is_some() {
            self.fail("P5: tries a poisoned release");
        }
        let order = self.order.as_ref().filter(|_| self.told);
        let newer = order.is_some_and(|o| o.release != release);
        // With nothing else that can serve, the older one does until the newer takes over.
        let usable = |place: &Place| *place != Place::Factory || !self.factory_refused;
        let goes_back = self.durable.fallback().as_ref().is_some_and(usable);
        if newer && (self.engine.is_some() || goes_back) {
            self.fail("P7: activates for an order that is not the newest");
        }
        let again_in_boot = core::mem::replace(&mut self.activated_in_boot, true);
        if self.trial != Some(release) {
            (self.trial, self.trial_boots) = (Some(release), 1);
        } else if !again_in_boot && !self.boot_was_graceful {
            self.trial_boots += 1;
            if self.trial_boots > TRIAL_TRIES_MAX {
                self.fail("P5: one trial too many");
            }
        }
    }

    /// Whether something keeps the release in `slot` back, by what the machine was told.
    fn is_held(&self, point: Point, slot: SlotId) -> bool {
        let facts = self.facts.as_ref();
        let rules = [self.machine.table().slot(slot).terms.hold, self.owner];
        let since_s = self.durable.slot(slot).held_since_s;
        rules.iter().any(|rule| !rule.unmet(point, facts, since_s).is_empty())
    }

    /// A table about to be written begins a trial: may it?
    fn check_consent(&mut self) {
        let Some((slot, _)) = self.machine.table().trial() else {
            self.begun = None;
            return;
        };
        let release = self.named(slot);
        let begun = self.begun.replace(release);
        let begins = self.durable.trial().is_none_or(|(before, _)| before != slot);
        let begins = begins && begun != self.begun;
        if begins && self.engine.is_some() && self.is_held(Point::Activation, slot) {
            self.fail("consent: a trial begins while something keeps it back");
        }
    }

    /// A table about to be written says that an order succeeded: does the engine serve it?
    fn check_success(&mut self) {
        let last = self.machine.table().last;
        let Some(outcome) = last.filter(|_| last != self.durable.last) else { return };
        let served = self.engine.map(|(_, n)| digest(n));
        if outcome.result == Ending::Confirmed && served != Some(outcome.release) {
            self.fail("success is reported of something that is not served");
        }
    }

    pub(super) fn check(&mut self) {
        let table = self.machine.table().clone();
        if !table.is_sane() || !self.durable.is_sane() {
            self.fail("the table is not sane");
        }
        if table.version_floor < self.durable.version_floor {
            self.fail("the floor sinks");
        }
        if table.version_floor < self.promised.version_floor {
            self.fail("the floor was forgotten");
        }
        let dropped = table.poison_dropped.saturating_sub(self.promised.poison_dropped) as usize;
        let mut kept = self.promised.poison.iter().skip(dropped);
        if !kept.all(|p| table.poisoned(&p.release).is_some()) {
            self.fail("poison was forgotten");
        }
        if self.durable.trial().is_none() {
            self.trial = None;
        }
        if let Some((Place::Slot(slot), n)) = self.engine
            && self.bytes[slot as usize] != Bytes::Whole(n)
            && !self.net_rotten
        {
            self.fail("the bytes of the running slot are gone");
        }
        let net = self.durable.fallback();
        self.had_net = (self.had_net || net.is_some()) && !self.durable.removed;
        if self.had_net && !self.net_rotten && !net.is_some_and(|place| self.intact(place)) {
            self.fail("P1: no way back to what was confirmed");
        }
        self.check_at_rest(&table);
    }

    fn check_at_rest(&mut self, table: &SlotTable) {
        let at_rest = self.pending.is_none()
            && self.machine.phase() == Phase::Idle
            && self.machine.poll_timeout().is_none()
            && !self.halted;
        if !at_rest {
            return;
        }
        let running = self.machine.running().map(|(place, d)| (place, d.0[0]));
        if running != self.engine {
            self.fail("the machine is wrong about what the engine serves");
        }
        let can_serve = table.fallback().is_some_and(|p| p != Place::Factory || self.factory_ok);
        if can_serve && !self.net_rotten && self.engine.is_none() {
            self.fail("P1: serves nothing at rest");
        }
        if let Some(order) = self.order.as_ref().filter(|_| self.told)
            && table.last.map(|l| (l.release, l.rollout)) != Some((order.release, order.rollout))
        {
            self.fail("the newest order has no answer");
        }
        let proper = match self.engine {
            Some((Place::Slot(slot), _)) => {
                table.slot(slot).state == SlotState::Confirmed || table.fallback().is_none()
            }
            _ => true,
        };
        if !proper {
            self.fail("P1: serves at rest what is not confirmed");
        }
    }
}
