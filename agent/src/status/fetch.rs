//! Asks the running agent over its unix socket: for its status, for a lock.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
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
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// Something answers that is no agent of this version.
    #[error("what answers is no fleetway-agent of this version: {0}")]
    Answer(String),
}

/// The status of the agent that listens on `socket`.
///
/// # Errors
/// [`FetchError`] says whether it runs at all.
pub async fn fetch(socket: &Path) -> Result<Status, FetchError> {
    let body = ask(socket, Method::GET, "/fleetway/v1/status", Bytes::new()).await?;
    serde_json::from_slice(&body).map_err(|error| FetchError::Answer(error.to_string()))
}

/// Takes a lock on a model for `ttl_s` seconds, or, without, releases it.
///
/// # Errors
/// [`FetchError`], with what the agent says where it refuses.
pub async fn hold(
    socket: &Path,
    model: &str,
    by: &str,
    ttl_s: Option<u32>,
) -> Result<(), FetchError> {
    let method = if ttl_s.is_some() { Method::POST } else { Method::DELETE };
    let mut body = serde_json::json!({ "model": model, "by": by });
    if let Some(ttl_s) = ttl_s {
        body["ttl_s"] = ttl_s.into();
    }
    ask(socket, method, "/fleetway/v1/hold", body.to_string().into()).await.map(drop)
}

async fn ask(socket: &Path, method: Method, path: &str, body: Bytes) -> Result<Bytes, FetchError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            FetchError::NotRunning(socket.into())
        }
        io::ErrorKind::PermissionDenied => FetchError::Forbidden(socket.into()),
        _ => FetchError::Socket { path: socket.into(), source },
    })?;
    let asked = ask_on(stream, method, path, body);
    tokio::time::timeout(DEADLINE, asked).await.unwrap_or(Err(FetchError::Hangs))
}

async fn ask_on(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Bytes, FetchError> {
    let wrong = |error: hyper::Error| FetchError::Answer(error.to_string());
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(wrong)?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .body(Full::new(body))
        .map_err(|error| FetchError::Answer(error.to_string()))?;
    let reply = client.send_request(request).await.map_err(wrong)?;
    let status = reply.status();
    let body = Limited::new(reply.into_body(), STATUS_BYTES_MAX).collect().await;
    connection.abort();
    let body = body.map_err(|error| FetchError::Answer(error.to_string()))?.to_bytes();
    if status != StatusCode::OK {
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = said["error"].as_str().map(str::to_owned);
        return Err(match text {
            Some(text) if status.is_client_error() => FetchError::Refused(text),
            _ => FetchError::Answer(format!("HTTP {status}")),
        });
    }
    Ok(body)
}
