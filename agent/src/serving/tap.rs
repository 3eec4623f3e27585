//! Copies of requests and their answers, for a candidate in the shadow of what serves.
//!
//! An application never waits for them: a copy is made after its answer is there, only for a share
//! of the requests, and only while there is room for it. What is not copied for want of room is
//! counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use fleetway_engine::Tensor;

/// Copies that wait at once. A candidate that is slower than the requests come would only let a
/// longer queue grow old.
const COPIES_MAX: usize = 4;
/// Largest copy, bytes of its tensors: copying more would be felt by the next answer.
const COPY_BYTES_MAX: usize = 4 << 20;

/// A request and its answer.
#[derive(Debug)]
pub struct Copied {
    /// What was asked, in the order of the engine's inputs.
    pub inputs: Vec<Tensor>,
    /// What was answered.
    pub outputs: Vec<Tensor>,
    /// How often the model's inputs stand in it, one below the other.
    pub rows: usize,
    /// How long the answer took, microseconds.
    pub serving_us: u32,
}

#[derive(Debug, Default)]
struct Counts {
    seen: AtomicU64,
    dropped: AtomicU32,
}

/// Where copies go in.
#[derive(Debug)]
pub struct Tap {
    share_permille: u16,
    counts: Arc<Counts>,
    copies: SyncSender<Copied>,
    /// Copies that wait, counted before they are made.
    room: Arc<AtomicU32>,
}

/// Where copies come out.
#[derive(Debug)]
pub struct Copies {
    counts: Arc<Counts>,
    copies: Receiver<Copied>,
    room: Arc<AtomicU32>,
}

/// A tap for this share of the requests, and its other end.
pub fn tap(share_permille: u16) -> (Tap, Copies) {
    let (sender, receiver) = sync_channel(COPIES_MAX);
    let counts = Arc::new(Counts::default());
    let room = Arc::new(AtomicU32::new(COPIES_MAX as u32));
    let out = Copies { counts: counts.clone(), copies: receiver, room: room.clone() };
    (Tap { share_permille, counts, copies: sender, room }, out)
}

impl Tap {
    /// Copies, if it is this request's turn and there is room.
    pub(super) fn offer(
        &self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        rows: usize,
        serving_us: u32,
    ) {
        let share = u64::from(self.share_permille);
        let turn = self.counts.seen.fetch_add(1, Ordering::Relaxed) % 1000;
        if (turn + 1) * share / 1000 == turn * share / 1000 {
            return;
        }
        let bytes = |tensors: &[Tensor]| tensors.iter().map(bytes_of).sum::<usize>();
        let small = bytes(inputs) + bytes(outputs) <= COPY_BYTES_MAX;
        let take = |room: u32| room.checked_sub(1);
        let relaxed = Ordering::Relaxed;
        if !small || self.room.fetch_update(relaxed, relaxed, take).is_err() {
            self.counts.dropped.fetch_add(1, relaxed);
            return;
        }
        let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
        // There is room; an end that is gone needs no copies.
        let _ = self.copies.try_send(Copied { inputs, outputs, rows, serving_us });
    }
}

/// An upper bound: no element is larger.
fn bytes_of(tensor: &Tensor) -> usize {
    tensor.data().len() * size_of::<f64>()
}

impl Copies {
    /// The next copy, within `wait`; an error when the tap is gone.
    ///
    /// # Errors
    /// That of a tap that is gone.
    pub fn next(&self, wait: Duration) -> Result<Option<Copied>, RecvTimeoutError> {
        match self.copies.recv_timeout(wait) {
            Ok(copied) => {
                self.room.fetch_add(1, Ordering::Relaxed);
                Ok(Some(copied))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(gone) => Err(gone),
        }
    }

    /// Copies that were not made since the last call.
    pub fn take_dropped(&self) -> u32 {
        self.counts.dropped.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetway_engine::tensor::TensorData;

    fn tensor(elements: usize) -> Vec<Tensor> {
        vec![Tensor::new(vec![elements], TensorData::U8(vec![7; elements])).unwrap()]
    }

    #[test]
    fn a_share_is_copied_evenly_and_what_has_no_room_is_counted() {
        for (share, expected) in [(0, 0), (1, 1), (100, 100), (333, 333), (1000, 1000)] {
            let (tap, copies) = tap(share);
            let mut copied = 0;
            for _ in 0..1000 {
                tap.offer(&tensor(1), &tensor(1), 1, 5);
                copied += usize::from(copies.next(Duration::ZERO).unwrap().is_some());
            }
            assert_eq!((copied, copies.take_dropped()), (expected, 0), "{share}");
        }
        let (tap, copies) = tap(1000);
        (0..10).for_each(|_| tap.offer(&tensor(1), &tensor(1), 1, 5));
        assert_eq!(copies.take_dropped(), 10 - COPIES_MAX as u32);
        assert_eq!(copies.take_dropped(), 0);
        while copies.next(Duration::ZERO).unwrap().is_some() {}
        tap.offer(&tensor(COPY_BYTES_MAX), &tensor(1), 1, 5);
        assert_eq!(copies.take_dropped(), 1, "too large");
        drop(tap);
        assert!(copies.next(Duration::ZERO).is_err(), "the tap is gone");
    }
}
