//! Sockets of the device's HTTP server: binding, accepting, time limits, a graceful end.
//!
//! Two ways in. The unix socket is for applications on the device, guarded by its permissions
//! (0660: owner and group); a lock file beside it says whether a server holds it, so that a socket
//! left over by a power cut is told from one in use. TCP is on the loopback unless the
//! configuration says otherwise, because there is no authentication here.

use std::fs::{File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::http::{Api, handle};
use super::limits::{CONNECTIONS_MAX, HEADERS_MAX, READ_BUFFER_BYTES_MAX};
use super::stall::Unstalled;

/// Longest path that the kernel takes for a unix socket.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Connections that wait in the kernel.
const BACKLOG: u32 = 128;
/// Wait after a failed accept (no more file descriptors): it would fail again at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where to listen.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    /// TCP; port 0 takes a free one.
    pub tcp: Option<SocketAddr>,
    /// Unix socket.
    pub unix: Option<PathBuf>,
    /// Lets TCP listen beyond the loopback.
    pub allow_remote: bool,
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
    stop: watch::Sender<bool>,
    loops: JoinSet<()>,
}

impl Server {
    /// Listens on `endpoints`, all of them or none, and answers from `api`.
    ///
    /// # Errors
    /// [`ServeError`] names the endpoint and the mend.
    pub async fn start(endpoints: &Endpoints, api: Api) -> Result<Self, ServeError> {
        let tcp = match endpoints.tcp {
            Some(addr) if !endpoints.allow_remote && !addr.ip().is_loopback() => {
                return Err(ServeError::Remote(addr));
            }
            Some(addr) => Some(bind_tcp(addr).await?),
            None => None,
        };
        let unix = match &endpoints.unix {
            Some(path) => Some(bind_unix(path).await?),
            None => None,
        };
        let api = Arc::new(api);
        let (stop, stopped) = watch::channel(false);
        let mut loops = JoinSet::new();
        let tcp = tcp.map(|(listener, addr)| {
            loops.spawn(accept(listener, api.clone(), stopped.clone()));
            addr
        });
        let unix = unix.map(|(listener, file)| {
            loops.spawn(accept(listener, api, stopped));
            file
        });
        Ok(Self { tcp, unix, stop, loops })
    }

    /// The address that TCP got.
    pub fn tcp(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// The path of the unix socket.
    pub fn unix(&self) -> Option<&Path> {
        self.unix.as_ref().map(|file| file.path.as_path())
    }

    /// Takes nothing new, lets what is under way end within [`Limits::grace`], then cuts.
    ///
    /// [`Limits::grace`]: super::limits::Limits::grace
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        while self.loops.join_next().await.is_some() {}
    }
}

async fn bind_tcp(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bound = async {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok((listener, addr))
    };
    bound.await.map_err(|source| ServeError::Tcp { addr, source })
}

/// The socket's file and the lock that says it is ours; both go with the server.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    _lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Ours while we hold the lock. The lock file stays: removing it would let two servers
        // lock two files of one name.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), ServeError> {
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(ServeError::TooLong(path.into()));
    }
    let failed = |source| ServeError::Unix { path: path.into(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(PathBuf::from(name))
        .map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(ServeError::Taken(path.into())),
        Err(error) => return Err(failed(error.into())),
    }
    remove_stale(path).await?;
    let listener = (|| {
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        // Before `listen`: nobody connects under the wider permissions of the umask.
        std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
        socket.listen(BACKLOG)
    })();
    let listener = listener.map_err(failed)?;
    Ok((listener, SocketFile { path: path.into(), _lock: lock }))
}

/// Removes a socket that nobody answers on, and nothing else.
async fn remove_stale(path: &Path) -> Result<(), ServeError> {
    let failed = |source| ServeError::Unix { path: path.into(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServeError::NoSocket(path.into()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        // A full queue or a forbidden socket is somebody's too.
        Ok(_) | Err(_) => Err(ServeError::Taken(path.into())),
    }
}

/// What connections come from.
trait Accept: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn next(&self) -> io::Result<Self::Stream> {
        let (stream, _) = self.accept().await?;
        // Answers are written whole: waiting for more only costs latency.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

async fn accept<L: Accept>(listener: L, api: Arc<Api>, mut stop: watch::Receiver<bool>) {
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
                    let connection = serve(stream, api.clone(), stop.clone());
                    open.spawn(async move {
                        connection.await;
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
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn serve<S>(stream: S, api: Arc<Api>, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(Unstalled::new(stream, api.limits.write_stall));
    let head = api.limits.head;
    let service = service_fn(move |request| handle(api.clone(), request));
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
