//! The join string: everything that a new device must know, in one line that a person copies.
//!
//! It bootstraps all trust at once, so that nothing is ever "trusted on first use": where to
//! connect, the fingerprint of the CA that all TLS is checked against, the digest of the root
//! that all metadata is checked against, who the device is, and a secret that is good once.
//!
//! ```text
//! FLEETWAY1-<Crockford base32 of: postcard of Join, CRC32C of it (little endian)>
//! ```
//!
//! Capitals, digits and one dash: the alphanumeric mode of a QR code, one word for a
//! double click, and no character that a shell reads. Case, spaces and further dashes do not
//! matter when it is read, and O, I and L are taken for 0 and 1. The checksum is there for
//! people, not against attackers: whoever can change the line owns the new device anyway.

use core::fmt;
use core::str::FromStr;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::enroll::Token;
use crate::ids::{DeviceId, Digest};
use crate::limits::{JOIN_BYTES_MAX, JOIN_CHARS_MAX, JOIN_URL_BYTES_MAX};
use crate::record::crc32c;

/// What stands before the data; the digit is the version.
const PREFIX: &str = "FLEETWAY1-";
/// The same without the version, to tell a newer string from no string.
const NAME: &str = "FLEETWAY";
/// Crockford's base32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Bytes of the checksum at the end.
const CRC_BYTES: usize = 4;

/// A URL as text. It is checked by whoever connects to it.
pub type Url = String<JOIN_URL_BYTES_MAX>;

/// What a join string says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The broker: `mqtts://host:port`.
    pub broker: Url,
    /// Where the certificate comes from: `https://host:port`.
    pub enroll: Url,
    /// SHA-256 of the fleet CA's certificate (DER).
    pub ca: Digest,
    /// SHA-256 of the TUF root that the device pins, if the fleet has one.
    pub root: Option<Digest>,
    /// Who the device will be.
    pub device: DeviceId,
    /// Good once.
    pub token: Token,
}

/// Why a text is no join string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It does not begin like one.
    #[error(
        "it does not begin with {PREFIX}; copy the whole line that `fleetway device enroll` printed"
    )]
    Prefix,
    /// It is of another version.
    #[error(
        "it is a join string of another version; install the agent that belongs to this controller"
    )]
    Version,
    /// Longer than any that we write.
    #[error("it has more than {JOIN_CHARS_MAX} characters; copy one line only")]
    TooLong,
    /// A character that never stands in one.
    #[error("character {at} is {found:?}, which no join string has; copy it again")]
    Char {
        /// Which, from 1, spaces not counted.
        at: usize,
        /// What stands there.
        found: char,
    },
    /// Something was mistyped or is missing.
    #[error("a character is wrong or missing (the checksum does not match); copy it again")]
    Checksum,
    /// Whole, and still not ours.
    #[error(
        "it is whole, but says something that this agent cannot read; install the agent that belongs to this controller"
    )]
    Content,
}

/// The value does not fit: a URL of the controller's configuration is far too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("does not fit a join string")]
pub struct TooLarge;

impl Join {
    /// The line.
    ///
    /// # Errors
    /// [`TooLarge`]: cannot happen while the limits agree, and is not assumed.
    pub fn encode(&self) -> Result<String<JOIN_CHARS_MAX>, TooLarge> {
        let mut buf = [0; JOIN_BYTES_MAX];
        let len = {
            let (body, _) = buf.split_at_mut(JOIN_BYTES_MAX - CRC_BYTES);
            postcard::to_slice(self, body).map_err(|_| TooLarge)?.len()
        };
        let crc = crc32c(&buf[..len]).to_le_bytes();
        buf[len..len + CRC_BYTES].copy_from_slice(&crc);
        let mut text = String::new();
        text.push_str(PREFIX).map_err(|_| TooLarge)?;
        for group in buf[..len + CRC_BYTES].chunks(5) {
            let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte))
                << (8 * (5 - group.len()));
            for place in 0..(group.len() * 8).div_ceil(5) {
                let digit = bits >> (35 - 5 * place) & 31;
                text.push(char::from(ALPHABET[digit as usize])).map_err(|_| TooLarge)?;
            }
        }
        Ok(text)
    }
}

impl FromStr for Join {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let mut chars: Vec<char, JOIN_CHARS_MAX> = Vec::new();
        for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            chars.push(c.to_ascii_uppercase()).map_err(|_| JoinError::TooLong)?;
        }
        let prefix = PREFIX.len() - 1; // the dash is gone
        if !PREFIX.chars().take(prefix).eq(chars.iter().copied().take(prefix)) {
            let ours = NAME.chars().eq(chars.iter().copied().take(NAME.len()));
            let other = chars.get(NAME.len()).is_some_and(char::is_ascii_digit);
            return Err(if ours && other { JoinError::Version } else { JoinError::Prefix });
        }
        let bytes = unpack(&chars, prefix)?;
        let at = bytes.len().checked_sub(CRC_BYTES).ok_or(JoinError::Checksum)?;
        let (body, crc) = bytes.split_at(at);
        if crc32c(body).to_le_bytes() != *crc {
            return Err(JoinError::Checksum);
        }
        match postcard::take_from_bytes(body) {
            Ok((join, [])) => Ok(join),
            _ => Err(JoinError::Content),
        }
    }
}

