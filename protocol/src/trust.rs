//! How bytes from the world become something a device acts on.
//!
//! A [`Verified`] value has private fields and two ways in, by name: *admission*, when
//! it arrives (signature, freshness, meant for this device), and the *re-check* at boot
//! (signature and digest again; expiry not, because what ran goes on running). The
//! engine takes a [`VerifiedArtifact`] and nothing else. Both authorities must agree: a
//! manifest is admitted only for a verified order that names its digest.
//!
//! Every check is made on a view of the signed bytes where they lie ([`crate::codec`]). A
//! microcontroller goes on with that; Linux takes an owned value from it, after the same checks.

use crate::codec::{self, DecodeError};
use crate::envelope::{Authority, AuthorityView, Context, EnvelopeView, OpenError};
use crate::ids::{Counter, DeviceId, Digest, Generation, HardwareClass};
use crate::keyset::{Keyset, KeysetView, ReleaseKeys, ReleaseKeysView};
use crate::limits::ORDER_BYTES_MAX;
use crate::manifest::{Artifact, Manifest, ManifestError, ManifestView, VariantKind};
use crate::order::{ModelOrder, Order, OrderView};
use crate::reason::Reason;
use crate::release_keys::ReleaseSigners;

/// The two authorities that a device believes, as its keyset names them.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyring {
    /// Says what may ever run; every key for its models.
    pub release: ReleaseKeys,
    /// Says what this device runs now.
    pub director: Authority,
}

impl Keyring {
    /// The authorities of a keyset.
    pub fn of(keyset: &Verified<Keyset>) -> Self {
        let Keyset { release, director, .. } = keyset.get();
        Self { release: release.clone(), director: director.clone() }
    }

    /// The same, where they are.
    pub fn view(&self) -> KeyringView<'_> {
        KeyringView { release: self.release.view(), director: (&self.director).into() }
    }
}

/// A [`Keyring`] whose keys lie where their keyset was read.
#[derive(Clone, Copy)]
pub struct KeyringView<'a> {
    release: ReleaseKeysView<'a>,
    director: AuthorityView<'a>,
}

impl<'a> KeyringView<'a> {
    /// The authorities of a keyset.
    pub fn of(keyset: &Verified<KeysetView<'a>>) -> Self {
        let KeysetView { release, director, .. } = keyset.value;
        Self { release, director }
    }
}

/// A value that was signed by its authority and checked. See the module page.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified<T> {
    pub(crate) value: T,
    pub(crate) digest: Digest,
}

impl<T> Verified<T> {
    /// The checked value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// SHA-256 of the exact bytes that were signed.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The same, in memory of its own.
    pub(crate) fn into_owned<O: From<T>>(self) -> Verified<O> {
        Verified { value: self.value.into(), digest: self.digest }
    }
}

