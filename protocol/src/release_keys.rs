//! The release authority: keys with the models that each is for.

use core::fmt;
use core::str::FromStr;

use heapless::{String, Vec};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::codec::{Decode, Malformed, Reader};
use crate::envelope::{Authority, AuthorityError, Context, EnvelopeView, OpenError, PublicKey};
use crate::ids::{Digest, IdError, ModelName};
use crate::limits::{MODEL_NAME_BYTES_MAX, RELEASE_KEYS_MAX};
use crate::list::List;
use crate::manifest::{Manifest, ManifestView};
use crate::trust::ReleaseError;

/// The models that a release key is for: one by name (`digits`), all whose names begin alike
/// (`vision-*`), or all (`*`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
        ScopeView(text).check()?;
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
        ScopeView(&self.0).covers(model.as_str())
    }
}

/// A [`Scope`] where it was read.
#[derive(Clone, Copy)]
struct ScopeView<'a>(&'a str);

impl ScopeView<'_> {
    fn check(self) -> Result<(), ScopeError> {
        let name = match self.0.strip_suffix('*') {
            Some("") => return Ok(()),
            // What is before the star must begin a name that can exist.
            Some(prefix) => prefix,
            None => self.0,
        };
        ModelName::check(name).map_err(ScopeError)
    }

    fn covers(self, model: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => model.starts_with(prefix),
            None => model == self.0,
        }
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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReleaseKey {
    /// The key. One with several scopes is listed several times, and counts once.
    pub key: PublicKey,
    /// Its models.
    pub models: Scope,
}

/// A [`ReleaseKey`] where it was read.
#[derive(Clone, Copy)]
struct ReleaseKeyView<'a> {
    key: &'a [u8; 32],
    models: ScopeView<'a>,
}

impl ReleaseKeyView<'_> {
    fn is_sane(&self) -> bool {
        self.models.check().is_ok() && PublicKey::new(*self.key).is_ok()
    }
}

impl<'a> Decode<'a> for ReleaseKeyView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self { key: reader.array()?, models: ScopeView(reader.take()?) })
    }
}

/// Bytes of the largest list: its length, and of each entry the key, and its scope with a length.
const LIST_BYTES_MAX: usize = 1 + RELEASE_KEYS_MAX * (32 + 1 + MODEL_NAME_BYTES_MAX + 1);

/// The release authority: keys with their models, and how many of them must agree.
#[derive(Clone, PartialEq)]
pub struct ReleaseKeys {
    /// The entries as they are written, so that whatever is asked is asked of a view.
    list: Vec<u8, LIST_BYTES_MAX>,
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
        if keys.len() > RELEASE_KEYS_MAX {
            return Err(ReleaseKeysError::TooMany);
        }
        let mut buf = [0; LIST_BYTES_MAX];
        let list = postcard::to_slice(keys, &mut buf).map_err(|_| ReleaseKeysError::TooMany)?;
        let list = Vec::from_slice(list).map_err(|_| ReleaseKeysError::TooMany)?;
        let made = Self { list, threshold };
        made.view().check()?;
        Ok(made)
    }

    /// The manifest in an envelope and its digest, if enough of these keys signed it, all of
    /// them for its model. No proof that it was ordered: [`crate::trust::Verified`] is.
    ///
    /// # Errors
    /// [`ReleaseError`] names the check that failed.
    pub fn read(&self, bytes: &[u8]) -> Result<(Manifest, Digest), ReleaseError> {
        let (payload, signers) = self.view().open(bytes)?;
        Ok((signers.read(payload)?.into(), Digest::of(payload)))
    }

    pub(crate) fn view(&self) -> ReleaseKeysView<'_> {
        // It was written from a list, or copied from one that was checked.
        let keys = List::read(&mut Reader(&self.list), RELEASE_KEYS_MAX, |_| true);
        ReleaseKeysView { keys: keys.unwrap_or_default(), threshold: self.threshold }
    }

    /// The keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = ReleaseKey> + Clone + '_ {
        self.view().keys.iter().map(|entry| ReleaseKey {
            key: PublicKey::known(entry.key),
            models: Scope(ScopeText::try_from(entry.models.0).unwrap_or_default()),
        })
    }

    /// How many of them must sign.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// The different keys that may sign `model`.
    pub fn for_model(&self, model: &ModelName) -> Vec<PublicKey, RELEASE_KEYS_MAX> {
        let keys = self.view();
        keys.different(|_, entry| entry.models.covers(model.as_str())).collect()
    }
}

impl fmt::Debug for ReleaseKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of ", self.threshold)?;
        f.debug_list().entries(self.keys()).finish()
    }
}

impl Serialize for ReleaseKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let keys: Vec<ReleaseKey, RELEASE_KEYS_MAX> = self.keys().collect();
        let mut form = serializer.serialize_struct("ReleaseKeys", 2)?;
        form.serialize_field("keys", &keys)?;
        form.serialize_field("threshold", &self.threshold)?;
        form.end()
    }
}

