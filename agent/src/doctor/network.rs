//! Broker and enrolment listener, as far as they can be asked without disturbing anybody.
//!
//! TCP and TLS are tried always. An MQTT session under the device's name only while no agent runs
//! (it would take the name from it), with no will and no subscription, and ended in good order; a
//! running agent's own link is the better proof anyway.

use std::sync::Arc;
use std::time::Duration;

use fleetway_link::{BrokerUrl, LinkConfig, LinkEvent, Session};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::identity::Tls;
use super::{Agent, DEADLINE, Findings};
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::client::Client;
use crate::run::SESSION;
use crate::status::render::age;

/// In TLS 1.3 a server says only after the handshake that it refuses our certificate.
const REFUSAL_WAIT: Duration = Duration::from_millis(500);

pub(super) async fn look(
    config: &Config,
    clock: &Clock,
    tls: Option<Tls>,
    agent: &Agent,
    found: &mut Findings,
) {
    let url = &config.broker.url;
    let own = tls.as_ref().map(|tls| tls.own.clone());
    let reached = timeout(DEADLINE, reach(url, own.clone())).await;
    match reached.unwrap_or_else(|_| Err(NotReached::slow())) {
        Ok(addr) => {
            let how = if url.is_tls() && own.is_some() { "TCP and TLS" } else { "TCP" };
            found.ok("broker", format!("{url} at {addr}: {how}"));
            look_at_session(config, own, agent, found).await;
        }
        Err(NotReached { text, mend }) => found.problem("broker", format!("{url}: {text}"), mend),
    }
    if let (Some(url), Some(tls)) = (&config.enroll, tls) {
        let client = Client { url: url.clone(), tls: tls.anonymous };
        match timeout(DEADLINE, client.root()).await {
            Ok(Ok(_)) => found.ok("enroll", format!("{url}: answers")),
            Ok(Err(error)) => {
                found.warn(
                    "enroll",
                    error.to_string(),
                    "the certificate is not renewed until then",
                );
            }
            Err(_) => {
                let text = format!("{url}: no answer within {} s", DEADLINE.as_secs());
                found.warn("enroll", text, "the certificate is not renewed until then");
            }
        }
    }
    if clock.is_behind() {
        found.warn("tls", "certificates are judged by signed time", "set the clock");
    }
}

struct NotReached {
    text: String,
    mend: &'static str,
}

impl NotReached {
    fn new(text: impl std::fmt::Display, mend: &'static str) -> Self {
        Self { text: text.to_string(), mend }
    }

    fn slow() -> Self {
        let text = format!("no answer within {} s", DEADLINE.as_secs());
        Self::new(text, "a firewall drops what we send, or the link is very slow")
    }
}

/// Name, TCP, TLS, and that the broker does not hang up on our certificate.
async fn reach(url: &BrokerUrl, tls: Option<Arc<ClientConfig>>) -> Result<String, NotReached> {
    let name = (url.host(), url.port());
    let mut addrs = tokio::net::lookup_host(name)
        .await
        .map_err(|error| NotReached::new(error, "check the name in agent.toml, and the DNS"))?;
    if addrs.next().is_none() {
        return Err(NotReached::new("the name has no address", "check the DNS"));
    }
    let tcp = TcpStream::connect(name).await.map_err(|error| {
        NotReached::new(error, "check the network, and that the broker runs on this port")
    })?;
    let addr = tcp.peer_addr().map(|addr| addr.to_string()).unwrap_or_default();
    let Some(tls) = tls.filter(|_| url.is_tls()) else { return Ok(addr) };
    let server = ServerName::try_from(url.host().to_owned())
        .map_err(|error| NotReached::new(error, "use a host name or an address in the URL"))?;
    let mut stream = TlsConnector::from(tls).connect(server, tcp).await.map_err(|error| {
        let mend = "check the name in the URL, the CA beside agent.toml, and the clock";
        NotReached::new(format!("no TLS: {error}"), mend)
    })?;
    let refused = "the device was revoked, or its certificate has ended; on the controller: \
                   `fleetway device show`";
    match timeout(REFUSAL_WAIT, stream.read_u8()).await {
        // It waits for our first word, as it should.
        Err(_) => Ok(addr),
        Ok(Ok(_)) => {
            Err(NotReached::new("speaks first, so it is no MQTT broker", "check the port"))
        }
        Ok(Err(error)) => {
            Err(NotReached::new(format!("hangs up after the handshake: {error}"), refused))
        }
    }
}

async fn look_at_session(
    config: &Config,
    tls: Option<Arc<ClientConfig>>,
    agent: &Agent,
    found: &mut Findings,
) {
    let mend = "check the broker's log, and that its rules know this device's certificate";
    match agent {
        Agent::Runs(status) if status.link.connected => {
            found.ok("mqtt", format!("the agent is connected, for {}", age(status.link.for_s)));
        }
        Agent::Runs(status) => {
            let error = status.link.last_error.as_deref().unwrap_or("no attempt has ended yet");
            let text =
                format!("the agent is not connected, for {}: {error}", age(status.link.for_s));
            found.problem("mqtt", text, mend);
        }
        Agent::Mute(_) => {
            let text = "not tried: an agent that cannot be asked may hold the session";
            found.warn("mqtt", text, "mend the agent first");
        }
        Agent::Stopped => match connect(config, tls).await {
            Ok(version) => found.ok("mqtt", format!("the broker accepts this device ({version})")),
            Err(reason) => found.problem("mqtt", reason, mend),
        },
    }
}

/// A session as the agent would have it, without its will and subscriptions.
async fn connect(config: &Config, tls: Option<Arc<ClientConfig>>) -> Result<String, String> {
    let mut link = LinkConfig::new(config.broker.url.clone(), config.device.as_str());
    link.tls = tls;
    link.session = Session::Persistent(SESSION);
    let (handle, mut events) = fleetway_link::start(link).map_err(|error| error.to_string())?;
    let mut last = format!("no answer within {} s", DEADLINE.as_secs());
    let answer = timeout(DEADLINE, async {
        loop {
            match events.recv().await {
                Some(LinkEvent::Up { version, .. }) => return Ok(version.to_string()),
                // Once more: a broker of the older version refuses the newer one first.
                Some(LinkEvent::Down { reason, .. }) => last = reason,
                Some(_) => {}
                None => return Err("the link ended".to_owned()),
            }
        }
    })
    .await;
    // DISCONNECT is said; nothing waits to be sent.
    handle.shutdown(Duration::ZERO).await;
    answer.unwrap_or(Err(last))
}