/// Why an order is not acted on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OrderError {
    /// Not signed by the director.
    #[error("order refused: {0}")]
    Open(#[from] OpenError),
    /// Signed, but not an order this build can read.
    #[error("order refused: its payload is {0}")]
    Decode(#[from] DecodeError),
    /// For another device.
    #[error("order refused: it is for device {0}")]
    Device(DeviceId),
    /// Not newer than what the device already acted on.
    #[error("order refused: generation {got} is not above {seen}, which was acted on")]
    Stale {
        /// Its generation.
        got: Generation,
        /// The highest seen.
        seen: Generation,
    },
    /// Past its time.
    #[error("order refused: it expired {late_s} s ago; the controller must renew it")]
    Expired {
        /// Seconds past its time.
        late_s: u64,
    },
    /// Made for an earlier nonce of the device, or for none: nobody knows when.
    #[error("order refused: it does not carry this device's newest nonce")]
    Nonce,
    /// Two entries for one model: which is meant?
    #[error("order refused: it names a model twice")]
    Ambiguous,
}

impl<'a> Verified<OrderView<'a>> {
    /// Admission of an order that arrived: director's signature, this device, newer than
    /// `seen`, not expired at `now_s` (Unix seconds).
    ///
    /// # Errors
    /// [`OrderError`] names the check that failed; nothing is changed.
    fn admit(
        bytes: &'a [u8],
        keyring: KeyringView<'_>,
        device: &DeviceId,
        seen: Generation,
        now_s: u64,
    ) -> Result<Self, OrderError> {
        Self::recheck(bytes, keyring, device)?.new_and_good(seen, now_s)
    }

    /// The same for a device without a clock: instead of the time the order proves by `nonce`,
    /// the device's newest, that it was made after the nonce was said, `said_s` seconds ago. So
    /// it is that old at most, and good for as long as it says it is from there on.
    ///
    /// # Errors
    /// [`OrderError`] names the check that failed; nothing is changed.
    pub fn admit_by_nonce(
        bytes: &'a [u8],
        keyring: KeyringView<'_>,
        device: &DeviceId,
        seen: Generation,
        nonce: &[u8; 16],
        said_s: u64,
    ) -> Result<Self, OrderError> {
        // The nonce first: an order without it says nothing about time.
        let order = Self::recheck(bytes, keyring, device)?;
        if order.value.nonce != Some(nonce) {
            return Err(OrderError::Nonce);
        }
        let latest_s = order.value.issued_s.saturating_add(said_s);
        order.new_and_good(seen, latest_s)
    }

    /// Newer than `seen`, and good at `now_s` (Unix seconds).
    fn new_and_good(self, seen: Generation, now_s: u64) -> Result<Self, OrderError> {
        let OrderView { generation, expires_s, .. } = self.value;
        if generation <= seen {
            return Err(OrderError::Stale { got: generation, seen });
        }
        if now_s >= expires_s {
            return Err(OrderError::Expired { late_s: now_s - expires_s });
        }
        Ok(self)
    }

    /// Re-check at boot of an order that was admitted before: signature and device.
    ///
    /// # Errors
    /// [`OrderError`] names the check that failed.
    #[inline(never)]
    pub fn recheck(
        bytes: &'a [u8],
        keyring: KeyringView<'_>,
        device: &DeviceId,
    ) -> Result<Self, OrderError> {
        let envelope = EnvelopeView::decode(bytes).map_err(OpenError::from)?;
        let payload = envelope.open(keyring.director, Context::Order)?;
        let value: OrderView<'_> = codec::decode(payload, ORDER_BYTES_MAX)?;
        if value.device != *device {
            return Err(OrderError::Device(value.device.into()));
        }
        let models = value.models.iter();
        let twice =
            |(at, m): (usize, ModelOrder)| value.models.iter().take(at).any(|n| n.model == m.model);
        if models.enumerate().any(twice) {
            return Err(OrderError::Ambiguous);
        }
        Ok(Self { digest: Digest::of(payload), value })
    }
}

impl Verified<Order> {
    /// Admission of an order that arrived: director's signature, this device, newer than
    /// `seen`, not expired at `now_s` (Unix seconds).
    ///
    /// # Errors
    /// [`OrderError`] names the check that failed; nothing is changed.
    pub fn admit(
        bytes: &[u8],
        keyring: &Keyring,
        device: &DeviceId,
        seen: Generation,
        now_s: u64,
    ) -> Result<Self, OrderError> {
        let order = Verified::<OrderView<'_>>::admit(bytes, keyring.view(), device, seen, now_s)?;
        Ok(order.into_owned())
    }

    /// As [`Verified::<OrderView>::recheck`].
    ///
    /// # Errors
    /// [`OrderError`] names the check that failed.
    pub fn recheck(bytes: &[u8], keyring: &Keyring, device: &DeviceId) -> Result<Self, OrderError> {
        let order = Verified::<OrderView<'_>>::recheck(bytes, keyring.view(), device)?;
        Ok(order.into_owned())
    }
}

/// Why a release is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Not signed by the release authority.
    #[error("release refused: {0}")]
    Open(#[from] OpenError),
    /// Signed, but not a manifest this build can read.
    #[error("release refused: its payload is {0}")]
    Decode(#[from] DecodeError),
    /// A bound is broken.
    #[error("release refused: {0}")]
    Manifest(#[from] ManifestError),
    /// Signed, but too few of the signers are for this model.
    #[error("release refused: {good} of its signers may sign this model, {threshold} are needed")]
    Scope {
        /// Good signatures by keys that are for the model, one per key.
        good: u8,
        /// Needed.
        threshold: u8,
    },
    /// Another release than the one that was asked for.
    #[error("release refused: its digest is {got:.12}, ordered was {ordered:.12}")]
    Digest {
        /// Digest of what arrived.
        got: Digest,
        /// Digest in the order.
        ordered: Digest,
    },
    /// A release of another model.
    #[error("release refused: it is a release of another model")]
    Model,
    /// Older than the floor.
    #[error("release refused: counter {counter} is below this device's floor {floor}")]
    BelowFloor {
        /// Its counter.
        counter: Counter,
        /// The floor.
        floor: Counter,
    },
    /// In no form that this device runs.
    #[error("release refused: it comes in no form that this device runs")]
    NoVariant,
    /// For other hardware.
    #[error("release refused: it is for other hardware than this device")]
    Hardware,
}

impl From<ReleaseError> for Reason {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::BelowFloor { .. } => Self::BelowFloor,
            ReleaseError::NoVariant => Self::NoVariant,
            ReleaseError::Hardware => Self::WrongHardware,
            _ => Self::Untrusted,
        }
    }
}

/// What a device is, and what it can run.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its class of hardware, if it says.
    pub hardware: Option<&'a HardwareClass>,
    /// The forms of a release that it runs, the best one first.
    pub forms: &'a [VariantKind],
}

