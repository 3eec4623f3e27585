//! One HTTP request to one host: a connection of its own, TLS unless it is loopback, a bound on the
//! answer, a deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::RegistryError;
use crate::authorities;

/// Longest time for one request: the largest model over a slow line.
const REQUEST: Duration = Duration::from_secs(300);
/// Longest time to connect, TLS included.
const CONNECT: Duration = Duration::from_secs(20);

/// Bytes of an answer that is no blob: a token, an error, an upload's address.
pub(super) const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// Bytes of the answer at most, if it is what was asked for; a refusal or a redirection may be longer than a
    /// small blob.
    pub(super) bytes_max: u64,
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Sends it.
pub(super) async fn send(ask: Ask) -> Result<Answer, RegistryError> {
    let host = authority(&ask.uri);
    let unreachable = |why: String| RegistryError::Unreachable { host: host.clone(), why };
    let late = |limit: Duration| unreachable(format!("not within {} s", limit.as_secs()));
    let stream = timeout(CONNECT, connect(&ask.uri)).await.map_err(|_| late(CONNECT))?;
    let stream = stream.map_err(unreachable)?;
    timeout(REQUEST, exchange(stream, ask)).await.map_err(|_| late(REQUEST))?.map_err(unreachable)
}

/// Host and port as they were written.
pub(super) fn authority(uri: &Uri) -> String {
    uri.authority().map(ToString::to_string).unwrap_or_default()
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn connect(uri: &Uri) -> Result<Box<dyn Stream>, String> {
    let name = uri.host().ok_or("no host")?.trim_start_matches('[').trim_end_matches(']');
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let tcp = TcpStream::connect((name, port)).await.map_err(|error| error.to_string())?;
    if !is_tls {
        return Ok(Box::new(tcp));
    }
    let server = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let tls = authorities::connector(None).map_err(|error| error.to_string())?;
    let tls = tls.connect(server, tcp).await;
    Ok(Box::new(tls.map_err(|error| error.to_string())?))
}

async fn exchange(stream: Box<dyn Stream>, ask: Ask) -> Result<Answer, String> {
    let failed = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let driver = tokio::spawn(connection);
    let path = ask.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(ask.method).uri(path);
    request = request.header(HOST, authority(&ask.uri)).header("user-agent", "fleetway");
    for (name, value) in ask.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(ask.body)).map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let (head, body) = response.into_parts();
    let max = if head.status == StatusCode::OK { ask.bytes_max } else { ANSWER_BYTES_MAX };
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let body = Limited::new(body, max).collect().await;
    let body = body.map_err(|error| format!("the answer was cut or is over {max} bytes: {error}"));
    driver.abort();
    Ok(Answer { status: head.status, headers: head.headers, body: body?.to_bytes() })
}
