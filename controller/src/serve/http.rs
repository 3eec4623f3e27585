//! The API's listener on the network: bounds on connections and heads, TLS where it is asked for,
//! and every request told by which door it came. What may be asked is the API's business.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use fleetway_controller::broker::tls::operators_config;
use fleetway_controller::pki::Issued;
use fleetway_controller::places::Places;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::{Request, rt};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::connect::{self, now, server_names};
use crate::api::caller::Door;
use crate::api::failure::{Failure, chain};
use crate::cli::files::Layout;
use crate::config::{Api, Config};

/// Connections at once: some browsers with their event streams, and programs. Further ones wait in
/// the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// The same from one address; further ones are closed. A browser opens six.
const CONNECTIONS_PER_SOURCE_MAX: usize = 128;
/// For the handshake of TLS, and for a request's head: also how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(30);
/// A request's head: a request line, a cookie, some headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Between attempts when the system gives no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where operators come over the network.
pub(super) struct Http {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    /// `http://` or `https://`, the port as it is.
    pub(super) url: String,
}

/// Binds it, if it is configured.
pub(super) async fn bind(config: &Config, layout: &Layout) -> Result<Option<Http>, Failure> {
    let Some(listen) = config.api.listen else { return Ok(None) };
    let refused = |error: io::Error| {
        Failure::error(format!("the API does not start on {listen}: {error}"))
            .mend("stop what listens there, or change `listen` in [api] in fleetway.toml")
    };
    let tls = certificate(config, layout)?.as_ref().map(operators_config).transpose();
    let tls = tls.map_err(|error| {
        Failure::usage(format!("TLS of the API: {}", chain(&error)))
            .mend("correct `certificate` and `key` in [api] in fleetway.toml")
    })?;
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let addr = listener.local_addr().map_err(refused)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{addr}");
    info!(%url, "the API listens");
    let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    Ok(Some(Http { listener, tls, url }))
}

/// The certificate that it shows, if it shall have TLS.
fn certificate(config: &Config, layout: &Layout) -> Result<Option<Issued>, Failure> {
    let Api { tls, certificate, key, .. } = &config.api;
    if let (Some(certificate), Some(key)) = (certificate, key) {
        let read = |path: &Path| crate::cli::files::read(&layout.root().join(path));
        let (cert_pem, key_pem) = (read(certificate)?, read(key)?);
        return Ok(Some(Issued { cert_pem, key_pem, public_point: Vec::new() }));
    }
    if !*tls {
        return Ok(None);
    }
    let ca = connect::load_ca(layout)?;
    let issued = ca.issue_server(&server_names(config), now()).map_err(|error| {
        Failure::usage(format!("no certificate for `names` in fleetway.toml: {}", chain(&error)))
            .mend("use host names and IP addresses only")
    })?;
    Ok(Some(issued))
}

/// Serves `app` until `stop` says so; requests under way are finished.
pub(super) async fn serve(http: Http, app: Router, mut stop: watch::Receiver<bool>) {
    let places = Places::new(CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX);
    let app = TowerToHyperService::new(app);
    let mut connections = JoinSet::new();
    loop {
        let Some(place) = places.free().await else { return };
        let accepted = tokio::select! {
            accepted = http.listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok((tcp, addr)) => {
                let Some(guest) = places.seat(place, addr) else { continue };
                let (tls, app, stop) = (http.tls.clone(), app.clone(), stop.clone());
                connections.spawn(async move {
                    greet(tcp, addr, tls, app, stop).await;
                    drop(guest);
                });
                while connections.try_join_next().is_some() {}
            }
            Err(error) => {
                warn!(%error, "cannot accept connections to the API");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(http.listener);
    while connections.join_next().await.is_some() {}
}

/// The handshake, if there is one.
async fn greet(
    tcp: TcpStream,
    addr: SocketAddr,
    tls: Option<TlsAcceptor>,
    app: TowerToHyperService<Router>,
    stop: watch::Receiver<bool>,
) {
    let door = Door::Network { tls: tls.is_some(), from: addr.ip() };
    let Some(tls) = tls else { return converse(TokioIo::new(tcp), door, app, stop).await };
    match timeout(HEAD, tls.accept(tcp)).await {
        Ok(Ok(stream)) => converse(TokioIo::new(stream), door, app, stop).await,
        Ok(Err(error)) => debug!(%addr, %error, "TLS handshake failed"),
        Err(_) => debug!(%addr, "TLS handshake too slow"),
    }
}

/// Requests, one after the other.
async fn converse<I: rt::Read + rt::Write + Unpin + Send + 'static>(
    io: I,
    door: Door,
    app: TowerToHyperService<Router>,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(door);
        app.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = std::pin::pin!(http.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection to the API broke");
    }
}
