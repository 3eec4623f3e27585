//! Why something is not staged, not signed or not published; what was there stays as it was.

use std::path::PathBuf;

use fleetway_protocol::keyset::KeysetError;
use fleetway_tuf::json::JsonError;
use fleetway_tuf::roles::TimeError;

use super::signer::SignerError;
use crate::ErrorKind;

/// See the module page.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// `trust init` twice.
    #[error("there is a trust directory already; change keys with `fleetway key rotate`")]
    Exists,
    /// Nothing yet.
    #[error("there is no trust directory here; make one with `fleetway trust init`")]
    None,
    /// Keys and thresholds that make no authority.
    #[error("{what}: {why}")]
    Setup {
        /// Whose.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A name that no key has.
    #[error("no key is called {0:?}; `fleetway key list` shows all")]
    NoKey(String),
    /// A key that may not do this.
    #[error(
        "key {key} may sign {scope}, not {what}; use a key that may, or `fleetway trust delegate`"
    )]
    Foreign {
        /// Its name.
        key: String,
        /// What was asked.
        what: String,
        /// What it may.
        scope: String,
    },
    /// A key with nothing to sign.
    #[error(
        "key {0} is not asked for any signature; `fleetway trust status` says whose are missing"
    )]
    NotNeeded(String),
    /// A signature that does not hold.
    #[error("the signature of {key} on {file} does not hold: {why}")]
    Signature {
        /// Whose.
        key: String,
        /// On what.
        file: String,
        /// Why.
        why: &'static str,
    },
    /// Too few signatures.
    #[error(
        "not published: {0}; collect them with `fleetway trust sign` and `fleetway trust add-signature`"
    )]
    Missing(String),
    /// Nothing to publish.
    #[error("nothing is staged; `fleetway trust status` shows what is in force")]
    Nothing,
    /// It waited too long.
    #[error(
        "{file} has expired while it waited; drop it with `fleetway trust unstage` and stage the change again"
    )]
    Expired {
        /// Which.
        file: String,
    },
    /// A file of the directory.
    #[error("{} is damaged: {detail}; restore trust/ from your backup", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        detail: String,
    },
    /// A file from elsewhere.
    #[error("{what} cannot be used: {why}")]
    Input {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
    /// The disk.
    #[error("cannot {doing} {}; check the disk and the permissions", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The keyset's own check.
    #[error(transparent)]
    Keyset(#[from] KeysetError),
    /// A signer.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A time beyond all times.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// A number with a fraction.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// What would be published is not what a device would take.
    #[error("not published, because a device would refuse it: {0}")]
    Refused(String),
    /// What came from another place is not what a device would believe.
    #[error("not imported, because a device would not believe it: {0}")]
    Disbelieved(String),
}

impl TrustError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists | Self::Nothing | Self::Expired { .. } => ErrorKind::Conflict,
            Self::None | Self::NoKey(_) => ErrorKind::NotFound,
            Self::Setup { .. } | Self::Input { .. } | Self::Time(_) | Self::Json(_) => {
                ErrorKind::Usage
            }
            Self::Foreign { .. }
            | Self::NotNeeded(_)
            | Self::Signature { .. }
            | Self::Missing(_)
            | Self::Keyset(_)
            | Self::Damaged { .. }
            | Self::Refused(_)
            | Self::Disbelieved(_) => ErrorKind::Trust,
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Signer(error) => error.kind(),
        }
    }
}
