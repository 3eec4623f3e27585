//! The state of one link: what is to be sent, what was handed to the connection, and what came back.
//!
//! Calling contract: the holder of the lock calls; every call returns at once; time is an argument. Callers of the link
//! call [`Desk::publish`], [`Desk::subscribe`] and [`Desk::unsubscribe`]. The task that owns the connection calls
//! [`Desk::connected`] once, then [`Desk::arrived`] for each thing the wire says. Its supervisor calls [`Desk::stalled`]
//! now and then and [`Desk::disconnected`] when the connection is gone, before the next one is opened.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::config::{LinkConfig, PACKET_BYTES_MAX};
use crate::message::{
    Asked, LinkEvent, Outgoing, PublishError, Qos, SubscribeError, Subscription, Version,
    is_filter, is_topic,
};
use crate::outbox::{Outbox, Seq};
use crate::packet_ids::{PacketIds, Use};
use crate::stats::LinkStats;
use crate::subscriptions::{Subscriptions, Telling};
use crate::wire::{Accepted, WireEvent, WireSender};

/// Requests handed to `rumqttc` and not yet written. Its channel is larger, so it never refuses; few, so that what
/// waits can still be replaced or expire.
const HANDED_MAX: usize = 16;

/// Capacity of `rumqttc`'s request channel: the handed ones and a DISCONNECT.
pub(crate) const REQUESTS_MAX: usize = HANDED_MAX + 4;

/// MQTT reason code for what is larger than the broker takes.
const PACKET_TOO_LARGE: u8 = 0x95;

/// A request that `rumqttc` has and that was not written yet.
#[derive(Debug)]
struct HandedOver {
    /// The packet id it will get; 0 for QoS 0.
    id: u16,
    publish: Option<(Qos, Seq, Bytes)>,
}

/// What is known about the current connection.
struct Line {
    wire: Box<dyn WireSender>,
    ids: PacketIds,
    handed: VecDeque<HandedOver>,
    packet_bytes_max: usize,
    keep_alive: Duration,
    /// The receiver of events is slow; that is no stall.
    waits_for_receiver: bool,
    /// Our count of packet ids and that of `rumqttc` differ: start over.
    out_of_step: bool,
    last_event: Instant,
    last_progress: Instant,
}

/// The state of one link.
pub(crate) struct Desk {
    outbox: Outbox,
    subscriptions: Subscriptions,
    line: Option<Line>,
    stall_timeout: Option<Duration>,
    closed: bool,
    pub(crate) stats: LinkStats,
}

impl Desk {
    pub(crate) fn new(config: &LinkConfig) -> Self {
        Self {
            outbox: Outbox::new(config.outbox),
            subscriptions: Subscriptions::new(config.standing.clone()),
            line: None,
            stall_timeout: config.stall_timeout,
            closed: false,
            stats: LinkStats::default(),
        }
    }

    pub(crate) fn publish(&mut self, message: Outgoing, now: Instant) -> Result<(), PublishError> {
        if self.closed {
            return Err(PublishError::Closed(message.topic));
        }
        if !is_topic(&message.topic) {
            return Err(PublishError::BadTopic(message.topic));
        }
        let max =
            self.line.as_ref().map_or(PACKET_BYTES_MAX as usize, |line| line.packet_bytes_max);
        if message.packet_bytes() > max {
            let bytes = message.packet_bytes();
            return Err(PublishError::TooLarge { topic: message.topic, bytes, max });
        }
        self.first_work(now);
        self.outbox.push(message, now)?;
        self.hand_over(now);
        Ok(())
    }

    pub(crate) fn subscribe(
        &mut self,
        wanted: Subscription,
        now: Instant,
    ) -> Result<(), SubscribeError> {
        if self.closed {
            return Err(SubscribeError::Closed(wanted.filter));
        }
        if !is_filter(&wanted.filter) {
            return Err(SubscribeError::BadFilter(wanted.filter));
        }
        self.first_work(now);
        self.subscriptions.subscribe(wanted)?;
        self.hand_over(now);
        Ok(())
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str, now: Instant) {
        self.first_work(now);
        self.subscriptions.unsubscribe(filter);
        self.hand_over(now);
    }

