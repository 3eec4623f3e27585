//! Somebody with a certificate and an MQTT client of their own: what an attacker has who
//! took over a device, or the observer that sees what really arrives.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fleetway_link::{
    Link as _, LinkConfig, LinkEvent, LinkHandle, Outgoing, Qos, Session, Subscription, TlsFiles,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// A connection, and everything that it heard.
pub(crate) struct Client {
    pub(crate) link: LinkHandle,
    events: mpsc::Receiver<LinkEvent>,
}

impl Client {
    /// Connects with `cert` and `key`, subscribed to `filters`.
    pub(crate) async fn connect(
        broker: std::net::SocketAddr,
        client_id: &str,
        files: TlsFiles,
        filters: &[&str],
    ) -> Result<Self> {
        let mut config =
            LinkConfig::new(format!("mqtts://localhost:{}", broker.port()).parse()?, client_id);
        config.tls = Some(files.read()?.client_config(None)?);
        config.session = Session::Clean;
        config.standing =
            filters.iter().map(|filter| Subscription::new(*filter, Qos::AtLeastOnce)).collect();
        let (link, events) = fleetway_link::start(config)?;
        let mut client = Self { link, events };
        client.up(Duration::from_secs(30)).await?;
        Ok(client)
    }

    /// As the device that lives in `dir`.
    pub(crate) fn device_files(dir: &Path) -> TlsFiles {
        let at = |name: &str| dir.join(name);
        TlsFiles { ca: at("ca.pem"), cert: at("device.pem"), key: at("device.key") }
    }

    /// As the controller of `data`.
    pub(crate) fn controller_files(data: &Path) -> TlsFiles {
        let at = |name: &str| data.join("pki").join(name);
        TlsFiles { ca: at("ca.pem"), cert: at("controller.pem"), key: at("controller.key") }
    }

    async fn up(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut last = String::new();
        loop {
            match timeout_at(deadline, self.events.recv()).await {
                Ok(Some(LinkEvent::Up { .. })) => return Ok(()),
                Ok(Some(LinkEvent::Down { reason, .. })) => last = reason,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => bail!("not connected: {last}"),
            }
        }
    }

    /// Waits until the connection ends; says how long it took.
    pub(crate) async fn down(&mut self, within: Duration) -> Result<Duration> {
        let begin = Instant::now();
        loop {
            let event = timeout_at(begin + within, self.events.recv()).await;
            let event = event.context("the session is still there")?.context("no events")?;
            if matches!(event, LinkEvent::Down { .. }) {
                return Ok(begin.elapsed());
            }
        }
    }

    /// Whether it comes up again within this time.
    pub(crate) async fn comes_back(&mut self, within: Duration) -> bool {
        self.up(within).await.is_ok()
    }

    /// Publishes without asking whether it may.
    pub(crate) fn say(&self, topic: &str, text: &str) -> Result<()> {
        Ok(self.link.publish(Outgoing::new(topic, text.as_bytes().to_vec()))?)
    }

    /// What arrives, up to and with `until`, or until the time is over.
    pub(crate) async fn heard(&mut self, until: &str, within: Duration) -> Vec<(String, String)> {
        let deadline = Instant::now() + within;
        let mut heard = Vec::new();
        while let Ok(Some(event)) = timeout_at(deadline, self.events.recv()).await {
            if let LinkEvent::Message { topic, payload, .. } = event {
                let text = String::from_utf8_lossy(&payload).into_owned();
                let last = text == until;
                heard.push((topic.to_string(), text));
                if last {
                    break;
                }
            }
        }
        heard
    }
}
