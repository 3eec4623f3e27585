//! A device's public key: what it enrolled, what its certificates are for, and what proves
//! that it is back. ECDSA P-256 for the reasons on the page above.

use std::fmt;

use fleetway_protocol::ids::Digest;
use fleetway_protocol::signed::Algorithm;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use rcgen::{CertificateSigningRequestParams, PublicKeyData, SignatureAlgorithm};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// A device's public key: an ECDSA P-256 point, and nothing else is one.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceKey(Vec<u8>);

impl DeviceKey {
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

    /// The point, for the inventory.
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
    /// How reports are signed with it.
    pub const ALGORITHM: Algorithm = Algorithm::EcdsaP256;

    /// Whether this key signed the `message` of a report (signature as `r || s`). By ring, the
    /// quickest in the graph: reports come by the thousand.
    pub fn verifies_report(&self, message: &[u8; 64], signature: &[u8]) -> bool {
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
}
