//! What outlives the broker's process, and how it ends.

use std::fs;

use super::*;

#[tokio::test]
async fn retained_messages_and_queues_survive_a_restart() {
    let world = World::start().await;
    let World { ca, broker: first, admits, data } = world;
    let addr = first.local_addr();
    let device = ca.issue_device("cam", 1, now()).unwrap();
    let own = ca.issue_controller(now()).unwrap();
    let hello = Hello { clean: false, ..Hello::new(5, "cam") };
    let mut cam = Client::accepted(tls(addr, &ca, Some(&device)).await.unwrap(), &hello).await;
    cam.subscribe("fleetway/v1/d/cam/dn/+").await;
    cam.disconnect().await;
    let stream = tls(addr, &ca, Some(&own)).await.unwrap();
    let mut controller = Client::accepted(stream, &Hello::new(5, "controller")).await;
    controller.publish("fleetway/v1/d/cam/dn/ds", b"order", true).await;
    controller.publish("fleetway/v1/d/cam/dn/cmd", b"queued", false).await;

    let started = Instant::now();
    first.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(controller.closed().await);

    let second = broker(&ca, data.path(), Limits::default(), &admits).await;
    let addr = second.local_addr();
    let mut cam = Client::accepted(tls(addr, &ca, Some(&device)).await.unwrap(), &hello).await;
    let mut got = [cam.message().await.payload, cam.message().await.payload];
    got.sort();
    assert_eq!(got, [b"order".to_vec(), b"queued".to_vec()]);
    let mut fresh = Client::accepted(
        tls(addr, &ca, Some(&ca.issue_device("dog", 1, now()).unwrap())).await.unwrap(),
        &Hello::new(4, "dog"),
    )
    .await;
    assert!(fresh.subscribe("fleetway/v1/d/cam/dn/ds").await >= 0x80);
    cam.subscribe("fleetway/v1/d/cam/dn/ds").await;
    let retained = cam.message().await;
    assert_eq!((retained.payload.as_slice(), retained.retain), (&b"order"[..], true));
}

#[tokio::test]
async fn what_was_acknowledged_as_retained_survives_a_kill() {
    let world = World::start().await;
    let mut controller = world.controller().await;
    for n in 0..20 {
        let topic = format!("fleetway/v1/b/0123456789abcdef0123456789abcdef/{n}");
        assert_eq!(controller.publish(&topic, &[n; 1000], true).await, 0);
    }
    // The files as they are now, without any goodbye: what kill -9 leaves behind.
    let after = TempDir::new().unwrap();
    copy_dir(&world.data.path().join("broker"), &after.path().join("broker"));
    let second = broker(&world.ca, after.path(), Limits::default(), &world.admits).await;
    let device = world.device("cam");
    let stream = tls(second.local_addr(), &world.ca, Some(&device)).await.unwrap();
    let mut cam = Client::accepted(stream, &Hello::new(5, "cam")).await;
    for n in [0, 7, 19] {
        cam.subscribe(&format!("fleetway/v1/b/0123456789abcdef0123456789abcdef/{n}")).await;
        assert_eq!(cam.message().await.payload, [n; 1000]);
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_has_one_broker() {
    let world = World::start().await;
    let config = EmbeddedConfig {
        data_dir: world.data.path().to_owned(),
        root: ROOT.to_owned(),
        clients_max: 10,
        gate: Default::default(),
    };
    assert!(matches!(EmbeddedBroker::start(&config).await, Err(EmbeddedError::Start { .. })));
}
