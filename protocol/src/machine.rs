//! The update machine of one model on one device: facts in, commands out.
//!
//! ```text
//! Idle -> Eligibility -> Download -> Verification -> SelfTest -> Activation -> Probation -> Idle
//!   any failure before Activation: Bad; what serves was never touched
//!   any failure after:             back to the confirmed slot, then Bad
//!   a boot in trial:               tries left -> one less, Activation; none -> back
//! ```
//!
//! **Contract.** [`Machine::handle`] one event, then drain [`Machine::poll`] until it gives
//! `None`; look at [`Machine::poll_timeout`] for when to send [`Event::Tick`]. Every command
//! has a [`Token`] that its answer brings back; an answer with another token is late and
//! changes nothing. Every command can be repeated without harm. `Persist` means: make
//! [`Machine::table`] durable, *then* answer; the effect that a table announces is
//! commanded only after that answer. `Erase` and `Fetch` name only the spare slot.
//!
//! **Power.** A cut at any point leaves a table from which [`Machine::recover`] goes on:
//! before `Trial` is durable the confirmed slot serves; after it, each boot without a
//! graceful stop costs one try, and the last one poisons the release as `Interrupted`.
//!
//! **Faults that are nobody's verdict.** No network, no room, no process: the step waits
//! and tries again with a growing pause, and the status says what it waits for. A newer
//! order or a stop does not wait with it, and while a trial waits for the disk after a boot
//! the confirmed slot serves.
//!
//! Held down by `tests/machine_table.rs` (every step, every event), by the cut at every step
//! in `tests/machine_power.rs`, and by the seeded world in the `tests` crate.

use crate::ids::{Digest, RolloutId};
use crate::limits::{STEP_RETRY_MS, STEP_RETRY_MS_MAX, TRIAL_TRIES_MAX, VERIFY_RETRIES_MAX};
use crate::order::{Action, ModelOrder, Policy};
use crate::reason::Reason;
use crate::slot::{Ending, Outcome, Place, ReleaseFacts, SlotId, SlotState, SlotTable};

/// Ties an answer to the command that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u32);

/// What the machine wants done. See the module page for the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make [`Machine::table`] durable. Answer: [`Event::Persisted`].
    Persist(Token),
    /// Get the manifest of [`Machine::goal`] and admit it. Answer: [`Event::Admitted`].
    Admit(Token),
    /// Remove all bytes of a slot. Answer: [`Event::Done`].
    Erase(Token, SlotId),
    /// Fetch the release's artifacts into a slot, resuming what is there.
    /// Answer: [`Event::Done`].
    Fetch(Token, SlotId),
    /// Stop fetching; nobody waits for the answer any more.
    CancelFetch,
    /// Check every byte of a slot against what was signed. Answer: [`Event::Done`].
    Verify(Token, SlotId),
    /// Run the golden vectors in a sandbox. Answer: [`Event::Done`].
    SelfTest(Token, SlotId),
    /// Load what is at `Place`, check it once more, and serve it instead of what is served
    /// now; what is served now stays if that fails. Answer: [`Event::Activated`].
    Activate(Token, Place),
    /// Serve nothing. Answer: [`Event::Done`].
    Unload(Token),
    /// All is durable: the process may end.
    Halt,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A verified order for this model.
    Order(ModelOrder),
    /// The table is durable, or not.
    Persisted(Token, Result<(), Reason>),
    /// The release was admitted, or not.
    Admitted(Token, Result<ReleaseFacts, Reason>),
    /// The command is done, or failed.
    Done(Token, Result<(), Reason>),
    /// The engine serves the release with this digest, or could not load.
    Activated(Token, Result<Digest, Reason>),
    /// The release on trial was judged. Only [`Machine::probation`]'s token counts.
    Health(Token, Result<(), Reason>),
    /// The process was asked to end.
    Stopping,
    /// Time passed.
    Tick,
}

