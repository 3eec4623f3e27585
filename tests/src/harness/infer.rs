//! An application: asks a device's inference API (Open Inference Protocol v2, REST) over
//! the unix socket or TCP, one connection kept open, as a real one would.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Longer than any answer of a healthy agent on a loaded machine.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Where an agent serves.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// Its unix socket.
    Unix(PathBuf),
    /// Its port on loopback.
    Tcp(SocketAddr),
}

/// An application with at most one open connection.
#[derive(Debug)]
pub struct Application {
    to: Endpoint,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which version gave it.
    pub version: String,
    /// The class with the highest score.
    pub class: usize,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody listens.
    Unreachable(std::io::Error),
    /// The connection broke under the request.
    Lost(String),
    /// A refusal, with its text.
    Refused(u16, String),
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "nobody listens: {error}"),
            Self::Lost(how) => write!(f, "the connection broke: {how}"),
            Self::Refused(status, text) => write!(f, "HTTP {status}: {text}"),
        }
    }
}

impl std::error::Error for NoAnswer {}

#[derive(Deserialize)]
struct Body {
    model_version: String,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    data: Vec<f32>,
}

impl Application {
    /// Connects with its first request.
    pub fn new(to: Endpoint) -> Self {
        Self { to, sender: None }
    }

    /// Asks model `digits` with a ready-made body ([`super::Digits::body`]).
    ///
    /// # Errors
    /// [`NoAnswer`] tells what an application would see.
    pub async fn ask(&mut self, body: Bytes) -> Result<Answer, NoAnswer> {
        let answer = self.request(Method::POST, "/v2/models/digits/infer", body).await?;
        let read = |answer: &[u8]| -> Option<Answer> {
            let body: Body = serde_json::from_slice(answer).ok()?;
            let scores = &body.outputs.first()?.data;
            let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]))?;
            Some(Answer { version: body.model_version, class: best })
        };
        read(&answer)
            .ok_or_else(|| NoAnswer::Refused(200, String::from_utf8_lossy(&answer).into_owned()))
    }

    /// One request, one answer.
    ///
    /// # Errors
    /// Everything but a success.
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, NoAnswer> {
        let done = timeout(ANSWER_TIME, self.exchange(method, path, body)).await;
        let result = done.unwrap_or_else(|_| Err(NoAnswer::Lost("no answer in time".into())));
        if matches!(result, Err(NoAnswer::Lost(_) | NoAnswer::Unreachable(_))) {
            self.sender = None;
        }
        result
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, NoAnswer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| NoAnswer::Lost(error.to_string()))?;
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            self.sender = Some(connect(&self.to).await?);
        }
        let Some(sender) = &mut self.sender else {
            return Err(NoAnswer::Lost("no connection".into()));
        };
        let lost = |error: hyper::Error| NoAnswer::Lost(chain(&error));
        sender.ready().await.map_err(lost)?;
        let response = sender.send_request(request).await.map_err(lost)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(lost)?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        Err(NoAnswer::Refused(status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn connect(to: &Endpoint) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
    let lost = |error: hyper::Error| NoAnswer::Lost(chain(&error));
    match to {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(NoAnswer::Unreachable)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(lost)?;
            tokio::spawn(connection);
            Ok(sender)
        }
        Endpoint::Tcp(addr) => {
            let stream = TcpStream::connect(addr).await.map_err(NoAnswer::Unreachable)?;
            stream.set_nodelay(true).map_err(NoAnswer::Unreachable)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(lost)?;
            tokio::spawn(connection);
            Ok(sender)
        }
    }
}
