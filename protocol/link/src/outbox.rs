//! What is still to be sent: two bounded lanes, one for QoS 1 and one for QoS 0.
//!
//! The first entries of a lane are *handed* to the connection, the others wait. An entry leaves when the broker
//! acknowledged it (QoS 1) or when it was written (QoS 0). When the connection ends, everything waits again, in order.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::{Outgoing, PublishError, Qos};

/// Bounds of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// Most messages.
    pub messages_max: usize,
    /// Most bytes of topics and payloads.
    pub bytes_max: usize,
}

/// Bounds of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// QoS 1: orders, state, acknowledgements.
    pub at_least_once: LaneLimits,
    /// QoS 0: bulk.
    pub at_most_once: LaneLimits,
}

impl Default for OutboxLimits {
    /// For the smallest gateway we run on (64 MB): an hour of reports at one in four seconds, and eight full windows
    /// of eight chunks.
    fn default() -> Self {
        Self {
            at_least_once: LaneLimits { messages_max: 1024, bytes_max: 4 * 1024 * 1024 },
            at_most_once: LaneLimits { messages_max: 256, bytes_max: 4 * 1024 * 1024 },
        }
    }
}

/// Number of a message in this outbox, in the order of arrival.
pub(crate) type Seq = u64;

#[derive(Debug)]
struct Entry {
    seq: Seq,
    message: Outgoing,
    since: Instant,
}

#[derive(Debug)]
struct Lane {
    limits: LaneLimits,
    entries: VecDeque<Entry>,
    /// How many entries at the front are handed.
    handed: usize,
    bytes: usize,
}

/// A message on its way to the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    pub(crate) seq: Seq,
    pub(crate) message: Outgoing,
    /// What is left of its expiry.
    pub(crate) expires_in: Option<Duration>,
}

/// The outbox of one link.
#[derive(Debug)]
pub(crate) struct Outbox {
    lanes: [Lane; 2],
    next_seq: Seq,
    /// Messages replaced by a newer one of the same retained topic.
    pub(crate) replaced: u64,
    /// Messages that were not taken.
    pub(crate) overflowed: u64,
    /// Messages that became too old to send.
    pub(crate) expired: u64,
}

impl Outbox {
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self {
            lanes: [Lane::new(limits.at_least_once), Lane::new(limits.at_most_once)],
            next_seq: 0,
            replaced: 0,
            overflowed: 0,
            expired: 0,
        }
    }

    /// Takes a message, or says that its lane is full. A waiting retained message of the same topic makes room first.
    /// The newer one goes to the end, so nobody sees it before something that was published earlier.
    pub(crate) fn push(&mut self, message: Outgoing, now: Instant) -> Result<(), PublishError> {
        let older = message.retain.then(|| self.find_waiting(&message.topic)).flatten();
        let freed = older.map_or((0, 0), |(lane, at)| {
            if lane == index(message.qos) {
                (1, self.lanes[lane].entries[at].message.bytes())
            } else {
                (0, 0)
            }
        });
        let lane = &self.lanes[index(message.qos)];
        let (messages, bytes) = (lane.entries.len() - freed.0, lane.bytes - freed.1);
        if messages >= lane.limits.messages_max || bytes + message.bytes() > lane.limits.bytes_max {
            self.overflowed += 1;
            return Err(PublishError::Full { topic: message.topic, messages, bytes });
        }
        if let Some((lane, at)) = older {
            self.lanes[lane].remove(at);
            self.replaced += 1;
        }
        let lane = &mut self.lanes[index(message.qos)];
        lane.bytes += message.bytes();
        lane.entries.push_back(Entry { seq: self.next_seq, message, since: now });
        self.next_seq += 1;
        Ok(())
    }

    /// Hands out the next message of a lane; what became too old on the way is dropped.
    pub(crate) fn hand_out(&mut self, qos: Qos, now: Instant) -> Option<Handed> {
        let lane = &mut self.lanes[index(qos)];
        while let Some(entry) = lane.entries.get(lane.handed) {
            let age = now.saturating_duration_since(entry.since);
            let expires_in = entry.message.expires_after.map(|limit| limit.saturating_sub(age));
            if expires_in == Some(Duration::ZERO) {
                lane.remove(lane.handed);
                self.expired += 1;
                continue;
            }
            let handed = Handed { seq: entry.seq, message: entry.message.clone(), expires_in };
            lane.handed += 1;
            return Some(handed);
        }
        None
    }

    /// The last message handed out was not taken after all.
    pub(crate) fn take_back(&mut self, qos: Qos) {
        self.lanes[index(qos)].handed -= 1;
    }

    /// A handed message is done: acknowledged, or written if it was QoS 0.
    pub(crate) fn done(&mut self, qos: Qos, seq: Seq) -> Option<Outgoing> {
        let lane = &mut self.lanes[index(qos)];
        let at = lane.entries.iter().take(lane.handed).position(|entry| entry.seq == seq)?;
        lane.handed -= 1;
        lane.remove(at)
    }

    /// The connection is gone: everything that was handed waits again.
    pub(crate) fn connection_lost(&mut self) {
        for lane in &mut self.lanes {
            lane.handed = 0;
        }
    }

    /// Drops what the broker would hang up on. Call it while nothing is handed.
    pub(crate) fn drop_larger_than(&mut self, packet_bytes: usize) -> Vec<Outgoing> {
        let mut dropped = Vec::new();
        for lane in &mut self.lanes {
            debug_assert_eq!(lane.handed, 0);
            while let Some(at) =
                lane.entries.iter().position(|entry| entry.message.packet_bytes() > packet_bytes)
            {
                dropped.extend(lane.remove(at));
            }
        }
        dropped
    }

    /// Messages and bytes in it, handed or waiting.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let [a, b] = &self.lanes;
        (a.entries.len() + b.entries.len(), a.bytes + b.bytes)
    }

    fn find_waiting(&self, topic: &str) -> Option<(usize, usize)> {
        self.lanes.iter().enumerate().find_map(|(lane, content)| {
            let mut waiting = content.entries.iter().enumerate().skip(content.handed);
            waiting
                .find(|(_, entry)| entry.message.retain && entry.message.topic == topic)
                .map(|(at, _)| (lane, at))
        })
    }
}

impl Lane {
    fn new(limits: LaneLimits) -> Self {
        Self { limits, entries: VecDeque::new(), handed: 0, bytes: 0 }
    }

    /// Removes an entry; `handed` is for the caller to adjust.
    fn remove(&mut self, at: usize) -> Option<Outgoing> {
        let message = self.entries.remove(at)?.message;
        self.bytes -= message.bytes();
        Some(message)
    }
}

fn index(qos: Qos) -> usize {
    match qos {
        Qos::AtLeastOnce => 0,
        Qos::AtMostOnce => 1,
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
