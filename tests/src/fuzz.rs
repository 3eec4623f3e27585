//! Every parser of bytes from outside, each as one function that takes any bytes: it must not
//! panic, hang or take more memory than its bound, and what it takes must hold what its type says.
//!
//! The same bodies run on stable over samples, a corpus and seeded mutations
//! (`tests/tests/fuzz.rs`, a part of `cargo xtask test`), and under libFuzzer (`tests/fuzz/`,
//! `cargo xtask fuzz`). What a fuzzer finds goes into `tests/fuzz/corpus/<target>/` and stays.
//!
//! The bodies of `protocol` are that crate's own tests'; the rest is here, in [`compiled`] (int8 models),
//! [`identity`] (who somebody is), [`metadata`] (the release authority), [`models`] (where they come from), [`operator`]
//! (people) and [`spool`] (a disk). Which
//! parser is in which target says `docs/fuzzing.md`.

mod compiled;
mod identity;
mod metadata;
mod models;
mod operator;
mod shell;
mod spool;

use std::path::Path;

use data_encoding::BASE64;
use fleetway_agent::config::Config;
use fleetway_agent::serving::grpc::authority::Mender;
use fleetway_agent::serving::grpc::wire;
use fleetway_agent::serving::oip::request::{Header, RequestError};
use fleetway_controller::attest::bundle;
use fleetway_controller::audit::chain;
use fleetway_engine::validate::validate;
use fleetway_engine::{DType, GoldenSet, TensorSpec};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::serial::{
    Config as Line, FRAME_WIRE_BYTES_MAX, HEAD_BYTES_MAX, Link, Message,
};
use p256::ecdsa::signature::Signer as _;
use serde_json::json;

use crate::harness::digits::model_dir;
use crate::{protocol_fuzz as protocol, samples};

/// One parser.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line and in the corpus.
    pub name: &'static str,
    /// Takes any bytes; says whether they were taken.
    pub body: fn(&[u8]) -> bool,
    /// Bytes that are taken, to start from.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Mutations that a run on stable tries: fewer for what is slow.
    pub rounds: u32,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("envelope", protocol::fuzz_envelope, || vec![samples::sealed_order()]),
    target("order", protocol::fuzz_order, || {
        vec![samples::sealed_order(), samples::encoded(&samples::order())]
    }),
    target("manifest", protocol::fuzz_manifest, || {
        vec![samples::sealed_manifest(), samples::encoded(&samples::manifest())]
    }),
    target("keyset", protocol::fuzz_keyset, || vec![samples::sealed_keyset()]),
    target("presence", protocol::fuzz_presence, || vec![samples::encoded(&samples::presence())]),
    target("state", protocol::fuzz_state, || vec![samples::encoded(&samples::state())]),
    target("telemetry", protocol::fuzz_telemetry, || vec![samples::encoded(&samples::telemetry())]),
    target("host", protocol::fuzz_host, || vec![samples::encoded(&samples::host())]),
    target("ack", protocol::fuzz_ack, || vec![samples::encoded(&samples::ack())]),
    target("signed-report", protocol::fuzz_signed_report, || vec![samples::signed_report()]),
    target("heard", protocol::fuzz_heard, || {
        vec![samples::sealed_heard(), samples::encoded(&samples::heard())]
    }),
    slow("spool", spool::segment, spool::samples),
    target("want", protocol::fuzz_want, || vec![samples::encoded(&samples::want())]),
    target("nonce", protocol::fuzz_nonce, || vec![samples::encoded(&samples::nonce())]),
    target("serial", serial, || vec![b"\x03\x0cd/cam/up/ack".to_vec()]),
    target("block", protocol::fuzz_block, || vec![samples::encoded(&samples::block())]),
    target("record", protocol::fuzz_record, || vec![samples::encoded(&samples::table())]),
    target("topic", protocol::fuzz_topic, || vec![b"fleetway/v1/d/cam-01/up/st/digits".to_vec()]),
    target("chunks", chunks, || vec![chunk_sample()]),
    target("tuf", metadata::file, || vec![tuf_sample()]),
    slow("tuf-client", metadata::client, metadata::client_samples),
    target("oip", oip, || vec![OIP_SAMPLE.to_vec()]),
    target("oip-binary", oip_binary, || vec![oip_binary_sample()]),
    target("oip-grpc", oip_grpc, oip_grpc_samples),
    target("authority", authority, || vec![authority_sample()]),
    slow("onnx", onnx, || vec![model_file("digits-v1.onnx"), model_file("softmax-tail.onnx")]),
    slow("qnn", compiled::file, compiled::file_samples),
    slow("qnnc", compiled::compiler, || {
        vec![model_file("digits-v1.onnx"), model_file("softmax-tail.onnx")]
    }),
    slow("npz", npz, || vec![model_file("digits-v1.golden.npz")]),
    target("golden", golden, || vec![golden_sample()]),
    slow("config", config, || vec![CONFIG_SAMPLE.as_bytes().to_vec()]),
    target("audit", audit, || vec![audit_sample()]),
    slow("bundle", bundle, || vec![statement_sample(), b"{\"mediaType\":\"\"}".to_vec()]),
    target("answer", fleetway_engine::selftest::is_answer, || vec![b"R\x02\x01x".to_vec()]),
    target("join", identity::join, identity::join_samples),
    target("url", identity::url, identity::url_samples),
    target("enroll", identity::enroll, identity::enroll_samples),
    slow("csr", identity::csr, identity::csr_samples),
    target("certificate", identity::certificate, identity::certificate_samples),
    target("connect", identity::connect, identity::connect_samples),
    target("acl", identity::acl, identity::acl_samples),
    target("controller-config", operator::config, operator::config_samples),
    target("values", operator::values, operator::values_samples),
    target("selector", operator::selector, operator::selector_samples),
    target("api", operator::api, operator::api_samples),
    slow("source", models::source, models::source_samples),
    target("artifact", models::artifact, models::artifact_samples),
    target("registry", models::registry, models::registry_samples),
    slow("external", models::external, models::external_samples),
    slow("ceremony", operator::ceremony, operator::ceremony_samples),
];

