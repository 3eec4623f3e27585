//! Pushes metrics to an OpenTelemetry collector: one task, one request at a time, each with a deadline, and
//! nothing kept between them. A collector that is down is told once, and once when it is back.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use fleetway_controller::authorities;
use fleetway_controller::clock;
use fleetway_controller::otlp::{Answer, Origin, Pace, Settings, Url, request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Request, rt};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use super::Running;
use crate::api::failure::{Failure, chain};
use crate::api::metrics;

/// Largest answer that is read: a collector says what it did not take in a sentence.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A collector, as one speaks to it.
pub(super) struct Collector {
    settings: Settings,
    tls: Option<TlsConnector>,
}

/// The collector that the environment names, if it names one.
///
/// # Errors
/// If the environment asks for what we cannot do. A collector that does not answer is none.
pub(super) fn read() -> Result<Option<Collector>, Failure> {
    let wrong = |error: &dyn std::error::Error| {
        Failure::usage(format!("OTLP export: {}", chain(error)))
            .mend("correct the variable or unset it; docs/dashboards/otlp.md has them all")
    };
    let settings = Settings::read(&|name| std::env::var(name).ok()).map_err(|e| wrong(&e))?;
    let Some(settings) = settings else { return Ok(None) };
    let tls = match settings.url.tls {
        true => Some(authorities::connector(settings.ca.as_deref()).map_err(|e| wrong(&e))?),
        false => None,
    };
    Ok(Some(Collector { settings, tls }))
}

async fn run(collector: Collector, running: Running) {
    let mut pace = Pace::new(collector.settings.every);
    let mut told: Option<String> = None;
    loop {
        let Ok(answer) = collector.export(&running).await else { return };
        match (answer.problem(), &told) {
            (Some(problem), told) if told.as_deref() == Some(problem) => {}
            (Some(problem), _) => warn!("metrics are not exported: {problem}"),
            (None, Some(_)) => info!("metrics are exported again"),
            (None, None) => {}
        }
        told = answer.problem().map(str::to_owned);
        sleep(pace.next(&answer, fastrand::f64())).await;
    }
}

impl Collector {
    /// Begins; its end is its task's abortion.
    pub(super) fn start(self, running: &Running) -> JoinHandle<()> {
        let Url { authority, path, .. } = &self.settings.url;
        info!(collector = %authority, path, "metrics are exported");
        tokio::spawn(run(self, running.clone()))
    }

    /// Sends what is true now.
    ///
    /// # Errors
    /// If the controller stops.
    async fn export(&self, running: &Running) -> Result<Answer, Failure> {
        let metrics = metrics::gather(running).await?;
        let resource = &self.settings.resource;
        let origin = Origin { resource, started_s: running.started_s, now_s: clock::now_s() };
        let body = request(&metrics, &origin).encode_to_vec();
        let sent = timeout(self.settings.timeout, self.post(body)).await;
        Ok(match sent {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => Answer::Later(why, None),
            Err(_) => {
                let ms = self.settings.timeout.as_millis();
                Answer::Later(format!("no answer within {ms} ms"), None)
            }
        })
    }

    async fn post(&self, body: Vec<u8>) -> Result<Answer, String> {
        let Url { host, port, .. } = &self.settings.url;
        let broken = |error: &dyn std::error::Error| chain(error);
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| broken(&e))?;
        match &self.tls {
            None => self.exchange(TokioIo::new(tcp), body).await,
            Some(tls) => {
                let name = ServerName::try_from(host.clone()).map_err(|e| broken(&e))?;
                let stream = tls.connect(name, tcp).await.map_err(|e| broken(&e))?;
                self.exchange(TokioIo::new(stream), body).await
            }
        }
        .map_err(|error| broken(&error))
    }

    async fn exchange<I: rt::Read + rt::Write + Unpin + Send + 'static>(
        &self,
        io: I,
        body: Vec<u8>,
    ) -> hyper::Result<Answer> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        let driver = Ended(tokio::spawn(async move {
            // What went wrong on it, whoever waits for the answer hears.
            let _ = connection.await;
        }));
        let response = sender.send_request(self.request(body)).await?;
        let status = response.status().as_u16();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let header = header.map(str::to_owned);
        // A longer answer is cut, and counts by its status.
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        drop(driver);
        Ok(Answer::of(status, header.as_deref(), &body, clock::now_s()))
    }

    fn request(&self, body: Vec<u8>) -> Request<Full<Bytes>> {
        let Settings { url, headers, gzip, .. } = &self.settings;
        let mut request = Request::new(Full::default());
        *request.method_mut() = hyper::Method::POST;
        // It was read as part of a URL before.
        *request.uri_mut() = url.path.parse().unwrap_or_default();
        let all = request.headers_mut();
        for (name, value) in headers {
            all.insert(name, value.clone());
        }
        let protobuf = hyper::header::HeaderValue::from_static("application/x-protobuf");
        all.insert(CONTENT_TYPE, protobuf);
        if let Ok(host) = url.authority.parse() {
            all.insert(HOST, host);
        }
        let packed = if *gzip { packed(&body) } else { None };
        if packed.is_some() {
            all.insert(CONTENT_ENCODING, hyper::header::HeaderValue::from_static("gzip"));
        }
        *request.body_mut() = Full::new(packed.unwrap_or(body).into());
        request
    }
}

/// A task that ends when this is dropped, with its connection.
struct Ended(JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn packed(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}
