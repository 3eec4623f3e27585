//! One frame on the line: COBS around header, body and CRC-32C, between two zero bytes.
//!
//! ```text
//! 0 | COBS( kind 1 | from 4 | to 4 | seq 2 | ack 2 | limit 2 | body 0..=234 | crc 4 ) | 0
//! ```
//! Numbers are little-endian. COBS leaves no zero inside, so that whoever begins to listen in
//! the middle, or heard noise, is in step again at the next zero; the zero in front ends what
//! noise began. A frame stays below 254 bytes, where COBS costs exactly one.

use crate::record::crc32c;

/// Bytes of a message that one frame carries.
pub const FRAME_BODY_BYTES_MAX: usize = RAW_BYTES_MAX - HEADER_BYTES - CRC_BYTES;
/// Longest frame on the line, in bytes: COBS adds one, and a zero stands on either side.
pub const FRAME_WIRE_BYTES_MAX: usize = RAW_BYTES_MAX + 3;

/// Below 254, so that COBS never begins a second run for want of a zero.
const RAW_BYTES_MAX: usize = 253;
const HEADER_BYTES: usize = 15;
const CRC_BYTES: usize = 4;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Which session its sender is in, and which of ours it knows.
    Hello = 1,
    /// A part of a message.
    Part = 2,
    /// The last part of a message.
    Last = 3,
    /// Nothing but what every frame says: what came, and how much may follow.
    Ack = 4,
    /// The same, and: something is missing from `ack` on.
    Again = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Hello, Self::Part, Self::Last, Self::Ack, Self::Again]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A frame that came whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    /// The sender's session.
    pub(super) from: u32,
    /// The receiver's session as the sender knows it; 0 if it does not.
    pub(super) to: u32,
    /// Which part of the session this is; without a body, nothing.
    pub(super) seq: u16,
    /// Every part before this one has come to the sender.
    pub(super) ack: u16,
    /// Parts from this one on may not be sent yet.
    pub(super) limit: u16,
    pub(super) body: &'a [u8],
}

impl Frame<'_> {
    /// Writes it as it goes over the line. `body` is at most [`FRAME_BODY_BYTES_MAX`] long.
    pub(super) fn encode<'b>(&self, wire: &'b mut [u8; FRAME_WIRE_BYTES_MAX]) -> &'b [u8] {
        let mut raw = [0; RAW_BYTES_MAX];
        raw[0] = self.kind as u8;
        raw[1..5].copy_from_slice(&self.from.to_le_bytes());
        raw[5..9].copy_from_slice(&self.to.to_le_bytes());
        for (at, number) in [(9, self.seq), (11, self.ack), (13, self.limit)] {
            raw[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
        let end = HEADER_BYTES + self.body.len();
        raw[HEADER_BYTES..end].copy_from_slice(self.body);
        let crc = crc32c(&raw[..end]);
        raw[end..end + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        wire[0] = 0;
        let encoded = cobs::encode(&raw[..end + CRC_BYTES], &mut wire[1..]);
        wire[encoded + 1] = 0;
        &wire[..encoded + 2]
    }

    /// Reads one that stands in `raw` without its COBS; `None` if it did not come whole.
    fn decode(raw: &[u8]) -> Option<Frame<'_>> {
        let (rest, crc) = raw.split_last_chunk::<CRC_BYTES>()?;
        if crc32c(rest) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (header, body) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let session = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        Some(Frame {
            kind: Kind::of(header[0])?,
            from: session(1),
            to: session(5),
            seq: number(9),
            ack: number(11),
            limit: number(13),
            body,
        })
    }
}

/// What stood between two zeros was no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Finds frames in bytes.
#[derive(Clone, Debug)]
pub(super) struct Deframer {
    bytes: [u8; RAW_BYTES_MAX + 1],
    /// Bytes since the last zero; past the end of `bytes` only counted, up to one more.
    len: usize,
}

impl Deframer {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; RAW_BYTES_MAX + 1], len: 0 }
    }

    /// Takes the next byte; something is there at each zero that ends something.
    pub(super) fn push(&mut self, byte: u8) -> Option<Result<Frame<'_>, Broken>> {
        if byte != 0 {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
            }
            self.len = (self.len + 1).min(self.bytes.len() + 1);
            return None;
        }
        let len = core::mem::take(&mut self.len);
        if len == 0 {
            return None;
        }
        let Some(encoded) = self.bytes.get_mut(..len) else { return Some(Err(Broken)) };
        let raw = cobs::decode_in_place(encoded).ok().and_then(|len| self.bytes.get(..len));
        Some(raw.and_then(Frame::decode).ok_or(Broken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn frame(body: &[u8]) -> Frame<'_> {
        Frame { kind: Kind::Part, from: 7, to: 0x0100_0001, seq: 300, ack: 0, limit: 9, body }
    }

    fn frames(bytes: &[u8]) -> (usize, usize) {
        let mut deframer = Deframer::new();
        let mut found = (0, 0);
        for byte in bytes {
            match deframer.push(*byte) {
                Some(Ok(_)) => found.0 += 1,
                Some(Err(Broken)) => found.1 += 1,
                None => {}
            }
        }
        found
    }

    #[test]
    fn a_frame_reads_back_whatever_is_in_it() {
        for fill in [0, 1, 0xff] {
            for len in [0, 1, FRAME_BODY_BYTES_MAX - 1, FRAME_BODY_BYTES_MAX] {
                let body = [fill; FRAME_BODY_BYTES_MAX];
                let sent = frame(&body[..len]);
                let mut wire = [0; FRAME_WIRE_BYTES_MAX];
                let bytes = sent.encode(&mut wire);
                assert!(!bytes[1..bytes.len() - 1].contains(&0), "a zero only at the ends");
                let mut deframer = Deframer::new();
                let (last, before) = bytes.split_last().expect("bytes");
                before.iter().for_each(|byte| assert!(deframer.push(*byte).is_none()));
                assert_eq!(deframer.push(*last), Some(Ok(sent)));
            }
        }
    }

    #[test]
    fn no_flipped_bit_and_no_cut_is_a_frame_and_the_next_one_is() {
        let mut wire = [0; FRAME_WIRE_BYTES_MAX];
        let good = frame(b"the quick brown fox").encode(&mut wire).to_vec();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let broken: Vec<u8> = [bytes.as_slice(), &good].concat();
            let (found, refused) = frames(&broken);
            // A flipped zero in front leaves noise before a whole frame's bytes: nothing of it.
            assert_eq!(found, 1, "bit {bit}");
            assert!(refused >= 1, "bit {bit}");
        }
        for cut in 0..good.len() {
            assert_eq!(
                frames(&[&good[..cut], &good].concat()).0,
                1 + usize::from(cut + 1 == good.len())
            );
        }
        let noise = [0x55; 3 * FRAME_WIRE_BYTES_MAX];
        assert_eq!(frames(&[&noise, good.as_slice()].concat()), (1, 1));
    }
}
