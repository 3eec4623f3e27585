//! The enrolment listener's desk: asks the fleet, then signs with the fleet's authority.
//!
//! What may happen is decided by `fleet/identities.rs` and durable before a certificate
//! exists. If we die in between, the device asks again with the same key and gets it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetway_controller::broker::{Identity, Peer};
use fleetway_controller::clock;
use fleetway_controller::enroll::nonces::Nonces;
use fleetway_controller::enroll::{Desk, Later, Limits, Listener, ListenerConfig};
use fleetway_controller::fleet::{EnrollError, Fleet};
use fleetway_controller::pki::{DeviceKey, FleetCa};
use fleetway_link::{BrokerUrl, EnrollUrl};
use fleetway_protocol::enroll::{
    Answer, ChallengeRequest, EnrollRequest, Enrolled, Nonce, Refusal, Renewed, ReturnRequest,
    return_message,
};
use fleetway_protocol::ids::{DeviceId, Digest};
use fleetway_protocol::limits::ROOT_JSON_BYTES_MAX;
use tracing::{error, info, warn};

use super::connect::{self, now, server_names};
use super::core::Core;
use crate::api::failure::{Failure, chain};
use crate::cli::device::AgentFile;
use crate::cli::files::Layout;
use crate::config::Config;

/// Everything that the desk needs; cheap to clone.
#[derive(Clone)]
struct EnrollDesk {
    core: Core,
    ca: Arc<FleetCa>,
    agent_file: Arc<AgentFile>,
    layout: Layout,
    life: Duration,
    nonces: Arc<Mutex<Nonces>>,
}

/// Starts the listener; returns it with its URL as devices see it.
pub(super) async fn start(
    config: &Config,
    layout: &Layout,
    core: Core,
    broker: &BrokerUrl,
) -> Result<(Listener, EnrollUrl), Failure> {
    let ca = connect::load_ca(layout)?;
    let server = ca.issue_server(&server_names(config), now()).map_err(|error| {
        Failure::usage(format!("no certificate for `names` in fleetway.toml: {}", chain(&error)))
            .mend("use host names and IP addresses only")
    })?;
    let listen = config.enroll_listen();
    let bound = std::net::TcpListener::bind(listen)
        .and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (addr, listener) = bound.map_err(|error| {
        Failure::error(format!("the enrolment listener does not start on {listen}: {error}"))
            .mend("stop what listens there, or change `listen` in [enroll] in fleetway.toml")
    })?;
    let url = connect::enroll_url(config, addr.port())?;
    let settings = ListenerConfig {
        listener,
        ca_pem: ca.cert_pem().to_owned(),
        server,
        limits: Limits::default(),
    };
    let desk = EnrollDesk {
        core,
        agent_file: Arc::new(AgentFile::new(config, broker, Some(&url))),
        layout: layout.clone(),
        life: Duration::from_secs(config.enroll.certificate_life_s),
        ca: Arc::new(ca),
        nonces: Arc::default(),
    };
    let listener = Listener::start(settings, Arc::new(desk)).await.map_err(|error| {
        Failure::error(chain(&error)).mend("change `listen` in [enroll] in fleetway.toml")
    })?;
    Ok((listener, url))
}

/// The root that devices pin: the first one, from which every later one follows.
pub(crate) fn pinned_root(layout: &Layout) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let file = std::fs::File::open(layout.pinned_root()).ok()?;
    let mut bytes = Vec::new();
    file.take(ROOT_JSON_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= ROOT_JSON_BYTES_MAX).then_some(bytes)
}

