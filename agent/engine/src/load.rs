//! From verified bytes to an engine: which engine runs which form of a release, and why one was not
//! loaded.

use crate::bytes::ModelBytes;
use crate::engine::Engine;
use crate::qnn::QnnEngine;
#[cfg(feature = "tract")]
use crate::tract::TractEngine;
#[cfg(feature = "tract")]
use crate::validate::Refused;
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::trust::VerifiedArtifact;
use std::sync::Arc;

/// The forms of a release that this build runs, the best one first: our own kernels are an order of
/// magnitude faster than tract on an int8 network, and a mixed file is as fast as its int8 parts.
#[cfg(feature = "tract")]
pub const FORMS: &[VariantKind] = &[VariantKind::Qnn, VariantKind::Mixed, VariantKind::Onnx];
/// The forms of a release that this build runs.
#[cfg(not(feature = "tract"))]
pub const FORMS: &[VariantKind] = &[VariantKind::Qnn];

/// Why a model could not be loaded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// The validator refused it.
    #[cfg(feature = "tract")]
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The engine refused it: an unsupported form of an operator, shapes that do not fit, a file
    /// that is none of its own.
    #[error("{engine} cannot load the model: {detail}")]
    Engine {
        /// Name of the engine.
        engine: &'static str,
        /// What it says.
        detail: String,
    },
    /// The engine panicked.
    #[error("the engine panicked while loading the model: {0}")]
    Panicked(String),
    /// An activation is larger than [`TENSOR_ELEMENTS_MAX`](crate::limits::TENSOR_ELEMENTS_MAX).
    #[error(
        "node `{node}` makes a tensor of {shape}, more than {} elements: use smaller inputs or pads",
        crate::limits::TENSOR_ELEMENTS_MAX
    )]
    TooLarge {
        /// Name of the node.
        node: String,
        /// Shape that it makes.
        shape: String,
    },
    /// An input or output whose shape depends on data, or whose type this engine does not carry.
    #[error(
        "`{name}` is {detail}; inputs and outputs need a fixed shape and a plain type: export with fixed sizes"
    )]
    Interface {
        /// Name of the input or output.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// A form that this build has no engine for.
    #[error("this build runs no {0:?} models: use the agent that is built with tract")]
    NotBuilt(VariantKind),
    /// The bytes at hand are not those that were verified: a bug of the caller.
    #[error("the bytes are not the ones that were verified")]
    OtherBytes,
}

/// Loads a model that was signed, ordered for this device, and arrived whole. There is no other way
/// in: only the self-test's child parses bytes without this proof. `artifact` is the proof for
/// exactly `bytes`.
///
/// # Errors
/// [`LoadError`].
pub fn load(
    kind: VariantKind,
    artifact: &VerifiedArtifact<'_>,
    bytes: ModelBytes,
) -> Result<Arc<dyn Engine>, LoadError> {
    if !std::ptr::eq(artifact.bytes(), &*bytes) {
        return Err(LoadError::OtherBytes);
    }
    parse(kind, bytes)
}

/// Parses bytes that carry no proof of where they come from. Only the self-test's child may call
/// this in a shipped program: there the proof was checked by the parent, and the bytes came through
/// a pipe from it.
pub(crate) fn parse(kind: VariantKind, bytes: ModelBytes) -> Result<Arc<dyn Engine>, LoadError> {
    match kind {
        VariantKind::Qnn => Ok(Arc::new(QnnEngine::parse(bytes)?)),
        #[cfg(feature = "tract")]
        VariantKind::Onnx | VariantKind::Mixed => Ok(Arc::new(TractEngine::parse(&bytes)?)),
        #[cfg(not(feature = "tract"))]
        other => Err(LoadError::NotBuilt(other)),
    }
}
