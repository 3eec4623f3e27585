//! How a link begins, what it asks of the broker, and how it ends.

use std::time::Duration;

use fleetway_link::{
    Credentials, Link, LinkEvent, Outgoing, PublishError, Qos, Session, StartError, Subscription,
    Version, Will, start,
};

use crate::broker::{
    Broker, CLOSED, CONNECT, DISCONNECT, NOTHING, PINGREQ, PUBLISH, Packet, Reply, SUBSCRIBE,
    connack_with, publish, unused_address,
};
use crate::{config, link, millis};

const VERSIONS: [Version; 2] = [Version::V5, Version::V311];
const LONG: Duration = Duration::from_secs(5);

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn connect_asks_for_what_the_configuration_says() {
    for version in VERSIONS {
        let broker = Broker::start(|_| Reply::Usual).await;
        let (_handle, mut events) = link(&broker.url(), |config| {
            config.version = Some(version);
            config.keep_alive = Duration::from_secs(0x0102);
            config.credentials =
                Some(Credentials { username: "user".into(), password: "pass".into() });
            config.will = Some(Will {
                topic: "up/on".into(),
                payload: "gone".into(),
                qos: Qos::AtLeastOnce,
                retain: true,
                delay: Duration::from_secs(20),
            });
        });
        events.up().await;
        let body = broker.seen(CONNECT)[0].body.clone();
        assert_eq!(body[7], 0b1110_1100, "user, password, retained QoS 1 will, not clean");
        assert_eq!(body[8..10], [1, 2], "keep-alive");
        for part in ["dev-1", "up/on", "gone", "user", "pass"] {
            assert!(contains(&body, part.as_bytes()), "{part}");
        }
        if version == Version::V5 {
            assert!(contains(&body, &[0x11, 0, 1, 0x51, 0x80]), "session expiry 86400 s");
            assert!(contains(&body, &[0x21, 0, 16]), "receive maximum 16");
            assert!(contains(&body, &[0x27, 0, 4, 0, 0]), "packets of 256 KiB");
            assert!(contains(&body, &[0x18, 0, 0, 0, 20]), "will delay 20 s");
        }
    }
}

#[tokio::test]
async fn a_clean_session_is_clean_every_time() {
    for version in VERSIONS {
        let broker = Broker::start(|_| Reply::Usual).await;
        let (_handle, mut events) = link(&broker.url(), |config| {
            config.version = Some(version);
            config.session = Session::Clean;
        });
        events.up().await;
        assert_eq!(broker.seen(CONNECT)[0].body[7], 0b0000_0010);
    }
}

#[tokio::test]
async fn shutdown_sends_what_is_left_and_says_good_bye() {
    for version in VERSIONS {
        let broker = Broker::start(|_| Reply::Usual).await;
        let (handle, mut events) = link(&broker.url(), |config| config.version = Some(version));
        for n in 0..100 {
            handle.publish(Outgoing::new("up/ack", n.to_string())).unwrap();
        }
        handle.publish(Outgoing::new("up/on", "offline").retained()).unwrap();
        // not even connected yet
        assert_eq!(handle.shutdown(LONG).await, 0);
        let seen = broker.seen(PUBLISH);
        assert_eq!((seen.len(), seen[100].text().as_str()), (101, "offline"));
        broker.wait_for(CLOSED, |seen| seen.len() == 1).await;
        assert_eq!(broker.seen(DISCONNECT).len(), 1);
        assert!(matches!(events.next().await, Some(LinkEvent::Up { .. })));
        assert_eq!(events.next().await, None, "no more events");
        let closed = handle.publish(Outgoing::new("up/on", "late"));
        assert_eq!(closed, Err(PublishError::Closed("up/on".into())));
        assert_eq!(handle.shutdown(LONG).await, 0, "twice does no harm");
    }
}

