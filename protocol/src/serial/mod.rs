//! The serial link: whole messages, both ways, over a line that loses, alters and repeats bytes
//! and is cut at any time. Both ends run this; neither needs an allocator.
//!
//! **What holds.** Within a session every message that [`Link::send`] took comes out of the
//! other end once, whole and in order, however bad the line is, as soon as it is good for long
//! enough. A line that was cut goes on where it was. A session begins whenever either end
//! starts; the message under way then begins anew, and may come twice, in two sessions: what is
//! carried bears that (orders have generations, reports have stamps, chunks have digests).
//!
//! **How.** Frames (`frame.rs`) carry parts of messages with a number each. The receiver takes
//! them in order only and says which is next and how many may follow ([`Config::window`]: its
//! room, so that a small ring is never overrun); what is missing is sent again from there.
//! Nothing but the message itself is kept for that. The receiver stops the line until the
//! application has taken a message ([`Link::release`]): that is the flow control end to end.
//!
//! **Sessions.** Each end has a number for every start. An end is believed once it names ours,
//! so that nothing of an earlier life is taken for news; an end that has been in a session and
//! hears of another one takes a new number itself, so that no two sessions share a pair.
//!
//! **Contract.** Give [`Link::receive`] every byte and the time; then, until it has nothing,
//! write what [`Link::poll_transmit`] gives; do both again by [`Link::poll_timeout`]. Nothing
//! here is secret or believed: what is carried is signed, and a line can only delay.
//!
//! What the messages are between a gateway and the devices behind it is [`Message`].

mod frame;
mod message;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use frame::{FRAME_BODY_BYTES_MAX, FRAME_WIRE_BYTES_MAX};
pub use message::{HEAD_BYTES_MAX, MESSAGE_BYTES_MAX, Malformed, Message};

use frame::{Broken, Deframer, Frame, Kind};
use receiver::{Receiver, Took};
use sender::Sender;

/// Version of the link; an end of another one is not spoken to.
const VERSION: u8 = 1;
/// Time between two tries to begin a session, milliseconds.
const HELLO_MS: u64 = 500;
/// Silence after which an end says that it is there, milliseconds.
const KEEP_ALIVE_MS: u64 = 2_000;
/// Silence after which the other end counts as gone, milliseconds: four words were lost.
pub const SILENCE_MS: u64 = 5 * KEEP_ALIVE_MS;
/// What goes on beside the bytes on the line before an answer can be here, milliseconds: a USB
/// adapter holds bytes back for 16, a busy Linux box for some tens.
const ANSWER_MS: u64 = 100;
/// Largest window, in frames: 2 KiB, a quarter of a second at 115,200 baud.
pub const WINDOW_FRAMES_MAX: u8 = 8;
/// How far apart the numbers of an end's sessions are: far from those of its next starts, which
/// may only be one apart.
const NEXT_SESSION: u32 = 0x9e37_79b9;

/// How one end behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Frames that this end has room for between two calls of [`Link::receive`], 1 to
    /// [`WINDOW_FRAMES_MAX`]; each has at most [`FRAME_WIRE_BYTES_MAX`] bytes.
    pub window: u8,
    /// Wait for an answer before what was sent is sent again, milliseconds.
    pub retry_ms: u32,
}

impl Config {
    /// For a line of so many bits per second: both windows, full, and the answer's way.
    pub const fn for_baud(baud: u32, window: u8) -> Self {
        // Ten bits a byte: start and stop.
        let bits = 2 * WINDOW_FRAMES_MAX as u64 * FRAME_WIRE_BYTES_MAX as u64 * 10;
        let baud = if baud == 0 { 1 } else { baud as u64 };
        let retry_ms = bits * 1000 / baud + ANSWER_MS;
        let retry_ms = if retry_ms > 60_000 { 60_000 } else { retry_ms as u32 };
        Self { window, retry_ms }
    }
}

