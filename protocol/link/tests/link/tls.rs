//! TLS with our own CA, a certificate on both sides, and a clock that is given.

use std::sync::Arc;
use std::time::Duration;

use fleetway_link::{LinkEvent, TlsFiles, TlsIdentity};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::broker::{Broker, Reply};
use crate::link;

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn identity(&self) -> TlsIdentity {
        let (cert, key) = self.sign("dev-1");
        TlsIdentity {
            ca_pem: self.pem.clone().into(),
            cert_pem: cert.pem().into(),
            key_pem: key.serialize_pem().into(),
        }
    }
}

/// A broker that wants certificates of `ca`. Returns its URL.
async fn broker(ca: &Ca) -> String {
    let identity = ca.identity();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&identity.ca_pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let (cert, key) = ca.sign("localhost");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let broker = Broker::new(&listener, |_| Reply::Usual);
    let port = broker.address.port();
    tokio::spawn(async move {
        for conn in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (broker, acceptor) = (broker.clone(), acceptor.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    broker.serve(conn, stream).await;
                }
            });
        }
    });
    format!("mqtts://localhost:{port}")
}

#[derive(Debug)]
struct FixedTime(u64);

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

/// Connects with an identity, at a time; returns `up` or why not.
async fn check(url: &str, identity: &TlsIdentity, time: Option<u64>, expected: &str) {
    let time = time.map(|seconds| Arc::new(FixedTime(seconds)) as Arc<dyn TimeProvider>);
    let tls = identity.client_config(time).unwrap();
    let (_handle, mut events) = link(url, |config| config.tls = Some(tls));
    let said = events
        .find(|event| match event {
            LinkEvent::Up { .. } => Some("up".to_owned()),
            LinkEvent::Down { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert!(said.contains(expected), "{said:?} instead of {expected:?}");
}

#[tokio::test]
async fn both_sides_show_a_certificate_and_the_clock_is_ours() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let url = broker(&ca).await;
    check(&url, &ca.identity(), None, "up").await;
    // rcgen's certificates are valid from 1975 to 4096
    check(&url, &ca.identity(), Some(100), "not valid yet").await;
    check(&url, &stranger.identity(), None, "invalid peer certificate").await;

    let mut rogue = stranger.identity();
    rogue.ca_pem = ca.identity().ca_pem;
    check(&url, &rogue, None, "does not accept our certificate").await;
}

#[tokio::test]
async fn an_identity_is_read_from_files() {
    let ca = Ca::new();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let files = TlsFiles { ca: path("ca.pem"), cert: path("cert.pem"), key: path("key.pem") };
    let identity = ca.identity();
    std::fs::write(&files.ca, &identity.ca_pem).unwrap();
    std::fs::write(&files.cert, &identity.cert_pem).unwrap();
    std::fs::write(&files.key, &identity.key_pem).unwrap();
    let read = files.read().unwrap();
    assert!(read == identity);
    check(&broker(&ca).await, &read, None, "up").await;
}
