//! Telemetry out, with real processes, on the embedded broker and on Mosquitto: a dashboard reads
//! typed messages; the broker goes away and comes back, an update goes first, and what was
//! made meanwhile is filled in, with its own time; nothing is lost, and both sides say so. Every message
//! is then held against the shipped schemas by another's validator.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_link::{
    BackoffLimits, Link as _, LinkConfig, LinkEvent, LinkHandle, Qos, Session, Subscription,
    TlsFiles,
};
use fleetway_protocol::topics::ROOT_DEFAULT;
use fleetway_tests::harness::together::report;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use fleetway_tests::python;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Longest wait for anything, on a loaded machine.
const WAIT: Duration = Duration::from_secs(120);
/// How devices judge a release here.
const JUDGE: &str = "--probation 1s --answers 10";
/// How long there is no broker: some dozen reports at two a second.
const OUTAGE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    day(BrokerKind::Embedded).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto() {
    day(BrokerKind::Mosquitto).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_can_be_switched_off() {
    off().await.unwrap();
}

/// A message of the mirror, and when it came, Unix milliseconds by the order of arrival.
#[derive(Clone, Debug)]
struct Seen {
    topic: String,
    payload: String,
}

impl Seen {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.payload).with_context(|| format!("{self:?}"))
    }
}

/// A dashboard with a certificate of its own.
struct Dashboard {
    link: LinkHandle,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Dashboard {
    async fn start(fleet: &Fleet) -> Result<Self> {
        let dir = fleet.dir().join("wall");
        fleet.controller.cli.ok(&format!("broker viewer wall --out '{}'", dir.display())).await?;
        let file = |name: &str| dir.join(name);
        let files =
            TlsFiles { ca: file("ca.pem"), cert: file("viewer.pem"), key: file("viewer.key") };
        let url = format!("mqtts://localhost:{}", fleet.controller.broker().port());
        let mut config = LinkConfig::new(url.parse()?, "viewer.wall");
        config.tls = Some(files.read()?.client_config(None)?);
        config.session = Session::Clean;
        // It must not miss what is not retained because it was slow to come back.
        let (min, max) = (Duration::from_millis(100), Duration::from_millis(500));
        config.backoff = BackoffLimits { min, max };
        let filter = format!("{ROOT_DEFAULT}j/#");
        config.standing = vec![Subscription::new(filter, Qos::AtMostOnce)];
        let (link, mut events) = fleetway_link::start(config)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let LinkEvent::Message { topic, payload, .. } = event {
                    let payload = String::from_utf8_lossy(&payload).into_owned();
                    all.lock().unwrap().push(Seen { topic, payload });
                }
            }
        });
        Ok(Self { link, seen })
    }

    /// Messages so far under a topic below `j/`.
    fn of(&self, topic: &str) -> Vec<Seen> {
        let topic = format!("{ROOT_DEFAULT}j/{topic}");
        self.seen.lock().unwrap().iter().filter(|seen| seen.topic == topic).cloned().collect()
    }

    /// Waits for a message that `is` it.
    async fn until(&self, topic: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(&format!("{topic}: {what}"), WAIT, async || {
            let all = self.of(topic);
            for seen in &all {
                let value = seen.json()?;
                if is(&value) {
                    return Ok(value);
                }
            }
            anyhow::bail!("{} messages, last {:?}", all.len(), all.last())
        })
        .await
    }
}

