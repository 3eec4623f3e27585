//! Releases as the API shows them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::InUseView;

/// A release as it appears beside other things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReleaseRef {
    /// Digest of its manifest.
    pub(crate) digest: String,
    /// What people call it, if the controller knows it.
    pub(crate) version: Option<String>,
}

impl ReleaseRef {
    /// Short text for a table.
    pub(crate) fn text(&self) -> String {
        match &self.version {
            Some(version) => version.clone(),
            None => self.digest.chars().take(12).collect(),
        }
    }
}

/// A release; `GET /v1/models` is a list of these.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReleaseView {
    /// Which model.
    pub(crate) model: String,
    /// What people call it.
    pub(crate) version: String,
    /// Its place in the order of releases.
    pub(crate) counter: u64,
    /// The floor that it brings once confirmed.
    pub(crate) min_release: u64,
    /// Digest of its manifest.
    pub(crate) digest: String,
    /// `draft`, `signed` or `published`.
    pub(crate) state: String,
    /// Ids of the keys that signed it.
    pub(crate) signers: Vec<String>,
    /// Why it was imported although its golden vectors did not match, if so.
    pub(crate) golden_mismatch_accepted: Option<String>,
    /// Largest difference to a golden output that is tolerated.
    pub(crate) golden_abs_err_max: f32,
    /// What healthy means for it, one sentence each.
    pub(crate) health: Vec<String>,
    /// What its scores are taken for: `probabilities` or `logits`.
    pub(crate) scores: Option<String>,
    /// How it does on the devices that run it.
    pub(crate) in_use: Option<InUseView>,
    /// Its forms.
    pub(crate) variants: Vec<VariantView>,
}

/// One form of a release.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct VariantView {
    /// `onnx` or `qnn`.
    pub(crate) kind: String,
    /// The model file.
    pub(crate) artifact: ArtifactView,
    /// Its golden vectors.
    pub(crate) golden: ArtifactView,
}

/// Some bytes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ArtifactView {
    /// SHA-256.
    pub(crate) digest: String,
    /// How many.
    pub(crate) bytes: u32,
    /// Pieces that travel.
    pub(crate) chunks: u32,
    /// Size of a piece.
    pub(crate) chunk_bytes: u32,
}

/// Answer to `PUT /v1/blobs/{digest}`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BlobView {
    /// How many bytes were stored.
    pub(crate) bytes: u64,
}

/// `GET /v1/known-bad` is a list of these: a release that turned out bad on a class of hardware.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct KnownBadView {
    /// The model, if the release is still there.
    pub(crate) model: Option<String>,
    /// Which release.
    pub(crate) release: ReleaseRef,
    /// On which hardware.
    pub(crate) hardware: String,
    /// The rollout that found out.
    pub(crate) rollout: u64,
    /// When, Unix seconds.
    pub(crate) since_s: u64,
    /// A sentence.
    pub(crate) why: String,
    /// When an operator lifted it, Unix seconds: other rollouts may offer it again.
    pub(crate) lifted_s: Option<u64>,
}

/// `POST /v1/known-bad/lift`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct KnownBadLift {
    /// The release.
    pub(crate) model: String,
    /// The release.
    pub(crate) version: String,
    /// On which hardware.
    pub(crate) class: String,
    /// Why it may be offered again.
    pub(crate) reason: String,
}
