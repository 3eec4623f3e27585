//! The device's signature under what it says: the enrolled key, which is the certificate's.
//!
//! The core says what; here is who. A device without a key (a plain link, in tests) reports
//! unsigned, and so does one whose key cannot sign: the controller believes it only as far as
//! it knows of no key, and the status tells the person at the box.

use fleetway_link::TlsIdentity;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::SIGNED_REPORT_BYTES_MAX;
use fleetway_protocol::signed::{Algorithm, SignedReport, message};
use fleetway_protocol::topics::Topic;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// Signs reports, if the device has a key.
pub(super) struct ReportSigner {
    root: String,
    key: Option<Key>,
    random: SystemRandom,
}

struct Key {
    pair: EcdsaKeyPair,
    /// Digest of the fleet CA's certificate: which fleet the reports are for.
    ca: Digest,
}

/// Why a device with certificates cannot sign.
#[derive(Debug, thiserror::Error)]
#[error(
    "reports are not signed, and the controller will not believe them: {0}; the key must be ECDSA P-256 in PKCS#8, as `fleetway-agent join` makes it: join again"
)]
pub(super) struct CannotSign(&'static str);

impl Key {
    fn of(identity: &TlsIdentity, random: &SystemRandom) -> Result<Self, CannotSign> {
        // The first one, as everywhere where the fleet is named by its CA.
        let ca = CertificateDer::from_pem_slice(&identity.ca_pem)
            .map_err(|_| CannotSign("the CA certificate cannot be read"))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&identity.key_pem)
            .map_err(|_| CannotSign("the private key cannot be read"))?;
        let scheme = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(scheme, key.secret_pkcs8_der(), random)
            .map_err(|_| CannotSign("the private key is of another kind"))?;
        Ok(Self { pair, ca: Digest::of(&ca) })
    }
}

impl ReportSigner {
    /// Signs with the key of `identity`; without one, reports go unsigned. `root` is that of
    /// all topics.
    pub(super) fn new(root: &str, identity: Option<&TlsIdentity>) -> (Self, Option<CannotSign>) {
        let random = SystemRandom::new();
        let (key, problem) = match identity.map(|identity| Key::of(identity, &random)) {
            Some(Ok(key)) => (Some(key), None),
            Some(Err(problem)) => (None, Some(problem)),
            None => (None, None),
        };
        (Self { root: root.to_owned(), key, random }, problem)
    }

    /// A report as it travels.
    pub(super) fn seal(&self, topic: &str, report: &[u8]) -> Vec<u8> {
        let signed = self.signed(topic, report);
        let signed = signed.unwrap_or_else(|| SignedReport::unsigned(report));
        let mut buf = [0; SIGNED_REPORT_BYTES_MAX];
        let bytes = signed.encode(&mut buf);
        bytes.expect("a report is bounded, and so is its signature").to_vec()
    }

    fn signed<'a>(&self, topic: &str, report: &'a [u8]) -> Option<SignedReport<'a>> {
        let Key { pair, ca } = self.key.as_ref()?;
        let topic = Topic::parse(&self.root, topic)?;
        let message = message(ca, Algorithm::EcdsaP256, &topic, report);
        match pair.sign(&self.random, &message) {
            Ok(signature) => SignedReport::new(report, Algorithm::EcdsaP256, signature.as_ref()),
            Err(_) => {
                tracing::error!("no randomness from the system: a report goes unsigned");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetway_protocol::ids::DeviceId;
    use fleetway_protocol::topics::ROOT_DEFAULT;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    #[test]
    fn a_report_is_signed_by_the_certificates_key() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let names = vec!["cam-1".to_owned()];
        let cert = rcgen::CertificateParams::new(names).unwrap().self_signed(&pair).unwrap();
        let mut identity = TlsIdentity {
            ca_pem: cert.pem().into(),
            cert_pem: cert.pem().into(),
            key_pem: pair.serialize_pem().into(),
        };
        let topic = Topic::Ack(DeviceId::new("cam-1").unwrap());
        let text = topic.text(ROOT_DEFAULT);
        let (signer, problem) = ReportSigner::new(ROOT_DEFAULT, Some(&identity));
        assert!(problem.is_none());
        let bytes = signer.seal(&text, b"report");
        let read = SignedReport::decode(&bytes).unwrap();
        let ca = Digest::of(cert.der());
        use rcgen::PublicKeyData as _;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.der_bytes());
        let open = |ca: &Digest| {
            let enrolled = Some(Algorithm::EcdsaP256);
            read.open(enrolled, ca, &topic, |message, s| key.verify(message, s).is_ok())
        };
        assert_eq!(open(&ca), Ok(&b"report"[..]));
        assert!(open(&Digest::of(b"another fleet")).is_err());

        // Without a key, or with one of another kind: unsigned, and the latter is told.
        let unsigned = |signer: &ReportSigner| {
            let bytes = signer.seal(&text, b"report");
            SignedReport::decode(&bytes) == Ok(SignedReport::unsigned(b"report"))
        };
        assert!(unsigned(&ReportSigner::new(ROOT_DEFAULT, None).0));
        let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        identity.key_pem = ed.serialize_pem().into();
        let (signer, problem) = ReportSigner::new(ROOT_DEFAULT, Some(&identity));
        assert!(problem.is_some_and(|p| p.to_string().contains("join again")) && unsigned(&signer));
    }
}
