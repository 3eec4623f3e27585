//! The whole door: real TLS, raw MQTT, the embedded broker behind it.
//!
//! What a device may not get is checked by *delivery*: after a refused subscription another
//! client publishes, and nothing arrives. A SUBACK proves nothing.

mod external;
mod lasting;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::test_client::{Client, Hello, NOTHING, Stream, connect, now, tls};
use super::*;
use crate::pki::{FleetCa, Issued};

const ROOT: &str = "fleetway/v1/";

struct World {
    ca: FleetCa,
    broker: Box<LocalBroker>,
    admits: Arc<AtomicBool>,
    data: TempDir,
}

impl World {
    async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    async fn with_limits(limits: Limits) -> Self {
        let ca = FleetCa::create("test fleet", now()).unwrap();
        let data = TempDir::new().unwrap();
        let admits = Arc::new(AtomicBool::new(true));
        let broker = broker(&ca, data.path(), limits, &admits).await;
        Self { ca, broker, admits, data }
    }

    fn device(&self, id: &str) -> Issued {
        self.ca.issue_device(id, 1, now()).unwrap()
    }

    async fn stream(&self, own: &Issued) -> Box<dyn Stream> {
        tls(self.broker.local_addr(), &self.ca, Some(own)).await.unwrap()
    }

    /// A device that is connected under its own name.
    async fn connected(&self, level: u8, id: &str) -> Client {
        let stream = self.stream(&self.device(id)).await;
        Client::accepted(stream, &Hello::new(level, id)).await
    }

    async fn controller(&self) -> Client {
        let own = self.ca.issue_controller(now()).unwrap();
        let stream = self.stream(&own).await;
        Client::accepted(stream, &Hello::new(5, "controller-test")).await
    }

    /// The code of the CONNACK for `hello` under the certificate of `id`.
    async fn answer(&self, id: &str, hello: &Hello<'_>) -> u8 {
        let stream = self.stream(&self.device(id)).await;
        let (mut client, code) = Client::hello(stream, hello).await.unwrap();
        assert!(code == 0 || client.closed().await);
        code
    }
}

async fn broker(
    ca: &FleetCa,
    data: &Path,
    limits: Limits,
    admits: &Arc<AtomicBool>,
) -> Box<LocalBroker> {
    let embedded = EmbeddedConfig {
        data_dir: data.to_owned(),
        root: ROOT.to_owned(),
        clients_max: 100,
        gate: Arc::default(),
    };
    let admits = admits.clone();
    let acceptor = AcceptorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ca_pem: ca.cert_pem().to_owned(),
        server: ca.issue_server(&["localhost".to_owned()], now()).unwrap(),
        root: ROOT.to_owned(),
        limits,
        admit: Arc::new(move |_| admits.load(Ordering::Relaxed)),
    };
    Box::new(LocalBroker::start(&embedded, acceptor).await.unwrap())
}

