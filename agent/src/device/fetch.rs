//! How a release gets onto the device: its signed manifest, then for the golden vectors and
//! for the model the chunk list and the chunks. Each is checked before a byte is written:
//! the manifest by signature and digest, a list by the digest in the manifest, a chunk by
//! the digest in the list. What is asked for when is `fleetway_protocol::transfer`'s.

use fleetway_protocol::ids::{Digest, ShortDigest};
use fleetway_protocol::limits::WANT_PIECES_MAX;
use fleetway_protocol::machine::{Event, Token};
use fleetway_protocol::manifest::{Artifact, Manifest};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::{Block, Progress, Stamp, Want};
use fleetway_protocol::slot::{Place, SlotId};
use fleetway_protocol::topics::{Piece, Topic};
use fleetway_protocol::transfer::{Ask, Event as Arrival, Transfer};
use fleetway_protocol::trust::{ReleaseError, Verified};

use super::refused::release_check;
use super::{Device, Now, Output};
use crate::fs::Fs;
use crate::store::{Part, disk_reason};

/// Wrong manifests under one digest until the order is given up as untrusted. Both sources
/// get two tries; a broker that feeds rubbish can only deny, and a new order tries again.
const BAD_RELEASES_MAX: u32 = 4;
/// Bytes written until they are made durable: what a power cut costs at most.
const SYNC_BYTES: u32 = 1 << 20;

/// What is being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Release,
    List(Part),
    Chunks(Part),
}

/// A download under way.
pub(super) struct Fetch {
    token: Token,
    stage: Stage,
    slot: Option<SlotId>,
    of: ShortDigest,
    pub(super) transfer: Transfer,
    /// The checked chunk list of the part being fetched.
    list: Vec<u8>,
    done: [bool; 2],
    bad: u32,
    unsynced_bytes: u32,
}

impl Fetch {
    fn piece(&self, n: u32) -> Piece {
        match self.stage {
            Stage::Release => Piece::Release,
            Stage::List(_) => Piece::ChunkList,
            Stage::Chunks(_) => Piece::Chunk(n),
        }
    }

    /// Number of `piece` in the transfer, if it is one of this fetch.
    fn index(&self, of: ShortDigest, piece: Piece) -> Option<u32> {
        let n = match (self.stage, piece) {
            (Stage::Release, Piece::Release) | (Stage::List(_), Piece::ChunkList) => 0,
            (Stage::Chunks(_), Piece::Chunk(n)) => n,
            _ => return None,
        };
        (self.of == of && self.transfer.wants(n)).then_some(n)
    }

    /// Progress in the model's chunks, which are nearly all of the bytes.
    pub(super) fn progress(&self) -> Progress {
        match self.stage {
            Stage::Chunks(Part::Model) => self.transfer.progress(),
            _ => Progress::default(),
        }
    }
}

impl<F: Fs> Device<F> {
    fn begin_stage(&mut self, at: usize, now: Now, stage: Stage, of: ShortDigest, token: Token) {
        let transfer = Transfer::single(self.config.transfer, now.ms, self.up);
        self.models[at].fetch = Some(Fetch {
            token,
            stage,
            slot: None,
            of,
            transfer,
            list: Vec::new(),
            done: [false; 2],
            bad: 0,
            unsynced_bytes: 0,
        });
    }

    pub(super) fn fetch_release(&mut self, at: usize, now: Now, token: Token, of: ShortDigest) {
        self.cancel_fetch(at);
        self.begin_stage(at, now, Stage::Release, of, token);
    }

    pub(super) fn start_fetch(&mut self, at: usize, now: Now, token: Token, slot: SlotId) {
        self.cancel_fetch(at);
        let model = &self.models[at];
        let kept = match (&model.admitted, self.store.files(&model.name, Place::Slot(slot))) {
            (Some(admitted), Some(files)) => files
                .put_release(&admitted.release, &admitted.keyset)
                .map_err(|error| disk_reason(&error)),
            _ => Err(Reason::DiskError),
        };
        if let Err(reason) = kept {
            return self.models[at].machine.handle(now.ms, Event::Done(token, Err(reason)));
        }
        let of = ShortDigest([0; 16]);
        self.begin_stage(at, now, Stage::List(Part::Golden), of, token);
        if let Some(fetch) = &mut self.models[at].fetch {
            fetch.slot = Some(slot);
        }
        self.next_stage(at, now);
    }

