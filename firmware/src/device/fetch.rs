//! How a release comes onto the device: its signed manifest, to be admitted; once the slot is
//! erased the manifest again, to be kept (so that nobody has to hold it in memory meanwhile);
//! then for golden vectors and model the chunk list and the chunks. Each is checked before a
//! byte is written, and read back after that.
//!
//! What is written is written from left to right. If power fails, the next boot finds how far it
//! came by what hashes right, and leaves out what the power can have been cut in
//! ([`crate::store::Store::clear_doubt`]): no bitmap is stored, and no cell is believed because
//! it reads well once.

use fleetway_protocol::ids::{Digest, ShortDigest};
use fleetway_protocol::machine::{Event, Token};
use fleetway_protocol::manifest::{Artifact, ManifestView, VariantKind};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::Progress;
use fleetway_protocol::slot::{Place, ReleaseFacts, SlotId, SlotState};
use fleetway_protocol::topics::Piece;
use fleetway_protocol::transfer::{Ask, Bitmap, Config, Event as Arrival, Transfer};
use fleetway_protocol::trust::{KeyringView, ReleaseError, Target, Verified};

use super::{Device, Parts, facts};
use crate::hardware::Flash;
use crate::store::{Part, StoreError};

/// Chunks asked for at once. They are taken in order, and there is room for one.
const WINDOW_CHUNKS: u8 = 1;
/// Wrong manifests under one digest until the order is given up as untrusted: a gateway that
/// feeds rubbish can only deny, and a new order tries again.
const BAD_RELEASES_MAX: u32 = 4;

/// What is being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The manifest, to be admitted.
    Admission,
    /// The manifest, to be kept in the slot.
    Release,
    /// The chunk list of a part.
    List(Part),
    /// The chunks of a part.
    Chunks(Part),
}

/// A download under way.
pub(super) struct Fetch {
    token: Token,
    stage: Stage,
    slot: SlotId,
    release: Digest,
    /// What is to be in the slot, once the release is there.
    parts: Option<Parts>,
    of: ShortDigest,
    transfer: Transfer,
    /// Chunks before this one are there: the only one that is taken is this one.
    next: u32,
    bad: u32,
}

/// The part whose digests a list holds.
fn list_of(part: Part) -> Part {
    match part {
        Part::Golden => Part::GoldenList,
        _ => Part::ModelList,
    }
}

impl Fetch {
    fn piece(&self, n: u32) -> Piece {
        match self.stage {
            Stage::Admission | Stage::Release => Piece::Release,
            Stage::List(_) => Piece::ChunkList,
            Stage::Chunks(_) => Piece::Chunk(n),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        match self.stage {
            Stage::Chunks(Part::Model) => self.transfer.progress(),
            _ => Progress::default(),
        }
    }
}

/// The wire is the device's own, so that there is nobody to be out of step with.
fn config() -> Config {
    Config { window_chunks: WINDOW_CHUNKS, bytes_per_s: 0, seed: 0 }
}

impl<F: Flash> Device<'_, F> {
    pub(super) fn fetch_admission(&mut self, now_ms: u64, token: Token, release: Digest) {
        self.begin_fetch(now_ms, token, Stage::Admission, SlotId::A, release);
    }

    #[inline(never)]
    fn begin_fetch(
        &mut self,
        now_ms: u64,
        token: Token,
        stage: Stage,
        slot: SlotId,
        release: Digest,
    ) {
        let transfer = Transfer::single(config(), now_ms, self.broker);
        let of = release.short();
        self.fetch =
            Some(Fetch { token, stage, slot, release, parts: None, of, transfer, next: 0, bad: 0 });
    }

    /// Fills a slot whose erasure is durable, or goes on filling it.
    #[inline(never)]
    pub(super) fn fetch_slot(&mut self, now_ms: u64, token: Token, slot: SlotId) {
        let release = self.machine.table().slot(slot).release.map(|release| release.digest);
        let cleared = self.store.clear_doubt(slot).map_err(Reason::from);
        match (cleared, release) {
            (Ok(()), Some(release)) => {
                self.begin_fetch(now_ms, token, Stage::Release, slot, release);
                self.next_stage(now_ms);
            }
            (cleared, _) => {
                let reason = cleared.err().unwrap_or(Reason::DiskError);
                self.machine.handle(now_ms, Event::Done(token, Err(reason)));
            }
        }
    }

