//! TLS of the listener: who may finish a handshake, and what a certificate says.

use std::net::SocketAddr;
use std::sync::Arc;

use fleetway_protocol::ids::Digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

use super::identity::Identity;
use crate::pki::Issued;

/// Why the listener's TLS cannot be set up. All of it is configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is not what it should be.
    #[error("{what} is not readable PEM")]
    Pem {
        /// Which one.
        what: &'static str,
    },
    /// The CA cannot verify clients.
    #[error("the fleet CA cannot verify client certificates")]
    Ca(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server's certificate and key do not work together.
    #[error("the broker's certificate and key cannot be used")]
    Server(#[source] rustls::Error),
}

/// Who is at the other end, as its verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Role and name.
    pub identity: Identity,
    /// The certificate's serial number, lower-case hex: revocation lists name it.
    pub serial: String,
    /// When the certificate ends, in Unix seconds. A session may outlive it: see
    /// `Acceptor::disconnect_where`.
    pub not_after_unix_s: i64,
    /// Digest of its public key: a certificate of another key is somebody else's.
    pub key: Digest,
    /// Where the connection comes from.
    pub addr: SocketAddr,
}

/// What a listener wants of whoever connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clients {
    /// A certificate of the fleet's CA.
    Certified,
    /// The same or none. The CA's own certificate is shown to them: a device that joins knows
    /// its fingerprint and nothing else.
    Anybody,
}

/// TLS 1.3 with a client certificate of the fleet's CA, or nothing.
///
/// Sessions are never resumed: a resumed handshake does not verify the client's certificate
/// again, and a device that was revoked or whose certificate ended would come back by it.
pub(crate) fn server_config(
    ca_pem: &str,
    server: &Issued,
    clients: Clients,
) -> Result<ServerConfig, TlsError> {
    let ca = certificate(ca_pem, "the fleet CA certificate")?;
    let cert = certificate(&server.cert_pem, "the broker's certificate")?;
    let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes())
        .map_err(|_| TlsError::Pem { what: "the broker's key" })?;

    let mut chain = vec![cert];
    if clients == Clients::Anybody {
        chain.push(ca.clone());
    }
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|error| TlsError::Ca(error.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let verifier = match clients {
        Clients::Certified => verifier,
        Clients::Anybody => verifier.allow_unauthenticated(),
    };
    let verifier = verifier.build().map_err(|error| TlsError::Ca(error.into()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Server)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(TlsError::Server)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// TLS 1.3 for whoever knows the certificate's authority: people, who show a token and no
/// certificate. `server` may carry what leads from its certificate to a root.
///
/// # Errors
/// [`TlsError`].
pub fn operators_config(server: &Issued) -> Result<ServerConfig, TlsError> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(server.cert_pem.as_bytes()).collect();
    let chain = chain.map_err(|_| TlsError::Pem { what: "the certificate" })?;
    let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes())
        .map_err(|_| TlsError::Pem { what: "the key" })?;
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Server)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Server)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl Peer {
    /// Reads the peer from its certificates, which rustls has verified. `None` for a subject
    /// that this CA gives to no client.
    pub fn of(certs: &[CertificateDer<'_>], addr: SocketAddr) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(certs.first()?).ok()?;
        let subject = cert.subject();
        let identity = Identity::from_subject(
            only(subject.iter_organizational_unit())?,
            only(subject.iter_common_name())?,
        )?;
        Some(Self {
            identity,
            serial: cert.raw_serial().iter().map(|b| format!("{b:02x}")).collect(),
            not_after_unix_s: cert.validity().not_after.timestamp(),
            key: Digest::of(&cert.public_key().subject_public_key.data),
            addr,
        })
    }
}

/// The value of an attribute that is there exactly once: with two, this code and another
/// broker could each believe a different one.
fn only<'a>(mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Option<&'a str> {
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.as_str().ok()
}

fn certificate(pem: &str, what: &'static str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| TlsError::Pem { what })
}
