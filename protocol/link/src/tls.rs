//! TLS for links: our CA and nothing else, 1.3 and nothing older, `ring` and no process-wide default, because a second
//! provider in the dependency graph makes `rustls` panic when it has to guess.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// Where the PEM files of an identity are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CA that signed the broker's certificate.
    pub ca: PathBuf,
    /// Our certificate, then its issuers.
    pub cert: PathBuf,
    /// Our private key.
    pub key: PathBuf,
}

/// Who we are and whom we trust, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The CA that signed the broker's certificate.
    pub ca_pem: Vec<u8>,
    /// Our certificate, then its issuers.
    pub cert_pem: Vec<u8>,
    /// Our private key; never shown.
    pub key_pem: Vec<u8>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: check that it exists and that we may read it")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not PEM.
    #[error("the {what} is not valid PEM: enrol again, or copy the file again")]
    Pem {
        /// CA certificate, device certificate or private key.
        what: &'static str,
        /// What the parser says.
        source: rustls::pki_types::pem::Error,
    },
    /// PEM, but nothing of the kind in it.
    #[error(
        "the {what} is missing in its PEM: enrol again, or check that the files are not mixed up"
    )]
    Missing {
        /// CA certificate or device certificate.
        what: &'static str,
    },
    /// A CA certificate that is none.
    #[error(
        "the CA certificate cannot be used: get the fleet's CA certificate from the controller again"
    )]
    Ca(#[source] rustls::Error),
    /// A device certificate that is none.
    #[error("the device certificate cannot be read: enrol again")]
    Unreadable,
    /// Certificate and key do not fit, or the key is of an unknown kind.
    #[error("device certificate and private key cannot be used together: enrol again")]
    Identity(#[source] rustls::Error),
    /// The provider lacks what we need: a build mistake.
    #[error("TLS 1.3 is not available in this build")]
    Provider(#[source] rustls::Error),
}

const CA: &str = "CA certificate";
const CERT: &str = "device certificate";
const KEY: &str = "private key";

impl TlsFiles {
    /// Reads the files.
    pub fn read(&self) -> Result<TlsIdentity, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })
        };
        Ok(TlsIdentity {
            ca_pem: read(&self.ca)?,
            cert_pem: read(&self.cert)?,
            key_pem: read(&self.key)?,
        })
    }
}

impl TlsIdentity {
    /// The configuration for [`crate::LinkConfig::tls`]. `time` decides whether certificates are valid yet or still; a
    /// device whose clock may be wrong passes the later of its clock and what it has signed proof of. `None`: the clock.
    pub fn client_config(
        &self,
        time: Option<Arc<dyn TimeProvider>>,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let chain = certificates(&self.cert_pem, CERT)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key_pem)
            .map_err(|source| TlsError::Pem { what: KEY, source })?;
        let builder = trusting(&self.ca_pem, time)?;
        builder.with_client_auth_cert(chain, key).map(Arc::new).map_err(TlsError::Identity)
    }
}

/// TLS without a certificate of our own, for brokers that want user name and password.
pub fn client_config_without_identity(
    ca_pem: &[u8],
    time: Option<Arc<dyn TimeProvider>>,
) -> Result<Arc<ClientConfig>, TlsError> {
    Ok(Arc::new(trusting(ca_pem, time)?.with_no_client_auth()))
}

fn trusting(
    ca_pem: &[u8],
    time: Option<Arc<dyn TimeProvider>>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem, CA)? {
        roots.add(certificate).map_err(TlsError::Ca)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let time = time.unwrap_or_else(|| Arc::new(DefaultTimeProvider));
    let builder = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Provider)?;
    Ok(builder.with_root_certificates(roots))
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what, source })?;
    if certificates.is_empty() {
        return Err(TlsError::Missing { what });
    }
    Ok(certificates)
}

impl TlsIdentity {
    /// Certificate and key as `rustls` shows them to a server; for a resolver that changes them while it runs.
    pub fn certified_key(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = certificates(&self.cert_pem, CERT)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key_pem)
            .map_err(|source| TlsError::Pem { what: KEY, source })?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map(Arc::new).map_err(TlsError::Identity)
    }
}

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Unix seconds.
    pub from_s: u64,
    /// Unix seconds.
    pub to_s: u64,
}

impl Validity {
    /// Of the first certificate in a PEM.
    pub fn of(cert_pem: &[u8]) -> Result<Self, TlsError> {
        let first = certificates(cert_pem, CERT)?;
        let first = first.first().ok_or(TlsError::Missing { what: CERT })?;
        let (_, cert) = X509Certificate::from_der(first).map_err(|_| TlsError::Unreadable)?;
        let seconds = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let validity = cert.validity();
        Ok(Self { from_s: seconds(validity.not_before), to_s: seconds(validity.not_after) })
    }
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An identity signed by its own CA, with `break_it` done to it.
    fn check(break_it: impl FnOnce(&mut TlsIdentity), expected: &str) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["dev-1".to_owned()];
        let cert = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let mut identity = TlsIdentity {
            ca_pem: cert.pem().into(),
            cert_pem: cert.pem().into(),
            key_pem: key.serialize_pem().into(),
        };
        break_it(&mut identity);
        let made = identity.client_config(None);
        let said = made.map_or_else(|error| error.to_string(), |_| "ok".into());
        assert!(said.starts_with(expected), "{said:?} instead of {expected:?}");
    }

    #[test]
    fn errors_name_the_part_that_is_wrong() {
        check(|_| (), "ok");
        check(|id| id.ca_pem.clear(), "the CA certificate is missing");
        check(|id| id.ca_pem = id.key_pem.clone(), "the CA certificate is missing");
        check(|id| id.cert_pem.clear(), "the device certificate is missing");
        check(|id| id.key_pem.clear(), "the private key is not valid PEM");
        check(|id| id.cert_pem.truncate(200), "the device certificate is");
        check(
            |id| id.key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem().into(),
            "device certificate and private key cannot be used together",
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let path = PathBuf::from("/nonexistent/ca.pem");
        let files = TlsFiles { ca: path.clone(), cert: path.clone(), key: path };
        let said = files.read().expect_err("there is none").to_string();
        assert!(said.starts_with("cannot read /nonexistent/ca.pem"), "{said}");
    }

    #[test]
    fn a_key_is_never_shown() {
        let identity =
            TlsIdentity { ca_pem: vec![], cert_pem: vec![], key_pem: b"secret".to_vec() };
        assert_eq!(format!("{identity:?}"), "TlsIdentity { .. }");
    }
}
