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
//! 3. [`validate`], [`tract`], `softmax`: from bytes to a loaded model;
//! 4. [`batch`]: several rows in one run, where that changes no answer;
//! 5. [`golden`], [`npz`]: what the right answers are;
//! 6. [`watch`], [`samples`]: what is read off one answer, in use and at import;
//! 7. [`selftest`]: all of it in a process that may die;
//! 8. [`external`], [`outline`]: for importers, files in pieces made whole, and what a model consists of.
//!
//! Not here on purpose: int8 kernels of our own (`qnn`), what is counted and judged
//! (`fleetway_protocol`).
#![deny(unsafe_code)]

pub mod batch;
mod clock;
pub mod engine;
pub mod external;
pub mod golden;
pub mod limits;
pub mod npz;
pub mod outline;
pub mod samples;
pub mod selftest;
mod softmax;
pub mod tensor;
pub mod tract;
pub mod validate;
pub mod watch;

pub use engine::{Engine, RunError};
pub use golden::{GoldenRule, GoldenSet, GoldenVerdict};
pub use selftest::{Require, Sandbox, SelfTest, SelfTestError, SelfTestReport, Worker};
pub use tensor::{DType, Tensor, TensorSpec};
pub use tract::{LoadError, TractEngine};
pub use watch::Watcher;
