//! Serving: applications on the device ask the model, over the Open Inference Protocol v2 (REST and
//! gRPC) on loopback TCP ports and unix sockets.
//!
//! What is promised here: a swap drops no request (an answer under way ends on the engine it began
//! on, and names that release); a broken engine is a failed answer and never a dead agent; nothing
//! that a client sends or fails to send holds memory, a connection or a processor for ever; and
//! counting answers never waits for anybody who reads the counts.
//!
//! Read in this order:
//! 1. [`limits`], [`settings`]: every bound;
//! 2. [`live`], `run`, [`recorder`], [`stats`]: the engine of each model, its swap, one run of it,
//!    and what it answered;
//! 3. [`oip`]: the protocol without sockets: requests, tensors, answers;
//! 4. `infer`, `batch`, `standby`: one request through the gate, off the async threads, with a
//!    deadline; requests that share a run; and the second thread, out of one caller's way;
//! 5. `body`, `coding`, `refusal`: bytes in memory, folded or not, and what is said instead of an answer;
//! 6. `routes`, [`http`], `rest`, and [`grpc`]: the two ways to ask; [`direct`]: the third, without a socket;
//! 7. [`listen`], `sockets`, `stall`: sockets and time limits;
//! 8. [`locks`]: what an application says so that no update comes now; [`tap`]: copies for a
//!    candidate in the shadow.
//!
//! Not here on purpose: loading and unloading by clients (models change only through signed
//! orders), streams and shared memory of Triton's, authentication (the socket's permissions and
//! the loopback are the fence; what it guards is a computation, not a secret).

mod batch;
mod body;
mod coding;
pub mod direct;
pub mod grpc;
mod hold;
pub mod http;
mod infer;
pub mod limits;
pub mod listen;
pub mod live;
pub mod locks;
pub mod oip;
pub mod recorder;
mod refusal;
mod rest;
mod routes;
mod run;
pub mod settings;
mod sockets;
mod stall;
mod standby;
pub mod stats;
pub mod tap;

pub(crate) use run::panic_text;

#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod binary_tests;
#[cfg(test)]
mod grpc_tests;
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
