//! The store of tests and of the simulated world: what was committed, framed as on disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, Entry, Kind, Op, Store, StoreError, StoreEvent, frame, unframe};

type Values = BTreeMap<(Kind, Vec<u8>), Vec<u8>>;

/// A store in memory. Clones share what is in it: keep one, hand the other to a controller,
/// drop that controller at any point, and open the next one on the clone.
#[derive(Clone, Debug, Default)]
pub struct MemStore {
    values: Arc<Mutex<Values>>,
    events: Arc<Mutex<Vec<StoreEvent>>>,
    /// Commits that still succeed; `None`: all of them.
    commits_left: Arc<Mutex<Option<u64>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A power cut. Every commit is whole and durable, so nothing is lost; a store that
    /// was told to fail works again.
    pub fn crash(&self) {
        *lock(&self.commits_left) = None;
    }

    /// Lets `commits` more commits succeed; those after them fail and change nothing.
    pub fn fail_after(&self, commits: u64) {
        *lock(&self.commits_left) = Some(commits);
    }

    /// Flips a bit of a stored value; `false` if there is none.
    pub fn rot(&self, kind: Kind, key: &[u8], bit: usize) -> bool {
        match lock(&self.values).get_mut(&(kind, key.to_vec())) {
            Some(value) => {
                let at = bit / 8 % value.len();
                value[at] ^= 1 << (bit % 8);
                true
            }
            None => false,
        }
    }

    fn read(&self, kind: Kind, key: &[u8], framed: &[u8]) -> Option<Vec<u8>> {
        let value = unframe(kind, key, framed);
        if value.is_none() {
            lock(&self.events).push(StoreEvent::Rotten { kind, key: key.to_vec() });
        }
        value
    }
}

impl Store for MemStore {
    fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let values = lock(&self.values);
        Ok(values.get(&(kind, key.to_vec())).and_then(|framed| self.read(kind, key, framed)))
    }

    fn list(&self, kind: Kind) -> Result<Vec<Entry>, StoreError> {
        let values = lock(&self.values);
        let of_kind = values.iter().filter(|((k, _), _)| *k == kind);
        Ok(of_kind
            .filter_map(|((_, key), framed)| Some((key.clone(), self.read(kind, key, framed)?)))
            .collect())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if let Some(left) = lock(&self.commits_left).as_mut() {
            *left = left.checked_sub(1).ok_or_else(|| StoreError::Database {
                doing: "commit",
                detail: "told to fail".to_owned(),
            })?;
        }
        let mut values = lock(&self.values);
        for op in batch.ops() {
            match op {
                Op::Put(kind, key, value) => {
                    values.insert((*kind, key.clone()), frame(*kind, key, value));
                }
                Op::Remove(kind, key) => {
                    values.remove(&(*kind, key.clone()));
                }
            }
        }
        Ok(())
    }

    fn take_events(&self) -> Vec<StoreEvent> {
        std::mem::take(&mut lock(&self.events))
    }
}
