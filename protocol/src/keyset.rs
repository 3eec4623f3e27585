//! The keyset: the compact root of trust. Which keys say what may run, for which models, and
//! which say what runs now.
//!
//! It is signed by its own root keys, so that it is whole, and nobody believes it for that:
//! a device takes one because its digest was pinned, because the release authority lists it
//! ([`Verified::authorised`], on Linux), or because the keyset before it says so as well
//! ([`Verified::advance`], all that a microcontroller needs). Versions never fall.

use core::fmt;

use serde::Serialize;

use crate::codec::{self, Decode, DecodeError, Malformed, Reader};
use crate::envelope::{Authority, AuthorityView, Context, EnvelopeView, OpenError};
use crate::ids::Digest;
use crate::limits::{ENVELOPE_BYTES_MAX, KEYSET_BYTES_MAX};
pub use crate::release_keys::{
    ReleaseKey, ReleaseKeys, ReleaseKeysError, ReleaseKeysView, Scope, ScopeError,
};
use crate::trust::Verified;

/// Who may sign what, in one version.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

/// A [`Keyset`] where it was read.
#[derive(Clone, Copy)]
pub struct KeysetView<'a> {
    /// As [`Keyset::version`].
    pub version: u64,
    /// As [`Keyset::root`].
    pub root: AuthorityView<'a>,
    /// As [`Keyset::release`].
    pub release: ReleaseKeysView<'a>,
    /// As [`Keyset::director`].
    pub director: AuthorityView<'a>,
}

impl<'a> Decode<'a> for KeysetView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            version: reader.take()?,
            root: reader.take()?,
            release: reader.take()?,
            director: reader.take()?,
        })
    }
}

impl<'a> Decode<'a> for Keyset {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.take::<KeysetView<'_>>().map(Self::from)
    }
}

impl From<KeysetView<'_>> for Keyset {
    fn from(view: KeysetView<'_>) -> Self {
        Self {
            version: view.version,
            root: view.root.into(),
            release: view.release.into(),
            director: view.director.into(),
        }
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

impl<'a> Verified<KeysetView<'a>> {
    /// The first keyset of a device: exactly the one whose digest (of the payload) it was
    /// built or configured with.
    ///
    /// # Errors
    /// [`KeysetError`] names the check that failed.
    pub fn genesis(bytes: &'a [u8], pinned: &Digest) -> Result<Self, KeysetError> {
        Self::recheck(bytes, pinned)
    }

    /// Re-check at boot of the keyset that was admitted with this digest (of the payload).
    ///
    /// # Errors
    /// [`KeysetError`] names the check that failed.
    #[inline(never)]
    pub fn recheck(bytes: &'a [u8], digest: &Digest) -> Result<Self, KeysetError> {
        let envelope = EnvelopeView::decode(bytes).map_err(OpenError::from)?;
        let got = Digest::of(envelope.payload_unchecked());
        if got != *digest {
            return Err(KeysetError::Digest { got, expected: *digest });
        }
        Self::signed_by_itself(&envelope)
    }

    /// The keyset after this one: version N+1, signed by enough root keys of both. A device
    /// that missed some takes them one by one.
    ///
    /// # Errors
    /// [`KeysetError`] names the check that failed; this keyset stays in force.
    pub fn advance<'n>(&self, bytes: &'n [u8]) -> Result<Verified<KeysetView<'n>>, KeysetError> {
        after(self.value.version, self.value.root, bytes)
    }

    /// Whole, in bounds, and signed by its own root keys: necessary, never sufficient.
    #[inline(never)]
    fn signed_by_itself(envelope: &EnvelopeView<'a>) -> Result<Self, KeysetError> {
        let payload = envelope.payload_unchecked();
        let value: KeysetView<'_> = codec::decode(payload, KEYSET_BYTES_MAX)?;
        if value.version == 0 {
            return Err(KeysetError::Zero);
        }
        envelope.open(value.root, Context::Keyset)?;
        Ok(Self { value, digest: Digest::of(payload) })
    }
}

/// The keyset in `bytes`, if it may follow version `current` with these root keys.
fn after<'n>(
    current: u64,
    root: AuthorityView<'_>,
    bytes: &'n [u8],
) -> Result<Verified<KeysetView<'n>>, KeysetError> {
    let envelope = EnvelopeView::decode(bytes).map_err(OpenError::from)?;
    envelope.open(root, Context::Keyset).map_err(KeysetError::Predecessor)?;
    let next = Verified::<KeysetView<'_>>::signed_by_itself(&envelope)?;
    let got = next.value.version;
    if current.checked_add(1) != Some(got) {
        return Err(KeysetError::Version { got, current, expected: VersionRule::Next });
    }
    Ok(next)
}

impl Verified<Keyset> {
    /// As [`Verified::<KeysetView>::genesis`].
    ///
    /// # Errors
    /// [`KeysetError`] names the check that failed.
    pub fn genesis(bytes: &[u8], pinned: &Digest) -> Result<Self, KeysetError> {
        Self::recheck(bytes, pinned)
    }

    /// As [`Verified::<KeysetView>::recheck`].
    ///
    /// # Errors
    /// [`KeysetError`] names the check that failed.
    pub fn recheck(bytes: &[u8], digest: &Digest) -> Result<Self, KeysetError> {
        Verified::<KeysetView<'_>>::recheck(bytes, digest).map(Verified::into_owned)
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
        let envelope = EnvelopeView::decode(bytes).map_err(OpenError::from)?;
        let keyset = Verified::<KeysetView<'_>>::signed_by_itself(&envelope)?;
        let got = keyset.value.version;
        if got < seen {
            let expected = VersionRule::NotBelow;
            return Err(KeysetError::Version { got, current: seen, expected });
        }
        Ok(keyset.into_owned())
    }

    /// As [`Verified::<KeysetView>::advance`].
    ///
    /// # Errors
    /// [`KeysetError`] names the check that failed; this keyset stays in force.
    pub fn advance(&self, bytes: &[u8]) -> Result<Self, KeysetError> {
        let root = AuthorityView::from(&self.value.root);
        after(self.value.version, root, bytes).map(Verified::into_owned)
    }
}
