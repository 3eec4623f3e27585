//! Why the catalog did not do what it was asked.

use std::path::PathBuf;

use fleetway_engine::golden::GoldenError;
use fleetway_engine::selftest::SelfTestError;
use fleetway_protocol::ids::{Counter, ModelName, Version};
use fleetway_protocol::manifest::ManifestError;

use crate::ErrorKind;
use crate::attest::BundleError;

/// Why the catalog did not do what it was asked. Nothing half-done is left behind.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The version is there already.
    #[error("{model} {version} is in the catalog already; import it under another version, or remove {} first", dir.display())]
    Exists {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
        /// Where it is.
        dir: PathBuf,
    },
    /// There is no such release.
    #[error("no {model} {version} in the catalog; see `fleetway model list`, or import it")]
    NotFound {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
    },
    /// The counter is not above the others.
    #[error(
        "counter {counter} is taken or passed: {model} is at {highest}; use {next} or leave it out"
    )]
    Counter {
        /// The model.
        model: ModelName,
        /// As asked for.
        counter: Counter,
        /// The highest one known.
        highest: Counter,
        /// The next free one.
        next: Counter,
    },
    /// A file is larger than allowed.
    #[error("{} has {bytes} bytes, at most {max} are allowed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// A Model Signing bundle, or its key, that does not vouch for the model.
    #[error("not imported: {} {source}", path.display())]
    Attestation {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BundleError,
    },
    /// A directory to write to that has something in it.
    #[error("{} is there and not empty; name a new directory", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// The reference samples cannot be used.
    #[error("not imported: reference {}: {detail}; save inputs as the application sends them, as in.<input> with numpy.savez", path.display())]
    Reference {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// Something is to be watched without a reference.
    #[error("not imported: {detail}; give the reference samples with --reference FILE.npz")]
    NoReference {
        /// What.
        detail: String,
    },
    /// The golden vectors do not read.
    #[error("golden vectors in {}: {source}", path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GoldenError,
    },
    /// The model answers otherwise than its golden vectors say.
    #[error(
        "not imported: {figures}; correct the model or its vectors, or accept it with a reason (--accept-golden-mismatch)"
    )]
    Mismatch {
        /// The check in one sentence.
        figures: String,
    },
    /// The model failed its self-test.
    #[error("not imported: {source}")]
    SelfTest {
        /// How.
        source: SelfTestError,
    },
    /// A release for microcontrollers that have no room for it.
    #[error(
        "{model} {version} {how}; make the model smaller, leave the class out of --hardware, or correct its [hardware] section in fleetway.toml if the board has more"
    )]
    Unfit {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
        /// By class.
        how: String,
    },
    /// The manifest would break a bound.
    #[error("not imported: {0}")]
    Manifest(#[from] ManifestError),
    /// What is on the disk is not what was imported.
    #[error("{} is damaged: {detail}; remove the directory and import the version again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        detail: String,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}; check the path, the disk and the permissions", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// More signatures than an envelope holds, or a manifest that does not encode.
    #[error("{what} does not fit its bound of {max} bytes")]
    Encode {
        /// What.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The key did not sign.
    #[error(transparent)]
    Signer(#[from] crate::trust::signer::SignerError),
    /// The envelope is full.
    #[error(
        "{model} {version} carries as many signatures as it may; import it again to start over"
    )]
    TooManySignatures {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
    },
}

impl CatalogError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } | Self::Counter { .. } | Self::TooManySignatures { .. } => {
                ErrorKind::Conflict
            }
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Unfit { .. } => ErrorKind::Usage,
            Self::TooLarge { .. } | Self::Golden { .. } | Self::Manifest(_) => ErrorKind::Usage,
            Self::Reference { .. } | Self::NoReference { .. } => ErrorKind::Usage,
            Self::NotEmpty { .. } => ErrorKind::Conflict,
            Self::Attestation { source: BundleError::Key, .. } => ErrorKind::Usage,
            Self::Mismatch { .. } | Self::Damaged { .. } | Self::Attestation { .. } => {
                ErrorKind::Trust
            }
            Self::SelfTest { source } if source.is_verdict() => ErrorKind::Trust,
            Self::SelfTest { .. } => ErrorKind::Unavailable,
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Encode { .. } => ErrorKind::Internal,
            Self::Signer(error) => error.kind(),
        }
    }
}
