//! The keyset: the compact root of trust. Which keys say what may run, for which models, and
//! which say what runs now.
//!
//! It is signed by its own root keys, so that it is whole, and nobody believes it for that:
//! a device takes one because its digest was pinned, because the release authority lists it
//! ([`Verified::authorised`], on Linux), or because the keyset before it says so as well
//! ([`Verified::advance`], all that a microcontroller needs). Versions never fall.

use core::fmt;
use core::str::FromStr;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::envelope::{Authority, AuthorityError, Context, Envelope, OpenError, PublicKey};
use crate::ids::{Digest, IdError, ModelName};
use crate::limits::{ENVELOPE_BYTES_MAX, KEYSET_BYTES_MAX, MODEL_NAME_BYTES_MAX, RELEASE_KEYS_MAX};
use crate::trust::Verified;

/// Who may sign what, in one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keyset {
    /// Rises by one with every change.
    pub version: u64,
    /// Signs keysets: this one and, with its successor's root, the next.
    pub root: Authority,
    /// Say what may ever run.
    pub release: ReleaseKeys,
    /// Says what every device runs now.
    pub director: Authority,
}

/// The models that a release key is for: one by name (`digits`), all whose names begin alike
/// (`vision-*`), or all (`*`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "ScopeText")]
pub struct Scope(ScopeText);

type ScopeText = String<{ MODEL_NAME_BYTES_MAX + 1 }>;

/// Text that is no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no scope ({0}); write a model's name, the beginning of names and a *, or *")]
pub struct ScopeError(IdError);

impl Scope {
    /// The checked text.
    ///
    /// # Errors
    /// [`ScopeError`] says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, ScopeError> {
        match text.strip_suffix('*') {
            Some("") => {}
            // What is before the star must begin a name that can exist.
            Some(prefix) => drop(ModelName::new(prefix).map_err(ScopeError)?),
            None => drop(ModelName::new(text).map_err(ScopeError)?),
        }
        let max = MODEL_NAME_BYTES_MAX + 1;
        let long = ScopeError(IdError::TooLong { got: text.len(), max });
        ScopeText::try_from(text).map(Self).map_err(|_| long)
    }

    /// All models.
    pub fn all() -> Self {
        let mut text = ScopeText::new();
        // One character of sixty-five.
        let _ = text.push('*');
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `model` is in it.
    pub fn covers(&self, model: &ModelName) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => model.as_str().starts_with(prefix),
            None => model.as_str() == self.0.as_str(),
        }
    }
}

impl TryFrom<ScopeText> for Scope {
    type Error = ScopeError;
    fn try_from(text: ScopeText) -> Result<Self, ScopeError> {
        Self::new(&text)
    }
}

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::new(text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// A release key and its models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseKey {
    /// The key. One with several scopes is listed several times, and counts once.
    pub key: PublicKey,
    /// Its models.
    pub models: Scope,
}

/// The release authority: keys with their models, and how many of them must agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ReleaseKeysForm")]
pub struct ReleaseKeys {
    keys: Vec<ReleaseKey, RELEASE_KEYS_MAX>,
    threshold: u8,
}

/// Release keys as they are read, before they are checked.
#[derive(Deserialize)]
struct ReleaseKeysForm {
    keys: Vec<ReleaseKey, RELEASE_KEYS_MAX>,
    threshold: u8,
}

/// Keys and threshold do not make a release authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseKeysError {
    /// More entries than allowed.
    #[error("more than {RELEASE_KEYS_MAX} release keys")]
    TooMany,
    /// A threshold that nobody or that nothing meets.
    #[error(transparent)]
    Threshold(#[from] AuthorityError),
}

