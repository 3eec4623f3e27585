//! Which piece leaves next. Pure: what is asked for goes in, one job at a time comes out.
//!
//! Two streams share the way out, turn by turn, so that neither can starve the other:
//! *seeds* (retained pieces for the broker, which serve everybody) and *wants* (replies to
//! single devices). Among the wants the devices take turns as well, and each may have a
//! few pieces waiting at most: a device that asks for everything at once delays itself.

use std::collections::{HashMap, VecDeque};

use fleetway_protocol::ids::{DeviceId, ShortDigest};
use fleetway_protocol::limits::WANT_PIECES_MAX;
use fleetway_protocol::topics::Piece;

/// Pieces that one device may have waiting: its window, and the window that it asks for
/// again because an answer was late.
pub(super) const DEVICE_PIECES_MAX: usize = 2 * WANT_PIECES_MAX;

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// A retained piece for everybody.
    Seed(ShortDigest, Piece),
    /// Take a retained piece away.
    Clear(ShortDigest, Piece),
    /// A piece for one device.
    Reply(DeviceId, ShortDigest, Piece),
}

/// What waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Queue {
    seeds: VecDeque<Job>,
    wants: HashMap<DeviceId, VecDeque<(ShortDigest, Piece)>>,
    /// Devices with something waiting, in turn.
    turns: VecDeque<DeviceId>,
    wants_next: bool,
}

impl Queue {
    /// A piece to seed or clear. Order is kept.
    pub(super) fn seed(&mut self, job: Job) {
        self.seeds.push_back(job);
    }

    /// Forgets what was to be seeded or cleared of one digest.
    pub(super) fn forget(&mut self, of: ShortDigest) {
        self.seeds.retain(|job| match job {
            Job::Seed(digest, _) | Job::Clear(digest, _) | Job::Reply(_, digest, _) => {
                *digest != of
            }
        });
    }

    /// Forgets everything that was to be seeded: it is put together anew.
    pub(super) fn forget_seeds(&mut self) {
        self.seeds.retain(|job| matches!(job, Job::Clear(..)));
    }

    /// A piece that a device asked for. `false`: it has too many waiting.
    pub(super) fn want(&mut self, device: &DeviceId, of: ShortDigest, piece: Piece) -> bool {
        let waiting = self.wants.entry(device.clone()).or_default();
        if waiting.contains(&(of, piece)) {
            return true;
        }
        if waiting.len() >= DEVICE_PIECES_MAX {
            return false;
        }
        if waiting.is_empty() {
            self.turns.push_back(device.clone());
        }
        waiting.push_back((of, piece));
        true
    }

    /// The next job.
    pub(super) fn next(&mut self) -> Option<Job> {
        self.wants_next = !self.wants_next;
        if self.wants_next {
            self.next_want().or_else(|| self.seeds.pop_front())
        } else {
            self.seeds.pop_front().or_else(|| self.next_want())
        }
    }

    fn next_want(&mut self) -> Option<Job> {
        let device = self.turns.pop_front()?;
        let waiting = self.wants.get_mut(&device)?;
        let (of, piece) = waiting.pop_front()?;
        if waiting.is_empty() {
            self.wants.remove(&device);
        } else {
            self.turns.push_back(device.clone());
        }
        Some(Job::Reply(device, of, piece))
    }

    /// Number of pieces to seed or clear.
    pub(super) fn seeds_waiting(&self) -> usize {
        self.seeds.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: ShortDigest = ShortDigest([7; 16]);

    fn device(id: &str) -> DeviceId {
        DeviceId::new(id).unwrap()
    }

    fn drain(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next())
            .map(|job| match job {
                Job::Seed(_, Piece::Chunk(n)) => format!("seed {n}"),
                Job::Reply(device, _, Piece::Chunk(n)) => format!("{device} {n}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn devices_take_turns_and_seeds_have_half() {
        let mut queue = Queue::default();
        for n in 0..3 {
            assert!(queue.want(&device("a"), OF, Piece::Chunk(n)));
            queue.seed(Job::Seed(OF, Piece::Chunk(n)));
        }
        assert!(queue.want(&device("b"), OF, Piece::Chunk(9)));
        let expected = ["a 0", "seed 0", "b 9", "seed 1", "a 1", "seed 2", "a 2"];
        assert_eq!(drain(&mut queue), expected);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_greedy_device_is_bounded_and_repetition_is_free() {
        let mut queue = Queue::default();
        let taken = (0..100).filter(|n| queue.want(&device("a"), OF, Piece::Chunk(*n))).count();
        assert_eq!(taken, DEVICE_PIECES_MAX);
        assert!(queue.want(&device("a"), OF, Piece::Chunk(0)), "already waiting");
        assert!(queue.want(&device("b"), OF, Piece::Chunk(0)), "others are not affected");
        assert_eq!(drain(&mut queue).len(), DEVICE_PIECES_MAX + 1);
        assert!(queue.wants.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn what_is_taken_back_is_not_seeded() {
        let mut queue = Queue::default();
        queue.seed(Job::Seed(OF, Piece::ChunkList));
        queue.seed(Job::Seed(ShortDigest([8; 16]), Piece::Release));
        queue.forget(OF);
        assert_eq!(queue.seeds_waiting(), 1);
        queue.seed(Job::Clear(OF, Piece::ChunkList));
        queue.forget_seeds();
        assert_eq!(queue.next(), Some(Job::Clear(OF, Piece::ChunkList)));
        assert_eq!(queue.next(), None);
    }
}
