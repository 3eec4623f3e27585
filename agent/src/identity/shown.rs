//! The certificate that TLS shows: looked up at every handshake, changed while we run.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};

/// The certificate of this moment. Clones share it.
#[derive(Clone)]
pub struct Shown(Arc<RwLock<Arc<CertifiedKey>>>);

impl Shown {
    /// Begins with this one.
    pub fn new(first: Arc<CertifiedKey>) -> Self {
        Self(Arc::new(RwLock::new(first)))
    }

    /// From now on this one.
    pub fn set(&self, next: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// The same TLS configuration, with whatever is shown at each handshake.
    pub fn in_config(&self, config: Arc<ClientConfig>) -> Arc<ClientConfig> {
        let mut config = Arc::unwrap_or_clone(config);
        config.client_auth_cert_resolver = Arc::new(self.clone());
        Arc::new(config)
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}
