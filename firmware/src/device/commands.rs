//! What the machine commands, carried out or begun. What takes long is a [`Job`], done piece by
//! piece between two answers of the model.

use fleetway_protocol::machine::{Command, Event, Token};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::Place;

use super::jobs::{Check, Job, Then};
use super::{Device, Parts};
use crate::hardware::Flash;
use crate::store::Part;

impl<F: Flash> Device<'_, F> {
    pub(super) fn execute(&mut self, now_ms: u64, command: Command) {
        match command {
            Command::Persist(token) => {
                let kept = self.commit_table();
                self.machine.handle(now_ms, Event::Persisted(token, kept.map_err(Reason::from)));
            }
            Command::Admit(token) => self.admit(now_ms, token),
            Command::Erase(token, slot) => {
                let whole = self.store.layout().slot(slot).whole();
                self.job = Job::Erase { token, left: whole };
            }
            Command::Fetch(token, slot) => self.fetch_slot(now_ms, token, slot),
            Command::CancelFetch => drop(self.end_fetch()),
            Command::Verify(token, slot) => {
                self.begin_check(now_ms, token, Place::Slot(slot), Then::Verified);
            }
            Command::SelfTest(token, slot) => {
                self.begin_check(now_ms, token, Place::Slot(slot), Then::Test);
            }
            // There is memory for one model at a time. What was asked for cannot be found out
            // here, and that is no fault of the release.
            Command::Shadow(token, _) => {
                let result = Err(Reason::ShadowInconclusive);
                self.machine.handle(now_ms, Event::Done(token, result));
            }
            Command::Activate(token, place) => {
                self.begin_check(now_ms, token, place, Then::Activate);
            }
            Command::Unload(token) => {
                self.serving = None;
                self.machine.handle(now_ms, Event::Done(token, Ok(())));
            }
            // Nobody asks a microcontroller to stop.
            Command::Halt => {}
        }
    }

    /// A release that is here needs no link.
    #[inline(never)]
    fn admit(&mut self, now_ms: u64, token: Token) {
        match self.held() {
            Some(admitted) => {
                self.machine.handle(now_ms, Event::Admitted(token, admitted));
            }
            None => {
                let Some(goal) = self.machine.goal().map(|goal| goal.release) else { return };
                self.fetch_admission(now_ms, token, goal);
            }
        }
    }

    /// Begins to check every byte at `place`: the release's signature now, its parts piece by
    /// piece.
    #[inline(never)]
    fn begin_check(&mut self, now_ms: u64, token: Token, place: Place, then: Then) {
        let release = self.machine.table().release_at(place);
        let manifest = release.and_then(|r| self.release_at(place, Some(&r.digest)));
        let parts = manifest.as_ref().and_then(|manifest| Parts::of(manifest.get()));
        match (release, parts) {
            (Some(release), Some(parts)) => {
                let release = release.digest;
                self.job = Job::Check(Check::new(token, place, release, parts, then, Part::Golden));
            }
            _ => self.checked(now_ms, token, then, false),
        }
    }

    /// Every byte was looked at, and is what was signed, or not.
    pub(super) fn checked(&mut self, now_ms: u64, token: Token, then: Then, good: bool) {
        let event = match (then, good) {
            (Then::Verified, true) => Event::Done(token, Ok(())),
            (Then::Verified, false) => Event::Done(token, Err(Reason::Verification)),
            // It was right a moment ago: the flash, not the release. Tried again later.
            (Then::Test, _) => Event::Done(token, Err(Reason::DiskError)),
            (Then::Activate, _) => Event::Activated(token, Err(Reason::Corrupt)),
        };
        self.machine.handle(now_ms, event);
    }
}
