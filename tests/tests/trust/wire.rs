//! What a refresh costs on a real socket: TLS 1.3 with both certificates, MQTT, acknowledgements,
//! both ways, counted by a proxy in front of the broker.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_link::{
    Link as _, LinkConfig, LinkEvent, Qos, Session, Subscription, TlsFiles, start,
};
use fleetway_protocol::topics::{ROOT_DEFAULT, Topic};
use fleetway_protocol::trust_file::TrustFile;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec};
use fleetway_tests::proxy::Proxy;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::device::QUIET_REFRESH_BYTES_MAX;

const WAIT: Duration = Duration::from_secs(60);
/// Until what was said has been acknowledged as well.
const SETTLE: Duration = Duration::from_millis(700);

fn moved(proxy: &Proxy) -> u64 {
    proxy.bytes_up() + proxy.bytes_down()
}

async fn until(
    events: &mut mpsc::Receiver<LinkEvent>,
    wanted: impl Fn(&LinkEvent) -> bool,
) -> Result<()> {
    timeout(WAIT, async {
        loop {
            match events.recv().await {
                Some(event) if wanted(&event) => return Ok(()),
                Some(_) => {}
                None => anyhow::bail!("the link ended"),
            }
        }
    })
    .await
    .context("nothing came")?
}

/// A connection as the device's agent makes it.
fn as_device(dir: &Path, port: u16) -> Result<LinkConfig> {
    let at = |name: &str| dir.join(name);
    let files = TlsFiles { ca: at("ca.pem"), cert: at("device.pem"), key: at("device.key") };
    let mut config = LinkConfig::new(format!("mqtts://localhost:{port}").parse()?, "cam-1");
    config.tls = Some(files.read()?.client_config(None)?);
    config.session = Session::Clean;
    Ok(config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_with_nothing_new_is_small_on_a_real_socket() {
    measured().await.unwrap();
}

async fn measured() -> Result<()> {
    let spec = FleetSpec { telemetry_s: 60, ..FleetSpec::new(BrokerKind::Embedded, 1) };
    let mut fleet = Fleet::prepare(spec).await?;
    fleet.add_device("cam-1", "").await?;
    let dir = fleet.controller.data().join("devices/cam-1");
    let (link, mut events) = start(as_device(&dir, fleet.proxy.addr().port())?)?;
    until(&mut events, |event| matches!(event, LinkEvent::Up { .. })).await?;
    // Nothing else is said on this connection: what moves from here on is the refresh.
    sleep(SETTLE).await;
    let connected = moved(&fleet.proxy);
    for file in [TrustFile::Root(2), TrustFile::Timestamp] {
        let topic = Topic::Trust(file).text(ROOT_DEFAULT).as_str().to_owned();
        link.subscribe(Subscription::new(topic, Qos::AtLeastOnce))?;
    }
    let is_timestamp = |event: &LinkEvent| matches!(event, LinkEvent::Message { topic, .. } if topic.ends_with("/timestamp.json"));
    until(&mut events, is_timestamp).await?;
    sleep(SETTLE).await;
    let refresh = moved(&fleet.proxy) - connected;
    link.shutdown(Duration::ZERO).await;

    // The agent itself, from the first byte of TLS: a new connection with all that belongs to it.
    fleet.start_agents().await?;
    sleep(2 * SETTLE).await;
    let before = fleet.proxy.connections().len();
    fleet.proxy.cut_once();
    let newest = timeout(WAIT, async {
        loop {
            sleep(SETTLE).await;
            if let Some(newest) = fleet.proxy.connections().get(before).filter(|c| c.down > 0) {
                sleep(3 * SETTLE).await;
                return fleet.proxy.connections().get(before).copied().unwrap_or(*newest);
            }
        }
    })
    .await
    .context("the agent does not come back")?;
    println!(
        "on the wire with TLS: to connect {connected} bytes, a refresh with nothing new {refresh}; \
         an agent's whole reconnect {} up, {} down",
        newest.up, newest.down
    );
    let bound = u64::try_from(QUIET_REFRESH_BYTES_MAX)?;
    ensure!((100..bound).contains(&refresh), "{refresh} bytes");
    Ok(())
}
