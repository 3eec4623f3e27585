//! The second async thread, out of the way of a single caller.
//!
//! The agent has two async threads, so that one may hang. But for every request that one of them
//! takes, tokio wakes the other to look for more, and the next request runs over there, on a cold
//! cache: with one caller who asks again and again that is a third of what serving costs. So while
//! one caller alone asks, quick answer after quick answer, the second thread is kept in a task that
//! waits on a condition variable; to tokio it is busy, and is not woken.
//!
//! The rule, looked at every [`TICK`] by a plain thread that needs no runtime: in the tick before
//! runs went on, all for one caller: the second thread waits. Anything else (two callers, no
//! request, **a run that hangs, whatever else keeps the first thread**) lets it go. So what a hang
//! may hold up, it holds up for two ticks. `docs/decisions/0016-serving-protocols.md` has figures.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::Id;

/// How often it is looked whether the second thread may wait. Short against a request's deadline
/// and against what an application notices; ten looks a second cost nothing, and there are none
/// while nobody asks.
const TICK: Duration = Duration::from_millis(100);

/// The second thread, and what decides about it. Dropped, it lets the thread go for good.
#[derive(Default)]
pub(super) struct Standby(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whose run came last, and whether all of this tick were theirs.
    caller: Option<Id>,
    has_others: bool,
    runs: u64,
    /// Somebody looks, every tick.
    watched: bool,
    /// The second thread shall wait, and it does.
    hold: bool,
    held: bool,
    closed: bool,
}

impl Standby {
    /// A run begins on an async thread, for the task that this is called in.
    pub(super) fn note(&self) {
        let caller = tokio::task::try_id();
        let mut state = self.0.lock();
        state.has_others |= caller.is_none() || state.caller != caller;
        state.caller = caller;
        state.runs += 1;
        if !state.watched && !state.closed {
            let (shared, runtime) = (self.0.clone(), Handle::current());
            let thread = std::thread::Builder::new().name("fleetway-standby".into());
            // Without the thread both async threads work, as they do under any other load.
            state.watched = thread.spawn(move || shared.watch(&runtime)).is_ok();
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        (state.closed, state.hold) = (true, false);
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides every tick, until nobody asks any more.
    fn watch(self: Arc<Self>, runtime: &Handle) {
        let mut seen = 0;
        loop {
            let state = self.lock();
            let tick = self.changed.wait_timeout_while(state, TICK, |state| !state.closed);
            let (mut state, _) = tick.unwrap_or_else(PoisonError::into_inner);
            let went_on = state.runs != seen;
            let hold = went_on && !state.has_others && !state.closed;
            if state.hold != hold {
                state.hold = hold;
                self.changed.notify_all();
            }
            if !went_on || state.closed {
                state.watched = false;
                return;
            }
            if hold && !state.held {
                state.held = true;
                let shared = self.clone();
                runtime.spawn(async move { shared.keep() });
            }
            (seen, state.has_others) = (state.runs, false);
        }
    }

    /// Keeps the thread that it is called on, as long as that is wanted.
    fn keep(&self) {
        let state = self.lock();
        let kept = self.changed.wait_while(state, |state| state.hold);
        kept.unwrap_or_else(PoisonError::into_inner).held = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::time::Instant;

    const STEP: Duration = Duration::from_millis(5);

    fn waits(standby: &Standby) -> bool {
        let state = standby.0.lock();
        state.hold && state.held
    }

    /// Runs of one caller, for so many ticks, or less if the second thread waits before; whether it
    /// does at the end.
    async fn ask(standby: Arc<Standby>, ticks: u32, enough: bool) -> bool {
        let asking = tokio::spawn(async move {
            for _ in 0..(TICK * ticks).as_millis() / STEP.as_millis() {
                standby.note();
                tokio::time::sleep(STEP).await;
                if enough && waits(&standby) {
                    break;
                }
            }
            waits(&standby)
        });
        asking.await.expect("no panic")
    }

    /// A machine with other things to do needs more than two ticks for it.
    async fn ask_alone(standby: Arc<Standby>) -> bool {
        ask(standby, 100, true).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_second_thread_waits_for_one_caller_and_not_for_two() {
        let standby = Arc::new(Standby::default());
        assert!(ask_alone(standby.clone()).await);
        let both = || ask(standby.clone(), 6, false);
        let (a, b) = tokio::join!(both(), both());
        assert!(!a || !b, "one of them ended while the other asked");
        assert!(ask_alone(standby).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_keeps_the_first_thread_frees_the_second() {
        let standby = Arc::new(Standby::default());
        let beats = Arc::new(AtomicU64::new(0));
        let beating = beats.clone();
        let beat = tokio::spawn(async move {
            loop {
                tokio::time::sleep(STEP).await;
                beating.fetch_add(1, Ordering::Relaxed);
            }
        });
        let hanging = tokio::spawn(async move {
            // Kept to the end: dropped, it would let the thread go for that reason.
            assert!(ask_alone(standby.clone()).await);
            let before = beats.load(Ordering::Relaxed);
            // A run that hangs: nothing on this thread goes on, nor does anybody ask.
            let hung = Instant::now();
            while hung.elapsed() < TICK * 6 {
                std::hint::spin_loop();
            }
            let beats = beats.load(Ordering::Relaxed) - before;
            drop(standby);
            beats
        });
        let beats = hanging.await.expect("no panic");
        beat.abort();
        assert!(beats > 10, "{beats} beats: both threads were kept");
    }
}