    pub(super) fn handle_broker(&mut self, now_ms: u64, there: bool) {
        self.broker = there;
        self.each_transfer(now_ms, if there { Arrival::Up } else { Arrival::Down });
    }

    pub(super) fn tick_fetch(&mut self, now_ms: u64) {
        self.each_transfer(now_ms, Arrival::Tick);
    }

    fn each_transfer(&mut self, now_ms: u64, event: Arrival) {
        if let Some(fetch) = &mut self.fetch {
            fetch.transfer.handle(now_ms, event);
        }
    }

    /// The download is over, or given up.
    pub(super) fn end_fetch(&mut self) -> Option<Token> {
        self.leave();
        let token = self.fetch.as_ref().map(|fetch| fetch.token);
        self.fetch = None;
        token
    }

    /// What the transfer is subscribed to is not wanted any more: a gateway bears few
    /// subscriptions, and whoever leaves none behind is refused the next.
    fn leave(&mut self) {
        let Some(fetch) = &self.fetch else { return };
        for n in fetch.transfer.subscribed() {
            self.said.leave(fetch.of, fetch.piece(n));
        }
    }

    /// What is to be asked for now, and of what.
    pub(super) fn ask(&mut self, now_ms: u64) -> Option<(ShortDigest, Piece, Ask)> {
        let fetch = self.fetch.as_mut()?;
        let ask = fetch.transfer.poll(now_ms)?;
        let (Ask::Subscribe(n) | Ask::Unsubscribe(n) | Ask::Want(n)) = ask;
        Some((fetch.of, fetch.piece(n), ask))
    }

    pub(super) fn handle_piece(
        &mut self,
        now_ms: u64,
        of: ShortDigest,
        piece: Piece,
        bytes: &[u8],
    ) {
        let Some(fetch) = self.fetch.as_ref().filter(|fetch| fetch.of == of) else { return };
        match (fetch.stage, piece) {
            (Stage::Admission, Piece::Release) => self.admit_release(now_ms, bytes),
            (Stage::Release, Piece::Release) => self.keep_release(now_ms, bytes),
            (Stage::List(part), Piece::ChunkList) => self.keep_list(now_ms, part, bytes),
            (Stage::Chunks(part), Piece::Chunk(n)) if n == fetch.next => {
                self.keep_chunk(now_ms, part, n, bytes);
            }
            _ => {}
        }
    }

    /// The release authority's signature, exactly what the director ordered, for this hardware,
    /// not below the floor, and no larger than a slot: all before the first erase.
    #[inline(never)]
    fn admit_release(&mut self, now_ms: u64, bytes: &[u8]) {
        let (Some(keyset), Some(goal)) = (self.keyset(), self.machine.goal()) else { return };
        let (keyring, floor) = (KeyringView::of(&keyset), self.kept.table.version_floor);
        let admit = Verified::<ManifestView<'_>>::admit;
        let admitted = admit(bytes, keyring, goal, floor, self.target());
        let result = match admitted {
            Ok((release, _)) => match Parts::of(release.get()) {
                Some(parts) if self.fits(&parts) => Ok(facts(&release)),
                _ => Err(Reason::NoVariant),
            },
            // Anybody can send other bytes under this name.
            Err(ReleaseError::Digest { .. } | ReleaseError::Open(_) | ReleaseError::Decode(_))
                if self.is_bad(now_ms, 0) =>
            {
                return;
            }
            Err(error) => Err(error.into()),
        };
        let Some(token) = self.end_fetch() else { return };
        self.machine.handle(now_ms, Event::Admitted(token, result));
    }

    /// Notes wrong bytes, to be asked for again; `false` once they came too often.
    fn is_bad(&mut self, now_ms: u64, n: u32) -> bool {
        let Some(fetch) = &mut self.fetch else { return false };
        fetch.bad += 1;
        fetch.transfer.handle(now_ms, Arrival::Bad(n));
        fetch.bad < BAD_RELEASES_MAX
    }