async fn day(broker: BrokerKind) -> Result<()> {
    let mut fleet = Fleet::start(FleetSpec::new(broker, 1)).await?;
    let dashboard = Dashboard::start(&fleet).await?;
    fleet.feed(Duration::from_millis(25));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;

    // What a dashboard sees of a day on which all is well.
    dashboard.until("cam-1/on", "online", |on| *on == json!(1)).await?;
    let runs = |state: &Value| state["phase"] == "idle" && state["version"] == "v1";
    dashboard.until("cam-1/st/digits", "runs v1", runs).await?;
    for kind in ["started", "confirmed"] {
        let is = |event: &Value| event["kind"] == kind && event["version"] == "v1";
        dashboard.until("cam-1/ev", kind, is).await?;
    }
    let live = |said: &Value| said["late"] == 0 && said["infer_total"].as_u64() > Some(50);
    let said = dashboard.until("cam-1/tm/digits", "counts", live).await?;
    ensure!(said["version"] == "v1" && said["lat_p50_ms"].is_number(), "{said}");
    ensure!(said["rss_mb"].is_number() && said["confidence"].is_number(), "{said}");
    let live = |said: &Value| said["late"] == 0 && said["reports_total"].as_u64() > Some(3);
    let said = dashboard.until("cam-1/hw", "counts", live).await?;
    ensure!(said["mem_free_mb"].is_number() && said["uptime_s"].is_u64(), "{said}");

    // The broker is away, and reports are made.
    let made_before = waiting(&fleet).await?.produced;
    match &mut fleet.mosquitto {
        Some(mosquitto) => mosquitto.kill()?,
        None => fleet.controller.kill()?,
    }
    sleep(OUTAGE).await;
    let away = waiting(&fleet).await?;
    ensure!(away.waiting > 20 && away.lost == 0, "{away:?}");
    match &mut fleet.mosquitto {
        Some(mosquitto) => mosquitto.start().await?,
        None => fleet.controller.start().await?,
    }
    wait::until("the dashboard to be back", WAIT, async || {
        ensure!(dashboard.link.stats().version.is_some(), "not connected");
        Ok(())
    })
    .await?;
    // Whatever waits, the update goes first.
    fleet.controller.release("digits-v2", "v2", "").await?;
    fleet.roll_out("v2", JUDGE, WAIT).await?;
    let late = |said: &Value| said["late"] == 1 && said["number"].as_u64() > Some(made_before);
    let said = dashboard.until("cam-1/tm/digits", "a late report", late).await?;
    ensure!(said.get("infer_total").is_none() && said["load_infer_total"].is_u64(), "{said}");
    let still_runs = |state: &Value| state["phase"] == "idle" && state["version"] == "v2";
    dashboard.until("cam-1/st/digits", "runs v2", still_runs).await?;
    let totals = wait::until("everything to be filled in", WAIT, async || {
        let here = waiting(&fleet).await?;
        let there = fleet.controller.device("cam-1").await?.reports;
        // Reports of the last ten seconds are not answered yet.
        ensure!(here.waiting <= 25 && here.produced > away.produced + 25, "{here:?}, {there:?}");
        ensure!(there.delivered + 4 >= there.produced, "{here:?}, {there:?}");
        ensure!(here.lost == 0 && there.lost == 0, "{here:?}, {there:?}");
        Ok(there)
    })
    .await?;
    fleet.check_no_errors()?;

    // Now the device is switched off: nothing more is made, and what was made is all there.
    fleet.agents[0].stop().await?;
    dashboard.until("cam-1/on", "gone", |on| *on == json!(0)).await?;
    let end = fleet.controller.device("cam-1").await?.reports;
    ensure!(end.produced >= totals.produced && end.lost == 0, "{end:?}");
    check(&fleet, &dashboard, broker)?;
    dashboard.link.shutdown(Duration::ZERO).await;
    Ok(())
}

/// What the device says of its reports.
async fn waiting(fleet: &Fleet) -> Result<fleetway_tests::harness::views::Reports> {
    let agent = fleet.agents.first().context("no agent")?;
    agent.status().await?.telemetry.context("no telemetry in the status")
}

/// Every message against its schema, and that the validator can say no.
fn check(fleet: &Fleet, dashboard: &Dashboard, broker: BrokerKind) -> Result<()> {
    let seen = dashboard.seen.lock().unwrap().clone();
    let line = |seen: &Seen| json!({ "topic": seen.topic, "payload": seen.payload }).to_string();
    let write = |name: &str, lines: Vec<String>| -> Result<std::path::PathBuf> {
        let path = fleet.dir().join(name);
        std::fs::write(&path, lines.join("\n"))?;
        Ok(path)
    };
    let said = python::validate_telemetry(&write("messages", seen.iter().map(line).collect())?)?;
    let counts: Value = serde_json::from_str(&said)?;
    report(&format!("{broker:?}: validated {}", said.trim()));
    for (kind, least) in [("on", 2), ("st", 5), ("tm", 20), ("hw", 20), ("ev", 4)] {
        ensure!(counts[kind].as_u64() >= Some(least), "{kind}: {counts}");
    }
    let telemetry = seen.iter().find(|seen| seen.topic.contains("/tm/")).context("none")?;
    for (right, wrong) in [
        ("\"late\":", "\"late\":true,\"x\":"),
        ("\"number\":", "\"number\":\"1\",\"x\":"),
        ("\"ts\":", "\"t\":"),
    ] {
        let payload = telemetry.payload.replacen(right, wrong, 1);
        ensure!(payload != telemetry.payload, "{right} is not in {payload}");
        let bad = Seen { payload, ..telemetry.clone() };
        let found = python::validate_telemetry(&write("bad", vec![line(&bad)])?);
        ensure!(found.is_err(), "taken: {bad:?}");
    }
    Ok(())
}

async fn off() -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.controller.stop().await?;
    fleet.controller.configure("mirror = false")?;
    fleet.controller.start().await?;
    fleet.add_device("cam-1", "").await?;
    let dashboard = Dashboard::start(&fleet).await?;
    fleet.start_agents().await?;
    wait::until("some reports", WAIT, async || {
        let reports = fleet.controller.device("cam-1").await?.reports;
        ensure!(reports.delivered > 5, "{reports:?}");
        Ok(())
    })
    .await?;
    let seen = dashboard.seen.lock().unwrap().clone();
    ensure!(seen.is_empty(), "{seen:?}");
    Ok(())
}
