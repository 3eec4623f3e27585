//! What waits to be sent, over a link that is gone for days: bounded in messages and bytes, the
//! newest state in place of older ones, nothing acknowledged sent twice, and losses counted.

use super::*;
use crate::clock;

fn outbox(messages_max: usize, bytes_max: usize) -> Outbox {
    let lane = LaneLimits { messages_max, bytes_max };
    Outbox::new(OutboxLimits { at_least_once: lane, at_most_once: lane })
}

/// Hands out everything and returns it as `topic=payload`, in order.
fn hand_out_all(outbox: &mut Outbox, qos: Qos, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| outbox.hand_out(qos, now))
        .map(|handed| {
            format!("{}={}", handed.message.topic, String::from_utf8_lossy(&handed.message.payload))
        })
        .collect()
}

#[test]
fn messages_and_bytes_are_bounded_and_losses_counted() {
    let now = clock::now();
    let mut by_count = outbox(2, 1000);
    assert_eq!(by_count.push(Outgoing::new("a", "1"), now), Ok(()));
    assert_eq!(by_count.push(Outgoing::new("a", "2"), now), Ok(()));
    let full = PublishError::Full { topic: "a".into(), messages: 2, bytes: 4 };
    assert_eq!(by_count.push(Outgoing::new("a", "3"), now), Err(full));
    assert_eq!(by_count.overflowed, 1);
    let bulk = Outgoing::new("a", "bulk").at_most_once();
    assert_eq!(by_count.push(bulk, now), Ok(()), "the other lane has its own bounds");
    assert_eq!(by_count.depth(), (3, 9));

    let mut by_bytes = outbox(100, 10);
    assert_eq!(by_bytes.push(Outgoing::new("a", "12345678"), now), Ok(()));
    assert!(by_bytes.push(Outgoing::new("a", "1"), now).is_err());
    assert_eq!(by_bytes.push(Outgoing::new("a", ""), now), Ok(()), "exactly full");
}

#[test]
fn a_newer_retained_message_replaces_a_waiting_one() {
    let now = clock::now();
    let mut outbox = outbox(3, 1000);
    for (topic, payload) in [("st", "1"), ("on", "1"), ("st", "2")] {
        outbox.push(Outgoing::new(topic, payload).retained(), now).unwrap();
    }
    outbox.push(Outgoing::new("st", "not retained"), now).unwrap();
    assert!(outbox.push(Outgoing::new("tm", "x"), now).is_err());
    outbox.push(Outgoing::new("st", "3").retained(), now).expect("replaces although full");
    assert_eq!(outbox.replaced, 2);
    assert_eq!(
        hand_out_all(&mut outbox, Qos::AtLeastOnce, now),
        ["on=1", "st=not retained", "st=3"]
    );

    outbox.done(Qos::AtLeastOnce, 0);
    outbox.done(Qos::AtLeastOnce, 1);
    outbox.push(Outgoing::new("st", "4").retained(), now).unwrap();
    assert_eq!(outbox.replaced, 2, "what is handed is never replaced");
    assert_eq!(hand_out_all(&mut outbox, Qos::AtLeastOnce, now), ["st=4"]);
}

#[test]
fn the_latest_wins_across_lanes() {
    let now = clock::now();
    let mut outbox = outbox(3, 1000);
    outbox.push(Outgoing::new("st", "1").retained().at_most_once(), now).unwrap();
    outbox.push(Outgoing::new("st", "2").retained(), now).unwrap();
    assert_eq!(hand_out_all(&mut outbox, Qos::AtMostOnce, now), [""; 0]);
    assert_eq!(hand_out_all(&mut outbox, Qos::AtLeastOnce, now), ["st=2"]);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_in_order() {
    let now = clock::now();
    let mut outbox = outbox(10, 1000);
    for payload in ["1", "2", "3"] {
        outbox.push(Outgoing::new("a", payload), now).unwrap();
    }
    assert_eq!(hand_out_all(&mut outbox, Qos::AtLeastOnce, now), ["a=1", "a=2", "a=3"]);
    assert!(outbox.done(Qos::AtLeastOnce, 1).is_some(), "out of order");
    assert!(outbox.done(Qos::AtLeastOnce, 1).is_none(), "only once");
    outbox.connection_lost();
    assert!(outbox.done(Qos::AtLeastOnce, 0).is_none(), "waits, is not handed");
    assert_eq!(hand_out_all(&mut outbox, Qos::AtLeastOnce, now), ["a=1", "a=3"]);
    assert!(outbox.done(Qos::AtLeastOnce, 0).is_some());
    assert!(outbox.done(Qos::AtLeastOnce, 2).is_some());
    assert_eq!(outbox.depth(), (0, 0));
}

#[test]
fn what_is_too_old_is_dropped_and_counted() {
    let now = clock::now();
    let mut outbox = outbox(10, 1000);
    let second = Duration::from_secs(1);
    outbox.push(Outgoing::new("a", "short").expiring(second), now).unwrap();
    outbox.push(Outgoing::new("a", "long").expiring(second * 3), now).unwrap();
    let handed = outbox.hand_out(Qos::AtLeastOnce, now + second).unwrap();
    assert_eq!(handed.expires_in, Some(second * 2));
    assert_eq!((outbox.expired, outbox.depth().0), (1, 1));
}

#[test]
fn what_the_broker_cannot_take_is_dropped() {
    let now = clock::now();
    let mut outbox = outbox(10, 1000);
    outbox.push(Outgoing::new("a", vec![0; 100]), now).unwrap();
    outbox.push(Outgoing::new("a", vec![0; 10]), now).unwrap();
    assert_eq!(outbox.drop_larger_than(50).len(), 1);
    assert_eq!(outbox.depth(), (1, 11));
}
