//! What crosses the wire or survives a reset, and the pure machines over it.
//!
//! Everything here is `no_std` and allocates nothing: the same code decides on a Linux
//! box and on a microcontroller. Time is an argument, randomness is an argument, and
//! payload bytes never enter a machine.
//!
//! Read in this order:
//! 1. [`limits`]: every bound, with its unit and its reason;
//! 2. [`ids`], [`manifest`], [`order`], [`report`]: the nouns;
//! 3. [`codec`], [`record`], [`topics`], [`trust_file`]: how they become bytes and where those
//!    travel;
//! 4. [`envelope`], [`keyset`], [`trust`]: how bytes become [`trust::Verified`];
//! 5. [`slot`], [`machine`]: what a device remembers, and what it does next;
//! 6. [`transfer`]: how chunks arrive; [`histogram`], [`counters`], [`drift`], [`health`]: how a
//!    model is doing; [`shadow`]: how a candidate does beside it; [`hold`]: when an update may go on;
//! 7. [`signed`], [`sandbox`], [`telemetry`]: what a device's reports are believed by, what it says
//!    of its own fences, and how none of its telemetry is lost uncounted;
//! 8. [`join`], [`enroll`]: how a device comes into the fleet; [`serial`]: how one without a
//!    network speaks through a gateway.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod codec;
pub mod counters;
pub mod drift;
pub mod enroll;
pub mod envelope;
pub mod health;
pub mod histogram;
pub mod hold;
pub mod ids;
pub mod join;
mod keys;
pub mod keyset;
pub mod limits;
pub mod list;
pub mod machine;
pub mod manifest;
pub mod order;
pub mod reason;
pub mod record;
mod release_keys;
pub mod report;
pub mod sandbox;
pub mod serial;
pub mod shadow;
pub mod signed;
pub mod slot;
pub mod telemetry;
pub mod topics;
pub mod transfer;
pub mod trust;
pub mod trust_file;
