//! The fleet's own certificate authority: who may open a connection to the broker.
//!
//! Certificates here guard the *transport*. They say which device is speaking, so that the
//! broker can keep devices out of each other's topics; they say nothing about what may run
//! (that is the release authority's, offline). A stolen CA key lets an attacker connect as
//! any device, and still install nothing.
//!
//! Choices, each with its reason:
//! - **ECDSA P-256**: both rustls with ring and every OpenSSL that mosquitto is linked with
//!   take it for mutual TLS. Ed25519 certificates fail with older OpenSSL builds and PKCS#11.
//! - **CN is the name, OU is the role**: see `broker::identity`, which reads them back.
//! - **`notBefore` lies a day back**: devices without a battery-backed clock come up behind.
//! - **The server's certificate carries OU `server` and only `serverAuth`**, so a stolen one
//!   cannot be presented as a client.
//!
//! Time is an argument. The files' permissions (0600 for keys) are the caller's.

mod key;

use std::fmt;
use std::time::{Duration, SystemTime};

use fleetway_protocol::ids::{DeviceId, Digest, IdError};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use crate::broker::identity::CONTROLLER;
use crate::broker::identity::{self, Identity};
pub use key::DeviceKey;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The root outlives the devices that pin it: replacing it means visiting every device.
const CA_DAYS: u32 = 20 * 365;
/// Some TLS clients refuse server certificates that are valid for longer.
const SERVER_DAYS: u32 = 825;
/// Bound of X.509 (`ub-common-name`).
const COMMON_NAME_CHARS_MAX: usize = 64;
/// The controller renews its own at every start.
const CONTROLLER_DAYS: u32 = 90;

