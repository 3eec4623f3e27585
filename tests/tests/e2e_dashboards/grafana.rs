//! Every query of every Grafana panel, on the real Prometheus, after it scraped a real controller: a panel
//! shows something, or says why it may show nothing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::grafana::{Panel, Source, boards};
use fleetway_tests::harness::http::Web;
use fleetway_tests::harness::process::Process;
use fleetway_tests::harness::prometheus::prometheus;
use fleetway_tests::harness::together::report;
use fleetway_tests::harness::views::RunFile;
use fleetway_tests::harness::{BrokerKind, Fleet, ports, programs, wait};
use serde_json::Value;

use super::{JUDGE, WAIT, fleet_on_v1};

#[tokio::test]
async fn panels_show_something_on_the_real_prometheus() {
    queried().await.unwrap();
}

/// Two devices of which one has the new release, and a rollout that waits for the other.
async fn fleet() -> Result<Fleet> {
    let fleet = fleet_on_v1(BrokerKind::Embedded, 2, "[api]\nlisten = \"127.0.0.1:0\"").await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    let flags = format!("--canary 1 --phase 100% --soak 1h --max-unavailable 100% {JUDGE}");
    let rollout = fleet.controller.rollout("v2", &flags).await?;
    wait::until("the canary", WAIT, async || {
        let rollout = fleet.controller.rollout_status(rollout.id).await?;
        ensure!(rollout.counts.confirmed == 1, "{:?}", rollout.counts);
        Ok(())
    })
    .await?;
    Ok(fleet)
}

/// Prometheus with the configuration that we ship, every second, and with single devices.
fn scrape(dir: &Path, api: &str, token: &str) -> Result<(Process, Web)> {
    let shipped = programs::workspace().join("contrib/prometheus");
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("fleetway.token"), token)?;
    std::fs::copy(shipped.join("rules.yml"), dir.join("rules.yml"))?;
    let config = std::fs::read_to_string(shipped.join("prometheus.yml"))?;
    let host = api.trim_start_matches("http://");
    ensure!(config.contains("127.0.0.1:8885") && config.contains("15s"), "{config}");
    let config = config.replace("127.0.0.1:8885", host).replace("15s", "1s");
    std::fs::write(dir.join("prometheus.yml"), with_devices(&config))?;
    let port = ports::lasting()?;
    let mut command = Command::new(&prometheus()?.server);
    command.current_dir(dir).arg("--config.file=prometheus.yml");
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--storage.tsdb.path=data");
    let process = Process::start("prometheus", &mut command, &dir.join("log"))?;
    Ok((process, Web::new(&format!("http://127.0.0.1:{port}"), None)?))
}

/// The job of single devices, which stands there as a comment: it is for the few that somebody looks at.
fn with_devices(config: &str) -> String {
    let (before, job) = config.split_once("  # - job_name").unwrap_or((config, ""));
    let job: Vec<_> = job.lines().map(|line| line.replacen("  # ", "  ", 1)).collect();
    format!("{before}  - job_name{}\n", job.join("\n"))
}

/// A query as Grafana sends it, with what is chosen and its own words filled in.
fn filled(query: &str) -> String {
    let words = [
        ("$__rate_interval", "1m"),
        ("$__range", "1m"),
        ("$rollout", "2"),
        ("$model", "digits"),
        ("$device", "cam-1"),
    ];
    words.iter().fold(query.to_owned(), |query, (word, value)| query.replace(word, value))
}

/// Series that a query finds, with numbers in them.
async fn found(prometheus: &Web, query: &str) -> Result<usize> {
    let escaped: String = filled(query).bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = prometheus.get(&format!("/api/v1/query?query={escaped}")).await?.json();
    ensure!(answer["status"] == "success", "{query}: {answer}");
    let series = answer["data"]["result"].as_array().context("no result")?;
    let number = |one: &&Value| {
        let text = one["value"][1].as_str().unwrap_or("NaN");
        text.parse::<f64>().is_ok_and(|value| !value.is_nan())
    };
    Ok(series.iter().filter(number).count())
}

async fn check(prometheus: &Web, board: &str, panel: &Panel) -> Result<()> {
    for query in panel.queries {
        let series = found(prometheus, query.ask).await?;
        let (title, ask) = (panel.title, query.ask);
        match panel.empty {
            Some(why) => {
                ensure!(series == 0, "{board}, {title}: {why}, but {series} series: {ask}")
            }
            None => ensure!(series > 0, "{board}, {title} shows nothing: {ask}"),
        }
    }
    Ok(())
}

async fn queried() -> Result<()> {
    let fleet = fleet().await?;
    let run = std::fs::read(fleet.controller.data().join("run.json"))?;
    let run: RunFile = serde_json::from_slice(&run)?;
    let api = run.api_url.context("no API on the network")?;
    let line = "token create prometheus --role viewer --expires 1h";
    let token = fleet.controller.cli.ok(line).await?.stdout.trim().to_owned();
    let (_process, prometheus) = scrape(&fleet.dir().join("prometheus"), &api, &token)?;
    let of_prometheus = || boards::ALL.iter().filter(|board| board.source == Source::Prometheus);
    let mut queries = 0;
    for board in of_prometheus() {
        for panel in board.panels {
            // Rates want some scrapes.
            let what = format!("{}: {}", board.name, panel.title);
            wait::until(&what, WAIT, async || check(&prometheus, board.name, panel).await).await?;
            queries += panel.queries.len();
        }
        for variable in board.variables {
            let inside = variable.choice.strip_prefix("label_values(").context("another form")?;
            let metric = inside.split_once(',').context("no label")?.0;
            let series = found(&prometheus, metric).await?;
            ensure!(series > 0, "{}: nothing to choose by {}", board.name, variable.choice);
        }
    }
    report(&format!("{queries} queries of {} dashboards show something", of_prometheus().count()));
    Ok(())
}
