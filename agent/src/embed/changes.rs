//! Who is told that another release answers for a model.
//!
//! The loop looks at what answers after each of its turns and never waits for a callback: it writes
//! down the newest state, one entry for each model. Each subscription is a thread that compares what it told
//! last with what is there. So there is no queue that could overflow, and a callback that is
//! slow sees less often, never something old.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, ThreadId};

use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::slot::Place;

use super::panic_text;
use crate::serving::live::Models;
use crate::status::Running;

/// Subscriptions of one agent at once: each costs a thread.
pub const SUBSCRIPTIONS_MAX: usize = 16;

/// Another release answers for a model, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelChange {
    /// Which model.
    pub model: String,
    /// What answers now: digest, version and slot; `None` if nothing does.
    pub running: Option<Running>,
}

/// Why nobody is told.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// There are enough.
    #[error("{SUBSCRIPTIONS_MAX} subscriptions are all there can be; cancel one first")]
    TooMany,
    /// The agent has ended.
    #[error("the agent was closed")]
    Closed,
    /// The system has no thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// What answers, as last seen.
#[derive(Default)]
pub(crate) struct Changes {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    seen: BTreeMap<ModelName, Seen>,
    /// Threads of subscriptions.
    listeners: Vec<ThreadId>,
    over: bool,
}

/// Which release, from where.
type Key = Option<(Digest, Place)>;

struct Seen {
    key: Key,
    change: ModelChange,
}

impl Changes {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each entry is written in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what answers now.
    pub(crate) fn look(&self, models: &Models) {
        let mut state = self.lock();
        let mut is_news = false;
        for live in models.list() {
            let loaded = live.current();
            let key = loaded.as_ref().map(|loaded| (loaded.release, loaded.place));
            if state.seen.get(live.model()).and_then(|seen| seen.key) == key {
                continue;
            }
            let running = loaded.as_deref().map(Running::of);
            let change = ModelChange { model: live.model().to_string(), running };
            state.seen.insert(live.model().clone(), Seen { key, change });
            is_news = true;
        }
        if is_news {
            self.news.notify_all();
        }
    }

    /// Nobody is told anything more, and no callback runs any more when this returns, but for one that
    /// is calling it.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.over = true;
        self.news.notify_all();
        let us = std::thread::current().id();
        while state.listeners.iter().any(|listener| *listener != us) {
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for something that was not told, or `None` at the end.
    fn next(
        &self,
        told: &mut BTreeMap<ModelName, Key>,
        cancelled: &AtomicBool,
    ) -> Option<ModelChange> {
        let mut state = self.lock();
        loop {
            if state.over || cancelled.load(Ordering::Relaxed) {
                return None;
            }
            let news = |(model, seen): &(&ModelName, &Seen)| {
                told.get(*model).copied().flatten() != seen.key
            };
            if let Some((model, seen)) = state.seen.iter().find(news) {
                told.insert(model.clone(), seen.key);
                return Some(seen.change.clone());
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Somebody is told, until this is dropped or [`Subscription::cancel`]led, or the agent ends.
#[must_use = "a subscription that is dropped ends at once"]
pub struct Subscription {
    changes: Arc<Changes>,
    cancelled: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Subscription {
    /// Ends it. No call is under way any more when this returns, unless this is called from within one.
    pub fn cancel(&self) {
        // Under the lock that the listener looks at it with, so that it cannot miss the notice.
        let state = self.changes.lock();
        self.cancelled.store(true, Ordering::Relaxed);
        self.changes.news.notify_all();
        drop(state);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            // Its panics are caught inside.
            let _ = thread.join();
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

/// Starts to tell `callback`.
pub(super) fn subscribe(
    changes: &Arc<Changes>,
    callback: impl FnMut(&ModelChange) + Send + 'static,
) -> Result<Subscription, SubscribeError> {
    // Held until the thread is on the list: it must not be missed by whoever ends everything.
    let mut state = changes.lock();
    if state.over {
        return Err(SubscribeError::Closed);
    }
    if state.listeners.len() >= SUBSCRIPTIONS_MAX {
        return Err(SubscribeError::TooMany);
    }
    let cancelled = Arc::new(AtomicBool::new(false));
    let thread = std::thread::Builder::new().name("fleetway-news".into());
    let listen = {
        let (changes, cancelled) = (changes.clone(), cancelled.clone());
        move || listen(&changes, &cancelled, callback)
    };
    let thread = thread.spawn(listen).map_err(SubscribeError::Thread)?;
    state.listeners.push(thread.thread().id());
    drop(state);
    let thread = Mutex::new(Some(thread));
    Ok(Subscription { changes: changes.clone(), cancelled, thread })
}

fn listen(changes: &Changes, cancelled: &AtomicBool, mut callback: impl FnMut(&ModelChange)) {
    let mut told = BTreeMap::new();
    while let Some(change) = changes.next(&mut told, cancelled) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(&change))) {
            let model = &change.model;
            tracing::error!(%model, "the host's callback panicked: {}", panic_text(&*panic));
        }
    }
    // What it holds goes before anybody may believe that it is gone.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(callback)));
    let us = std::thread::current().id();
    changes.lock().listeners.retain(|listener| *listener != us);
    changes.news.notify_all();
}
