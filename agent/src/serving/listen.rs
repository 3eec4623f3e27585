//! The device's servers: accepting, time limits, a graceful end.
//!
//! Two ways in, for HTTP and for gRPC each. The unix socket is for applications on the device,
//! guarded by its permissions (0660 unless configured otherwise: owner and group). TCP is on the
//! loopback unless the configuration says otherwise, because there is no authentication here.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::grpc::connection;
use super::http::{Api, handle};
use super::limits::{CONNECTIONS_MAX, HEADERS_MAX, READ_BUFFER_BYTES_MAX};
use super::sockets::{SOCKET_PATH_BYTES_MAX, SocketFile, bind_tcp, bind_unix};
use super::stall::Unstalled;

/// Wait after a failed accept (no more file descriptors): it would fail again at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Permissions of a unix socket unless configured otherwise: owner and group.
pub const UNIX_MODE: u32 = 0o660;

/// Where to listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// HTTP over TCP; port 0 takes a free one.
    pub tcp: Option<SocketAddr>,
    /// HTTP over a unix socket.
    pub unix: Option<UnixEndpoint>,
    /// gRPC over TCP.
    pub grpc_tcp: Option<SocketAddr>,
    /// gRPC over a unix socket.
    pub grpc_unix: Option<UnixEndpoint>,
    /// Lets TCP listen beyond the loopback.
    pub allow_remote: bool,
}

/// A unix socket and who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixEndpoint {
    /// Its file.
    pub path: PathBuf,
    /// Its permissions; writing is connecting.
    pub mode: u32,
    /// Its group, if it is not the agent's own.
    pub group: Option<u32>,
}

