//! The binary extension, folded bodies and classes over real sockets, and bodies of each that mean
//! no good.

use fleetway_engine::{DType, Tensor};
use serde_json::{Value, json};

use super::coding::Coding;
use super::limits::BODY_BYTES_MAX;
use super::testing::*;

fn le(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn binary_x(bytes: usize) -> Value {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3],
                       "parameters": {"binary_data_size": bytes}}]})
}

/// Sends JSON and bytes behind it, with header fields more.
async fn post(site: &Site, head: &Value, raw: &[u8], fields: &str) -> Answer {
    let json = head.to_string();
    let body = [json.as_bytes(), raw].concat();
    let fields = format!("inference-header-content-length: {}\r\n{fields}", json.len());
    send(site, &body, &fields).await
}

async fn send(site: &Site, body: &[u8], fields: &str) -> Answer {
    let mut client = site.client().await;
    let length = body.len();
    let head =
        format!("POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: {length}\r\n{fields}\r\n");
    client.send(&head, body).await;
    client.answer().await.expect("an answer")
}

/// The JSON of a binary answer, and the bytes behind it.
fn parts(answer: &Answer) -> (Value, &[u8]) {
    let length = answer
        .head
        .lines()
        .find_map(|line| line.strip_prefix("inference-header-content-length: "))
        .map(|length| length.parse().expect("a length"));
    let (json, raw) = answer.body.split_at(length.expect("a binary answer"));
    (serde_json::from_slice(json).expect("JSON"), raw)
}

#[tokio::test]
async fn bytes_go_in_and_out() {
    let site = Site::of(Fake::times(2.0)).await;
    let mut ask = binary_x(12);
    ask["parameters"] = json!({"binary_data_output": true});
    ask["id"] = json!("7");
    let answer = post(&site, &ask, &le(&[1.0, 0.5, -3.0]), "").await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert!(answer.head.contains("content-type: application/octet-stream"), "{}", answer.head);
    assert!(answer.head.contains(&format!("fleetway-release: {}", digest(1))), "{}", answer.head);
    assert!(answer.head.contains("fleetway-slot: a"), "{}", answer.head);
    let (head, raw) = parts(&answer);
    assert_eq!(head["id"], "7");
    assert_eq!(head["parameters"]["slot"], "a");
    assert_eq!(head["outputs"][0]["parameters"], json!({"binary_data_size": 12}));
    assert_eq!(head["outputs"][0]["data"], Value::Null);
    assert_eq!(raw, [le(&[2.0, 1.0, -6.0]), 7i64.to_le_bytes().to_vec()].concat());

    // Each output as it is asked for: one in the text, one behind it.
    let mut ask = binary_x(12);
    ask["outputs"] = json!([{"name": "n"}, {"name": "y", "parameters": {"binary_data": true}}]);
    let answer = post(&site, &ask, &le(&[1.0, 0.5, -3.0]), "").await;
    let (head, raw) = parts(&answer);
    assert_eq!(head["outputs"][0]["data"], json!([7]));
    assert_eq!(raw, le(&[2.0, 1.0, -6.0]));
    // Text in, bytes out; a header length that is the whole body.
    let mut ask = x([1.0, 2.0, 3.0]);
    ask["outputs"] =
        json!([{"name": "y", "parameters": {"classification": 2, "binary_data": true}}]);
    let answer = post(&site, &ask, b"", "").await;
    let (head, raw) = parts(&answer);
    assert_eq!(head["outputs"][0]["datatype"], "BYTES");
    assert_eq!(head["outputs"][0]["shape"], json!([1, 2]));
    assert_eq!(raw, b"\x0a\0\0\x006.000000:2\x0a\0\0\x004.000000:1");
    ask["outputs"] = json!([{"name": "y", "parameters": {"classification": 1}}]);
    let answer = site.client().await.infer(&ask).await;
    assert_eq!(answer.json["outputs"][0]["data"], json!(["6.000000:2"]));
}

