//! `/metrics` as the real Prometheus reads it, and the rules that we ship as `promtool` does.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::http::Web;
use fleetway_tests::harness::process::Process;
use fleetway_tests::harness::prometheus::prometheus;
use fleetway_tests::harness::{ports, programs, wait};
use serde_json::{Value, json};

use super::{PLAIN, Served};

const WAIT: Duration = Duration::from_secs(30);

#[test]
fn the_alert_rules_are_right_and_ring_when_they_should() {
    let promtool = &prometheus().unwrap().promtool;
    let dir = programs::workspace().join("contrib/prometheus");
    for args in [["check", "rules", "rules.yml"], ["test", "rules", "rules.test.yml"]] {
        let output = Command::new(promtool).args(args).current_dir(&dir).output().unwrap();
        let (said, err) = (output.stdout.escape_ascii(), output.stderr.escape_ascii());
        assert!(output.status.success(), "promtool {args:?}: {said} {err}");
    }
}

#[tokio::test]
async fn prometheus_scrapes_what_the_rules_ask_for() {
    scraped().await.unwrap();
}

async fn scraped() -> Result<()> {
    let server = &prometheus()?.server;
    let served = Served::start(PLAIN).await?;
    let admin = served.token("ann", "admin").await?;
    admin
        .post("/v1/devices", &json!({ "id": "cam-1", "labels": { "site": "lab" } }))
        .await?
        .expect(200)?;
    served.controller.release("digits-v1", "v1", "").await?;
    admin
        .post("/v1/rollouts", &json!({ "model": "digits", "version": "v1" }))
        .await?
        .expect(200)?;
    served.web.get("/metrics").await?.expect(401)?;

    let dir = tempfile::tempdir()?;
    let viewer = served.token("prometheus", "viewer").await?;
    let token = viewer.authorization();
    let token = token.rsplit(' ').next().context("a token")?;
    std::fs::write(dir.path().join("fleetway.token"), token)?;
    // The configuration that we ship, with this controller's port.
    let shipped = programs::workspace().join("contrib/prometheus");
    let config = std::fs::read_to_string(shipped.join("prometheus.yml"))?;
    let config = config.replace("127.0.0.1:8885", &served.web.host()).replace("15s", "1s");
    std::fs::write(dir.path().join("prometheus.yml"), config)?;
    std::fs::copy(shipped.join("rules.yml"), dir.path().join("rules.yml"))?;
    let port = ports::lasting()?;
    let mut command = Command::new(server);
    command.current_dir(dir.path()).arg("--config.file=prometheus.yml");
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--storage.tsdb.path=data");
    let _process = Process::start("prometheus", &mut command, &dir.path().join("log"))?;

    let prom = Web::new(&format!("http://127.0.0.1:{port}"), None)?;
    let value = async |query: &str| -> Result<Option<f64>> {
        let answer = prom.get(&format!("/api/v1/query?query={}", escaped(query))).await?;
        let value = answer.json()["data"]["result"][0]["value"][1].clone();
        Ok(value.as_str().and_then(|value| value.parse().ok()))
    };
    wait::until("Prometheus to scrape", WAIT, async || {
        let up = value("up{job=\"fleetway\"}").await?;
        ensure!(up == Some(1.0), "up is {up:?}: {:?}", targets(&prom).await);
        Ok(())
    })
    .await?;
    for (query, expected) in [
        ("fleet_devices{state=\"offline\"}", 1.0),
        ("fleet_devices{state=\"online\"}", 0.0),
        ("fleet_mqtt_up", 1.0),
        ("fleet_rollouts{state=\"running\"}", 1.0),
        ("sum(fleet_rollout_devices{rollout=\"1\"})", 1.0),
        ("count({__name__=~\"fleet_.*\",device=~\".+\"}) or vector(0)", 0.0),
    ] {
        let got = value(query).await?;
        ensure!(got == Some(expected), "{query} is {got:?}, not {expected}");
    }
    let rules = prom.get("/api/v1/rules").await?.json();
    let rules = rules["data"]["groups"][0]["rules"].as_array().map(Vec::len);
    ensure!(rules == Some(6), "{rules:?}");
    // Series of single devices only for who asks for them.
    let some = viewer.get("/metrics/devices?match=site%3Dlab").await?.expect(200)?;
    let text = String::from_utf8_lossy(&some.body).into_owned();
    ensure!(text.contains("fleet_device_online{device=\"cam-1\"} 0.0"), "{text}");
    viewer.get("/metrics/devices").await?.expect(400)?;
    Ok(())
}

async fn targets(prom: &Web) -> Result<Value> {
    Ok(prom.get("/api/v1/targets").await?.json()["data"]["activeTargets"][0]["lastError"].clone())
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