/// What was seen on the line since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that began.
    pub sessions: u32,
    /// What stood where a frame should be, and was none.
    pub broken: u32,
    /// Frames of other sessions.
    pub stray: u32,
    /// Times that parts were sent again.
    pub again: u32,
    /// Messages too long for the end that was to receive them.
    pub too_long: u32,
}

/// A message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The one before is still under way.
    #[error("a message is under way; send when it is through")]
    Busy,
    /// Empty, or longer than one of the ends can hold.
    #[error("a message of {bytes} bytes; this line takes 1 to {max}")]
    Length {
        /// Its length.
        bytes: usize,
        /// The longest.
        max: usize,
    },
}

/// The other end, as far as we know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Unknown,
    /// It has said who it is, and does not know us yet.
    Heard(u32),
    /// It knows us: a session.
    Known {
        session: u32,
        message_bytes_max: usize,
    },
}

/// One end. `RX` and `TX` are the longest messages that it receives and sends, in bytes.
#[derive(Clone, Debug)]
pub struct Link<const RX: usize, const TX: usize> {
    deframer: Deframer,
    end: End<RX, TX>,
}

#[derive(Clone, Debug)]
struct End<const RX: usize, const TX: usize> {
    config: Config,
    /// Never 0.
    session: u32,
    peer: Peer,
    receiver: Receiver<RX>,
    sender: Sender<TX>,
    hello_at_ms: u64,
    said_ms: u64,
    heard_ms: u64,
    has_begun: bool,
    counts: Counts,
}

impl<const RX: usize, const TX: usize> Link<RX, TX> {
    /// An end that starts. `session` is another number at every start: random, or a count of
    /// boots.
    pub const fn new(session: u32, config: Config) -> Self {
        let window = match config.window {
            0 => 1,
            window if window > WINDOW_FRAMES_MAX => WINDOW_FRAMES_MAX,
            window => window,
        };
        let end = End {
            config,
            session: if session == 0 { NEXT_SESSION } else { session },
            peer: Peer::Unknown,
            receiver: Receiver::new(window as u16),
            sender: Sender::new(),
            hello_at_ms: 0,
            said_ms: 0,
            heard_ms: 0,
            has_begun: false,
            counts: Counts { sessions: 0, broken: 0, stray: 0, again: 0, too_long: 0 },
        };
        Self { deframer: Deframer::new(), end }
    }

    /// Takes bytes from the line.
    pub fn receive(&mut self, now_ms: u64, bytes: &[u8]) {
        for byte in bytes {
            match self.deframer.push(*byte) {
                None => {}
                Some(Ok(frame)) => self.end.take(now_ms, &frame),
                Some(Err(Broken)) => {
                    self.end.counts.broken = self.end.counts.broken.wrapping_add(1);
                    self.end.receiver.miss();
                }
            }
        }
    }

