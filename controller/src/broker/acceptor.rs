//! From a certificate to a connection: the only door to the embedded broker.
//!
//! Each connection passes, in this order: a place among the handshakes (bounded, and
//! bounded per source, so that a flood from one host cannot take all), TLS 1.3 with a
//! client certificate of the fleet's CA, the CONNECT packet (bounded, one deadline for
//! everything so far), the rules that bind it to the certificate, and the `admit` hook.
//! Then bytes are piped to the broker until either side ends or [`Acceptor::disconnect`].
//!
//! A session enters the table *before* `admit` is asked. Whoever revokes a device first
//! makes `admit` say no and then disconnects; in that order no session slips between.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::embedded::Upstream;
use super::identity::Identity;
use super::session;
use super::tls::Clients;
pub use super::tls::{Peer, TlsError};
use crate::pki::Issued;

/// Whether a peer with a valid certificate may connect now: revocation, pending removal.
/// Called on a network task, so it must not block.
pub type Admit = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// Waiting between attempts when the system gives no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long sessions get to end at shutdown; nothing waits for a device.
const SHUTDOWN: Duration = Duration::from_millis(300);

/// Bounds of the listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections that have not said who they are yet. Further ones wait in the kernel's
    /// queue: a fleet that returns after a power cut is served in turn, not refused.
    pub handshakes_max: usize,
    /// The same, per source (an IPv4 address, an IPv6 /64). Further ones are closed. High
    /// enough for a site behind one address, and well below `handshakes_max`.
    pub handshakes_per_source_max: usize,
    /// One deadline for TLS and CONNECT together; 10 s is a bad mobile link.
    pub hello: Duration,
    /// Sessions at once. Keep the embedded broker's `clients_max` above it.
    pub sessions_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes_max: 256,
            handshakes_per_source_max: 64,
            hello: Duration::from_secs(10),
            sessions_max: 10_000,
        }
    }
}

/// What the acceptor needs to know.
pub struct AcceptorConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The fleet CA's certificate, PEM: it verifies clients.
    pub ca_pem: String,
    /// The listener's own certificate and key.
    pub server: Issued,
    /// Topic root with its closing slash, for last wills.
    pub root: String,
    /// Bounds.
    pub limits: Limits,
    /// Who may connect although the certificate is valid.
    pub admit: Admit,
}

/// Why the acceptor did not start.
#[derive(Debug, thiserror::Error)]
pub enum AcceptorError {
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        #[source]
        /// The system's error.
        source: io::Error,
    },
    /// Certificates or key.
    #[error("TLS of the broker's listener")]
    Tls(#[from] TlsError),
}

/// A live session, as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Who.
    pub peer: Peer,
    /// Under which client id.
    pub client_id: String,
}

/// What happened since the start. Refusals are counted, so that a flood shows without
/// filling the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections closed because their source had too many handshakes open.
    pub crowded: u64,
    /// TLS handshakes that failed or took too long: no certificate, another CA, no TLS.
    pub handshakes_failed: u64,
    /// Verified clients that were refused: other client id, will, version, not admitted.
    pub refused: u64,
    /// Sessions that reached the broker.
    pub sessions: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) crowded: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) sessions: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The TLS listener in front of the embedded broker. Dropping it closes everything.
pub struct Acceptor {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) tls: TlsAcceptor,
    pub(super) upstream: Upstream,
    pub(super) root: String,
    pub(super) limits: Limits,
    pub(super) admit: Admit,
    pub(super) counters: Counters,
    sessions: Mutex<Table>,
    sources: Mutex<HashMap<IpAddr, usize>>,
}

#[derive(Default)]
struct Table {
    next: u64,
    live: HashMap<u64, (SessionInfo, Arc<Notify>)>,
}

impl Acceptor {
    /// Starts to listen and to pass connections on to `upstream`.
    pub async fn start(config: AcceptorConfig, upstream: Upstream) -> Result<Self, AcceptorError> {
        let tls: ServerConfig =
            super::tls::server_config(&config.ca_pem, &config.server, Clients::Certified)?;
        let listening = |source| AcceptorError::Listen { addr: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listening)?;
        let addr = listener.local_addr().map_err(listening)?;
        let shared = Arc::new(Shared {
            tls: TlsAcceptor::from(Arc::new(tls)),
            upstream,
            root: config.root,
            limits: config.limits,
            admit: config.admit,
            counters: Counters::default(),
            sessions: Mutex::default(),
            sources: Mutex::default(),
        });
        let task = tokio::spawn(accept_loop(listener, shared.clone()));
        info!(%addr, "broker listens");
        Ok(Self { addr, shared, task })
    }