impl<'a> Verified<ManifestView<'a>> {
    /// Admission of a release for an order: release authority's signature, exactly the
    /// digest and model that the director ordered, for this `target`, not below `floor`. Gives
    /// the form of it that the target runs.
    ///
    /// # Errors
    /// [`ReleaseError`] names the check that failed.
    #[inline(never)]
    pub fn admit(
        bytes: &'a [u8],
        keyring: KeyringView<'_>,
        order: &ModelOrder,
        floor: Counter,
        target: Target<'_>,
    ) -> Result<(Self, VariantKind), ReleaseError> {
        let release = Self::recheck(bytes, keyring, &order.release)?;
        let manifest = &release.value;
        if manifest.model != order.model {
            return Err(ReleaseError::Model);
        }
        let variant = manifest.best(target.forms).ok_or(ReleaseError::NoVariant)?;
        if !manifest.is_for(target.hardware) {
            return Err(ReleaseError::Hardware);
        }
        if manifest.counter < floor {
            return Err(ReleaseError::BelowFloor { counter: manifest.counter, floor });
        }
        Ok((release, variant))
    }

    /// Re-check at boot of a release that was admitted before: signature and digest, by the
    /// keyring under which it was admitted.
    ///
    /// # Errors
    /// [`ReleaseError`] names the check that failed.
    #[inline(never)]
    pub fn recheck(
        bytes: &'a [u8],
        keyring: KeyringView<'_>,
        digest: &Digest,
    ) -> Result<Self, ReleaseError> {
        let (payload, signers) = keyring.release.open(bytes)?;
        Self::ordered(payload, &signers, digest)
    }
}

impl<'a> Verified<ManifestView<'a>> {
    /// What was signed, if it is what was ordered. Out of line: to look at signatures takes a lot of
    /// stack, and what is here is not needed yet.
    #[inline(never)]
    fn ordered(
        payload: &'a [u8],
        signers: &ReleaseSigners<'_>,
        digest: &Digest,
    ) -> Result<Self, ReleaseError> {
        let value = signers.read(payload)?;
        let got = Digest::of(payload);
        if got != *digest {
            return Err(ReleaseError::Digest { got, ordered: *digest });
        }
        Ok(Self { value, digest: got })
    }
}

impl Verified<Manifest> {
    /// As [`Verified::<ManifestView>::admit`].
    ///
    /// # Errors
    /// [`ReleaseError`] names the check that failed.
    pub fn admit(
        bytes: &[u8],
        keyring: &Keyring,
        order: &ModelOrder,
        floor: Counter,
        target: Target<'_>,
    ) -> Result<(Self, VariantKind), ReleaseError> {
        let admit = Verified::<ManifestView<'_>>::admit;
        let (release, variant) = admit(bytes, keyring.view(), order, floor, target)?;
        Ok((release.into_owned(), variant))
    }

    /// As [`Verified::<ManifestView>::recheck`].
    ///
    /// # Errors
    /// [`ReleaseError`] names the check that failed.
    pub fn recheck(bytes: &[u8], keyring: &Keyring, digest: &Digest) -> Result<Self, ReleaseError> {
        let release = Verified::<ManifestView<'_>>::recheck(bytes, keyring.view(), digest)?;
        Ok(release.into_owned())
    }
}

/// Bytes that are exactly the artifact which a verified manifest names.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedArtifact<'a> {
    bytes: &'a [u8],
    digest: Digest,
}

/// Bytes are not the artifact that the manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes with digest {got:.12}; signed were {signed_bytes} with {signed:.12}")]
pub struct ArtifactError {
    bytes: usize,
    got: Digest,
    signed_bytes: u32,
    signed: Digest,
}

impl<'a> VerifiedArtifact<'a> {
    /// Checks `bytes` against the artifact that `pick` finds in a verified manifest.
    ///
    /// # Errors
    /// [`ArtifactError`] if length or digest differ, or `pick` finds nothing.
    pub fn check(
        bytes: &'a [u8],
        manifest: &Verified<Manifest>,
        pick: impl FnOnce(&Manifest) -> Option<Artifact>,
    ) -> Result<Self, ArtifactError> {
        let digest = Digest::of(bytes);
        let signed = pick(manifest.get());
        match signed {
            Some(signed) if signed.digest == digest && signed.bytes as usize == bytes.len() => {
                Ok(Self { bytes, digest })
            }
            _ => Err(ArtifactError {
                bytes: bytes.len(),
                got: digest,
                signed_bytes: signed.map_or(0, |s| s.bytes),
                signed: signed.map_or(Digest([0; 32]), |s| s.digest),
            }),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Their digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}
