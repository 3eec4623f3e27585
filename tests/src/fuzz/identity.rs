//! What strangers and devices say about who they are, before and after TLS.

use std::net::{Ipv4Addr, SocketAddr};

use data_encoding::BASE64;
use fleetway_controller::broker::acl::{Action, allowed};
use fleetway_controller::broker::{Identity, Peer, connect};
use fleetway_controller::pki::DeviceKey;
use fleetway_link::{BrokerUrl, EnrollUrl, Validity};
use fleetway_protocol::codec;
use fleetway_protocol::enroll::{
    Answer, ChallengeRequest, EnrollRequest, Enrolled, Floor, FloorRequest, Nonce, Renewed,
    ReturnRequest, Token,
};
use fleetway_protocol::ids::{DeviceId, Digest};
use fleetway_protocol::join::Join;
use fleetway_protocol::limits::ENROLL_BODY_BYTES_MAX;
use fleetway_protocol::topics::ROOT_DEFAULT;
use rustls::pki_types::CertificateDer;
use serde::{Serialize, de::DeserializeOwned};

use crate::samples;

/// Largest first packet that the tests take, bytes.
const CONNECT_BYTES_MAX: usize = 8 * 1024;
/// A request as `openssl req` makes it.
const CSR: &str = include_str!("../../fuzz/corpus/csr/openssl.pem");
/// A certificate of the same key, `OU=device, CN=cam-01`.
const CERTIFICATE: &str = include_str!("../../fuzz/corpus/certificate/openssl.pem");

/// A join string as a person pastes it; and the bytes as what it says, because nobody mistypes
/// his way past a checksum.
pub(super) fn join(bytes: &[u8]) -> bool {
    let pasted = core::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Join>().ok());
    let said = codec::decode::<Join>(bytes, ENROLL_BODY_BYTES_MAX).ok();
    for join in [&pasted, &said].into_iter().flatten() {
        let text = join.encode().expect("what was read fits");
        assert_eq!(text.parse::<Join>().as_ref(), Ok(join));
        let shown = join.to_string();
        assert!(shown.contains(join.device.as_str()));
        url(join.broker.as_bytes());
        url(join.enroll.as_bytes());
    }
    pasted.is_some() || said.is_some()
}

pub(super) fn join_samples() -> Vec<Vec<u8>> {
    let join = Join {
        broker: "mqtts://fleet.example.org:8883".try_into().expect("short"),
        enroll: "https://fleet.example.org:8884".try_into().expect("short"),
        ca: Digest::of(b"ca"),
        root: Some(Digest::of(b"root")),
        device: samples::device(),
        token: Token([0xa7; 16]),
    };
    vec![join.encode().expect("fits").as_bytes().to_vec(), samples::encoded(&join)]
}

/// What is taken is written so that it reads back as the same.
pub(super) fn url(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let (broker, enroll) = (text.parse::<BrokerUrl>(), text.parse::<EnrollUrl>());
    if let Ok(url) = &broker {
        assert_eq!(url.to_string().parse::<BrokerUrl>().as_ref(), Ok(url));
        assert!(url.port() != 0 && !url.host().is_empty());
    }
    if let Ok(url) = &enroll {
        assert_eq!(url.to_string().parse::<EnrollUrl>().as_ref(), Ok(url));
    }
    broker.is_ok() || enroll.is_ok()
}

pub(super) fn url_samples() -> Vec<Vec<u8>> {
    ["mqtts://fleet.example.org:8883", "mqtt://[::1]:7/", "https://10.0.0.1:8884"]
        .map(|url| url.as_bytes().to_vec())
        .to_vec()
}

fn body<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = codec::decode(bytes, ENROLL_BODY_BYTES_MAX).ok()?;
    let written = samples::encoded(&value);
    assert!(written.len() <= ENROLL_BODY_BYTES_MAX);
    let again: T = codec::decode(&written, ENROLL_BODY_BYTES_MAX).expect("what was written");
    assert_eq!(samples::encoded(&again), written);
    Some(value)
}

/// Every body of the enrolment, both ways; a request goes on to what is done with it.
pub(super) fn enroll(bytes: &[u8]) -> bool {
    let request = body::<EnrollRequest>(bytes);
    if let Some(request) = &request {
        let other = DeviceId::new("cam-02").expect("an id");
        let digest = request.token.digest(&request.device);
        assert!(request.device == other || digest != request.token.digest(&other));
        let _ = DeviceKey::from_request(&request.csr);
    }
    let proof = body::<ReturnRequest>(bytes);
    if let Some(proof) = &proof {
        let key = DeviceKey::from_request(CSR).expect("a request");
        assert!(!key.verifies(b"nothing that it signed", &proof.signature));
    }
    let answers = [
        body::<ChallengeRequest>(bytes).is_some(),
        body::<Answer<Enrolled>>(bytes).is_some(),
        body::<Answer<Renewed>>(bytes).is_some(),
        body::<Answer<Nonce>>(bytes).is_some(),
        body::<FloorRequest>(bytes).is_some(),
        body::<Answer<Floor>>(bytes).is_some(),
        Floor::parse(bytes).is_some(),
    ];
    request.is_some() || proof.is_some() || answers.contains(&true)
}

