//! Ports for what must come back on the same one after it was killed.
//!
//! Everything else takes port 0. A broker that restarts needs the port that its clients
//! know, and the system's own range for port 0 and outgoing connections would lend it to
//! somebody in between; so these lie below that range.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// A port that nobody listens on and that this process was not given before.
///
/// # Errors
/// If the whole range is taken.
pub fn lasting() -> Result<u16> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    (0..10_000)
        .map(|_| fastrand::u16(FIRST..LAST))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok() && given.insert(*port))
        .with_context(|| format!("no free port between {FIRST} and {LAST}"))
}
