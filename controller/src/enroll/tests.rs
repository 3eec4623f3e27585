//! The listener from inside TLS: sizes, paths, methods, who may renew, and how often one
//! may ask. What stands outside of TLS is tested with real processes.

use std::sync::Arc;

use fleetway_protocol::codec;
use fleetway_protocol::enroll::{Refusal, Token};
use fleetway_protocol::ids::DeviceId;
use fleetway_protocol::limits::ENROLL_BODY_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::broker::test_client::{Stream, now, tls};
use crate::pki::{FleetCa, Issued};

/// Says yes to everything that reaches it.
struct Yes;

impl Desk for Yes {
    fn enroll(&self, _: EnrollRequest) -> Later<Enrolled> {
        Box::pin(std::future::ready(Err(Refusal::TokenUsed)))
    }

    fn renew(&self, peer: Peer) -> Later<Renewed> {
        let certificate = peer.identity.to_string().as_str().try_into().unwrap();
        Box::pin(std::future::ready(Ok(Renewed { certificate })))
    }

    fn challenge(&self, _: ChallengeRequest) -> Later<Nonce> {
        Box::pin(std::future::ready(Ok(Nonce([7; 32]))))
    }

    fn come_back(&self, _: ReturnRequest) -> Later<Renewed> {
        Box::pin(std::future::ready(Err(Refusal::Nonce)))
    }

    fn floor(&self, _: Peer, request: FloorRequest) -> Later<Floor> {
        Box::pin(std::future::ready(Ok(Floor { generation: 7, epoch: request.epoch })))
    }

    fn root(&self) -> Option<Vec<u8>> {
        Some(b"{}".to_vec())
    }
}

struct World {
    ca: FleetCa,
    listener: Listener,
}

impl World {
    async fn start() -> Self {
        let ca = FleetCa::create("fleet", now()).unwrap();
        let config = ListenerConfig {
            listener: std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            ca_pem: ca.cert_pem().to_owned(),
            server: ca.issue_server(&["localhost".to_owned()], now()).unwrap(),
            limits: Limits::default(),
        };
        let listener = Listener::start(config, Arc::new(Yes)).await.unwrap();
        Self { ca, listener }
    }

    async fn stream(&self, own: Option<&Issued>) -> Box<dyn Stream> {
        tls(self.listener.local_addr(), &self.ca, own).await.unwrap()
    }

    /// Status and body of the answer to these bytes.
    async fn say(&self, own: Option<&Issued>, bytes: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = self.stream(own).await;
        // It may answer, and hang up, before all is written.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let status = answer.get(9..12).and_then(|s| std::str::from_utf8(s).ok()?.parse().ok());
        let body = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
        (status.unwrap_or(0), answer.split_off(body.min(answer.len())))
    }

    async fn post(&self, own: Option<&Issued>, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let len = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n\r\n");
        self.say(own, &[head.as_bytes(), body].concat()).await
    }
}

fn refusal(body: &[u8]) -> Option<Refusal> {
    codec::decode::<Answer<()>>(body, ENROLL_BODY_BYTES_MAX).ok()?.err()
}

