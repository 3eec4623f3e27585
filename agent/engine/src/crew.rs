//! Threads that share one run of a large compiled network (`fleetway_qnn::team`).
//!
//! Off unless [`start`] was called: most models are answered sooner than a second thread wakes, and a
//! device has other work to do. The threads are the process's, not a model's: however many models
//! run, no more processors are taken than were allowed.

use fleetway_qnn::team::{Alone, PART_WORK, Team};
use rayon_core::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZeroUsize;
use std::sync::OnceLock;

/// Work of a model, in multiply-accumulates, below which it is left to its own thread: entering the crew
/// takes as long.
const RUN_WORK_MIN: u64 = 4 * PART_WORK;

static CREW: OnceLock<Crew> = OnceLock::new();

struct Crew(ThreadPool);

/// Why there are no threads.
#[derive(Debug, thiserror::Error)]
#[error("the {threads} threads of [serve] threads cannot be started: {detail}")]
pub struct CrewError {
    threads: NonZeroUsize,
    detail: String,
}

/// Lets one run of a compiled network take so many threads, in all of this process and from now on.
/// One is what there is without it. A second call changes nothing.
///
/// # Errors
/// [`CrewError`] if the system gives no threads.
pub fn start(threads: NonZeroUsize) -> Result<(), CrewError> {
    if threads.get() == 1 || CREW.get().is_some() {
        return Ok(());
    }
    let named = |index| format!("qnn-{index}");
    let pool = ThreadPoolBuilder::new().num_threads(threads.get()).thread_name(named).build();
    let pool = pool.map_err(|e| CrewError { threads, detail: e.to_string() })?;
    // Whoever came first has the same right.
    let _ = CREW.set(Crew(pool));
    Ok(())
}

/// Does a run of so many multiply-accumulates where it is soonest done: here, or inside the crew.
pub(crate) fn on_best<T: Send>(work: u64, run: impl FnOnce(&dyn Team) -> T + Send) -> T {
    match CREW.get() {
        Some(crew) if work >= RUN_WORK_MIN => crew.0.install(|| run(crew)),
        _ => run(&Alone),
    }
}

impl Team for Crew {
    fn parts(&self, work: u64) -> usize {
        let most = usize::try_from(work / PART_WORK).unwrap_or(usize::MAX);
        most.min(self.0.current_num_threads())
    }

    fn both(&self, a: &mut (dyn FnMut() + Send), b: &mut (dyn FnMut() + Send)) {
        self.0.join(a, b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::guarded;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    fn crew() -> Crew {
        Crew(ThreadPoolBuilder::new().num_threads(2).build().unwrap())
    }

    #[test]
    fn two_halves_run_at_the_same_time() {
        let here = AtomicUsize::new(0);
        // Each waits until the other is there, half a minute at most.
        let meet = || {
            here.fetch_add(1, Ordering::SeqCst);
            (0..30_000).any(|_| {
                thread::sleep(Duration::from_millis(1));
                here.load(Ordering::SeqCst) == 2
            })
        };
        let (mut one, mut two) = (false, false);
        crew().both(&mut || one = meet(), &mut || two = meet());
        assert!(one && two);
    }

    #[test]
    fn large_runs_go_to_the_crew_once_there_is_one() {
        let thread = |work| on_best(work, |_| thread::current().name().map(str::to_owned));
        let here = thread::current().name().map(str::to_owned);
        start(NonZeroUsize::MIN).unwrap();
        assert_eq!(thread(RUN_WORK_MIN), here, "one thread is none beside");
        start(NonZeroUsize::new(2).unwrap()).unwrap();
        assert_eq!(thread(RUN_WORK_MIN - 1), here);
        let name = thread(RUN_WORK_MIN).unwrap();
        assert!(name.starts_with("qnn-"), "{name}");
    }

    #[test]
    fn a_panic_in_a_part_is_the_callers() {
        let crew = crew();
        let text = guarded(|| crew.both(&mut || (), &mut || panic!("in a part"))).unwrap_err();
        assert_eq!(text, "in a part");
    }

    #[test]
    fn work_is_cut_into_parts_that_are_worth_it() {
        let crew = crew();
        let parts =
            [PART_WORK - 1, PART_WORK, 2 * PART_WORK, u64::MAX].map(|work| crew.parts(work));
        assert_eq!(parts, [0, 1, 2, 2]);
    }
}
