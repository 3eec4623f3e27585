//! gRPC's core calls the host of a unix socket by its percent-encoded path (`%2Frun%2Fgrpc.sock`),
//! which is no authority of HTTP, and our HTTP/2 ends such a call before anybody can answer it. A
//! client should not need an option for that. The name says nothing here anyway, so each `%` of an
//! authority becomes a `-` while the bytes come in.
//!
//! The bytes are walked one by one, through frames and through HPACK's literals, without looking
//! anything up and without holding anything; what is not understood goes through as it came, and
//! is HTTP/2's to judge. A value in Huffman's code is left alone: gRPC's core sends none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `PRI * HTTP/2.0 ... SM`.
const PREFACE_BYTES: u32 = 24;
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: u32 = 5;
/// `:authority` in HPACK's static table.
const AUTHORITY: u64 = 1;
/// The same, written out: gRPC's core does not use the table for it.
const NAME: &[u8] = b":authority";

/// Where in a connection the next byte is.
#[derive(Debug)]
enum Frame {
    Preface(u32),
    Head([u8; FRAME_HEAD_BYTES], usize),
    /// The byte that says how much padding there is, and what comes before the block.
    Padding {
        payload: u32,
        priority: u32,
    },
    /// Bytes of no interest, then a block, then bytes of no interest.
    Payload {
        skip: u32,
        block: u32,
        tail: u32,
    },
}

/// Where in a header block the next byte is.
#[derive(Clone, Copy, Debug)]
enum Block {
    Start,
    /// A number goes on; what it is for, its value so far, its next shift.
    Number(What, u64, u32),
    /// The first byte of a text's length.
    Length(What),
    /// Bytes of a name that is written out, and whether it has been [`NAME`] so far.
    Name {
        left: u64,
        at: usize,
        is_same: bool,
    },
    /// Bytes of a value.
    Text {
        left: u64,
        is_authority: bool,
    },
}

/// What a number or a text is.
#[derive(Clone, Copy, Debug)]
enum What {
    /// An index, or a table's size: nothing follows.
    Whole,
    /// The name's index of a literal; a value follows, or a name if it is 0.
    Literal,
    /// A literal's name: its value follows.
    Name,
    /// A literal's value.
    Value { is_authority: bool, is_plain: bool },
}

/// Reads a connection and mends the authorities in it.
#[derive(Debug)]
pub struct Mender {
    frame: Frame,
    block: Block,
}

impl Default for Mender {
    fn default() -> Self {
        Self { frame: Frame::Preface(PREFACE_BYTES), block: Block::Start }
    }
}

impl Mender {
    /// Mends the next bytes of the connection in place.
    pub fn mend(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.step(byte);
        }
    }

    fn step(&mut self, byte: &mut u8) {
        match &mut self.frame {
            Frame::Preface(left) => {
                *left -= 1;
                if *left == 0 {
                    self.frame = Frame::Head([0; FRAME_HEAD_BYTES], 0);
                }
            }
            Frame::Head(head, at) => {
                head[*at] = *byte;
                *at += 1;
                if *at == FRAME_HEAD_BYTES {
                    let head = *head;
                    self.begin(head);
                }
            }
            Frame::Padding { payload, priority } => {
                let (rest, tail) = (payload.saturating_sub(1), u32::from(*byte));
                let skip = (*priority).min(rest);
                let tail = tail.min(rest - skip);
                self.frame = Frame::Payload { skip, block: rest - skip - tail, tail };
                self.end_if_done();
            }
            Frame::Payload { skip, block, tail } => {
                match (&skip, &block) {
                    (0, 0) => *tail -= 1,
                    (0, _) => {
                        *block -= 1;
                        self.block = self.block.step(byte);
                    }
                    _ => *skip -= 1,
                }
                self.end_if_done();
            }
        }
    }

    fn begin(&mut self, head: [u8; FRAME_HEAD_BYTES]) {
        let [high, middle, low, kind, flags, ..] = head;
        let payload = u32::from_be_bytes([0, high, middle, low]);
        let priority = if flags & PRIORITY != 0 { PRIORITY_BYTES } else { 0 };
        if kind == HEADERS {
            self.block = Block::Start;
        }
        self.frame = match kind {
            HEADERS if flags & PADDED != 0 && payload > 0 => Frame::Padding { payload, priority },
            HEADERS => {
                let skip = priority.min(payload);
                Frame::Payload { skip, block: payload - skip, tail: 0 }
            }
            CONTINUATION => Frame::Payload { skip: 0, block: payload, tail: 0 },
            _ => Frame::Payload { skip: payload, block: 0, tail: 0 },
        };
        self.end_if_done();
    }

    fn end_if_done(&mut self) {
        if matches!(self.frame, Frame::Payload { skip: 0, block: 0, tail: 0 }) {
            self.frame = Frame::Head([0; FRAME_HEAD_BYTES], 0);
        }
    }
}

