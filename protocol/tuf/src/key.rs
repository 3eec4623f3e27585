//! A public key as TUF metadata names it, and its id.

use std::collections::BTreeMap;

use fleetway_protocol::envelope::PublicKey;
use fleetway_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::json::canonical;

/// Keytype and scheme of every key of ours.
pub const ED25519: &str = "ed25519";

/// A public key as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `ed25519`.
    pub keytype: String,
    /// `ed25519`.
    pub scheme: String,
    /// The key itself.
    pub keyval: KeyVal,
    /// What else its author wrote, such as whose it is; kept, and not part of its id.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyVal {
    /// 32 bytes in hexadecimal.
    pub public: String,
}

/// A key in a file is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// RSA, ECDSA or something newer.
    #[error("the key is of type {0}; only ed25519 is used here")]
    Kind(String),
    /// Not 32 bytes of a good point in hexadecimal.
    #[error("not an ed25519 public key: {0}")]
    Bytes(&'static str),
}

impl Key {
    /// The key as TUF writes it.
    pub fn new(public: &[u8; 32]) -> Self {
        Self {
            keytype: ED25519.to_owned(),
            scheme: ED25519.to_owned(),
            keyval: KeyVal { public: Digest(*public).to_string() },
            extra: BTreeMap::new(),
        }
    }

    /// Its id: SHA-256 over the canonical form of kind and value, in hexadecimal, as
    /// `securesystemslib` makes it.
    pub fn id(&self) -> String {
        let Self { keytype, scheme, keyval, .. } = self;
        let value = json!({
            "keytype": keytype, "scheme": scheme, "keyval": { "public": keyval.public }
        });
        let bytes = canonical(&value).expect("three strings have a canonical form");
        Digest::of(&bytes).to_string()
    }

    /// The key to verify with.
    ///
    /// # Errors
    /// [`KeyError`] if it is of another kind, or weak.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        if (self.keytype.as_str(), self.scheme.as_str()) != (ED25519, ED25519) {
            return Err(KeyError::Kind(format!("{}/{}", self.keytype, self.scheme)));
        }
        let form = KeyError::Bytes("32 bytes in lower-case hexadecimal are needed");
        // A digest and a key are both 32 bytes in hexadecimal.
        let Digest(bytes) = self.keyval.public.parse().map_err(|_| form)?;
        crate::provider::verifying_key(&bytes).map_err(KeyError::Bytes)?;
        PublicKey::new(bytes).map_err(|_| KeyError::Bytes("not a point of the curve"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_that_of_securesystemslib() {
        // securesystemslib 1.4.0: SSlibKey.from_crypto(<seed 07 * 32>).keyid
        let seed = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let mut key = Key::new(&seed.verifying_key().to_bytes());
        let id = "bfe1a83869e5bf574e3ff3acbb83f840de84a990d10059f3096f0bf4f2b90c10";
        assert_eq!(key.id(), id);
        key.extra.insert("x-owner".into(), "Ada".into());
        assert_eq!(key.id(), id);
        assert!(key.public().is_ok());
    }

    #[test]
    fn keys_of_another_kind_and_weak_ones_are_named() {
        let mut rsa = Key::new(&[9; 32]);
        rsa.scheme = "rsassa-pss-sha256".into();
        assert_eq!(rsa.public(), Err(KeyError::Kind("ed25519/rsassa-pss-sha256".into())));
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(matches!(Key::new(&identity).public(), Err(KeyError::Bytes(_))));
        let mut short = Key::new(&[9; 32]);
        short.keyval.public.pop();
        assert!(matches!(short.public(), Err(KeyError::Bytes(_))));
    }
}