const fn target(
    name: &'static str,
    body: fn(&[u8]) -> bool,
    samples: fn() -> Vec<Vec<u8>>,
) -> Target {
    Target { name, body, samples, rounds: 5_000 }
}

const fn slow(
    name: &'static str,
    body: fn(&[u8]) -> bool,
    samples: fn() -> Vec<Vec<u8>>,
) -> Target {
    Target { name, body, samples, rounds: 500 }
}

/// The target of that name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

fn model_file(name: &str) -> Vec<u8> {
    std::fs::read(model_dir().join(name)).expect("the repository's own file")
}

/// A chunk list and the artifact that it is for: four numbers and a digest, then the list.
fn chunks(bytes: &[u8]) -> bool {
    let Some((head, list)) = bytes.split_at_checked(8) else { return false };
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let artifact = fleetway_protocol::manifest::Artifact {
        digest: Digest([0; 32]),
        bytes: number(0),
        chunk_bytes: number(4),
        chunk_list: Digest::of(list),
    };
    if artifact.check().is_err() {
        return false;
    }
    let count = artifact.chunk_count();
    assert_eq!(artifact.chunk_list_bytes(), count * 32);
    assert!(artifact.chunk_len(count).is_none() && artifact.chunk_len(count - 1).is_some());
    list.len() == artifact.chunk_list_bytes() as usize
}

fn chunk_sample() -> Vec<u8> {
    [&100_000u32.to_le_bytes()[..], &32_768u32.to_le_bytes(), &[7; 4 * 32]].concat()
}

fn tuf_sample() -> Vec<u8> {
    json!({
        "signed": { "_type": "targets", "spec_version": "1.0.34", "version": 3,
            "expires": "2027-01-15T08:00:00Z", "targets": { "digits/v1": {
                "length": 7, "hashes": { "sha256": "01".repeat(32) }, "custom": { "counter": 1 } } } },
        "signatures": [{ "keyid": "k", "sig": "00" }],
    })
    .to_string()
    .into_bytes()
}

