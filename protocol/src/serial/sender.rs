//! The half that sends: one message at a time, cut into parts that stay here until the other
//! side has them. What was lost is sent again from the first that is missing.

use super::frame::FRAME_BODY_BYTES_MAX;

/// Doublings of the wait for an answer: a line that was cut is tried every few seconds.
const BACKOFF_MAX: u32 = 4;
/// Timeouts in a row, with the other end there, after which a session is given up.
const STUCK_MAX: u32 = 6;

#[derive(Clone, Debug)]
pub(super) struct Sender<const N: usize> {
    bytes: [u8; N],
    /// 0: nothing to send.
    len: usize,
    /// Number of the message's first part in this session.
    first: u16,
    /// The other side has every part before this one.
    base: u16,
    /// The part to send next.
    next: u16,
    /// One past the last part that was ever sent.
    sent: u16,
    /// Parts from this one on may not be sent yet.
    limit: u16,
    /// One part may be sent although there is no room for it: the answer says whether there is.
    probe: bool,
    retry_at_ms: u64,
    timeouts: u32,
    /// Something was heard since the last timeout.
    is_heard: bool,
    /// The other end said last that it has no room.
    is_full: bool,
    /// Timeouts in a row with the other end there, and nothing of ours taken.
    stuck: u32,
}

/// A part to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) seq: u16,
    pub(super) is_last: bool,
    pub(super) body: &'a [u8],
}

impl<const N: usize> Sender<N> {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
            first: 0,
            base: 0,
            next: 0,
            sent: 0,
            limit: 0,
            probe: false,
            retry_at_ms: 0,
            timeouts: 0,
            is_heard: false,
            is_full: false,
            stuck: 0,
        }
    }

    /// A session begins; the message that waits begins anew.
    pub(super) fn begin(&mut self, now_ms: u64, window: u16, retry_ms: u64) {
        (self.first, self.base, self.next, self.sent) = (0, 0, 0, 0);
        self.limit = window;
        self.probe = false;
        self.wait(now_ms, retry_ms);
    }

    /// Something is under way from now on that was not before.
    fn wait(&mut self, now_ms: u64, retry_ms: u64) {
        (self.timeouts, self.stuck, self.is_heard) = (0, 0, false);
        self.retry_at_ms = now_ms.saturating_add(retry_ms);
    }

    pub(super) fn is_free(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn drop_message(&mut self) {
        self.len = 0;
    }

    /// Takes a message that fits and is not empty, in `parts`.
    pub(super) fn put(&mut self, parts: &[&[u8]], now_ms: u64, retry_ms: u64) {
        self.len = 0;
        for part in parts {
            self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
            self.len += part.len();
        }
        self.first = self.base;
        self.next = self.base;
        self.wait(now_ms, retry_ms);
    }

    /// One past the message's last part.
    fn end(&self) -> u16 {
        self.first.wrapping_add(self.len.div_ceil(FRAME_BODY_BYTES_MAX) as u16)
    }

    /// The other side has everything before `ack` and takes what is before `limit`.
    pub(super) fn heard(&mut self, ack: u16, limit: u16, now_ms: u64, retry_ms: u64) {
        self.is_heard = true;
        self.is_full = ack == limit;
        let moved = ack.wrapping_sub(self.base);
        if moved > self.sent.wrapping_sub(self.base) {
            return; // of parts that were never sent, or from long ago
        }
        if moved == 0 && limit == self.limit {
            return; // nothing new
        }
        self.limit = limit;
        if moved > self.next.wrapping_sub(self.base) {
            self.next = ack;
        }
        self.base = ack;
        self.wait(now_ms, retry_ms);
        if moved > 0 && self.base == self.end() {
            self.len = 0; // the message is through
        }
    }

    /// Goes back to the first part that the other side has not.
    pub(super) fn again(&mut self) {
        self.next = self.base;
    }

    /// Looks whether the answer is late; `true` if something is sent once more.
    pub(super) fn look(&mut self, now_ms: u64, retry_ms: u64) -> bool {
        if self.len == 0 || now_ms < self.retry_at_ms {
            return false;
        }
        let was_sent = self.next != self.base;
        self.again();
        self.probe = true;
        self.timeouts = (self.timeouts + 1).min(BACKOFF_MAX);
        let is_there = core::mem::take(&mut self.is_heard);
        self.stuck = if is_there && !self.is_full { self.stuck + 1 } else { 0 };
        self.retry_at_ms = now_ms.saturating_add(retry_ms << self.timeouts);
        was_sent
    }

    /// Whether the two ends do not mean the same parts any more. Noise does not do that, since
    /// every frame says everything; a line that somebody has in his hands may.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck > STUCK_MAX
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        (self.len > 0).then_some(self.retry_at_ms)
    }

    pub(super) fn has_part(&self) -> bool {
        self.len > 0 && self.next != self.end() && (self.has_room() || self.probe)
    }

    fn has_room(&self) -> bool {
        self.limit.wrapping_sub(self.next) as i16 > 0
    }

    /// The next part.
    pub(super) fn part(&mut self) -> Option<Part<'_>> {
        if !self.has_part() {
            return None;
        }
        let seq = self.next;
        let after = seq.wrapping_add(1);
        // A part that only asks for room is most likely not taken, and stays the next one.
        if self.has_room() {
            self.next = after;
        }
        self.probe = false;
        if after.wrapping_sub(self.base) > self.sent.wrapping_sub(self.base) {
            self.sent = after;
        }
        let start = usize::from(seq.wrapping_sub(self.first)) * FRAME_BODY_BYTES_MAX;
        let end = (start + FRAME_BODY_BYTES_MAX).min(self.len);
        Some(Part { seq, is_last: end == self.len, body: &self.bytes[start..end] })
    }
}
