//! Sizes, memory, start, bytes on the wire, and how long a fleet takes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep};

use super::asker::Asker;
use super::figures::{Figures, quantile};
use super::padded;
use crate::harness::controller::{describe, golden_of};
use crate::harness::infer::Application;
use crate::harness::{BrokerKind, Digits, Fleet, FleetSpec};

/// Bytes in a megabyte.
const MB: f64 = 1e6;
/// Longest wait for a rollout.
const WAIT: Duration = Duration::from_secs(300);
/// Updates whose bytes are counted.
const UPDATES: u64 = 5;
/// Starts that are measured.
const STARTS: usize = 20;
/// The probation of the confirm figures, in seconds.
const PROBATION_S: f64 = 5.0;

/// Stripped sizes of what is shipped, if `cargo xtask bench` built it.
pub(super) fn sizes(figures: &mut Figures) -> Result<()> {
    let Some(dir) = dist_dir() else {
        eprintln!("no sizes: profile `dist` was not built");
        return Ok(());
    };
    let size = |name: &str| {
        let path = dir.join(name);
        let meta = std::fs::metadata(&path).with_context(|| path.display().to_string())?;
        anyhow::Ok(meta.len() as f64 / MB)
    };
    let how = "profile `dist`: fat LTO, one codegen unit, stripped";
    figures.add("agent_binary_mb", size("fleetway-agent")?, None, how);
    figures.add("controller_binary_mb", size("fleetway")?, None, how);
    Ok(())
}

/// Where the shipped programs are, if they were built.
fn dist_dir() -> Option<PathBuf> {
    std::env::var_os("FLEETWAY_DIST_DIR").map(PathBuf::from)
}

/// A device with the good digits model, and nobody who asks it.
pub(super) async fn one_on_v2() -> Result<Fleet> {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v2", "v2", "").await?;
    fleet.roll_out("v2", "--probation 1s --answers 20", WAIT).await?;
    fleet.feeders.clear();
    Ok(fleet)
}

/// Lets the agent run in the shipped build, if there is one; says which it is.
pub(super) async fn as_shipped(fleet: &mut Fleet) -> Result<&'static str> {
    let Some(dir) = dist_dir() else { return Ok("profile `dev`") };
    fleet.agents[0].stop().await?;
    fleet.agents[0].set_program(dir.join("fleetway-agent"));
    fleet.agents[0].start().await?;
    let status = async || {
        let status = fleet.agents[0].status().await?;
        ensure!(status.models.iter().any(|model| model.running.is_some()), "nothing is loaded");
        Ok(())
    };
    crate::harness::wait::until("the model to be loaded", WAIT, status).await?;
    Ok("profile `dist`")
}

/// Resident memory of an agent with the digits model: of the shipped build if there is one,
/// because pages of the program itself count.
pub(super) async fn memory(figures: &mut Figures) -> Result<()> {
    let mut fleet = one_on_v2().await?;
    let build = as_shipped(&mut fleet).await?;
    let rss = || {
        let process = fleet.agents[0].process().context("the agent does not run")?;
        anyhow::Ok(process.rss_bytes()? as f64 / MB)
    };
    sleep(Duration::from_secs(5)).await;
    let how = format!("VmRSS, 5 s without a request, digits model confirmed, {build}");
    figures.add("agent_rss_idle_mb", rss()?, Some(25.0), how);
    let askers = (0..4).map(|_| Asker::start(fleet.agents[0].endpoint(), Duration::ZERO));
    let askers = askers.collect::<Result<Vec<_>>>()?;
    let mut most = 0.0f64;
    for _ in 0..50 {
        sleep(Duration::from_millis(100)).await;
        most = most.max(rss()?);
    }
    let answers: usize = askers.iter().map(|asker| asker.take().len()).sum();
    let per_s = answers / 5;
    let how =
        format!("most VmRSS in 5 s of 4 connections without pause ({per_s} answers/s), {build}");
    figures.add("agent_rss_load_mb", most, Some(25.0), how);
    Ok(())
}

/// From exec to the first answer.
pub(super) async fn cold_start(figures: &mut Figures) -> Result<()> {
    let mut fleet = one_on_v2().await?;
    let digits = Digits::heldout();
    let mut times = Vec::new();
    for _ in 0..STARTS {
        fleet.agents[0].stop().await?;
        let started = Instant::now();
        fleet.agents[0].spawn()?;
        let mut application = Application::new(fleet.agents[0].endpoint());
        while application.ask(digits.body(0)).await.is_err() {
            ensure!(started.elapsed() < WAIT, "no answer after {WAIT:?}");
            sleep(Duration::from_micros(500)).await;
        }
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    let how = format!("exec to first answer, signature and digest checked, median of {STARTS}");
    figures.add("cold_start_ms", quantile(&mut times, 500), None, how);
    Ok(())
}

/// All bytes on a device's socket for an update of 5 MiB; of several, the one that took most.
pub(super) async fn wire(figures: &mut Figures) -> Result<()> {
    let fleet = one_on_v2_with_default_reports().await?;
    let mut runs = Vec::new();
    for number in 0..UPDATES {
        let path = padded::write("digits-v1", fleet.dir(), number, padded::BYTES)?;
        let version = format!("big{number}");
        fleet.controller.release_file(&path, &golden_of("digits-v1"), &version, "").await?;
        let bytes = std::fs::metadata(&path).context("padded model")?.len() as f64;
        let (up, down) = (fleet.proxy.bytes_up(), fleet.proxy.bytes_down());
        fleet.roll_out(&version, "--probation 1s --answers 20", WAIT).await?;
        let (up, down) = (fleet.proxy.bytes_up() - up, fleet.proxy.bytes_down() - down);
        runs.push((up + down) as f64 / bytes);
    }
    let how = format!(
        "all bytes on the device's socket, both ways, TLS and MQTT included, from order to \
         confirmation, by 5 MiB; worst of {UPDATES} updates, median {:.3}",
        quantile(&mut runs, 500)
    );
    figures.add("wire_ratio", quantile(&mut runs, 1000), Some(1.15), how);
    Ok(())
}

async fn one_on_v2_with_default_reports() -> Result<Fleet> {
    let spec = FleetSpec { telemetry_s: 10, ..FleetSpec::new(BrokerKind::Embedded, 1) };
    let mut fleet = Fleet::start(spec).await?;
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v2", "v2", "").await?;
    fleet.roll_out("v2", "--probation 1s --answers 20", WAIT).await?;
    Ok(fleet)
}

/// From the start of a rollout until all devices confirmed.
pub(super) async fn confirm(figures: &mut Figures, devices: usize) -> Result<()> {
    let spec = FleetSpec { telemetry_s: 10, ..FleetSpec::new(BrokerKind::Embedded, devices) };
    let mut fleet = Fleet::start(spec).await?;
    fleet.feed(Duration::from_millis(70));
    let judge = format!("--probation {PROBATION_S}s --answers 50");
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", &judge, WAIT).await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    let started = Instant::now();
    let rollout = fleet.roll_out("v2", &judge, WAIT).await?;
    let took_s = started.elapsed().as_secs_f64();
    ensure!(rollout.counts.confirmed == devices, "{}", describe(&rollout));
    fleet.check_no_errors()?;
    let how = format!(
        "`rollout start` to all confirmed, {devices} agent processes on this machine, \
         {PROBATION_S} s and 50 answers of probation included"
    );
    let (key, aim) = match devices {
        8 => ("confirm_8_s", None),
        _ => ("confirm_100_s", Some(30.0 + PROBATION_S)),
    };
    figures.add(key, took_s, aim, how);
    Ok(())
}
