//! The uplink over a serial port: `fleetway_protocol::serial` and a port that does not wait.

use embedded_io::{Read, ReadReady, Write};
use fleetway_protocol::serial::{
    Config, FRAME_WIRE_BYTES_MAX, HEAD_BYTES_MAX, Link, MESSAGE_BYTES_MAX, Message,
};

use crate::device::SIGNED_BYTES_MAX;
use crate::hardware::Uplink;

/// Longest message that the device sends: a signed report and its topic.
const SENT_BYTES_MAX: usize = HEAD_BYTES_MAX + SIGNED_BYTES_MAX;
/// Bytes that are taken in one turn: a chunk is four times that, and the model is asked in between.
const TURN_BYTES: usize = 4 * FRAME_WIRE_BYTES_MAX;

/// A port and the link over it.
pub struct Serial<P> {
    port: P,
    link: Link<MESSAGE_BYTES_MAX, SENT_BYTES_MAX>,
}

impl<P: Read + ReadReady + Write> Serial<P> {
    /// A link over `port` that has room for `window` frames between two turns. `session` is
    /// another number at every boot.
    pub fn new(port: P, session: u32, baud: u32, window: u8) -> Self {
        Self { port, link: Link::new(session, Config::for_baud(baud, window)) }
    }

    /// Reads what has come, and writes what is due. What the port refuses is as good as lost on
    /// the line, which the link makes up for.
    fn pump(&mut self, now_ms: u64) {
        let (mut bytes, mut left) = ([0; FRAME_WIRE_BYTES_MAX], TURN_BYTES);
        while left > 0 && self.port.read_ready().unwrap_or(false) {
            let read = self.port.read(&mut bytes).unwrap_or(0);
            self.link.receive(now_ms, &bytes[..read]);
            left = left.saturating_sub(read.max(1));
        }
        let mut wire = [0; FRAME_WIRE_BYTES_MAX];
        while let Some(frame) = self.link.poll_transmit(now_ms, &mut wire) {
            if self.port.write_all(frame).is_err() {
                break;
            }
        }
    }
}

impl<P: Read + ReadReady + Write> Uplink for Serial<P> {
    fn is_up(&self, now_ms: u64) -> bool {
        self.link.is_up(now_ms)
    }

    fn carry(&mut self, now_ms: u64) -> bool {
        self.pump(now_ms);
        self.link.poll_begun()
    }

    fn poll(&mut self, take: &mut dyn FnMut(Message<'_>)) {
        if let Some(bytes) = self.link.message() {
            if let Ok(message) = Message::decode(bytes) {
                take(message);
            }
            self.link.release();
        }
    }

    fn send(&mut self, now_ms: u64, message: &Message<'_>) -> bool {
        let mut head = [0; HEAD_BYTES_MAX];
        let (head, payload) = message.parts(&mut head);
        let sent = self.link.send(now_ms, &[head, payload]).is_ok();
        self.pump(now_ms);
        sent
    }
}
