//! What a number stands for. Handles are numbers that are never given twice, not addresses: one that is
//! used too late, or closed twice, is an error code and not a crash.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fleetway_agent::embed::{Agent, Subscription};

use crate::code::Failure;

/// The agents of this process.
pub(crate) static AGENTS: Handles<Agent> = Handles::new();
/// Their subscriptions, each with the handle of its agent.
pub(crate) static SUBSCRIPTIONS: Handles<(u64, Subscription)> = Handles::new();

/// Things by their numbers.
pub(crate) struct Handles<T> {
    last: AtomicU64,
    things: RwLock<BTreeMap<u64, Arc<T>>>,
}

impl<T> Handles<T> {
    const fn new() -> Self {
        Self { last: AtomicU64::new(0), things: RwLock::new(BTreeMap::new()) }
    }

    /// Takes it in. 0 is never a handle.
    pub(crate) fn put(&self, thing: T) -> u64 {
        let handle = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut things = self.things.write().unwrap_or_else(PoisonError::into_inner);
        things.insert(handle, Arc::new(thing));
        handle
    }

    /// The thing, which lives as long as it is held, closed or not.
    pub(crate) fn get(&self, handle: u64) -> Result<Arc<T>, Failure> {
        let things = self.things.read().unwrap_or_else(PoisonError::into_inner);
        things.get(&handle).cloned().ok_or_else(Failure::handle)
    }

    /// Takes it out.
    pub(crate) fn take(&self, handle: u64) -> Result<Arc<T>, Failure> {
        let mut things = self.things.write().unwrap_or_else(PoisonError::into_inner);
        things.remove(&handle).ok_or_else(Failure::handle)
    }

    /// Takes out all that fit; they are given back so that they end outside the lock.
    pub(crate) fn take_all(&self, fit: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut things = self.things.write().unwrap_or_else(PoisonError::into_inner);
        things.extract_if(.., |_, thing| fit(thing)).map(|(_, thing)| thing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_once_and_never_again() {
        let handles = Handles::new();
        let (a, b) = (handles.put("a"), handles.put("b"));
        assert!(a != 0 && b != 0 && a != b);
        let held = handles.get(a).expect("there");
        assert_eq!(*handles.take(a).expect("there"), "a");
        assert!(handles.get(a).is_err() && handles.take(a).is_err() && handles.get(0).is_err());
        assert_eq!(*held, "a", "held is held");
        assert_eq!(handles.take_all(|thing| *thing == "b").len(), 1);
        assert!(handles.get(b).is_err());
        assert!(handles.put("c") > b);
    }
}
