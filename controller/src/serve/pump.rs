//! The task that sends model bytes, over a connection of its own where the broker allows
//! one, so that an order never waits behind a model.
//!
//! The broker is a cache: everything it shall hold is given to it again at every connect,
//! and what nobody needs any more is taken away. The pace is the broker's own: only so
//! many bytes wait in the link's outbox at a time, all devices and seeds together.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fleetway_link::{Link as _, LinkHandle, Outgoing};
use fleetway_protocol::codec;
use fleetway_protocol::ids::{DeviceId, Digest, ShortDigest};
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::report::{BLOCK_BYTES_MAX, Block, Want};
use fleetway_protocol::topics::{Piece, Topic};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::blobs::BlobStore;
use super::pieces::Pieces;
use super::queue::{Job, Queue};
use crate::api::types::BlobsView;

/// Look again for room in the outbox after this time: a fifth of what the largest batch
/// takes on a gigabit link.
const ROOM: Duration = Duration::from_millis(2);
/// The same while there is no connection.
const ROOM_DOWN: Duration = Duration::from_millis(50);
/// A reply that was not sent by then was asked for again, or the device is gone.
const REPLY_AGE_MAX: Duration = Duration::from_secs(20);
/// Orders to the pump that may wait.
const INBOX: usize = 1024;

/// What the pump is told.
pub(super) enum Order {
    /// A release is published: devices may ask for its pieces.
    Learn(Box<Published>),
    /// The broker shall hold a release's pieces.
    Seed(Digest),
    /// The broker need not hold a release's pieces any more.
    Unseed(Digest),
    /// Whatever else the broker still holds of known releases can go.
    ClearRest,
    /// A device asked for pieces.
    Want(DeviceId, Want),
    /// The connection is there (anew).
    Up,
}

/// A published release.
pub(super) struct Published {
    /// Digest of its manifest.
    pub(super) digest: Digest,
    /// The signed manifest.
    pub(super) envelope: Bytes,
    /// What it says.
    pub(super) manifest: Manifest,
}

/// How the rest of the controller talks to the pump.
#[derive(Clone)]
pub(super) struct Pump {
    orders: mpsc::Sender<Order>,
    view: Arc<Mutex<BlobsView>>,
    seeding: Arc<Seeding>,
}

/// How many releases were to be seeded, and how many of these have left for the broker.
#[derive(Debug, Default)]
struct Seeding {
    told: AtomicU64,
    done: AtomicU64,
}

impl Pump {
    /// Starts the task. `bytes_max` may wait in the link's outbox at a time.
    pub(super) fn start(
        link: LinkHandle,
        root: String,
        blobs: Arc<BlobStore>,
        bytes_max: usize,
    ) -> Self {
        let (orders, inbox) = mpsc::channel(INBOX);
        let view = Arc::new(Mutex::new(BlobsView::default()));
        let seeding = Arc::new(Seeding::default());
        let worker = Worker {
            seeding: seeding.clone(),
            seeds_handled: 0,
            link,
            root,
            bytes_max,
            pieces: Pieces::new(blobs),
            seeded: BTreeSet::new(),
            queue: Queue::default(),
            view: view.clone(),
            complained: BTreeSet::new(),
        };
        tokio::spawn(worker.run(inbox));
        Self { orders, view, seeding }
    }

    /// Tells the pump something that must not be lost. From a thread that may wait.
    pub(super) fn tell_blocking(&self, order: Order) {
        if matches!(order, Order::Seed(_)) {
            self.seeding.told.fetch_add(1, SeqCst);
        }
        // The pump is only gone while the process ends.
        let _ = self.orders.blocking_send(order);
    }

    /// Whether pieces that were to be seeded have yet to leave for the broker.
    pub(super) fn is_seeding(&self) -> bool {
        self.seeding.done.load(SeqCst) < self.seeding.told.load(SeqCst)
    }

    /// Tells the pump something that must not be lost.
    pub(super) async fn tell(&self, order: Order) {
        let _ = self.orders.send(order).await;
    }

    /// Passes a device's request on, or drops it: the device asks again.
    pub(super) fn want(&self, device: DeviceId, want: Want) {
        let pieces = want.pieces.len() as u64;
        if self.orders.try_send(Order::Want(device, want)).is_err() {
            self.view().wants_refused += pieces;
        }
    }

    /// Counters and gauges.
    pub(super) fn snapshot(&self) -> BlobsView {
        self.view().clone()
    }

    fn view(&self) -> std::sync::MutexGuard<'_, BlobsView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    link: LinkHandle,
    root: String,
    bytes_max: usize,
    pieces: Pieces,
    /// What the broker shall hold.
    seeded: BTreeSet<ShortDigest>,
    queue: Queue,
    seeding: Arc<Seeding>,
    seeds_handled: u64,
    view: Arc<Mutex<BlobsView>>,
    /// Blobs that were found rotten or missing; each is told once.
    complained: BTreeSet<ShortDigest>,
}