impl ReleaseKeys {
    /// `keys`, of which `threshold` must sign a release, all of them for its model.
    ///
    /// # Errors
    /// [`ReleaseKeysError`] for too many keys or a threshold that no signatures meet.
    pub fn new(keys: &[ReleaseKey], threshold: u8) -> Result<Self, ReleaseKeysError> {
        let keys = Vec::from_slice(keys).map_err(|_| ReleaseKeysError::TooMany)?;
        let made = Self { keys, threshold };
        let different = made.count(|_| true);
        if threshold == 0 || threshold > different {
            let keys = usize::from(different);
            return Err(AuthorityError::Threshold { threshold, keys }.into());
        }
        Ok(made)
    }

    /// The keys.
    pub fn keys(&self) -> &[ReleaseKey] {
        &self.keys
    }

    /// How many of them must sign.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// The different keys that may sign `model`.
    pub fn for_model(&self, model: &ModelName) -> Vec<PublicKey, RELEASE_KEYS_MAX> {
        let mut keys = Vec::new();
        for entry in self.keys.iter().filter(|entry| entry.models.covers(model)) {
            if !keys.contains(&entry.key) {
                // No more than there are entries.
                let _ = keys.push(entry.key);
            }
        }
        keys
    }

    /// How many different keys there are among the entries that `wanted` takes.
    fn count(&self, wanted: impl Fn(usize) -> bool) -> u8 {
        let counted = |at: &usize| {
            let key = self.keys[*at].key;
            wanted(*at) && !(0..*at).any(|before| wanted(before) && self.keys[before].key == key)
        };
        (0..self.keys.len()).filter(counted).count() as u8
    }

    /// The payload of a release that enough of these keys signed, and which ones did. Whether
    /// they are for its model is asked once the payload has been read.
    pub(crate) fn open<'a>(
        &self,
        envelope: &Envelope<'a>,
    ) -> Result<(&'a [u8], ReleaseSigners<'_>), OpenError> {
        let holds = envelope.good_signers(Context::Manifest);
        let mut good = [false; RELEASE_KEYS_MAX];
        for (good, entry) in good.iter_mut().zip(&self.keys) {
            *good = holds(&entry.key);
        }
        let signers = ReleaseSigners { keys: self, good };
        match self.count(|at| good[at]) {
            good if good < self.threshold => {
                Err(OpenError::Threshold { good, threshold: self.threshold })
            }
            _ => Ok((envelope.payload_unchecked(), signers)),
        }
    }
}

impl TryFrom<ReleaseKeysForm> for ReleaseKeys {
    type Error = ReleaseKeysError;
    fn try_from(form: ReleaseKeysForm) -> Result<Self, ReleaseKeysError> {
        Self::new(&form.keys, form.threshold)
    }
}

impl From<Authority> for ReleaseKeys {
    /// Keys that are for all models.
    fn from(authority: Authority) -> Self {
        const { assert!(crate::limits::AUTHORITY_KEYS_MAX <= RELEASE_KEYS_MAX) };
        let entry = |key: &PublicKey| ReleaseKey { key: *key, models: Scope::all() };
        Self {
            keys: authority.keys().iter().map(entry).collect(),
            threshold: authority.threshold(),
        }
    }
}

/// Whose signatures on a release hold.
pub(crate) struct ReleaseSigners<'a> {
    keys: &'a ReleaseKeys,
    good: [bool; RELEASE_KEYS_MAX],
}

impl ReleaseSigners<'_> {
    /// How many of the signers are for `model`.
    pub(crate) fn count_for(&self, model: &ModelName) -> u8 {
        self.keys.count(|at| self.good[at] && self.keys.keys[at].models.covers(model))
    }
}

