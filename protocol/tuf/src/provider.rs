//! Signatures and hashes for `sigstore-crypto`: Ed25519 by `verify_strict`, SHA-2, nothing else.
//!
//! The strict check refuses weak keys and points of mixed order, exactly as
//! `fleetway_protocol::envelope` does: what one verifier of ours takes, all take. A key of another
//! kind in a file is no error of the file; its signatures just do not count.

use std::sync::Once;

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::Digest as _;
use sigstore_crypto::{CryptoProvider, Error, HashContext, Result, SigningScheme};
use sigstore_types::HashAlgorithm;

/// The provider. See the module page.
#[derive(Clone, Copy, Debug)]
pub struct Strict;

/// Makes [`Strict`] the provider of this process; further calls do nothing.
///
/// Everything in this crate calls it first. A program that installed another one before (the
/// conformance adapter, which has to know ECDSA) keeps that one.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if sigstore_crypto::install_default_provider(&Strict).is_err() {
            tracing::debug!("this process has another crypto provider already");
        }
    });
}

impl CryptoProvider for Strict {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>> {
        Ok(match algorithm {
            HashAlgorithm::Sha2256 => Box::new(Hash(sha2::Sha256::new())),
            HashAlgorithm::Sha2384 => Box::new(Hash(sha2::Sha384::new())),
            HashAlgorithm::Sha2512 => Box::new(Hash(sha2::Sha512::new())),
            other => return Err(Error::UnsupportedAlgorithm(format!("{other:?}"))),
        })
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> Result<()> {
        if scheme != SigningScheme::Ed25519 {
            let text = format!("{} is not used here, only ed25519", scheme.name());
            return Err(Error::UnsupportedAlgorithm(text));
        }
        let key = verifying_key(key).map_err(|text| Error::InvalidKey(text.to_owned()))?;
        let signature = Signature::from_slice(signature)
            .map_err(|_| Error::Verification("an ed25519 signature has 64 bytes".to_owned()))?;
        key.verify_strict(data, &signature)
            .map_err(|_| Error::Verification("the signature does not hold".to_owned()))
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        _key: &[u8],
        _digest: &[u8],
        _signature: &[u8],
    ) -> Result<()> {
        let text = format!("{} over a digest is not used here", scheme.name());
        Err(Error::UnsupportedAlgorithm(text))
    }
}

/// An Ed25519 key that is safe to believe.
pub(crate) fn verifying_key(bytes: &[u8]) -> std::result::Result<VerifyingKey, &'static str> {
    let bytes = <&[u8; 32]>::try_from(bytes).map_err(|_| "an ed25519 key has 32 bytes")?;
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| "not a point of the curve")?;
    if key.is_weak() {
        return Err("a weak key: anybody can sign for it");
    }
    Ok(key)
}

struct Hash<D>(D);

impl<D: sha2::Digest + Send> HashContext for Hash<D> {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    fn verify(scheme: SigningScheme, key: &[u8], data: &[u8], signature: &[u8]) -> Result<()> {
        Strict.verify_raw(scheme, key, data, signature)
    }

    #[test]
    fn an_honest_signature_holds_and_nothing_else_does() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key().to_bytes();
        let signature = key.sign(b"metadata").to_bytes();
        let ed = SigningScheme::Ed25519;
        assert!(verify(ed, &public, b"metadata", &signature).is_ok());
        assert!(verify(ed, &public, b"Metadata", &signature).is_err());
        assert!(verify(ed, &public[..31], b"metadata", &signature).is_err());
        assert!(verify(ed, &public, b"metadata", &signature[..63]).is_err());
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        assert!(verify(ed, &other, b"metadata", &signature).is_err());
        for scheme in [SigningScheme::EcdsaP256Sha256, SigningScheme::RsaPssSha256] {
            let refused = verify(scheme, &public, b"metadata", &signature);
            assert!(matches!(refused, Err(Error::UnsupportedAlgorithm(_))), "{scheme:?}");
        }
        let digest = [0; 32];
        assert!(Strict.verify_prehashed(ed, &public, &digest, &signature).is_err());
    }

    #[test]
    fn a_weak_key_signs_nothing() {
        // The neutral element: R = identity and s = 0 hold for it under the loose check.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert_eq!(verifying_key(&identity), Err("a weak key: anybody can sign for it"));
        let refused = verify(SigningScheme::Ed25519, &identity, b"x", &signature);
        assert!(matches!(refused, Err(Error::InvalidKey(_))), "{refused:?}");
    }

    #[test]
    fn hashes_are_those_of_the_standard() {
        install();
        install();
        let hex = |algorithm| {
            let mut hash = Strict.hash(algorithm).expect("known");
            hash.update(b"ab");
            hash.update(b"c");
            hash.finalize().iter().take(4).map(|b| format!("{b:02x}")).collect::<String>()
        };
        assert_eq!(hex(HashAlgorithm::Sha2256), "ba7816bf");
        assert_eq!(hex(HashAlgorithm::Sha2384), "cb00753f");
        assert_eq!(hex(HashAlgorithm::Sha2512), "ddaf35a1");
    }
}
