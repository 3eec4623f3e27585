//! The controller's own certificate, renewed while it runs.
//!
//! It is good for 90 days, and a controller runs for longer than that. A connection that
//! is made with an old certificate would be refused on the day the link drops, so the one
//! that is shown is never older than a month: made here, by the fleet's own authority.

use std::sync::{Arc, Mutex, PoisonError};

use fleetway_controller::clock;
use fleetway_controller::pki::{FleetCa, Issued};
use fleetway_link::TlsIdentity;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use tracing::warn;

use super::connect::now;
use crate::api::failure::{Failure, chain};

/// A third of the certificate's life.
const RENEW_AFTER_S: u64 = 30 * 24 * 60 * 60;

/// Shows a certificate of the fleet's authority that is never old.
struct Renewing {
    ca: FleetCa,
    current: Mutex<(u64, Arc<CertifiedKey>)>,
}

impl std::fmt::Debug for Renewing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewing").finish_non_exhaustive()
    }
}

/// Why no certificate could be made.
type Refused = Box<dyn std::error::Error + Send + Sync>;

fn certified(issued: &Issued) -> Result<Arc<CertifiedKey>, Refused> {
    let chain = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())?;
    let provider = ring::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(vec![chain], key, &provider)?))
}

impl Renewing {
    fn renewed(&self) -> Result<Arc<CertifiedKey>, Refused> {
        certified(&self.ca.issue_controller(now())?)
    }

    fn shown(&self, now_s: u64) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if now_s.saturating_sub(current.0) >= RENEW_AFTER_S {
            match self.renewed() {
                Ok(key) => *current = (now_s, key),
                // The old one is good for some weeks yet.
                Err(error) => warn!(%error, "the controller's certificate was not renewed"),
            }
        }
        current.1.clone()
    }
}

impl ResolvesClientCert for Renewing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.shown(clock::now_s()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// TLS for the controller's connections, beginning with the certificate `issued`.
pub(super) fn client_config(ca: FleetCa, issued: &Issued) -> Result<Arc<ClientConfig>, Failure> {
    let identity = TlsIdentity {
        ca_pem: ca.cert_pem().as_bytes().to_vec(),
        cert_pem: issued.cert_pem.as_bytes().to_vec(),
        key_pem: issued.key_pem.as_bytes().to_vec(),
    };
    let refused = |what: &str| {
        Failure::error(format!("TLS of the controller's connection: {what}"))
            .mend("restore pki/ca.pem and pki/ca.key from your backup")
    };
    let tls = identity.client_config(None).map_err(|error| refused(&chain(&error)))?;
    let first = certified(issued).map_err(|error| refused(&error.to_string()))?;
    let mut tls = Arc::unwrap_or_clone(tls);
    let current = Mutex::new((clock::now_s(), first));
    tls.client_auth_cert_resolver = Arc::new(Renewing { ca, current });
    Ok(Arc::new(tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_certificate_is_not_shown() {
        let ca = FleetCa::create("fleet", now()).unwrap();
        let first = certified(&ca.issue_controller(now()).unwrap()).unwrap();
        let renewing = Renewing { ca, current: Mutex::new((1_000, first.clone())) };
        let same = |a: &Arc<CertifiedKey>, b: &Arc<CertifiedKey>| a.cert == b.cert;
        assert!(same(&renewing.shown(1_000 + RENEW_AFTER_S - 1), &first));
        let second = renewing.shown(1_000 + RENEW_AFTER_S);
        assert!(!same(&second, &first));
        assert!(same(&renewing.shown(1_001 + RENEW_AFTER_S), &second));
    }
}