    /// The next frame to write to the line, if there is one now.
    pub fn poll_transmit<'b>(
        &mut self,
        now_ms: u64,
        wire: &'b mut [u8; FRAME_WIRE_BYTES_MAX],
    ) -> Option<&'b [u8]> {
        self.end.transmit(now_ms, wire)
    }

    /// When [`Link::poll_transmit`] will have something although nothing came, milliseconds.
    pub fn poll_timeout(&self) -> u64 {
        self.end.timeout_ms()
    }

    /// The message that has come, until it is [`Link::release`]d. Never empty.
    pub fn message(&self) -> Option<&[u8]> {
        self.end.receiver.message()
    }

    /// The message was taken: the next may come.
    pub fn release(&mut self) {
        self.end.receiver.release();
    }

    /// Takes a message, in parts that follow one another. Without a session it waits for one.
    ///
    /// # Errors
    /// [`SendError`]; nothing has changed then.
    pub fn send(&mut self, now_ms: u64, parts: &[&[u8]]) -> Result<(), SendError> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        let max = self.message_bytes_max();
        if bytes == 0 || bytes > max {
            return Err(SendError::Length { bytes, max });
        }
        if !self.end.sender.is_free() {
            return Err(SendError::Busy);
        }
        let retry_ms = u64::from(self.end.config.retry_ms);
        self.end.sender.put(parts, now_ms, retry_ms);
        Ok(())
    }

    /// Whether a message may be sent.
    pub fn is_free(&self) -> bool {
        self.end.sender.is_free()
    }

    /// The longest message that both ends can hold, as far as it is known, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        match self.end.peer {
            Peer::Known { message_bytes_max, .. } => message_bytes_max.min(TX),
            _ => TX,
        }
    }

    /// Whether a session began since this was asked the last time: what the other end knew is
    /// forgotten.
    pub fn poll_begun(&mut self) -> bool {
        core::mem::take(&mut self.end.has_begun)
    }

    /// Whether the other end is there now: in a session, and heard of within [`SILENCE_MS`].
    pub fn is_up(&self, now_ms: u64) -> bool {
        let end = &self.end;
        matches!(end.peer, Peer::Known { .. }) && now_ms < end.heard_ms.saturating_add(SILENCE_MS)
    }

    /// What was seen on the line.
    pub fn counts(&self) -> Counts {
        self.end.counts
    }
}

impl<const RX: usize, const TX: usize> End<RX, TX> {
    fn retry_ms(&self) -> u64 {
        u64::from(self.config.retry_ms)
    }

    fn take(&mut self, now_ms: u64, frame: &Frame<'_>) {
        if frame.kind == Kind::Hello {
            return self.take_hello(now_ms, frame);
        }
        let is_ours = frame.to == self.session
            && matches!(self.peer, Peer::Known { session, .. } if session == frame.from);
        if !is_ours {
            self.counts.stray = self.counts.stray.wrapping_add(1);
            return;
        }
        self.heard_ms = now_ms;
        self.sender.heard(frame.ack, frame.limit, now_ms, u64::from(self.config.retry_ms));
        match frame.kind {
            Kind::Part | Kind::Last => {
                if self.receiver.take(frame.kind, frame.seq, frame.body) == Took::TooLong {
                    self.counts.too_long = self.counts.too_long.wrapping_add(1);
                }
            }
            Kind::Again => {
                self.sender.again();
                self.counts.again = self.counts.again.wrapping_add(1);
            }
            Kind::Ack | Kind::Hello => {}
        }
    }

    fn take_hello(&mut self, now_ms: u64, frame: &Frame<'_>) {
        let Some(said) = Hello::decode(frame.body) else { return };
        if frame.from == 0 {
            return;
        }
        match self.peer {
            Peer::Known { session, .. } if session == frame.from => self.heard_ms = now_ms,
            // It is in another session: so are we, under a number that nothing old names.
            Peer::Known { .. } => self.leave(frame.from),
            _ if frame.to == self.session => self.begin(now_ms, frame.from, said),
            _ => self.peer = Peer::Heard(frame.from),
        }
        if !said.knows_us || frame.to != self.session {
            self.hello_at_ms = now_ms;
        }
    }

    /// Leaves the session, to begin another one with the end that is in `session`.
    fn leave(&mut self, session: u32) {
        self.session = match self.session.wrapping_add(NEXT_SESSION) {
            0 => NEXT_SESSION,
            session => session,
        };
        self.peer = Peer::Heard(session);
        self.hello_at_ms = 0;
    }

    fn begin(&mut self, now_ms: u64, session: u32, said: Hello) {
        let message_bytes_max = said.message_bytes_max as usize;
        self.peer = Peer::Known { session, message_bytes_max };
        self.heard_ms = now_ms;
        self.hello_at_ms = u64::MAX;
        self.receiver.begin();
        if self.sender.len() > message_bytes_max {
            self.sender.drop_message();
            self.counts.too_long = self.counts.too_long.wrapping_add(1);
        }
        let window = u16::from(said.window.clamp(1, WINDOW_FRAMES_MAX));
        self.sender.begin(now_ms, window, self.retry_ms());
        self.has_begun = true;
        self.counts.sessions = self.counts.sessions.wrapping_add(1);
    }