impl<'a> Decode<'a> for ReleaseKeys {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.take::<ReleaseKeysView<'_>>().map(Self::from)
    }
}

impl From<Authority> for ReleaseKeys {
    /// Keys that are for all models.
    fn from(authority: Authority) -> Self {
        const { assert!(crate::limits::AUTHORITY_KEYS_MAX <= RELEASE_KEYS_MAX) };
        let entry = |key: PublicKey| ReleaseKey { key, models: Scope::all() };
        let keys: Vec<ReleaseKey, RELEASE_KEYS_MAX> = authority.keys().map(entry).collect();
        // As many and as different as they were.
        let threshold = authority.threshold();
        Self::new(&keys, threshold).unwrap_or(Self { list: Vec::new(), threshold })
    }
}

/// [`ReleaseKeys`] where they were read.
#[derive(Clone, Copy)]
pub struct ReleaseKeysView<'a> {
    keys: List<'a, ReleaseKeyView<'a>>,
    threshold: u8,
}

impl<'a> ReleaseKeysView<'a> {
    /// Whether as many different keys are here as must sign.
    fn check(self) -> Result<(), AuthorityError> {
        let (threshold, different) = (self.threshold, self.different(|_, _| true).count());
        if threshold == 0 || usize::from(threshold) > different {
            return Err(AuthorityError::Threshold { threshold, keys: different });
        }
        Ok(())
    }

    /// The different keys among the entries that `wanted` takes.
    fn different(
        self,
        wanted: impl Fn(usize, &ReleaseKeyView<'a>) -> bool + Clone,
    ) -> impl Iterator<Item = PublicKey> {
        let taken = self.keys.iter().enumerate().filter(move |(at, entry)| wanted(*at, entry));
        let all = taken.clone();
        taken
            .filter(move |(at, entry)| {
                let mut before = all.clone().take_while(|(other, _)| other < at);
                !before.any(|(_, other)| other.key == entry.key)
            })
            .map(|(_, entry)| PublicKey::known(entry.key))
    }

    /// The payload of a release that enough of these keys signed, and which ones did. Signed at all
    /// comes first: what nobody signed is not parsed to learn its model.
    #[inline(never)]
    pub(crate) fn open<'e>(
        self,
        bytes: &'e [u8],
    ) -> Result<(&'e [u8], ReleaseSigners<'a>), OpenError> {
        let envelope = EnvelopeView::decode(bytes)?;
        let holds = envelope.good_signers(Context::Manifest);
        let mut good = [false; RELEASE_KEYS_MAX];
        for (good, entry) in good.iter_mut().zip(self.keys.iter()) {
            *good = holds(&PublicKey::known(entry.key));
        }
        let signers = ReleaseSigners { keys: self, good };
        match signers.count(|_| true) {
            good if good < self.threshold => {
                Err(OpenError::Threshold { good, threshold: self.threshold })
            }
            _ => Ok((envelope.payload_unchecked(), signers)),
        }
    }
}

impl<'a> Decode<'a> for ReleaseKeysView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let keys = List::read(reader, RELEASE_KEYS_MAX, ReleaseKeyView::is_sane)?;
        let view = Self { keys, threshold: reader.take()? };
        view.check().map_err(|_| Malformed)?;
        Ok(view)
    }
}

impl From<ReleaseKeysView<'_>> for ReleaseKeys {
    fn from(view: ReleaseKeysView<'_>) -> Self {
        let mut list = Vec::new();
        // No longer than the bound, whoever wrote it: each entry was read.
        let _ = list.push(view.keys.len() as u8);
        for entry in view.keys.iter() {
            let _ = list.extend_from_slice(entry.key);
            let _ = list.push(entry.models.0.len() as u8);
            let _ = list.extend_from_slice(entry.models.0.as_bytes());
        }
        Self { list, threshold: view.threshold }
    }
}

/// Whose signatures on a release hold.
pub(crate) struct ReleaseSigners<'a> {
    keys: ReleaseKeysView<'a>,
    good: [bool; RELEASE_KEYS_MAX],
}

impl ReleaseSigners<'_> {
    fn count(&self, wanted: impl Fn(ScopeView<'_>) -> bool + Clone) -> u8 {
        let good = &self.good;
        self.keys.different(|at, entry| good[at] && wanted(entry.models)).count() as u8
    }

    /// The manifest that they signed, if enough of them are for its model.
    pub(crate) fn read<'e>(&self, payload: &'e [u8]) -> Result<ManifestView<'e>, ReleaseError> {
        let manifest = ManifestView::checked(payload)?;
        let (model, threshold) = (manifest.model.as_str(), self.keys.threshold);
        let good = self.count(|models| models.covers(model));
        if good < threshold {
            return Err(ReleaseError::Scope { good, threshold });
        }
        Ok(manifest)
    }
}
