//! From a connection to a request: TLS, one HTTP/1.1 request, bounds on all of it.
//!
//! In this order: a place among the connections (and among those of its address), one
//! deadline for everything, TLS 1.3 (a client certificate is checked if there is one), the
//! head (bounded by hyper's buffer), the address's rate, the body (bounded before and while
//! it is read), and only then a parser.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fleetway_protocol::codec;
use fleetway_protocol::enroll::{Answer, Refusal};
use fleetway_protocol::limits::ENROLL_BODY_BYTES_MAX;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::rate::Buckets;
use super::{Desk, Later};
use crate::broker::acceptor::source;
use crate::broker::tls::{Clients, TlsError, server_config};
use crate::broker::{Identity, Peer};
use crate::clock;
use crate::pki::Issued;
use crate::places::{Guest, Places};

/// A request's head: a request line and a few headers.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Waiting between attempts when the system gives no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of the listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// The same per address; further ones are closed.
    pub connections_per_source_max: usize,
    /// From accept to the last byte of the answer: a bad mobile link needs some seconds.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 128,
            connections_per_source_max: 32,
            deadline: Duration::from_secs(20),
        }
    }
}

/// What the listener needs to know.
pub struct ListenerConfig {
    /// Bound already: its port is in URLs before anything is answered.
    pub listener: std::net::TcpListener,
    /// The fleet CA's certificate, PEM: it is shown to those who join, and verifies those
    /// who renew.
    pub ca_pem: String,
    /// The listener's own certificate and key.
    pub server: Issued,
    /// Bounds.
    pub limits: Limits,
}

