//! Signed bytes. What is signed is the exact payload, never a re-encoding of it.
//!
//! The message under a signature is `context (32 bytes) || SHA-256(payload)`: the context
//! separates domains, so that a signed order can never be taken for a manifest, and the
//! fixed 64 bytes need no buffer on a microcontroller. Ed25519 by RFC 8032, verified with
//! `verify_strict`, which rejects weak keys and mixed-order points.
//!
//! On the wire: the version byte, then postcard of the payload and its signatures.

use ed25519_dalek::{Signature, Signer as _, SigningKey};
use heapless::Vec;
use serde::Serialize;

use crate::codec::{self, Decode, DecodeError, EncodeError, Malformed, Reader};
use crate::ids::{Digest, KeyId};
pub use crate::keys::{Authority, AuthorityError, AuthorityView, KeyError, PublicKey};
use crate::limits::{ENVELOPE_BYTES_MAX, SIGNATURES_MAX};

/// What kind of payload a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A release's manifest, by the release authority.
    Manifest,
    /// A device's order, by the director.
    Order,
    /// The keyset, by the root keys.
    Keyset,
    /// Which telemetry came, by the director.
    Heard,
}

impl Context {
    /// The 32 bytes that stand before the digest.
    const fn tag(self) -> &'static [u8; 32] {
        match self {
            Self::Manifest => b"fleetway/v1/manifest\0\0\0\0\0\0\0\0\0\0\0\0",
            Self::Order => b"fleetway/v1/order\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            Self::Heard => b"fleetway/v1/heard\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            Self::Keyset => b"fleetway/v1/keyset\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        }
    }
}

/// The bytes that a signature covers: what a signer outside of this process is given.
pub fn message(context: Context, payload: &[u8]) -> [u8; 64] {
    let mut message = [0; 64];
    message[..32].copy_from_slice(context.tag());
    message[32..].copy_from_slice(&Digest::of(payload).0);
    message
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EnvelopeSignature {
    /// Which key made it.
    pub key: KeyId,
    /// First half (R) of the Ed25519 signature.
    r: [u8; 32],
    /// Second half (s).
    s: [u8; 32],
}

impl EnvelopeSignature {
    /// A signature that was made elsewhere over [`message`].
    pub fn new(key: &PublicKey, signature: &[u8; 64]) -> Self {
        let signature = Signature::from_bytes(signature);
        Self { key: key.id(), r: *signature.r_bytes(), s: *signature.s_bytes() }
    }
}

impl From<&[u8; SIGNATURE_BYTES]> for EnvelopeSignature {
    fn from(bytes: &[u8; SIGNATURE_BYTES]) -> Self {
        let (mut key, mut r, mut s) = ([0; 16], [0; 32], [0; 32]);
        key.copy_from_slice(&bytes[..16]);
        r.copy_from_slice(&bytes[16..48]);
        s.copy_from_slice(&bytes[48..]);
        Self { key: KeyId(key), r, s }
    }
}

/// Signs `payload` in `context`.
pub fn sign(key: &SigningKey, context: Context, payload: &[u8]) -> EnvelopeSignature {
    let signature = key.sign(&message(context, payload));
    EnvelopeSignature {
        key: PublicKey::of(key).id(),
        r: *signature.r_bytes(),
        s: *signature.s_bytes(),
    }
}

/// Bytes of one signature: the key's id and the two halves.
const SIGNATURE_BYTES: usize = 16 + 32 + 32;

/// A payload and who signed it. Nothing about it is checked until [`Envelope::open`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Envelope<'a> {
    /// The exact bytes that were signed.
    payload: &'a [u8],
    signatures: Vec<EnvelopeSignature, SIGNATURES_MAX>,
}

/// An [`Envelope`] where it was read.
#[derive(Clone, Copy, Debug)]
pub struct EnvelopeView<'a> {
    payload: &'a [u8],
    signatures: &'a [[u8; SIGNATURE_BYTES]],
}

/// Why an envelope does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not an envelope.
    #[error("not a signed envelope: {0}")]
    Decode(#[from] DecodeError),
    /// Too few good signatures by different keys of the authority.
    #[error(
        "{good} good signatures of {threshold} needed; the rest are by unknown keys or do not hold"
    )]
    Threshold {
        /// Good ones, one per key.
        good: u8,
        /// Needed.
        threshold: u8,
    },
}

impl<'a> Envelope<'a> {
    /// An envelope without signatures.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { payload, signatures: Vec::new() }
    }

    /// Adds a signature; one by the same key replaces the earlier one.
    ///
    /// # Errors
    /// The signature comes back if [`SIGNATURES_MAX`] are there already.
    pub fn push(&mut self, signature: EnvelopeSignature) -> Result<(), EnvelopeSignature> {
        self.signatures.retain(|s| s.key != signature.key);
        self.signatures.push(signature)
    }

    /// Reads an envelope; only its shape is checked.
    ///
    /// # Errors
    /// [`DecodeError`] as for every message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, ENVELOPE_BYTES_MAX)
    }

    /// Writes the envelope into `buf`.
    ///
    /// # Errors
    /// [`EncodeError`] if `buf` is too small; [`ENVELOPE_BYTES_MAX`] always suffices.
    pub fn encode<'b>(&self, buf: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        codec::encode(self, buf)
    }

    /// The payload, unchecked: for showing to a person, never for acting on.
    pub fn payload_unchecked(&self) -> &'a [u8] {
        self.payload
    }

    /// Ids of the keys that claim to have signed.
    pub fn signers(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.signatures.iter().map(|s| s.key)
    }

    /// Whose signature in `context` is here and holds.
    pub fn good_signers(&self, context: Context) -> impl Fn(&PublicKey) -> bool + '_ {
        good_signers(context, self.payload, self.signatures.iter().cloned())
    }

    /// The payload, if `authority` signed it in `context`.
    ///
    /// # Errors
    /// [`OpenError::Threshold`] counts the good signatures; two by one key count once.
    pub fn open(&self, authority: &Authority, context: Context) -> Result<&'a [u8], OpenError> {
        AuthorityView::from(authority).agrees(self.good_signers(context))?;
        Ok(self.payload)
    }
}

