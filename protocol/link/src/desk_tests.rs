//! The desk without a network: a recorder stands for the wire, and time is an argument. Held
//! down are the order in which things are said, what is said again after a cut, and that a
//! connection which hangs is noticed, which no error would ever tell.

use std::sync::{Arc, Mutex};

use super::*;
use crate::clock;

/// Writes down what is handed over.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn note(&self, text: String) -> bool {
        self.0.lock().unwrap().push(text);
        true
    }

    /// What was handed over since the last call.
    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).join(" ")
    }
}

impl WireSender for Recorder {
    fn publish(&self, message: &Outgoing, _expires_in: Option<Duration>) -> bool {
        self.note(format!("{}={}", message.topic, String::from_utf8_lossy(&message.payload)))
    }
    fn subscribe(&self, batch: &[Subscription]) -> bool {
        let filters: Vec<_> = batch.iter().map(|one| one.filter.as_str()).collect();
        self.note(format!("+{}", filters.join(",")))
    }
    fn unsubscribe(&self, filter: &str) -> bool {
        self.note(format!("-{filter}"))
    }
    fn disconnect(&self) -> bool {
        self.note("bye".into())
    }
}

const ACCEPTED: Accepted = Accepted {
    session_present: false,
    packet_bytes_max: None,
    inflight_max: 4,
    keep_alive: Duration::from_secs(60),
};

fn desk() -> (Desk, Recorder, Instant) {
    let mut config = LinkConfig::new("mqtt://broker".parse().unwrap(), "dev-1");
    config.standing = vec![Subscription::new("dn/+", Qos::AtLeastOnce)];
    (Desk::new(&config), Recorder::default(), clock::now())
}

fn connect(desk: &mut Desk, wire: &Recorder, now: Instant) -> Vec<LinkEvent> {
    desk.connected(Version::V5, Box::new(wire.clone()), &ACCEPTED, now)
}

#[test]
fn subscriptions_come_first_then_as_much_as_ids_allow_and_bulk_never_waits() {
    let (mut desk, wire, now) = desk();
    for n in 1..=4 {
        desk.publish(Outgoing::new("a", n.to_string()), now).unwrap();
    }
    desk.publish(Outgoing::new("bulk", "x").at_most_once(), now).unwrap();
    assert_eq!(wire.take(), "", "down");
    connect(&mut desk, &wire, now);
    assert_eq!(wire.take(), "+dn/+ a=1 a=2 a=3 bulk=x");

    for id in [1, 2, 3, 4, 0] {
        desk.arrived(WireEvent::Written { id }, now);
    }
    assert_eq!(desk.unsent(), 4, "QoS 0 is done when written, QoS 1 when acknowledged");
    desk.arrived(WireEvent::PublishAnswered { id: 2, code: 0 }, now);
    assert_eq!(wire.take(), "", "id 1, next in the circle, still belongs to the SUBSCRIBE");
    desk.arrived(WireEvent::SubscribeAnswered { id: 1, codes: vec![1] }, now);
    assert_eq!(wire.take(), "a=4");
    assert_eq!(desk.stats().messages_out, 4);
}

#[test]
fn all_is_said_again_after_a_cut() {
    let (mut desk, wire, now) = desk();
    connect(&mut desk, &wire, now);
    desk.subscribe(Subscription::new("b/1", Qos::AtMostOnce), now).unwrap();
    desk.publish(Outgoing::new("a", "1"), now).unwrap();
    desk.publish(Outgoing::new("a", "2"), now).unwrap();
    assert_eq!(wire.take(), "+dn/+ +b/1 a=1 a=2");
    for id in 1..=4 {
        desk.arrived(WireEvent::Written { id }, now);
    }
    desk.arrived(WireEvent::PublishAnswered { id: 3, code: 0 }, now);
    desk.disconnected();
    assert_eq!(desk.stats().version, None);
    connect(&mut desk, &wire, now);
    assert_eq!(wire.take(), "+dn/+,b/1 a=2");
}

