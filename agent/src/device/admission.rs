//! Whether a release that is signed and ordered may be installed: the release authority has to
//! list exactly it, under metadata that has not expired.
//!
//! Order, release and metadata travel apart, so a release that is not listed yet waits, with its
//! reason in every report, for [`TRUST_WAIT_MS`] of link. Then the order ends with that reason.
//! What was confirmed on this device before needs no list: it only goes back to what it had.

use fleetway_protocol::envelope::Envelope;
use fleetway_protocol::keyset::Keyset;
use fleetway_protocol::machine::{Event, Phase, Token};
use fleetway_protocol::manifest::{Manifest, VariantKind};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Place, SlotState};
use fleetway_protocol::trust::{Keyring, Verified};
use fleetway_tuf::client::{Release, TrustError};

use super::refused::release_check;
use super::trust::{ASK_MS, ASK_MS_MAX};
use super::{Device, Model, Now};
use crate::fs::Fs;
use crate::store::{SlotFiles, disk_reason};

/// How long a release waits until the release authority lists it, milliseconds with a link. A
/// timestamp is re-signed every few hours, but publishing takes seconds: ten minutes are a
/// controller that restarts, not one that has nothing to say.
const TRUST_WAIT_MS: u64 = 600_000;

/// A release that has arrived and may not be installed yet.
pub(super) struct Pending {
    token: Token,
    bytes: Vec<u8>,
    since_ms: u64,
    ask_at_ms: u64,
    pause_ms: u64,
    why: Option<Reason>,
}

/// A release that may be installed.
pub(super) struct Admitted {
    pub(super) manifest: Verified<Manifest>,
    /// The form of it that this device runs.
    pub(super) variant: VariantKind,
    /// The signed manifest, exact bytes.
    pub(super) release: Vec<u8>,
    /// The keyset under which it was admitted, exact bytes.
    pub(super) keyset: Vec<u8>,
}

impl Model {
    /// What its release waits for.
    pub(super) fn waits_for_trust(&self) -> Option<Reason> {
        self.pending.as_ref()?.why
    }
}

fn reason(error: &TrustError) -> Reason {
    match error {
        TrustError::NotATarget(_) => Reason::NotReleased,
        TrustError::Expired { .. } => Reason::MetadataExpired,
        TrustError::Disk(error) => disk_reason(error),
        _ => Reason::MetadataMissing,
    }
}

impl<F: Fs> Device<F> {
    /// The keyring for bytes at a place: that of the keyset under which they were admitted. It
    /// is kept beside them, so that a rotation never takes away what runs.
    pub(super) fn keyring_of(&self, files: &SlotFiles<'_, F>) -> Option<Keyring> {
        let Some(bytes) = files.keyset() else { return self.trust.keyring().cloned() };
        let envelope = Envelope::decode(&bytes).ok()?;
        let digest = fleetway_protocol::ids::Digest::of(envelope.payload_unchecked());
        Some(Keyring::of(&Verified::<Keyset>::recheck(&bytes, &digest).ok()?))
    }

    /// A confirmed release that is on the device is taken as it was admitted.
    pub(super) fn admit_held(&mut self, at: usize, now: Now, token: Token) -> bool {
        let model = &self.models[at];
        let Some(goal) = model.machine.goal().cloned() else { return true };
        let table = model.machine.table();
        let held = fleetway_protocol::slot::SlotId::BOTH.into_iter().find_map(|slot| {
            let entry = table.slot(slot);
            entry.release.filter(|release| release.digest == goal.release)?;
            let files = self.store.files(&model.name, Place::Slot(slot))?;
            let release = files.release()?;
            let keyring = self.keyring_of(&files)?;
            let floor = table.version_floor;
            let target = self.config.target();
            let (manifest, variant) =
                Verified::<Manifest>::admit(&release, &keyring, &goal, floor, target).ok()?;
            let keyset = files.keyset().unwrap_or_default();
            Some((entry.state, Admitted { manifest, variant, release, keyset }))
        });
        match held {
            None => false,
            Some((SlotState::Confirmed, admitted)) => {
                self.admitted(at, now, token, admitted);
                true
            }
            Some((_, Admitted { release, .. })) => {
                self.seek_admission(at, now, token, release);
                true
            }
        }
    }

