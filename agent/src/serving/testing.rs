//! What the tests of serving share: an engine made of a closure, a server on free sockets, and a
//! client that can misbehave.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleetway_engine::tensor::TensorData;
use fleetway_engine::{DType, Engine, RunError, Tensor, TensorSpec};
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::slot::{Place, SlotId};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::http::Api;
use super::limits::Limits;
use super::listen::{Endpoints, Server, UnixEndpoint};
use super::live::{Live, Loaded, Models};
use super::locks::Locks;
use super::settings::{ModelSettings, Settings};
use crate::clock::Clock;
use crate::status::Status;

type RunFn = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, RunError> + Send + Sync;

pub(super) struct Fake {
    rows_max: usize,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    run: Box<RunFn>,
}

impl Engine for Fake {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }
    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        (self.run)(inputs)
    }
    fn rows_max(&self) -> usize {
        self.rows_max
    }
    fn kind(&self) -> &'static str {
        "fake"
    }
}

pub(super) fn spec(name: &str, dtype: DType, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }
}

impl Fake {
    pub(super) fn of(
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        run: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, RunError> + Send + Sync + 'static,
    ) -> Arc<dyn Engine> {
        Arc::new(Self { rows_max: 1, inputs, outputs, run: Box::new(run) })
    }

    /// `x` FP32 [1, 3] in and `y` the same out, up to eight rows at once.
    pub(super) fn rows(
        run: impl Fn(&Tensor) -> Result<Tensor, RunError> + Send + Sync + 'static,
    ) -> Arc<dyn Engine> {
        let specs = |name| vec![spec(name, DType::F32, &[1, 3])];
        let run = move |inputs: &[Tensor]| -> Result<Vec<Tensor>, RunError> {
            Ok(vec![run(&inputs[0])?])
        };
        Arc::new(Self { rows_max: 8, inputs: specs("x"), outputs: specs("y"), run: Box::new(run) })
    }

    /// `x` FP32 [1, 3] in; `y`, the same times `factor`, and `n` INT64 [1] out.
    pub(super) fn times(factor: f32) -> Arc<dyn Engine> {
        Self::with_x(move |x| x.iter().map(|v| v * factor).collect())
    }

    pub(super) fn with_x(
        run: impl Fn(&[f32]) -> Vec<f32> + Send + Sync + 'static,
    ) -> Arc<dyn Engine> {
        let inputs = vec![spec("x", DType::F32, &[1, 3])];
        let outputs = vec![spec("y", DType::F32, &[1, 3]), spec("n", DType::I64, &[1])];
        Self::of(inputs, outputs, move |inputs| {
            let y = run(inputs[0].as_f32().expect("checked"));
            let n = Tensor::new(vec![1], TensorData::I64(vec![7])).expect("one");
            Ok(vec![Tensor::from_f32(&[1, 3], y).expect("three"), n])
        })
    }
}

pub(super) fn model(name: &str) -> ModelName {
    ModelName::new(name).expect("a name")
}

pub(super) fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

/// Release number `n`, called `v<n>`.
pub(super) fn loaded(engine: Arc<dyn Engine>, n: u8) -> Loaded {
    let slot = if n.is_multiple_of(2) { SlotId::B } else { SlotId::A };
    Loaded::new(engine, model("m"), &format!("v{n}"), digest(n), Place::Slot(slot), 0)
}

/// A server with model `m`, and its live engine.
pub(super) struct Site {
    pub(super) server: Server,
    pub(super) live: Arc<Live>,
    pub(super) models: Arc<Models>,
    pub(super) locks: Arc<Locks>,
    pub(super) dir: TempDir,
}

impl Site {
    pub(super) async fn of(engine: Arc<dyn Engine>) -> Self {
        Self::with(Some(engine), Limits::default(), 2).await
    }

    pub(super) async fn with(
        engine: Option<Arc<dyn Engine>>,
        limits: Limits,
        concurrent_max: usize,
    ) -> Self {
        Self::settled(engine, limits, concurrent_max, ModelSettings::new(concurrent_max)).await
    }

    pub(super) async fn settled(
        engine: Option<Arc<dyn Engine>>,
        limits: Limits,
        concurrent_max: usize,
        settings: ModelSettings,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let models = Arc::new(Models::with(Settings::new(settings)));
        let live = models.add(&model("m")).expect("room");
        live.swap(engine.map(|engine| loaded(engine, 1)));
        let status = || Status { device: "cam-01".into(), ..Status::default() };
        let api = Api::new(models.clone(), Arc::new(status), concurrent_max).with_limits(limits);
        let locks = Arc::new(Locks::default());
        let api = api.with_locks(Arc::clone(&locks), Clock::new(0));
        let endpoints = Endpoints {
            tcp: "127.0.0.1:0".parse().ok(),
            unix: Some(UnixEndpoint::new(dir.path().join("s"))),
            grpc_unix: Some(UnixEndpoint::new(dir.path().join("g"))),
            ..Endpoints::default()
        };
        let server = Server::start(&endpoints, api).await.expect("starts");
        Self { server, live, models, locks, dir }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    pub(super) async fn client(&self) -> Client<UnixStream> {
        Client::on(UnixStream::connect(self.socket()).await.expect("connects"))
    }
}

/// The request that every fake with `x` takes.
pub(super) fn x(values: [f32; 3]) -> Value {
    let input = json!({"name": "x", "datatype": "FP32", "shape": [1, 3], "data": values});
    json!({ "inputs": [input] })
}

pub(super) struct Client<S> {
    pub(super) stream: S,
    unread: Vec<u8>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    pub(super) json: Value,
}

impl Answer {
    pub(super) fn error(&self) -> &str {
        self.json["error"].as_str().unwrap_or_else(|| panic!("no error in {}", self.json))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn on(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, b"").await
    }

    pub(super) async fn infer(&mut self, body: &Value) -> Answer {
        self.ask("POST", "/v2/models/m/infer", body.to_string().as_bytes()).await
    }

    pub(super) async fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        let length = body.len();
        self.send(
            &format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"),
            body,
        )
        .await;
        self.answer().await.expect("an answer")
    }

    /// What is written when the server has cut the connection is lost; its answer may not be.
    pub(super) async fn send(&mut self, head: &str, body: &[u8]) {
        let _ = self.stream.write_all(head.as_bytes()).await;
        let _ = self.stream.write_all(body).await;
    }

    /// The next answer, `None` when the server closes instead.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read().await?;
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a length"));
        while self.unread.len() < end + length {
            self.read().await?;
        }
        let body: Vec<u8> = self.unread.drain(..end + length).skip(end).collect();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Some(Answer { status, head, body, json })
    }

    async fn read(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.unread).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    /// Whether the server closes within `within`.
    pub(super) async fn is_cut(&mut self, within: Duration) -> bool {
        let closes = async { while self.answer().await.is_some() {} };
        tokio::time::timeout(within, closes).await.is_ok()
    }
}