    #[inline(never)]
    fn keep_release(&mut self, now_ms: u64, bytes: &[u8]) {
        let Some((slot, release)) = self.fetch.as_ref().map(|f| (f.slot, f.release)) else {
            return;
        };
        let Some(keyset) = self.keyset() else { return };
        if Verified::<ManifestView<'_>>::recheck(bytes, KeyringView::of(&keyset), &release).is_err()
        {
            self.is_bad(now_ms, 0);
            return;
        }
        let map = *self.store.layout().slot(slot);
        let (at, keyset_at) = (map.part(Part::Release), map.part(Part::Keyset));
        let kept = self.store.clear_from(slot, at.at).and_then(|()| {
            self.store.put_paper(at, bytes)?;
            match self.keyset_place() {
                Some(place) => self.store.copy_paper(place, keyset_at),
                None => self.store.put_paper(keyset_at, self.provision.keyset),
            }
        });
        self.go_on(now_ms, kept);
    }

    #[inline(never)]
    fn keep_list(&mut self, now_ms: u64, part: Part, bytes: &[u8]) {
        let Some((slot, parts)) = self.fetch_parts() else { return };
        let artifact = parts.artifact(part);
        if Digest::of(bytes) != artifact.chunk_list {
            self.is_bad(now_ms, 0);
            return;
        }
        let list = self.store.layout().slot(slot).part(list_of(part));
        let blank = self.store.clear_from(slot, list.at);
        let kept = blank.and_then(|()| self.store.program(list.at, bytes));
        self.go_on(now_ms, kept);
    }

    #[inline(never)]
    fn keep_chunk(&mut self, now_ms: u64, part: Part, n: u32, bytes: &[u8]) {
        let Some((slot, parts)) = self.fetch_parts() else { return };
        let artifact = *parts.artifact(part);
        let good = artifact.chunk_len(n) == Some(bytes.len() as u32)
            && self.listed(slot, part, n) == Some(Digest::of(bytes));
        if !good {
            self.is_bad(now_ms, n);
            return;
        }
        let room = self.store.layout().slot(slot).part(part);
        let written = self.store.program(room.at + n * artifact.chunk_bytes, bytes);
        let Some(fetch) = &mut self.fetch else { return };
        if written.is_ok() {
            fetch.transfer.handle(now_ms, Arrival::Stored(n));
            fetch.next += 1;
        }
        if written.is_err() || fetch.transfer.is_complete() {
            self.go_on(now_ms, written);
        }
    }

    /// The next thing to fetch; or the end, if writing failed.
    fn go_on(&mut self, now_ms: u64, written: Result<(), StoreError>) {
        match written {
            Ok(()) => self.next_stage(now_ms),
            Err(error) => {
                let Some(token) = self.end_fetch() else { return };
                self.machine.handle(now_ms, Event::Done(token, Err(error.into())));
            }
        }
    }

    /// Goes on with the first thing that is not there; ends the fetch after the last.
    #[inline(never)]
    fn next_stage(&mut self, now_ms: u64) {
        let Some((slot, parts)) = self.fetch_parts() else {
            return; // the release itself comes first
        };
        for part in [Part::Golden, Part::Model] {
            let artifact = *parts.artifact(part);
            let there = match self.list(slot, part, &artifact) {
                None => None,
                Some(_) => match self.whole_chunks(slot, part, &artifact) {
                    Ok(there) if there == artifact.chunk_count() => continue,
                    Ok(there) => Some(there),
                    Err(error) => return self.go_on(now_ms, Err(error)),
                },
            };
            return self.fetch_part(now_ms, part, &artifact, there);
        }
        let Some(token) = self.end_fetch() else { return };
        self.machine.handle(now_ms, Event::Done(token, Ok(())));
    }

