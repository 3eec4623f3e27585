//! One device behind the gateway, as a pure core: bytes of its line in and out, messages of the
//! broker in and out. Here are the rules of what a device may ask for, and the bounds.
//!
//! It knows nothing of what it carries. What goes up is signed by the device, what comes down by
//! the fleet; a gateway that alters either is refused at the other end, and can otherwise only
//! hold back, as a broker can. The rules here protect the *others*: a device on a serial line must
//! not speak as another one, or fill this box's memory or its share of the broker.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use fleetway_link::{Outgoing, Qos, Subscription};
use fleetway_protocol::ids::DeviceId;
use fleetway_protocol::report::BLOCK_BYTES_MAX;
use fleetway_protocol::serial::{
    Config, Counts, FRAME_WIRE_BYTES_MAX, HEAD_BYTES_MAX, Link, MESSAGE_BYTES_MAX, Message,
    WINDOW_FRAMES_MAX,
};
use fleetway_protocol::topics::Topic;
use fleetway_protocol::trust_file::TrustFile;

/// What a device may be subscribed to at once: its order, its blocks, the next keyset, and the
/// pieces that it fetches. Eight devices of these, and the agent itself, stay within what one
/// connection may have ([`fleetway_link`]).
pub(super) const SUBSCRIPTIONS_MAX: usize = 5;
/// Messages that wait for a device, bytes: the pieces of one request, at the largest size that a
/// microcontroller takes, three times.
const QUEUE_BYTES_MAX: usize = 128 << 10;
/// The same in messages: small ones cost more than their bytes.
const QUEUE_MESSAGES_MAX: usize = 64;
/// A subscription that the broker refused is tried again after this long, milliseconds: somebody
/// may have adopted the device by then.
const REFUSED_RETRY_MS: u64 = 15_000;

/// The longest message to a device: a block at the largest chunk size. What the device can hold it
/// says itself.
const TO_DEVICE_BYTES_MAX: usize = HEAD_BYTES_MAX + BLOCK_BYTES_MAX;

/// What is to be done towards the broker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    Publish(Outgoing),
    Subscribe(Subscription),
    Unsubscribe(String),
}

/// What became of what was carried, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Messages from the device, published.
    pub(super) up: u64,
    /// Messages to the device, delivered.
    pub(super) down: u64,
    /// Asked for by the device and not its to ask for, or no message at all.
    pub(super) refused: u64,
    /// For the device, and dropped: too many waited, or too long for it.
    pub(super) dropped: u64,
}

/// See the module page.
pub(super) struct Carrier {
    id: DeviceId,
    root: String,
    line: Box<Link<MESSAGE_BYTES_MAX, TO_DEVICE_BYTES_MAX>>,
    /// Topics that the broker knows that we want for it, as text.
    subscribed: BTreeSet<String>,
    /// Of those, what the broker refused, and when to try again.
    refused: BTreeSet<String>,
    /// Whether it refused what the device said. Of a subscription mosquitto never says so.
    unheard: bool,
    retry_at_ms: u64,
    /// For the device: topic and payload, the oldest first.
    queue: VecDeque<(Topic, Bytes)>,
    /// Whether the broker is there, and whether the device was told so.
    broker: bool,
    told: Option<bool>,
    /// What the device wants said when it is gone.
    will: Option<Bytes>,
    was_up: bool,
    carried: Carried,
    out: VecDeque<Output>,
}

impl Carrier {
    /// For the device `id` at the end of a line of `baud` bits a second. `session` is another
    /// number at every start.
    pub(super) fn new(id: DeviceId, root: &str, baud: u32, session: u32) -> Self {
        Self {
            id,
            root: root.to_owned(),
            line: Box::new(Link::new(session, Config::for_baud(baud, WINDOW_FRAMES_MAX))),
            subscribed: BTreeSet::new(),
            refused: BTreeSet::new(),
            unheard: false,
            retry_at_ms: 0,
            queue: VecDeque::new(),
            broker: false,
            told: None,
            will: None,
            was_up: false,
            carried: Carried::default(),
            out: VecDeque::new(),
        }
    }

