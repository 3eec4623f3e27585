//! The Node-RED flow: it keeps a table of devices, and posts an alarm when a release is rolled back and when
//! a device stays away.

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::sink::Sink;
use fleetway_tests::harness::{BrokerKind, Fleet, programs, wait};
use fleetway_tests::node_red::NodeRed;
use serde_json::{Value, json};

use super::{WAIT, fleet_on_v1, roll_back};

#[tokio::test]
async fn node_red_on_the_embedded_broker() {
    alarms(BrokerKind::Embedded).await.unwrap();
}

#[tokio::test]
async fn node_red_on_mosquitto() {
    alarms(BrokerKind::Mosquitto).await.unwrap();
}

/// The flow as it is shipped, but a device that is away for a second is away for long.
fn flow() -> Result<String> {
    let path = programs::workspace().join("contrib/node-red/fleetway-flow.json");
    let mut flow: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let nodes = flow.as_array_mut().context("a list of nodes")?;
    let away = nodes.iter_mut().find(|node| node["id"] == "away-for-long").context("no trigger")?;
    ensure!(away["duration"] == "5" && away["units"] == "min", "{away}");
    (away["duration"], away["units"]) = (json!("1"), json!("s"));
    Ok(flow.to_string())
}

async fn start(fleet: &Fleet, alarm_url: String) -> Result<NodeRed> {
    let dir = fleet.dir().join("wall");
    fleet.controller.cli.ok(&format!("broker viewer wall --out '{}'", dir.display())).await?;
    let file = |name: &str| dir.join(name).display().to_string();
    let env = [
        ("FLEETWAY_BROKER", "localhost".to_owned()),
        ("FLEETWAY_PORT", fleet.controller.broker().port().to_string()),
        ("FLEETWAY_VIEWER", "viewer.wall".to_owned()),
        ("FLEETWAY_CA", file("ca.pem")),
        ("FLEETWAY_CERT", file("viewer.pem")),
        ("FLEETWAY_KEY", file("viewer.key")),
        ("FLEETWAY_ALARM_URL", alarm_url),
    ];
    NodeRed::start(&fleet.dir().join("node-red"), &flow()?, &env, "/fleetway").await
}

/// Waits for an alarm of this kind among what was posted.
async fn alarm(sink: &Sink, node_red: &NodeRed, kind: &str) -> Result<Value> {
    let what = format!("an alarm: {kind}");
    let posted = wait::until(&what, WAIT, async || {
        let all = sink.received();
        let alarms = all.iter().filter_map(|r| serde_json::from_slice::<Value>(&r.body).ok());
        let found = alarms.into_iter().find(|alarm| alarm["kind"] == kind);
        found.with_context(|| format!("{} posted", all.len()))
    });
    posted.await.with_context(|| node_red.tail())
}

async fn alarms(broker: BrokerKind) -> Result<()> {
    let mut fleet = fleet_on_v1(broker, 1, "").await?;
    let sink = Sink::start()?;
    let node_red = start(&fleet, sink.url("/alarms")).await?;
    wait::until("the flow's table", WAIT, async || {
        let said = node_red.web.get("/fleetway").await?.json();
        let device = &said["devices"]["cam-1"];
        let model = &device["models"]["digits"];
        ensure!(device["online"] == 1 && model["version"] == "v1", "{said}");
        ensure!(model["infer_total"].as_u64() > Some(20), "{said}");
        ensure!(model["lat_p99_ms"].is_number() && said["alarms"] == json!([]), "{said}");
        Ok(())
    })
    .await
    .with_context(|| node_red.tail())?;

    roll_back(&fleet).await?;
    let undone = alarm(&sink, &node_red, "rolled_back").await?;
    ensure!(undone["device"] == "cam-1" && undone["model"] == "digits", "{undone}");
    ensure!(undone["version"] == "v4" && undone["code"] == "HEALTH_COLLAPSE", "{undone}");

    fleet.agents[0].stop().await?;
    let away = alarm(&sink, &node_red, "away").await?;
    ensure!(away["device"] == "cam-1" && away["text"] == "cam-1 is away", "{away}");
    fleet.agents[0].start().await?;
    fleet.all_online(WAIT).await?;
    let said = node_red.web.get("/fleetway").await?.json();
    ensure!(said["alarms"][0] == away && said["alarms"][1] == undone, "{said}");
    Ok(())
}
