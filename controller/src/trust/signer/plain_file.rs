//! Development keys and the server's own online keys: in a file, readable by whoever reads
//! the disk. Nothing here stops a thief, which `trust status` says until they are replaced.

use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey};
use fleetway_protocol::envelope::PublicKey;

use super::{Signer, SignerError};
use crate::keys;

/// A key whose secret half is in memory.
pub struct PlainFile(SigningKey);

impl PlainFile {
    /// The key in a file of `keys`.
    ///
    /// # Errors
    /// The file's.
    pub fn open(path: &Path) -> Result<Self, SignerError> {
        Ok(Self(keys::load(path)?))
    }
}

impl From<SigningKey> for PlainFile {
    fn from(key: SigningKey) -> Self {
        Self(key)
    }
}

impl Signer for PlainFile {
    fn public(&self) -> PublicKey {
        PublicKey::of(&self.0)
    }

    fn sign_raw(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        Ok(self.0.sign(message).to_bytes())
    }

    fn is_development(&self) -> bool {
        true
    }
}