    /// Bytes from the line.
    pub(super) fn receive(&mut self, now_ms: u64, bytes: &[u8]) {
        // In pieces no longer than a frame: a message is taken before the next one can be whole.
        for piece in bytes.chunks(FRAME_WIRE_BYTES_MAX) {
            self.line.receive(now_ms, piece);
            if self.line.poll_begun() {
                self.begin();
            }
            self.take();
        }
    }

    /// The next bytes for the line.
    pub(super) fn poll_transmit<'b>(
        &mut self,
        now_ms: u64,
        wire: &'b mut [u8; FRAME_WIRE_BYTES_MAX],
    ) -> Option<&'b [u8]> {
        self.look(now_ms);
        self.feed(now_ms);
        self.line.poll_transmit(now_ms, wire)
    }

    /// When there is something to do although nothing came, milliseconds.
    pub(super) fn poll_timeout(&self) -> u64 {
        let retry_ms = if self.is_refused() { self.retry_at_ms } else { u64::MAX };
        self.line.poll_timeout().min(retry_ms)
    }

    /// The next thing to do towards the broker.
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Whether the broker is there.
    pub(super) fn handle_link(&mut self, up: bool) {
        // The device says everything again to a broker that is there again.
        self.unheard &= up && self.broker;
        self.broker = up;
    }

    /// A message of the broker. Nothing happens to what the device does not want.
    pub(super) fn handle_message(&mut self, topic: &Topic, payload: &Bytes) {
        if !self.subscribed.contains(topic.text(&self.root).as_str()) {
            return;
        }
        if is_newest_only(topic) {
            self.queue.retain(|(waiting, _)| waiting != topic);
        }
        self.queue.push_back((topic.clone(), payload.clone()));
        while self.queue.len() > QUEUE_MESSAGES_MAX || self.queued_bytes() > QUEUE_BYTES_MAX {
            // The oldest piece: it is asked for again. Orders and keysets are few, and stay.
            let oldest = self.queue.iter().position(|(topic, _)| !is_newest_only(topic));
            self.queue.remove(oldest.unwrap_or(0));
            self.carried.dropped += 1;
        }
    }

    fn queued_bytes(&self) -> usize {
        self.queue.iter().map(|(_, payload)| payload.len()).sum()
    }

    /// The broker does not let us have a topic of this device, or say something under it: the
    /// controller knows nothing of the device yet, or has it on another gateway.
    pub(super) fn handle_refused(&mut self, now_ms: u64, topic: &str) {
        let parsed = Topic::parse(&self.root, topic);
        if self.subscribed.contains(topic) {
            self.refused.insert(topic.to_owned());
        } else if parsed.as_ref().and_then(spoken).is_some_and(|(id, ..)| *id == self.id) {
            self.unheard = true;
        } else {
            return;
        }
        self.retry_at_ms = now_ms.saturating_add(REFUSED_RETRY_MS);
    }

    /// This end goes: what the device wants said then.
    pub(super) fn close(&mut self) {
        self.was_up = false;
        self.say_will();
    }

    /// Whether the device is there.
    pub(super) fn is_up(&self, now_ms: u64) -> bool {
        self.line.is_up(now_ms)
    }

    /// Whether the broker refuses what is this device's.
    pub(super) fn is_refused(&self) -> bool {
        self.unheard || !self.refused.is_empty()
    }

    pub(super) fn counts(&self) -> (Counts, Carried) {
        (self.line.counts(), self.carried)
    }

    /// A session begins: the device knows of nothing that was before.
    fn begin(&mut self) {
        for topic in std::mem::take(&mut self.subscribed) {
            self.out.push_back(Output::Unsubscribe(topic));
        }
        self.refused.clear();
        self.unheard = false;
        self.queue.clear();
        self.told = None;
        // What every device needs, whether it asks or not.
        self.subscribe(&Topic::Order(self.id.clone()));
        self.subscribe(&Topic::Block(self.id.clone()));
    }

    fn look(&mut self, now_ms: u64) {
        let is_up = self.line.is_up(now_ms);
        if std::mem::replace(&mut self.was_up, is_up) && !is_up {
            self.say_will();
        }
        if self.is_refused() && now_ms >= self.retry_at_ms {
            self.unheard = false;
            for topic in std::mem::take(&mut self.refused) {
                let again = Subscription::new(topic, Qos::AtLeastOnce);
                self.out.push_back(Output::Subscribe(again));
            }
            // What it said was refused as well: it says everything again when the broker is there.
            self.told = None;
        }
    }

    fn say_will(&mut self) {
        let Some(payload) = self.will.clone() else { return };
        let topic = Topic::Presence(self.id.clone()).text(&self.root);
        self.out.push_back(Output::Publish(Outgoing::new(topic.as_str(), payload).retained()));
    }

    /// Puts the next message on the line, if there is room.
    fn feed(&mut self, now_ms: u64) {
        while self.line.is_free() && self.line.is_up(now_ms) {
            let mut head = [0; HEAD_BYTES_MAX];
            if self.told != Some(self.broker) {
                let (head, body) = Message::Broker(self.broker).parts(&mut head);
                self.told = self.line.send(now_ms, &[head, body]).is_ok().then_some(self.broker);
                return;
            }
            let Some((topic, payload)) = self.queue.pop_front() else { return };
            let (head, body) = Message::Deliver(topic, &payload).parts(&mut head);
            match self.line.send(now_ms, &[head, body]) {
                Ok(()) => self.carried.down += 1,
                Err(_) => self.carried.dropped += 1, // longer than the device can hold
            }
        }
    }

    /// The message that has come from the device.
    fn take(&mut self) {
        let Some(bytes) = self.line.message().map(Bytes::copy_from_slice) else { return };
        self.line.release();
        match Message::decode(&bytes) {
            Ok(Message::Publish(topic, payload)) => self.publish(&topic, bytes.slice_ref(payload)),
            Ok(Message::Will(Topic::Presence(id), payload)) if id == self.id => {
                self.will = Some(bytes.slice_ref(payload));
            }
            Ok(Message::Subscribe(topic)) => self.subscribe(&topic),
            Ok(Message::Unsubscribe(topic)) => self.unsubscribe(&topic),
            _ => self.carried.refused += 1,
        }
    }

    fn publish(&mut self, topic: &Topic, payload: Bytes) {
        let Some((_, at_most_once, retain)) = spoken(topic).filter(|(id, ..)| **id == self.id)
        else {
            return self.carried.refused += 1;
        };
        let mut message = Outgoing::new(topic.text(&self.root).as_str(), payload);
        if at_most_once {
            message = message.at_most_once();
        }
        if retain {
            message = message.retained();
        }
        self.carried.up += 1;
        self.out.push_back(Output::Publish(message));
    }

    fn subscribe(&mut self, topic: &Topic) {
        let is_its = match topic {
            Topic::Order(id) | Topic::Block(id) | Topic::Heard(id) => *id == self.id,
            Topic::Blob(..) | Topic::Trust(TrustFile::KeysetVersion(_)) => true,
            _ => false,
        };
        let text = topic.text(&self.root).as_str().to_owned();
        let is_known = self.subscribed.contains(&text);
        if !is_its || !is_known && self.subscribed.len() >= SUBSCRIPTIONS_MAX {
            self.carried.refused += 1;
            return;
        }
        self.subscribed.insert(text.clone());
        let qos = match topic {
            Topic::Order(_) | Topic::Trust(_) => Qos::AtLeastOnce,
            _ => Qos::AtMostOnce,
        };
        self.out.push_back(Output::Subscribe(Subscription::new(text, qos)));
    }

    fn unsubscribe(&mut self, topic: &Topic) {
        let text = topic.text(&self.root);
        if self.subscribed.remove(text.as_str()) {
            self.refused.remove(text.as_str());
            self.out.push_back(Output::Unsubscribe(text.as_str().to_owned()));
        }
    }
}

/// Who speaks under a topic, and how that is carried: at most once or not, retained or not.
fn spoken(topic: &Topic) -> Option<(&DeviceId, bool, bool)> {
    match topic {
        Topic::Presence(id) | Topic::State(id, _) | Topic::Nonce(id) => Some((id, false, true)),
        Topic::Ack(id) | Topic::Want(id) => Some((id, false, false)),
        Topic::Telemetry(id, _) | Topic::Host(id) => Some((id, true, false)),
        _ => None,
    }
}

/// Whether only the newest payload of a topic is worth delivering.
fn is_newest_only(topic: &Topic) -> bool {
    matches!(topic, Topic::Order(_) | Topic::Trust(_))
}

#[cfg(test)]
#[path = "carrier_tests.rs"]
mod tests;
