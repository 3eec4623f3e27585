//! The half that receives: parts in their order become one message, which waits here until the
//! application has taken it. While it waits nothing more is let in.

use super::frame::Kind;

#[derive(Clone, Debug)]
pub(super) struct Receiver<const N: usize> {
    bytes: [u8; N],
    len: usize,
    is_whole: bool,
    /// The message is longer than its place: its end is waited for, and it is dropped.
    is_too_long: bool,
    /// The part that comes next.
    expected: u16,
    window: u16,
    /// The other side should be told what came.
    pub(super) ack_due: bool,
    /// The other side should be told that something is missing.
    pub(super) again_due: bool,
    /// It was told so, once, since the last part that fitted.
    again_said: bool,
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    Part,
    /// The message is whole.
    Message,
    /// The message was too long for this end and is gone.
    TooLong,
    /// Known already, too early, or no room yet.
    Nothing,
}

impl<const N: usize> Receiver<N> {
    pub(super) const fn new(window: u16) -> Self {
        Self {
            bytes: [0; N],
            len: 0,
            is_whole: false,
            is_too_long: false,
            expected: 0,
            window,
            ack_due: false,
            again_due: false,
            again_said: false,
        }
    }

    /// A session begins. What is whole stays, what is half is gone.
    pub(super) fn begin(&mut self) {
        if !self.is_whole {
            self.len = 0;
        }
        self.is_too_long = false;
        self.expected = 0;
        self.ack_due = true;
        self.again_due = false;
        self.again_said = false;
    }

    /// Parts that may be under way to this end, as [`super::Config::window`] says.
    pub(super) fn window(&self) -> u8 {
        self.window as u8
    }

    pub(super) fn expected(&self) -> u16 {
        self.expected
    }

    /// The first part that may not come yet.
    pub(super) fn limit(&self) -> u16 {
        let window = if self.is_whole { 0 } else { self.window };
        self.expected.wrapping_add(window)
    }

    pub(super) fn message(&self) -> Option<&[u8]> {
        self.is_whole.then(|| &self.bytes[..self.len])
    }

    /// The message was taken: there is room again.
    pub(super) fn release(&mut self) {
        if self.is_whole {
            self.is_whole = false;
            self.len = 0;
            self.ack_due = true;
        }
    }

    pub(super) fn take(&mut self, kind: Kind, seq: u16, body: &[u8]) -> Took {
        if seq != self.expected || self.is_whole {
            // Half of the numbers lie behind: those were taken, and the answer was lost.
            let is_ahead = seq.wrapping_sub(self.expected) < u16::MAX / 2;
            match is_ahead && !self.is_whole {
                true => self.miss(),
                false => self.ack_due = true,
            }
            return Took::Nothing;
        }
        self.expected = self.expected.wrapping_add(1);
        self.ack_due = true;
        self.again_due = false;
        self.again_said = false;
        match self.bytes.get_mut(self.len..self.len + body.len()) {
            Some(place) if !self.is_too_long => {
                place.copy_from_slice(body);
                self.len += body.len();
            }
            _ => self.is_too_long = true,
        }
        match kind {
            Kind::Last if self.is_too_long || self.len == 0 => {
                let was_too_long = core::mem::take(&mut self.is_too_long);
                self.len = 0;
                if was_too_long { Took::TooLong } else { Took::Nothing }
            }
            Kind::Last => {
                self.is_whole = true;
                Took::Message
            }
            _ => Took::Part,
        }
    }

    /// Something did not come: says so once, until something fits again.
    pub(super) fn miss(&mut self) {
        self.again_due |= !core::mem::replace(&mut self.again_said, true);
    }
}
