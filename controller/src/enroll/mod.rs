//! How devices come in: a TLS listener of its own, beside the broker's.
//!
//! The broker's door opens for certificates of the fleet's CA only. This one is for those
//! who have none yet (a token from a join string), have one that ends soon (by that very
//! certificate), or had one that ended (by the enrolled key). It is the only part of the
//! controller that strangers can talk to, so everything about it is small and bounded:
//! TLS 1.3, one request per connection, bodies of some KiB, a few seconds, few at a time.
//!
//! Read in this order: [`listener`] (from a connection to a request), `rate` and [`nonces`]
//! (pure), `fleetway_protocol::enroll` (the messages). What is answered is the caller's
//! [`Desk`]; the rules are in [`crate::fleet`].

pub mod listener;
pub mod nonces;
mod rate;
pub mod refusals;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;

use fleetway_protocol::enroll::{
    Answer, ChallengeRequest, EnrollRequest, Enrolled, Floor, FloorRequest, Nonce, Renewed,
    ReturnRequest,
};

use crate::broker::Peer;

pub use listener::{Limits, Listener, ListenerConfig, ListenerError};

/// An answer that takes a while.
pub type Later<T> = Pin<Box<dyn Future<Output = Answer<T>> + Send>>;

/// Who answers. Called on network tasks: it must not block.
pub trait Desk: Send + Sync + 'static {
    /// A token, and a request for a certificate.
    fn enroll(&self, request: EnrollRequest) -> Later<Enrolled>;
    /// A device with a certificate that holds wants the next one.
    fn renew(&self, peer: Peer) -> Later<Renewed>;
    /// A device without one asks for a nonce.
    fn challenge(&self, request: ChallengeRequest) -> Later<Nonce>;
    /// It signed the nonce.
    fn come_back(&self, request: ReturnRequest) -> Later<Renewed>;
    /// A device with a certificate that holds has forgotten everything else.
    fn floor(&self, peer: Peer, request: FloorRequest) -> Later<Floor>;
    /// The TUF root that devices pin, if there is one.
    fn root(&self) -> Option<Vec<u8>>;
}
