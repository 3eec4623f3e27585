//! Public keys, and who may sign something: some keys, of which so many must agree.

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use heapless::Vec;
use serde::Serialize;

use crate::codec::{Decode, Malformed, Reader};
use crate::envelope::OpenError;
use crate::ids::{Digest, KeyId};
use crate::limits::AUTHORITY_KEYS_MAX;

/// An Ed25519 public key that is not weak. Kept as its 32 bytes: as a point it is six times as
/// large, a keyset has thirty of them, and a small device has no room for that. The point is found
/// anew for each signature, which costs a tenth of judging it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "[u8; 32]")]
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
    #[inline(never)]
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

    /// The key in bytes of an authority, all of which were looked at when that was made.
    pub(crate) fn known(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    pub(crate) fn verifies(&self, message: &[u8; 64], (r, s): (&[u8; 32], &[u8; 32])) -> bool {
        self.verifies_bytes(message, &Signature::from_components(*r, *s))
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

/// Who may sign something: some keys, and how many of them must agree.
#[derive(Clone, PartialEq, Serialize)]
pub struct Authority {
    keys: Vec<[u8; 32], AUTHORITY_KEYS_MAX>,
    threshold: u8,
}

impl Authority {
    /// An authority of `keys` of which `threshold` must sign.
    ///
    /// # Errors
    /// [`AuthorityError`] for too many keys or a threshold out of range.
    pub fn new(keys: &[PublicKey], threshold: u8) -> Result<Self, AuthorityError> {
        let mut different: Vec<[u8; 32], AUTHORITY_KEYS_MAX> = Vec::new();
        for PublicKey(key) in keys {
            if !different.contains(key) {
                different.push(*key).map_err(|_| AuthorityError::TooManyKeys)?;
            }
        }
        AuthorityView::checked(&different, threshold)?;
        Ok(Self { keys: different, threshold })
    }

    /// Its keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = PublicKey> + Clone + '_ {
        self.keys.iter().map(PublicKey::known)
    }

    /// How many of them must sign.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }
}

impl core::fmt::Debug for Authority {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", AuthorityView::from(self))
    }
}

impl<'a> Decode<'a> for Authority {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.take::<AuthorityView<'_>>().map(Self::from)
    }
}

/// An [`Authority`] where it was read.
#[derive(Clone, Copy)]
pub struct AuthorityView<'a> {
    keys: &'a [[u8; 32]],
    threshold: u8,
}

impl<'a> AuthorityView<'a> {
    fn checked(keys: &'a [[u8; 32]], threshold: u8) -> Result<Self, AuthorityError> {
        let view = Self { keys, threshold };
        let keys = view.keys().count();
        if threshold == 0 || usize::from(threshold) > keys {
            return Err(AuthorityError::Threshold { threshold, keys });
        }
        Ok(view)
    }

    /// Its different keys.
    fn keys(self) -> impl Iterator<Item = PublicKey> + Clone + 'a {
        let keys = self.keys;
        let is_first = move |(at, key): &(usize, &[u8; 32])| !keys[..*at].contains(key);
        keys.iter().enumerate().filter(is_first).map(|(_, key)| PublicKey::known(key))
    }

    /// Whether enough of its keys signed, by what `signed` says of each.
    pub(crate) fn agrees(self, signed: impl Fn(&PublicKey) -> bool) -> Result<(), OpenError> {
        let good = self.keys().filter(|key| signed(key)).count() as u8;
        if good < self.threshold {
            return Err(OpenError::Threshold { good, threshold: self.threshold });
        }
        Ok(())
    }
}

impl<'a> Decode<'a> for AuthorityView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let keys = reader.arrays(AUTHORITY_KEYS_MAX)?;
        if keys.iter().any(|key| PublicKey::new(*key).is_err()) {
            return Err(Malformed);
        }
        Self::checked(keys, reader.take()?).map_err(|_| Malformed)
    }
}

impl<'a> From<&'a Authority> for AuthorityView<'a> {
    fn from(authority: &'a Authority) -> Self {
        Self { keys: &authority.keys, threshold: authority.threshold }
    }
}

impl From<AuthorityView<'_>> for Authority {
    fn from(view: AuthorityView<'_>) -> Self {
        Self { keys: view.keys().map(|key| key.0).collect(), threshold: view.threshold }
    }
}

impl core::fmt::Debug for AuthorityView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} of ", self.threshold)?;
        f.debug_list().entries(self.keys()).finish()
    }
}
