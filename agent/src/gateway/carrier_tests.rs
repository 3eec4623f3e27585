//! A device at the other end of the line, as its firmware would be: what it may, and what it may
//! not.

use super::*;
use fleetway_protocol::ids::{ModelName, ShortDigest};
use fleetway_protocol::serial::SILENCE_MS;
use fleetway_protocol::topics::{Piece, ROOT_DEFAULT as ROOT};

type Device = Link<5_000, 5_000>;

fn id(text: &str) -> DeviceId {
    DeviceId::new(text).unwrap()
}

struct World {
    carrier: Carrier,
    device: Device,
    now_ms: u64,
    /// What the device got.
    got: Vec<(Topic, Vec<u8>)>,
    told: Vec<bool>,
    /// What the broker was asked.
    asked: Vec<Output>,
}

impl World {
    fn new() -> Self {
        let mut carrier = Carrier::new(id("mcu"), ROOT, 115_200, 1);
        carrier.handle_link(true);
        let device = Device::new(2, Config::for_baud(115_200, 2));
        let (got, told, asked) = Default::default();
        let mut world = Self { carrier, device, now_ms: 0, got, told, asked };
        world.talk();
        world
    }

    /// Everything that either end has to say now.
    fn talk(&mut self) {
        let mut wire = [0; FRAME_WIRE_BYTES_MAX];
        loop {
            let mut quiet = true;
            while let Some(bytes) = self.carrier.poll_transmit(self.now_ms, &mut wire) {
                self.device.receive(self.now_ms, bytes);
                quiet = false;
            }
            if let Some(bytes) = self.device.message() {
                match Message::decode(bytes).unwrap() {
                    Message::Deliver(topic, payload) => self.got.push((topic, payload.to_vec())),
                    Message::Broker(there) => self.told.push(there),
                    other => panic!("{other:?}"),
                }
                self.device.release();
            }
            while let Some(bytes) = self.device.poll_transmit(self.now_ms, &mut wire) {
                let bytes = bytes.to_vec();
                self.carrier.receive(self.now_ms, &bytes);
                quiet = false;
            }
            while let Some(output) = self.carrier.poll() {
                self.asked.push(output);
            }
            if quiet {
                return;
            }
        }
    }

    fn say(&mut self, message: &Message<'_>) {
        let mut head = [0; HEAD_BYTES_MAX];
        let (head, payload) = message.parts(&mut head);
        self.device.send(self.now_ms, &[head, payload]).unwrap();
        self.talk();
    }

    fn hears(&mut self, topic: &Topic, payload: &[u8]) {
        self.carrier.handle_message(topic, &Bytes::copy_from_slice(payload));
    }

    fn refused(&self) -> u64 {
        self.carrier.counts().1.refused
    }
}

fn subscribe(topic: &Topic, qos: Qos) -> Output {
    Output::Subscribe(Subscription::new(topic.text(ROOT).as_str(), qos))
}

fn chunk(n: u32) -> Topic {
    Topic::Blob(ShortDigest([7; 16]), Piece::Chunk(n))
}

#[test]
fn a_session_begins_with_its_order_and_with_whether_the_broker_is_there() {
    let mut world = World::new();
    let own = [
        subscribe(&Topic::Order(id("mcu")), Qos::AtLeastOnce),
        subscribe(&Topic::Block(id("mcu")), Qos::AtMostOnce),
    ];
    assert_eq!((world.asked.as_slice(), world.told.as_slice()), (&own[..], &[true][..]));
    world.hears(&Topic::Order(id("mcu")), b"order 1");
    world.hears(&Topic::Order(id("mcu")), b"order 2");
    world.hears(&Topic::Order(id("other")), b"not its own");
    world.hears(&chunk(1), b"not asked for");
    world.talk();
    assert_eq!(world.got, [(Topic::Order(id("mcu")), b"order 2".to_vec())], "the newest alone");
    world.carrier.handle_link(false);
    world.talk();
    assert_eq!(world.told, [true, false]);
    // The device starts anew: what it knew is gone, and is said again.
    world.device = Device::new(3, Config::for_baud(115_200, 2));
    world.asked.clear();
    world.hears(&Topic::Block(id("mcu")), b"on its way");
    world.hears(&Topic::Order(id("mcu")), b"for the life before");
    world.talk();
    assert_eq!(world.asked.len(), 4, "{:?}", world.asked);
    assert_eq!(world.asked[2..], own);
    // What was on the line begins anew, as the link says; what waited behind it never comes.
    let got: Vec<&[u8]> = world.got.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    assert_eq!(got, [b"order 2".as_slice(), b"on its way"]);
    assert_eq!(world.told, [true, false, false]);
}

#[test]
fn it_speaks_under_its_own_id_alone() {
    let mut world = World::new();
    world.asked.clear();
    let model = ModelName::new("digits").unwrap();
    world.say(&Message::Publish(Topic::State(id("mcu"), model.clone()), b"signed"));
    world.say(&Message::Publish(Topic::Telemetry(id("mcu"), model.clone()), b"counted"));
    let state = Topic::State(id("mcu"), model.clone()).text(ROOT);
    let telemetry = Topic::Telemetry(id("mcu"), model.clone()).text(ROOT);
    let expected = [
        Output::Publish(Outgoing::new(state.as_str(), &b"signed"[..]).retained()),
        Output::Publish(Outgoing::new(telemetry.as_str(), &b"counted"[..]).at_most_once()),
    ];
    assert_eq!(world.asked, expected);
    world.asked.clear();
    for (n, message) in [
        Message::Publish(Topic::State(id("cam"), model), b"forged"),
        Message::Publish(Topic::Order(id("mcu")), b"an order"),
        Message::Publish(chunk(0), b"a chunk"),
        Message::Publish(Topic::Trust(TrustFile::Timestamp), b"a timestamp"),
        Message::Will(Topic::Presence(id("cam")), b"gone"),
        Message::Subscribe(Topic::Order(id("cam"))),
        Message::Subscribe(Topic::Presence(id("mcu"))),
        Message::Subscribe(Topic::Trust(TrustFile::Timestamp)),
        Message::Deliver(Topic::Order(id("mcu")), b"back"),
        Message::Broker(true),
    ]
    .into_iter()
    .enumerate()
    {
        world.say(&message);
        assert_eq!((world.refused(), world.asked.len()), (n as u64 + 1, 0), "{message:?}");
    }
}

