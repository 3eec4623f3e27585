//! Who makes a signature, and where the secret half of the key is.
//!
//! A key is named by a reference, so that scripts and people write the same thing:
//! `file:PATH` (or a bare path), `ssh-agent:FINGERPRINT-OR-COMMENT`, and
//! `pkcs11:token=T;object=O?module-path=LIB`. Behind [`Signer`] all of them are raw Ed25519
//! over exactly the bytes given; every signature is checked before it is handed out, because
//! a token that signs wrongly is found here and not on ten thousand devices.

mod age_file;
mod passphrase;
mod pkcs11;
mod plain_file;
mod ssh_agent;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::str::FromStr;

use ed25519_dalek::{Signature, VerifyingKey};
use fleetway_protocol::envelope::{self, Context, EnvelopeSignature, PublicKey};

pub use age_file::encrypt as age_encrypt;
pub use passphrase::Passphrase;
pub use plain_file::PlainFile;

use crate::ErrorKind;
use crate::keys::KeyFileError;

/// Signs with one key.
pub trait Signer {
    /// Its public half.
    fn public(&self) -> PublicKey;

    /// The raw Ed25519 signature over exactly `message`. Callers use [`sign`].
    ///
    /// # Errors
    /// [`SignerError`] if the secret half cannot be used.
    fn sign_raw(&self, message: &[u8]) -> Result<[u8; 64], SignerError>;

    /// Whether whoever reads this machine's disk has the key.
    fn is_development(&self) -> bool {
        false
    }
}

/// A signature over `message` that was seen to hold.
///
/// # Errors
/// [`SignerError`], also if the signature does not hold.
pub fn sign(signer: &dyn Signer, message: &[u8]) -> Result<[u8; 64], SignerError> {
    let raw = signer.sign_raw(message)?;
    let key = VerifyingKey::from_bytes(&signer.public().to_bytes());
    match key.map(|key| key.verify_strict(message, &Signature::from_bytes(&raw))) {
        Ok(Ok(())) => Ok(raw),
        _ => Err(SignerError::Wrong(signer.public().id().to_string())),
    }
}

/// A signature over the payload of an envelope.
///
/// # Errors
/// As for [`sign`].
pub fn sign_payload(
    signer: &dyn Signer,
    context: Context,
    payload: &[u8],
) -> Result<EnvelopeSignature, SignerError> {
    let raw = sign(signer, &envelope::message(context, payload))?;
    Ok(EnvelopeSignature::new(&signer.public(), &raw))
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRef {
    /// A file: encrypted by age, or a development key.
    File(PathBuf),
    /// In the running ssh-agent: by fingerprint or comment.
    SshAgent(String),
    /// On a token.
    Pkcs11 {
        /// Label of the token.
        token: String,
        /// Label of the key.
        object: String,
        /// The vendor's library.
        module: PathBuf,
    },
}

impl KeyRef {
    /// The signer that it names.
    ///
    /// # Errors
    /// [`SignerError`] says what is missing.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Box<dyn Signer>, SignerError> {
        match self {
            Self::File(path) if age_file::is_one(path)? => age_file::open(path, passphrase),
            Self::File(path) => Ok(Box::new(PlainFile::open(path)?)),
            Self::SshAgent(name) => ssh_agent::open(name),
            Self::Pkcs11 { token, object, module } => {
                pkcs11::open(module, token, object, passphrase)
            }
        }
    }
}

impl FromStr for KeyRef {
    type Err = SignerError;

    fn from_str(text: &str) -> Result<Self, SignerError> {
        let wrong = |why: &str| Err(SignerError::Reference(text.to_owned(), why.to_owned()));
        if let Some(name) = text.strip_prefix("ssh-agent:") {
            return match name {
                "" => wrong("name the key: `ssh-add -l` lists fingerprints and comments"),
                name => Ok(Self::SshAgent(name.to_owned())),
            };
        }
        if let Some(rest) = text.strip_prefix("pkcs11:") {
            let field = |name: &str| {
                rest.split([';', '?', '&'])
                    .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
            };
            return match (field("token"), field("object"), field("module-path")) {
                (Some(token), Some(object), Some(module)) => Ok(Self::Pkcs11 {
                    token: token.to_owned(),
                    object: object.to_owned(),
                    module: module.into(),
                }),
                _ => wrong("write pkcs11:token=TOKEN;object=KEY?module-path=/path/to/library.so"),
            };
        }
        match text.strip_prefix("file:").unwrap_or(text) {
            "" => wrong("name a file"),
            path => Ok(Self::File(path.into())),
        }
    }
}

/// Why a key does not sign.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// A reference that names nothing.
    #[error("{0:?} names no key; {1}")]
    Reference(String, String),
    /// A file of ours.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The passphrase does not open it.
    #[error("the passphrase does not open {0}; try again, and mind the keyboard's layout")]
    Passphrase(String),
    /// Nobody to ask.
    #[error(
        "{what} needs its passphrase and there is no terminal to ask on; use --passphrase-file FILE or FLEETWAY_PASSPHRASE_FILE"
    )]
    NoTerminal {
        /// For what.
        what: String,
    },
    /// The file with the passphrase.
    #[error("cannot read the passphrase from {}: {source}", path.display())]
    PassphraseFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// age's own.
    #[error("{what} cannot be used: {why}")]
    Age {
        /// Which file.
        what: String,
        /// Why.
        why: String,
    },
    /// The agent.
    #[error("ssh-agent: {0}")]
    SshAgent(String),
    /// The token.
    #[error("pkcs11: {0}")]
    Pkcs11(String),
    /// A signature that does not hold.
    #[error(
        "the signature of key {0} does not hold; the token or the file is broken, nothing was signed"
    )]
    Wrong(String),
}

impl SignerError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference(..) | Self::NoTerminal { .. } => ErrorKind::Usage,
            Self::File(error) => error.kind(),
            Self::Passphrase(_) | Self::Wrong(_) | Self::Age { .. } => ErrorKind::Trust,
            Self::PassphraseFile { .. } => ErrorKind::NotFound,
            Self::SshAgent(_) | Self::Pkcs11(_) => ErrorKind::Unavailable,
        }
    }
}