    /// A signed release is here: admits it, or lets it wait.
    pub(super) fn seek_admission(&mut self, at: usize, now: Now, token: Token, bytes: Vec<u8>) {
        let (since_ms, ask_at_ms) = (now.ms, now.ms + ASK_MS);
        let pending =
            Pending { token, bytes, since_ms, ask_at_ms, pause_ms: 2 * ASK_MS, why: None };
        self.models[at].pending = Some(pending);
        self.try_admission(at, now);
    }

    /// After something changed about what is believed.
    pub(super) fn try_admissions(&mut self, now: Now) {
        for at in 0..self.models.len() {
            self.try_admission(at, now);
        }
    }

    fn try_admission(&mut self, at: usize, now: Now) {
        let now_s = self.now_s(now);
        let model = &mut self.models[at];
        let Some(pending) = model.pending.take() else { return };
        let Some(goal) =
            model.machine.goal().filter(|_| model.machine.phase() == Phase::Eligibility)
        else {
            return; // a newer order took its place
        };
        let floor = model.machine.table().version_floor;
        let target = self.config.target();
        let Some(keyring) = self.trust.keyring() else {
            return self.wait(at, now, pending, Reason::MetadataMissing);
        };
        let (manifest, variant) =
            match Verified::<Manifest>::admit(&pending.bytes, keyring, goal, floor, target) {
                Ok(admitted) => admitted,
                Err(error) => {
                    self.refused.count(release_check(&error));
                    let event = Event::Admitted(pending.token, Err(error.into()));
                    return self.models[at].machine.handle(now.ms, event);
                }
            };
        let payload = Envelope::decode(&pending.bytes).map_or(0, |e| e.payload_unchecked().len());
        let release = Release {
            model: &manifest.get().model,
            version: &manifest.get().version,
            counter: manifest.get().counter,
            digest: manifest.digest(),
            length: payload as u64,
        };
        match self.trust.authorize(&mut self.store, &release, now_s) {
            Ok(()) => {
                let keyset = self.trust.keyset().to_vec();
                let release = pending.bytes;
                let admitted = Admitted { manifest, variant, release, keyset };
                self.admitted(at, now, pending.token, admitted);
            }
            Err(error) => {
                let why = reason(&error);
                if pending.why != Some(why) {
                    self.refused.count(error.check());
                    tracing::warn!(model = %self.models[at].name, "{error}");
                }
                if let Some(file) = super::trust::needed(&error) {
                    self.want_trust(now, Some(file));
                }
                self.wait(at, now, pending, why);
            }
        }
    }

    fn wait(&mut self, at: usize, now: Now, pending: Pending, why: Reason) {
        let model = &mut self.models[at];
        if why.is_transient() || self.up && now.ms >= pending.since_ms + TRUST_WAIT_MS {
            return model.machine.handle(now.ms, Event::Admitted(pending.token, Err(why)));
        }
        model.pending = Some(Pending { why: Some(why), ..pending });
    }

    /// The waits begin anew with a link: without one nothing could have come.
    pub(super) fn admissions_up(&mut self, now: Now) {
        for pending in self.models.iter_mut().filter_map(|model| model.pending.as_mut()) {
            pending.since_ms = now.ms;
        }
    }

    /// When a waiting release is looked after, milliseconds.
    pub(super) fn admission_due_ms(&self, model: &Model) -> Option<u64> {
        let pending = model.pending.as_ref().filter(|_| self.up)?;
        Some(pending.ask_at_ms.min(pending.since_ms + TRUST_WAIT_MS))
    }

    /// Looks for something newer while a release waits, and ends the wait when it was long enough.
    pub(super) fn watch_admission(&mut self, at: usize, now: Now) {
        if self.admission_due_ms(&self.models[at]).is_none_or(|due_ms| now.ms < due_ms) {
            return;
        }
        if let Some(pending) = &mut self.models[at].pending
            && now.ms >= pending.ask_at_ms
        {
            pending.ask_at_ms = now.ms + pending.pause_ms;
            pending.pause_ms = (2 * pending.pause_ms).min(ASK_MS_MAX);
            self.late.add("trust file", 1);
            self.ask_for_timestamp();
        }
        self.try_admission(at, now);
    }
}