    /// Goes on with the first part that is not complete; ends the fetch after the last.
    fn next_stage(&mut self, at: usize, now: Now) {
        for part in Part::ALL {
            let Some(artifact) = self.artifact(at, part) else { return };
            let model = &mut self.models[at];
            let Some(fetch) = model.fetch.as_mut().filter(|f| !f.done[part as usize]) else {
                continue;
            };
            let Some(slot) = fetch.slot else { return };
            let Some(files) = self.store.files(&model.name, Place::Slot(slot)) else { return };
            let (config, up) = (self.config.transfer, self.up);
            fetch.of = artifact.digest.short();
            let Some(list) = files.chunk_list(part, &artifact) else {
                fetch.stage = Stage::List(part);
                fetch.transfer = Transfer::single(config, now.ms, up);
                return;
            };
            let there = files.chunks_there(part, &artifact, &list);
            fetch.stage = Stage::Chunks(part);
            fetch.list = list;
            fetch.transfer = Transfer::new(&artifact, there, config, now.ms, up);
            if !fetch.transfer.is_complete() {
                return;
            }
            if !self.finish_part(at, now, part) {
                return;
            }
        }
        if let Some(fetch) = self.models[at].fetch.take() {
            self.models[at].machine.handle(now.ms, Event::Done(fetch.token, Ok(())));
        }
    }

    /// Makes a complete part durable; `false` if the disk would not.
    fn finish_part(&mut self, at: usize, now: Now, part: Part) -> bool {
        let model = &mut self.models[at];
        let Some(fetch) = &mut model.fetch else { return false };
        let slot = fetch.slot.unwrap_or(SlotId::A);
        let result = match self.store.files(&model.name, Place::Slot(slot)) {
            Some(files) => files.sync(part),
            None => Ok(()),
        };
        fetch.done[part as usize] = result.is_ok();
        match result {
            Ok(()) => true,
            Err(error) => {
                self.fail_fetch(at, now, disk_reason(&error));
                false
            }
        }
    }

    fn fail_fetch(&mut self, at: usize, now: Now, reason: Reason) {
        let token = self.models[at].fetch.as_ref().map(|f| f.token);
        self.cancel_fetch(at);
        if let Some(token) = token {
            self.models[at].machine.handle(now.ms, Event::Done(token, Err(reason)));
        }
    }

    pub(super) fn cancel_fetch(&mut self, at: usize) {
        let Some(fetch) = self.models[at].fetch.take() else { return };
        for n in fetch.transfer.subscribed() {
            let topic = self.blob_topic(fetch.of, fetch.piece(n));
            self.out.push_back(Output::Unsubscribe(topic));
        }
    }

    /// Asks for whatever is due.
    pub(super) fn drive_fetch(&mut self, at: usize, now: Now) {
        let mut want: Option<Want> = None;
        while let Some(fetch) = &mut self.models[at].fetch {
            let Some(ask) = fetch.transfer.poll(now.ms) else { break };
            let of = fetch.of;
            match ask {
                Ask::Subscribe(n) => {
                    let topic = Topic::Blob(of, fetch.piece(n)).text(&self.config.root);
                    self.out.push_back(Output::Subscribe(topic.as_str().to_owned()));
                }
                Ask::Unsubscribe(n) => {
                    let topic = Topic::Blob(of, fetch.piece(n)).text(&self.config.root);
                    self.out.push_back(Output::Unsubscribe(topic.as_str().to_owned()));
                }
                Ask::Want(n) => {
                    let piece = fetch.piece(n);
                    let want = want.get_or_insert_with(|| Want {
                        stamp: Stamp::default(),
                        of,
                        pieces: heapless::Vec::new(),
                    });
                    // The window is at most WANT_PIECES_MAX, so each ask has its place.
                    const { assert!(fleetway_protocol::limits::WINDOW_CHUNKS_MAX <= WANT_PIECES_MAX) };
                    let _ = want.pieces.push(piece);
                }
            }
        }
        if let Some(mut want) = want {
            want.stamp = self.stamp();
            let topic = Topic::Want(self.config.id.clone());
            self.publish(topic, super::reports::encode(&want), true, false);
        }
    }

    pub(super) fn handle_block(&mut self, now: Now, payload: &[u8]) {
        match Block::decode(payload) {
            Ok(Block { of, piece, bytes }) => self.handle_piece(now, of, piece, bytes),
            Err(_) => self.refused.count("block decode"),
        }
    }

