//! The broker inside the controller: `mqtt5` on a loopback port that only we can use.
//!
//! It never speaks TLS and never sees a device directly. The acceptor ends TLS, knows from
//! the certificate who is there, and opens one loopback connection per session with
//! user name = identity and password = a secret drawn at every start. Whoever else finds
//! the port (any process on this machine) is refused at CONNECT.
//!
//! What mqtt5 0.49 does by itself and must not here is set in [`config`], each with its
//! reason. The store is a cache: the controller seeds retained orders and chunks again at
//! every connect, so a lost or unreadable store costs traffic, not truth.

use std::fmt;
use std::future::Future;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fleetway_protocol::ids::DeviceId;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::config::{AuthConfig, BrokerConfig, RateLimitConfig, StorageConfig};
use mqtt5::broker::storage::DynamicStorage;
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker, ResourceLimits};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::acl::{self, Action};
use super::identity::Identity;

/// Largest packet: a chunk is at most 60 KiB, a report or an order far less. Everything
/// above is a mistake or an attack, and each connection may buffer one packet.
pub const PACKET_LEN_MAX: usize = 256 * 1024;
/// Retained payloads stay in memory; 60 KiB chunks are the largest that we retain.
const RETAINED_LEN_MAX: usize = 64 * 1024;
/// 64 Ki messages: chunks of live releases (1 GiB is 32 Ki chunks of 32 KiB) and a handful
/// of state messages for each of some thousand devices.
const RETAINED_MAX: usize = 64 * 1024;
/// Messages on their way to one connection. mqtt5's byte limits do not bound a *connected*
/// client that stalls, only this does: 512 chunks of 32 KiB are 16 MiB.
const CLIENT_CHANNEL_CAPACITY: usize = 512;
/// Offline queue of one session. Commands are few; this much is the controller's own
/// backlog of telemetry while it restarts.
const QUEUED_MESSAGES_MAX: usize = 10_000;
const QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A device that was off over a long weekend finds its session again.
const SESSION_EXPIRY: Duration = Duration::from_secs(4 * 24 * 60 * 60);
/// Devices hold a few standing filters and at most 8 chunks; dashboards some more.
const SUBSCRIPTIONS_MAX: usize = 64;
/// How long connections and the store get at shutdown, each.
const SHUTDOWN: Duration = Duration::from_millis(900);

/// What the embedded broker needs to know.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The controller's data directory; the store is `<data>/broker`.
    pub data_dir: PathBuf,
    /// Topic root with its closing slash.
    pub root: String,
    /// Most connections at once.
    pub clients_max: usize,
    /// Who hangs on whom.
    pub gate: Arc<super::Gate>,
}

/// Why the embedded broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The system gave no randomness for the secret.
    #[error("no randomness from the system")]
    Random(#[source] getrandom::Error),
    /// mqtt5 refused to start: in most cases another process holds the store.
    #[error("the embedded broker did not start on {}", store.display())]
    Start {
        /// The store's directory.
        store: PathBuf,
        #[source]
        /// mqtt5's own words.
        source: Box<mqtt5::MqttError>,
    },
    /// It ended before it was ready and said nothing.
    #[error("the embedded broker ended while starting")]
    Ended,
}

/// The password of the loopback connections of this process.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    fn random() -> Result<Self, EmbeddedError> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(EmbeddedError::Random)?;
        Ok(Self(bytes.iter().map(|b| format!("{b:02x}")).collect()))
    }

    /// The password as it goes into a CONNECT.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on lengths only.
    fn is(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differing = own.iter().zip(given).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
        own.len() == given.len() && black_box(differing) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where the acceptor takes connections to, and with which password.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The loopback listener.
    pub addr: SocketAddr,
    /// This process's secret.
    pub secret: Secret,
}

/// A running embedded broker. Dropping it ends it without waiting.
pub struct EmbeddedBroker {
    upstream: Upstream,
    stop: BrokerShutdownHandle,
    task: JoinHandle<mqtt5::Result<()>>,
    storage: Option<Arc<DynamicStorage>>,
}

impl EmbeddedBroker {
    /// Starts the broker and returns when it takes connections.
    pub async fn start(config: &EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let store = config.data_dir.join("broker");
        let refused =
            |source| EmbeddedError::Start { store: store.clone(), source: Box::new(source) };
        let secret = Secret::random()?;
        let (root, fleet) = (config.root.clone(), config.gate.clone());
        let gate = Gate { secret: secret.clone(), root, fleet };
        let broker = MqttBroker::with_config(self::config(&store, config.clients_max))
            .await
            .map_err(refused)?;
        let mut broker = broker.with_auth_provider(Arc::new(gate));
        broker.resource_monitor().update_limits(limits(config.clients_max));
        let addr = broker.local_addr().ok_or(EmbeddedError::Ended)?;
        let storage = broker.storage();
        let stop = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let task = tokio::spawn(async move { broker.run().await });
        // A shutdown signal that is sent before `run` listens would be lost, hence the wait.
        if ready.wait_for(|ready| *ready).await.is_err() {
            return match task.await {
                Ok(Err(source)) => Err(refused(source)),
                _ => Err(EmbeddedError::Ended),
            };
        }
        Ok(Self { upstream: Upstream { addr, secret }, stop, task, storage })
    }