#[test]
fn refusals_name_what_was_refused() {
    let (mut desk, wire, now) = desk();
    connect(&mut desk, &wire, now);
    let refused = desk.arrived(WireEvent::SubscribeAnswered { id: 1, codes: vec![0x87] }, now);
    let expected = LinkEvent::Refused { asked: Asked::Subscribe, topic: "dn/+".into(), code: 0x87 };
    assert_eq!(refused, [expected]);

    desk.publish(Outgoing::new("a", "1"), now).unwrap();
    let refused = desk.arrived(WireEvent::PublishAnswered { id: 2, code: 0x87 }, now);
    let expected = LinkEvent::Refused { asked: Asked::Publish, topic: "a".into(), code: 0x87 };
    assert_eq!(refused, [expected]);
    assert_eq!(desk.unsent(), 0);

    desk.publish(Outgoing::new("a", "1"), now).unwrap();
    let code = 0x10; // no subscribers is no refusal
    assert_eq!(desk.arrived(WireEvent::PublishAnswered { id: 3, code }, now), []);
    assert_eq!(desk.arrived(WireEvent::PublishAnswered { id: 3, code: 0x87 }, now), []);
}

#[test]
fn what_the_broker_cannot_take_is_never_sent() {
    let (mut desk, wire, now) = desk();
    let too_large = Outgoing::new("a", vec![0; PACKET_BYTES_MAX as usize]);
    assert!(matches!(desk.publish(too_large, now), Err(PublishError::TooLarge { .. })));
    desk.publish(Outgoing::new("a", vec![0; 2000]), now).unwrap();
    let accepted = Accepted { packet_bytes_max: Some(1000), ..ACCEPTED };
    let events = desk.connected(Version::V5, Box::new(wire.clone()), &accepted, now);
    let refused =
        LinkEvent::Refused { asked: Asked::Publish, topic: "a".into(), code: PACKET_TOO_LARGE };
    assert_eq!(events.last(), Some(&refused));
    assert_eq!(wire.take(), "+dn/+");
    let too_large = desk.publish(Outgoing::new("a", vec![0; 2000]), now);
    assert!(matches!(too_large, Err(PublishError::TooLarge { max: 1000, .. })));
}

#[test]
fn a_connection_that_does_not_move_is_noticed() {
    let (mut desk, wire, now) = desk();
    let second = Duration::from_secs(1);
    assert_eq!(desk.stalled(now + second * 1000), None, "down is no stall");
    connect(&mut desk, &wire, now);
    desk.arrived(WireEvent::Written { id: 1 }, now);
    desk.arrived(WireEvent::SubscribeAnswered { id: 1, codes: vec![1] }, now);

    let later = now + second * 100;
    desk.arrived(WireEvent::Other, later);
    desk.publish(Outgoing::new("a", "1"), later).unwrap();
    assert_eq!(desk.stalled(later + second * 119), None, "patience starts with the work");
    desk.arrived(WireEvent::Other, later + second * 119); // pings are answered, the message is not
    assert!(desk.stalled(later + second * 120).expect("stuck").contains("waits to be sent"));
    desk.waits_for_receiver(true, later);
    assert_eq!(desk.stalled(later + second * 1000), None, "a slow receiver is no stall");
    desk.waits_for_receiver(false, later + second * 1000);
    assert_eq!(desk.stalled(later + second * 1001), None);

    desk.arrived(WireEvent::Written { id: 2 }, later + second * 1001);
    desk.arrived(WireEvent::PublishAnswered { id: 2, code: 0 }, later + second * 1001);
    assert_eq!(desk.unsent(), 0);
    let hung = desk.stalled(later + second * 1121).expect("no ping, no answer");
    assert!(hung.contains("nothing at all"), "{hung}");
}

#[test]
fn counting_differently_from_rumqttc_starts_over() {
    let (mut desk, wire, now) = desk();
    connect(&mut desk, &wire, now);
    desk.arrived(WireEvent::Written { id: 7 }, now);
    assert!(desk.stalled(now).expect("differs").contains("out of step"));
}

#[test]
fn nothing_is_taken_after_the_end() {
    let (mut desk, _, now) = desk();
    desk.close();
    let closed = PublishError::Closed("a".into());
    assert_eq!(desk.publish(Outgoing::new("a", "1"), now), Err(closed));
    let closed = SubscribeError::Closed("b".into());
    assert_eq!(desk.subscribe(Subscription::new("b", Qos::AtMostOnce), now), Err(closed));
}

#[test]
fn nonsense_is_not_taken() {
    let (mut desk, _, now) = desk();
    let bad = PublishError::BadTopic("a/+".into());
    assert_eq!(desk.publish(Outgoing::new("a/+", "1"), now), Err(bad));
    let bad = SubscribeError::BadFilter("a#".into());
    assert_eq!(desk.subscribe(Subscription::new("a#", Qos::AtMostOnce), now), Err(bad));
}