impl Block {
    fn step(self, byte: &mut u8) -> Self {
        match self {
            Self::Start => match *byte {
                0x80.. => Self::number(*byte, 7, What::Whole),
                0x40.. => Self::number(*byte, 6, What::Literal),
                0x20.. => Self::number(*byte, 5, What::Whole),
                _ => Self::number(*byte, 4, What::Literal),
            },
            Self::Number(what, value, shift) => {
                let more = u64::from(*byte & 0x7f).checked_shl(shift).unwrap_or(0);
                let value = value.saturating_add(more);
                match *byte {
                    0x80.. => Self::Number(what, value, shift.saturating_add(7)),
                    _ => what.is(value),
                }
            }
            Self::Length(what) => {
                let what = match what {
                    What::Value { is_authority, .. } => {
                        What::Value { is_authority, is_plain: *byte < 0x80 }
                    }
                    what => what,
                };
                Self::number(*byte, 7, what)
            }
            Self::Name { left, at, is_same } => {
                let is_same = is_same && NAME.get(at) == Some(byte);
                match left {
                    0 | 1 => {
                        let is_authority = is_same && at + 1 == NAME.len();
                        Self::Length(What::Value { is_authority, is_plain: false })
                    }
                    _ => Self::Name { left: left - 1, at: at.saturating_add(1), is_same },
                }
            }
            Self::Text { left, is_authority } => {
                if is_authority && *byte == b'%' {
                    *byte = b'-';
                }
                match left {
                    0 | 1 => Self::Start,
                    _ => Self::Text { left: left - 1, is_authority },
                }
            }
        }
    }

    /// A number that begins with the low bits of a byte.
    fn number(byte: u8, bits: u32, what: What) -> Self {
        let mask = (1u8 << bits) - 1;
        match byte & mask {
            all if all == mask => Self::Number(what, u64::from(mask), 0),
            value => what.is(value.into()),
        }
    }
}

impl What {
    /// What follows when the number is known.
    fn is(self, value: u64) -> Block {
        match (self, value) {
            (Self::Whole, _) => Block::Start,
            (Self::Literal, 0) => Block::Length(Self::Name),
            (Self::Literal, index) => {
                let is_authority = index == AUTHORITY;
                Block::Length(Self::Value { is_authority, is_plain: false })
            }
            (Self::Name, 0) => Block::Length(Self::Value { is_authority: false, is_plain: false }),
            (Self::Name, left) => Block::Name { left, at: 0, is_same: true },
            (Self::Value { .. }, 0) => Block::Start,
            (Self::Value { is_authority, is_plain }, left) => {
                Block::Text { left, is_authority: is_authority && is_plain }
            }
        }
    }
}

/// A stream whose incoming side is mended.
pub(super) struct Mended<S> {
    stream: S,
    mender: Mender,
}

impl<S> Mended<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, mender: Mender::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.mender.mend(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn literal(first: u8, text: &[u8]) -> Vec<u8> {
        [&[first, text.len() as u8], text].concat()
    }

    /// Mended in pieces of every length, it must come out as `expected`.
    fn check(sent: &[u8], expected: &[u8]) {
        let preface = [b'%'; PREFACE_BYTES as usize];
        let sent = [&preface[..], sent].concat();
        for piece in 1..=sent.len() {
            let (mut bytes, mut mender) = (sent.clone(), Mender::default());
            bytes.chunks_mut(piece).for_each(|piece| mender.mend(piece));
            assert_eq!(bytes, [&preface[..], expected].concat(), "in pieces of {piece}");
        }
    }

    #[test]
    fn authorities_are_mended_and_nothing_else() {
        let path = literal(0x04, b"/100%");
        let named = [&[0x40][..], &literal(4, b"na%e")[1..], &literal(0, b"50%")[1..]].concat();
        let head = |authority: &[u8]| {
            [&[0x83, 0x86][..], &path, authority, &[0x3f, 0x81, 0x01], &named].concat()
        };
        let known = |first: u8| move |text: &[u8]| literal(first, text);
        // As gRPC's core writes it.
        let spelt = |text: &[u8]| [literal(0x40, NAME), literal(0, text)[1..].to_vec()].concat();
        type Way = Box<dyn Fn(&[u8]) -> Vec<u8>>;
        let ways: [Way; 4] =
            [Box::new(known(0x41)), Box::new(known(0x01)), Box::new(known(0x11)), Box::new(spelt)];
        for way in ways {
            let (sent, mended) = (head(&way(b"%2Frun%2Fs")), head(&way(b"-2Frun-2Fs")));
            // Settings before, data behind, padding and a priority around.
            let around = |block: &[u8]| {
                let padded = [&[3][..], b"%%%%%", block, b"%%%"].concat();
                [frame(4, 0, b"%%%%%%"), frame(1, 0x2c, &padded), frame(0, 0, b"100%")].concat()
            };
            check(&around(&sent), &around(&mended));
            // In two frames.
            for cut in 0..sent.len() {
                let two = |block: &[u8]| {
                    [frame(1, 0, &block[..cut]), frame(9, 4, &block[cut..])].concat()
                };
                check(&two(&sent), &two(&mended));
            }
        }
        for name in [&b":authorit"[..], b":authoritys", b":authorita"] {
            let other = [literal(0x40, name), literal(0, b"%2F")[1..].to_vec()].concat();
            check(&frame(1, 4, &other), &frame(1, 4, &other));
        }
        let huffman = [&[0x41, 0x83][..], b"%%%"].concat();
        check(&frame(1, 4, &huffman), &frame(1, 4, &huffman));
        let empty = [literal(0x41, b""), literal(0x04, b"%")].concat();
        check(&frame(1, 4, &empty), &frame(1, 4, &empty));
    }
}