#[tokio::test]
async fn what_is_too_large_or_not_ours_ends_before_the_desk() {
    let world = World::start().await;
    let device = DeviceId::new("cam-1").unwrap();
    let request = EnrollRequest { device, token: Token([1; 16]), csr: "x".try_into().unwrap() };
    let mut buf = [0; ENROLL_BODY_BYTES_MAX];
    let good = codec::encode(&request, &mut buf).unwrap().to_vec();
    let (status, body) = world.post(None, "/enroll", &good).await;
    assert_eq!((status, refusal(&body)), (403, Some(Refusal::TokenUsed)), "it reached the desk");

    let bad = |answer: (u16, Vec<u8>)| {
        assert_eq!((answer.0, refusal(&answer.1)), (400, Some(Refusal::Malformed)));
    };
    for cut in [0, 1, 5, good.len() - 1] {
        bad(world.post(None, "/enroll", &good[..cut]).await);
    }
    bad(world.post(None, "/enroll", &[&good[..], b"x"].concat()).await);
    bad(world.post(None, "/enroll", &vec![1; ENROLL_BODY_BYTES_MAX + 1]).await);
    // Announced and never sent, and sent without an end.
    let head = b"POST /enroll HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    bad(world.say(None, head).await);
    let endless = [
        b"POST /enroll HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        [b"1000\r\n".to_vec(), vec![b'x'; 0x1000], b"\r\n".to_vec()].concat().repeat(8),
    ]
    .concat();
    bad(world.say(None, &endless).await);
    // Heads without an end, other paths and methods, and no HTTP at all.
    let header = format!("GET /root HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    assert_eq!(world.say(None, header.as_bytes()).await.0, 431);
    assert_eq!(world.say(None, b"GET /enroll HTTP/1.1\r\nhost: x\r\n\r\n").await.0, 404);
    assert_eq!(world.post(None, "/v1/devices", b"").await.0, 404);
    assert_eq!(world.say(None, b"\x10\x10\x00\x04MQTT\r\n\r\n").await.0, 400);
    assert_eq!(
        world.say(None, b"GET /root HTTP/1.1\r\nhost: x\r\n\r\n").await,
        (200, b"{}".to_vec())
    );
}

#[tokio::test]
async fn only_a_device_with_a_certificate_of_ours_renews() {
    let world = World::start().await;
    let none = world.post(None, "/renew", b"").await;
    assert_eq!((none.0, refusal(&none.1)), (403, Some(Refusal::NoCertificate)));
    let controller = world.ca.issue_controller(now()).unwrap();
    let other = world.post(Some(&controller), "/renew", b"").await;
    assert_eq!((other.0, refusal(&other.1)), (403, Some(Refusal::NoCertificate)));
    let cam = world.ca.issue_device("cam-1", 1, now()).unwrap();
    let (status, body) = world.post(Some(&cam), "/renew", b"").await;
    let renewed: Answer<Renewed> = codec::decode(&body, ENROLL_BODY_BYTES_MAX).unwrap();
    assert_eq!((status, renewed.unwrap().certificate.as_str()), (200, "device/cam-1"));
    let mut buf = [0; 32];
    let question = codec::encode(&FloorRequest { epoch: 9 }, &mut buf).unwrap();
    let (status, body) = world.post(Some(&cam), "/floor", question).await;
    let floor: Answer<Floor> = codec::decode(&body, ENROLL_BODY_BYTES_MAX).unwrap();
    assert_eq!((status, floor), (200, Ok(Floor { generation: 7, epoch: 9 })));
    let none = world.post(None, "/floor", question).await;
    assert_eq!((none.0, refusal(&none.1)), (403, Some(Refusal::NoCertificate)));
    // Of another CA, or over: no TLS.
    let rogue = FleetCa::create("fleet", now()).unwrap().issue_device("cam-1", 1, now()).unwrap();
    assert_eq!(world.post(Some(&rogue), "/renew", b"").await.0, 0);
    let day = std::time::Duration::from_secs(86_400);
    let over = world.ca.issue_device("cam-1", 1, now() - 3 * day).unwrap();
    assert_eq!(world.post(Some(&over), "/renew", b"").await.0, 0);
}

#[tokio::test]
async fn one_address_is_not_answered_without_end() {
    let world = World::start().await;
    let mut refused = 0;
    for _ in 0..rate::BURST + 20 {
        let (status, body) = world.post(None, "/challenge", b"").await;
        if status == 429 {
            assert_eq!(refusal(&body), Some(Refusal::TooMany));
            refused += 1;
        }
    }
    assert!(refused >= 1, "a burst of {} was answered", rate::BURST + 20);
}
