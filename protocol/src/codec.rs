//! A version byte, then postcard. One way in, one way out, a length bound on both.
//!
//! The version byte is of the wire format as a whole. A decoder takes exactly the
//! versions it knows; everything else is a clear error and changes nothing.
//!
//! Most values are read by serde, and hold what they were read from ([`Decode`] is there for all
//! of them). What is large or full of lists (manifest, keyset, order, envelope) is read **in place**:
//! a view checks the bytes once, from left to right, and then points into them ([`crate::list`]).
//! That is the only decoder of these kinds, on Linux too, where an owned value is made from the
//! view: a microcontroller has no memory for what it would copy.

use serde::{Deserialize, Serialize};

/// Version of the wire format that this build writes and reads.
pub const WIRE_VERSION: u8 = 1;

/// Why bytes do not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes.
    #[error("empty message")]
    Empty,
    /// More bytes than this kind of message may have.
    #[error("{got} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes given.
        got: usize,
        /// The bound.
        max: usize,
    },
    /// A format that this build does not know.
    #[error("wire version {got}, this build reads {WIRE_VERSION}; update the older side")]
    Version {
        /// Version found.
        got: u8,
    },
    /// Truncated, altered, or not of this kind.
    #[error("malformed: truncated, altered, or another kind of message")]
    Malformed,
    /// A whole value, and then more.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
}

/// The value does not fit its bound: the caller's mistake, told before anything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the encoded value does not fit {max} bytes")]
pub struct EncodeError {
    /// The bound.
    pub max: usize,
}

/// Writes `value` into `buf` and returns the part that was written.
///
/// # Errors
/// [`EncodeError`] if `buf` is too small; make it as large as the bound of the kind.
pub fn encode<'a, T: Serialize>(value: &T, buf: &'a mut [u8]) -> Result<&'a [u8], EncodeError> {
    let max = buf.len();
    let (version, rest) = buf.split_first_mut().ok_or(EncodeError { max })?;
    *version = WIRE_VERSION;
    let len = postcard::to_slice(value, rest).map_err(|_| EncodeError { max })?.len();
    Ok(&buf[..=len])
}

/// Reads a value of at most `max` bytes, all of them.
///
/// # Errors
/// [`DecodeError`] says what is wrong; nothing is read past `bytes`, nothing panics.
#[inline(never)]
pub fn decode<'a, T: Decode<'a>>(bytes: &'a [u8], max: usize) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLarge { got: bytes.len(), max });
    }
    let (version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != WIRE_VERSION {
        return Err(DecodeError::Version { got: *version });
    }
    let mut reader = Reader(rest);
    let value = T::read(&mut reader)?;
    match reader.0 {
        [] => Ok(value),
        trailing => Err(DecodeError::Trailing(trailing.len())),
    }
}

/// Truncated, altered, or not of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl From<Malformed> for DecodeError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// What can be read from the bytes of a message, by value or in place.
pub trait Decode<'a>: Sized {
    /// Reads one, and leaves the reader behind it.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that are none.
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed>;
}

impl<'a, T: Deserialize<'a>> Decode<'a> for T {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let (value, rest) = postcard::take_from_bytes(reader.0).map_err(|_| Malformed)?;
        reader.0 = rest;
        Ok(value)
    }
}

/// The bytes of a message that are still to be read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// Reads a value.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that are none.
    pub fn take<T: Decode<'a>>(&mut self) -> Result<T, Malformed> {
        T::read(self)
    }

    /// The next `N` bytes, as postcard writes an array of them.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(array)
    }

    /// A list of at most `max` such arrays.
    pub(crate) fn arrays<const N: usize>(
        &mut self,
        max: usize,
    ) -> Result<&'a [[u8; N]], Malformed> {
        let len = self.length(max)?;
        let (arrays, rest) = self.0.split_at_checked(len * N).ok_or(Malformed)?;
        self.0 = rest;
        Ok(arrays.as_chunks().0)
    }

    /// What may be absent.
    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.array()? {
            [0] => Ok(None),
            [1] => read(self).map(Some),
            _ => Err(Malformed),
        }
    }

    /// The length of a list, of at most `max` elements.
    pub(crate) fn length(&mut self, max: usize) -> Result<usize, Malformed> {
        let len = usize::try_from(self.take::<u64>()?).map_err(|_| Malformed)?;
        if len <= max { Ok(len) } else { Err(Malformed) }
    }
}