impl<'a> Decode<'a> for Envelope<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let view = reader.take::<EnvelopeView<'_>>()?;
        Ok(Self { payload: view.payload, signatures: view.signatures().collect() })
    }
}

impl<'a> EnvelopeView<'a> {
    /// Reads an envelope where it lies; only its shape is checked.
    ///
    /// # Errors
    /// [`DecodeError`] as for every message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, ENVELOPE_BYTES_MAX)
    }

    /// As [`Envelope::payload_unchecked`].
    pub fn payload_unchecked(&self) -> &'a [u8] {
        self.payload
    }

    fn signatures(&self) -> impl Iterator<Item = EnvelopeSignature> + Clone + use<'a> {
        self.signatures.iter().map(EnvelopeSignature::from)
    }

    /// As [`Envelope::good_signers`].
    pub(crate) fn good_signers(&self, context: Context) -> impl Fn(&PublicKey) -> bool + use<'a> {
        good_signers(context, self.payload, self.signatures())
    }

    /// As [`Envelope::open`].
    ///
    /// # Errors
    /// [`OpenError::Threshold`] counts the good signatures; two by one key count once.
    #[inline(never)]
    pub fn open(
        &self,
        authority: AuthorityView<'_>,
        context: Context,
    ) -> Result<&'a [u8], OpenError> {
        authority.agrees(self.good_signers(context))?;
        Ok(self.payload)
    }
}

impl<'a> Decode<'a> for EnvelopeView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self { payload: reader.take()?, signatures: reader.arrays(SIGNATURES_MAX)? })
    }
}

/// Whose signature over `payload` in `context` is among `signatures` and holds.
fn good_signers(
    context: Context,
    payload: &[u8],
    signatures: impl Iterator<Item = EnvelopeSignature> + Clone,
) -> impl Fn(&PublicKey) -> bool {
    let message = message(context, payload);
    move |key| {
        let id = key.id();
        signatures.clone().any(|s| s.key == id && key.verifies(&message, (&s.r, &s.s)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn sealed(keys: &[u8], context: Context, payload: &[u8]) -> std::vec::Vec<u8> {
        let mut envelope = Envelope::new(payload);
        for seed in keys {
            envelope.push(sign(&key(*seed), context, payload)).expect("room");
        }
        let mut buf = vec![0; ENVELOPE_BYTES_MAX];
        envelope.encode(&mut buf).expect("fits").to_vec()
    }

    fn authority(keys: &[u8], threshold: u8) -> Authority {
        let keys: std::vec::Vec<_> = keys.iter().map(|seed| PublicKey::of(&key(*seed))).collect();
        Authority::new(&keys, threshold).expect("sane")
    }

    #[test]
    fn a_signature_holds_for_its_own_context_only() {
        let bytes = sealed(&[1], Context::Order, b"run v2");
        let envelope = Envelope::decode(&bytes).expect("decodes");
        assert_eq!(envelope.open(&authority(&[1], 1), Context::Order), Ok(&b"run v2"[..]));
        let refused = Err(OpenError::Threshold { good: 0, threshold: 1 });
        assert_eq!(envelope.open(&authority(&[1], 1), Context::Manifest), refused);
        assert_eq!(envelope.open(&authority(&[2], 1), Context::Order), refused);
    }

    #[test]
    fn a_threshold_counts_keys_not_signatures() {
        let check = |signers: &[u8], good: bool| {
            let bytes = sealed(signers, Context::Manifest, b"m");
            let envelope = Envelope::decode(&bytes).expect("decodes");
            let opened = envelope.open(&authority(&[1, 2, 3], 2), Context::Manifest);
            assert_eq!(opened.is_ok(), good, "{signers:?}");
        };
        check(&[1], false);
        check(&[1, 1], false);
        check(&[1, 9], false);
        check(&[1, 3], true);
        check(&[9, 2, 1], true);
    }

    #[test]
    fn no_flipped_bit_opens() {
        let bytes = sealed(&[1], Context::Order, b"run v2");
        let authority = authority(&[1], 1);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened = Envelope::decode(&flipped)
                .map_err(OpenError::from)
                .and_then(|e| e.open(&authority, Context::Order).map(<[u8]>::to_vec));
            assert!(opened.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn weak_keys_and_senseless_thresholds_are_refused() {
        assert_eq!(PublicKey::new([0; 32]), Err(KeyError));
        let k = PublicKey::of(&key(1));
        assert!(Authority::new(&[k], 0).is_err());
        assert!(Authority::new(&[k, k], 2).is_err());
    }
}
