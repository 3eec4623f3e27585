//! A device's public key: what it enrolled, what its certificates are for, and what proves
//! that it is back. ECDSA P-256 for the reasons on the page above; a device behind a gateway has
//! no certificate and reports with Ed25519, which a microcontroller can do.

use std::fmt;

use fleetway_protocol::envelope::PublicKey;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::signed::Algorithm;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use rcgen::{CertificateSigningRequestParams, PublicKeyData, SignatureAlgorithm};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// A device's public key: an ECDSA P-256 point (65 bytes), or an Ed25519 key that is not weak
/// (32 bytes), and nothing else is one.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceKey(Vec<u8>);

impl DeviceKey {
    /// From the inventory.
    pub fn from_record(bytes: &[u8]) -> Option<Self> {
        match <[u8; 32]>::try_from(bytes) {
            Ok(bytes) => Self::from_ed25519(bytes),
            Err(_) => Self::from_point(bytes),
        }
    }

    /// An Ed25519 key: never one of a certificate.
    pub fn from_ed25519(bytes: [u8; 32]) -> Option<Self> {
        PublicKey::new(bytes).ok().map(|_| Self(bytes.to_vec()))
    }

    /// From a point as the inventory keeps it (SEC 1, uncompressed).
    pub fn from_point(point: &[u8]) -> Option<Self> {
        VerifyingKey::from_sec1_bytes(point).ok().map(|_| Self(point.to_vec()))
    }

    /// The key of a certificate request (PEM) whose own signature holds.
    ///
    /// Only the key is taken from the request: a device does not choose its name, its role or
    /// what its key may be used for.
    pub fn from_request(request_pem: &str) -> Option<Self> {
        let request = CertificateSigningRequestParams::from_pem(request_pem).ok()?;
        let is_p256 = request.public_key.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256;
        is_p256.then(|| Self::from_point(request.public_key.der_bytes())).flatten()
    }

    /// The point, or the 32 bytes, for the inventory.
    pub fn point(&self) -> &[u8] {
        &self.0
    }

    /// What a certificate's key is compared by.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// Whether this key signed `message` (signature in DER).
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = VerifyingKey::from_sec1_bytes(&self.0);
        let signature = DerSignature::from_bytes(signature);
        matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
    }
}

impl DeviceKey {
    fn ed25519(&self) -> Option<PublicKey> {
        PublicKey::new(self.0.as_slice().try_into().ok()?).ok()
    }

    /// How reports are signed with it.
    pub fn algorithm(&self) -> Algorithm {
        match self.ed25519() {
            Some(_) => Algorithm::Ed25519,
            None => Algorithm::EcdsaP256,
        }
    }

    /// Whether this key signed the `message` of a report (64 bytes: `r || s`, or Ed25519's). P-256
    /// by ring, the quickest in the graph: reports come by the thousand. Ed25519 by the one strict
    /// check that orders and releases have.
    pub fn verifies_report(&self, message: &[u8; 64], signature: &[u8]) -> bool {
        if let Some(key) = self.ed25519() {
            return key.verifies_raw(message, signature);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({:?})", self.digest())
    }
}

impl PublicKeyData for DeviceKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn requests_with_other_keys_or_broken_signatures_are_refused() {
        let of = |key: &KeyPair| {
            CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
        };
        let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let good = of(&KeyPair::generate().unwrap());
        assert!(DeviceKey::from_request(&good).is_some());
        let body = good.lines().nth(1).unwrap();
        let other = body.chars().rev().collect::<String>();
        let empty =
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        for bad in [&of(&ed), &of(&p384), &good.replace(body, &other), empty, ""] {
            assert_eq!(DeviceKey::from_request(bad), None, "{bad}");
        }
        // A bit of its own signature flipped: the last line before the end holds it.
        let lines: Vec<&str> = good.lines().collect();
        let last = lines[lines.len() - 2];
        let at = good.rfind(last).unwrap() + 1;
        let mut forged = good.clone();
        let wrong = if &good[at..=at] == "A" { "B" } else { "A" };
        forged.replace_range(at..=at, wrong);
        assert_eq!(DeviceKey::from_request(&forged), None);
    }

    #[test]
    fn a_proof_is_of_one_key_and_one_message() {
        use rcgen::SigningKey as _;
        let pair = KeyPair::generate().unwrap();
        let key = DeviceKey::from_point(pair.der_bytes()).unwrap();
        let other = DeviceKey::from_point(KeyPair::generate().unwrap().der_bytes()).unwrap();
        let proof = pair.sign(b"message").unwrap();
        assert!(key.verifies(b"message", &proof) && !other.verifies(b"message", &proof));
        assert!(!key.verifies(b"massage", &proof) && !key.verifies(b"message", &proof[1..]));
        assert!(!key.verifies(b"message", &[]));
        assert_eq!(DeviceKey::from_point(&[4; 65]), None, "not on the curve");
        assert_eq!(DeviceKey::from_point(&[0]), None, "the point at infinity");
    }

    #[test]
    fn an_ed25519_key_signs_reports_and_nothing_else() {
        use ring::signature::{Ed25519KeyPair, KeyPair as _};
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = DeviceKey::from_record(pair.public_key().as_ref()).unwrap();
        assert_eq!(key.algorithm(), Algorithm::Ed25519);
        let signature = pair.sign(&[1; 64]);
        assert!(key.verifies_report(&[1; 64], signature.as_ref()));
        assert!(!key.verifies_report(&[2; 64], signature.as_ref()));
        assert!(!key.verifies(&[1; 64], signature.as_ref()), "it brings no certificate back");
        assert_eq!(DeviceKey::from_point(key.point()), None);
        assert_eq!(DeviceKey::from_ed25519([0; 32]), None, "a weak one");
    }
}
