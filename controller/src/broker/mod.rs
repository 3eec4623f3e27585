//! The broker between controller and devices, kept replaceable.
//!
//! Small fleets should not have to run a broker of their own: the controller brings one.
//! Large ones (past some thousand devices, or where the broker must survive the controller's
//! host) point at an external one by URL. So nothing outside this module knows which broker
//! runs: the controller is an MQTT client like any other, and what it holds of the embedded
//! one is a [`Broker`].
//!
//! `mqtt5` was the measured choice (all 21 conformance checks, topic ACLs by callback,
//! retained messages and sessions on disk). It is also young, mostly one author's, and
//! breaks its API between 0.x releases: it is pinned to one version, named in `embedded.rs`
//! alone, and replaced by `mosquitto.rs`'s rules if it fails us. It never hands a client
//! certificate to its authentication hook, hence an acceptor of our own in front:
//!
//! ```text
//! device --mTLS--> acceptor --loopback, identity + secret--> mqtt5
//! ```
//!
//! That costs one more copy of every byte within this process, and buys three things:
//! client ids bound to certificates, sessions that end when a device is revoked, and a
//! broker that strangers cannot reach before TLS has said who they are.
//!
//! Read in this order: `identity` and `acl` (who may do what), `connect` (the first packet),
//! `acceptor` and `session` (from certificate to connection), `embedded` (mqtt5 behind it),
//! `gate` (who was revoked), `mosquitto` and `dynsec` (the same for an external broker).

pub mod acceptor;
pub mod acl;
pub mod connect;
pub mod dynsec;
pub mod embedded;
pub mod gate;
pub mod identity;
pub mod mosquitto;
mod session;
#[cfg(test)]
pub(crate) mod test_client;
#[cfg(test)]
mod tests;
pub mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

pub use acceptor::{Acceptor, AcceptorConfig, AcceptorError, Limits, Peer, TlsError};
pub use embedded::{EmbeddedBroker, EmbeddedConfig, EmbeddedError};
pub use gate::Gate;
pub use identity::Identity;

/// A broker that runs in this process.
///
/// Deliberately small. Publishing, subscribing and watching are done over MQTT, so that
/// they work the same against any broker; what only the host of a broker can do is here.
pub trait Broker: Send + Sync {
    /// Where clients connect, with TLS.
    fn local_addr(&self) -> SocketAddr;

    /// Ends the sessions of an identity at once and says how many there were. Whether it
    /// may come back is the acceptor's `admit`.
    fn disconnect(&self, identity: &Identity) -> usize;

    /// Stops taking connections, ends all sessions, writes what is queued: within 2 s.
    fn shutdown(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Why the controller's own broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum LocalBrokerError {
    /// The broker itself.
    #[error("broker")]
    Embedded(#[from] EmbeddedError),
    /// The TLS listener in front of it.
    #[error("broker's listener")]
    Acceptor(#[from] AcceptorError),
}

/// `mqtt5` behind the acceptor: the broker that the controller brings.
pub struct LocalBroker {
    acceptor: Acceptor,
    embedded: EmbeddedBroker,
}

impl LocalBroker {
    /// Starts both; returns when clients can connect.
    pub async fn start(
        embedded: &EmbeddedConfig,
        acceptor: AcceptorConfig,
    ) -> Result<Self, LocalBrokerError> {
        let embedded = EmbeddedBroker::start(embedded).await?;
        let acceptor = Acceptor::start(acceptor, embedded.upstream().clone()).await?;
        Ok(Self { acceptor, embedded })
    }

    /// The listener: live sessions and counters.
    pub fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }
}

impl Broker for LocalBroker {
    fn local_addr(&self) -> SocketAddr {
        self.acceptor.local_addr()
    }

    fn disconnect(&self, identity: &Identity) -> usize {
        self.acceptor.disconnect(identity)
    }

    fn shutdown(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Self { acceptor, embedded } = *self;
        Box::pin(async move {
            acceptor.shutdown().await;
            embedded.shutdown().await;
        })
    }
}
