//! TLS to a server of which only its CA's fingerprint is known: the join string's.
//!
//! The server shows its CA's certificate behind its own. It is believed if, and only if, its
//! SHA-256 is the pinned one; then the server's own certificate is checked against it like
//! any other, names and times included. Nothing else on this device is asked.

use std::sync::{Arc, Mutex, PoisonError};

use fleetway_protocol::ids::Digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Trusts one CA, by its fingerprint.
#[derive(Debug)]
pub(super) struct Pinned {
    ca: Digest,
    provider: Arc<CryptoProvider>,
    /// What was shown instead, for the error: digest of the last certificate of the chain.
    other: Mutex<Option<Digest>>,
}

impl Pinned {
    pub(super) fn new(ca: Digest) -> Arc<Self> {
        let provider = Arc::new(ring::default_provider());
        Arc::new(Self { ca, provider, other: Mutex::default() })
    }

    /// Fingerprint of another CA, if the server showed one.
    pub(super) fn other(&self) -> Option<Digest> {
        *self.other.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// TLS 1.3 that believes this CA alone; certificates are judged by `time`.
    pub(super) fn client_config(
        self: &Arc<Self>,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Arc<ClientConfig>, Error> {
        let config = ClientConfig::builder_with_details(self.provider.clone(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(ca) = intermediates.iter().find(|cert| Digest::of(cert) == self.ca) else {
            let last = intermediates.last().unwrap_or(end_entity);
            *self.other.lock().unwrap_or_else(PoisonError::into_inner) = Some(Digest::of(last));
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
