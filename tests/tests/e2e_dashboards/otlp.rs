//! OTLP: what a collector gets is what OpenTelemetry's own package reads; a collector that refuses, that asks
//! for patience, or that is no more, costs the controller nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::controller::Controller;
use fleetway_tests::harness::process::log_tail;
use fleetway_tests::harness::sink::{Received, Sink};
use fleetway_tests::harness::together::report;
use fleetway_tests::harness::views::Status;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use fleetway_tests::python;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::{JUDGE, WAIT};

/// Between two requests, as it is set here: half of it is what a busy machine may be late by.
const EVERY_MS: u64 = 600;
/// Resident memory that a controller may gain while its collector is dead: what its caches may, not
/// what a queue would.
const GAIN_BYTES_MAX: u64 = 16 << 20;

#[tokio::test]
async fn opentelemetry_reads_what_is_sent() {
    read().await.unwrap();
}

#[tokio::test]
async fn a_dead_collector_costs_nothing() {
    dead().await.unwrap();
}

/// The names of the environment that the controller gets.
fn name(controller: &mut Controller, endpoint: &str) {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=two%20words"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
        ("OTEL_METRIC_EXPORT_INTERVAL", &EVERY_MS.to_string()),
        ("OTEL_SERVICE_NAME", "fleet-a"),
    ] {
        controller.set_env(name, value);
    }
}

async fn fleet(endpoint: &str) -> Result<Fleet> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.controller.stop().await?;
    name(&mut fleet.controller, endpoint);
    fleet.controller.start().await?;
    fleet.add_device("cam-1", "").await?;
    fleet.start_agents().await?;
    fleet.feed(Duration::from_millis(10));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;
    Ok(fleet)
}

/// A request as OpenTelemetry reads it.
fn decoded(fleet: &Fleet, received: &Received) -> Result<Value> {
    let body = fleet.dir().join("otlp");
    std::fs::write(&body, &received.body)?;
    Ok(serde_json::from_str(&python::otlp(&body, "gzip")?)?)
}

/// One metric of a request.
fn metric<'a>(request: &'a Value, name: &str) -> Result<&'a Value> {
    let metrics = &request["resource_metrics"][0]["scope_metrics"][0]["metrics"];
    let metrics = metrics.as_array().context("no metrics")?;
    metrics.iter().find(|metric| metric["name"] == name).with_context(|| format!("no {name}"))
}

/// The point with this attribute.
fn point<'a>(points: &'a Value, key: &str, value: &str) -> Result<&'a Value> {
    let has = |point: &&Value| {
        let attributes = point["attributes"].as_array().map(Vec::as_slice).unwrap_or_default();
        attributes.iter().any(|a| a["key"] == key && a["value"]["string_value"] == value)
    };
    let found = points.as_array().context("no points")?.iter().find(has);
    found.with_context(|| format!("{key} {value} in {points}"))
}

/// Numbers of 64 bits are text in protobuf's JSON.
fn number(value: &Value) -> Result<u64> {
    value.as_str().context("no number")?.parse().with_context(|| value.to_string())
}

async fn read() -> Result<()> {
    let sink = Sink::start()?;
    let fleet = fleet(&sink.url("/base")).await?;
    let answered = "a request with answers";
    let (received, said) = wait::until(answered, WAIT, async || {
        let received = sink.received().pop().context("nothing came")?;
        let said = decoded(&fleet, &received)?;
        let points = &metric(&said, "fleet_model_requests")?["sum"]["data_points"];
        ensure!(number(&point(points, "version", "v1")?["as_int"])? > 20, "{points}");
        Ok((received, said))
    })
    .await?;
    ensure!(received.path == "/base/v1/metrics", "{received:?}");
    for (name, value) in [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "gzip"),
        ("api-key", "two words"),
    ] {
        let got = received.headers.get(name).and_then(|value| value.to_str().ok());
        ensure!(got == Some(value), "{name} is {got:?}");
    }
    let resource = &said["resource_metrics"][0]["resource"]["attributes"];
    point(&serde_json::json!([{ "attributes": resource }]), "service.name", "fleet-a")?;
    let devices = &metric(&said, "fleet_devices")?["gauge"]["data_points"];
    ensure!(point(devices, "state", "online")?["as_double"] == 1.0, "{devices}");
    let requests = &metric(&said, "fleet_model_requests")?["sum"];
    ensure!(requests["is_monotonic"] == true, "{requests}");
    let cumulative = "AGGREGATION_TEMPORALITY_CUMULATIVE";
    ensure!(requests["aggregation_temporality"] == cumulative, "{requests}");
    let latency = metric(&said, "fleet_model_infer_latency")?;
    ensure!(latency["unit"] == "us", "{latency}");
    let latency = &latency["exponential_histogram"];
    let point = point(&latency["data_points"], "model", "digits")?;
    ensure!(latency["aggregation_temporality"] == cumulative && point["scale"] == 3, "{latency}");
    let counts = point["positive"]["bucket_counts"].as_array().context("no buckets")?;
    let sum: u64 = counts.iter().map(number).sum::<Result<u64>>()?;
    ensure!(number(&point["count"])? == sum && sum > 20, "{point}");
    let (start, time) =
        (number(&point["start_time_unix_nano"])?, number(&point["time_unix_nano"])?);
    ensure!(start < time && start > 1_600_000_000 * 1_000_000_000, "{start} to {time}");
    patience(&sink, &fleet).await
}