    /// The broker accepted a connection. Returns what is to be told.
    pub(crate) fn connected(
        &mut self,
        version: Version,
        wire: Box<dyn WireSender>,
        accepted: &Accepted,
        now: Instant,
    ) -> Vec<LinkEvent> {
        let broker_max = accepted.packet_bytes_max.map_or(usize::MAX, |max| max as usize);
        let packet_bytes_max = broker_max.min(PACKET_BYTES_MAX as usize);
        let mut events = vec![LinkEvent::Up {
            version,
            session_present: accepted.session_present,
            max_packet_bytes: accepted.packet_bytes_max,
        }];
        let too_large = self.outbox.drop_larger_than(packet_bytes_max);
        events.extend(too_large.into_iter().map(|message| LinkEvent::Refused {
            asked: Asked::Publish,
            topic: message.topic,
            code: PACKET_TOO_LARGE,
        }));
        self.line = Some(Line {
            wire,
            ids: PacketIds::new(accepted.inflight_max),
            handed: VecDeque::new(),
            packet_bytes_max,
            keep_alive: accepted.keep_alive,
            waits_for_receiver: false,
            out_of_step: false,
            last_event: now,
            last_progress: now,
        });
        self.stats.connects += 1;
        self.stats.version = Some(version);
        self.subscriptions.connected(accepted.session_present);
        self.hand_over(now);
        events
    }

    /// The wire said something. Returns what is to be told.
    pub(crate) fn arrived(&mut self, event: WireEvent, now: Instant) -> Vec<LinkEvent> {
        let Some(line) = &mut self.line else { return Vec::new() };
        line.last_event = now;
        if event.is_progress() {
            line.last_progress = now;
        }
        let events = match event {
            WireEvent::Message { topic, payload, retain } => {
                self.stats.messages_in += 1;
                self.stats.bytes_in += payload.len() as u64;
                vec![LinkEvent::Message { topic, payload, retain }]
            }
            WireEvent::Written { id } => {
                self.written(id);
                Vec::new()
            }
            WireEvent::PublishAnswered { id, code } => self.publish_answered(id, code),
            WireEvent::SubscribeAnswered { id, codes } => self.subscribe_answered(id, &codes),
            WireEvent::UnsubscribeAnswered { id } => {
                if let Some(line) = &mut self.line {
                    line.ids.settle(id);
                }
                Vec::new()
            }
            WireEvent::Accepted(_) | WireEvent::Other => Vec::new(),
        };
        self.hand_over(now);
        events
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self) {
        self.stats.version = None;
        self.outbox.connection_lost();
        let Some(line) = self.line.take() else { return };
        for used in line.ids.into_unsettled() {
            if let Use::Unsubscribe(filter) = used {
                self.subscriptions.not_confirmed(filter);
            }
        }
    }

    /// Why the connection should be thrown away, if it should.
    pub(crate) fn stalled(&self, now: Instant) -> Option<String> {
        let line = self.line.as_ref()?;
        if line.waits_for_receiver {
            return None;
        }
        let patience = line.keep_alive * 2;
        let silent = now.saturating_duration_since(line.last_event);
        let stuck = now.saturating_duration_since(line.last_progress);
        if line.out_of_step {
            Some("packet ids are out of step with rumqttc".into())
        } else if self.has_work() && stuck >= self.stall_timeout.unwrap_or(patience) {
            Some(format!("nothing that waits to be sent moved for {} s", stuck.as_secs()))
        } else if silent >= patience {
            // a healthy connection pings once per keep-alive: this one hangs in a write, for which v5 has no timeout
            Some(format!("the connection did nothing at all for {} s", silent.as_secs()))
        } else {
            None
        }
    }

    /// The task that owns the connection waits for the receiver of events, or no longer does.
    pub(crate) fn waits_for_receiver(&mut self, waits: bool, now: Instant) {
        if let Some(line) = &mut self.line {
            line.waits_for_receiver = waits;
            line.last_event = now;
            line.last_progress = now;
        }
    }

    /// Takes nothing new from now on.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Says good-bye to the broker, which then forgets our will. Returns whether there is a connection to say it on.
    pub(crate) fn say_disconnect(&mut self) -> bool {
        self.line.as_ref().is_some_and(|line| line.wire.disconnect())
    }

    pub(crate) fn is_up(&self) -> bool {
        self.line.is_some()
    }