    /// Where clients connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends every session of `identity`; how many there were.
    pub fn disconnect(&self, identity: &Identity) -> usize {
        self.disconnect_where(|session| session.peer.identity == *identity)
    }

    /// Ends every session that `ends` picks, e.g. those whose certificate has run out.
    pub fn disconnect_where(&self, ends: impl Fn(&SessionInfo) -> bool) -> usize {
        let table = lock(&self.shared.sessions);
        let picked = table.live.values().filter(|(session, _)| ends(session));
        picked.map(|(_, end)| end.notify_one()).count()
    }

    /// The live sessions, in no order.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let table = lock(&self.shared.sessions);
        table.live.values().map(|(session, _)| session.clone()).collect()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let counters = &self.shared.counters;
        Counts {
            crowded: counters.crowded.load(Ordering::Relaxed),
            handshakes_failed: counters.handshakes_failed.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
            sessions: counters.sessions.load(Ordering::Relaxed),
        }
    }

    /// Closes the listener and ends all sessions, within half a second.
    pub async fn shutdown(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.disconnect_where(|_| true);
        let deadline = Instant::now() + SHUTDOWN;
        while !lock(&self.shared.sessions).live.is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.task.abort();
        self.disconnect_where(|_| true);
    }
}

async fn accept_loop(listener: TcpListener, shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(shared.limits.handshakes_max));
    loop {
        // The place comes before the connection, so that what waits costs us nothing.
        let Ok(place) = handshakes.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((tcp, addr)) => match Greeting::open(&shared, addr, place) {
                Some(greeting) => {
                    tokio::spawn(connection(shared.clone(), tcp, addr, greeting));
                }
                None => count(&shared.counters.crowded),
            },
            Err(error) => {
                warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, tcp: TcpStream, addr: SocketAddr, greeting: Greeting) {
    let hello = timeout(shared.limits.hello, session::greet(&shared, tcp, addr)).await;
    drop(greeting);
    match hello {
        Ok(Some(session)) => session.run().await,
        Ok(None) => {}
        Err(_) => count(&shared.counters.handshakes_failed),
    }
}

impl Shared {
    /// Enters a session into the table; `None` when there are too many.
    pub(super) fn enter(self: &Arc<Self>, info: SessionInfo) -> Option<Entry> {
        let mut table = lock(&self.sessions);
        if table.live.len() >= self.limits.sessions_max {
            return None;
        }
        let end = Arc::new(Notify::new());
        let number = table.next;
        table.next += 1;
        table.live.insert(number, (info, end.clone()));
        Some(Entry { shared: self.clone(), number, end })
    }
}

/// A session's place in the table, given back when dropped.
pub(super) struct Entry {
    shared: Arc<Shared>,
    number: u64,
    /// Told when the session has to end.
    pub(super) end: Arc<Notify>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.shared.sessions).live.remove(&self.number);
    }
}

/// A place among the handshakes, and one among its source's.
struct Greeting {
    shared: Arc<Shared>,
    source: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Greeting {
    fn open(shared: &Arc<Shared>, addr: SocketAddr, place: OwnedSemaphorePermit) -> Option<Self> {
        let source = source(addr.ip());
        let mut sources = lock(&shared.sources);
        let open = sources.entry(source).or_insert(0);
        if *open >= shared.limits.handshakes_per_source_max {
            return None;
        }
        *open += 1;
        Some(Self { shared: shared.clone(), source, _place: place })
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        let mut sources = lock(&self.shared.sources);
        if let Some(open) = sources.get_mut(&self.source) {
            *open -= 1;
            if *open == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// Who counts as one source: an address, but in IPv6 a /64, which one host has to itself.
pub(crate) fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        },
        v4 => v4,
    }
}

/// The maps are changed in single steps, so one behind a panic is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::source;

    #[test]
    fn sources_are_addresses_or_networks() {
        let of = |ip: &str| source(ip.parse().unwrap()).to_string();
        assert_eq!(of("10.0.0.1"), "10.0.0.1");
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
