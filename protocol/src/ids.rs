//! Typed ids: a value of one of these types was checked when it was made.
//!
//! The alphabet is small because ids become topic levels, file names and certificate
//! names: no `/`, `+`, `#`, `.`, no upper case that a file system may fold.

use core::fmt;
use core::marker::PhantomData;
use core::str::FromStr;

use heapless::String;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::codec::{Decode, Malformed, Reader};
use crate::limits::{
    DEVICE_ID_BYTES_MAX, HARDWARE_BYTES_MAX, MODEL_NAME_BYTES_MAX, NOTE_BYTES_MAX,
    ROLE_NAME_BYTES_MAX, VERSION_BYTES_MAX,
};

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("is empty; use 1 to {max} of a-z 0-9 -")]
    Empty {
        /// Longest allowed, in bytes.
        max: usize,
    },
    /// Too long.
    #[error("has {got} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        got: usize,
        /// Longest allowed, in bytes.
        max: usize,
    },
    /// A character outside the alphabet.
    #[error("contains {0:?}; allowed are a-z, 0-9 and -")]
    Char(char),
    /// A character that a terminal or a log cannot show.
    #[error("contains the unprintable character {0:?}; use visible ASCII")]
    Unprintable(char),
    /// A dash where a command line would take the id for a flag.
    #[error("starts with '-'; begin with a letter or a digit")]
    Dash,
    /// A name that the fleet uses itself.
    #[error("is reserved; choose another")]
    Reserved,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $max:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String<{ $max }>);

        impl $name {
            /// The checked text.
            ///
            /// # Errors
            /// [`IdError`] says which rule it breaks.
            pub fn new(text: &str) -> Result<Self, IdError> {
                Self::check(text)?;
                String::try_from(text)
                    .map(Self)
                    .map_err(|_| IdError::TooLong { got: text.len(), max: $max })
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// Whether a text is one, without keeping it.
            pub(crate) fn check(text: &str) -> Result<(), IdError> {
                let check: fn(&str, usize) -> Result<(), IdError> = $check;
                check(text, $max)
            }
        }

        impl<'a> Decode<'a> for Text<'a, $name> {
            fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
                let text = reader.take::<&str>()?;
                $name::check(text).map_err(|_| Malformed)?;
                Ok(Self { text, of: PhantomData })
            }
        }

        impl PartialEq<$name> for Text<'_, $name> {
            fn eq(&self, other: &$name) -> bool {
                self.text == other.as_str()
            }
        }

        impl From<Text<'_, $name>> for $name {
            fn from(text: Text<'_, $name>) -> Self {
                // It fits: it was checked when it was read.
                Self(String::try_from(text.text).unwrap_or_default())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::<{ $max }>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    };
}

/// An id where it was read: the text of a `T`, checked as one.
pub struct Text<'a, T> {
    text: &'a str,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Text<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Text<'_, T> {}

impl<'a, T> Text<'a, T> {
    /// The text.
    pub fn as_str(&self) -> &'a str {
        self.text
    }
}

impl<T> fmt::Debug for Text<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

fn check_length(text: &str, max: usize) -> Result<(), IdError> {
    match text.len() {
        0 => Err(IdError::Empty { max }),
        got if got > max => Err(IdError::TooLong { got, max }),
        _ => Ok(()),
    }
}

fn check_id(text: &str, max: usize) -> Result<(), IdError> {
    check_length(text, max)?;
    match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        Some(c) => Err(IdError::Char(c)),
        None if text.starts_with('-') => Err(IdError::Dash),
        None => Ok(()),
    }
}

fn check_device_id(text: &str, max: usize) -> Result<(), IdError> {
    check_id(text, max)?;
    // The controller's and the dashboards' certificates carry these names.
    if matches!(text, "controller" | "viewer") || text.starts_with("controller-") {
        return Err(IdError::Reserved);
    }
    Ok(())
}

fn check_role(text: &str, max: usize) -> Result<(), IdError> {
    check_id(text, max)?;
    // The four roles of TUF itself.
    if matches!(text, "root" | "timestamp" | "snapshot" | "targets") {
        return Err(IdError::Reserved);
    }
    Ok(())
}

fn check_visible(text: &str, max: usize) -> Result<(), IdError> {
    check_length(text, max)?;
    match text.chars().find(|c| !matches!(c, ' '..='~')) {
        Some(c) => Err(IdError::Unprintable(c)),
        None => Ok(()),
    }
}

