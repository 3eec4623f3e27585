//! Identity with real processes: how a device comes in, keeps its certificate, comes back,
//! and is thrown out; and what strangers and other devices get, which is nothing.
//!
//! Read in this order: `joining`, `lasting` (renewal, return), `revoked`, `rules` (who reads
//! and writes what, by delivery), `hostile` (the listener that strangers can reach).

mod client;
mod hostile;
mod joining;
mod lasting;
mod revoked;
mod rules;

use std::time::Duration;

/// Longest wait for something that takes seconds, on a machine under load.
const WAIT: Duration = Duration::from_secs(60);
