//! What the slot machines command, carried out: durable tables, checked bytes, jobs.
//!
//! Before anything is tried or served, the release's signature and every byte are checked
//! again, from the bytes that are then handed on: there is no second read in between.

use std::io;

use fleetway_engine::ModelBytes;
use fleetway_protocol::ids::ModelName;
use fleetway_protocol::machine::{Command, Event, Token};
use fleetway_protocol::manifest::{Manifest, VariantKind};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Place, ReleaseFacts, SlotId};
use fleetway_protocol::trust::{Verified, VerifiedArtifact};

use super::admission::Admitted;
use super::probation::Judged;
use super::{ActivateJob, Device, Now, Output, SelfTestJob};
use crate::fs::Fs;
use crate::store::{Part, disk_reason};

/// What the slot table keeps of a manifest.
pub(super) fn facts(manifest: &Verified<Manifest>, variant: VariantKind) -> ReleaseFacts {
    ReleaseFacts {
        digest: manifest.digest(),
        counter: manifest.get().counter,
        min_release: manifest.get().min_release,
        variant,
        crashes_max: manifest.get().health.policy.crashes_max,
    }
}

/// A release of which every byte was checked against its signature.
pub(super) struct Checked {
    pub(super) manifest: Verified<Manifest>,
    pub(super) variant: VariantKind,
    pub(super) model_bytes: ModelBytes,
    pub(super) golden_bytes: Vec<u8>,
}

impl<F: Fs> Device<F> {
    pub(super) fn execute(&mut self, at: usize, now: Now, command: Command) {
        match command {
            Command::Persist(token) => {
                let model = &mut self.models[at];
                let table = model.machine.table().clone();
                let result = self.store.put_table(&mut model.table, table);
                let result = result.map_err(|error| disk_reason(&error));
                model.machine.handle(now.ms, Event::Persisted(token, result));
            }
            Command::Admit(token) => self.start_admission(at, now, token),
            Command::Erase(token, slot) => {
                let result = match self.store.files(&self.models[at].name, Place::Slot(slot)) {
                    Some(files) => files.erase().map_err(|error| disk_reason(&error)),
                    None => Ok(()),
                };
                self.models[at].machine.handle(now.ms, Event::Done(token, result));
            }
            Command::Fetch(token, slot) => self.start_fetch(at, now, token, slot),
            Command::CancelFetch => self.cancel_fetch(at),
            Command::Verify(token, slot) => {
                let result = self.checked(at, Place::Slot(slot)).map(drop);
                self.models[at].machine.handle(now.ms, Event::Done(token, result));
            }
            Command::SelfTest(token, slot) => self.start_self_test(at, now, token, slot),
            Command::Shadow(token, slot) => self.start_shadow(at, now, token, slot),
            Command::Activate(token, place) => self.start_activation(at, now, token, place),
            Command::Unload(token) => {
                self.out.push_back(Output::Unload(self.models[at].name.clone(), token));
            }
            Command::Halt => self.models[at].halted = true,
        }
    }

    /// The release at `place` and its parts, every byte checked against the signature.
    pub(super) fn checked(&self, at: usize, place: Place) -> Result<Checked, Reason> {
        let model = &self.models[at];
        let release = model.machine.table().release_at(place).ok_or(Reason::Verification)?;
        self.checked_release(&model.name, place, release)
    }

    /// The same for the release that a table, of whatever time, names.
    pub(super) fn checked_release(
        &self,
        model: &ModelName,
        place: Place,
        release: ReleaseFacts,
    ) -> Result<Checked, Reason> {
        let files = self.store.files(model, place).ok_or(Reason::Verification)?;
        let envelope = files.release().ok_or(Reason::Verification)?;
        let keyring = self.keyring_of(&files).ok_or(Reason::Verification)?;
        let manifest = Verified::<Manifest>::recheck(&envelope, &keyring, &release.digest)
            .map_err(|_| Reason::Verification)?;
        if manifest.get().model != *model {
            return Err(Reason::Verification);
        }
        let (golden_bytes, model_bytes) = all_parts_checked(&files, &manifest, release.variant)?;
        Ok(Checked { manifest, variant: release.variant, model_bytes, golden_bytes })
    }

    fn start_self_test(&mut self, at: usize, now: Now, token: Token, slot: SlotId) {
        let model = &self.models[at];
        let terms = model.machine.table().slot(slot).terms;
        match self.checked(at, Place::Slot(slot)) {
            Ok(Checked { manifest, variant, model_bytes, golden_bytes }) => {
                let job = SelfTestJob {
                    model: model.name.clone(),
                    token,
                    manifest,
                    variant,
                    model_bytes,
                    golden_bytes,
                    terms,
                };
                self.out.push_back(Output::SelfTest(Box::new(job)));
            }
            // It was right a moment ago: the disk, not the release. Tried again later.
            Err(_) => {
                let event = Event::Done(token, Err(Reason::DiskError));
                self.models[at].machine.handle(now.ms, event);
            }
        }
    }

    fn start_activation(&mut self, at: usize, now: Now, token: Token, place: Place) {
        match self.checked(at, place) {
            Ok(Checked { manifest, variant, model_bytes, .. }) => {
                let (release, health) = (manifest.digest(), manifest.get().health.clone());
                self.models[at].judged = Some(Judged { release, health });
                let model = self.models[at].name.clone();
                let job = ActivateJob { model, token, place, manifest, variant, model_bytes };
                self.out.push_back(Output::Activate(Box::new(job)));
            }
            Err(_) => {
                let event = Event::Activated(token, Err(Reason::Corrupt));
                self.models[at].machine.handle(now.ms, event);
            }
        }
    }

    fn start_admission(&mut self, at: usize, now: Now, token: Token) {
        self.models[at].pending = None;
        // A release that is on the device already needs no link.
        if !self.admit_held(at, now, token) {
            let goal = self.models[at].machine.goal().map(|goal| goal.release.short());
            if let Some(release) = goal {
                self.fetch_release(at, now, token, release);
            }
        }
    }

    pub(super) fn admitted(&mut self, at: usize, now: Now, token: Token, admitted: Admitted) {
        let model = &mut self.models[at];
        let facts = facts(&admitted.manifest, admitted.variant);
        model.admitted = Some(admitted);
        model.machine.handle(now.ms, Event::Admitted(token, Ok(facts)));
    }

    /// The artifact of the admitted release that `part` names.
    pub(super) fn artifact(
        &self,
        at: usize,
        part: Part,
    ) -> Option<fleetway_protocol::manifest::Artifact> {
        let admitted = self.models[at].admitted.as_ref()?;
        part.artifact(admitted.manifest.get(), admitted.variant)
    }
}

/// The bytes of golden vectors and model, exactly what the manifest names.
fn all_parts_checked(
    files: &crate::store::SlotFiles<'_, impl Fs>,
    manifest: &Verified<Manifest>,
    variant: VariantKind,
) -> Result<(Vec<u8>, ModelBytes), Reason> {
    let check = |part: Part, bytes: &[u8]| {
        let pick = |m: &Manifest| part.artifact(m, variant);
        VerifiedArtifact::check(bytes, manifest, pick).map(drop).map_err(|_| Reason::Verification)
    };
    let failed = |error: io::Error| match error.kind() {
        // Gone is as wrong as altered: both are fetched again.
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData => Reason::Verification,
        _ => Reason::DiskError,
    };
    let golden = files.read(Part::Golden).map_err(failed)?;
    check(Part::Golden, &golden)?;
    let model = files.model().map_err(failed)?;
    check(Part::Model, &model)?;
    Ok((golden, model))
}
