//! Which protocol version is spoken, and what it takes to change it.

use fleetway_link::{LinkEvent, Version};

use crate::broker::{Broker, CONNECT, CUT, Packet, Reply, SUBSCRIBE, connack, unused_address};
use crate::link;
use fleetway_link::{Qos, Subscription};

/// A broker that answers a v5 CONNECT with `answer_v5` ends up with 3.1.1, and is not asked for v5 again after a cut.
async fn check_fallback(answer_v5: fn() -> Reply, v5_attempts: usize) {
    let broker = Broker::start(move |packet| match (packet.kind, packet.level) {
        (CONNECT, 5) => answer_v5(),
        (SUBSCRIBE, _) if packet.conn == v5_attempts => CUT,
        _ => Reply::Usual,
    })
    .await;
    let (_handle, mut events) = link(&broker.url(), |config| {
        config.standing = vec![Subscription::new("dn/+", Qos::AtLeastOnce)];
    });
    let up =
        LinkEvent::Up { version: Version::V311, session_present: false, max_packet_bytes: None };
    assert_eq!(events.up().await, up);
    assert_eq!(events.up().await, up);
    let levels: Vec<_> = broker.seen(CONNECT).iter().map(|packet| packet.level).collect();
    assert_eq!(levels, [vec![5; v5_attempts], vec![4, 4]].concat());
}

#[tokio::test]
async fn falls_back_at_once_when_the_broker_says_so() {
    check_fallback(|| Reply::Last(connack(5, false, 0x84)), 1).await;
}

#[tokio::test]
async fn falls_back_after_three_answers_that_are_not_v5() {
    check_fallback(|| Reply::Last(connack(4, false, 0x01)), 3).await;
}

#[tokio::test]
async fn falls_back_after_three_hang_ups() {
    check_fallback(|| CUT, 3).await;
}

#[tokio::test]
async fn goes_to_v5_when_only_that_is_spoken() {
    let refuse = |packet: &Packet| match (packet.kind, packet.conn) {
        (CONNECT, 0) => Reply::Last(connack(5, false, 0x84)),
        (CONNECT, 1) => Reply::Last(connack(4, false, 0x84)),
        _ => Reply::Usual,
    };
    let broker = Broker::start(refuse).await;
    let (_handle, mut events) = link(&broker.url(), |_| ());
    assert!(matches!(events.up().await, LinkEvent::Up { version: Version::V5, .. }));
}

#[tokio::test]
async fn a_network_failure_is_no_reason() {
    let address = unused_address().await;
    let (_handle, mut events) = link(&format!("mqtt://{address}"), |_| ());
    for _ in 0..6 {
        let reason = events.down().await;
        assert!(reason.contains(&address.to_string()) && reason.contains("refused"), "{reason}");
    }
    let _broker = Broker::start_at(&address.to_string(), |_| Reply::Usual).await;
    assert!(matches!(events.up().await, LinkEvent::Up { version: Version::V5, .. }));
}

#[tokio::test]
async fn a_refusal_for_another_reason_is_none_either() {
    let broker = Broker::start(|packet| match packet.kind {
        CONNECT => Reply::Last(connack(5, false, 0x87)),
        _ => Reply::Usual,
    })
    .await;
    let (_handle, mut events) = link(&broker.url(), |_| ());
    for _ in 0..5 {
        let reason = events.down().await;
        assert!(
            reason.contains("the broker refused the connection: NotAuthorized (it"),
            "{reason}"
        );
    }
    assert!(broker.seen(CONNECT).iter().all(|packet| packet.level == 5));
}

#[tokio::test]
async fn one_version_and_no_other_if_told_so() {
    let broker =
        Broker::start(|packet| if packet.kind == CONNECT { CUT } else { Reply::Usual }).await;
    let (_handle, mut events) = link(&broker.url(), |config| config.version = Some(Version::V311));
    for _ in 0..8 {
        events.down().await;
    }
    assert!(broker.seen(CONNECT).iter().all(|packet| packet.level == 4));
}