const OIP_SAMPLE: &[u8] =
    br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2.5,-3e2]}],"id":"7"}"#;

/// The body of an inference request for a model with one input.
fn oip(bytes: &[u8]) -> bool {
    fits(Header::read(bytes))
}

/// What it takes is a tensor of the model's, of as many rows as an engine may have.
fn fits(header: Result<Header<'_>, RequestError>) -> bool {
    let specs = [TensorSpec { name: "x".into(), dtype: DType::F32, shape: vec![1, 3] }];
    let Ok(header) = header else { return false };
    let Ok(fit) = header.match_inputs(&specs, 8) else { return false };
    let Ok(tensors) = header.tensors(&specs, &fit) else { return false };
    let rows = tensors[0].shape()[0];
    assert!(tensors.len() == 1 && rows <= 8 && specs[0].matches_rows(&tensors[0], rows));
    true
}

/// The length of the JSON part in two bytes, then a body of it and of binary tensors.
fn oip_binary(bytes: &[u8]) -> bool {
    let Some((length, body)) = bytes.split_first_chunk() else { return false };
    fits(Header::read_binary(body, u16::from_le_bytes(*length).into()))
}

fn oip_binary_sample() -> Vec<u8> {
    let json = br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2,3],
        "parameters":{"binary_data_size":24}}],"parameters":{"binary_data_output":true}}"#;
    [&(json.len() as u16).to_le_bytes()[..], json, &[7; 24]].concat()
}

/// A `ModelInferRequest` of gRPC.
fn oip_grpc(bytes: &[u8]) -> bool {
    let target = wire::target(bytes).is_ok();
    let request = wire::read(bytes);
    assert!(target || request.is_err(), "what is read has a target");
    fits(request.map(|request| request.header))
}

/// A client's side of an HTTP/2 connection: only `%` may change, and cut anywhere the same comes out.
fn authority(bytes: &[u8]) -> bool {
    let mended = |piece: usize| {
        let (mut bytes, mut mender) = (bytes.to_vec(), Mender::default());
        bytes.chunks_mut(piece.max(1)).for_each(|piece| mender.mend(piece));
        bytes
    };
    let whole = mended(bytes.len());
    assert!(whole == mended(1) && whole == mended(7));
    let same = |(old, new): (&u8, &u8)| old == new || (*old == b'%' && *new == b'-');
    assert!(bytes.iter().zip(&whole).all(same));
    whole != bytes
}

fn authority_sample() -> Vec<u8> {
    let block = b"\x83\x86\x41\x09%2Frun%2F";
    let head = [0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1];
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &head[..], block].concat()
}

/// With raw contents, and with typed ones.
fn oip_grpc_samples() -> Vec<Vec<u8>> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let input = [field(1, b"x"), field(2, b"FP32"), field(3, &[1, 3])].concat();
    let head = [field(1, b"m"), field(2, b"v1"), field(3, b"7")].concat();
    let typed = [input.clone(), field(5, &field(6, &[1; 12]))].concat();
    let parameter = field(2, &[field(1, b"classification"), field(2, &[2 << 3, 3])].concat());
    let output = field(6, &[field(1, b"y"), parameter].concat());
    vec![
        [head.clone(), field(5, &input), output, field(7, &[7; 12])].concat(),
        [head, field(5, &typed)].concat(),
    ]
}

fn onnx(bytes: &[u8]) -> bool {
    let Ok(model) = validate(bytes) else { return false };
    assert!(!model.inputs().is_empty() && !model.outputs().is_empty());
    true
}

fn npz(bytes: &[u8]) -> bool {
    let Ok(set) = GoldenSet::from_npz(bytes) else { return false };
    let encoded = set.encode().expect("what was read is written");
    assert!(GoldenSet::decode(&encoded).is_ok());
    true
}

