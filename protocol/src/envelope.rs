//! Signed bytes. What is signed is the exact payload, never a re-encoding of it.
//!
//! The message under a signature is `context (32 bytes) || SHA-256(payload)`: the context
//! separates domains, so that a signed order can never be taken for a manifest, and the
//! fixed 64 bytes need no buffer on a microcontroller. Ed25519 by RFC 8032, verified with
//! `verify_strict`, which rejects weak keys and mixed-order points.
//!
//! On the wire: the version byte, then postcard of the payload and its signatures.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, EncodeError};
use crate::ids::{Digest, KeyId};
use crate::limits::{AUTHORITY_KEYS_MAX, ENVELOPE_BYTES_MAX, SIGNATURES_MAX};

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// Signs `payload` in `context`.
pub fn sign(key: &SigningKey, context: Context, payload: &[u8]) -> EnvelopeSignature {
    let signature = key.sign(&message(context, payload));
    EnvelopeSignature {
        key: PublicKey::of(key).id(),
        r: *signature.r_bytes(),
        s: *signature.s_bytes(),
    }
}

/// A payload and who signed it. Nothing about it is checked until [`Envelope::open`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// The exact bytes that were signed.
    #[serde(borrow)]
    payload: &'a [u8],
    signatures: Vec<EnvelopeSignature, SIGNATURES_MAX>,
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
        crate::codec::decode(bytes, ENVELOPE_BYTES_MAX)
    }

    /// Writes the envelope into `buf`.
    ///
    /// # Errors
    /// [`EncodeError`] if `buf` is too small; [`ENVELOPE_BYTES_MAX`] always suffices.
    pub fn encode<'b>(&self, buf: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        crate::codec::encode(self, buf)
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
        let message = message(context, self.payload);
        move |key| {
            let id = key.id();
            self.signatures.iter().any(|s| s.key == id && key.verifies(&message, s))
        }
    }

    /// The payload, if `authority` signed it in `context`.
    ///
    /// # Errors
    /// [`OpenError::Threshold`] counts the good signatures; two by one key count once.
    pub fn open(&self, authority: &Authority, context: Context) -> Result<&'a [u8], OpenError> {
        let signed = self.good_signers(context);
        let good = authority.keys.iter().filter(|key| signed(key)).count() as u8;
        if good < authority.threshold {
            return Err(OpenError::Threshold { good, threshold: authority.threshold });
        }
        Ok(self.payload)
    }
}

/// An Ed25519 public key that is not weak. Kept as its 32 bytes: as a point it is six times as
/// large, a keyset has thirty of them, and a small device has it on its stack. The point is found
/// anew for each signature, which costs a tenth of judging it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[u8; 32]", into = "[u8; 32]")]
pub struct PublicKey([u8; 32]);

/// Bytes that are no usable public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 public key, or a weak one")]
pub struct KeyError;

impl PublicKey {
    /// The key in these 32 bytes.
    ///
    /// # Errors
    /// [`KeyError`] for bytes that are no point of the curve, and for weak points.
    pub fn new(bytes: [u8; 32]) -> Result<Self, KeyError> {
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(bytes)),
            _ => Err(KeyError),
        }
    }

    /// The public half of `key`.
    pub fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key().to_bytes())
    }

    /// Its 32 bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        let Digest(digest) = Digest::of(&self.0);
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        KeyId(id)
    }

    fn verifies(&self, message: &[u8; 64], signature: &EnvelopeSignature) -> bool {
        self.verifies_bytes(message, &Signature::from_components(signature.r, signature.s))
    }

    /// Whether `signature` (64 bytes) is one of this key over `message`: the one place where a
    /// signature is judged. Public so that the world's test vectors, which sign other things than
    /// our fixed 64 bytes, go through this very line.
    pub fn verifies_raw(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|s| self.verifies_bytes(message, &s))
    }

    #[inline(never)]
    fn verifies_bytes(&self, message: &[u8], signature: &Signature) -> bool {
        let key = VerifyingKey::from_bytes(&self.0);
        key.is_ok_and(|key| key.verify_strict(message, signature).is_ok())
    }
}

impl TryFrom<[u8; 32]> for PublicKey {
    type Error = KeyError;
    fn try_from(bytes: [u8; 32]) -> Result<Self, KeyError> {
        Self::new(bytes)
    }
}

impl From<PublicKey> for [u8; 32] {
    fn from(key: PublicKey) -> Self {
        key.to_bytes()
    }
}

impl core::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PublicKey({:?})", self.id())
    }
}

/// Who may sign something: some keys, and how many of them must agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "AuthorityForm")]
pub struct Authority {
    keys: Vec<PublicKey, AUTHORITY_KEYS_MAX>,
    threshold: u8,
}

/// An authority as it is read, before it is checked.
#[derive(Deserialize)]
struct AuthorityForm {
    keys: Vec<PublicKey, AUTHORITY_KEYS_MAX>,
    threshold: u8,
}

impl TryFrom<AuthorityForm> for Authority {
    type Error = AuthorityError;
    fn try_from(form: AuthorityForm) -> Result<Self, AuthorityError> {
        Self::new(&form.keys, form.threshold)
    }
}

/// Keys and threshold do not make an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// More keys than allowed.
    #[error("more than {AUTHORITY_KEYS_MAX} keys")]
    TooManyKeys,
    /// A threshold that nobody or that nothing meets.
    #[error("threshold {threshold} of {keys} different keys; use 1 to the number of keys")]
    Threshold {
        /// The threshold.
        threshold: u8,
        /// The number of different keys.
        keys: usize,
    },
}

impl Authority {
    /// An authority of `keys` of which `threshold` must sign.
    ///
    /// # Errors
    /// [`AuthorityError`] for too many keys or a threshold out of range.
    pub fn new(keys: &[PublicKey], threshold: u8) -> Result<Self, AuthorityError> {
        let mut different: Vec<PublicKey, AUTHORITY_KEYS_MAX> = Vec::new();
        for key in keys {
            if !different.contains(key) {
                different.push(*key).map_err(|_| AuthorityError::TooManyKeys)?;
            }
        }
        if threshold == 0 || usize::from(threshold) > different.len() {
            return Err(AuthorityError::Threshold { threshold, keys: different.len() });
        }
        Ok(Self { keys: different, threshold })
    }

    /// Its keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How many of them must sign.
    pub fn threshold(&self) -> u8 {
        self.threshold
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
