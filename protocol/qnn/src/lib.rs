//! The int8 runtime: one flat file, the same bits on a server and on a microcontroller.
//!
//! `no_std`, no allocator, no parser: a file is checked once, in full, and then executed where it
//! lies (mapped memory or flash) over one arena that the caller lends. The arithmetic is on one
//! page, `docs/qnn.md`; the compiler that writes the file is `fleetway-qnnc`.
//!
//! Read in this order:
//! 1. [`limits`]: every bound, with its unit and its reason;
//! 2. [`format`](mod@format): the file, word by word;
//! 3. [`load`]: what a file must be before anything runs;
//! 4. [`arith`]: rounding and requantization, the same bits everywhere;
//! 5. `arena`, [`run`], `conv`, `ops`, `resize`: one operator after the other;
//! 6. [`team`]: several processors at one run;
//! 7. [`kernels`]: where the time goes; the only `unsafe` code is below it.
//!
//! The feature `std` lets it ask an AArch64 system whether it has dot products; nothing else changes.
//!
//! Not here on purpose: floats between operators, shapes that are known only at run time.
#![no_std]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "std"))]
extern crate std;

mod arena;
pub mod arith;
mod conv;
pub mod format;
pub mod kernels;
pub mod limits;
pub mod load;
mod load_op;
mod ops;
mod resize;
pub mod run;
pub mod team;
mod unroll;

pub use conv::scratch_bytes;
pub use kernels::Kernels;
pub use load::{LoadError, Model};
pub use run::{Input, Output, RunError};