pub(super) fn enroll_samples() -> Vec<Vec<u8>> {
    let text = |text: &str| text.try_into().expect("short");
    let device = samples::device();
    let request = EnrollRequest { device: device.clone(), token: Token([7; 16]), csr: text(CSR) };
    let signature = (0..71).collect();
    let proof = ReturnRequest { device: device.clone(), nonce: Nonce([3; 32]), signature };
    let floor = Floor { generation: 300, epoch: 3 };
    let enrolled: Answer<Enrolled> = Ok(Enrolled {
        certificate: CERTIFICATE.try_into().expect("short"),
        ca: CERTIFICATE.try_into().expect("short"),
        config: "device = \"cam-01\"\n".try_into().expect("short"),
        floor,
    });
    let told: Answer<Floor> = Ok(floor);
    let refused: Answer<Nonce> = Err(fleetway_protocol::enroll::Refusal::Token);
    vec![
        samples::encoded(&request),
        samples::encoded(&proof),
        samples::encoded(&ChallengeRequest { device }),
        samples::encoded(&enrolled),
        samples::encoded(&FloorRequest { epoch: 3 }),
        samples::encoded(&told),
        samples::encoded(&refused),
    ]
}

/// Bytes as DER behind a label: a fuzzer does not learn base64.
fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let lines = body.as_bytes().chunks(64).map(|line| core::str::from_utf8(line).expect("ASCII"));
    let body = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    BASE64.decode(body.as_bytes()).expect("base64")
}

/// A certificate request: only a point of the curve comes out of it.
pub(super) fn csr(bytes: &[u8]) -> bool {
    let direct = core::str::from_utf8(bytes).ok().and_then(DeviceKey::from_request);
    let wrapped = DeviceKey::from_request(&pem("CERTIFICATE REQUEST", bytes));
    for key in [&direct, &wrapped].into_iter().flatten() {
        assert_eq!(DeviceKey::from_point(key.point()).as_ref(), Some(key));
    }
    direct.is_some() || wrapped.is_some()
}

pub(super) fn csr_samples() -> Vec<Vec<u8>> {
    vec![CSR.as_bytes().to_vec(), der(CSR)]
}

/// A certificate, as a listener reads who its peer is, and as a device reads how long it lasts.
pub(super) fn certificate(bytes: &[u8]) -> bool {
    let _ = Validity::of(bytes);
    let validity = Validity::of(pem("CERTIFICATE", bytes).as_bytes());
    let certs = [CertificateDer::from(bytes)];
    let peer = Peer::of(&certs, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    if let Some(peer) = &peer {
        assert!(validity.is_ok(), "one of them reads it and the other does not");
        let name = peer.identity.common_name();
        assert_eq!(
            Identity::from_subject(peer.identity.role(), &name),
            Some(peer.identity.clone())
        );
    }
    peer.is_some()
}

pub(super) fn certificate_samples() -> Vec<Vec<u8>> {
    vec![CERTIFICATE.as_bytes().to_vec(), der(CERTIFICATE)]
}

/// The first packet to the embedded broker. What is taken is written anew, and says the same.
pub(super) fn connect(bytes: &[u8]) -> bool {
    let Ok(packet) = connect::parse(bytes, CONNECT_BYTES_MAX) else { return false };
    assert!(packet.len <= bytes.len() && packet.len <= CONNECT_BYTES_MAX);
    let written = packet.rewrite("device.cam-01", b"secret");
    let again = connect::parse(&written, 2 * CONNECT_BYTES_MAX).expect("what was written");
    let expected = connect::Connect {
        username: Some("device.cam-01"),
        password: Some(b"secret"),
        len: written.len(),
        ..packet
    };
    assert!(again == expected, "{again:?} is not {expected:?}");
    true
}

pub(super) fn connect_samples() -> Vec<Vec<u8>> {
    let v3 = b"\x10\x27\x00\x04MQTT\x04\xce\x00\x1e\x00\x06cam-01\x00\x03d/t\x00\x02by\x00\x02me\x00\x02pw";
    let v5 = b"\x10\x13\x00\x04MQTT\x05\x02\x00\x1e\x00\x00\x06cam-01";
    vec![v3.to_vec(), v5.to_vec()]
}

/// A topic or a filter of a device: whatever passes is below its own topics, or is what all read.
pub(super) fn acl(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let identity = Identity::Device(samples::device());
    let below = |direction: &str| {
        text.strip_prefix(ROOT_DEFAULT)
            .is_some_and(|path| path.starts_with(&format!("d/{}/{direction}/", samples::device())))
    };
    let may = |action| allowed(&identity, &|_, _| false, ROOT_DEFAULT, action, text);
    let (publish, subscribe) = (may(Action::Publish), may(Action::Subscribe));
    assert!(!publish || below("up") && !text.contains(['+', '#']));
    assert!(!subscribe || below("dn") || !text.contains(['+', '#']));
    assert!(!may(Action::Receive) || subscribe);
    publish || subscribe
}

pub(super) fn acl_samples() -> Vec<Vec<u8>> {
    [
        "d/cam-01/up/st/digits",
        "d/cam-01/dn/#",
        "b/00112233445566778899aabbccddeeff/12",
        "t/2.root.json",
    ]
    .map(|path| format!("{ROOT_DEFAULT}{path}").into_bytes())
    .to_vec()
}
