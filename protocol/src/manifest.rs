//! The manifest: what the release authority says about one release of one model.
//!
//! A release is a published manifest; its digest is the SHA-256 of the exact manifest
//! bytes. The manifest stays small (it must fit a microcontroller's RAM): model bytes,
//! golden vectors and chunk lists are artifacts of their own that it names by digest.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::codec::{self, Decode, Malformed, Reader};
use crate::health::{Health, HealthError, HealthView};
use crate::ids::{Counter, Digest, HardwareClass, ModelName, Note, Text, Version};
use crate::limits::{
    ARTIFACT_BYTES_MAX, ATTESTATIONS_MAX, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNKS_MAX,
    HARDWARE_MAX, MANIFEST_BYTES_MAX, VARIANTS_MAX,
};
use crate::list::List;
use crate::trust::ReleaseError;

/// One release of one model, as the release authority signs it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Manifest {
    /// Which model this is a release of.
    pub model: ModelName,
    /// What people call it.
    pub version: Version,
    /// Its place in the order of releases; greater than that of every earlier release.
    pub counter: Counter,
    /// Once a device has confirmed this release it refuses every release below this
    /// counter. Default: the previous release's, so that one step back stays possible.
    pub min_release: Counter,
    /// The forms it comes in.
    pub variants: Vec<Variant, VARIANTS_MAX>,
    /// How near its answers to the golden vectors must come.
    pub golden: GoldenRule,
    /// Why the importer took it although its golden vectors did not match, if so.
    pub golden_mismatch_accepted: Option<Note>,
    /// What others say of it, by digest. Bound to the release by its signature, and never what a
    /// device goes by.
    pub attestations: Vec<Attestation, ATTESTATIONS_MAX>,
    /// The hardware that it is for; empty is any.
    pub hardware: Vec<HardwareClass, HARDWARE_MAX>,
    /// When it is healthy in use, and what it looks like then.
    pub health: Health,
}

/// A [`Manifest`] where it was read: what every check is made on.
#[derive(Clone, Copy, Debug)]
pub struct ManifestView<'a> {
    /// As [`Manifest::model`].
    pub model: Text<'a, ModelName>,
    /// As [`Manifest::version`].
    version: Text<'a, Version>,
    /// As [`Manifest::counter`].
    pub counter: Counter,
    /// As [`Manifest::min_release`].
    pub min_release: Counter,
    /// As [`Manifest::variants`].
    variants: List<'a, Variant>,
    /// As [`Manifest::golden`].
    golden: GoldenRule,
    /// As [`Manifest::golden_mismatch_accepted`].
    golden_mismatch_accepted: Option<Text<'a, Note>>,
    /// As [`Manifest::attestations`].
    attestations: List<'a, Attestation>,
    /// As [`Manifest::hardware`].
    hardware: List<'a, Text<'a, HardwareClass>>,
    /// As [`Manifest::health`].
    pub health: HealthView<'a>,
}

impl<'a> Decode<'a> for ManifestView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            model: reader.take()?,
            version: reader.take()?,
            counter: reader.take()?,
            min_release: reader.take()?,
            variants: List::read(reader, VARIANTS_MAX, |_| true)?,
            golden: reader.take()?,
            golden_mismatch_accepted: reader.option(Reader::take)?,
            attestations: List::read(reader, ATTESTATIONS_MAX, |_| true)?,
            hardware: List::read(reader, HARDWARE_MAX, |_| true)?,
            health: reader.take()?,
        })
    }
}

impl<'a> Decode<'a> for Manifest {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.take::<ManifestView<'_>>().map(Self::from)
    }
}

impl From<ManifestView<'_>> for Manifest {
    fn from(view: ManifestView<'_>) -> Self {
        Self {
            model: view.model.into(),
            version: view.version.into(),
            counter: view.counter,
            min_release: view.min_release,
            variants: view.variants.iter().collect(),
            golden: view.golden,
            golden_mismatch_accepted: view.golden_mismatch_accepted.map(Note::from),
            attestations: view.attestations.iter().collect(),
            hardware: view.hardware.iter().map(HardwareClass::from).collect(),
            health: view.health.into(),
        }
    }
}