impl Worker {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let mut stuck: Option<Job> = None;
        loop {
            while let Ok(order) = inbox.try_recv() {
                self.handle(order);
            }
            while self.has_room() {
                let Some(job) = stuck.take().or_else(|| self.queue.next()) else { break };
                stuck = self.send(job);
                if stuck.is_some() {
                    break;
                }
            }
            self.count();
            let settled = stuck.is_none() && self.are_seeds_out();
            let idle = settled && self.has_room();
            let pause = if self.link.stats().version.is_some() { ROOM } else { ROOM_DOWN };
            let order = if idle {
                inbox.recv().await
            } else {
                tokio::select! {
                    order = inbox.recv() => order,
                    () = sleep(pause) => continue,
                }
            };
            match order {
                Some(order) => self.handle(order),
                None => return,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.link.stats().outbox_bytes + BLOCK_BYTES_MAX <= self.bytes_max
    }

    /// Whether every seed is on the wire; noted for who waits for it.
    fn are_seeds_out(&self) -> bool {
        if self.seeding.done.load(SeqCst) == self.seeds_handled {
            return true;
        }
        let out = self.queue.seeds_waiting() == 0 && self.link.stats().outbox_bytes == 0;
        if out {
            self.seeding.done.store(self.seeds_handled, SeqCst);
        }
        out
    }

    fn handle(&mut self, order: Order) {
        match order {
            Order::Learn(release) => {
                self.pieces.learn(release.digest, release.envelope, &release.manifest);
            }
            Order::Seed(digest) => {
                self.seeds_handled += 1;
                let up = self.link.stats().version.is_some();
                // Without a connection `Up` will do it, with everything else.
                if self.seeded.insert(digest.short()) && up {
                    self.enqueue(digest.short());
                }
            }
            Order::Unseed(digest) => {
                self.seeded.remove(&digest.short());
                self.clear(digest.short());
            }
            Order::ClearRest => {
                let known = self.pieces.releases();
                let rest: Vec<_> = known.filter(|of| !self.seeded.contains(of)).collect();
                rest.into_iter().for_each(|of| self.clear(of));
            }
            Order::Want(device, want) => {
                for piece in &want.pieces {
                    if !self.queue.want(&device, want.of, *piece) {
                        self.change(|view| view.wants_refused += 1);
                    }
                }
            }
            // What the broker lost while we were away is not known: all of it again.
            Order::Up => {
                self.queue.forget_seeds();
                self.seeded.clone().into_iter().for_each(|of| self.enqueue(of));
            }
        }
    }

    fn enqueue(&mut self, release: ShortDigest) {
        for (of, piece) in self.pieces.of_release(release) {
            self.queue.seed(Job::Seed(of, piece));
        }
    }

    fn clear(&mut self, release: ShortDigest) {
        let gone = self.pieces.only_of(release, &self.seeded);
        let digests: BTreeSet<ShortDigest> = gone.iter().map(|(of, _)| *of).collect();
        digests.into_iter().for_each(|of| self.queue.forget(of));
        gone.into_iter().for_each(|(of, piece)| self.queue.seed(Job::Clear(of, piece)));
    }

    /// Sends one piece; gives the job back if the outbox did not take it.
    fn send(&mut self, job: Job) -> Option<Job> {
        let message = match &job {
            Job::Clear(of, piece) => Some(self.blob(Topic::Blob(*of, *piece), Bytes::new())),
            Job::Seed(of, piece) => {
                self.read(*of, *piece).map(|bytes| self.blob(Topic::Blob(*of, *piece), bytes))
            }
            Job::Reply(device, of, piece) => {
                self.read(*of, *piece).and_then(|bytes| block(*of, *piece, &bytes)).map(|payload| {
                    let topic = Topic::Block(device.clone()).text(&self.root).to_string();
                    Outgoing::new(topic, payload).at_most_once().expiring(REPLY_AGE_MAX)
                })
            }
        };
        let Some(message) = message else {
            if matches!(job, Job::Reply(..)) {
                self.change(|view| view.wants_refused += 1);
            }
            return None;
        };
        let bytes = message.payload.len() as u64;
        if let Err(error) = self.link.publish(message) {
            debug!(%error, "a piece waits");
            return Some(job);
        }
        self.change(|view| {
            view.bytes_out += bytes;
            match job {
                Job::Reply(..) => view.wants_answered += 1,
                Job::Seed(..) | Job::Clear(..) => view.pieces_sent += 1,
            }
        });
        None
    }

    fn blob(&self, topic: Topic, bytes: Bytes) -> Outgoing {
        Outgoing::new(topic.text(&self.root).to_string(), bytes).at_most_once().retained()
    }

    fn read(&mut self, of: ShortDigest, piece: Piece) -> Option<Bytes> {
        // The first piece of an artifact reads all of it, to check it.
        match tokio::task::block_in_place(|| self.pieces.read((of, piece))) {
            Ok(bytes) => bytes,
            Err(error) => {
                if self.complained.insert(of) {
                    let error = crate::api::failure::chain(&error);
                    warn!(%error, artifact = %of, "cannot be given out; publish its release again");
                }
                None
            }
        }
    }

    fn count(&self) {
        let (releases, waiting) = (self.seeded.len() as u64, self.queue.seeds_waiting() as u64);
        self.change(|view| {
            view.seeded_releases = releases;
            view.pieces_waiting = waiting;
        });
    }

    fn change(&self, change: impl FnOnce(&mut BlobsView)) {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn block(of: ShortDigest, piece: Piece, bytes: &[u8]) -> Option<Bytes> {
    let mut buf = vec![0; BLOCK_BYTES_MAX];
    let len = codec::encode(&Block { of, piece, bytes }, &mut buf).ok()?.len();
    buf.truncate(len);
    Some(buf.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetway_protocol::limits::{CHUNK_BYTES_MAX, CHUNKS_MAX};

    #[test]
    fn the_largest_piece_fits_its_block() {
        let bytes = vec![7; CHUNK_BYTES_MAX as usize];
        let of = ShortDigest([9; 16]);
        let piece = Piece::Chunk(CHUNKS_MAX as u32 - 1);
        let message = block(of, piece, &bytes).unwrap();
        let back = Block::decode(&message).unwrap();
        assert_eq!((back.of, back.piece, back.bytes), (of, piece, &bytes[..]));
    }
}
