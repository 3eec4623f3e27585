//! Where programs post to: an HTTP server that keeps every request, and answers as it was told. It lives on a
//! thread of its own, since its clients are real programs with little patience, and a test may block its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// When its body was complete.
    pub at: Instant,
    /// Its path and what follows.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// How to answer: a status, and headers.
type Told = (u16, Vec<(String, String)>);

#[derive(Default)]
struct Shared {
    received: Vec<Received>,
    /// Answers of the next requests; then it is 200 again.
    answers: VecDeque<Told>,
}

/// A running server. It ends when it is dropped.
pub struct Sink {
    addr: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    /// None once it is dropped.
    runtime: Option<Runtime>,
}

impl Sink {
    /// On a free port.
    ///
    /// # Errors
    /// The system's.
    pub fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("bind")?;
        listener.set_nonblocking(true).context("a listener that does not block")?;
        let addr = listener.local_addr().context("an address")?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("sink")
            .enable_all()
            .build()
            .context("a thread for the sink")?;
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { addr, shared, runtime: Some(runtime) })
    }

    /// Its URL.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Everything so far.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared).received.clone()
    }

    /// Answers one of the next requests like this, in the order in which it was said.
    pub fn answer_next(&self, status: u16, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        lock(&self.shared).answers.push_back((status, headers.collect()));
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A runtime waits for its threads when it is dropped, which a test's own thread must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Mutex<Shared>>) {
    // Connections end with the client; the sink's runtime ends the rest.
    let listener = TcpListener::from_std(listener).expect("a listener that does not block");
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Mutex<Shared>>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = parts.uri.to_string();
    let received = Received { at: Instant::now(), path, headers: parts.headers, body };
    let mut shared = lock(&shared);
    shared.received.push(received);
    let (status, headers) = shared.answers.pop_front().unwrap_or((200, Vec::new()));
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::default()).unwrap_or_default())
}