/// A document about a release that travels beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Which kind of document.
    pub kind: AttestationKind,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// Kinds of documents; only ever added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AttestationKind {
    /// An OpenSSF Model Signing bundle, verified when the release was imported.
    ModelSigning,
    /// A CycloneDX bill of materials.
    BillOfMaterials,
}

/// One form of a release. A device takes the best that it can run ([`Manifest::best`]).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Which form.
    pub kind: VariantKind,
    /// The model file.
    pub model: Artifact,
    /// The golden vectors for it.
    pub golden: Artifact,
}

/// Which engine a variant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VariantKind {
    /// An ONNX file, run by tract on Linux.
    Onnx,
    /// A compiled int8 network for our own kernels, the same bytes on Linux and MCU.
    Qnn,
    /// An ONNX file whose int8 parts are compiled: run by tract, with our own kernels inside.
    Mixed,
}

/// Bytes with a digest, and how they are cut for the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// SHA-256 of all bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub bytes: u32,
    /// Length of every chunk but the last, in bytes.
    pub chunk_bytes: u32,
    /// SHA-256 of the chunk list: the SHA-256 of each chunk, 32 bytes each, in order.
    pub chunk_list: Digest,
}

/// How near a model's answers must come to its golden vectors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenRule {
    /// Largest absolute difference of any output value.
    pub abs_err_max: f32,
    /// Whether the largest output must be at the same place.
    pub same_top1: bool,
}

/// A manifest or one of its artifacts breaks a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// An artifact without bytes.
    #[error("an artifact is empty")]
    Empty,
    /// An artifact over the bound.
    #[error("an artifact has {0} bytes, at most {ARTIFACT_BYTES_MAX} are allowed")]
    TooLarge(u32),
    /// A chunk size outside its bounds.
    #[error("chunks of {0} bytes; allowed are {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}")]
    ChunkBytes(u32),
    /// More chunks than one list holds.
    #[error("{0} chunks, at most {CHUNKS_MAX} are allowed: use larger chunks")]
    TooManyChunks(u32),
    /// No form to run.
    #[error("no variant")]
    NoVariant,
    /// Two variants of one kind: which is meant?
    #[error("two variants of one kind")]
    TwiceTheKind,
    /// A floor above the release itself would refuse the release.
    #[error("min_release {min} is above the release's own counter {counter}")]
    FloorAboveCounter {
        /// The floor.
        min: Counter,
        /// The release's counter.
        counter: Counter,
    },
    /// Two documents of one kind: which counts?
    #[error("two attestations of one kind")]
    TwiceAttested,
    /// A tolerance that every answer or no answer meets.
    #[error("golden tolerance is not a finite number of at least 0")]
    Tolerance,
    /// A health policy or a reference that makes no sense.
    #[error("health: {0}")]
    Health(#[from] HealthError),
}

impl Artifact {
    /// Number of chunks.
    pub fn chunk_count(&self) -> u32 {
        self.bytes.div_ceil(self.chunk_bytes.max(1))
    }

    /// Length of chunk `index` in bytes, `None` past the end.
    pub fn chunk_len(&self, index: u32) -> Option<u32> {
        let start = self.chunk_bytes.checked_mul(index)?;
        (start < self.bytes).then(|| (self.bytes - start).min(self.chunk_bytes))
    }

