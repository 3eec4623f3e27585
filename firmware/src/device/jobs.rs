//! What takes long, one bounded piece per turn: erasing a slot, checking a release, its
//! self-test. In between the model that serves goes on serving.
//!
//! **The self-test is noted before it runs.** A model that hangs or crashes takes the board with
//! it, and the watchdog brings it back: the note is how the next boot knows. After the watchdog
//! it is the model's fault; after a power cut it is tried again, but not for ever.

use fleetway_protocol::ids::{Digest, Hasher};
use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use fleetway_protocol::machine::{Event, Token};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Place, SlotId};

use super::{Device, Parts};
use crate::golden;
use crate::hardware::{Flash, Start};
use crate::kept::{Kept, Ordeal};
use crate::store::{Part, Region};

/// Bytes that are hashed in one turn: two milliseconds of a small processor.
const HASH_BYTES: u32 = 4096;

/// What is being done.
pub(super) enum Job {
    /// Nothing.
    None,
    /// Erasing these blocks.
    Erase { token: Token, left: Region },
    /// Hashing what is at a place.
    Check(Check),
    /// Running golden vectors.
    Test(Test),
}

/// What a check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// To know.
    Verified,
    /// To run its golden vectors.
    Test,
    /// To serve it.
    Activate,
}

/// A check under way.
pub(super) struct Check {
    token: Token,
    place: Place,
    release: Digest,
    parts: Parts,
    then: Then,
    part: Part,
    at: u32,
    hasher: Hasher,
}

impl Check {
    pub(super) fn new(
        token: Token,
        place: Place,
        release: Digest,
        parts: Parts,
        then: Then,
        part: Part,
    ) -> Self {
        Self { token, place, release, parts, then, part, at: 0, hasher: Hasher::new() }
    }
}

/// A self-test under way.
#[derive(Clone)]
pub(super) struct Test {
    token: Token,
    slot: SlotId,
    parts: Parts,
    next: golden::Place,
}