#[test]
fn pieces_come_as_they_are_asked_for_and_no_more_than_fit() {
    let mut world = World::new();
    let keyset = Topic::Trust(TrustFile::KeysetVersion(2));
    for topic in [&keyset, &chunk(0), &chunk(1)] {
        world.say(&Message::Subscribe(topic.clone()));
    }
    world.say(&Message::Subscribe(chunk(2)));
    assert_eq!(world.refused(), 1, "two of its own and three more");
    world.say(&Message::Unsubscribe(chunk(0)));
    world.say(&Message::Subscribe(chunk(2)));
    assert_eq!(world.refused(), 1);
    world.hears(&chunk(2), &[2; 4096]);
    world.hears(&keyset, b"keys");
    world.hears(&chunk(0), b"not any more");
    world.talk();
    assert_eq!(world.got, [(chunk(2), vec![2; 4096]), (keyset.clone(), b"keys".to_vec())]);
    world.got.clear();
    // One that the device has no room for is dropped, and what comes after it is not.
    world.hears(&chunk(2), &[2; 6_000]);
    world.hears(&chunk(2), b"small");
    world.talk();
    assert_eq!(world.got, [(chunk(2), b"small".to_vec())]);
    assert_eq!(world.carrier.counts().1.dropped, 1);
    // A flood while the line is slow: the oldest pieces go, the order stays.
    world.hears(&Topic::Order(id("mcu")), b"order");
    for n in 0..200_u32 {
        world.hears(&chunk(2), &[n as u8; 1_000]);
    }
    assert!(world.carrier.queued_bytes() <= QUEUE_BYTES_MAX);
    assert!(world.carrier.queue.len() <= QUEUE_MESSAGES_MAX);
    world.got.clear();
    world.talk();
    assert_eq!(world.got.first(), Some(&(Topic::Order(id("mcu")), b"order".to_vec())));
    assert_eq!(world.got.last(), Some(&(chunk(2), vec![199; 1_000])));
}

#[test]
fn its_last_word_is_said_when_it_is_silent_and_when_the_gateway_goes() {
    let mut world = World::new();
    world.say(&Message::Will(Topic::Presence(id("mcu")), b"signed: gone"));
    world.asked.clear();
    let topic = Topic::Presence(id("mcu")).text(ROOT);
    let gone = || Output::Publish(Outgoing::new(topic.as_str(), &b"signed: gone"[..]).retained());
    let mut wire = [0; FRAME_WIRE_BYTES_MAX];
    world.now_ms += SILENCE_MS + 1;
    let _ = world.carrier.poll_transmit(world.now_ms, &mut wire);
    let _ = world.carrier.poll_transmit(world.now_ms + 1, &mut wire);
    assert_eq!(world.carrier.poll(), Some(gone()));
    assert_eq!(world.carrier.poll(), None, "once");
    world.carrier.close();
    assert_eq!(world.carrier.poll(), Some(gone()));
}

#[test]
fn what_the_broker_refuses_is_asked_for_again() {
    let mut world = World::new();
    world.asked.clear();
    let topic = Topic::Order(id("mcu")).text(ROOT);
    world.carrier.handle_refused(0, topic.as_str());
    world.carrier.handle_refused(0, "fleetway/v1/d/other/dn/ds");
    assert!(world.carrier.is_refused());
    world.now_ms = REFUSED_RETRY_MS - 1;
    world.talk();
    assert_eq!((world.asked.as_slice(), world.told.as_slice()), (&[][..], &[true][..]));
    // Neither end was silent for that long.
    world.now_ms = REFUSED_RETRY_MS;
    world.talk();
    assert_eq!(world.asked, [subscribe(&Topic::Order(id("mcu")), Qos::AtLeastOnce)]);
    assert_eq!(world.told, [true, true], "it says again what was refused");
    assert!(!world.carrier.is_refused(), "until it is refused again");
}

/// As mosquitto does it: subscriptions are granted, and what is said is refused.
#[test]
fn what_the_broker_will_not_hear_is_said_again() {
    let mut world = World::new();
    world.asked.clear();
    for nobody_s in ["d/other/up/on", "d/mcu/dn/ds/x", "b/x"] {
        world.carrier.handle_refused(0, &format!("{ROOT}{nobody_s}"));
    }
    assert!(!world.carrier.is_refused());
    world.carrier.handle_refused(0, Topic::Nonce(id("mcu")).text(ROOT).as_str());
    assert!(world.carrier.is_refused());
    world.now_ms = REFUSED_RETRY_MS - 1;
    world.talk();
    assert_eq!(world.told, [true]);
    world.now_ms = REFUSED_RETRY_MS;
    world.talk();
    assert_eq!((world.asked.as_slice(), world.told.as_slice()), (&[][..], &[true, true][..]));
    assert!(!world.carrier.is_refused(), "until it is refused again");
}
