//! Why the release authority gives no answer, by the check that failed.

use std::io;

use sigstore_tuf::Error;

/// Why there is no answer. Each is one of the checks that a device counts ([`Self::check`]).
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Nothing is wrong, a file is missing.
    #[error("the file {0} of the release authority has not arrived")]
    Needs(String),
    /// Larger or deeper than allowed. It was not parsed.
    #[error("{0}")]
    Size(String),
    /// Too few good signatures.
    #[error("{0}")]
    Signature(String),
    /// A version that was surpassed already, or not the next one.
    #[error("{0}")]
    Version(String),
    /// Past its time.
    #[error("the release authority's {role} expired at {expires}; it must be signed again")]
    Expired {
        /// Which file.
        role: String,
        /// When.
        expires: jiff::Timestamp,
    },
    /// Not metadata, or not the file that another one pins.
    #[error("{0}")]
    Content(String),
    /// The release authority does not list it.
    #[error("{0}")]
    NotATarget(String),
    /// The disk failed.
    #[error("the metadata could not be stored: {0}")]
    Disk(#[from] io::Error),
}

impl TrustError {
    /// Name of the check, for counters.
    pub fn check(&self) -> &'static str {
        match self {
            Self::Needs(_) => "trust missing",
            Self::Size(_) => "trust size",
            Self::Signature(_) => "trust signature",
            Self::Version(_) => "trust version",
            Self::Expired { .. } => "trust expired",
            Self::Content(_) => "trust content",
            Self::NotATarget(_) => "not a target",
            Self::Disk(_) => "trust disk",
        }
    }

    pub(crate) fn of(file: Option<&str>, error: Error) -> Self {
        let text = match file {
            Some(file) => format!("{file}: {error}"),
            None => error.to_string(),
        };
        match error {
            Error::Expired { role, expires } => Self::Expired { role, expires },
            Error::Rollback { .. } | Error::BadRootVersion { .. } | Error::EqualVersion { .. } => {
                Self::Version(text)
            }
            Error::ThresholdNotMet { .. } | Error::DuplicateSignature { .. } => {
                Self::Signature(text)
            }
            _ => Self::Content(text),
        }
    }
}