fn unpack(chars: &[char], skip: usize) -> Result<Vec<u8, JOIN_BYTES_MAX>, JoinError> {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for (at, found) in chars.iter().enumerate().skip(skip) {
        let plain = match found {
            'O' => '0',
            'I' | 'L' => '1',
            other => *other,
        };
        let digit = ALPHABET.iter().position(|c| char::from(*c) == plain);
        let digit = digit.ok_or(JoinError::Char { at: at + 1, found: *found })?;
        bits = bits << 5 | digit as u32;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8).map_err(|_| JoinError::TooLong)?;
            bits &= (1 << held) - 1;
        }
    }
    // What is left is padding: zero, and less than a character.
    if bits != 0 || held >= 5 { Err(JoinError::Checksum) } else { Ok(bytes) }
}

impl fmt::Display for Join {
    /// For a log: everything but the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} at {} (enrolment at {})", self.device, self.broker, self.enroll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String as Text, ToString};

    fn join() -> Join {
        Join {
            broker: "mqtts://fleet.example.org:8883".try_into().expect("short"),
            enroll: "https://fleet.example.org:8884".try_into().expect("short"),
            ca: Digest::of(b"ca"),
            root: Some(Digest::of(b"root")),
            device: DeviceId::new("cam-01").expect("id"),
            token: Token([0xa7; 16]),
        }
    }

    #[test]
    fn it_reads_back_however_it_was_copied() {
        let text = join().encode().expect("fits");
        assert_eq!(text.parse(), Ok(join()));
        let sloppy: Text = text.to_lowercase().replace('0', "o").replace('1', "l");
        let wrapped: Text = sloppy
            .as_bytes()
            .chunks(40)
            .map(|c| std::str::from_utf8(c).expect("ascii").to_string() + "\n ")
            .collect();
        // The digit of the version is a digit.
        let wrapped = wrapped.replacen("fleetwayl", "fleetway1", 1);
        assert_eq!(wrapped.parse(), Ok(join()));
        assert_eq!(
            Join { root: None, ..join() }.encode().expect("fits").parse(),
            Ok(Join { root: None, ..join() })
        );
    }

    #[test]
    fn the_longest_fits() {
        let url: Url = "x".repeat(JOIN_URL_BYTES_MAX).as_str().try_into().expect("fits");
        let device = DeviceId::new(&"d".repeat(64)).expect("id");
        let longest = Join { broker: url.clone(), enroll: url, device, ..join() };
        assert_eq!(longest.encode().expect("fits").parse(), Ok(longest));
    }

    #[test]
    fn every_wrong_character_and_every_cut_is_noticed() {
        let text = join().encode().expect("fits");
        for at in PREFIX.len()..text.len() {
            for wrong in ["0", "7", "Z"] {
                if text.get(at..=at) == Some(wrong) {
                    continue;
                }
                let mut bad = Text::from(text.as_str());
                bad.replace_range(at..=at, wrong);
                assert_eq!(bad.parse::<Join>(), Err(JoinError::Checksum), "{at}");
            }
            assert!(text[..at].parse::<Join>().is_err(), "cut at {at}");
        }
        // Two neighbours that changed places.
        for at in PREFIX.len()..text.len() - 1 {
            let mut bytes = text.as_bytes().to_vec();
            bytes.swap(at, at + 1);
            let same = bytes == text.as_bytes();
            assert!(same || std::str::from_utf8(&bytes).expect("ascii").parse::<Join>().is_err());
        }
    }

    #[test]
    fn each_mistake_has_its_name() {
        let text = join().encode().expect("fits");
        let check =
            |text: &str, expected| assert_eq!(text.parse::<Join>(), Err(expected), "{text}");
        check("", JoinError::Prefix);
        check("mqtts://x", JoinError::Prefix);
        check(&text[4..], JoinError::Prefix);
        check(&text.replacen('1', "2", 1), JoinError::Version);
        check(&text.replacen("1-", "1-U", 1), JoinError::Char { at: 10, found: 'U' });
        check(&std::format!("{}\u{e9}", text), JoinError::Char { at: text.len(), found: '\u{e9}' });
        check(&text.repeat(4), JoinError::TooLong);
        check(PREFIX, JoinError::Checksum);
        // Whole by its checksum, and no join string.
        let mut body = std::vec![9_u8; 3];
        body.extend(crc32c(&body).to_le_bytes());
        let mut bad = Text::from(PREFIX);
        let bits: Text = body.iter().map(|b| std::format!("{b:08b}")).collect();
        for five in bits.as_bytes().chunks(5) {
            let mut five = Text::from_utf8(five.to_vec()).expect("ascii");
            while five.len() < 5 {
                five.push('0');
            }
            bad.push(char::from(ALPHABET[usize::from_str_radix(&five, 2).expect("bits")]));
        }
        check(&bad, JoinError::Content);
    }

    #[test]
    fn the_token_is_not_shown() {
        let shown = std::format!("{} {:?}", join(), join());
        assert!(!shown.contains("a7a7") && !shown.contains("167, 167"), "{shown}");
    }
}