impl UnixEndpoint {
    /// For the owner and the agent's own group.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), mode: UNIX_MODE, group: None }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TCP beyond the loopback.
    #[error(
        "{0} is reachable from outside and there is no authentication; use 127.0.0.1, or set allow_remote = true"
    )]
    Remote(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {addr}; use a free port, or 0 to take any")]
    Tcp {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Another server holds the socket.
    #[error("another server answers on {0}; stop it, or set another serve.unix")]
    Taken(PathBuf),
    /// Something else is there.
    #[error("{0} exists and is no socket; remove it, or set another serve.unix")]
    NoSocket(PathBuf),
    /// Longer than the kernel takes.
    #[error(
        "{0} is longer than {SOCKET_PATH_BYTES_MAX} bytes, which a unix socket cannot be; set a shorter serve.unix"
    )]
    TooLong(PathBuf),
    /// The group cannot have it.
    #[error(
        "{path} cannot be given to group {group}; run the agent as a member of it, or set another unix_group"
    )]
    Group {
        /// The path.
        path: PathBuf,
        /// The group's number.
        group: u32,
        /// What the system says.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {path}; check that its directory exists and can be written")]
    Unix {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A running server. Dropped, it stops at once; [`Server::shutdown`] lets answers end.
#[derive(Debug)]
pub struct Server {
    tcp: Option<SocketAddr>,
    unix: Option<SocketFile>,
    grpc_tcp: Option<SocketAddr>,
    grpc_unix: Option<SocketFile>,
    stop: watch::Sender<bool>,
    loops: JoinSet<()>,
}

/// What is spoken on a socket.
#[derive(Clone, Copy)]
enum Speech {
    Rest,
    Grpc,
}

impl Server {
    /// Listens on `endpoints`, all of them or none, and answers from `api`.
    ///
    /// # Errors
    /// [`ServeError`] names the endpoint and the mend.
    pub async fn start(endpoints: &Endpoints, api: Api) -> Result<Self, ServeError> {
        let Endpoints { tcp, unix, grpc_tcp, grpc_unix, allow_remote } = endpoints;
        for addr in [tcp, grpc_tcp].into_iter().flatten() {
            if !allow_remote && !addr.ip().is_loopback() {
                return Err(ServeError::Remote(*addr));
            }
        }
        let (tcp, unix) = (open_tcp(*tcp).await?, open_unix(unix.as_ref()).await?);
        let grpc = (open_tcp(*grpc_tcp).await?, open_unix(grpc_unix.as_ref()).await?);
        let (stop, _) = watch::channel(false);
        let loops = JoinSet::new();
        let mut server =
            Self { tcp: None, unix: None, grpc_tcp: None, grpc_unix: None, stop, loops };
        let api = Arc::new(api);
        (server.tcp, server.unix) = server.accept(tcp, unix, &api, Speech::Rest);
        (server.grpc_tcp, server.grpc_unix) = server.accept(grpc.0, grpc.1, &api, Speech::Grpc);
        Ok(server)
    }

    fn accept(
        &mut self,
        tcp: Option<(TcpListener, SocketAddr)>,
        unix: Option<(UnixListener, SocketFile)>,
        api: &Arc<Api>,
        speech: Speech,
    ) -> (Option<SocketAddr>, Option<SocketFile>) {
        let tcp = tcp.map(|(listener, addr)| {
            self.loops.spawn(accept(listener, speech, api.clone(), self.stop.subscribe()));
            addr
        });
        let unix = unix.map(|(listener, file)| {
            self.loops.spawn(accept(listener, speech, api.clone(), self.stop.subscribe()));
            file
        });
        (tcp, unix)
    }

    /// The address that TCP got.
    pub fn tcp(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// The path of the unix socket.
    pub fn unix(&self) -> Option<&Path> {
        self.unix.as_ref().map(|file| file.path.as_path())
    }

    /// The address that gRPC got.
    pub fn grpc_tcp(&self) -> Option<SocketAddr> {
        self.grpc_tcp
    }

    /// The path of gRPC's unix socket.
    pub fn grpc_unix(&self) -> Option<&Path> {
        self.grpc_unix.as_ref().map(|file| file.path.as_path())
    }

    /// Takes nothing new, lets what is under way end within [`Limits::grace`], then cuts.
    ///
    /// [`Limits::grace`]: super::limits::Limits::grace
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        while self.loops.join_next().await.is_some() {}
    }
}

async fn open_tcp(
    addr: Option<SocketAddr>,
) -> Result<Option<(TcpListener, SocketAddr)>, ServeError> {
    match addr {
        Some(addr) => bind_tcp(addr).await.map(Some),
        None => Ok(None),
    }
}

async fn open_unix(
    endpoint: Option<&UnixEndpoint>,
) -> Result<Option<(UnixListener, SocketFile)>, ServeError> {
    match endpoint {
        Some(endpoint) => bind_unix(endpoint).await.map(Some),
        None => Ok(None),
    }
}

/// What connections come from.
trait Accept: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Whether the socket's permissions say who may come.
    const GUARDED: bool;
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;
    const GUARDED: bool = false;
    async fn next(&self) -> io::Result<Self::Stream> {
        let (stream, _) = self.accept().await?;
        // Answers are written whole: waiting for more only costs latency.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    const GUARDED: bool = true;
    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

async fn accept<L: Accept>(
    listener: L,
    speech: Speech,
    api: Arc<Api>,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut open = JoinSet::new();
    loop {
        let next = async {
            // No room, no accept: who comes waits in the kernel's queue.
            let place = room.clone().acquire_owned().await;
            (place, listener.next().await)
        };
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = open.join_next() => {}
            (place, stream) = next => match stream {
                Ok(stream) => {
                    let (api, stop) = (api.clone(), stop.clone());
                    open.spawn(async move {
                        match speech {
                            Speech::Rest => serve(stream, api, L::GUARDED, stop).await,
                            Speech::Grpc => connection::serve(stream, api, stop).await,
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listener);
    let ended = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(api.limits.grace, ended).await.is_err() {
        tracing::warn!("requests still under way at the end of the grace period are cut");
    }
}

/// Until the server is told to stop, or is dropped.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn serve<S>(stream: S, api: Arc<Api>, guarded: bool, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(Unstalled::new(stream, api.limits.write_stall));
    let head = api.limits.head;
    let service = service_fn(move |request| handle(api.clone(), guarded, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
