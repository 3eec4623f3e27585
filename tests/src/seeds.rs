//! One thing for many seeds, on all processors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A number that somebody set in the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What `run` gives for each of `count` seeds from `first` on, in the order of the seeds.
pub fn each<T: Send>(first: u64, count: u64, run: impl Fn(u64) -> T + Sync) -> Vec<(u64, T)> {
    let (next, all) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let found = run(seed);
                    all.lock().unwrap_or_else(PoisonError::into_inner).push((seed, found));
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|(seed, _)| *seed);
    all
}
