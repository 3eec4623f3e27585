//! How the machine begins and ends with the process: the boot, the way back to what was
//! confirmed, the stop.

use super::{Machine, Next, Purpose, Step};
use crate::hold::{Conditions, Hold};
use crate::reason::Reason;
use crate::slot::{Place, SlotState, SlotTable};

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
            owner: Hold::default(),
            unmet: Conditions::NONE,
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

    /// What [`SlotTable::fallback`] names, unless it is known not to load.
    pub(super) fn place_to_serve(&self) -> Option<Place> {
        self.table.fallback().filter(|place| *place != Place::Factory || !self.factory_failed)
    }

    /// Serves what was confirmed last, or nothing if there is nothing.
    pub(super) fn go_back(&mut self) {
        match self.place_to_serve() {
            Some(place) => self.enter(Step::Activate(place, Purpose::Back)),
            None if self.running.is_some() => self.enter(Step::Unload(Purpose::Back)),
            None => self.enter(Step::Idle),
        }
    }

    pub(super) fn handle_stopping(&mut self) {
        self.stopping = true;
        match self.step {
            Step::Fetch(_) => {
                self.cancel_fetch = true;
                self.enter(Step::Idle);
            }
            // What is under way is done again after the next boot; a trial is not blamed.
            Step::Admit
            | Step::Verify(_)
            | Step::SelfTest(_)
            | Step::Shadow(_)
            | Step::Hold(..)
            | Step::Probation(_) => self.enter(Step::Idle),
            // Nor does it wait for what waits itself: the last table says it all.
            Step::Persist(Next::Halt) => {}
            _ if self.retry_at_ms.is_some() => self.enter(Step::Idle),
            _ => {}
        }
    }
}
