//! The rules that we write for mosquitto, kept by a real mosquitto.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use fleetway_protocol::ids::DeviceId;

use super::*;
use crate::broker::mosquitto::{Mosquitto, render};

struct Daemon {
    child: Child,
    addr: SocketAddr,
    _dir: TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn mosquitto(ca: &FleetCa) -> Daemon {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let server = ca.issue_server(&["localhost".to_owned()], now()).unwrap();
    fs::write(at("ca.pem"), ca.cert_pem()).unwrap();
    fs::write(at("broker.pem"), &server.cert_pem).unwrap();
    fs::write(at("broker.key"), &server.key_pem).unwrap();
    // A port that was free a moment ago; mosquitto cannot choose one by itself.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let texts = render(&Mosquitto {
        port,
        root: ROOT,
        ca_file: &at("ca.pem"),
        cert_file: &at("broker.pem"),
        key_file: &at("broker.key"),
        acl_file: &at("acl"),
        persistence_dir: dir.path(),
        viewers: &[DeviceId::new("wall").unwrap()],
        plugin: None,
    })
    .unwrap();
    fs::write(at("acl"), texts.acl).unwrap();
    // As root it would become another user, who may not look into our directory.
    fs::write(at("conf"), format!("user root\n{}", texts.conf)).unwrap();
    let child = Command::new("mosquitto")
        .env("PATH", "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        .arg("-c")
        .arg(at("conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(addr).await.is_err() {
        assert!(Instant::now() < deadline, "mosquitto does not listen");
        sleep(Duration::from_millis(20)).await;
    }
    Daemon { child, addr, _dir: dir }
}

async fn connected(daemon: &Daemon, ca: &FleetCa, own: &Issued, hello: &Hello<'_>) -> Client {
    Client::accepted(tls(daemon.addr, ca, Some(own)).await.unwrap(), hello).await
}

#[tokio::test]
async fn mosquitto_keeps_the_same_rules() {
    let ca = FleetCa::create("test fleet", now()).unwrap();
    let daemon = mosquitto(&ca).await;
    let own = ca.issue_controller(now()).unwrap();
    let mut controller = connected(&daemon, &ca, &own, &Hello::new(5, "controller-whatever")).await;
    controller.subscribe("fleetway/v1/d/+/up/#").await;
    let cam = ca.issue_device("cam", 1, now()).unwrap();
    let dog = ca.issue_device("dog", 1, now()).unwrap();
    let viewer = ca.issue_viewer("wall", 1, now()).unwrap();
    for level in [4, 5] {
        let mut dog = connected(&daemon, &ca, &dog, &Hello::new(level, "dog")).await;
        // Under another's client id: it is taken for what its certificate says.
        let mut cam = connected(&daemon, &ca, &cam, &Hello::new(level, "dog")).await;
        cam.publish("fleetway/v1/d/dog/up/on", b"forged", false).await;
        cam.publish("fleetway/v1/d/cam/up/on", b"own", false).await;
        assert_eq!(controller.message().await.topic, "fleetway/v1/d/cam/up/on");
        for filter in ["#", "fleetway/v1/#", "fleetway/v1/d/+/dn/#", "fleetway/v1/j/#"] {
            cam.subscribe(filter).await;
        }
        controller.publish("fleetway/v1/d/dog/dn/ds", b"not for cam", false).await;
        controller.publish("fleetway/v1/j/cam/on", b"not for cam", false).await;
        assert_eq!(cam.message_within(NOTHING).await, None);
        dog.subscribe("fleetway/v1/d/dog/dn/#").await;
        controller.publish("fleetway/v1/d/dog/dn/ds", b"for dog", false).await;
        assert_eq!(dog.message().await.payload, b"for dog");
        let mut viewer = connected(&daemon, &ca, &viewer, &Hello::new(level, "viewer.wall")).await;
        viewer.subscribe("fleetway/v1/#").await;
        viewer.publish("fleetway/v1/j/cam/on", b"forged", false).await;
        controller.publish("fleetway/v1/d/cam/dn/ds", b"hidden", false).await;
        controller.publish("fleetway/v1/j/cam/on", b"{}", false).await;
        let shown = viewer.message().await;
        assert_eq!(
            (shown.topic.as_str(), shown.payload.as_slice()),
            ("fleetway/v1/j/cam/on", &b"{}"[..])
        );
    }
    let rogue = FleetCa::create("test fleet", now()).unwrap();
    let impostor = rogue.issue_device("cam", 1, now()).unwrap();
    for own in [None, Some(&impostor)] {
        let refused = match tls(daemon.addr, &ca, own).await {
            Err(_) => true,
            Ok(stream) => Client::hello(stream, &Hello::new(5, "cam")).await.is_err(),
        };
        assert!(refused);
    }
}
