//! `fleetway serve`: everything that runs, put together and taken apart in order.
//!
//! ```text
//! unix socket ── api ──> core (one thread: the fleet) ──> link ──> broker ──> devices
//!                          ^                    └─> pump ─> blobs link ──^
//!                          └──────── inbox <── link <── devices
//! ```
//!
//! Read in this order: this page; `connect` (broker and links); `inbox` and `reports` (what
//! devices say, and whether it is they who say it);
//! `open` and [`core`] (the fleet and its thread); `enroll` and `cut` (who comes in, and who
//! is thrown out); `http` (the API's listener on the network); `mirror` (what dashboards get); `otlp` (metrics
//! for a collector); `blobs`, `pieces`, `queue`, `pump` (model bytes).

mod audit;
pub(crate) mod blobs;
pub(crate) mod connect;
pub(crate) mod core;
pub(crate) mod cut;
mod decisions;
pub(crate) mod enroll;
mod http;
mod identity;
pub(crate) mod inbox;
mod mirror;
pub(crate) mod open;
mod otlp;
pub(crate) mod pieces;
mod pump;
mod queue;
mod reports;
mod trust;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Extension;
use fleetway_controller::broker::{Broker as _, Gate, LocalBroker};
use fleetway_controller::enroll::Listener;
use fleetway_controller::fleet::{By, Fleet, Ignored};
use fleetway_controller::trust::Repo;
use fleetway_controller::trust::files::TrustDir;
use fleetway_controller::trust::online::ServerKeys;
use fleetway_controller::{clock, keys};
use fleetway_link::{EnrollUrl, Link as _, LinkHandle};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::manifest::Manifest;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::api::caller::{Access, Door};
use crate::api::client::{SOCKET_PATH_BYTES_MAX, socket_path};
use crate::api::events::Events;
use crate::api::failure::{Failure, Kind};
use crate::api::types::{BlobsView, BrokerView, LinkView, RunFile, TrustPublished};
use crate::api::view::failed;
use crate::cli::files::{self, Layout, PUBLIC};
use crate::cli::output::talk;
use crate::cli::trust::{PUBLISHED, published_text};
use crate::config::Config;
use blobs::BlobStore;
use core::{Core, Director, Outward};
use cut::Cutter;
use decisions::Decisions;
use inbox::Watch;
use open::{Opened, open_fleet};
use pump::{Order, Published, Pump};
use trust::{InForce, Trust};

/// What is in the outbox gets this long at the end.
const DRAIN: Duration = Duration::from_secs(1);
/// Requests that are being answered get this long at the end.
const API_DRAIN: Duration = Duration::from_secs(2);

/// What the API needs of the running controller.
#[derive(Clone)]
pub(crate) struct Running {
    /// The fleet.
    pub(crate) core: Core,
    /// Tokens and sessions.
    pub(crate) access: Arc<Access>,
    /// Whoever watches.
    pub(crate) events: Arc<Events>,
    /// Model bytes on disk.
    pub(crate) blobs: Arc<BlobStore>,
    /// The release authority's files.
    pub(crate) trust: Trust,
    /// Where everything is.
    pub(crate) layout: Layout,
    /// Since when, Unix seconds.
    pub(crate) started_s: u64,
    /// Where devices come for certificates.
    pub(crate) enroll_url: EnrollUrl,
    /// The broker as devices see it.
    pub(crate) broker_url: String,
    /// Whether the broker is our own.
    pub(crate) embedded: bool,
    /// SHA-256 of the fleet CA's certificate.
    pub(crate) ca: Digest,
    dynamic_security: bool,
    gate: Arc<Gate>,
    watch: Watch,
    pump: Pump,
    link: LinkHandle,
    local: Local,
}

/// Our own broker, while it runs.
type Local = Arc<Mutex<Option<LocalBroker>>>;

impl Running {
    /// Makes a published release's pieces available.
    pub(crate) async fn learn(&self, digest: Digest, envelope: Vec<u8>, manifest: Manifest) {
        let published = Published { digest, envelope: envelope.into(), manifest };
        self.pump.tell(Order::Learn(Box::new(published))).await;
    }

    /// Puts what is staged into force, for devices and for ourselves.
    pub(crate) async fn publish_trust(&self, who: String) -> Result<TrustPublished, Failure> {
        let InForce { published, release_keys, signers } =
            tokio::task::block_in_place(|| self.trust.publish())?;
        let director = self.trust.director();
        let text = published_text(&published.files);
        let again = move |fleet: &mut Fleet, now_s| {
            fleet.set_release_keys(release_keys);
            fleet.set_director(director);
            // Under another director's key every order is another message.
            fleet.resend_all();
            let by = By { who: &who, now_s };
            fleet.note_signed(by, PUBLISHED, Some(signers), &text)
        };
        if let Err(error) = self.core.ask(again).await? {
            // It is in force all the same; the command itself is on record.
            error!("what was published is not in the audit log: {error}");
        }
        info!(files = ?published.files, "the release authority's files are published");
        Ok(published)
    }

