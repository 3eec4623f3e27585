//! Container registries, as far as models need them: pull and push of one artifact over the OCI
//! distribution protocol 1.1.
//!
//! A client of our own over the HTTP that is here already: what others offer brings a second HTTP stack
//! and reads manifests of any size. Every answer has a bound and a deadline; every blob is checked against
//! its digest. TLS by the system's certificates (`SSL_CERT_FILE` is obeyed); plain HTTP on loopback only, as
//! other tools do.
//!
//! Read in this order: [`mod@reference`], what is asked for; [`client`], pull and push; [`auth`], who asks;
//! [`wire`], one request.

pub mod auth;
pub mod client;
pub mod reference;
#[cfg(test)]
mod tests;
mod wire;

pub use client::Registry;
pub use reference::Reference;

use crate::ErrorKind;
use crate::catalog::oci::OciError;

/// Why nothing was pulled or pushed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A name that is none.
    #[error("{text:?} is no artifact in a registry: {why}; write oci://HOST/REPOSITORY:TAG")]
    Reference {
        /// As typed.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// No answer.
    #[error(
        "{host} does not answer ({why}); check the name, the network and the registry's certificate"
    )]
    Unreachable {
        /// Which host.
        host: String,
        /// Why.
        why: String,
    },
    /// An answer that says no.
    #[error("{host} says {status} to {doing}{said}; {mend}")]
    Status {
        /// Which host.
        host: String,
        /// The status.
        status: u16,
        /// What was asked.
        doing: String,
        /// What it said, with a colon before it.
        said: String,
        /// What helps.
        mend: &'static str,
    },
    /// An answer that makes no sense.
    #[error(
        "{host} does not speak the distribution protocol: {why}; is there a registry at this address?"
    )]
    Protocol {
        /// Which host.
        host: String,
        /// What was wrong.
        why: String,
    },
    /// What it sent.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Credentials that cannot be used.
    #[error("{path}: {why}")]
    Credentials {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
}

impl RegistryError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference { .. } | Self::Credentials { .. } => ErrorKind::Usage,
            Self::Status { status: 404, .. } => ErrorKind::NotFound,
            Self::Status { status: 401 | 403, .. } => ErrorKind::Trust,
            Self::Unreachable { .. } | Self::Status { .. } | Self::Protocol { .. } => {
                ErrorKind::Unavailable
            }
            Self::Oci(error) => error.kind(),
        }
    }
}
