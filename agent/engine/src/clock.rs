//! The one place of this crate that reads the clock: deadlines of the self-test and the latency
//! that it reports. Nothing here decides anything about a model.

use std::fs::File;
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

/// Time since it was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods, reason = "this is the clock.rs that the ban points to")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Processor time of the thread that opened it, from the kernel's own count. Where the kernel
/// keeps none, the clock on the wall.
#[derive(Debug)]
pub(crate) struct CpuClock {
    schedstat: Option<File>,
    wall: Stopwatch,
}

impl CpuClock {
    /// Opens it; a fenced process must do that before the fences stand.
    pub(crate) fn open() -> Self {
        let schedstat = File::open("/proc/thread-self/schedstat").ok();
        Self { schedstat, wall: Stopwatch::start() }
    }

    /// Microseconds so far.
    pub(crate) fn now_us(&mut self) -> u64 {
        // The kernel adds up at its ticks, and whenever somebody yields.
        std::thread::yield_now();
        let counted = self.schedstat.as_mut().and_then(|file| {
            let mut text = String::new();
            file.rewind().ok()?;
            file.read_to_string(&mut text).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        let wall_us = u64::try_from(self.wall.elapsed().as_micros()).unwrap_or(u64::MAX);
        counted.map_or(wall_us, |ns| ns / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_passes_only_while_there_is_work() {
        let mut clock = CpuClock::open();
        let start_us = clock.now_us();
        std::thread::sleep(Duration::from_millis(50));
        let slept_us = clock.now_us() - start_us;
        assert!(slept_us < 25_000, "{slept_us}");
        let work = Stopwatch::start();
        let mut sum = 0u64;
        while clock.now_us() - start_us - slept_us < 5_000 && work.elapsed().as_secs() < 20 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
        }
        assert!(clock.now_us() - start_us >= 5_000);
    }
}