    /// Length of the chunk list in bytes.
    pub fn chunk_list_bytes(&self) -> u32 {
        self.chunk_count() * 32
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ManifestError`] names the bound that is broken.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.bytes == 0 {
            return Err(ManifestError::Empty);
        }
        if self.bytes > ARTIFACT_BYTES_MAX {
            return Err(ManifestError::TooLarge(self.bytes));
        }
        if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&self.chunk_bytes) {
            return Err(ManifestError::ChunkBytes(self.chunk_bytes));
        }
        match self.chunk_count() {
            count if count as usize > CHUNKS_MAX => Err(ManifestError::TooManyChunks(count)),
            _ => Ok(()),
        }
    }
}

impl Manifest {
    /// Checks every bound, as every device will. Called at signing.
    ///
    /// # Errors
    /// [`ManifestError`] names the bound that is broken.
    pub fn check(&self) -> Result<(), ManifestError> {
        let mut buf = [0; MANIFEST_BYTES_MAX];
        // The largest there is fits (`tests/codec_largest.rs`), and what its types hold is sane.
        let bytes = codec::encode(self, &mut buf).expect("a manifest fits its bound");
        let view = codec::decode::<ManifestView<'_>>(bytes, MANIFEST_BYTES_MAX);
        view.expect("what was written is read").check()
    }

    /// Whether it is for hardware of this class. A device that does not say what it is takes
    /// only what is for any.
    pub fn is_for(&self, hardware: Option<&HardwareClass>) -> bool {
        self.hardware.is_empty() || hardware.is_some_and(|class| self.hardware.contains(class))
    }

    /// The variant of `kind`, if the release has it.
    pub fn variant(&self, kind: VariantKind) -> Option<&Variant> {
        self.variants.iter().find(|v| v.kind == kind)
    }

    /// The first of `forms`, which are what a device can run, the best one first.
    pub fn best(&self, forms: &[VariantKind]) -> Option<VariantKind> {
        forms.iter().copied().find(|kind| self.variant(*kind).is_some())
    }
}

impl<'a> ManifestView<'a> {
    /// The manifest in these bytes, every bound checked.
    #[inline(never)]
    pub(crate) fn checked(bytes: &'a [u8]) -> Result<Self, ReleaseError> {
        let manifest: Self = codec::decode(bytes, MANIFEST_BYTES_MAX)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks every bound: wherever a manifest is signed, and again wherever one is admitted.
    ///
    /// # Errors
    /// [`ManifestError`] names the bound that is broken.
    #[inline(never)]
    pub(crate) fn check(&self) -> Result<(), ManifestError> {
        if self.variants.is_empty() {
            return Err(ManifestError::NoVariant);
        }
        for (at, variant) in self.variants.iter().enumerate() {
            variant.model.check()?;
            variant.golden.check()?;
            if self.variants.iter().take(at).any(|v| v.kind == variant.kind) {
                return Err(ManifestError::TwiceTheKind);
            }
        }
        for (at, attestation) in self.attestations.iter().enumerate() {
            if self.attestations.iter().take(at).any(|a| a.kind == attestation.kind) {
                return Err(ManifestError::TwiceAttested);
            }
        }
        if self.min_release > self.counter {
            return Err(ManifestError::FloorAboveCounter {
                min: self.min_release,
                counter: self.counter,
            });
        }
        if !(self.golden.abs_err_max.is_finite() && self.golden.abs_err_max >= 0.0) {
            return Err(ManifestError::Tolerance);
        }
        Ok(self.health.check()?)
    }

    /// As [`Manifest::is_for`].
    pub(crate) fn is_for(&self, hardware: Option<&HardwareClass>) -> bool {
        let is_named = |class: &HardwareClass| self.hardware.iter().any(|named| named == *class);
        self.hardware.is_empty() || hardware.is_some_and(is_named)
    }

    /// As [`Manifest::variant`].
    pub fn variant(&self, kind: VariantKind) -> Option<Variant> {
        self.variants.iter().find(|v| v.kind == kind)
    }

    /// As [`Manifest::best`].
    pub(crate) fn best(&self, forms: &[VariantKind]) -> Option<VariantKind> {
        forms.iter().copied().find(|kind| self.variants.iter().any(|v| v.kind == *kind))
    }
}
