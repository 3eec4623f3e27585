//! The broker (our own, or one by URL) and the controller's connections to it.
//!
//! Certificates are renewed at every start: the controller's own for itself, the broker's
//! where the broker is ours. Model bytes have a connection of their own at our own broker;
//! an external mosquitto with our rules takes the client id from the certificate, so there
//! is only one, and the link's separate lanes keep orders in front.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetway_controller::broker::embedded::EmbeddedConfig;
use fleetway_controller::broker::{AcceptorConfig, Broker as _, Gate, Limits, LocalBroker};
use fleetway_controller::clock;
use fleetway_controller::pki::{self, FleetCa, Issued};
use fleetway_link::{
    BackoffLimits, BrokerUrl, EnrollUrl, LaneLimits, LinkConfig, LinkEvent, LinkHandle,
    OutboxLimits, Qos, Subscription,
};
use tokio::sync::mpsc;

use crate::api::failure::{Failure, chain};
use crate::cli::files::{self, Layout, PUBLIC, SECRET};
use crate::config::Config;

/// A controller that waits long for its broker keeps a whole fleet waiting.
const BACKOFF: BackoffLimits =
    BackoffLimits { min: Duration::from_millis(250), max: Duration::from_secs(5) };
/// Orders that wait while the broker is away: one for each of some thousand devices.
const ORDERS: LaneLimits = LaneLimits { messages_max: 16 * 1024, bytes_max: 64 * 1024 * 1024 };
/// Small chunks in flight are bounded by bytes; this is only to have a bound.
const BLOB_MESSAGES_MAX: usize = 16 * 1024;
/// Reports that wait for the fleet's thread: 4 KiB each at most.
const EVENTS_MAX: usize = 1024;
/// Connections above the devices': our own two, and an operator who looks.
const CLIENTS_SPARE: usize = 16;

/// The time, for certificates.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(clock::now_s())
}

/// The fleet's certificate authority of a data directory.
pub(crate) fn load_ca(layout: &Layout) -> Result<FleetCa, Failure> {
    let cert = files::read(&layout.certificate("ca"))?;
    let key = files::read(&layout.certificate_key("ca"))?;
    FleetCa::load(&cert, &key).map_err(|error| {
        Failure::trust(chain(&error)).mend("restore pki/ca.pem and pki/ca.key from your backup")
    })
}

