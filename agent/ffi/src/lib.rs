//! The agent as a library for other languages: a C ABI, and bindings by UniFFI.
//!
//! Both are thin: everything is `fleetway_agent::embed`'s. They share one shared library,
//! `libfleetway_device`, because a process must not hold two copies of the agent.
//!
//! Read in this order: [`c`] (the functions, as the header shows them), [`code`] (how they fail),
//! [`handle`] (what a number stands for), [`value`] (tensors and answers); then `bindings`, for UniFFI.
//! The header `include/fleetway_device.h` and the bindings are made by `cargo xtask bindings`.
#![warn(clippy::undocumented_unsafe_blocks)]

#[cfg(feature = "uniffi")]
pub mod bindings;
pub mod c;
pub mod code;
pub mod handle;
pub mod value;

#[cfg(panic = "abort")]
compile_error!("a panic in a model must not end the host: build with panic = \"unwind\"");

// Elements cross as they lie in memory, and are named little-endian.
#[cfg(target_endian = "big")]
compile_error!("elements of tensors are passed as little-endian");

#[cfg(feature = "uniffi")]
uniffi::setup_scaffolding!();