#[tokio::test]
async fn shutdown_without_a_connection_counts_what_is_left() {
    let address = unused_address().await;
    let (handle, mut events) = link(&format!("mqtt://{address}"), |config| {
        config.backoff.min = LONG * 10;
        config.backoff.max = LONG * 10;
    });
    handle.publish(Outgoing::new("up/on", "x")).unwrap();
    events.down().await;
    assert_eq!(handle.shutdown(LONG).await, 1);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_acknowledgements_that_never_come() {
    let broker = Broker::start(|packet| match packet.kind {
        PUBLISH | DISCONNECT => NOTHING,
        _ => Reply::Usual,
    })
    .await;
    let (handle, mut events) = link(&broker.url(), |_| ());
    events.up().await;
    handle.publish(Outgoing::new("up/on", "x")).unwrap();
    assert_eq!(handle.shutdown(millis(100)).await, 1);
    assert_eq!(broker.seen(DISCONNECT).len(), 1);
}

#[tokio::test]
async fn dropping_the_last_handle_looks_like_a_crash() {
    let broker = Broker::start(|_| Reply::Usual).await;
    let (handle, mut events) = link(&broker.url(), |_| ());
    events.up().await;
    drop(handle.clone());
    assert!(tokio::time::timeout(millis(50), events.0.recv()).await.is_err(), "one is left");
    drop(handle);
    broker.wait_for(CLOSED, |seen| seen.len() == 1).await;
    assert!(broker.seen(DISCONNECT).is_empty(), "the broker publishes the will");
    assert_eq!(events.next().await, None);
}

/// A broker that sends a thousand messages at once.
fn flood(packet: &Packet) -> Reply {
    match packet.kind {
        SUBSCRIBE => {
            let one = |n: usize| publish(packet.level, "dn/cmd", n.to_string().as_bytes());
            Reply::Before((0..1000).flat_map(one).collect())
        }
        _ => Reply::Usual,
    }
}

#[tokio::test]
async fn a_slow_receiver_holds_the_broker_back_and_loses_nothing() {
    let broker = Broker::start(flood).await;
    let (handle, mut events) = link(&broker.url(), |config| {
        config.events_max = 1;
        config.stall_timeout = Some(millis(100));
        config.standing = vec![Subscription::new("dn/+", Qos::AtLeastOnce)];
    });
    events.up().await;
    handle.publish(Outgoing::new("up/x", "waits")).unwrap();
    tokio::time::sleep(millis(700)).await;
    for n in 0..1000 {
        assert_eq!(events.message().await, n.to_string());
    }
    let stats = handle.stats();
    assert_eq!((stats.stalls, stats.connects, stats.events_lost), (0, 1, 0));
}

#[tokio::test]
async fn a_receiver_that_is_gone_or_asleep_does_not_hold_shutdown_up() {
    for asleep in [true, false] {
        let broker = Broker::start(flood).await;
        let (handle, events) = link(&broker.url(), |config| {
            config.events_max = 1;
            config.standing = vec![Subscription::new("dn/+", Qos::AtLeastOnce)];
        });
        let events = asleep.then_some(events);
        broker.wait_for(SUBSCRIBE, |seen| seen.len() == 1).await;
        handle.publish(Outgoing::new("up/on", "offline")).unwrap();
        assert_eq!(handle.shutdown(LONG).await, 0);
        assert!(handle.stats().events_lost > 0);
        drop(events);
    }
}

#[tokio::test]
async fn a_broker_that_wants_no_keep_alive_gets_no_flood_of_pings() {
    let broker = Broker::start(|packet| match packet.kind {
        CONNECT => Reply::Bytes(connack_with(&[0x13, 0, 0])),
        _ => Reply::Usual,
    })
    .await;
    let (handle, mut events) = link(&broker.url(), |_| ());
    events.up().await;
    tokio::time::sleep(millis(200)).await;
    assert!(broker.seen(PINGREQ).len() <= 1);
    assert_eq!(handle.stats().connects, 1);
}

#[tokio::test]
async fn limits_the_broker_announces_are_kept() {
    let broker = Broker::start(|packet| match packet.kind {
        // receive maximum 3, packets of 1000 bytes
        CONNECT => Reply::Bytes(connack_with(&[0x21, 0, 3, 0x27, 0, 0, 3, 0xE8])),
        PUBLISH => NOTHING,
        _ => Reply::Usual,
    })
    .await;
    let (handle, mut events) = link(&broker.url(), |_| ());
    let up = events.up().await;
    assert!(matches!(up, LinkEvent::Up { max_packet_bytes: Some(1000), .. }), "{up:?}");
    for _ in 0..10 {
        handle.publish(Outgoing::new("up/x", "y")).unwrap();
    }
    let too_large = handle.publish(Outgoing::new("up/x", vec![0; 1000]));
    assert!(matches!(too_large, Err(PublishError::TooLarge { max: 1000, .. })));
    broker.wait_for(PUBLISH, |seen| seen.len() == 2).await;
    tokio::time::sleep(millis(100)).await;
    assert_eq!(broker.seen(PUBLISH).len(), 2, "within the receive maximum, one id free");
}

#[test]
fn a_link_needs_a_runtime() {
    let started = start(config("mqtt://127.0.0.1:1")).map(|_| ());
    assert_eq!(started, Err(StartError::NoRuntime));
}
