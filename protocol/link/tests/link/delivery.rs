//! What arrives, in which order, and how often, when the broker or the network misbehaves.

use std::sync::Mutex;

use fleetway_link::{
    Asked, LaneLimits, Link, LinkEvent, LinkHandle, OutboxLimits, Outgoing, PublishError, Qos,
    Subscription, Version,
};

use crate::broker::{
    Broker, CONNECT, CUT, NOTHING, PUBLISH, Packet, Reply, SUBSCRIBE, UNSUBSCRIBE, connack, puback,
    publish, suback, unused_address,
};
use crate::{link, millis};

const VERSIONS: [Version; 2] = [Version::V5, Version::V311];

fn publish_numbers(handle: &LinkHandle, numbers: impl Iterator<Item = usize>) {
    for n in numbers {
        handle.publish(Outgoing::new("up/ack", n.to_string())).unwrap();
    }
}

fn payloads<'a>(packets: impl IntoIterator<Item = &'a Packet>) -> Vec<String> {
    packets.into_iter().map(Packet::text).collect()
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_in_order() {
    for version in VERSIONS {
        let broker =
            Broker::start(|packet| match (packet.conn, packet.kind, packet.text().as_str()) {
                (0, PUBLISH, "1") => Reply::Usual,
                (0, PUBLISH, "4") => CUT,
                (0, PUBLISH, _) => NOTHING,
                _ => Reply::Usual,
            })
            .await;
        let (handle, mut events) = link(&broker.url(), |config| config.version = Some(version));
        publish_numbers(&handle, 0..6);
        events.up().await;
        events.down().await;
        publish_numbers(&handle, 6..8);
        let seen = broker
            .wait_for(PUBLISH, |seen| seen.last().is_some_and(|last| last.text() == "7"))
            .await;
        let again = payloads(seen.iter().filter(|packet| packet.conn == 1));
        assert_eq!(again, ["0", "2", "3", "4", "5", "6", "7"], "{version}");
        while handle.stats().outbox_messages > 0 {
            tokio::time::sleep(millis(5)).await;
        }
        assert_eq!(handle.stats().connects, 2);
    }
}

#[tokio::test]
async fn all_filters_are_subscribed_on_every_connack() {
    for (version, session_present) in [(5, true), (5, false), (4, true), (4, false)] {
        let broker = Broker::start(move |packet| match packet.kind {
            CONNECT => Reply::Bytes(connack(packet.level, session_present, 0)),
            PUBLISH => CUT,
            _ => Reply::Usual,
        })
        .await;
        let (handle, mut events) = link(&broker.url(), |config| {
            config.version = Some(if version == 5 { Version::V5 } else { Version::V311 });
            config.standing = vec![
                Subscription::new("dn/+", Qos::AtLeastOnce),
                Subscription::new("c/on", Qos::AtLeastOnce),
            ];
        });
        events.up().await;
        handle.subscribe(Subscription::new("b/1", Qos::AtMostOnce)).unwrap();
        handle.subscribe(Subscription::new("b/2", Qos::AtMostOnce)).unwrap();
        handle.unsubscribe("b/1");
        broker.wait_for(UNSUBSCRIBE, |seen| seen.len() == 1).await;
        handle.publish(Outgoing::new("cut", "").at_most_once()).unwrap();
        events.up().await;
        let seen = broker.wait_for(SUBSCRIBE, |seen| seen.iter().any(|one| one.conn == 1)).await;
        let again = seen.iter().find(|packet| packet.conn == 1).unwrap();
        assert_eq!(again.topic, "dn/+,c/on,b/2", "{version} {session_present}");
    }
}

#[tokio::test]
async fn while_down_retained_messages_are_coalesced_and_the_outbox_is_bounded() {
    let address = unused_address().await;
    let lane = LaneLimits { messages_max: 3, bytes_max: 100 };
    let (handle, mut events) = link(&format!("mqtt://{address}"), |config| {
        config.outbox = OutboxLimits { at_least_once: lane, at_most_once: lane };
    });
    events.down().await;
    for n in 0..50 {
        handle.publish(Outgoing::new("up/st", n.to_string()).retained()).unwrap();
    }
    publish_numbers(&handle, 0..2);
    let full = handle.publish(Outgoing::new("up/ack", "lost"));
    assert!(matches!(full, Err(PublishError::Full { messages: 3, .. })), "{full:?}");
    let full = handle.publish(Outgoing::new("up/tm", vec![0; 101]).at_most_once());
    assert!(matches!(full, Err(PublishError::Full { messages: 0, .. })), "{full:?}");
    assert_eq!((handle.stats().overflowed, handle.stats().replaced), (2, 49));

    let broker = Broker::start_at(&address.to_string(), |_| Reply::Usual).await;
    let seen = broker.wait_for(PUBLISH, |seen| seen.len() == 3).await;
    assert_eq!(payloads(&seen), ["49", "0", "1"]);
    assert!(seen[0].retain && !seen[1].retain);
}

#[tokio::test]
async fn a_thousand_messages_from_the_receiver_of_events_are_no_deadlock() {
    for version in VERSIONS {
        // sends every message back: reading and writing block each other if anything does
        let echo = |packet: &Packet| match packet.kind {
            SUBSCRIBE => Reply::Before(publish(packet.level, "dn/go", b"go")),
            PUBLISH => Reply::Before(publish(packet.level, "dn/echo", &packet.payload)),
            _ => Reply::Usual,
        };
        let broker = Broker::start(echo).await;
        let (handle, mut events) = link(&broker.url(), |config| {
            config.version = Some(version);
            config.events_max = 1;
            config.standing = vec![Subscription::new("dn/+", Qos::AtLeastOnce)];
        });
        assert_eq!(events.message().await, "go");
        publish_numbers(&handle, 0..1000);
        for n in 0..1000 {
            assert_eq!(events.message().await, n.to_string());
        }
        let stats = handle.stats();
        assert_eq!((stats.connects, stats.messages_in, stats.messages_out), (1, 1001, 1000));
        assert_eq!((stats.bytes_in, stats.bytes_out), (2890 + 2, 2890));
    }
}

#[tokio::test]
async fn acknowledgements_out_of_order_lose_and_repeat_nothing() {
    for version in VERSIONS {
        // acknowledges in pairs, the later one first
        let waiting = Mutex::new(None);
        let broker = Broker::start(move |packet| match packet.kind {
            PUBLISH => {
                let mut waiting = waiting.lock().unwrap();
                match waiting.take() {
                    Some(earlier) => Reply::Bytes([puback(packet.id), puback(earlier)].concat()),
                    None => {
                        *waiting = Some(packet.id);
                        NOTHING
                    }
                }
            }
            _ => Reply::Usual,
        })
        .await;
        let (handle, _events) = link(&broker.url(), |config| config.version = Some(version));
        publish_numbers(&handle, 0..200);
        let seen = broker.wait_for(PUBLISH, |seen| seen.len() >= 200).await;
        let expected: Vec<_> = (0..200).map(|n| n.to_string()).collect();
        assert_eq!(payloads(&seen), expected);
        assert_eq!(handle.stats().connects, 1);
    }
}

#[tokio::test]
async fn a_broker_that_acknowledges_twice_costs_a_connection_and_no_message() {
    for version in VERSIONS {
        let twice = |packet: &Packet| match (packet.kind, packet.conn) {
            (PUBLISH, 0) if packet.text() == "5" => Reply::Before(puback(packet.id)),
            _ => Reply::Usual,
        };
        let broker = Broker::start(twice).await;
        let (handle, mut events) = link(&broker.url(), |config| config.version = Some(version));
        publish_numbers(&handle, 0..40);
        events.down().await;
        let seen = broker.wait_for(PUBLISH, |seen| payloads(seen).contains(&"39".into())).await;
        for n in 0..40 {
            assert!(payloads(&seen).contains(&n.to_string()), "{n} {version}");
        }
    }
}

#[tokio::test]
async fn a_broker_that_never_acknowledges_is_left_and_tried_again() {
    for version in VERSIONS {
        let broker = Broker::start(|packet| match (packet.kind, packet.conn) {
            (PUBLISH, 0) => NOTHING,
            _ => Reply::Usual,
        })
        .await;
        let (handle, mut events) = link(&broker.url(), |config| {
            config.version = Some(version);
            config.stall_timeout = Some(millis(300));
        });
        publish_numbers(&handle, 0..100);
        let reason = events.down().await;
        assert!(reason.contains("nothing that waits to be sent moved"), "{reason}");
        let seen = broker.wait_for(PUBLISH, |seen| payloads(seen).contains(&"99".into())).await;
        assert_eq!(seen.iter().filter(|packet| packet.conn == 0).count(), 19, "one id stays free");
        assert_eq!(seen.iter().filter(|packet| packet.conn == 1).count(), 100);
        assert_eq!(handle.stats().stalls, 1);
    }
}

#[tokio::test]
async fn the_id_of_an_unanswered_subscribe_is_not_given_to_a_message() {
    for version in VERSIONS {
        let broker = Broker::start(|packet| match (packet.kind, packet.conn) {
            (SUBSCRIBE, 0) => NOTHING,
            _ => Reply::Usual,
        })
        .await;
        let (handle, _events) = link(&broker.url(), |config| {
            config.version = Some(version);
            config.stall_timeout = Some(millis(300));
            config.standing = vec![Subscription::new("dn/+", Qos::AtLeastOnce)];
        });
        publish_numbers(&handle, 0..40);
        let seen = broker.wait_for(PUBLISH, |seen| payloads(seen).contains(&"39".into())).await;
        let subscribe = broker.seen(SUBSCRIBE)[0].id;
        assert!(seen.iter().all(|packet| packet.conn == 1 || packet.id != subscribe), "{version}");
    }
}

#[tokio::test]
async fn bulk_passes_orders_that_wait_for_acknowledgements() {
    for version in VERSIONS {
        let broker = Broker::start(|packet| match (packet.kind, packet.qos) {
            (PUBLISH, 1) => NOTHING,
            _ => Reply::Usual,
        })
        .await;
        let (handle, mut events) = link(&broker.url(), |config| config.version = Some(version));
        events.up().await;
        publish_numbers(&handle, 0..100);
        handle.publish(Outgoing::new("dn/blk", "chunk").at_most_once()).unwrap();
        broker.wait_for(PUBLISH, |seen| payloads(seen).contains(&"chunk".into())).await;
    }
}

#[tokio::test]
async fn what_came_just_before_a_cut_is_not_lost() {
    for version in VERSIONS {
        let broker = Broker::start(|packet| match packet.kind {
            SUBSCRIBE => {
                let messages = (b'0'..b'5').flat_map(|n| publish(packet.level, "dn/cmd", &[n]));
                Reply::Last(messages.collect())
            }
            _ => Reply::Usual,
        })
        .await;
        let (_handle, mut events) = link(&broker.url(), |config| {
            config.version = Some(version);
            config.standing = vec![Subscription::new("dn/+", Qos::AtLeastOnce)];
        });
        // fewer than the ten that rumqttc reads at once: it finds the end in the same breath and drops them
        for n in 0..5 {
            assert_eq!(events.message().await, n.to_string());
        }
    }
}

#[tokio::test]
async fn large_packets_pass_both_ways() {
    for version in VERSIONS {
        let large = |packet: &Packet| match packet.kind {
            PUBLISH => Reply::Before(publish(packet.level, "dn/echo", &packet.payload)),
            _ => Reply::Usual,
        };
        let broker = Broker::start(large).await;
        let (handle, mut events) = link(&broker.url(), |config| config.version = Some(version));
        handle.publish(Outgoing::new("up/x", "y".repeat(200_000))).unwrap();
        assert_eq!(events.message().await.len(), 200_000);
        let too_large = handle.publish(Outgoing::new("up/x", vec![0; 256 * 1024]));
        assert!(matches!(too_large, Err(PublishError::TooLarge { .. })));
    }
}

#[tokio::test]
async fn a_refused_filter_is_named() {
    for (version, code) in [(Version::V5, 0x87), (Version::V311, 0x80)] {
        let broker = Broker::start(move |packet| match packet.kind {
            SUBSCRIBE => Reply::Bytes(suback(packet, code)),
            _ => Reply::Usual,
        })
        .await;
        let (_handle, mut events) = link(&broker.url(), |config| {
            config.version = Some(version);
            config.standing = vec![Subscription::new("dn/+", Qos::AtLeastOnce)];
        });
        let refused = events.find(|event| match event {
            LinkEvent::Refused { asked, topic, code } => Some((*asked, topic.clone(), *code)),
            _ => None,
        });
        assert_eq!(refused.await, (Asked::Subscribe, "dn/+".into(), code));
    }
}
