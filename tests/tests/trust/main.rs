//! What a device believes of the release authority: the client rule by rule, then a whole
//! device core that is fed with messages, then what it costs on a real socket.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod client;
mod device;
mod wire;
