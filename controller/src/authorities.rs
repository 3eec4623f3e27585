//! Whom we believe where we ask strangers: a registry, a collector of metrics. The fleet has an authority
//! of its own ([`crate::pki`]), which says nothing of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_rustls::TlsConnector;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// The file does not read.
    #[error("cannot read {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// The file has none.
    #[error("no authority's certificate in {}", .0.display())]
    Empty(PathBuf),
    /// The system has none.
    #[error("this system has no certificates of authorities; name a file with them")]
    NoRoots,
    /// rustls will not.
    #[error("TLS")]
    Rustls(#[from] rustls::Error),
}

/// TLS to a stranger, by the authorities in `ca` (PEM), or by the system's.
///
/// # Errors
/// [`AuthoritiesError`].
pub fn connector(ca: Option<&Path>) -> Result<TlsConnector, AuthoritiesError> {
    let mut roots = rustls::RootCertStore::empty();
    // One that does not parse is no reason to believe nobody.
    match ca {
        Some(path) => {
            let pem =
                std::fs::read(path).map_err(|error| AuthoritiesError::File(path.into(), error))?;
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(
            ca.map_or(AuthoritiesError::NoRoots, |path| AuthoritiesError::Empty(path.into()))
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_authority_is_named_and_one_with_it_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let said = || connector(Some(&path)).map(drop).map_err(|error| error.to_string());
        assert!(said().unwrap_err().starts_with("cannot read"));
        std::fs::write(&path, "no PEM").unwrap();
        assert!(said().unwrap_err().starts_with("no authority's certificate in"));
        let key = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        std::fs::write(&path, key.cert.pem()).unwrap();
        assert_eq!(said(), Ok(()));
    }
}