    pub(super) fn handle_piece(&mut self, now: Now, of: ShortDigest, piece: Piece, bytes: &[u8]) {
        for at in 0..self.models.len() {
            let Some(fetch) = &self.models[at].fetch else { continue };
            let Some(n) = fetch.index(of, piece) else { continue };
            match fetch.stage {
                Stage::Release => self.take_release(at, now, bytes),
                Stage::List(part) => self.take_list(at, now, part, bytes),
                Stage::Chunks(part) => self.take_chunk(at, now, part, n, bytes),
            }
        }
    }

    fn take_release(&mut self, at: usize, now: Now, bytes: &[u8]) {
        let model = &mut self.models[at];
        let (Some(fetch), Some(goal)) = (&mut model.fetch, model.machine.goal()) else { return };
        let token = fetch.token;
        let floor = model.machine.table().version_floor;
        let Some(keyring) = self.trust.keyring() else { return };
        let target = self.config.target();
        match Verified::<Manifest>::admit(bytes, keyring, goal, floor, target) {
            Ok(_) => {
                self.end_single(at, now);
                self.models[at].fetch = None;
                self.seek_admission(at, now, token, bytes.to_vec());
            }
            Err(error @ (ReleaseError::Open(_) | ReleaseError::Digest { .. }))
                if fetch.bad + 1 < BAD_RELEASES_MAX =>
            {
                fetch.bad += 1;
                fetch.transfer.handle(now.ms, Arrival::Bad(0));
                self.refused.count(release_check(&error));
            }
            Err(error) => {
                self.refused.count(release_check(&error));
                self.cancel_fetch(at);
                let event = Event::Admitted(token, Err(Reason::from(error)));
                self.models[at].machine.handle(now.ms, event);
            }
        }
    }

    fn take_list(&mut self, at: usize, now: Now, part: Part, bytes: &[u8]) {
        let Some(artifact) = self.artifact(at, part) else { return };
        let right = bytes.len() == artifact.chunk_list_bytes() as usize
            && Digest::of(bytes) == artifact.chunk_list;
        if !right {
            return self.reject_piece(at, now, 0, "chunk list digest");
        }
        let model = &self.models[at];
        let slot = model.fetch.as_ref().and_then(|f| f.slot).unwrap_or(SlotId::A);
        let Some(files) = self.store.files(&model.name, Place::Slot(slot)) else { return };
        if let Err(error) = files.put_chunk_list(part, bytes) {
            return self.fail_fetch(at, now, disk_reason(&error));
        }
        self.end_single(at, now);
        self.next_stage(at, now);
    }

    /// A single piece arrived: leave its subscription.
    fn end_single(&mut self, at: usize, now: Now) {
        if let Some(fetch) = &mut self.models[at].fetch {
            fetch.transfer.handle(now.ms, Arrival::Stored(0));
        }
        self.drive_fetch(at, now);
    }

    fn take_chunk(&mut self, at: usize, now: Now, part: Part, n: u32, bytes: &[u8]) {
        let Some(artifact) = self.artifact(at, part) else { return };
        let model = &mut self.models[at];
        let Some(fetch) = &mut model.fetch else { return };
        if !chunk_is_right(&artifact, &fetch.list, n, bytes) {
            return self.reject_piece(at, now, n, "chunk digest");
        }
        let slot = fetch.slot.unwrap_or(SlotId::A);
        let Some(files) = self.store.files(&model.name, Place::Slot(slot)) else { return };
        let mut written = files.put_chunk(part, &artifact, n, bytes);
        fetch.unsynced_bytes += bytes.len() as u32;
        if written.is_ok() && fetch.unsynced_bytes >= SYNC_BYTES {
            fetch.unsynced_bytes = 0;
            written = files.sync(part);
        }
        if let Err(error) = written {
            return self.fail_fetch(at, now, disk_reason(&error));
        }
        fetch.transfer.handle(now.ms, Arrival::Stored(n));
        if fetch.transfer.is_complete() {
            self.drive_fetch(at, now);
            if self.finish_part(at, now, part) {
                self.next_stage(at, now);
            }
        }
    }

    fn reject_piece(&mut self, at: usize, now: Now, n: u32, check: &'static str) {
        self.refused.count(check);
        if let Some(fetch) = &mut self.models[at].fetch {
            fetch.bad += 1;
            fetch.transfer.handle(now.ms, Arrival::Bad(n));
        }
    }
}

fn chunk_is_right(artifact: &Artifact, list: &[u8], n: u32, bytes: &[u8]) -> bool {
    let expected = list.chunks_exact(32).nth(n as usize);
    artifact.chunk_len(n) == Some(bytes.len() as u32)
        && expected.is_some_and(|expected| Digest::of(bytes).0 == *expected)
}