    /// The state of the link and its counters.
    pub(crate) fn link(&self) -> LinkView {
        let stats = self.link.stats();
        LinkView {
            connects: stats.connects,
            outbox_messages: stats.outbox_messages as u64,
            messages_in: stats.messages_in,
            messages_out: stats.messages_out,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            ..self.watch.link()
        }
    }

    /// The broker.
    pub(crate) fn broker(&self) -> BrokerView {
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        BrokerView {
            kind: if self.embedded { "embedded" } else { "external" }.into(),
            url: self.broker_url.clone(),
            sessions: local.as_ref().map(|local| local.acceptor().sessions().len() as u64),
        }
    }

    /// Model bytes on their way.
    pub(crate) fn blobs_view(&self) -> BlobsView {
        self.pump.snapshot()
    }

    /// Whether an external broker ends sessions when it is told.
    pub(crate) fn cuts_sessions(&self) -> bool {
        self.dynamic_security
    }

    /// Messages that were refused, by device.
    pub(crate) fn bad_messages(&self) -> BTreeMap<String, u64> {
        self.watch.bad()
    }

    /// Reports that were refused, by check; `ignored` is what the fleet itself counted.
    pub(crate) fn reports_refused(&self, ignored: &Ignored) -> BTreeMap<String, u64> {
        let all = self.watch.refused().into_iter().chain(reports::ignored(ignored));
        all.map(|(check, count)| (check.to_owned(), count)).collect()
    }
}

/// Runs the controller of a data directory until it is asked to stop.
pub(crate) async fn run(data: &Path) -> Result<(), Failure> {
    let config = Config::load(data)?;
    let layout = Layout::new(data);
    let collector = otlp::read()?;
    let opened = tokio::task::block_in_place(|| open_fleet(data, &config))?;
    let store = opened.store.clone();
    let (running, parts) = start(&config, &layout, opened).await?;
    let exporter = collector.map(|collector| collector.start(&running));
    let served = serve_api(&running, &config).await;
    if let Some(exporter) = exporter {
        exporter.abort();
    }
    stop(&running, parts).await;
    // Whoever waits for the lock may start now.
    drop(store);
    served
}

/// The key that the keyset in force names; before there is one, the file of that name.
fn director_key(layout: &Layout) -> Result<ed25519_dalek::SigningKey, Failure> {
    let dir = TrustDir::new(layout.root());
    if dir.exists() {
        let repo = dir.load().map_err(|e| failed(e.kind(), &e))?;
        if repo.published.keyset.is_some() {
            let in_force = Repo { staged: Default::default(), ..repo };
            let keys = ServerKeys::find(&layout.keys(), &in_force);
            return keys.map(|keys| keys.director).map_err(|e| failed(e.kind(), &e));
        }
    }
    keys::load(&layout.director_key()).map_err(|e| failed(e.kind(), &e))
}

/// What has to be ended one by one.
struct Parts {
    thread: JoinHandle<()>,
    listener: Listener,
    blob_link: Option<LinkHandle>,
}

async fn start(
    config: &Config,
    layout: &Layout,
    opened: Opened,
) -> Result<(Running, Parts), Failure> {
    let director = Director::new(director_key(layout)?);
    let blobs = BlobStore::open(layout.root())
        .map_err(|error| Failure::from_error("model bytes", &error))?;
    let blobs = Arc::new(blobs);
    let ca = connect::load_ca(layout)?;
    let ca_digest = Digest::of(ca.cert_der());
    let gate = Arc::new(Gate::new(&opened.fleet.identities()));
    let side = connect::broker(config, layout, &ca, gate.clone()).await?;
    let ((link, events), blobs_connection) = connect::links(config, layout, ca, &side)?;
    let (blob_link, blob_events) = blobs_connection.unzip();

    let root = config.root.clone();
    let pump_link = blob_link.clone().unwrap_or_else(|| link.clone());
    let bytes_max = config.blobs.bytes_in_flight_max;
    let pump = Pump::start(pump_link, root.clone(), blobs.clone(), bytes_max);
    for release in published(&opened.fleet) {
        pump.tell(Order::Learn(Box::new(release))).await;
    }
    let embedded = side.local.is_some();
    let local: Local = Arc::new(Mutex::new(side.local));
    let dynamic_security = config.dynamic_security.then(|| link.clone());
    let cutter = Cutter::new(gate.clone(), local.clone(), dynamic_security, config.root.clone());
    let Opened { mut fleet, audit, release_keys, .. } = opened;
    fleet.set_director(director.id());
    fleet.set_mirror(config.mirror);
    let watchers = Arc::new(Events::default());
    fleet.set_home_assistant(config.home_assistant());
    let access = Arc::new(Access::default());
    access.set(fleet.tokens());
    let outward = Outward {
        link: link.clone(),
        root: root.clone(),
        director: director.clone(),
        pump: pump.clone(),
        cutter: cutter.clone(),
        mirror: mirror::Publisher::new(link.clone(), root.clone()),
        events: watchers.clone(),
    };
    let trust = Trust::new(
        TrustDir::new(layout.root()),
        layout.keys(),
        root.clone(),
        link.clone(),
        director,
        release_keys,
    );
    tokio::spawn(trust.clone().run());
    let (core, thread) = Core::start(fleet, audit, Decisions::new(layout.root()), outward)
        .map_err(|error| Failure::from_error("cannot start the fleet's thread", &error))?;
    let (listener, enroll_url) =
        enroll::start(config, layout, core.clone(), &side.advertised).await?;
    tokio::spawn(cutter.run());
    let running = Running {
        core,
        access,
        events: watchers,
        blobs,
        trust,
        layout: layout.clone(),
        started_s: clock::now_s(),
        watch: Watch::default(),
        pump,
        link,
        embedded,
        enroll_url,
        ca: ca_digest,
        dynamic_security: config.dynamic_security,
        gate,
        broker_url: side.advertised.to_string(),
        local,
    };
    tokio::spawn(inbox::run(events, root, running.clone(), blob_link.is_none()));
    if let Some(events) = blob_events {
        tokio::spawn(inbox::run_blobs(events, running.pump.clone()));
    }
    Ok((running, Parts { thread, listener, blob_link }))
}

