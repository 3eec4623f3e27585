//! What a link counts. Every loss it allows has a counter here.

use crate::message::Version;

/// Counters and gauges of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Version of the current connection; `None` while down.
    pub version: Option<Version>,
    /// Messages in the outbox, on their way or waiting.
    pub outbox_messages: usize,
    /// Bytes in the outbox.
    pub outbox_bytes: usize,
    /// Messages that were not taken because the outbox was full.
    pub overflowed: u64,
    /// Retained messages replaced by a newer one before they were sent.
    pub replaced: u64,
    /// Messages that became too old before they were sent.
    pub expired: u64,
    /// Events nobody took: the receiver was gone, or did not read while the link was shut down.
    pub events_lost: u64,
    /// Connections that the broker accepted.
    pub connects: u64,
    /// Connections that were thrown away because nothing moved.
    pub stalls: u64,
    /// Rises twice a second, connected or not, while the link's tasks turn: what hangs is found by it.
    pub turns: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Bytes of received payloads.
    pub bytes_in: u64,
    /// Messages written, repetitions included.
    pub messages_out: u64,
    /// Bytes of written payloads, repetitions included.
    pub bytes_out: u64,
}