/// Why a keyset is not taken. What was believed before stays in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysetError {
    /// Not an envelope, or not signed by enough of its own root keys.
    #[error("keyset refused: {0}")]
    Open(#[from] OpenError),
    /// Not a keyset that this build can read.
    #[error("keyset refused: its payload is {0}")]
    Decode(#[from] DecodeError),
    /// Not signed by enough root keys of the keyset before.
    #[error("keyset refused: by the keyset before it, {0}")]
    Predecessor(OpenError),
    /// Other bytes than the ones that were pinned or listed.
    #[error("keyset refused: its digest is {got:.12}, expected was {expected:.12}")]
    Digest {
        /// Of what arrived.
        got: Digest,
        /// Expected.
        expected: Digest,
    },
    /// Version zero.
    #[error("keyset refused: versions begin with 1")]
    Zero,
    /// Not the version that may follow.
    #[error("keyset refused: version {got}; after version {current} it must be {expected}")]
    Version {
        /// Its version.
        got: u64,
        /// The version in force.
        current: u64,
        /// What may follow.
        expected: VersionRule,
    },
}

/// Which version may follow the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionRule {
    /// The very next one.
    Next,
    /// This one or any later one.
    NotBelow,
}

impl fmt::Display for VersionRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Next => "the next",
            Self::NotBelow => "no older",
        })
    }
}

impl Verified<Keyset> {
    /// The first keyset of a device: exactly the one whose digest (of the payload) it was
    /// built or configured with.
    ///
    /// # Errors
    /// [`KeysetError`] names the check that failed.
    pub fn genesis(bytes: &[u8], pinned: &Digest) -> Result<Self, KeysetError> {
        Self::recheck(bytes, pinned)
    }

    /// Re-check at boot of the keyset that was admitted with this digest (of the payload).
    ///
    /// # Errors
    /// [`KeysetError`] names the check that failed.
    pub fn recheck(bytes: &[u8], digest: &Digest) -> Result<Self, KeysetError> {
        let envelope = Envelope::decode(bytes).map_err(OpenError::from)?;
        let got = Digest::of(envelope.payload_unchecked());
        if got != *digest {
            return Err(KeysetError::Digest { got, expected: *digest });
        }
        Self::signed_by_itself(&envelope)
    }

    /// The keyset that the release authority lists as a target: exactly the file with this
    /// digest, and no older than `seen`, the version in force (0 for none). Root metadata was
    /// checked by whoever calls this, so versions may be left out.
    ///
    /// # Errors
    /// [`KeysetError`] names the check that failed.
    pub fn authorised(bytes: &[u8], file: &Digest, seen: u64) -> Result<Self, KeysetError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            let error = DecodeError::TooLarge { got: bytes.len(), max: ENVELOPE_BYTES_MAX };
            return Err(OpenError::from(error).into());
        }
        let got = Digest::of(bytes);
        if got != *file {
            return Err(KeysetError::Digest { got, expected: *file });
        }
        let keyset = Self::signed_by_itself(&Envelope::decode(bytes).map_err(OpenError::from)?)?;
        let got = keyset.value.version;
        if got < seen {
            let expected = VersionRule::NotBelow;
            return Err(KeysetError::Version { got, current: seen, expected });
        }
        Ok(keyset)
    }

    /// The keyset after this one: version N+1, signed by enough root keys of both. A device
    /// that missed some takes them one by one.
    ///
    /// # Errors
    /// [`KeysetError`] names the check that failed; this keyset stays in force.
    pub fn advance(&self, bytes: &[u8]) -> Result<Self, KeysetError> {
        let envelope = Envelope::decode(bytes).map_err(OpenError::from)?;
        envelope.open(&self.value.root, Context::Keyset).map_err(KeysetError::Predecessor)?;
        let next = Self::signed_by_itself(&envelope)?;
        let (got, current) = (next.value.version, self.value.version);
        if current.checked_add(1) != Some(got) {
            return Err(KeysetError::Version { got, current, expected: VersionRule::Next });
        }
        Ok(next)
    }

    /// Whole, in bounds, and signed by its own root keys: necessary, never sufficient.
    fn signed_by_itself(envelope: &Envelope<'_>) -> Result<Self, KeysetError> {
        let payload = envelope.payload_unchecked();
        let value: Keyset = codec::decode(payload, KEYSET_BYTES_MAX)?;
        if value.version == 0 {
            return Err(KeysetError::Zero);
        }
        envelope.open(&value.root, Context::Keyset)?;
        Ok(Self { value, digest: Digest::of(payload) })
    }
}
