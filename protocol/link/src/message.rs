//! What goes into a link and what comes out of it.

use std::time::Duration;

use bytes::Bytes;

/// Longest topic or filter. AWS IoT, the strictest broker we know, allows 256 bytes.
pub const TOPIC_BYTES_MAX: usize = 256;
/// Most filters one link holds, standing and transient together. AWS IoT allows 50 per connection.
pub const FILTERS_MAX: usize = 50;

/// Version of the MQTT protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 5.0, tried first.
    V5,
    /// MQTT 3.1.1, for brokers that refuse 5.0.
    V311,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Version::V5 => "MQTT 5.0",
            Version::V311 => "MQTT 3.1.1",
        })
    }
}

/// Quality of service. QoS 2 is absent on purpose: many brokers lack it, and our messages carry their own sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Qos {
    /// QoS 0: sent once, never again.
    AtMostOnce,
    /// QoS 1: sent until the broker acknowledges it.
    AtLeastOnce,
}

/// A message to publish. QoS 1, not retained and without expiry unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic, without wildcards.
    pub topic: String,
    /// Payload; empty and retained clears what the broker holds.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// Whether the broker keeps it as the latest of its topic. A retained message that still waits in the outbox is
    /// replaced by a newer one of the same topic.
    pub retain: bool,
    /// Not worth sending after this time in the outbox; v5 brokers get what is left of it as message expiry.
    /// An optimisation only: what must not be late carries its own deadline inside the signature.
    pub expires_after: Option<Duration>,
}

impl Outgoing {
    /// A QoS 1 message.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            expires_after: None,
        }
    }

    /// The same at QoS 0.
    #[must_use]
    pub fn at_most_once(mut self) -> Self {
        self.qos = Qos::AtMostOnce;
        self
    }

    /// The same, retained.
    #[must_use]
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// The same, not worth sending after `time`.
    #[must_use]
    pub fn expiring(mut self, time: Duration) -> Self {
        self.expires_after = Some(time);
        self
    }

    /// What the message weighs in the outbox.
    pub(crate) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }

    /// Upper bound of its packet: fixed header 5, topic length 2, packet id 2, properties 6.
    pub(crate) fn packet_bytes(&self) -> usize {
        self.bytes() + 15
    }
}

/// A topic filter and the quality of service asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Topic filter, wildcards allowed.
    pub filter: String,
    /// Highest quality of service the broker shall use.
    pub qos: Qos,
}

impl Subscription {
    /// A subscription.
    pub fn new(filter: impl Into<String>, qos: Qos) -> Self {
        Self { filter: filter.into(), qos }
    }
}

/// What the broker publishes for us when the connection is lost without a DISCONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic, without wildcards.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// How long a v5 broker waits for us to come back first; 10 to 30 s hide a flap. Ignored by 3.1.1.
    pub delay: Duration,
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A message; it is gone.
    Publish,
    /// A subscription; it is asked for again on the next connection.
    Subscribe,
}

/// What a link tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected; the subscriptions are on their way.
    Up {
        /// Version spoken.
        version: Version,
        /// Whether the broker still had our session.
        session_present: bool,
        /// Largest packet the broker takes, if it says so (v5 only): clamp chunks to it.
        max_packet_bytes: Option<u32>,
    },
    /// Not connected, or an attempt to connect failed.
    Down {
        /// What happened to which broker.
        reason: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A message. QoS 1 may come twice.
    Message {
        /// Topic.
        topic: String,
        /// Payload.
        payload: Bytes,
        /// Whether it is what the broker had kept, not something new.
        retain: bool,
    },
    /// The broker refused something for good. 3.1.1 brokers acknowledge a denied publish as if it were fine.
    Refused {
        /// What was asked.
        asked: Asked,
        /// Topic or filter.
        topic: String,
        /// MQTT 5.0 reason code: 0x87 not authorized, 0x95 packet too large, 0x80 for any reason in 3.1.1.
        code: u8,
    },
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The outbox is full.
    #[error(
        "outbox full ({messages} messages, {bytes} bytes wait): {topic:?} was not taken; wait for the link or send less"
    )]
    Full {
        /// Topic of the message.
        topic: String,
        /// Messages that wait in its lane.
        messages: usize,
        /// Bytes that wait in its lane.
        bytes: usize,
    },
    /// No packet may be that large.
    #[error(
        "message for {topic:?} needs a packet of {bytes} bytes but at most {max} pass: send smaller chunks"
    )]
    TooLarge {
        /// Topic of the message.
        topic: String,
        /// Size of the packet.
        bytes: usize,
        /// Largest packet, ours or the broker's.
        max: usize,
    },
    /// Not a topic one can publish to.
    #[error("{0:?} is no topic: use 1 to {TOPIC_BYTES_MAX} bytes without '+', '#' or NUL")]
    BadTopic(String),
    /// The link was shut down.
    #[error("link is shut down: {0:?} was not taken")]
    Closed(String),
}

/// Why a subscription was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// Too many filters.
    #[error(
        "{0:?} is more than the {FILTERS_MAX} filters a link may have: unsubscribe another first"
    )]
    TooMany(String),
    /// Not a filter.
    #[error(
        "{0:?} is no topic filter: use 1 to {TOPIC_BYTES_MAX} bytes, '+' and '#' only as whole levels, '#' only last"
    )]
    BadFilter(String),
    /// The link was shut down.
    #[error("link is shut down: {0:?} was not subscribed")]
    Closed(String),
}

pub(crate) fn is_topic(topic: &str) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&topic.len())
        && !topic.contains('\0')
        && rumqttc::valid_topic(topic)
}

pub(crate) fn is_filter(filter: &str) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&filter.len())
        && !filter.contains('\0')
        && rumqttc::valid_filter(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_filters() {
        let long = "x".repeat(TOPIC_BYTES_MAX + 1);
        for (text, topic, filter) in [
            ("fleetway/v1/d/a/up/on", true, true),
            ("", false, false),
            ("d/+/up/#", false, true),
            ("d/#/up", false, false),
            ("d/a+/up", false, false),
            ("d/a#", false, false),
            ("a\0b", false, false),
            (long.as_str(), false, false),
        ] {
            assert_eq!((is_topic(text), is_filter(text)), (topic, filter), "{text:?}");
        }
    }
}
