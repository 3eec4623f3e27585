//! The bridge to Home Assistant, before Home Assistant itself: its core and MQTT integration, on a Mosquitto of
//! its own that hears of the fleet by the bridge that we ship.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::mosquitto::Mosquitto;
use fleetway_tests::harness::process::Process;
use fleetway_tests::harness::{BrokerKind, Fleet, programs, wait};
use fleetway_tests::python;
use serde_json::Value;

use super::{WAIT, fleet_on_v1, roll_back};

#[tokio::test]
async fn home_assistant_on_the_embedded_broker() {
    seen(BrokerKind::Embedded).await.unwrap();
}

/// Home Assistant's broker, with the bridge as it is shipped.
async fn bridged(fleet: &Fleet) -> Result<Mosquitto> {
    let viewer = fleet.dir().join("viewer");
    let line = format!("broker viewer home-assistant --out '{}'", viewer.display());
    fleet.controller.cli.ok(&line).await?;
    let shipped = programs::workspace().join("contrib/home-assistant/mosquitto-bridge.conf");
    let bridge = std::fs::read_to_string(shipped)?;
    let address = format!("localhost:{}", fleet.controller.broker().port());
    ensure!(bridge.contains("fleet.example:8883") && bridge.contains("/etc/mosquitto/fleetway"));
    let bridge = bridge.replace("fleet.example:8883", &address);
    let bridge = bridge.replace("/etc/mosquitto/fleetway", &viewer.display().to_string());
    let mut mosquitto = Mosquitto::new(&fleet.dir().join("home"))?;
    mosquitto.configure_open()?;
    mosquitto.add(&bridge)?;
    mosquitto.start().await?;
    Ok(mosquitto)
}

/// Home Assistant, until `wanted` is so.
struct HomeAssistant {
    process: Process,
    log: std::path::PathBuf,
}

impl HomeAssistant {
    fn start(python: &Path, dir: &Path, broker: &Mosquitto, wanted: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/home_assistant.py");
        let log = dir.join("said");
        let mut command = Command::new(python);
        command.arg(script).arg(dir).arg(broker.addr().port().to_string()).args(wanted);
        let process = Process::start("Home Assistant", &mut command, &log)?;
        Ok(Self { process, log })
    }

    /// All its entities.
    async fn entities(&mut self) -> Result<Value> {
        wait::until("Home Assistant to see it", 2 * WAIT, async || {
            let ended = self.process.ended()?.context("it waits")?;
            let said = std::fs::read_to_string(&self.log)?;
            ensure!(ended.success(), "{said}");
            Ok(serde_json::from_str(said.lines().last().context("nothing")?)?)
        })
        .await
    }
}

async fn seen(broker: BrokerKind) -> Result<()> {
    let Some(python) = python::home_assistant()? else { return Ok(()) };
    let page = "[bridge.home_assistant]\npage = \"https://fleet.example:8885\"";
    let mut fleet = fleet_on_v1(broker, 1, page).await?;
    let mosquitto = bridged(&fleet).await?;
    let dir = fleet.dir().join("there");
    let wanted = [
        "update.cam_1_digits=off",
        "event.cam_1_updates:event_type=rolled_back",
        "sensor.cam_1_digits_phase=idle",
    ];
    let mut home = HomeAssistant::start(&python, &dir, &mosquitto, &wanted)?;
    wait::until("Home Assistant to find the device", WAIT, async || {
        ensure!(
            dir.join("ready").exists() || home.process.ended()?.is_some(),
            "{}",
            home.process.tail()
        );
        Ok(())
    })
    .await?;
    roll_back(&fleet).await?;
    let all = home.entities().await?;
    let update = &all["update.cam_1_digits"];
    ensure!(update["installed_version"] == "v1" && update["latest_version"] == "v1", "{update}");
    ensure!(update["title"] == "digits" && update["in_progress"] == false, "{update}");
    let event = &all["event.cam_1_updates"];
    ensure!(event["version"] == "v4" && event["code"] == "HEALTH_COLLAPSE", "{event}");
    let number = |entity: &str| all[entity]["state"].as_str().and_then(|text| text.parse().ok());
    for (entity, least) in [
        ("sensor.cam_1_digits_requests", 20.0),
        ("sensor.cam_1_digits_latency_p99", 0.001),
        ("sensor.cam_1_digits_confidence", 0.1),
        ("sensor.cam_1_free_memory", 1.0),
    ] {
        let number: f64 = number(entity).with_context(|| format!("{entity}: {}", all[entity]))?;
        ensure!(number >= least, "{entity} is {number}");
    }

    // A device that is away is shown as that; Home Assistant was restarted, so this is what brokers keep.
    fleet.agents[0].stop().await?;
    let wanted = ["update.cam_1_digits=unavailable", "sensor.cam_1_processor=unavailable"];
    let mut home = HomeAssistant::start(&python, &fleet.dir().join("away"), &mosquitto, &wanted)?;
    home.entities().await?;
    Ok(())
}