    /// The loopback side, for the acceptor (and for nobody else).
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Ends all sessions and writes what is queued. Takes at most two seconds.
    ///
    /// mqtt5 publishes the last wills of everyone connected while it ends, as if they had
    /// vanished: after a restart their presence says offline until they are back.
    pub async fn shutdown(mut self) {
        self.stop.shutdown();
        match timeout(SHUTDOWN, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "embedded broker ended with an error"),
            Ok(Err(error)) => warn!(%error, "embedded broker's task failed"),
            Err(_) => warn!("embedded broker did not end in time, its task is aborted"),
        }
        // Queued messages are written behind, by a task that nobody joins.
        if let Some(storage) = self.storage.take()
            && timeout(SHUTDOWN, flush(&storage)).await.is_err()
        {
            warn!("embedded broker's queues were not written in time");
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn flush(storage: &DynamicStorage) {
    if let Err(error) = storage.shutdown().await {
        warn!(%error, "embedded broker's queues were not written");
    }
}

fn config(store: &Path, clients_max: usize) -> BrokerConfig {
    let storage = StorageConfig::new()
        .with_base_dir(store.to_owned())
        .with_max_queued_messages_per_client(QUEUED_MESSAGES_MAX)
        .with_max_queued_bytes_per_client(QUEUED_BYTES_MAX);
    BrokerConfig {
        bind_addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        max_clients: clients_max,
        session_expiry_interval: SESSION_EXPIRY,
        max_packet_size: PACKET_LEN_MAX,
        // An alias saves some 40 bytes a message and lets a client keep 64 Ki topics here.
        topic_alias_maximum: 0,
        // QoS 2 keeps state per message on disk, and nothing of ours asks for it.
        maximum_qos: 1,
        max_subscriptions_per_client: SUBSCRIPTIONS_MAX,
        max_retained_messages: RETAINED_MAX,
        max_retained_message_size: RETAINED_LEN_MAX,
        client_channel_capacity: CLIENT_CHANNEL_CAPACITY,
        // `$SYS` is refused to everyone by the ACL; do not make it in the first place.
        sys_topics_enabled: false,
        storage_config: storage,
        auth_config: AuthConfig {
            // The constructor insists on this when a provider of our own is set later;
            // the provider still refuses whoever lacks the secret.
            allow_anonymous: true,
            // Counts failures per address, and here all share one: five wrong passwords
            // from any local process would lock the whole fleet out.
            rate_limit: RateLimitConfig { enabled: false, ..RateLimitConfig::default() },
            ..AuthConfig::default()
        },
        ..BrokerConfig::default()
    }
}

/// Every connection comes from 127.0.0.1, so "per address" is "all": the defaults would end
/// at 10 000 and count a reconnecting fleet as one client's flood. The acceptor has the
/// limits that mean something, before TLS.
fn limits(clients_max: usize) -> ResourceLimits {
    ResourceLimits {
        max_connections: clients_max,
        max_connections_per_ip: clients_max,
        max_message_rate_per_client: 0,
        max_bandwidth_per_client: 0,
        max_connection_rate: u32::MAX,
        rate_limit_window: Duration::from_secs(1),
    }
}

/// mqtt5's question "may they?" answered by the secret and [`acl::allowed`].
struct Gate {
    secret: Secret,
    root: String,
    fleet: Arc<super::Gate>,
}

impl Gate {
    fn identity(&self, connect: &ConnectPacket, from: SocketAddr) -> Option<Identity> {
        let password = connect.password.as_deref()?;
        if !from.ip().is_loopback() || !self.secret.is(password) {
            return None;
        }
        let identity = Identity::from_username(connect.username.as_deref()?)?;
        identity.may_use_client_id(&connect.client_id).then_some(identity)
    }

    fn allows(&self, user: Option<&str>, action: Action, topic: &str) -> bool {
        let speaks_for = |gateway: &DeviceId, device: &str| self.fleet.speaks_for(gateway, device);
        user.and_then(Identity::from_username)
            .is_some_and(|identity| acl::allowed(&identity, &speaks_for, &self.root, action, topic))
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

// `supports_enhanced_auth` stays false: a v5 CONNECT with an authentication method would
// otherwise go around `authenticate`.
impl AuthProvider for Gate {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        client_addr: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        let result = match self.identity(connect, client_addr) {
            Some(identity) => AuthResult::success_with_user(identity.to_string()),
            None => {
                warn!(%client_addr, client_id = %connect.client_id,
                    "refused: a local process tried the embedded broker without its secret");
                AuthResult::fail(ReasonCode::NotAuthorized)
            }
        };
        Box::pin(std::future::ready(Ok(result)))
    }

    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        user_id: Option<&'a str>,
        topic: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(std::future::ready(self.allows(user_id, Action::Publish, topic)))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        user_id: Option<&'a str>,
        topic_filter: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(std::future::ready(self.allows(user_id, Action::Subscribe, topic_filter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_compare_and_stay_out_of_logs() {
        let (one, two) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(one.expose(), two.expose());
        assert!(one.is(one.expose().as_bytes()));
        let mut wrong = one.expose().as_bytes().to_vec();
        *wrong.last_mut().unwrap() ^= 1;
        for given in [&b""[..], &wrong, &wrong[1..], two.expose().as_bytes()] {
            assert!(!one.is(given));
        }
        let longer = format!("{}0", one.expose());
        assert!(!one.is(longer.as_bytes()));
        assert!(!format!("{one:?}").contains(&one.expose()[..8]));
    }
}
