//! The power fails at every operation on the flash, and the device comes back: with a model, with
//! nothing forgotten that it had said, and with the update going on.
//!
//! The flash is a model of NOR ([`nor`]): a program only makes zeros, an erase ones, either may be
//! cut anywhere and leave cells that read differently at every boot; writes fail, bits rot. The
//! fleet ([`fleet`]) signs with real keys; the device ([`world`]) is the crate itself, turn by
//! turn. [`rules`] holds what it says and serves against what it may. [`cuts`] cuts everywhere,
//! [`faults`] does the rest, [`soak`] goes on for as long as it is told to.
//!
//! That the rules notice what they should is seen in `mutants.rs`.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod cuts;
mod faults;
#[path = "../common/fleet.rs"]
mod fleet;
mod nor;
mod parts;
#[path = "../common/rng.rs"]
mod rng;
mod rules;
mod soak;
mod world;