/// Where an update is, for people and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Phase {
    /// Nothing to do.
    Idle,
    /// Getting and checking the manifest.
    Eligibility,
    /// Getting the bytes.
    Download,
    /// Checking all bytes on disk.
    Verification,
    /// Golden vectors in a sandbox.
    SelfTest,
    /// Swapping engines.
    Activation,
    /// Serving, watched.
    Probation,
    /// Going back.
    Rollback,
    /// Being removed.
    Removal,
}

/// What the current step waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Idle,
    Persist(Next),
    Admit,
    Erase(SlotId, ReleaseFacts),
    Fetch(SlotId),
    Verify(SlotId),
    SelfTest(SlotId),
    Activate(Place, Purpose),
    Probation(SlotId),
    Unload(Purpose),
    EraseRemoved(SlotId),
    Halted,
}

/// What a durable table announces.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    Erase(SlotId, ReleaseFacts),
    Fetch(SlotId),
    SelfTest(SlotId),
    Activate(Place, Purpose),
    Rollback,
    Remove,
    Idle,
    Halt,
}

/// Why something is activated.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Purpose {
    /// The release on trial.
    Trial,
    /// What served before: at boot, after a verdict, on an order to go back.
    Back,
    /// The operator goes back to the factory model: the slots are given up for it only
    /// when it is seen to serve.
    Factory,
    /// The operator removed the model.
    Remove,
}

/// Times that a disk may fail to read a confirmed slot before its bytes count as rotten
/// and the device goes on to the next best: six seconds of serving nothing.
const READ_RETRIES_MAX: u32 = 2;

/// Times that an engine may fail to start with what served before, until a newer order goes
/// ahead of that: half a minute of serving nothing.
const BACK_RETRIES_MAX: u32 = 4;

/// Whether `facts` are about what `order` names. A rollback takes the form that is there.
fn is_it(facts: &ReleaseFacts, order: &ModelOrder) -> bool {
    facts.digest == order.release
        && (order.action == Action::Rollback || facts.variant == order.variant)
}

/// The update machine of one model. See the module page.
#[derive(Clone, Debug)]
pub struct Machine {
    table: SlotTable,
    goal: Option<ModelOrder>,
    queued: Option<ModelOrder>,
    step: Step,
    token: u32,
    /// The step's command is still to be given out.
    emit: bool,
    cancel_fetch: bool,
    /// The table changed since it was last durable, and no step waits for it.
    dirty: bool,
    stopping: bool,
    retries: u32,
    retry_at_ms: Option<u64>,
    waiting: Option<Reason>,
    verify_retries: u8,
    running: Option<(Place, Digest)>,
    /// The factory model did not load in this boot; asking again and again will not help.
    factory_failed: bool,
}

impl Machine {
    /// The machine after a boot with this table. Drain [`Machine::poll`] next; hand it the
    /// stored order, if there is one, once that is done.
    pub fn recover(table: SlotTable) -> Self {
        let mut machine = Self {
            table,
            goal: None,
            queued: None,
            step: Step::Idle,
            token: 0,
            emit: false,
            cancel_fetch: false,
            dirty: false,
            stopping: false,
            retries: 0,
            retry_at_ms: None,
            waiting: None,
            verify_retries: 0,
            running: None,
            factory_failed: false,
        };
        machine.boot();
        machine
    }

    fn boot(&mut self) {
        let graceful = core::mem::take(&mut self.table.graceful);
        match self.table.trial() {
            Some((slot, tries_left)) if graceful || tries_left > 0 => {
                if !graceful {
                    self.table.slot_mut(slot).state =
                        SlotState::Trial { tries_left: tries_left - 1 };
                }
                self.enter(Step::Persist(Next::Activate(Place::Slot(slot), Purpose::Trial)));
            }
            Some((slot, _)) => self.reject(slot, Reason::Interrupted),
            None => {
                self.dirty = graceful;
                self.go_back();
            }
        }
    }

