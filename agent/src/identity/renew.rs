//! Keeps the certificate fresh while the agent runs: a task beside the event loop.
//!
//! It fails quietly: the link goes on with what it has, the models with what they serve, and
//! the status says since when and why. A new certificate is durable before it is shown, and
//! shown before the link is made anew with it.

use std::sync::Arc;
use std::time::Duration;

use fleetway_link::{EnrollUrl, LinkHandle, TlsError, TlsFiles, TlsIdentity, Validity};
use fleetway_protocol::enroll::{ChallengeRequest, Nonce, Renewed, ReturnRequest, return_message};
use fleetway_protocol::ids::{DeviceId, Digest};
use rcgen::{KeyPair, SigningKey as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::client::{AskError, Client};
use super::files::{self, PUBLIC};
use super::schedule::{self, Proof, Tries};
use super::shown::Shown;
use crate::clock::Clock;
use crate::status::Board;

/// Longest sleep: a clock that was set must be noticed.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// Everything that a renewal needs.
pub struct Renewal {
    /// Who we are.
    pub device: DeviceId,
    /// Where certificates come from.
    pub url: EnrollUrl,
    /// Ours.
    pub files: TlsFiles,
    /// The link's certificate.
    pub shown: Shown,
    /// The link itself.
    pub link: LinkHandle,
    /// Signed time.
    pub clock: Clock,
    /// Where the status comes from.
    pub board: Arc<Board>,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the private key cannot sign ({0}); join again")]
    Key(String),
    #[error("the controller's certificate does not fit this device's key; nothing was changed")]
    Certificate,
    #[error("cannot write {}: {source}; the old certificate stays", path.display())]
    Write { path: std::path::PathBuf, source: std::io::Error },
}

impl Renewal {
    /// Runs until the runtime ends.
    pub async fn run(self) {
        let mut tries = Tries::default();
        let mut jitter = fastrand::f64();
        loop {
            let now_s = self.clock.unix_s();
            let validity = self.files.read().and_then(|identity| Validity::of(&identity.cert_pem));
            let validity = match validity {
                Ok(validity) => validity,
                Err(error) => {
                    self.board.set_certificate(None, Some(error.to_string()));
                    tokio::time::sleep(LOOK_MAX).await;
                    continue;
                }
            };
            self.board.set_certificate(Some(validity.to_s), None);
            let (at_s, proof) = schedule::next(validity, tries, now_s, jitter);
            if now_s < at_s {
                let wait = Duration::from_secs(at_s - now_s).min(LOOK_MAX);
                tokio::time::sleep(wait).await;
                continue;
            }
            jitter = fastrand::f64();
            match self.renew(proof).await {
                Ok(()) => {
                    tracing::info!(?proof, "the certificate was renewed");
                    self.board.set_renewal_problem(None);
                    tries = Tries::default();
                }
                Err(failed) => {
                    let text = format!("the certificate was not renewed: {failed}");
                    tracing::warn!("{text}");
                    self.board.set_renewal_problem(Some(text));
                    let hopeless = matches!(&failed, Failed::Ask(error) if error.is_hopeless());
                    let failures = tries.failures.saturating_add(1);
                    tries = Tries { failures, last_s: self.clock.unix_s(), hopeless };
                }
            }
        }
    }

    async fn renew(&self, proof: Proof) -> Result<(), Failed> {
        let identity = self.files.read()?;
        let time = Some(Arc::new(self.clock.clone()) as _);
        let client = |tls| Client { url: self.url.clone(), tls };
        let Renewed { certificate } = match proof {
            Proof::Certificate => client(identity.client_config(time)?).post("/renew", &()).await?,
            Proof::Key => {
                let tls = fleetway_link::client_config_without_identity(&identity.ca_pem, time)?;
                self.come_back(&client(tls), &identity).await?
            }
        };
        let next = TlsIdentity { cert_pem: certificate.as_bytes().to_vec(), ..identity };
        let certified = next.certified_key().map_err(|_| Failed::Certificate)?;
        let path = &self.files.cert;
        files::write(path, PUBLIC, &next.cert_pem)
            .map_err(|source| Failed::Write { path: path.clone(), source })?;
        self.shown.set(certified);
        self.link.reconnect();
        Ok(())
    }

    async fn come_back(&self, client: &Client, identity: &TlsIdentity) -> Result<Renewed, Failed> {
        let key = |error: &dyn std::fmt::Display| Failed::Key(error.to_string());
        let pem = std::str::from_utf8(&identity.key_pem).map_err(|error| key(&error))?;
        let pair = KeyPair::from_pem(pem).map_err(|error| key(&error))?;
        let ca = CertificateDer::from_pem_slice(&identity.ca_pem).map_err(|error| key(&error))?;
        let device = self.device.clone();
        let nonce: Nonce =
            client.post("/challenge", &ChallengeRequest { device: device.clone() }).await?;
        let message = return_message(&Digest::of(&ca), &device, &nonce);
        let signature = pair.sign(&message).map_err(|error| key(&error))?;
        let signature = signature.as_slice().try_into().map_err(|_| key(&"too long"))?;
        Ok(client.post("/return", &ReturnRequest { device, nonce, signature }).await?)
    }
}