/// What can go wrong with the fleet CA.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The id cannot name a device (or a dashboard).
    #[error("{id:?} cannot be used as a name")]
    Id {
        /// The id as given.
        id: String,
        #[source]
        /// What is wrong with it.
        source: IdError,
    },
    /// A server certificate without a name is of no use to any client.
    #[error("a server certificate needs at least one DNS name or IP address")]
    NoServerName,
    /// The stored CA certificate cannot be used.
    #[error("stored fleet CA certificate: {why}")]
    StoredCertificate {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The stored CA key cannot be read.
    #[error("stored fleet CA key cannot be read")]
    StoredKey(#[source] rcgen::Error),
    /// The system gave no randomness.
    #[error("no randomness from the system")]
    Random(#[source] getrandom::Error),
    /// Key or certificate could not be made.
    #[error("{what} could not be made")]
    Generate {
        /// What was being made.
        what: &'static str,
        #[source]
        /// The generator's error.
        source: rcgen::Error,
    },
}

/// A certificate and its private key, both PEM. The key never appears in logs.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The private key, PKCS#8 PEM. Write it with mode 0600.
    pub key_pem: String,
    /// The public key as a point, for the inventory.
    pub public_point: Vec<u8>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// The fleet's certificate authority, ready to sign.
pub struct FleetCa {
    cert_pem: String,
    cert_der: Vec<u8>,
    /// Trust domain of the SPIFFE ids: the CA's own name.
    fleet: String,
    issuer: Issuer<'static, KeyPair>,
}

impl FleetCa {
    /// Makes a new CA whose subject is `name`.
    pub fn create(name: &str, now: SystemTime) -> Result<Self, PkiError> {
        let made = |source| PkiError::Generate { what: "the fleet CA", source };
        let key = KeyPair::generate().map_err(made)?;
        let mut params = params(name, None, now, DAY * CA_DAYS)?;
        // Path length 0: this CA signs end entities only, never another CA.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(made)?;
        Ok(Self {
            cert_pem: cert.pem(),
            cert_der: cert.der().to_vec(),
            fleet: trust_domain(name),
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads a stored CA and checks that certificate and key belong together.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let stored = |why| PkiError::StoredCertificate { why };
        let key = KeyPair::from_pem(key_pem).map_err(PkiError::StoredKey)?;
        let der = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|_| stored("it is not a PEM certificate"))?;
        let (_, cert) = X509Certificate::from_der(&der).map_err(|_| stored("it does not parse"))?;
        if !cert.is_ca() {
            return Err(stored("it is not a certificate authority"));
        }
        if cert.public_key().subject_public_key.data != key.der_bytes() {
            return Err(stored("it belongs to another key"));
        }
        let name = cert.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
        let fleet = trust_domain(name.ok_or_else(|| stored("it has no common name"))?);
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|_| stored("its subject or key usage cannot be read"))?;
        Ok(Self { cert_pem: cert_pem.to_owned(), cert_der: der.to_vec(), fleet, issuer })
    }

    /// The CA certificate that clients and brokers trust, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The same certificate as DER: the join string pins its SHA-256.
    pub fn cert_der(&self) -> &[u8] {
        &self.cert_der
    }

    /// What the audit log calls it: the beginning of its certificate's digest.
    pub fn id(&self) -> String {
        format!("ca:{:.16}", Digest::of(self.cert_der()))
    }

    /// The CA's private key, PKCS#8 PEM. Write it with mode 0600.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for the broker's listener, valid for DNS names and IP addresses.
    pub fn issue_server(&self, names: &[String], now: SystemTime) -> Result<Issued, PkiError> {
        let first = names.first().ok_or(PkiError::NoServerName)?;
        // The CN is for people only (clients match the alternative names), and is limited.
        let cn: String = first.chars().take(COMMON_NAME_CHARS_MAX).collect();
        let with_names = CertificateParams::new(names)
            .map_err(|source| PkiError::Generate { what: "the server's names", source })?;
        let mut params = params(&cn, Some(identity::SERVER), now, DAY * SERVER_DAYS)?;
        params.subject_alt_names = with_names.subject_alt_names;
        end_entity(&mut params, ExtendedKeyUsagePurpose::ServerAuth);
        self.issue(&params)
    }

    /// Key and certificate for a device, both made here: for tests, the demo and pre-provisioning.
    /// Joining devices keep their key and get [`FleetCa::certify_device`].
    pub fn issue_device(
        &self,
        device_id: &str,
        days: u32,
        now: SystemTime,
    ) -> Result<Issued, PkiError> {
        self.issue(&self.device(&id(device_id)?, DAY * days, now)?)
    }

    /// A certificate for a device's own key.
    pub fn certify_device(
        &self,
        key: &DeviceKey,
        device: &DeviceId,
        life: Duration,
        now: SystemTime,
    ) -> Result<String, PkiError> {
        let mut params = self.device(device, life, now)?;
        // Of a short life only a part: devices count the two thirds from here.
        params.not_before = (now - DAY.min(life / 24)).into();
        let cert = params
            .signed_by(key, &self.issuer)
            .map_err(|source| PkiError::Generate { what: "the device's certificate", source })?;
        Ok(cert.pem())
    }

    fn device(
        &self,
        device: &DeviceId,
        life: Duration,
        now: SystemTime,
    ) -> Result<CertificateParams, PkiError> {
        let mut params = client(&Identity::Device(device.clone()), life, now)?;
        // For meshes and proxies that know workloads by SPIFFE id; we ourselves read the CN.
        let uri = format!("spiffe://{}/device/{device}", self.fleet);
        let uri = uri
            .try_into()
            .map_err(|source| PkiError::Generate { what: "the device's SPIFFE id", source })?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        Ok(params)
    }

    /// The controller's own client certificate.
    pub fn issue_controller(&self, now: SystemTime) -> Result<Issued, PkiError> {
        self.issue(&client(&Identity::Controller, DAY * CONTROLLER_DAYS, now)?)
    }

    /// A dashboard's certificate, CN `viewer.<name>`: it reads the JSON mirror.
    pub fn issue_viewer(&self, name: &str, days: u32, now: SystemTime) -> Result<Issued, PkiError> {
        self.issue(&client(&Identity::Viewer(id(name)?), DAY * days, now)?)
    }

    fn issue(&self, params: &CertificateParams) -> Result<Issued, PkiError> {
        let made = |source| PkiError::Generate { what: "a certificate", source };
        let key = KeyPair::generate().map_err(made)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(made)?;
        let public_point = key.der_bytes().to_vec();
        Ok(Issued { cert_pem: cert.pem(), key_pem: key.serialize_pem(), public_point })
    }
}

fn id(id: &str) -> Result<DeviceId, PkiError> {
    DeviceId::new(id).map_err(|source| PkiError::Id { id: id.to_owned(), source })
}

fn client(who: &Identity, life: Duration, now: SystemTime) -> Result<CertificateParams, PkiError> {
    let mut params = params(&who.common_name(), Some(who.role()), now, life)?;
    end_entity(&mut params, ExtendedKeyUsagePurpose::ClientAuth);
    Ok(params)
}

fn end_entity(params: &mut CertificateParams, usage: ExtendedKeyUsagePurpose) {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
}

fn params(
    cn: &str,
    ou: Option<&str>,
    now: SystemTime,
    life: Duration,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    if let Some(ou) = ou {
        name.push(DnType::OrganizationalUnitName, ou);
    }
    name.push(DnType::CommonName, cn);
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    params.not_before = (now - DAY).into();
    params.not_after = (now + life).into();
    Ok(params)
}

/// A name as a SPIFFE trust domain: what it cannot hold becomes a dash.
fn trust_domain(name: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    name.to_lowercase().chars().map(|c| if fits(c) { c } else { '-' }).collect()
}

/// 126 random bits: positive and of one length whatever the draw.
fn random_serial() -> Result<[u8; 16], PkiError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(PkiError::Random)?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::extensions::{GeneralName, ParsedExtension};

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn with_cert<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, cert) = X509Certificate::from_der(&der).unwrap();
        look(&cert)
    }

    fn subject(cert: &X509Certificate<'_>) -> String {
        cert.subject().to_string()
    }

    #[test]
    fn device_certificate_says_who_and_what_for() {
        let ca = FleetCa::create("fleet", now()).unwrap();
        let issued = ca.issue_device("cam-1", 30, now()).unwrap();
        with_cert(&issued.cert_pem, |cert| {
            assert_eq!(subject(cert), "OU=device, CN=cam-1");
            assert_eq!(cert.validity().not_before.timestamp(), 1_800_000_000 - 86_400);
            assert_eq!(cert.validity().not_after.timestamp(), 1_800_000_000 + 30 * 86_400);
            let usage = cert.key_usage().unwrap().unwrap().value;
            assert!(usage.digital_signature() && !usage.key_cert_sign());
            let extended = cert.extended_key_usage().unwrap().unwrap().value;
            assert!(extended.client_auth && !extended.server_auth && !extended.any);
            assert!(!cert.is_ca());
        });
        let serial = |issued: &Issued| with_cert(&issued.cert_pem, |c| c.raw_serial().to_vec());
        let (one, two) = (serial(&issued), serial(&ca.issue_device("cam-1", 30, now()).unwrap()));
        assert!(one != two && one.len() == 16 && one[0] & 0x80 == 0, "random and positive");
    }

    #[test]
    fn server_certificate_carries_names_and_addresses() {
        let ca = FleetCa::create("fleet", now()).unwrap();
        let names = ["broker.local".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let issued = ca.issue_server(&names, now()).unwrap();
        with_cert(&issued.cert_pem, |cert| {
            let found = cert.iter_extensions().find_map(|ext| match ext.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(san) => Some(san.general_names.len()),
                _ => None,
            });
            assert_eq!(found, Some(3));
            assert!(!cert.extended_key_usage().unwrap().unwrap().value.client_auth);
        });
        assert!(matches!(ca.issue_server(&[], now()), Err(PkiError::NoServerName)));
    }

    #[test]
    fn reserved_and_malformed_ids_are_refused() {
        let ca = FleetCa::create("fleet", now()).unwrap();
        let long = "a".repeat(65);
        for id in ["", "Cam", "a/b", "a+b", "a.b", &long, "controller", "controller-2"] {
            assert!(matches!(ca.issue_device(id, 1, now()), Err(PkiError::Id { .. })), "{id}");
            assert!(matches!(ca.issue_viewer(id, 1, now()), Err(PkiError::Id { .. })), "{id}");
        }
        assert!(ca.issue_device(&"a".repeat(64), 1, now()).is_ok());
    }

    #[test]
    fn a_stored_ca_signs_under_the_same_root() {
        let ca = FleetCa::create("fleet", now()).unwrap();
        let loaded = FleetCa::load(ca.cert_pem(), &ca.key_pem()).unwrap();
        assert_eq!(loaded.cert_der(), ca.cert_der());
        let issued = loaded.issue_device("cam-1", 1, now()).unwrap();
        let root = CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap();
        let (_, root) = X509Certificate::from_der(&root).unwrap();
        with_cert(&issued.cert_pem, |cert| {
            assert!(cert.verify_signature(Some(root.public_key())).is_ok());
        });
    }

    #[test]
    fn a_stored_ca_that_does_not_fit_is_refused() {
        let ca = FleetCa::create("fleet", now()).unwrap();
        let other = FleetCa::create("fleet", now()).unwrap();
        let leaf = ca.issue_device("cam-1", 1, now()).unwrap();
        for (cert, key) in [
            (ca.cert_pem(), other.key_pem()),
            (leaf.cert_pem.as_str(), leaf.key_pem.clone()),
            ("nothing", ca.key_pem()),
        ] {
            let refused = FleetCa::load(cert, &key);
            assert!(matches!(refused, Err(PkiError::StoredCertificate { .. })));
        }
        assert!(matches!(FleetCa::load(ca.cert_pem(), "x"), Err(PkiError::StoredKey(_))));
    }

    #[test]
    fn only_the_key_is_taken_from_a_request() {
        let ca = FleetCa::create("fleet", now()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        wish.distinguished_name.push(DnType::CommonName, "controller");
        wish.distinguished_name.push(DnType::OrganizationalUnitName, "controller");
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let request = wish.serialize_request(&key).unwrap().pem().unwrap();
        let device = DeviceId::new("cam-1").unwrap();
        let wished = DeviceKey::from_request(&request).unwrap();
        let cert = ca.certify_device(&wished, &device, DAY, now()).unwrap();
        with_cert(&cert, |cert| {
            assert_eq!(subject(cert), "OU=device, CN=cam-1");
            let names = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
            let spiffe = GeneralName::URI("spiffe://fleet/device/cam-1");
            assert_eq!(names, &[spiffe]);
            assert!(!cert.extended_key_usage().unwrap().unwrap().value.server_auth);
            assert_eq!(cert.public_key().subject_public_key.data, key.der_bytes());
        });
    }

    #[test]
    fn keys_do_not_reach_logs() {
        let ca = FleetCa::create("fleet", now()).unwrap();
        let issued = ca.issue_controller(now()).unwrap();
        assert!(!format!("{issued:?}").contains("PRIVATE KEY"));
    }
}