/// Names and addresses in the broker's certificate: what was configured, and how we reach
/// it ourselves.
pub(crate) fn server_names(config: &Config) -> Vec<String> {
    let mut names = config.names.clone();
    let listen = config.listen.ip();
    for own in ["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()] {
        names.push(own);
    }
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Writes a certificate and its key below `pki/`.
pub(crate) fn store_issued(layout: &Layout, name: &str, issued: &Issued) -> Result<(), Failure> {
    files::write(&layout.certificate_key(name), SECRET, issued.key_pem.as_bytes())?;
    files::write(&layout.certificate(name), PUBLIC, issued.cert_pem.as_bytes())
}

/// The broker, wherever it runs.
pub(super) struct BrokerSide {
    /// Ours, if it is.
    pub(super) local: Option<LocalBroker>,
    /// How we reach it.
    pub(super) url: BrokerUrl,
    /// How devices reach it.
    pub(super) advertised: BrokerUrl,
}

/// Starts our own broker, or finds the external one in the configuration.
pub(super) async fn broker(
    config: &Config,
    layout: &Layout,
    ca: &FleetCa,
    gate: Arc<Gate>,
) -> Result<BrokerSide, Failure> {
    if let Some(url) = &config.broker {
        let advertised = config.advertise.clone().unwrap_or_else(|| url.clone());
        return Ok(BrokerSide { local: None, url: url.clone(), advertised });
    }
    let server = ca.issue_server(&server_names(config), now()).map_err(|error| {
        Failure::usage(format!("no certificate for `names` in fleetway.toml: {}", chain(&error)))
            .mend("use host names and IP addresses only")
    })?;
    store_issued(layout, "server", &server)?;
    let local = start_local(config, layout.root(), ca, server, gate).await?;
    let addr = local.local_addr();
    let url = own_url(addr)?;
    let advertised = match &config.advertise {
        Some(url) => url.clone(),
        None => device_url(config, addr.port())?,
    };
    Ok(BrokerSide { local: Some(local), url, advertised })
}

async fn start_local(
    config: &Config,
    data: &Path,
    ca: &FleetCa,
    server: Issued,
    gate: Arc<Gate>,
) -> Result<LocalBroker, Failure> {
    let embedded = EmbeddedConfig {
        data_dir: data.to_owned(),
        root: config.root.clone(),
        clients_max: config.clients_max + CLIENTS_SPARE,
        gate: gate.clone(),
    };
    let acceptor = AcceptorConfig {
        listen: config.listen,
        ca_pem: ca.cert_pem().to_owned(),
        server,
        root: config.root.clone(),
        limits: Limits { sessions_max: config.clients_max, ..Limits::default() },
        admit: Arc::new(move |peer| gate.admits(peer)),
    };
    LocalBroker::start(&embedded, acceptor).await.map_err(|error| {
        let text = chain(&error);
        let mend = if text.contains("in use") {
            "stop what listens there, or change `listen` in fleetway.toml"
        } else {
            "see `listen` in fleetway.toml; <data>/broker is a cache and may be deleted"
        };
        Failure::error(format!("the embedded broker does not start: {text}")).mend(mend)
    })
}

fn own_url(addr: SocketAddr) -> Result<BrokerUrl, Failure> {
    let host = match addr.ip() {
        IpAddr::V4(ip) if !ip.is_unspecified() => ip.to_string(),
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.to_string(),
        IpAddr::V6(ip) if ip.is_unspecified() || ip.is_loopback() => "localhost".into(),
        IpAddr::V6(_) => {
            return Err(Failure::usage(format!(
                "`listen` is the single IPv6 address {}",
                addr.ip()
            ))
            .mend("listen on [::] or on an IPv4 address: TLS names are not checked against IPv6"));
        }
    };
    url(&host, addr.port())
}

/// The URL that devices get for our own broker at `port`.
pub(crate) fn device_url(config: &Config, port: u16) -> Result<BrokerUrl, Failure> {
    url(config.names.first().map_or("localhost", String::as_str), port)
}

/// The URL of our enrolment listener at `port`, as devices see it.
pub(crate) fn enroll_url(config: &Config, port: u16) -> Result<EnrollUrl, Failure> {
    if let Some(url) = &config.enroll.advertise {
        return Ok(url.clone());
    }
    let host = config.names.first().map_or("localhost", String::as_str);
    format!("https://{host}:{port}").parse().map_err(|error: fleetway_link::EnrollUrlError| {
        Failure::usage(error.to_string())
            .mend("correct `names` in fleetway.toml, or set `advertise` in [enroll]")
    })
}

fn url(host: &str, port: u16) -> Result<BrokerUrl, Failure> {
    format!("mqtts://{host}:{port}").parse().map_err(|error: fleetway_link::UrlError| {
        Failure::usage(error.to_string())
            .mend("correct `names` in fleetway.toml, or set `advertise`")
    })
}

/// A connection of the controller and what it hears.
pub(super) type Connection = (LinkHandle, mpsc::Receiver<LinkEvent>);

/// The connection for orders and reports, and the one for model bytes if there is one.
pub(super) fn links(
    config: &Config,
    layout: &Layout,
    ca: FleetCa,
    side: &BrokerSide,
) -> Result<(Connection, Option<Connection>), Failure> {
    let issued = ca
        .issue_controller(now())
        .map_err(|error| Failure::from_error("no certificate for the controller", &error))?;
    store_issued(layout, "controller", &issued)?;
    let tls = super::identity::client_config(ca, &issued)?;
    let link = |client_id: &str| {
        let mut link = LinkConfig::new(side.url.clone(), client_id);
        link.tls = Some(tls.clone());
        link.backoff = BACKOFF;
        link.events_max = EVENTS_MAX;
        let bulk_bytes = 2 * config.blobs.bytes_in_flight_max;
        link.outbox = OutboxLimits {
            at_least_once: ORDERS,
            at_most_once: LaneLimits { messages_max: BLOB_MESSAGES_MAX, bytes_max: bulk_bytes },
        };
        link
    };
    let mut orders = link(pki::CONTROLLER);
    orders.standing = vec![Subscription::new(format!("{}d/+/up/#", config.root), Qos::AtLeastOnce)];
    let blobs = side.local.is_some().then(|| {
        let mut blobs = link(&format!("{}-blobs", pki::CONTROLLER));
        blobs.session = fleetway_link::Session::Clean;
        blobs
    });
    let start = |link| {
        fleetway_link::start(link).map_err(|error| {
            Failure::usage(error.to_string()).mend("correct `broker` in fleetway.toml")
        })
    };
    Ok((start(orders)?, blobs.map(start).transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, own: Option<&str>) {
        let url = own_url(listen.parse().unwrap()).map(|url| url.to_string()).ok();
        assert_eq!(url.as_deref(), own, "{listen}");
    }

    #[test]
    fn we_reach_our_own_broker_by_a_name_in_its_certificate() {
        check("127.0.0.1:8883", Some("mqtts://127.0.0.1:8883"));
        check("0.0.0.0:1", Some("mqtts://127.0.0.1:1"));
        check("10.0.0.5:1", Some("mqtts://10.0.0.5:1"));
        check("[::]:1", Some("mqtts://localhost:1"));
        check("[2001:db8::1]:1", None);
        let config =
            Config { names: vec!["a.example".into(), "localhost".into()], ..Config::default() };
        assert_eq!(server_names(&config), ["a.example", "localhost", "127.0.0.1"]);
        assert_eq!(device_url(&config, 9).unwrap().to_string(), "mqtts://a.example:9");
    }
}