    /// Begins with a part's list, or with its chunks behind those that are there.
    #[inline(never)]
    fn fetch_part(&mut self, now_ms: u64, part: Part, artifact: &Artifact, there: Option<u32>) {
        let up = self.broker;
        self.leave();
        let Some(fetch) = &mut self.fetch else { return };
        fetch.of = artifact.digest.short();
        match there {
            None => {
                fetch.stage = Stage::List(part);
                fetch.transfer = Transfer::single(config(), now_ms, up);
            }
            Some(there) => {
                let mut have = Bitmap::default();
                (0..there).for_each(|n| have.set(n));
                fetch.stage = Stage::Chunks(part);
                fetch.next = there;
                fetch.transfer = Transfer::new(artifact, have, config(), now_ms, up);
            }
        }
    }

    /// The slot being filled, and what is to be in it by the release that is kept there.
    fn fetch_parts(&mut self) -> Option<(SlotId, Parts)> {
        let fetch = self.fetch.as_ref()?;
        let slot = fetch.slot;
        if let Some(parts) = fetch.parts {
            return Some((slot, parts));
        }
        let release = self.release_at(Place::Slot(slot), Some(&fetch.release))?;
        let parts = Parts::of(release.get())?;
        self.fetch.as_mut()?.parts = Some(parts);
        Some((slot, parts))
    }

    /// The chunk list of a part, if it is there and right.
    fn list(&self, slot: SlotId, part: Part, artifact: &Artifact) -> Option<&[u8]> {
        let bytes = self.part(Place::Slot(slot), list_of(part))?;
        let bytes = bytes.get(..artifact.chunk_list_bytes() as usize)?;
        (Digest::of(bytes) == artifact.chunk_list).then_some(bytes)
    }

    /// The digest that chunk `n` must have.
    fn listed(&self, slot: SlotId, part: Part, n: u32) -> Option<Digest> {
        let list = self.part(Place::Slot(slot), list_of(part))?;
        Some(Digest(*list.as_chunks::<32>().0.get(n as usize)?))
    }

    /// How many chunks are there, from the first on. What is behind them is erased, so that the
    /// next one meets blank cells.
    fn whole_chunks(
        &mut self,
        slot: SlotId,
        part: Part,
        artifact: &Artifact,
    ) -> Result<u32, StoreError> {
        let room = self.store.layout().slot(slot).part(part);
        let block = self.store.layout().block;
        let is_there = |n: &u32| {
            let at = (n * artifact.chunk_bytes) as usize;
            let len = artifact.chunk_len(*n).unwrap_or(0) as usize;
            let bytes = self.store.read(room).get(at..at + len);
            bytes.map(Digest::of) == self.listed(slot, part, *n)
        };
        let there = (0..artifact.chunk_count()).take_while(is_there).count() as u32;
        if there == artifact.chunk_count() {
            return Ok(there);
        }
        let from = there * artifact.chunk_bytes / block * block;
        self.store.clear_from(slot, room.at + from)?;
        Ok(from / artifact.chunk_bytes)
    }

    /// A release that is on the device already, for the machine's goal, by the keyset that says
    /// so: for one that was confirmed here the one it was admitted under, else the newest.
    #[inline(never)]
    pub(super) fn held(&self) -> Option<Result<ReleaseFacts, Reason>> {
        let goal = self.machine.goal()?;
        let slot = SlotId::BOTH.into_iter().find(|slot| {
            self.machine.table().slot(*slot).release.is_some_and(|r| r.digest == goal.release)
        })?;
        let place = Place::Slot(slot);
        let bytes = self.part(place, Part::Release)?;
        self.release_at(place, Some(&goal.release))?;
        let confirmed = self.machine.table().slot(slot).holds(&goal.release)
            && self.kept.table.slot(slot).state == SlotState::Confirmed;
        let keyring = match confirmed {
            true => self.keyring_at(place)?,
            false => KeyringView::of(&self.keyset()?),
        };
        let (admit, floor) = (Verified::<ManifestView<'_>>::admit, self.kept.table.version_floor);
        let admitted = admit(bytes, keyring, goal, floor, self.target());
        Some(admitted.map(|(release, _)| facts(&release)).map_err(Reason::from))
    }

    /// What this device is: there is one form that it runs.
    fn target(&self) -> Target<'_> {
        Target { hardware: Some(&self.provision.hardware), forms: &[VariantKind::Qnn] }
    }
}