/// A collector's wishes are followed, and what it refuses does not end the export.
async fn patience(sink: &Sink, fleet: &Fleet) -> Result<()> {
    let asked = sink.received().len();
    sink.answer_next(503, &[("retry-after", "2")]);
    sink.answer_next(429, &[]);
    sink.answer_next(400, &[]);
    let all = wait::until("six more requests", WAIT, async || {
        let all = sink.received();
        ensure!(all.len() >= asked + 6, "{} of {}", all.len(), asked + 6);
        Ok(all)
    })
    .await?;
    let pauses: Vec<_> = all[asked..].windows(2).map(|two| two[1].at - two[0].at).collect();
    let long = pauses.iter().position(|pause| *pause >= Duration::from_secs(2));
    let long = long.with_context(|| format!("no pause of two seconds: {pauses:?}"))?;
    // After the others: never sooner than half the interval, and not as if it had said more.
    let bounds = Duration::from_millis(EVERY_MS / 2)..Duration::from_secs(2);
    let after: Vec<_> = pauses[long + 1..].iter().take(3).collect();
    ensure!(after.len() == 3 && after.iter().all(|p| bounds.contains(*p)), "{pauses:?}");
    let log = std::fs::read_to_string(fleet.controller.log())?;
    for text in ["metrics are not exported: HTTP 503", "metrics are exported again"] {
        ensure!(log.contains(text), "{text}: {}", log_tail(fleet.controller.log()));
    }
    Ok(())
}

/// Counts of open files and resident bytes.
fn held(fleet: &Fleet) -> Result<(usize, u64)> {
    let pid = fleet.controller.pid().context("it does not run")?;
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = rss.trim().trim_end_matches(" kB").parse()?;
    Ok((files, kib * 1024))
}

async fn dead() -> Result<()> {
    // It takes connections and never says a word: the worst kind.
    let hole = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", hole.local_addr()?);
    let tries = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = hole.accept().await {
            open.push(stream);
        }
        open.len()
    });
    let mut fleet = fleet(&url).await?;
    sleep(Duration::from_secs(2)).await;
    let (files, rss) = held(&fleet)?;
    sleep(Duration::from_secs(6)).await;
    let (files_after, rss_after) = held(&fleet)?;
    report(&format!("files {files} to {files_after}, resident {rss} to {rss_after} bytes"));
    ensure!(files_after <= files + 2, "{files} files became {files_after}");
    ensure!(rss_after <= rss + GAIN_BYTES_MAX, "{rss} bytes became {rss_after}");
    let asked = Instant::now();
    fleet.controller.cli.json::<Status>("status").await?;
    ensure!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let log = std::fs::read_to_string(fleet.controller.log())?;
    let told = log.matches("metrics are not exported").count();
    ensure!(told == 1 && log.contains("no answer within 500 ms"), "told {told} times");
    // It stops as if nobody was waited for.
    let stopping = Instant::now();
    fleet.controller.stop().await?;
    ensure!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
    tries.abort();

    // Nobody there at all; then what nobody can follow.
    name(&mut fleet.controller, "http://127.0.0.1:9");
    fleet.controller.start().await?;
    fleet.controller.stop().await?;
    name(&mut fleet.controller, "https://127.0.0.1:9");
    fleet.controller.set_env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let output = fleet.controller.serve_command().output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{:?}: {said}", output.status);
    ensure!(said.contains("OTEL_EXPORTER_OTLP_PROTOCOL") && said.contains("otlp.md"), "{said}");
    Ok(())
}
