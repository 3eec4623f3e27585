//! The update machine of one model on one device: facts in, commands out.
//!
//! ```text
//! Idle -> Eligibility -> Download -> Verification -> SelfTest -> [Shadow] -> [Held]
//!      -> Activation -> Probation -> Idle
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
//! **Consent.** A rollout's terms, or the device's owner, can have a download or an activation wait for
//! a lock to be released, quiet, power, a link, a time ([`crate::hold`]). While
//! [`Machine::wants_facts`], send [`Event::Facts`] every second or so. Nothing that goes back
//! is ever held, nor a trial that has begun.
//!
//! Read in this order: this file (what goes in and out, and every step by name); `boot` (a
//! table after a power cut, the way back, the stop); `orders` (what an order begins and what
//! it ends); `steps` (what each answer leads to); `hold` (what stands between a self-test and
//! a trial); `activation` (what an engine that serves, or does not, leads to).
//!
//! Held down by `tests/machine_table/` (every step, every event), by the cut at every step
//! in `tests/machine_power/`, and by the seeded world in the `tests` crate.

mod activation;
mod boot;
mod hold;
mod orders;
mod steps;

use crate::health::Finding;
use crate::hold::{Conditions, Facts, Hold, Point};
use crate::ids::Digest;
use crate::limits::{STEP_RETRY_MS, STEP_RETRY_MS_MAX};
use crate::order::{ModelOrder, Terms};
use crate::reason::Reason;
use crate::slot::{Place, ReleaseFacts, SlotId, SlotTable};

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
    /// Run the release in the shadow of what serves, and compare; whoever gives the command
    /// up (see [`Machine::shadow`]) is not told otherwise. Answer: [`Event::Done`].
    Shadow(Token, SlotId),
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
    Health(Token, Result<(), Finding>),
    /// How the device is. Told when it changes, or while [`Machine::wants_facts`].
    Facts(Facts),
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
    /// Getting copies of real requests, beside what serves.
    Shadow,
    /// Waiting for consent or a safe point.
    Held,
}

impl Phase {
    /// All of them, in the order of an update.
    pub const ALL: [Self; 11] = [
        Self::Idle,
        Self::Eligibility,
        Self::Download,
        Self::Verification,
        Self::SelfTest,
        Self::Shadow,
        Self::Held,
        Self::Activation,
        Self::Probation,
        Self::Rollback,
        Self::Removal,
    ];

    /// Stable lower-case name for JSON and dashboards.
    pub fn code(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Eligibility => "eligibility",
            Self::Download => "download",
            Self::Verification => "verification",
            Self::SelfTest => "self_test",
            Self::Shadow => "shadow",
            Self::Held => "held",
            Self::Activation => "activation",
            Self::Probation => "probation",
            Self::Rollback => "rollback",
            Self::Removal => "removal",
        }
    }
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
    Shadow(SlotId),
    Hold(Point, SlotId),
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
    Hold(Point, SlotId),
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
    /// The rule of the device's owner.
    owner: Hold,
    /// What the held step waits for.
    unmet: Conditions,
}

impl Machine {
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

    /// What the current step waits for: the first thing, of several.
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
            Step::Shadow(_) => Phase::Shadow,
            Step::Hold(..) | Step::Persist(Next::Hold(..)) => Phase::Held,
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

    /// The probation under way: the token for [`Event::Health`], the slot, what its rollout asks.
    pub fn probation(&self) -> Option<(Token, SlotId, Terms)> {
        match self.step {
            Step::Probation(slot) => Some((Token(self.token), slot, self.table.slot(slot).terms)),
            _ => None,
        }
    }

    /// The shadow under way: the token of its command, the slot, how to judge. `None` while
    /// the command waits to be given out again.
    pub fn shadow(&self) -> Option<(Token, SlotId, Terms)> {
        match self.step {
            Step::Shadow(slot) if self.retry_at_ms.is_none() => {
                Some((Token(self.token), slot, self.table.slot(slot).terms))
            }
            _ => None,
        }
    }

    /// Takes one event at `now_ms` (monotonic milliseconds). What does not fit the current
    /// step is late or unknown, and changes nothing.
    pub fn handle(&mut self, now_ms: u64, event: Event) {
        match event {
            Event::Order(order) => self.handle_order(order),
            Event::Stopping => self.handle_stopping(),
            Event::Facts(facts) => self.handle_facts(&facts),
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
            Step::Idle | Step::Probation(_) | Step::Hold(..) => return None,
            Step::Persist(_) => Command::Persist(token),
            Step::Admit => Command::Admit(token),
            Step::Erase(slot, _) | Step::EraseRemoved(slot) => Command::Erase(token, slot),
            Step::Fetch(slot) => Command::Fetch(token, slot),
            Step::Verify(slot) => Command::Verify(token, slot),
            Step::SelfTest(slot) => Command::SelfTest(token, slot),
            Step::Shadow(slot) => Command::Shadow(token, slot),
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
}
