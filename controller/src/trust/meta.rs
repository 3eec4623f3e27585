//! One metadata file: what it says, and whose signatures on it hold.

use fleetway_protocol::envelope::PublicKey;
use fleetway_tuf::key::Key;
use fleetway_tuf::roles::{self, Head, Pins, Root, Signature, Signed, Targets};
use serde::{Deserialize, Serialize};

use super::{NAME_FIELD, TrustError};

/// A kind of metadata.
pub trait Role: Serialize + for<'de> Deserialize<'de> + Clone {
    /// What it says of itself.
    fn head(&self) -> &Head;
    /// The same, to change it.
    fn head_mut(&mut self) -> &mut Head;
}

macro_rules! role {
    ($($kind:ty),*) => {$(
        impl Role for $kind {
            fn head(&self) -> &Head {
                &self.head
            }
            fn head_mut(&mut self) -> &mut Head {
                &mut self.head
            }
        }
    )*};
}
role!(Root, Targets, Pins);

/// A file.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta<T> {
    /// What it says.
    pub role: T,
    signed: Signed,
    signatures: Vec<Signature>,
}

impl<T: Role> Meta<T> {
    /// A file without signatures.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn new(role: T) -> Result<Self, TrustError> {
        let signed = Signed::new(&role)?;
        Ok(Self { role, signed, signatures: Vec::new() })
    }

    /// Reads a file; its signatures are not checked.
    ///
    /// # Errors
    /// The reader's, in words.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let (role, signed, signatures) = roles::read(bytes).map_err(|error| error.to_string())?;
        Ok(Self { role, signed, signatures })
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        roles::file(&self.signed, &self.signatures)
    }

    /// What every signature covers.
    pub fn message(&self) -> Vec<u8> {
        self.signed.bytes()
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.role.head().version
    }

    /// When it expires, Unix seconds.
    pub fn expires_s(&self) -> u64 {
        self.role.head().expires_s().unwrap_or(0)
    }

    /// Whether `key` signed it.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let id = key_id(key);
        self.signatures
            .iter()
            .any(|made| made.keyid == id && holds(key, &self.message(), &made.sig))
    }

    /// Adds a signature that was checked; an earlier one by the same key goes.
    pub fn add(&mut self, key: &PublicKey, raw: &[u8; 64]) {
        let keyid = key_id(key);
        self.signatures.retain(|made| made.keyid != keyid);
        self.signatures.push(Signature { keyid, sig: data_encoding::HEXLOWER.encode(raw) });
        self.signatures.sort();
    }
}

/// Whether `sig` (hexadecimal) is a signature of `key` over `message`.
pub(super) fn holds(key: &PublicKey, message: &[u8], sig: &str) -> bool {
    let raw = data_encoding::HEXLOWER.decode(sig.as_bytes()).ok();
    let Some(raw) = raw.and_then(|raw| <[u8; 64]>::try_from(raw).ok()) else { return false };
    let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&key.to_bytes()) else { return false };
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&raw)).is_ok()
}

/// The id that TUF gives a key.
pub fn key_id(key: &PublicKey) -> String {
    Key::new(&key.to_bytes()).id()
}

/// A key as it stands in a file, with its name.
pub fn named(key: &PublicKey, name: &str) -> Key {
    let mut written = Key::new(&key.to_bytes());
    written.extra.insert(NAME_FIELD.to_owned(), name.into());
    written
}

/// What a key is called: its name, else the beginning of its id.
pub fn name_of(key: &Key) -> String {
    let name = key.extra.get(NAME_FIELD).and_then(|name| name.as_str());
    name.map_or_else(|| key.id().chars().take(12).collect(), str::to_owned)
}
