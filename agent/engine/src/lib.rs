//! Engines: how a signed model becomes answers, and how a device learns beforehand that it will.
//!
//! Used by the agent (serving and self-test) and by the controller (the check at import). tract is
//! fast and takes most of ONNX, but it panics, aborts or hangs on hostile files and computes some
//! honest ones silently wrong (`research/inference.md`). This crate is what stands around it:
//!
//! - a validator of our own that refuses what is known to do harm, with a reason;
//! - an operator of our own where tract's is wrong;
//! - golden vectors, which notice what nobody has thought of;
//! - a child process that loads and runs the model first, so that a crash, a hang or an allocation
//!   bomb is a failed self-test and never a dead agent.
//!
//! Everything here blocks; callers inside an async runtime use its blocking pool.
//!
//! Read in this order:
//! 1. [`limits`]: every bound, with its unit and its reason;
//! 2. [`tensor`], [`engine`]: the nouns;
//! 3. [`load`], [`bytes`]: from verified bytes to an engine; [`qnn`] is ours, for compiled int8
//!    networks, large ones by several threads ([`crew`]); [`validate`], [`tract`], `softmax`, `region`
//!    take any ONNX file;
//! 4. [`batch`]: several rows in one run, where that changes no answer;
//! 5. [`golden`], [`npz`]: what the right answers are;
//! 6. [`watch`], [`samples`]: what is read off one answer, in use and at import;
//! 7. [`selftest`]: all of it in a process that may die;
//! 8. [`external`], [`outline`]: for importers, files in pieces made whole, and what a model consists of.
//!
//! Without the feature `tract` only compiled networks run, in a tenth of the program's size: for
//! small devices. Importers and the controller need it.
//!
//! Not here on purpose: what is counted and judged (`fleetway_protocol`).
#![deny(unsafe_code)]

#[cfg(feature = "tract")]
pub mod batch;
pub mod bytes;
mod clock;
pub mod crew;
pub mod engine;
#[cfg(feature = "tract")]
pub mod external;
pub mod golden;
mod guard;
pub mod limits;
pub mod load;
pub mod npz;
#[cfg(feature = "tract")]
pub mod outline;
pub mod qnn;
#[cfg(feature = "tract")]
mod region;
pub mod samples;
pub mod selftest;
#[cfg(feature = "tract")]
mod softmax;
pub mod tensor;
#[cfg(feature = "tract")]
pub mod tract;
#[cfg(feature = "tract")]
pub mod validate;
pub mod watch;

pub use bytes::ModelBytes;
pub use engine::{Engine, RunError};
pub use golden::{GoldenRule, GoldenSet, GoldenVerdict};
pub use load::LoadError;
pub use selftest::{Candidate, Require, Sandbox, SelfTest, SelfTestError, SelfTestReport, Worker};
pub use tensor::{DType, Tensor, TensorSpec};
#[cfg(feature = "tract")]
pub use tract::TractEngine;
pub use watch::Watcher;
