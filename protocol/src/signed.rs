//! Who says so: a device's report as it travels, signed by the device's enrolled key.
//!
//! The link proves a device to the broker, and a broker proves nothing to the controller.
//! What a rollout is decided by must therefore hold end to end, as orders do in the other
//! direction. The bytes under the signature are `domain (32 bytes) || SHA-256(fleet CA ||
//! algorithm || topic below the root || report)`: the topic says device, kind and model, so
//! that a report is worth nothing at another fleet, for another device, as another kind, or
//! for another model. How fresh it is, its own stamp says ([`crate::report::Stamp`]); which
//! enrolment it is of, the key says, because a key enrols once.
//!
//! On the wire: the version byte, then postcard of report, algorithm and signature. Here are
//! the format, the message and the rule; keys live in the shells. Signatures have a fixed
//! length in every algorithm, so that a microcontroller needs no DER.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, EncodeError};
use crate::ids::{Digest, Hasher};
use crate::limits::{REPORT_SIGNATURE_BYTES_MAX, SIGNED_REPORT_BYTES_MAX};
use crate::topics::Topic;

/// What a signature over a report is for: never anything else.
const REPORT: &[u8; 32] = b"fleetway/v1/report\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// How a report is signed. Numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Not at all: a device that enrolled no key, on a link without TLS.
    None = 0,
    /// ECDSA over P-256 with SHA-256 (FIPS 186-5), `r || s`, 32 bytes each: the key of the
    /// device's certificate.
    EcdsaP256 = 1,
    /// Ed25519 (RFC 8032): for devices without TLS hardware for P-256. No controller enrols
    /// such a key yet.
    Ed25519 = 2,
}

impl Algorithm {
    fn from_number(number: u8) -> Option<Self> {
        [Self::None, Self::EcdsaP256, Self::Ed25519].into_iter().find(|a| *a as u8 == number)
    }
}

/// A report and its signature. Nothing about it is checked until [`SignedReport::open`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReport<'a> {
    /// The exact bytes that were signed.
    #[serde(borrow)]
    report: &'a [u8],
    algorithm: u8,
    signature: Vec<u8, REPORT_SIGNATURE_BYTES_MAX>,
}

/// Why a report is not believed. Each has its counter at the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Not a signed report.
    #[error("not a report: {0}")]
    Decode(#[from] DecodeError),
    /// No signature, from a device that enrolled a key.
    #[error("the report is not signed, and the device has enrolled a key")]
    Unsigned,
    /// Signed in another way than the enrolled key signs.
    #[error("the report is signed in another way ({0}) than the device's key signs")]
    Algorithm(u8),
    /// The signature is not the enrolled key's, or of something else.
    #[error("the signature does not hold: another key, device, kind or model, or altered bytes")]
    Signature,
}

impl<'a> SignedReport<'a> {
    /// A report that nobody signed.
    pub fn unsigned(report: &'a [u8]) -> Self {
        Self { report, algorithm: Algorithm::None as u8, signature: Vec::new() }
    }

    /// A report with a signature over [`message`]; `None` if that is longer than any of ours.
    pub fn new(report: &'a [u8], algorithm: Algorithm, signature: &[u8]) -> Option<Self> {
        let signature = Vec::from_slice(signature).ok()?;
        Some(Self { report, algorithm: algorithm as u8, signature })
    }

    /// Reads one; only its shape is checked.
    ///
    /// # Errors
    /// [`DecodeError`] as for every message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, SIGNED_REPORT_BYTES_MAX)
    }

    /// Writes it into `buf`.
    ///
    /// # Errors
    /// [`EncodeError`] if `buf` is too small; [`SIGNED_REPORT_BYTES_MAX`] always suffices.
    pub fn encode<'b>(&self, buf: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        codec::encode(self, buf)
    }

    /// The report, unchecked: for showing to a person, never for acting on.
    pub fn report_unchecked(&self) -> &'a [u8] {
        self.report
    }

    /// The report, if it may be believed. `enrolled` is how the device's key on record
    /// signs, `None` if it has none: then nothing can be held against what it says.
    /// `verifies` looks at message and signature; it is asked last.
    ///
    /// # Errors
    /// [`ReportError`] names the check that failed.
    pub fn open(
        &self,
        enrolled: Option<Algorithm>,
        ca: &Digest,
        topic: &Topic,
        verifies: impl FnOnce(&[u8; 64], &[u8]) -> bool,
    ) -> Result<&'a [u8], ReportError> {
        let Some(enrolled) = enrolled else { return Ok(self.report) };
        match Algorithm::from_number(self.algorithm) {
            Some(Algorithm::None) => Err(ReportError::Unsigned),
            Some(algorithm) if algorithm == enrolled => {
                let message = message(ca, algorithm, topic, self.report);
                match verifies(&message, &self.signature) {
                    true => Ok(self.report),
                    false => Err(ReportError::Signature),
                }
            }
            _ => Err(ReportError::Algorithm(self.algorithm)),
        }
    }
}