fn golden(bytes: &[u8]) -> bool {
    let Ok(set) = GoldenSet::decode(bytes) else { return false };
    assert!(!set.vectors().is_empty());
    true
}

fn golden_sample() -> Vec<u8> {
    let set = GoldenSet::from_npz(&model_file("digits-v1.golden.npz")).expect("a golden set");
    set.encode().expect("encodes")
}

const CONFIG_SAMPLE: &str = concat!(
    r#"device = "cam-01"
data_dir = "data"
[broker]
url = "mqtts://broker.example"
ca = "ca.pem"
cert = "device.pem"
key = "device.key"
[trust]
root = ""#,
    env!("CARGO_MANIFEST_DIR"),
    r#"/../agent/src/config/root.json"
[serve]
concurrent_max = 3
[link]
telemetry_s = 1
[telemetry]
spool_bytes = 65536
[sandbox]
require = "full"
"#
);

/// The agent's configuration. A person wrote it, so an error must say where.
fn config(bytes: &[u8]) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, bytes).expect("written");
    match Config::load(Path::new(&path)) {
        Ok(_) => true,
        Err(error) => {
            assert!(error.to_string().contains("agent.toml"), "{error}");
            false
        }
    }
}

/// A line of the audit log: what is taken is written again as it was.
fn audit(bytes: &[u8]) -> bool {
    let Ok((entry, prev, head)) = chain::read_line(bytes) else { return false };
    let before = chain::Head { seq: entry.seq.saturating_sub(1), hash: prev };
    let (line, after) = entry.line(&before).expect("what was read is written");
    assert!(line.as_bytes() == bytes && after == head);
    true
}

fn audit_sample() -> Vec<u8> {
    let entry = chain::Entry {
        seq: 1,
        time_s: 1_700_000_000,
        who: "ann".into(),
        what: "release.publish".into(),
        rollout: None,
        device: None,
        key: Some("ab12".into()),
        text: "published \"digits\" v1".into(),
    };
    entry.line(&chain::Head::START).expect("encodes").0.into_bytes()
}

/// A Model Signing bundle; and the same bytes as a statement behind a good signature, which is as
/// far as a fuzzer cannot get by itself.
fn bundle(bytes: &[u8]) -> bool {
    let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).expect("a key");
    let public = bundle::AttestationKey::P256(*key.verifying_key());
    let direct = bundle::verify(bytes, &public, b"model").is_ok();
    let kind = "application/vnd.in-toto+json";
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), bytes.len());
    let signature: p256::ecdsa::DerSignature = key.sign(&[head.as_bytes(), bytes].concat());
    let wrapped = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "dsseEnvelope": { "payload": BASE64.encode(bytes), "payloadType": kind,
            "signatures": [{ "sig": BASE64.encode(signature.as_bytes()) }] },
    });
    let behind = bundle::verify(wrapped.to_string().as_bytes(), &public, b"model");
    assert!(!matches!(behind, Err(bundle::BundleError::Signature)), "our own signature");
    direct || behind.is_ok()
}

fn statement_sample() -> Vec<u8> {
    let digest = Digest::of(b"model");
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": Digest::of(&digest.0).to_string() } }],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": { "resources": [
            { "algorithm": "sha256", "digest": digest.to_string(), "name": "model.onnx" } ] },
    })
    .to_string()
    .into_bytes()
}

/// Whatever a serial line brings, in one piece: a message of it says the same when written again,
/// and both ends of a link live on.
fn serial(bytes: &[u8]) -> bool {
    let mut end = Link::<300, 300>::new(1, Line { window: 4, retry_ms: 200 });
    end.receive(1, bytes);
    let mut wire = [0; FRAME_WIRE_BYTES_MAX];
    while end.poll_transmit(2, &mut wire).is_some() {}
    let Ok(message) = Message::decode(bytes) else { return false };
    let mut head = [0; HEAD_BYTES_MAX];
    let (head, payload) = message.parts(&mut head);
    assert_eq!(Message::decode(&[head, payload].concat()).as_ref(), Ok(&message));
    true
}
