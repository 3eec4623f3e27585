//! `inference.GRPCInferenceService`: the same protocol as gRPC, on sockets of its own.
//!
//! All that a unary gRPC call is stands in [`frame`] and [`service`]: a path, one message with five
//! bytes before it, and trailers. HTTP/2 is hyper's. So the bounds are ours, as for REST, and
//! nothing between the socket and a tensor copies it
//! (`docs/decisions/0016-serving-protocols.md`).
//!
//! Read in this order: [`wire`] (an inference request, read in place), [`messages`] (the rest of
//! the protocol's messages), [`frame`], [`service`], [`connection`], [`authority`].
//!
//! Not here on purpose: streams (`ModelStreamInfer`: a model here answers once), shared memory,
//! logging and tracing of Triton's.

pub mod authority;
pub(super) mod connection;
mod frame;
mod messages;
pub(super) mod service;
pub mod wire;

#[cfg(test)]
mod proto_tests;