/// Why the listener did not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The system does not let us.
    #[error("the enrolment listener cannot be used")]
    Listen(#[source] io::Error),
    /// Certificates or key.
    #[error("TLS of the enrolment listener")]
    Tls(#[from] TlsError),
}

/// The running listener. Dropping it closes everything.
pub struct Listener {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

struct Shared {
    tls: TlsAcceptor,
    desk: Arc<dyn Desk>,
    limits: Limits,
    rate: Mutex<Buckets>,
}

impl Listener {
    /// Starts to listen; `desk` answers.
    ///
    /// # Errors
    /// [`ListenerError`].
    pub async fn start(config: ListenerConfig, desk: Arc<dyn Desk>) -> Result<Self, ListenerError> {
        let tls = server_config(&config.ca_pem, &config.server, Clients::Anybody)?;
        config.listener.set_nonblocking(true).map_err(ListenerError::Listen)?;
        let listener = TcpListener::from_std(config.listener).map_err(ListenerError::Listen)?;
        let addr = listener.local_addr().map_err(ListenerError::Listen)?;
        let shared = Arc::new(Shared {
            tls: TlsAcceptor::from(Arc::new(tls)),
            desk,
            limits: config.limits,
            rate: Mutex::default(),
        });
        let task = tokio::spawn(accept_loop(listener, shared));
        info!(%addr, "enrolment listens");
        Ok(Self { addr, task })
    }

    /// Where devices come.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Shared {
    fn may_ask(&self, from: IpAddr) -> bool {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(from, clock::now_ms())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept_loop(listener: TcpListener, shared: Arc<Shared>) {
    let Limits { connections_max, connections_per_source_max, .. } = shared.limits;
    let places = Places::new(connections_max, connections_per_source_max);
    loop {
        let Some(place) = places.free().await else { return };
        match listener.accept().await {
            Ok((tcp, addr)) => {
                if let Some(guest) = places.seat(place, addr) {
                    tokio::spawn(connection(shared.clone(), guest, tcp, addr));
                }
            }
            Err(error) => {
                warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, _guest: Guest, tcp: TcpStream, addr: SocketAddr) {
    let shared = &shared;
    let served = timeout(shared.limits.deadline, async {
        let tls = match shared.tls.accept(tcp).await {
            Ok(tls) => tls,
            Err(error) => return debug!(%addr, %error, "TLS handshake failed"),
        };
        let peer = tls.get_ref().1.peer_certificates().and_then(|certs| Peer::of(certs, addr));
        let service = hyper::service::service_fn(|request| {
            let (shared, peer) = (shared.clone(), peer.clone());
            async move { Ok::<_, Infallible>(answer(&shared, peer, addr, request).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(HEAD_BYTES_MAX)
            .timer(TokioTimer::new())
            .header_read_timeout(shared.limits.deadline)
            .serve_connection(TokioIo::new(tls), service)
            .await;
        if let Err(error) = served {
            debug!(%addr, %error, "a request was not served");
        }
    });
    if served.await.is_err() {
        debug!(%addr, "too slow");
    }
}

type Reply = Response<Full<Bytes>>;

async fn answer(
    shared: &Shared,
    peer: Option<Peer>,
    addr: SocketAddr,
    request: Request<Incoming>,
) -> Reply {
    let from = source(addr.ip());
    if !shared.may_ask(from) {
        return refuse(Refusal::TooMany);
    }
    let desk = &shared.desk;
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/root") => match desk.root() {
            Some(root) => Response::new(Full::new(root.into())),
            None => status(StatusCode::NOT_FOUND, Bytes::new()),
        },
        (&Method::POST, "/enroll") => with(request, |body| desk.enroll(body)).await,
        (&Method::POST, "/challenge") => with(request, |body| desk.challenge(body)).await,
        (&Method::POST, "/return") => with(request, |body| desk.come_back(body)).await,
        (&Method::POST, "/renew") => match peer.filter(is_device) {
            Some(peer) => reply(desk.renew(peer).await),
            None => refuse(Refusal::NoCertificate),
        },
        (&Method::POST, "/floor") => match peer.filter(is_device) {
            Some(peer) => with(request, |body| desk.floor(peer, body)).await,
            None => refuse(Refusal::NoCertificate),
        },
        _ => {
            debug!(%addr, "there is no {} {path}", request.method());
            status(StatusCode::NOT_FOUND, Bytes::new())
        }
    }
}

fn is_device(peer: &Peer) -> bool {
    matches!(peer.identity, Identity::Device(_))
}

/// Reads the body, and hands what it says on.
async fn with<B: DeserializeOwned, T: Serialize>(
    request: Request<Incoming>,
    ask: impl FnOnce(B) -> Later<T>,
) -> Reply {
    let announced = request.headers().get("content-length").and_then(|v| v.to_str().ok());
    let announced = announced.and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > ENROLL_BODY_BYTES_MAX) {
        return refuse(Refusal::Malformed);
    }
    let body = Limited::new(request.into_body(), ENROLL_BODY_BYTES_MAX).collect().await;
    let Ok(body) = body else { return refuse(Refusal::Malformed) };
    match codec::decode(&body.to_bytes(), ENROLL_BODY_BYTES_MAX) {
        Ok(body) => reply(ask(body).await),
        Err(_) => refuse(Refusal::Malformed),
    }
}

fn refuse(refusal: Refusal) -> Reply {
    reply::<()>(Err(refusal))
}

fn reply<T: Serialize>(answer: Answer<T>) -> Reply {
    let code = match &answer {
        Ok(_) => StatusCode::OK,
        Err(Refusal::Malformed | Refusal::Key) => StatusCode::BAD_REQUEST,
        Err(Refusal::TooMany) => StatusCode::TOO_MANY_REQUESTS,
        Err(Refusal::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        Err(_) => StatusCode::FORBIDDEN,
    };
    let mut buf = vec![0; ENROLL_BODY_BYTES_MAX];
    match codec::encode(&answer, &mut buf) {
        Ok(bytes) => status(code, Bytes::copy_from_slice(bytes)),
        Err(error) => {
            warn!(%error, "an answer does not fit: a bug");
            status(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new())
        }
    }
}

fn status(code: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = code;
    reply
}
