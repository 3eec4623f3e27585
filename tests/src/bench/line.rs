//! One connection of an application that sends tensors as bytes, and a server that does nothing but
//! send them back: what HTTP alone costs here.

use std::convert::Infallible;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};

/// A request for model `digits` as NVIDIA's client would send it.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    body: Bytes,
    json_bytes: usize,
}

impl Ask {
    /// With image `at` of the held-out ones.
    pub(super) fn image(pixels: &[f32]) -> Self {
        let head = json!({
            "inputs": [{"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32",
                        "parameters": {"binary_data_size": pixels.len() * 4}}],
            "parameters": {"binary_data_output": true},
        })
        .to_string();
        let json_bytes = head.len();
        let mut body = head.into_bytes();
        body.extend(pixels.iter().flat_map(|pixel| pixel.to_le_bytes()));
        Self { body: body.into(), json_bytes }
    }
}

/// A connection that is kept open.
pub(super) struct Line(SendRequest<Full<Bytes>>);

impl Line {
    /// Connects.
    pub(super) async fn open(socket: &Path) -> Result<Self> {
        let shown = socket.display();
        let stream = UnixStream::connect(socket).await.with_context(|| shown.to_string())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Asks; gives the bytes of the answer.
    pub(super) async fn ask(&mut self, ask: &Ask) -> Result<Bytes> {
        let request = Request::post("/v2/models/digits/infer")
            .header("host", "localhost")
            .header("inference-header-content-length", ask.json_bytes)
            .body(Full::new(ask.body.clone()))?;
        self.0.ready().await?;
        let answer = self.0.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "HTTP {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}

/// `bench echo SOCKET`: sends every body back, on a runtime like the agent's. Ends with its parent.
pub(super) fn echo(socket: &Path) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = UnixListener::bind(socket)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let served =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(back));
            tokio::spawn(served);
        }
    })
}

async fn back(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map_or_else(|_| Bytes::new(), |b| b.to_bytes());
    Ok(Response::new(Full::new(body)))
}
