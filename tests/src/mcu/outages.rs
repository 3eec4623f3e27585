//! The power of an emulated board, failing.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fleetway_emulator::Board;

/// Milliseconds until the first outage: an update of a small model takes longer.
const FIRST_MS: Range<u64> = 200..3_000;
/// Milliseconds from one outage to the next. Three in one trial are the model's fault to a device, so that
/// a trial of a second, and the boot before it, must fit in between.
const PAUSE_MS: Range<u64> = 4_000..9_000;
/// How often it is looked whether to stop, milliseconds.
const LOOK_MS: u64 = 50;

/// Outages at moments that a seed decides, until this is dropped.
pub struct Outages {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Outages {
    pub(super) fn begin(board: Arc<Mutex<Board>>, seed: u64, most: u32) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            let mut rng = fastrand::Rng::with_seed(seed);
            for n in 0..most {
                let wait = if n == 0 { FIRST_MS } else { PAUSE_MS };
                if !pause(rng.u64(wait), &stopped) {
                    return;
                }
                let powered = board.lock().unwrap_or_else(PoisonError::into_inner).power();
                if let Err(error) = powered {
                    // Whoever waits for the board finds it silent, and says so.
                    eprintln!("the board got no power: {error}");
                    return;
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, count, thread: Some(thread) }
    }

    /// How many there were.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Outages {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// Waits, unless it is to stop.
fn pause(ms: u64, stop: &AtomicBool) -> bool {
    for _ in 0..ms.div_ceil(LOOK_MS) {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    }
    true
}