fn check_label(text: &str, max: usize) -> Result<(), IdError> {
    check_visible(text, max)?;
    match text.chars().find(|c| matches!(c, ' ' | '@' | '/')) {
        Some(c) => Err(IdError::Unprintable(c)),
        None => Ok(()),
    }
}

name_type!(
    /// A device: `[a-z0-9-]{1,64}`, the CN of its certificate and a topic level.
    DeviceId,
    DEVICE_ID_BYTES_MAX,
    check_device_id
);
name_type!(
    /// A model, the same name on every device: `[a-z0-9-]{1,64}`.
    ModelName,
    MODEL_NAME_BYTES_MAX,
    check_id
);
name_type!(
    /// A delegated role of the release authority, such as a team: `[a-z0-9-]{1,32}`.
    RoleName,
    ROLE_NAME_BYTES_MAX,
    check_role
);
name_type!(
    /// What kind of device it is, as far as models differ by it (`jetson-orin`):
    /// `[a-z0-9-]{1,32}`.
    HardwareClass,
    HARDWARE_BYTES_MAX,
    check_id
);
name_type!(
    /// What people call a release (`v2`, `1.4.0-rc1`). Nothing is decided by it.
    Version,
    VERSION_BYTES_MAX,
    check_label
);
name_type!(
    /// A sentence of an operator that travels with what it explains.
    Note,
    NOTE_BYTES_MAX,
    check_visible
);

/// A release's place in the order of releases of one model. Set by the release authority,
/// never reused; what "older" means.
pub type Counter = u64;
/// Rising number on a device's orders; the highest seen is durable on the device.
pub type Generation = u64;
/// A rollout, unique within a fleet.
pub type RolloutId = u64;

/// SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The first 16 bytes, which name the artifact in topics. Not a check: whoever
    /// receives something under this name compares the whole digest.
    pub fn short(&self) -> ShortDigest {
        let mut short = [0; 16];
        short.copy_from_slice(&self.0[..16]);
        ShortDigest(short)
    }
}

/// SHA-256 over bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A fresh one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The first 16 bytes of a digest: a name, not a check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShortDigest(pub [u8; 16]);

/// Which key made a signature: the first 16 bytes of the SHA-256 of the public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 16]);

/// A text is not the hexadecimal form it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not {bytes} bytes in lower-case hexadecimal")]
pub struct HexError {
    /// Bytes expected.
    pub bytes: usize,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let error = HexError { bytes: N };
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(error),
    };
    if text.len() != 2 * N {
        return Err(error);
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(out)
}

macro_rules! hex_type {
    ($name:ident, $bytes:expr) => {
        impl fmt::Display for $name {
            /// Hexadecimal; `{:.8}` gives the first eight digits, enough for a person.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digits = f.precision().unwrap_or(2 * $bytes).min(2 * $bytes);
                for at in 0..digits {
                    let nibble = self.0[at / 2] >> (if at % 2 == 0 { 4 } else { 0 }) & 15;
                    write!(f, "{nibble:x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self:.12}")
            }
        }

        impl FromStr for $name {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

hex_type!(Digest, 32);
hex_type!(ShortDigest, 16);
hex_type!(KeyId, 16);

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn device_ids_keep_to_their_alphabet() {
        let check = |text: &str, expected: Result<(), IdError>| {
            assert_eq!(DeviceId::new(text).map(drop), expected, "{text:?}");
        };
        check("cam-01", Ok(()));
        check("0", Ok(()));
        check("", Err(IdError::Empty { max: 64 }));
        check("a/b", Err(IdError::Char('/')));
        check("a+", Err(IdError::Char('+')));
        check("#", Err(IdError::Char('#')));
        check("Cam", Err(IdError::Char('C')));
        check("..", Err(IdError::Char('.')));
        check("-x", Err(IdError::Dash));
        check("controller", Err(IdError::Reserved));
        check("controller-2", Err(IdError::Reserved));
        check(&"x".repeat(64), Ok(()));
        check(&"x".repeat(65), Err(IdError::TooLong { got: 65, max: 64 }));
    }

    #[test]
    fn digests_read_back_from_their_text() {
        let digest = Digest::of(b"fleetway");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(std::format!("{digest:.8}").len(), 8);
        assert_eq!("ab".parse::<Digest>(), Err(HexError { bytes: 32 }));
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
    }

    #[test]
    fn a_pieced_digest_is_the_whole_digest() {
        let mut hasher = Hasher::new();
        hasher.update(b"fleet");
        hasher.update(b"way");
        assert_eq!(hasher.finish(), Digest::of(b"fleetway"));
    }
}
