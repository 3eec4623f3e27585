//! The gRPC service over a real HTTP/2 connection, spoken by hand: right calls, and wrong ones. The
//! official client's calls are in `tests/tests/oip_triton.rs`.

use std::time::Duration;

use bytes::Bytes;
use fleetway_engine::{DType, Tensor};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::HeaderMap;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;

use super::coding::Coding;
use super::limits::{BODY_BYTES_MAX, Limits};
use super::testing::*;

const SOON: Duration = Duration::from_secs(20);

struct Caller(SendRequest<Full<Bytes>>);

/// Status, sentence, head, and the message of an answer.
struct Called {
    status: u16,
    text: String,
    head: HeaderMap,
    message: Vec<u8>,
}

impl Caller {
    async fn on(site: &Site) -> Self {
        let stream = UnixStream::connect(site.dir.path().join("g")).await.expect("connects");
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self(sender)
    }

    async fn call(&mut self, name: &str, message: &[u8]) -> Called {
        let length = (message.len() as u32).to_be_bytes();
        self.send(name, [&[0][..], &length, message].concat(), "").await
    }

    async fn send(&mut self, name: &str, body: Vec<u8>, encoding: &str) -> Called {
        let mut request = Request::post(format!("http://x/inference.GRPCInferenceService/{name}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if !encoding.is_empty() {
            request = request.header("grpc-encoding", encoding);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let answer = self.0.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let head = answer.headers().clone();
        let body = answer.into_body().collect().await.expect("a body");
        let trailers = body.trailers().cloned();
        let end = trailers.as_ref().filter(|t| t.contains_key("grpc-status")).unwrap_or(&head);
        let status = end["grpc-status"].to_str().unwrap().parse().unwrap();
        let text = end.get("grpc-message").map_or("", |text| text.to_str().unwrap()).to_owned();
        let message = body.to_bytes().iter().skip(5).copied().collect();
        Called { status, text, head, message }
    }
}

fn varint(mut n: usize, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(bytes.len(), &mut out);
    out.extend_from_slice(bytes);
    out
}

fn input(more: &[u8]) -> Vec<u8> {
    field(5, &[&field(1, b"x")[..], &field(2, b"FP32"), &field(3, &[1, 3]), more].concat())
}

fn request(parts: &[&[u8]]) -> Vec<u8> {
    [&field(1, b"m")[..], &parts.concat()].concat()
}

fn le(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn raw_and_typed_contents_are_answered_and_name_who_answered() {
    let site = Site::of(Fake::times(2.0)).await;
    let mut caller = Caller::on(&site).await;
    let raw = field(7, &le(&[1.0, 2.0, 3.0]));
    let typed = input(&field(5, &field(6, &le(&[1.0, 2.0, 3.0]))));
    for parts in [vec![input(&[]), raw.clone()], vec![typed]] {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let called =
            caller.call("ModelInfer", &request(&[&parts.concat(), &field(3, b"id-7")])).await;
        assert_eq!((called.status, called.text.as_str()), (0, ""));
        assert!(contains(&called.message, &field(6, &le(&[2.0, 4.0, 6.0]))));
        assert!(contains(&called.message, &field(6, &7i64.to_le_bytes())));
        assert!(contains(&called.message, &field(3, b"id-7")));
        assert_eq!(called.head["fleetway-release"], digest(1).to_string());
        assert_eq!(called.head["fleetway-slot"], "a");
        assert!(contains(&called.message, digest(1).to_string().as_bytes()));
    }
    let packed = Coding::Gzip.pack(request(&[&input(&[]), &raw])).unwrap();
    let body = [&[1][..], &(packed.len() as u32).to_be_bytes(), &packed].concat();
    let called = caller.send("ModelInfer", body, "gzip").await;
    assert_eq!((called.status, &called.head["grpc-encoding"]), (0, &"gzip".parse().unwrap()));
    for name in ["ServerLive", "ServerReady", "ServerMetadata", "RepositoryIndex"] {
        assert_eq!(caller.call(name, b"").await.status, 0, "{name}");
    }
    for name in ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"] {
        assert_eq!(caller.call(name, &field(1, b"m")).await.status, 0, "{name}");
    }
    assert_eq!(site.live.recorder().snapshot().unwrap().counters.requests, 3);
}

#[tokio::test]
async fn small_types_come_in_wide_lists_and_are_checked() {
    let minus_one = [&[5][..], &[0xff; 9], &[1]].concat();
    for (dtype, name, list, good, bad) in [
        // 255 and 256 are two bytes as varints.
        (DType::U8, "UINT8", 4, &[0, 0xff, 1][..], &[0, 0x80, 2][..]),
        (DType::I8, "INT8", 2, &[1, 127][..], &[1, 0x80, 1][..]),
        (DType::Bool, "BOOL", 1, &[1, 0][..], &[1, 2][..]),
        (DType::I64, "INT64", 3, &minus_one[..], &[5][..]),
    ] {
        let specs = |name| vec![spec(name, dtype, &[2])];
        let echo = Fake::of(specs("in"), specs("out"), |inputs: &[Tensor]| Ok(inputs.to_vec()));
        let site = Site::of(echo).await;
        let mut caller = Caller::on(&site).await;
        let ask = |numbers: &[u8]| {
            let contents = field(5, &field(list, numbers));
            let parts =
                [&field(1, b"in")[..], &field(2, name.as_bytes()), &field(3, &[2]), &contents];
            request(&[&field(5, &parts.concat())])
        };
        let called = caller.call("ModelInfer", &ask(good)).await;
        assert_eq!((called.status, called.text.as_str()), (0, ""), "{name}");
        let called = caller.call("ModelInfer", &ask(bad)).await;
        assert_eq!(called.status, 3, "{name}: {}", called.text);
    }
}

#[tokio::test]
async fn wrong_calls_are_told_what_is_wrong_in_grpcs_numbers() {
    let site = Site::of(Fake::times(1.0)).await;
    let mut caller = Caller::on(&site).await;
    let raw = field(7, &le(&[1.0, 2.0, 3.0]));
    let good = request(&[&input(&[]), &raw]);
    let mut check = async |name: &str, message: &[u8], status: u16, said: &str| {
        let called = tokio::time::timeout(SOON, caller.call(name, message)).await.expect(said);
        assert_eq!(called.status, status, "{name} {said}: {}", called.text);
        assert!(called.text.contains(said), "{name}: {} without {said}", called.text);
    };
    check("RepositoryModelLoad", b"", 7, "signed orders").await;
    check("RepositoryModelUnload", &field(2, b"m"), 7, "signed orders").await;
    check("ModelStreamInfer", &good, 12, "no call").await;
    check("ModelInfer", &field(1, b"other"), 5, "there is: m").await;
    check("ModelInfer", &request(&[&field(2, b"v9"), &input(&[]), &raw]), 5, "does not run").await;
    check("ModelReady", &field(1, b"other"), 5, "no model").await;
    check("ModelReady", &field(1, &[b'x'; 5_000]), 8, "4096").await;
    check("ModelMetadata", &[0xff], 3, "not a request").await;
    check("ModelInfer", &good[..good.len() - 1], 3, "ends inside a field").await;
    check("ModelInfer", &request(&[&input(&[])]), 3, "has no \"data\"").await;
    check("ModelInfer", &request(&[&input(&[]), &raw, &raw]), 3, "more raw_input_contents").await;
    check("ModelInfer", &request(&[&input(&[]), &field(7, b"x")]), 3, "1 bytes are not the 12")
        .await;
    let both = input(&field(5, &field(6, &le(&[1.0]))));
    check("ModelInfer", &request(&[&both, &raw]), 3, "send one of them").await;
    check("ModelInfer", &request(&[&both]), 3, "1 elements, shape [1, 3] needs 3").await;
    let four = input(&field(5, &field(6, &le(&[1.0; 4]))));
    check("ModelInfer", &request(&[&four]), 3, "more than the 3 elements").await;
    let ints = input(&field(5, &field(2, &[1, 2, 3])));
    check("ModelInfer", &request(&[&ints]), 3, "FP32 comes in fp32_contents").await;
    // Two bytes each, which a decoder of structs would make a hundred of.
    check(
        "ModelInfer",
        &[&field(1, b"m")[..], &b"\x2a\0".repeat(1 << 20)].concat(),
        3,
        "more fields",
    )
    .await;
    check("ModelInfer", &request(&[&b"\x2a\0".repeat(99)]), 3, "more inputs").await;
    check("ModelInfer", &request(&[&field(5, &field(3, &[1; 99]))]), 3, "more axes").await;
    let called = caller.send("ModelInfer", b"\0\0\0\0\x09short".to_vec(), "").await;
    assert_eq!(called.status, 3, "{}", called.text);
    let called = caller.send("ModelInfer", b"\x01\0\0\0\0".to_vec(), "zstd").await;
    assert_eq!(called.status, 12, "{}", called.text);
    let bomb = Coding::Gzip.pack(vec![0; BODY_BYTES_MAX + 1]).unwrap();
    let body = [&[1][..], &(bomb.len() as u32).to_be_bytes(), &bomb].concat();
    let called = caller.send("ModelInfer", body, "gzip").await;
    assert_eq!(called.status, 8, "{}", called.text);
    let called = caller.send("ModelInfer", vec![0; BODY_BYTES_MAX + 1], "").await;
    assert_eq!(called.status, 8, "{}", called.text);
    assert_eq!(caller.call("ModelInfer", &good).await.status, 0, "the connection goes on");
    assert_eq!(site.live.recorder().snapshot().unwrap().counters.requests, 1);
}

#[tokio::test]
async fn a_refused_or_failed_run_says_so() {
    let site = Site::of(Fake::with_x(|x| {
        assert!(x[0] < 5.0, "weights of doom");
        x.to_vec()
    }))
    .await;
    let mut caller = Caller::on(&site).await;
    let ask = request(&[&input(&[]), &field(7, &le(&[9.0, 0.0, 0.0]))]);
    let called = caller.call("ModelInfer", &ask).await;
    assert_eq!(called.status, 13);
    assert!(called.text.contains("weights of doom"), "{}", called.text);
    assert_eq!(called.head["fleetway-slot"], "a");
    site.live.swap(None);
    let called = caller.call("ModelInfer", &ask).await;
    assert_eq!(called.status, 14, "{}", called.text);
}

#[tokio::test]
async fn a_client_that_neither_asks_nor_reads_is_cut() {
    let short = Duration::from_millis(150);
    let limits = Limits { head: short, body: short, write_stall: short, ..Limits::default() };
    let big = Fake::of(
        vec![spec("x", DType::F32, &[1, 3])],
        vec![spec("y", DType::F32, &[1_000_000])],
        |_| Ok(vec![Tensor::from_f32(&[1_000_000], vec![0.5; 1_000_000]).expect("a million")]),
    );
    let site = Site::with(Some(big), limits, 2).await;
    // Says nothing at all.
    let silent = UnixStream::connect(site.dir.path().join("g")).await.unwrap();
    let mut silent = Client::on(silent);
    assert!(silent.is_cut(SOON).await);
    // Asks nothing more.
    let mut idle = Caller::on(&site).await;
    assert_eq!(idle.call("ServerLive", b"").await.status, 0);
    let ended = async {
        while !idle.0.is_closed() {
            tokio::time::sleep(short / 5).await;
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("told to go");
    // Lives on, and opens no window for its answer.
    let mut stuck = Caller::on(&site).await;
    let ask = request(&[&input(&[]), &field(7, &le(&[0.0; 3]))]);
    let body = [&[0][..], &(ask.len() as u32).to_be_bytes(), &ask].concat();
    let call = Request::post("http://x/inference.GRPCInferenceService/ModelInfer")
        .header("content-type", "application/grpc")
        .body(Full::new(body.into()))
        .unwrap();
    let answer = stuck.0.send_request(call).await.expect("a head");
    tokio::time::sleep(short * 6).await;
    assert!(answer.into_body().collect().await.is_err(), "cut in the middle of its answer");
}