impl<F: Flash> Device<'_, F> {
    /// Milliseconds that the next [`Device::work`] may take, if that is the model's to say.
    pub fn work_ms_max(&self) -> Option<u32> {
        match &self.job {
            Job::Test(test) => Some(self.machine.table().slot(test.slot).terms.self_test_ms_max),
            _ => None,
        }
    }

    /// One piece of what is being done.
    #[inline(never)]
    pub fn work(&mut self, now_ms: u64) {
        match &self.job {
            Job::None => return,
            Job::Erase { token, left } => self.erase_piece(now_ms, *token, *left),
            Job::Check(_) => self.check_piece(now_ms),
            Job::Test(_) => self.test_piece(now_ms),
        }
        self.drive(now_ms);
    }

    fn erase_piece(&mut self, now_ms: u64, token: Token, left: Region) {
        let len = self.store.layout().block;
        let erased = self.store.erase(Region { at: left.at, len });
        let left = Region { at: left.at + len, len: left.len - len };
        match erased {
            Ok(()) if left.len > 0 => self.job = Job::Erase { token, left },
            done => {
                self.job = Job::None;
                self.machine.handle(now_ms, Event::Done(token, done.map_err(Reason::from)));
            }
        }
    }

    /// Hashes a piece; after the last one, what comes next.
    fn check_piece(&mut self, now_ms: u64) {
        let Some(good) = self.hash_piece() else { return };
        let Job::Check(check) = &mut self.job else { return };
        let &mut Check { token, place, release, then, part, .. } = check;
        if good && part == Part::Golden {
            (check.part, check.at, check.hasher) = (Part::Model, 0, Hasher::new());
            return;
        }
        let parts = check.parts;
        self.job = Job::None;
        match then {
            _ if !good => self.checked(now_ms, token, then, false),
            Then::Verified => self.checked(now_ms, token, then, true),
            Then::Test => self.begin_test(now_ms, token, place, release, parts),
            Then::Activate => self.activate(now_ms, token, place, release, &parts.model),
        }
    }

    /// Whether a part is what was signed; `None` while not all of it was looked at.
    #[inline(never)]
    fn hash_piece(&mut self) -> Option<bool> {
        let Job::Check(check) = &self.job else { return None };
        let artifact = check.parts.artifact(check.part);
        let to = check.at.saturating_add(HASH_BYTES).min(artifact.bytes);
        let bytes = self.artifact(check.place, check.part, artifact);
        let Some(bytes) = bytes.and_then(|bytes| bytes.get(check.at as usize..to as usize)) else {
            return Some(false);
        };
        let mut hasher = check.hasher.clone();
        hasher.update(bytes);
        if to < artifact.bytes {
            if let Job::Check(check) = &mut self.job {
                (check.at, check.hasher) = (to, hasher);
            }
            return None;
        }
        Some(hasher.finish() == artifact.digest)
    }

    #[inline(never)]
    fn begin_test(
        &mut self,
        now_ms: u64,
        token: Token,
        place: Place,
        release: Digest,
        parts: Parts,
    ) {
        let Place::Slot(slot) = place else { return };
        if let Err(reason) = self.note_ordeal(release) {
            return self.tested(now_ms, token, Err(reason));
        }
        let model = self.artifact(place, Part::Model, &parts.model).unwrap_or_default();
        let fits = self.memory.check(model).is_ok();
        let golden = self.artifact(place, Part::Golden, &parts.golden).unwrap_or_default();
        match golden::first(golden) {
            _ if !fits => self.tested(now_ms, token, Err(Reason::LoadFailed)),
            Ok(next) => self.job = Job::Test(Test { token, slot, parts, next }),
            Err(_) => self.tested(now_ms, token, Err(Reason::Golden)),
        }
    }

    /// Makes it durable that this release is about to run for the first time.
    ///
    /// # Errors
    /// Why it must not.
    fn note_ordeal(&mut self, release: Digest) -> Result<(), Reason> {
        let before = self.kept.ordeal.filter(|ordeal| ordeal.release == release);
        let ordeal = match before {
            None => Ordeal::first(release),
            // Given up for a newer order in this boot, and taken up again: nothing happened.
            Some(ordeal) if self.ordeal_here => ordeal,
            Some(_) if self.start == Start::Watchdog => return Err(Reason::SelfTestTimeout),
            Some(Ordeal { tries_left: 0, .. }) => return Err(Reason::SelfTestCrashed),
            Some(ordeal) => Ordeal { tries_left: ordeal.tries_left - 1, ..ordeal },
        };
        const { assert!(TRIAL_TRIES_MAX > 1) };
        self.commit(Kept { ordeal: Some(ordeal), ..self.kept.with(()) })?;
        self.ordeal_here = true;
        Ok(())
    }

    #[inline(never)]
    fn test_piece(&mut self, now_ms: u64) {
        let Job::Test(test) = &self.job else { return };
        let (token, test) = (test.token, test.clone());
        let result = self.run_vector(&test);
        match (result, &mut self.job) {
            (Ok(Some(next)), Job::Test(test)) => test.next = next,
            (result, job) => {
                *job = Job::None;
                self.tested(now_ms, token, result.map(drop));
            }
        }
    }

    /// Runs one vector; where the next one is.
    fn run_vector(&mut self, test: &Test) -> Result<Option<golden::Place>, Reason> {
        let map = self.store.layout().slot(test.slot);
        let bytes = |part| {
            let all = self.store.read(map.part(part));
            all.get(..test.parts.artifact(part).bytes as usize).unwrap_or_default()
        };
        let (set, model) = (bytes(Part::Golden), bytes(Part::Model));
        let memory = &mut self.memory;
        let sizes = memory.check(model).map_err(|_| Reason::LoadFailed)?;
        let (input, want, next) = golden::vector(set, test.next).map_err(|_| Reason::Golden)?;
        input.copy_to(&mut memory.input[..sizes.input]).map_err(|_| Reason::Golden)?;
        memory.run(model).map_err(|_| Reason::LoadFailed)?;
        let agrees = golden::agrees(want, &memory.output[..sizes.output]);
        if agrees { Ok(next) } else { Err(Reason::Golden) }
    }

    /// The self-test came back: the note is taken away before anything follows from it.
    fn tested(&mut self, now_ms: u64, token: Token, result: Result<(), Reason>) {
        let result = match self.commit(Kept { ordeal: None, ..self.kept.with(()) }) {
            Ok(()) => result,
            Err(error) => Err(error.into()),
        };
        self.machine.handle(now_ms, Event::Done(token, result));
    }
}