    /// What is durable, or is to become so when [`Command::Persist`] was given out.
    pub fn table(&self) -> &SlotTable {
        &self.table
    }

    /// The order being carried out, or the last one that was.
    pub fn goal(&self) -> Option<&ModelOrder> {
        self.goal.as_ref()
    }

    /// What the engine serves: where it is, and the digest that the engine loaded.
    pub fn running(&self) -> Option<(Place, Digest)> {
        self.running
    }

    /// What the current step waits for, if it failed for want of something.
    pub fn waiting(&self) -> Option<Reason> {
        self.waiting
    }

    /// Where the update is.
    pub fn phase(&self) -> Phase {
        match self.step {
            Step::Idle | Step::Halted | Step::Persist(Next::Idle | Next::Halt) => Phase::Idle,
            Step::Admit => Phase::Eligibility,
            Step::Erase(..) | Step::Fetch(_) | Step::Persist(Next::Erase(..) | Next::Fetch(_)) => {
                Phase::Download
            }
            Step::Verify(_) | Step::Persist(Next::SelfTest(_)) => Phase::Verification,
            Step::SelfTest(_) => Phase::SelfTest,
            Step::Activate(_, Purpose::Trial)
            | Step::Persist(Next::Activate(_, Purpose::Trial)) => Phase::Activation,
            Step::Probation(_) => Phase::Probation,
            Step::Activate(..)
            | Step::Unload(Purpose::Trial | Purpose::Back | Purpose::Factory)
            | Step::Persist(Next::Rollback | Next::Activate(..)) => Phase::Rollback,
            Step::Unload(Purpose::Remove) | Step::EraseRemoved(_) | Step::Persist(Next::Remove) => {
                Phase::Removal
            }
        }
    }

    /// The probation under way: the token for [`Event::Health`], the slot, how to judge.
    pub fn probation(&self) -> Option<(Token, SlotId, Policy)> {
        match self.step {
            Step::Probation(slot) => Some((Token(self.token), slot, self.table.slot(slot).policy)),
            _ => None,
        }
    }

    /// Takes one event at `now_ms` (monotonic milliseconds). What does not fit the current
    /// step is late or unknown, and changes nothing.
    pub fn handle(&mut self, now_ms: u64, event: Event) {
        match event {
            Event::Order(order) => self.handle_order(order),
            Event::Stopping => self.handle_stopping(),
            Event::Tick => {
                if self.retry_at_ms.is_some_and(|at| now_ms >= at) {
                    self.retry_at_ms = None;
                    self.emit = true;
                }
            }
            Event::Persisted(token, result) if self.is_current(token) => {
                self.handle_persisted(now_ms, result);
            }
            Event::Admitted(token, result) if self.is_current(token) => {
                self.handle_admitted(now_ms, result);
            }
            Event::Done(token, result) if self.is_current(token) => {
                self.handle_done(now_ms, result);
            }
            Event::Activated(token, result) if self.is_current(token) => {
                self.handle_activated(now_ms, result);
            }
            Event::Health(token, verdict) if self.is_current(token) => self.handle_health(verdict),
            Event::Persisted(..)
            | Event::Admitted(..)
            | Event::Done(..)
            | Event::Activated(..)
            | Event::Health(..) => {}
        }
    }

    /// The next command, `None` when all are given out.
    pub fn poll(&mut self) -> Option<Command> {
        if core::mem::take(&mut self.cancel_fetch) {
            return Some(Command::CancelFetch);
        }
        while self.step == Step::Idle && self.leave_idle() {}
        if !core::mem::take(&mut self.emit) {
            return None;
        }
        let token = Token(self.token);
        Some(match self.step {
            Step::Idle | Step::Probation(_) => return None,
            Step::Persist(_) => Command::Persist(token),
            Step::Admit => Command::Admit(token),
            Step::Erase(slot, _) | Step::EraseRemoved(slot) => Command::Erase(token, slot),
            Step::Fetch(slot) => Command::Fetch(token, slot),
            Step::Verify(slot) => Command::Verify(token, slot),
            Step::SelfTest(slot) => Command::SelfTest(token, slot),
            Step::Activate(place, _) => Command::Activate(token, place),
            Step::Unload(_) => Command::Unload(token),
            Step::Halted => Command::Halt,
        })
    }