/// What the enrolled key signs. `ca` is the digest of the fleet CA's certificate (DER), by
/// which fleets are told apart; `topic` is where the report is published.
pub fn message(ca: &Digest, algorithm: Algorithm, topic: &Topic, report: &[u8]) -> [u8; 64] {
    let topic = topic.text("");
    let mut hasher = Hasher::new();
    hasher.update(&ca.0);
    // A topic is shorter than 256 bytes, so that its length is one byte too.
    hasher.update(&[algorithm as u8, topic.len() as u8]);
    hasher.update(topic.as_bytes());
    hasher.update(report);
    let mut message = [0; 64];
    message[..32].copy_from_slice(REPORT);
    message[32..].copy_from_slice(&hasher.finish().0);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DeviceId, ModelName};
    use crate::limits::REPORT_BYTES_MAX;

    fn state(device: &str, model: &str) -> Topic {
        Topic::State(DeviceId::new(device).expect("id"), ModelName::new(model).expect("name"))
    }

    /// A key for tests: it "signs" with the message itself.
    fn signed(topic: &Topic, ca: &Digest) -> SignedReport<'static> {
        let message = message(ca, Algorithm::EcdsaP256, topic, b"all is well");
        SignedReport::new(b"all is well", Algorithm::EcdsaP256, &message).expect("fits")
    }

    #[test]
    fn a_report_holds_for_its_own_place_only() {
        let (ca, other_ca) = (Digest::of(b"1"), Digest::of(b"2"));
        let topic = state("cam-1", "digits");
        let report = signed(&topic, &ca);
        let open = |ca: &Digest, topic: &Topic| {
            report.open(Some(Algorithm::EcdsaP256), ca, topic, |message, s| message[..] == *s)
        };
        assert_eq!(open(&ca, &topic), Ok(&b"all is well"[..]));
        let device = DeviceId::new("cam-1").expect("id");
        let telemetry = Topic::Telemetry(device.clone(), ModelName::new("digits").expect("name"));
        for topic in [
            state("cam-2", "digits"),
            state("cam-1", "faces"),
            telemetry,
            Topic::Presence(device.clone()),
            Topic::Ack(device.clone()),
            Topic::Want(device),
        ] {
            assert_eq!(open(&ca, &topic), Err(ReportError::Signature), "{topic:?}");
        }
        assert_eq!(open(&other_ca, &topic), Err(ReportError::Signature));
    }

    #[test]
    fn who_enrolled_a_key_signs_with_it() {
        let (ca, topic) = (Digest::of(b"1"), state("cam-1", "digits"));
        let open = |report: &SignedReport<'_>, enrolled| {
            report.open(enrolled, &ca, &topic, |_, _| true).map(<[u8]>::len)
        };
        let p256 = Some(Algorithm::EcdsaP256);
        let unsigned = SignedReport::unsigned(b"x");
        assert_eq!(open(&unsigned, None), Ok(1));
        assert_eq!(open(&unsigned, p256), Err(ReportError::Unsigned));
        let ed = SignedReport::new(b"x", Algorithm::Ed25519, &[0; 64]).expect("fits");
        assert_eq!(open(&ed, p256), Err(ReportError::Algorithm(2)));
        assert_eq!(open(&ed, Some(Algorithm::Ed25519)), Ok(1));
        let unknown = SignedReport { algorithm: 9, ..ed };
        assert_eq!(open(&unknown, p256), Err(ReportError::Algorithm(9)));
        assert_eq!(SignedReport::new(b"x", Algorithm::Ed25519, &[0; 65]), None);
    }

    #[test]
    fn the_largest_fits_its_bound() {
        let report = [7; REPORT_BYTES_MAX];
        let signed = SignedReport::new(&report, Algorithm::Ed25519, &[7; 64]).expect("fits");
        let mut buf = [0; SIGNED_REPORT_BYTES_MAX];
        let bytes = signed.encode(&mut buf).expect("fits");
        assert_eq!(bytes.len(), SIGNED_REPORT_BYTES_MAX);
        assert_eq!(SignedReport::decode(bytes), Ok(signed));
    }
}
