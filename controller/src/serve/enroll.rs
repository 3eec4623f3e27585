//! The enrolment listener's desk: asks the fleet, then signs with the fleet's authority.
//!
//! What may happen is decided by `fleet/identities.rs` and durable before a certificate
//! exists. If we die in between, the device asks again with the same key and gets it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetway_controller::broker::{Identity, Peer};
use fleetway_controller::clock;
use fleetway_controller::enroll::nonces::Nonces;
use fleetway_controller::enroll::refusals::Refusals;
use fleetway_controller::enroll::{Desk, Later, Limits, Listener, ListenerConfig};
use fleetway_controller::fleet::{By, EnrollError, Fleet};
use fleetway_controller::pki::{DeviceKey, FleetCa};
use fleetway_link::{BrokerUrl, EnrollUrl};
use fleetway_protocol::enroll::{
    Answer, ChallengeRequest, EnrollRequest, Enrolled, Floor, FloorRequest, Nonce, Refusal,
    Renewed, ReturnRequest, return_message,
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
    refusals: Arc<Mutex<Refusals>>,
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
        refusals: Arc::default(),
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
        let floor = self
            .ask(move |fleet, now_s| fleet.enroll_device(now_s, &id, &digest, &point, ends_s))
            .await?;
        let certificate = self.certify(&key, &device)?;
        let ca = fit("CA certificate", self.ca.cert_pem())?;
        let config = fit("configuration", &self.agent_file.text(&device, 0))?;
        info!(%device, "joined");
        Ok(Enrolled { certificate, ca, config, floor })
    }

    async fn renew(
        self,
        device: DeviceId,
        proves: impl FnOnce(&DeviceKey) -> bool + Send + 'static,
    ) -> Answer<Renewed> {
        let (id, ends_s) = (device.clone(), self.ends_s());
        let key =
            self.ask(move |fleet, now_s| fleet.renew_device(now_s, &id, ends_s, proves)).await?;
        let certificate = self.certify(&key, &device)?;
        Ok(Renewed { certificate })
    }

    fn nonces(&self) -> std::sync::MutexGuard<'_, Nonces> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the log and the record, for an operator who wonders.
    async fn told<T>(&self, device: DeviceId, answer: Answer<T>) -> Answer<T> {
        let Err(why) = answer else { return answer };
        warn!(%device, "not let in: {why}");
        let now_s = clock::now_s();
        let refusals = self.refusals.lock();
        let noted = refusals.unwrap_or_else(PoisonError::into_inner).see(why, now_s);
        // What failed here is no decision.
        let Some(more) = noted.filter(|_| why != Refusal::Unavailable) else { return answer };
        let note = move |fleet: &mut Fleet, now_s| {
            let by = By { who: "enrolment", now_s };
            let text = match more {
                0 => format!("{device} was not let in: {why}"),
                more => format!("{device} was not let in, nor {more} before it: {why}"),
            };
            fleet.note(by, "device.refused", Some(&device), &text)
        };
        if let Ok(Err(error)) = self.core.ask(note).await {
            error!("a refusal is not in the audit log: {}", chain(&error));
        }
        answer
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

impl Desk for EnrollDesk {
    fn enroll(&self, request: EnrollRequest) -> Later<Enrolled> {
        let desk = self.clone();
        Box::pin(async move {
            let device = request.device.clone();
            let answer = desk.clone().enroll(request).await;
            desk.told(device, answer).await
        })
    }

    fn renew(&self, peer: Peer) -> Later<Renewed> {
        let desk = self.clone();
        Box::pin(async move {
            let Identity::Device(device) = peer.identity else { return Err(Refusal::NotEnrolled) };
            let proves = move |key: &DeviceKey| key.digest() == peer.key;
            let renewed = desk.clone().renew(device.clone(), proves).await;
            desk.told(device, renewed).await
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
                return desk.told(device, Err(Refusal::Nonce)).await;
            }
            let message = return_message(&Digest::of(desk.ca.cert_der()), &device, &nonce);
            let proves = move |key: &DeviceKey| key.verifies(&message, &signature);
            let renewed = desk.clone().renew(device.clone(), proves).await;
            if renewed.is_ok() {
                info!(%device, "came back by its key");
            }
            desk.told(device, renewed).await
        })
    }

    fn floor(&self, peer: Peer, request: FloorRequest) -> Later<Floor> {
        let desk = self.clone();
        Box::pin(async move {
            let Identity::Device(device) = peer.identity else { return Err(Refusal::NotEnrolled) };
            let (id, epoch) = (device.clone(), request.epoch);
            let asked =
                desk.ask(move |fleet, now_s| fleet.floor_device(now_s, &id, epoch, &peer.key));
            let asked = asked.await;
            desk.told(device, asked).await
        })
    }

    fn root(&self) -> Option<Vec<u8>> {
        pinned_root(&self.layout)
    }
}
