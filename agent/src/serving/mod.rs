//! Serving: applications on the device ask the model, over the Open Inference Protocol v2 (REST,
//! JSON bodies) on a loopback TCP port and a unix socket.
//!
//! What is promised here: a swap drops no request (an answer under way ends on the engine it began
//! on, and names that release); a broken engine is a failed answer and never a dead agent; nothing
//! that a client sends or fails to send holds memory, a connection or a processor for ever; and
//! counting answers never waits for anybody who reads the counts.
//!
//! Read in this order:
//! 1. [`limits`]: every bound;
//! 2. [`live`], [`recorder`]: the engine of each model, its swap, and what it answered;
//! 3. [`oip`]: the protocol's JSON, pure;
//! 4. [`infer`]: one request through the gate, off the async threads, with a deadline;
//! 5. [`http`], [`listen`]: routes, sockets and time limits.
//!
//! Not here on purpose: loading and unloading by clients (models change only through signed
//! orders), binary tensors and gRPC (JSON first), authentication (the socket's permissions and
//! the loopback are the fence; what it guards is a computation, not a secret).

pub mod http;
pub mod infer;
pub mod limits;
pub mod listen;
pub mod live;
pub mod oip;
pub mod recorder;
mod stall;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod serve_tests;
#[cfg(test)]
mod testing;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks whatever happened to the last holder: what is under our locks is counters and pointers,
/// each written in one step, so that a panic elsewhere leaves nothing half done in it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