    fn transmit<'b>(
        &mut self,
        now_ms: u64,
        wire: &'b mut [u8; FRAME_WIRE_BYTES_MAX],
    ) -> Option<&'b [u8]> {
        let retry_ms = self.retry_ms();
        if let Peer::Known { session, .. } = self.peer {
            let again = u32::from(self.sender.look(now_ms, retry_ms));
            self.counts.again = self.counts.again.wrapping_add(again);
            if self.sender.is_stuck() {
                self.leave(session);
            }
        }
        if now_ms >= self.hello_at_ms {
            return Some(self.hello(now_ms, wire));
        }
        let Peer::Known { session: to, .. } = self.peer else { return None };
        let (ack, limit) = (self.receiver.expected(), self.receiver.limit());
        let frame =
            Frame { kind: Kind::Ack, from: self.session, to, seq: 0, ack, limit, body: &[] };
        let is_quiet = now_ms >= self.said_ms.saturating_add(KEEP_ALIVE_MS);
        let frame = if self.receiver.again_due {
            self.receiver.again_due = false;
            Frame { kind: Kind::Again, ..frame }
        } else if let Some(part) = self.sender.part() {
            let kind = if part.is_last { Kind::Last } else { Kind::Part };
            Frame { kind, seq: part.seq, body: part.body, ..frame }
        } else if self.receiver.ack_due || is_quiet {
            frame
        } else {
            return None;
        };
        self.receiver.ack_due = false;
        self.said_ms = now_ms;
        Some(frame.encode(wire))
    }

    fn hello<'b>(&mut self, now_ms: u64, wire: &'b mut [u8; FRAME_WIRE_BYTES_MAX]) -> &'b [u8] {
        let (to, knows_us) = match self.peer {
            Peer::Unknown => (0, false),
            Peer::Heard(session) => (session, false),
            Peer::Known { session, .. } => (session, true),
        };
        // In a session only who asks is answered.
        self.hello_at_ms = if knows_us { u64::MAX } else { now_ms.saturating_add(HELLO_MS) };
        self.said_ms = now_ms;
        let window = self.receiver.window();
        let body = Hello { knows_us, window, message_bytes_max: RX as u32 }.encode();
        let frame = Frame {
            kind: Kind::Hello,
            from: self.session,
            to,
            seq: 0,
            ack: 0,
            limit: 0,
            body: &body,
        };
        frame.encode(wire)
    }

    fn timeout_ms(&self) -> u64 {
        let Peer::Known { .. } = self.peer else { return self.hello_at_ms };
        if self.receiver.ack_due || self.receiver.again_due || self.sender.has_part() {
            return 0;
        }
        let quiet_ms = self.said_ms.saturating_add(KEEP_ALIVE_MS);
        let retry_ms = self.sender.due_ms().unwrap_or(u64::MAX);
        quiet_ms.min(retry_ms).min(self.hello_at_ms)
    }
}

/// What an end says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hello {
    /// It is in a session with the end that it names, and needs no answer.
    knows_us: bool,
    window: u8,
    message_bytes_max: u32,
}

impl Hello {
    fn encode(self) -> [u8; 7] {
        let [a, b, c, d] = self.message_bytes_max.to_le_bytes();
        [VERSION, u8::from(self.knows_us), self.window, a, b, c, d]
    }

    fn decode(body: &[u8]) -> Option<Self> {
        match body {
            [VERSION, knows_us @ (0 | 1), window, a, b, c, d] => Some(Self {
                knows_us: *knows_us == 1,
                window: *window,
                message_bytes_max: u32::from_le_bytes([*a, *b, *c, *d]),
            }),
            _ => None,
        }
    }
}