/// Ends everything, in the order in which it depends on each other.
async fn stop(running: &Running, parts: Parts) {
    info!("stopping");
    drop(parts.listener);
    running.core.stop().await;
    // A thread that hangs on a dead disk must not keep the process; what counts is durable.
    let joined = tokio::task::spawn_blocking(move || parts.thread.join());
    if timeout(DRAIN, joined).await.is_err() {
        warn!("the fleet's thread did not end in time");
    }
    let unsent = running.link.shutdown(DRAIN).await;
    if unsent > 0 {
        info!(unsent, "messages were left; they are given again at the next start");
    }
    if let Some(link) = parts.blob_link {
        link.shutdown(Duration::ZERO).await;
    }
    let local = running.local.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(local) = local {
        Box::new(local).shutdown().await;
    }
}

/// Published releases with the bytes that devices get.
fn published(fleet: &Fleet) -> Vec<Published> {
    let with_envelope = |release: fleetway_controller::fleet::ReleaseView| {
        let envelope = fleet.release_envelope(&release.digest)?.to_vec().into();
        Some(Published { digest: release.digest, envelope, manifest: release.manifest })
    };
    fleet.releases().into_iter().filter_map(with_envelope).collect()
}

/// Answers the operator until a signal comes.
async fn serve_api(running: &Running, config: &Config) -> Result<(), Failure> {
    let layout = &running.layout;
    let http = http::bind(config, layout).await?;
    let socket = socket_path(layout.root());
    let listener = bind(&socket)?;
    let run_file = RunFile {
        pid: std::process::id(),
        broker: running.broker_url.clone(),
        enroll: running.enroll_url.to_string(),
        api: socket.display().to_string(),
        api_url: http.as_ref().map(|http| http.url.clone()),
        started_s: running.started_s,
    };
    let text = serde_json::to_string_pretty(&run_file)
        .map_err(|error| Failure::from_error("run.json", &error))?;
    let signals = (|| Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)))();
    let (mut interrupt, mut terminate) = signals
        .map_err(|error: std::io::Error| Failure::from_error("cannot wait for signals", &error))?;
    files::write(&layout.run_file(), PUBLIC, text.as_bytes())?;
    let RunFile { broker, enroll, api, api_url, pid, .. } = &run_file;
    let url = api_url.as_ref().map_or_else(String::new, |url| format!(" and {url}"));
    talk(format!("ready: broker {broker}, enrolment {enroll}, api {api}{url}, pid {pid}"));

    let (stop, stopped) = watch::channel(false);
    let router = crate::api::server::router(running.clone());
    let network = http.map(|http| tokio::spawn(http::serve(http, router.clone(), stopped.clone())));
    let mut until = stopped;
    let router = router.layer(Extension(Door::Socket));
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        // Dropped or sent: both mean stop.
        let _ = until.changed().await;
    });
    let mut server = tokio::spawn(server.into_future());
    let ended = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        ended = &mut server => match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::from_error("the API ended", &error)),
            Err(error) => Err(Failure::from_error("the API ended", &error)),
        },
    };
    // A stream has no end of its own.
    running.events.close();
    drop(stop);
    let drained = timeout(API_DRAIN, async {
        if !server.is_finished() {
            let _ = (&mut server).await;
        }
        if let Some(network) = network {
            let _ = network.await;
        }
    });
    if drained.await.is_err() {
        server.abort();
    }
    for path in [socket, layout.run_file()] {
        if let Err(error) = std::fs::remove_file(&path) {
            warn!(%error, path = %path.display(), "not removed");
        }
    }
    ended
}

/// Binds the API's socket. We hold the directory's lock, so one that is there is a leftover.
fn bind(socket: &Path) -> Result<UnixListener, Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let bytes = socket.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(Failure::new(
            Kind::Usage,
            format!("the path of the API's socket has {bytes} bytes, at most {SOCKET_PATH_BYTES_MAX} are allowed"),
        )
        .mend("use a data directory with a shorter path"));
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::file("remove", socket, &error));
        }
        _ => {}
    }
    let bound = UnixListener::bind(socket).and_then(|listener| {
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    });
    bound.map_err(|error| Failure::file("listen on", socket, &error))
}