    /// When to send [`Event::Tick`], monotonic milliseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.retry_at_ms
    }

    fn is_current(&self, token: Token) -> bool {
        token.0 == self.token
    }

    fn enter(&mut self, step: Step) {
        self.step = step;
        self.token = self.token.wrapping_add(1);
        self.emit = true;
        self.retries = 0;
        self.retry_at_ms = None;
        self.waiting = None;
        if matches!(step, Step::Persist(_)) {
            self.dirty = false;
        }
    }

    /// The step failed for want of something: the same command again, later.
    fn wait_and_retry(&mut self, now_ms: u64, reason: Reason) {
        let pause_ms = (STEP_RETRY_MS << self.retries.min(16)).min(STEP_RETRY_MS_MAX);
        self.retries = self.retries.saturating_add(1);
        self.token = self.token.wrapping_add(1);
        self.retry_at_ms = Some(now_ms.saturating_add(pause_ms));
        self.waiting = Some(reason);
    }

    /// Starts whatever is due; `false` if nothing is.
    fn leave_idle(&mut self) -> bool {
        if self.stopping {
            self.table.graceful = true;
            self.enter(Step::Persist(Next::Halt));
        } else if let Some(order) = self.queued.take() {
            self.begin(order);
        } else if let Some((slot, _)) = self.table.trial() {
            // Put off at boot: the disk did not take its start, or the engine could not.
            self.enter(Step::Persist(Next::Activate(Place::Slot(slot), Purpose::Trial)));
        } else if self.dirty {
            self.enter(Step::Persist(Next::Idle));
        } else if self.running.is_none() && self.place_to_serve().is_some() {
            // An order took the place of a way back that had to wait.
            self.go_back();
        } else {
            return false;
        }
        true
    }

    fn handle_stopping(&mut self) {
        self.stopping = true;
        match self.step {
            Step::Fetch(_) => {
                self.cancel_fetch = true;
                self.enter(Step::Idle);
            }
            // What is under way is done again after the next boot; a trial is not blamed.
            Step::Admit | Step::Verify(_) | Step::SelfTest(_) | Step::Probation(_) => {
                self.enter(Step::Idle);
            }
            // Nor does it wait for what waits itself: the last table says it all.
            Step::Persist(Next::Halt) => {}
            _ if self.retry_at_ms.is_some() => self.enter(Step::Idle),
            _ => {}
        }
    }

    fn handle_order(&mut self, order: ModelOrder) {
        if self.step != Step::Idle && self.queued.is_none() && self.is_under_way(&order) {
            // The same wish again, maybe by another rollout: carry on, judge by the newest
            // policy, report to the newest rollout.
            for slot in SlotId::BOTH {
                let entry = self.table.slot_mut(slot);
                if entry.release.is_some_and(|r| is_it(&r, &order)) {
                    (entry.rollout, entry.policy) = (order.rollout, order.policy);
                }
            }
            self.goal = Some(order);
            return;
        }
        self.queued = Some(order);
        match self.step {
            Step::Fetch(_) => {
                self.cancel_fetch = true;
                self.enter(Step::Idle);
            }
            Step::Admit | Step::Verify(_) | Step::SelfTest(_) => self.enter(Step::Idle),
            Step::Probation(slot) => self.supersede_trial(slot),
            _ if self.retry_at_ms.is_some() => self.give_way(),
            _ => {}
        }
    }

    /// A fault must not keep a newer order waiting: it may be the way back.
    fn give_way(&mut self) {
        match self.step {
            Step::Erase(..) | Step::EraseRemoved(_) => self.enter(Step::Idle),
            Step::Persist(Next::Erase(..) | Next::Fetch(_) | Next::SelfTest(_) | Next::Idle) => {
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

    /// Whether `order` is what is being done already, with its end still open. After a boot
    /// the goal is not known until the stored order comes, but the slot on trial is.
    fn is_under_way(&self, order: &ModelOrder) -> bool {
        let wish = |o: &ModelOrder| (o.release, o.action, o.variant);
        let is_goal = self.goal.as_ref().is_some_and(|goal| wish(goal) == wish(order));
        let on_trial = self.table.trial().and_then(|(slot, _)| self.table.slot(slot).release);
        let before_trial = matches!(
            self.step,
            Step::Admit
                | Step::Erase(..)
                | Step::Fetch(_)
                | Step::Verify(_)
                | Step::SelfTest(_)
                | Step::Persist(Next::Erase(..) | Next::Fetch(_) | Next::SelfTest(_))
        );
        match order.action {
            Action::Run => on_trial.is_some_and(|r| is_it(&r, order)) || is_goal && before_trial,
            Action::Remove => is_goal && self.phase() == Phase::Removal,
            // Quickly done again, and then it is known how it ended.
            Action::Rollback => false,
        }
    }

    /// A newer order ends a trial before it was judged. With something to go back to the
    /// device goes back; else the release keeps serving until the newer one takes over.
    fn supersede_trial(&mut self, slot: SlotId) {
        self.table.slot_mut(slot).state = SlotState::Verified;
        self.set_last(slot, Ending::Failed(Reason::Superseded));
        let next = if self.table.fallback().is_some() { Next::Rollback } else { Next::Idle };
        self.enter(Step::Persist(next));
    }

    fn set_last(&mut self, slot: SlotId, result: Ending) {
        let slot = self.table.slot(slot);
        if let Some(release) = slot.release {
            let release = release.digest;
            self.table.last = Some(Outcome { release, rollout: slot.rollout, result });
        }
    }

    fn finish(&mut self, release: Digest, rollout: RolloutId, result: Ending) {
        let outcome = Outcome { release, rollout, result };
        if self.table.last != Some(outcome) {
            self.table.last = Some(outcome);
            self.dirty = true;
        }
        self.enter(Step::Idle);
    }

    fn begin(&mut self, order: ModelOrder) {
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
                l.release == release && l.rollout == rollout && l.result != Ending::Confirmed
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
            Action::Run | Action::Remove => self.enter(Step::Admit),
        }
    }

    fn set_removed(&mut self, removed: bool) {
        self.dirty |= self.table.removed != removed;
        self.table.removed = removed;
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

    /// What [`SlotTable::fallback`] names, unless it is known not to load.
    fn place_to_serve(&self) -> Option<Place> {
        self.table.fallback().filter(|place| *place != Place::Factory || !self.factory_failed)
    }

    /// Serves what was confirmed last, or nothing if there is nothing.
    fn go_back(&mut self) {
        match self.place_to_serve() {
            Some(place) => self.enter(Step::Activate(place, Purpose::Back)),
            None if self.running.is_some() => self.enter(Step::Unload(Purpose::Back)),
            None => self.enter(Step::Idle),
        }
    }

    /// A verdict on the release in `slot`, or the end of its trial.
    fn reject(&mut self, slot: SlotId, reason: Reason) {
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

    fn handle_persisted(&mut self, now_ms: u64, result: Result<(), Reason>) {
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
            Next::Erase(..) | Next::Fetch(_) | Next::SelfTest(_) if self.queued.is_some() => {
                self.enter(Step::Idle);
            }
            Next::Activate(Place::Slot(slot), Purpose::Trial)
                if self.is_superseded()
                    && (self.running.is_some() || self.place_to_serve().is_some()) =>
            {
                self.supersede_trial(slot);
            }
            Next::Erase(slot, release) => self.enter(Step::Erase(slot, release)),
            Next::Fetch(slot) => self.enter(Step::Fetch(slot)),
            Next::SelfTest(slot) => self.enter(Step::SelfTest(slot)),
            Next::Activate(place, purpose) => self.enter(Step::Activate(place, purpose)),
            Next::Rollback => self.go_back(),
            Next::Remove => self.enter(Step::Unload(Purpose::Remove)),
            Next::Idle => self.enter(Step::Idle),
        }
    }

    fn is_superseded(&self) -> bool {
        self.queued.as_ref().is_some_and(|order| !self.is_under_way(order))
    }

    fn handle_admitted(&mut self, now_ms: u64, result: Result<ReleaseFacts, Reason>) {
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
            let entry = self.table.slot_mut(slot);
            (entry.rollout, entry.policy) = (goal.rollout, goal.policy);
            return self.enter(Step::Verify(slot));
        }
        let entry = self.table.slot(spare);
        let resumes = entry.state == SlotState::Receiving && entry.release == Some(facts);
        if resumes {
            let entry = self.table.slot_mut(spare);
            (entry.rollout, entry.policy) = (goal.rollout, goal.policy);
            return self.enter(Step::Persist(Next::Fetch(spare)));
        }
        self.refill(spare, facts);
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

    fn handle_done(&mut self, now_ms: u64, result: Result<(), Reason>) {
        match (self.step, result) {
            // To have erased or unloaded nothing is no verdict, whatever the reason says.
            (Step::Erase(..) | Step::Unload(_) | Step::EraseRemoved(_), Err(reason)) => {
                return self.wait_and_retry(now_ms, reason);
            }
            (Step::Fetch(_) | Step::Verify(_) | Step::SelfTest(_), Err(reason))
                if reason.is_transient() =>
            {
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
                (entry.rollout, entry.policy) = (goal.rollout, goal.policy);
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
            (Step::SelfTest(slot), Ok(())) => {
                let state = SlotState::Trial { tries_left: TRIAL_TRIES_MAX - 1 };
                self.table.slot_mut(slot).state = state;
                if self.table.serving == Some(slot) {
                    self.table.serving = None;
                }
                self.table.removed = false;
                self.enter(Step::Persist(Next::Activate(Place::Slot(slot), Purpose::Trial)));
            }
            (Step::SelfTest(slot), Err(reason)) => self.reject(slot, reason),
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

    fn mark_corrupt(&mut self, slot: SlotId) {
        self.table.slot_mut(slot).state = SlotState::Bad(Reason::Corrupt);
        if self.table.serving == Some(slot) {
            self.table.serving = None;
        }
    }

    fn handle_activated(&mut self, now_ms: u64, result: Result<Digest, Reason>) {
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

    /// What was ordered is at `place` and does not load. An order to go back has failed; one
    /// to run it is begun anew, and this time fetches it.
    fn fail_order(&mut self, place: Place) {
        let (Some(goal), Some(facts)) = (&self.goal, self.table.release_at(place)) else { return };
        match goal.action {
            _ if !is_it(&facts, goal) => {}
            Action::Rollback => {
                let result = Ending::Failed(Reason::Corrupt);
                let (release, rollout) = (goal.release, goal.rollout);
                self.table.last = Some(Outcome { release, rollout, result });
            }
            Action::Run if self.queued.is_none() => self.queued = self.goal.clone(),
            Action::Run | Action::Remove => {}
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

    fn handle_health(&mut self, verdict: Result<(), Reason>) {
        let Step::Probation(slot) = self.step else { return };
        if let Err(reason) = verdict {
            return self.reject(slot, reason);
        }
        self.set_last(slot, Ending::Confirmed);
        let min_release = self.table.slot(slot).release.map_or(0, |r| r.min_release);
        self.table.slot_mut(slot).state = SlotState::Confirmed;
        self.table.serving = Some(slot);
        self.table.version_floor = self.table.version_floor.max(min_release);
        self.enter(Step::Persist(Next::Idle));
    }
}