impl EnrollDesk {
    /// When a certificate that is made now ends.
    fn ends_s(&self) -> u64 {
        clock::now_s().saturating_add(self.life.as_secs())
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Fleet, u64) -> Result<T, EnrollError> + Send + 'static,
    ) -> Answer<T> {
        match self.core.ask(question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(EnrollError::Refused(refusal))) => Err(refusal),
            Ok(Err(EnrollError::Fleet(failed))) => {
                error!("enrolment: {}", chain(&failed));
                Err(Refusal::Unavailable)
            }
            Err(_) => Err(Refusal::Unavailable),
        }
    }

    fn certify<const N: usize>(
        &self,
        key: &DeviceKey,
        device: &DeviceId,
    ) -> Answer<heapless::String<N>> {
        let made = self.ca.certify_device(key, device, self.life, now());
        let pem = made.map_err(|error| {
            error!(%device, "no certificate: {}", chain(&error));
            Refusal::Unavailable
        })?;
        fit("certificate", &pem)
    }

    async fn enroll(self, request: EnrollRequest) -> Answer<Enrolled> {
        let key = DeviceKey::from_request(&request.csr).ok_or(Refusal::Key)?;
        let device = request.device;
        let digest = request.token.digest(&device);
        let ends_s = self.ends_s();
        let (id, point) = (device.clone(), key.clone());
        self.ask(move |fleet, now_s| fleet.enroll_device(now_s, &id, &digest, &point, ends_s))
            .await?;
        let certificate = self.certify(&key, &device)?;
        let ca = fit("CA certificate", self.ca.cert_pem())?;
        let config = fit("configuration", &self.agent_file.text(&device, 0))?;
        info!(%device, "joined");
        Ok(Enrolled { certificate, ca, config })
    }

    async fn renew(
        self,
        device: DeviceId,
        proves: impl FnOnce(&DeviceKey) -> bool + Send + 'static,
    ) -> Answer<Renewed> {
        let (id, ends_s) = (device.clone(), self.ends_s());
        let key = self.ask(move |fleet, _| fleet.renew_device(&id, ends_s, proves)).await?;
        let certificate = self.certify(&key, &device)?;
        Ok(Renewed { certificate })
    }

    fn nonces(&self) -> std::sync::MutexGuard<'_, Nonces> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, device: DeviceId) -> Answer<Nonce> {
        let mut nonce = Nonce([0; 32]);
        if let Err(error) = getrandom::fill(&mut nonce.0) {
            error!(%error, "no randomness from the system");
            return Err(Refusal::Unavailable);
        }
        self.nonces().open(nonce, device, clock::now_s());
        Ok(nonce)
    }
}

fn fit<const N: usize>(what: &str, text: &str) -> Answer<heapless::String<N>> {
    text.try_into().map_err(|_| {
        error!("a {what} of {} bytes does not fit its bound: a bug", text.len());
        Refusal::Unavailable
    })
}

/// Tells the log, for an operator who wonders.
fn told<T>(device: &DeviceId, answer: Answer<T>) -> Answer<T> {
    answer.inspect_err(|why| warn!(%device, "not let in: {why}"))
}

impl Desk for EnrollDesk {
    fn enroll(&self, request: EnrollRequest) -> Later<Enrolled> {
        let desk = self.clone();
        Box::pin(async move {
            let device = request.device.clone();
            told(&device, desk.enroll(request).await)
        })
    }

    fn renew(&self, peer: Peer) -> Later<Renewed> {
        let desk = self.clone();
        Box::pin(async move {
            let Identity::Device(device) = peer.identity else { return Err(Refusal::NotEnrolled) };
            let renewed = desk.renew(device.clone(), move |key| key.digest() == peer.key).await;
            told(&device, renewed)
        })
    }

    fn challenge(&self, request: ChallengeRequest) -> Later<Nonce> {
        let nonce = self.draw(request.device);
        Box::pin(std::future::ready(nonce))
    }

    fn come_back(&self, request: ReturnRequest) -> Later<Renewed> {
        let desk = self.clone();
        Box::pin(async move {
            let ReturnRequest { device, nonce, signature } = request;
            if !desk.nonces().take(&nonce, &device, clock::now_s()) {
                return told(&device, Err(Refusal::Nonce));
            }
            let message = return_message(&Digest::of(desk.ca.cert_der()), &device, &nonce);
            let proves = move |key: &DeviceKey| key.verifies(&message, &signature);
            let renewed = desk.renew(device.clone(), proves).await;
            if renewed.is_ok() {
                info!(%device, "came back by its key");
            }
            told(&device, renewed)
        })
    }

    fn root(&self) -> Option<Vec<u8>> {
        pinned_root(&self.layout)
    }
}
