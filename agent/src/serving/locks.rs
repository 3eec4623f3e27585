//! Locks: an application says that its model must not be swapped now.
//!
//! A lock is for a bounded time and survives nothing: an application that dies, or forgets, holds
//! an update up until its time ends, and no restart brings the lock back. It holds back only
//! updates whose order, or whose device's owner, asks for consent
//! ([`fleetway_protocol::hold`]); a rollback never.
//!
//! Pure: time is an argument. [`Locks`] is shared between the server, which takes and releases,
//! and the event loop, which looks.

use std::collections::BTreeMap;
use std::sync::Mutex;

use fleetway_protocol::ids::ModelName;

use super::lock;

/// Locks at once on one device, whoever holds them: each application has one.
pub const LOCKS_MAX: usize = 32;
/// Longest time of one lock, seconds. Whoever needs longer takes it again in time.
pub const TTL_S_MAX: u32 = 3_600;
/// Length of the name of who holds it; a program's name, for a person who looks for it.
pub const BY_BYTES_MAX: usize = 64;

/// One lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// On which model.
    pub model: ModelName,
    /// Who holds it.
    pub by: String,
    /// Seconds until it ends by itself.
    pub left_s: u64,
}

/// Why there is no lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockRefused {
    /// No name, or one that no person can read.
    #[error("\"by\" must name the application in 1 to {BY_BYTES_MAX} printable ASCII characters")]
    By,
    /// No time, or too much of it.
    #[error("\"ttl_s\" is {0}; use 1 to {TTL_S_MAX} and take the lock again in time")]
    Ttl(u32),
    /// All are taken.
    #[error("{LOCKS_MAX} locks are taken; release one, or wait until one ends")]
    TooMany,
}

/// The locks of this device.
#[derive(Debug, Default)]
pub struct Locks(Mutex<BTreeMap<(ModelName, String), u64>>);

impl Locks {
    /// Takes a lock, or makes one that is held already last from now on.
    ///
    /// # Errors
    /// [`LockRefused`] names the bound.
    pub fn take(
        &self,
        now_ms: u64,
        model: &ModelName,
        by: &str,
        ttl_s: u32,
    ) -> Result<(), LockRefused> {
        let readable = by.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if by.is_empty() || by.len() > BY_BYTES_MAX || !readable {
            return Err(LockRefused::By);
        }
        if !(1..=TTL_S_MAX).contains(&ttl_s) {
            return Err(LockRefused::Ttl(ttl_s));
        }
        let mut locks = lock(&self.0);
        locks.retain(|_, ends_ms| *ends_ms > now_ms);
        let key = (model.clone(), by.to_owned());
        if locks.len() >= LOCKS_MAX && !locks.contains_key(&key) {
            return Err(LockRefused::TooMany);
        }
        locks.insert(key, now_ms.saturating_add(u64::from(ttl_s) * 1000));
        Ok(())
    }

    /// Releases a lock; whether there was one.
    pub fn release(&self, now_ms: u64, model: &ModelName, by: &str) -> bool {
        let ended = lock(&self.0).remove(&(model.clone(), by.to_owned()));
        ended.is_some_and(|ends_ms| ends_ms > now_ms)
    }

    /// Those that are held now, by model and name.
    pub fn list(&self, now_ms: u64) -> Vec<Lock> {
        let left_s = |ends_ms: u64| ends_ms.saturating_sub(now_ms).div_ceil(1000);
        lock(&self.0)
            .iter()
            .filter(|(_, ends_ms)| **ends_ms > now_ms)
            .map(|((model, by), ends_ms)| {
                let (model, by) = (model.clone(), by.clone());
                Lock { model, by, left_s: left_s(*ends_ms) }
            })
            .collect()
    }

    /// Models that somebody holds a lock on now.
    pub fn locked(&self, now_ms: u64) -> Vec<ModelName> {
        let mut models: Vec<_> = self.list(now_ms).into_iter().map(|held| held.model).collect();
        models.dedup();
        models
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> ModelName {
        ModelName::new(name).unwrap()
    }

    #[test]
    fn a_lock_ends_by_release_or_by_time_and_can_be_prolonged() {
        let locks = Locks::default();
        let (digits, faces) = (model("digits"), model("faces"));
        locks.take(0, &digits, "till", 10).unwrap();
        locks.take(0, &digits, "camera", 2).unwrap();
        locks.take(5_000, &faces, "door", 1).unwrap();
        assert_eq!(locks.locked(5_500), [digits.clone(), faces.clone()]);
        assert_eq!(locks.locked(6_000), std::slice::from_ref(&digits), "two have ended");
        assert_eq!(locks.list(6_000)[0].left_s, 4);
        locks.take(9_999, &digits, "till", 10).unwrap();
        assert_eq!(locks.locked(19_998), std::slice::from_ref(&digits));
        assert!(locks.release(19_998, &digits, "till"));
        assert!(!locks.release(19_998, &digits, "till"));
        assert!(locks.locked(19_998).is_empty());
        locks.take(20_000, &digits, "till", 1).unwrap();
        assert!(!locks.release(21_000, &digits, "till"), "it had ended");
    }

    #[test]
    fn bounds_hold() {
        let locks = Locks::default();
        let digits = model("digits");
        let take = |by: &str, ttl_s| locks.take(0, &digits, by, ttl_s);
        for by in ["", "a\nb", "é", &"x".repeat(BY_BYTES_MAX + 1)] {
            assert_eq!(take(by, 1), Err(LockRefused::By), "{by:?}");
        }
        assert_eq!(take("a", 0), Err(LockRefused::Ttl(0)));
        assert_eq!(take("a", TTL_S_MAX + 1), Err(LockRefused::Ttl(TTL_S_MAX + 1)));
        for n in 0..LOCKS_MAX {
            take(&format!("app {n}"), 1).unwrap();
        }
        assert_eq!(take("one more", 1), Err(LockRefused::TooMany));
        assert_eq!(take("app 3", 9), Ok(()), "held already");
        // Those that ended make room.
        assert_eq!(locks.take(1_000, &digits, "one more", 1), Ok(()));
        assert_eq!(locks.list(1_000).len(), 2);
    }
}