#[tokio::test]
async fn text_and_bytes_mix_among_inputs() {
    let specs =
        vec![spec("a", DType::U8, &[2]), spec("b", DType::F32, &[1]), spec("c", DType::I64, &[1])];
    let echo = Fake::of(specs.clone(), specs, |inputs: &[Tensor]| Ok(inputs.to_vec()));
    let site = Site::of(echo).await;
    let ask = json!({"inputs": [
        {"name": "c", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}},
        {"name": "b", "datatype": "FP32", "shape": [1], "data": [0.5]},
        {"name": "a", "datatype": "UINT8", "shape": [2], "parameters": {"binary_data_size": 2}},
    ]});
    let raw = [&(-5i64).to_le_bytes()[..], &[3, 250]].concat();
    let answer = post(&site, &ask, &raw, "").await;
    let data: Vec<&Value> =
        answer.json["outputs"].as_array().unwrap().iter().map(|o| &o["data"]).collect();
    assert_eq!(data, [&json!([3, 250]), &json!([0.5]), &json!([-5])], "{}", answer.json);
}

#[tokio::test]
async fn sizes_that_lie_are_refused() {
    let site = Site::of(Fake::times(1.0)).await;
    let three = le(&[1.0, 2.0, 3.0]);
    let check = async |ask: &Value, raw: &[u8], said: &str| {
        let answer = post(&site, ask, raw, "").await;
        assert_eq!(answer.status, 400, "{ask}: {}", answer.json);
        assert!(answer.error().contains(said), "{ask}: {} without {said:?}", answer.json);
    };
    check(&binary_x(12), &three[..11], "announce 12 bytes of binary data, 11 came").await;
    check(&binary_x(12), &[&three[..], &[0]].concat(), "announce 12 bytes of binary data, 13")
        .await;
    check(&binary_x(8), &three[..8], "8 bytes are not the 12 bytes of f32[1, 3]").await;
    check(&binary_x(usize::MAX), &three, "12 came").await;
    check(&binary_x(0), b"", "0 bytes are not the 12 bytes").await;
    let mut twice = binary_x(12);
    twice["inputs"][0]["data"] = json!([1, 2, 3]);
    check(&twice, &three, "send numbers as one of them").await;
    let mut shared = binary_x(12);
    shared["inputs"][0]["parameters"]["shared_memory_region"] = json!("r");
    check(&shared, &three, "shared memory, which there is not").await;
    let mut negative = binary_x(12);
    negative["inputs"][0]["parameters"]["binary_data_size"] = json!(-1);
    check(&negative, &three, "invalid value").await;
    let mut classes = x([0.0; 3]);
    classes["outputs"] = json!([{"name": "y", "parameters": {"classification": u64::MAX}}]);
    check(&classes, b"", "ask for all of its numbers").await;
    for length in ["99", "-1", "x", "18446744073709551616", ""] {
        let body = binary_x(12).to_string();
        let fields = format!("inference-header-content-length: {length}\r\n");
        let answer = send(&site, &body.as_bytes()[..60], &fields).await;
        assert_eq!(answer.status, 400, "{length:?}");
        assert!(answer.error().contains("Inference-Header-Content-Length"), "{}", answer.json);
    }
    assert_eq!(
        site.live.recorder().snapshot().unwrap().counters.requests,
        0,
        "the model never ran"
    );
}

#[tokio::test]
async fn folded_bodies_both_ways() {
    let site = Site::of(Fake::times(2.0)).await;
    for (coding, name) in [(Coding::Gzip, "gzip"), (Coding::Deflate, "deflate")] {
        let json = binary_x(12).to_string();
        let body = [json.as_bytes(), &le(&[1.0, 2.0, 3.0])].concat();
        let fields = format!(
            "content-encoding: {name}\r\naccept-encoding: {name}\r\n\
             inference-header-content-length: {}\r\n",
            json.len()
        );
        let answer = send(&site, &coding.pack(body).unwrap(), &fields).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert!(answer.head.contains(&format!("content-encoding: {name}")), "{}", answer.head);
        let bodies = super::body::Bodies::new();
        let body = super::body::Body { bytes: answer.body.into(), ..Default::default() };
        let plain = coding.unpack(body, &bodies).expect("folded").bytes;
        let json: Value = serde_json::from_slice(&plain).unwrap();
        assert_eq!(json["outputs"][0]["data"], json!([2.0, 4.0, 6.0]));
    }
    let bomb = Coding::Gzip.pack(vec![b' '; BODY_BYTES_MAX + 1]).unwrap();
    let answer = send(&site, &bomb, "content-encoding: gzip\r\n").await;
    assert_eq!(answer.status, 413, "{}", answer.json);
    let answer = send(&site, &bomb[..99], "content-encoding: gzip\r\n").await;
    assert_eq!(answer.status, 400, "{}", answer.json);
    assert_eq!(site.client().await.get("/v2").await.status, 200);
}
