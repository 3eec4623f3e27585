//! What a gateway and a device behind it say to each other: the fleet's own topics and payloads,
//! unaltered, and little else.
//!
//! ```text
//! what 1 | topic length 1 | topic below the root | payload
//! ```
//! The device speaks MQTT by proxy: it publishes under its own id, subscribes to what is for it
//! and to what is content-addressed, and gets what comes there. What goes up is signed by the
//! device, and what comes down by the fleet, so that the gateway needs to understand neither.

use crate::limits::{BARE_TOPIC_BYTES_MAX, ENVELOPE_BYTES_MAX};
use crate::topics::{Topic, TopicText};

/// Longest head of a message: what it is, and a topic.
pub const HEAD_BYTES_MAX: usize = 2 + BARE_TOPIC_BYTES_MAX;
/// Longest message that must be carried: a signed order. Chunks for devices behind a gateway are
/// cut to 4 KiB, and are shorter.
pub const MESSAGE_BYTES_MAX: usize = HEAD_BYTES_MAX + ENVELOPE_BYTES_MAX;

/// A message on the serial link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// From the device: a report of its own, to be published.
    Publish(Topic, &'a [u8]),
    /// From the device: its signed absence, to be published when it is gone without a word.
    Will(Topic, &'a [u8]),
    /// From the device: it wants what is said there.
    Subscribe(Topic),
    /// From the device: it does not any more.
    Unsubscribe(Topic),
    /// From the gateway: this was said there.
    Deliver(Topic, &'a [u8]),
    /// From the gateway: whether it has the broker. Said at the start of every session.
    Broker(bool),
}

/// Bytes are no message of this link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no message of a serial link: altered, of a later version, or with a topic of nobody's")]
pub struct Malformed;

impl<'a> Message<'a> {
    /// The message as the two parts that [`super::Link::send`] takes; `head` holds the first.
    pub fn parts<'b>(&self, head: &'b mut [u8; HEAD_BYTES_MAX]) -> (&'b [u8], &'a [u8]) {
        let (what, topic, payload): (u8, Option<&Topic>, &'a [u8]) = match self {
            Self::Publish(topic, payload) => (1, Some(topic), payload),
            Self::Will(topic, payload) => (2, Some(topic), payload),
            Self::Subscribe(topic) => (3, Some(topic), &[]),
            Self::Unsubscribe(topic) => (4, Some(topic), &[]),
            Self::Deliver(topic, payload) => (5, Some(topic), payload),
            Self::Broker(there) => (6, None, if *there { &[1] } else { &[0] }),
        };
        let text = topic.map_or_else(TopicText::new, |topic| topic.text(""));
        let text = text.as_bytes();
        head[0] = what;
        // Without a root no topic is longer than BARE_TOPIC_BYTES_MAX, which fits a byte.
        head[1] = text.len() as u8;
        head[2..2 + text.len()].copy_from_slice(text);
        (&head[..2 + text.len()], payload)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`]; nothing in it may be acted on.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (&[what, len], rest) = bytes.split_first_chunk().ok_or(Malformed)?;
        let (topic, payload) = rest.split_at_checked(len.into()).ok_or(Malformed)?;
        if what == 6 {
            return match (topic, payload) {
                ([], [there @ (0 | 1)]) => Ok(Self::Broker(*there == 1)),
                _ => Err(Malformed),
            };
        }
        let topic = core::str::from_utf8(topic).ok().and_then(|text| Topic::parse("", text));
        let topic = topic.ok_or(Malformed)?;
        match (what, payload) {
            (1, payload) => Ok(Self::Publish(topic, payload)),
            (2, payload) => Ok(Self::Will(topic, payload)),
            (3, []) => Ok(Self::Subscribe(topic)),
            (4, []) => Ok(Self::Unsubscribe(topic)),
            (5, payload) => Ok(Self::Deliver(topic, payload)),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DeviceId, ModelName, ShortDigest};
    use crate::topics::Piece;

    #[test]
    fn every_message_reads_back() {
        let id = DeviceId::new(&"d".repeat(64)).expect("id");
        let model = ModelName::new(&"m".repeat(64)).expect("name");
        let chunk = Topic::Blob(ShortDigest([0xff; 16]), Piece::Chunk(u32::MAX));
        for message in [
            Message::Publish(Topic::State(id.clone(), model), b"state"),
            Message::Will(Topic::Presence(id.clone()), b"gone"),
            Message::Subscribe(chunk.clone()),
            Message::Unsubscribe(chunk.clone()),
            Message::Deliver(chunk, b""),
            Message::Deliver(Topic::Order(id), b"order"),
            Message::Broker(true),
            Message::Broker(false),
        ] {
            let mut head = [0; HEAD_BYTES_MAX];
            let (head, payload) = message.parts(&mut head);
            assert_eq!(Message::decode(&[head, payload].concat()), Ok(message));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for bytes in [
            &b""[..],
            b"\x01",
            b"\x06\x00",
            b"\x06\x00\x02",
            b"\x06\x00\x01\x01",
            b"\x01\x00payload",
            b"\x01\x0bd/Cam/up/ack",
            b"\x01\xffd/cam/up/ack",
            b"\x03\x0cd/cam/up/ackmore",
            b"\x07\x0cd/cam/up/ack",
        ] {
            assert_eq!(Message::decode(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
