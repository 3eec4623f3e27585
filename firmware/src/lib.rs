//! The device on a microcontroller: the same orders, the same slot machine, the same reports as
//! on Linux, over NOR flash, without an operating system and without an allocator.
//!
//! Read in this order:
//! 1. [`hardware`]: what a board brings; [`provision`]: what a device is born with;
//! 2. [`store`]: the map of the flash, and the guard below everything; [`journal`], [`kept`]: what
//!    is remembered, and how that becomes durable;
//! 3. [`device`]: the shell around `fleetway_protocol::machine`;
//! 4. [`engine`], [`golden`], [`watch`]: a model where it lies, its self-test, what is counted;
//! 5. [`superloop`]: who is called when; [`serial`], [`drivers`]: what boards share.
//!
//! # If the power fails
//!
//! | while | where | the next boot |
//! |---|---|---|
//! | nothing is written | | serves what it served |
//! | a boot is noted | [`device::Device::begin`] | notes it again |
//! | an order is noted | `device/orders.rs` | has the old generation: the order comes again and is new; or the new one: the very same order is taken up by its digest |
//! | a keyset is stored | `device/orders.rs` | the old one is in force until a record names the new one |
//! | a record is appended | [`journal`] | finds the one before, or this one: nothing that it announces has happened |
//! | the journal turns over | [`journal`] | finds the newest record in the half that was not erased |
//! | a slot is erased | `device/jobs.rs` | its table says `Empty`: erased again from the start |
//! | a slot is written | `device/fetch.rs` | keeps what hashes right, erases what the cut left in doubt |
//! | a slot is verified | `device/jobs.rs` | verifies again, from the flash |
//! | a self-test runs | `device/jobs.rs` | it was noted before it began: tried again, three times in all; after the watchdog not again |
//! | a trial begins, or runs | `protocol/src/machine/` | it was counted before it ran; out of tries, what was confirmed serves |
//! | a trial is confirmed | `protocol/src/machine/` | on trial or confirmed; it was not reported before the record read back |
//! | it goes back | `protocol/src/machine/` | what was confirmed serves, checked byte by byte before |
//!
//! Whatever is lost or rots, the factory model lies in memory that nothing here writes.
//!
//! # Absent on purpose
//!
//! - **A shadow**: there is memory for one model. An order that asks for one is not taken further
//!   than its self-test, and says so.
//! - **A stored order**: the gateway has it. The digest of what was acted on is kept.
//! - **A spool of telemetry**: counters rise for the whole boot; the next report has what a lost
//!   one had.
//! - **Swapping slots**: a model runs where it lies.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod device;
pub mod drivers;
pub mod engine;
pub mod golden;
pub mod hardware;
pub mod journal;
pub mod kept;
pub mod provision;
pub mod serial;
pub mod store;
pub mod superloop;
pub mod watch;
