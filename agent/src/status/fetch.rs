//! Asks the running agent for its status over its unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::Status;

/// The agent answers from memory: what takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(5);
/// Eight models with sixteen poisoned releases each are some 40 kB.
const STATUS_BYTES_MAX: usize = 1 << 20;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answers on the socket.
    #[error(
        "the agent is not running (nobody answers on {0}); start it with `fleetway-agent run`, \
         or check that --config is the one it runs with"
    )]
    NotRunning(PathBuf),
    /// The socket is not for this user.
    #[error("{0} is not open to you; run as root, or as a member of the socket's group")]
    Forbidden(PathBuf),
    /// It does not answer.
    #[error("the agent took the connection and did not answer within {} s; see its log", DEADLINE.as_secs())]
    Hangs,
    /// The socket does not work.
    #[error("cannot ask on {path}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something answers that is no agent of this version.
    #[error("what answers is no fleetway-agent of this version: {0}")]
    Answer(String),
}

/// The status of the agent that listens on `socket`.
///
/// # Errors
/// [`FetchError`] says whether it runs at all.
pub async fn fetch(socket: &Path) -> Result<Status, FetchError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            FetchError::NotRunning(socket.into())
        }
        io::ErrorKind::PermissionDenied => FetchError::Forbidden(socket.into()),
        _ => FetchError::Socket { path: socket.into(), source },
    })?;
    tokio::time::timeout(DEADLINE, ask(stream)).await.unwrap_or(Err(FetchError::Hangs))
}

async fn ask(stream: UnixStream) -> Result<Status, FetchError> {
    let wrong = |error: hyper::Error| FetchError::Answer(error.to_string());
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(wrong)?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/fleetway/v1/status")
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Answer(error.to_string()))?;
    let reply = client.send_request(request).await.map_err(wrong)?;
    let status = reply.status();
    let body = Limited::new(reply.into_body(), STATUS_BYTES_MAX).collect().await;
    connection.abort();
    let body = body.map_err(|error| FetchError::Answer(error.to_string()))?.to_bytes();
    if status != StatusCode::OK {
        return Err(FetchError::Answer(format!("HTTP {status}")));
    }
    serde_json::from_slice(&body).map_err(|error| FetchError::Answer(error.to_string()))
}