    /// Messages that still wait or were not acknowledged.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.depth().0
    }

    pub(crate) fn stats(&self) -> LinkStats {
        let (outbox_messages, outbox_bytes) = self.outbox.depth();
        LinkStats {
            outbox_messages,
            outbox_bytes,
            overflowed: self.outbox.overflowed,
            replaced: self.outbox.replaced,
            expired: self.outbox.expired,
            ..self.stats
        }
    }

    /// Hands over what fits: first the subscriptions, then QoS 1, then QoS 0, which never waits for acknowledgements.
    fn hand_over(&mut self, now: Instant) {
        let Some(line) = &mut self.line else { return };
        while line.has_room() && line.ids.subscribe_fits() {
            let Some(telling) = self.subscriptions.next() else { break };
            if !line.tell(&telling) {
                self.subscriptions.take_back(telling);
                return;
            }
        }
        for qos in [Qos::AtLeastOnce, Qos::AtMostOnce] {
            while line.has_room() && (qos == Qos::AtMostOnce || line.ids.publish_fits()) {
                let Some(next) = self.outbox.hand_out(qos, now) else { break };
                if !line.wire.publish(&next.message, next.expires_in) {
                    self.outbox.take_back(qos);
                    return;
                }
                let id = match qos {
                    Qos::AtLeastOnce => line.ids.take(Use::Publish(next.seq)),
                    Qos::AtMostOnce => 0,
                };
                let publish = Some((qos, next.seq, next.message.payload));
                line.handed.push_back(HandedOver { id, publish });
            }
        }
    }

    /// The oldest request that was handed over is written.
    fn written(&mut self, id: u16) {
        let Some(line) = &mut self.line else { return };
        let Some(first) = line.handed.pop_front().filter(|first| first.id == id) else {
            line.out_of_step = true;
            return;
        };
        if let Some((qos, seq, payload)) = first.publish {
            self.stats.messages_out += 1;
            self.stats.bytes_out += payload.len() as u64;
            if qos == Qos::AtMostOnce {
                self.outbox.done(qos, seq);
            }
        }
    }

    fn publish_answered(&mut self, id: u16, code: u8) -> Vec<LinkEvent> {
        let Some(Use::Publish(seq)) = self.line.as_mut().and_then(|line| line.ids.settle(id))
        else {
            return Vec::new();
        };
        match self.outbox.done(Qos::AtLeastOnce, seq) {
            Some(message) if code >= 0x80 => {
                vec![LinkEvent::Refused { asked: Asked::Publish, topic: message.topic, code }]
            }
            _ => Vec::new(),
        }
    }

    fn subscribe_answered(&mut self, id: u16, codes: &[u8]) -> Vec<LinkEvent> {
        let settled = self.line.as_mut().and_then(|line| line.ids.settle(id));
        let Some(Use::Subscribe(filters)) = settled else { return Vec::new() };
        let answers = filters.into_iter().zip(codes);
        answers
            .filter(|(_, code)| **code >= 0x80)
            .map(|(topic, code)| LinkEvent::Refused { asked: Asked::Subscribe, topic, code: *code })
            .collect()
    }

    fn has_work(&self) -> bool {
        let handed =
            self.line.as_ref().is_some_and(|line| line.ids.any() || !line.handed.is_empty());
        handed || self.subscriptions.any() || self.outbox.depth().0 > 0
    }

    /// Patience counts from the moment there is something to do.
    fn first_work(&mut self, now: Instant) {
        if !self.has_work()
            && let Some(line) = &mut self.line
        {
            line.last_progress = now;
        }
    }
}

impl Line {
    fn has_room(&self) -> bool {
        self.handed.len() < HANDED_MAX
    }

    fn tell(&mut self, telling: &Telling) -> bool {
        let (taken, used) = match telling {
            Telling::Subscribe(batch) => {
                let filters = batch.iter().map(|one| one.filter.clone()).collect();
                (self.wire.subscribe(batch), Use::Subscribe(filters))
            }
            Telling::Unsubscribe(filter) => {
                (self.wire.unsubscribe(filter), Use::Unsubscribe(filter.clone()))
            }
        };
        if taken {
            let id = self.ids.take(used);
            self.handed.push_back(HandedOver { id, publish: None });
        }
        taken
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