async fn soon(mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what() {
        assert!(Instant::now() < deadline, "it never happened");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn both_versions_speak_through_the_door() {
    let world = World::start().await;
    let mut controller = world.controller().await;
    assert_eq!(controller.subscribe("fleetway/v1/d/+/up/#").await, 1);
    for (level, id) in [(4, "cam-4"), (5, "cam-5")] {
        let mut device = world.connected(level, id).await;
        assert_eq!(device.subscribe(&format!("fleetway/v1/d/{id}/dn/+")).await, 1);
        let up = format!("fleetway/v1/d/{id}/up/st/model");
        assert_eq!(device.publish(&up, b"state", false).await, 0);
        let got = controller.message().await;
        assert_eq!((got.topic.as_str(), got.payload.as_slice()), (up.as_str(), &b"state"[..]));
        let down = format!("fleetway/v1/d/{id}/dn/cmd");
        controller.publish(&down, b"order", false).await;
        assert_eq!(device.message().await.payload, b"order");
        device.disconnect().await;
    }
    let chunk = vec![7; 60 * 1024];
    let topic = "fleetway/v1/b/0123456789abcdef0123456789abcdef/0";
    assert_eq!(controller.publish(topic, &chunk, true).await, 0);
    let mut device = world.connected(5, "cam-5").await;
    device.subscribe(topic).await;
    assert_eq!(device.message().await.payload, chunk);
}

#[tokio::test]
async fn a_certificate_speaks_under_its_own_client_id_only() {
    let world = World::start().await;
    let mut dog = world.connected(5, "dog").await;
    assert_eq!(world.answer("cam", &Hello::new(5, "dog")).await, 0x85);
    assert_eq!(world.answer("cam", &Hello::new(4, "dog")).await, 2);
    assert_eq!(world.answer("cam", &Hello::new(5, "controller")).await, 0x85);
    assert_eq!(world.answer("cam", &Hello::new(5, "")).await, 0x85);
    let as_dog = Hello { credentials: Some(("device/dog", "guess")), ..Hello::new(5, "dog") };
    assert_eq!(world.answer("cam", &as_dog).await, 0x85);
    // What the client says about itself is replaced, not believed.
    let lying = Hello { credentials: Some(("controller/controller", "x")), ..Hello::new(5, "cam") };
    let mut cam = Client::accepted(world.stream(&world.device("cam")).await, &lying).await;
    assert_eq!(cam.publish("fleetway/v1/d/dog/dn/cmd", b"x", false).await, 0x87);
    // And the one that was to be impersonated never noticed.
    assert_eq!(dog.publish("fleetway/v1/d/dog/up/on", b"1", false).await, 0);
    assert_eq!(world.broker.acceptor().counts().refused, 5);
}

#[tokio::test]
async fn versions_that_are_not_spoken_are_told_so() {
    let world = World::start().await;
    for level in [3, 6] {
        assert_eq!(world.answer("cam", &Hello::new(level, "cam")).await, 1);
    }
}

#[tokio::test]
async fn nothing_of_others_is_ever_delivered() {
    let world = World::start().await;
    let mut controller = world.controller().await;
    for level in [4, 5] {
        let mut cam = world.connected(level, "cam").await;
        for filter in [
            "#",
            "fleetway/v1/#",
            "fleetway/v1/d/dog/dn/ds",
            "fleetway/v1/d/+/dn/#",
            "fleetway/v1/d/cam2/dn/#",
            "fleetway/v1/b/#",
            "fleetway/v1/j/#",
            "$SYS/#",
            "$share/g/fleetway/v1/d/dog/dn/#",
            "$share/g/#",
        ] {
            assert!(cam.subscribe(filter).await >= 0x80, "{filter}");
        }
        for topic in [
            "fleetway/v1/d/dog/dn/ds",
            "fleetway/v1/d/dog/up/on",
            "fleetway/v1/d/cam2/dn/ds",
            "fleetway/v1/b/0123456789abcdef0123456789abcdef/0",
            "fleetway/v1/j/cam/on",
        ] {
            controller.publish(topic, b"not for cam", true).await;
        }
        assert_eq!(cam.message_within(NOTHING).await, None);
        // The subscription that is allowed shows that delivery works at all.
        cam.subscribe("fleetway/v1/d/cam/dn/#").await;
        controller.publish("fleetway/v1/d/cam/dn/ds", b"for cam", false).await;
        assert_eq!(cam.message().await.payload, b"for cam");
        assert_eq!(cam.message_within(NOTHING).await, None);
        cam.disconnect().await;
    }
}

#[tokio::test]
async fn nothing_is_written_to_others() {
    let world = World::start().await;
    let mut controller = world.controller().await;
    controller.subscribe("fleetway/v1/#").await;
    for level in [4, 5] {
        let mut cam = world.connected(level, "cam").await;
        for topic in [
            "fleetway/v1/d/dog/dn/cmd",
            "fleetway/v1/d/dog/up/on",
            "fleetway/v1/d/cam/dn/ds",
            "fleetway/v1/b/0123456789abcdef0123456789abcdef/0",
            "fleetway/v1/j/cam/on",
            "$SYS/x",
        ] {
            assert_eq!(cam.publish(topic, b"forged", true).await, 0x87, "{topic}");
        }
        assert_eq!(controller.message_within(NOTHING).await, None);
        cam.publish("fleetway/v1/d/cam/up/on", b"own", false).await;
        assert_eq!(controller.message().await.payload, b"own");
        cam.disconnect().await;
    }
}

#[tokio::test]
async fn viewers_read_the_mirror_and_write_nothing() {
    let world = World::start().await;
    let own = world.ca.issue_viewer("wall", 1, now()).unwrap();
    let stream = world.stream(&own).await;
    let mut viewer = Client::accepted(stream, &Hello::new(5, "viewer.wall.1")).await;
    let mut controller = world.controller().await;
    assert!(viewer.subscribe("fleetway/v1/d/#").await >= 0x80);
    assert_eq!(viewer.subscribe("fleetway/v1/j/#").await, 1);
    assert_eq!(viewer.publish("fleetway/v1/j/cam/on", b"x", false).await, 0x87);
    controller.publish("fleetway/v1/d/cam/dn/ds", b"hidden", false).await;
    controller.publish("fleetway/v1/j/cam/on", b"{}", false).await;
    assert_eq!(viewer.message().await.topic, "fleetway/v1/j/cam/on");
    let (_, code) = Client::hello(world.stream(&own).await, &Hello::new(5, "cam")).await.unwrap();
    assert_eq!(code, 0x85);
}

#[tokio::test]
async fn strangers_do_not_pass_tls() {
    let world = World::start().await;
    let addr = world.broker.local_addr();
    let rogue = FleetCa::create("test fleet", now()).unwrap();
    let impostor = rogue.issue_device("cam", 1, now()).unwrap();
    let day = Duration::from_secs(86_400);
    let expired = world.ca.issue_device("cam", 1, now() - 3 * day).unwrap();
    let server = world.ca.issue_server(&["localhost".to_owned()], now()).unwrap();
    for own in [None, Some(&impostor), Some(&expired), Some(&server)] {
        // In TLS 1.3 the client learns of its refusal when it reads.
        let refused = match tls(addr, &world.ca, own).await {
            Err(_) => true,
            Ok(stream) => Client::hello(stream, &Hello::new(5, "cam")).await.is_err(),
        };
        assert!(refused, "{own:?}");
    }
    let mut plain = TcpStream::connect(addr).await.unwrap();
    plain.write_all(&connect(&Hello::new(5, "cam"))).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert_ne!(answer.first(), Some(&0x20), "no CONNACK without TLS");
    let counts = world.broker.acceptor().counts();
    assert_eq!((counts.handshakes_failed, counts.sessions), (5, 0));
}

#[tokio::test]
async fn the_loopback_port_is_of_no_use_without_the_secret() {
    let world = World::start().await;
    let upstream = world.broker.embedded.upstream();
    assert!(upstream.addr.ip().is_loopback());
    let secret = upstream.secret.expose();
    let tries = [
        (5, None, 0x87),
        (4, None, 5),
        (5, Some(("controller/controller", "guess")), 0x87),
        (5, Some(("controller/controller", "")), 0x87),
        (5, Some(("nobody", secret)), 0x87),
        (5, Some(("device/cam", secret)), 0x87),
    ];
    for (level, credentials, code) in tries {
        let tcp = Box::new(TcpStream::connect(upstream.addr).await.unwrap());
        let hello = Hello { credentials, ..Hello::new(level, "controller") };
        let (_, answer) = Client::hello(tcp, &hello).await.unwrap();
        assert_eq!(answer, code, "{credentials:?}");
    }
    // Many wrong guesses from 127.0.0.1 must not lock out the fleet, which shares it.
    world.connected(5, "cam").await.disconnect().await;
}

#[tokio::test]
async fn wills_lie_in_the_own_tree_and_come_when_a_device_is_lost() {
    let world = World::start().await;
    let foreign = Some(("fleetway/v1/d/dog/up/on", &b"gone"[..]));
    assert_eq!(world.answer("cam", &Hello { will: foreign, ..Hello::new(5, "cam") }).await, 0x87);
    assert_eq!(world.answer("cam", &Hello { will: foreign, ..Hello::new(4, "cam") }).await, 5);
    let mut controller = world.controller().await;
    controller.subscribe("fleetway/v1/d/+/up/on").await;
    let own = Some(("fleetway/v1/d/cam/up/on", &b"gone"[..]));
    for level in [4, 5] {
        let hello = Hello { will: own, ..Hello::new(level, "cam") };
        let device = world.device("cam");
        let polite = Client::accepted(world.stream(&device).await, &hello).await;
        polite.disconnect().await;
        assert_eq!(controller.message_within(NOTHING).await, None);
        let lost = Client::accepted(world.stream(&device).await, &hello).await;
        drop(lost);
        assert_eq!(controller.message().await.payload, b"gone");
    }
}

#[tokio::test]
async fn a_revoked_device_is_ended_and_stays_out() {
    let world = World::start().await;
    let mut cam = world.connected(5, "cam").await;
    let mut dog = world.connected(4, "dog").await;
    soon(|| world.broker.acceptor().sessions().len() == 2).await;
    let identity = Identity::Device(fleetway_protocol::ids::DeviceId::new("cam").unwrap());
    world.admits.store(false, Ordering::Relaxed);
    assert_eq!(world.broker.disconnect(&identity), 1);
    assert!(cam.closed().await);
    soon(|| world.broker.acceptor().sessions().len() == 1).await;
    assert_eq!(world.broker.disconnect(&identity), 0);
    assert_eq!(world.answer("cam", &Hello::new(5, "cam")).await, 0x87);
    assert_eq!(dog.publish("fleetway/v1/d/dog/up/on", b"1", false).await, 0);
    world.admits.store(true, Ordering::Relaxed);
    world.connected(5, "cam").await.disconnect().await;
}

#[tokio::test]
async fn a_second_connection_of_a_device_ends_its_first() {
    let world = World::start().await;
    let mut first = world.connected(5, "cam").await;
    let mut second = world.connected(5, "cam").await;
    assert!(first.closed().await);
    assert_eq!(second.publish("fleetway/v1/d/cam/up/on", b"1", false).await, 0);
    soon(|| world.broker.acceptor().sessions().len() == 1).await;
}

#[tokio::test]
async fn silent_connections_do_not_keep_the_door_shut() {
    let limits = Limits {
        handshakes_max: 4,
        handshakes_per_source_max: 3,
        hello: Duration::from_millis(300),
        sessions_max: 2,
    };
    let world = World::with_limits(limits).await;
    let addr = world.broker.local_addr();
    let mut flood = Vec::new();
    for _ in 0..8 {
        flood.push(TcpStream::connect(addr).await.unwrap());
    }
    soon(|| world.broker.acceptor().counts().handshakes_failed >= 3).await;
    drop(flood);
    // TLS done, and then not a byte of CONNECT: the same deadline.
    let mut mute = world.stream(&world.device("mute")).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), mute.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty());
    let _one = world.connected(5, "one").await;
    let _two = world.connected(5, "two").await;
    assert_eq!(world.answer("three", &Hello::new(5, "three")).await, 0x88);
    assert!(world.broker.acceptor().counts().crowded > 0);
}

#[tokio::test]
async fn a_hundred_devices_at_once_share_one_loopback_address() {
    let world = Arc::new(World::start().await);
    let mut all = Vec::new();
    for n in 0..60 {
        let world = world.clone();
        all.push(tokio::spawn(async move {
            let id = format!("cam-{n}");
            let mut cam = world.connected(5, &id).await;
            cam.publish(&format!("fleetway/v1/d/{id}/up/on"), b"1", true).await
        }));
    }
    for one in all {
        assert_eq!(one.await.unwrap(), 0);
    }
}

#[tokio::test]
async fn what_is_sent_after_connect_without_waiting_arrives() {
    let world = World::start().await;
    let mut controller = world.controller().await;
    controller.subscribe("fleetway/v1/d/+/up/#").await;
    let mut stream = world.stream(&world.device("cam")).await;
    let mut bytes = connect(&Hello::new(4, "cam"));
    let mut publish = vec![0, 23];
    publish.extend(b"fleetway/v1/d/cam/up/on");
    publish.extend(b"early");
    bytes.extend(super::test_client::packet(0x30, &publish));
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(controller.message().await.payload, b"early");
}
