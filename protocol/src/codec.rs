//! A version byte, then postcard. One way in, one way out, a length bound on both.
//!
//! The version byte is of the wire format as a whole. A decoder takes exactly the
//! versions it knows; everything else is a clear error and changes nothing.

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
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], max: usize) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLarge { got: bytes.len(), max });
    }
    let (version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != WIRE_VERSION {
        return Err(DecodeError::Version { got: *version });
    }
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        Ok((_, trailing)) => Err(DecodeError::Trailing(trailing.len())),
        Err(_) => Err(DecodeError::Malformed),
    }
}
