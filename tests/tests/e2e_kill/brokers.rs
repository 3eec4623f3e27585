//! The controller dies with its broker, and Mosquitto dies.
//!
//! Ten small fleets at once, five kills each: devices wait longer after every lost
//! connection, so that fifty kills of one broker would mostly test patience.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::controller::describe;
use fleetway_tests::harness::together::{report, seed, together};
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use tokio::time::{Instant, sleep};

use crate::states::{Midst, midst};
use crate::{ASK, BYTES_PER_S, CHUNKS, Histogram, JUDGE, KILLS, WAIT};

const FLEETS: usize = 10;
const DEVICES: usize = 2;
/// Longest way to the state that is aimed at.
const AIM: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Controller,
    Mosquitto,
}

#[tokio::test]
async fn a_controller_loses_nothing() {
    kill_all(Victim::Controller, "the controller and its broker").await;
}

#[tokio::test]
async fn mosquitto_loses_nothing_that_matters() {
    kill_all(Victim::Mosquitto, "mosquitto").await;
}

async fn kill_all(victim: Victim, name: &str) {
    let seed = seed(&format!("kill -9 of {name}"));
    let started = Instant::now();
    let stories = (0..FLEETS).map(|at| async move {
        let story = fleet(victim, seed ^ at as u64);
        story.await.with_context(|| format!("fleet {at}"))
    });
    let hits = together(stories).await.unwrap_or_else(|error| panic!("{error:#}"));
    let mut histogram = Histogram::default();
    hits.iter().for_each(|hits| histogram.add(hits));
    report(&format!("{FLEETS} fleets in {:.0} s", started.elapsed().as_secs_f32()));
    if let Err(error) = histogram.check(name, &Midst::ALL.map(Midst::name)) {
        panic!("{error:#}");
    }
}

/// One fleet, and its share of the kills.
async fn fleet(victim: Victim, seed: u64) -> Result<Histogram> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let broker = match victim {
        Victim::Controller => BrokerKind::Embedded,
        Victim::Mosquitto => BrokerKind::Mosquitto,
    };
    let spec = FleetSpec { bytes_per_s: Some(BYTES_PER_S), ..FleetSpec::new(broker, DEVICES) };
    let mut fleet = Fleet::start(spec).await?;
    fleet.feed(ASK);
    fleet.controller.release("digits-v1", "v0", CHUNKS).await?;
    fleet.roll_out("v0", JUDGE, WAIT).await?;
    let mut histogram = Histogram::default();
    for number in 1..=KILLS / FLEETS {
        let hit = round(&mut fleet, victim, number, &mut rng).await;
        histogram.hit(hit.with_context(|| format!("round {number}"))?.name());
    }
    Ok(histogram)
}

/// One rollout, in whose midst the victim dies.
async fn round(
    fleet: &mut Fleet,
    victim: Victim,
    number: usize,
    rng: &mut fastrand::Rng,
) -> Result<Midst> {
    let version = format!("v{number}");
    let model = if number % 2 == 1 { "digits-v2" } else { "digits-v1" };
    fleet.controller.release(model, &version, CHUNKS).await?;
    let flags = format!("--phase 100% --soak 0s --max-unavailable 100% --failures-max 0 {JUDGE}");
    let aim = Midst::ALL[rng.usize(..Midst::ALL.len())];
    // The last thing that the controller says yes to before the kill: this, or the rollout.
    let label = format!("device label cam-1 round={number}");
    if aim == Midst::Acknowledged {
        fleet.controller.cli.ok(&label).await?;
    }
    let rollout = fleet.controller.rollout(&version, &flags).await?.id;
    wait::until(&format!("{aim:?}"), AIM, async || {
        let view = fleet.controller.rollout_status(rollout).await?;
        ensure!(midst(&view) >= aim, "{}", describe(&view));
        Ok(())
    })
    .await?;
    if aim != Midst::Acknowledged {
        sleep(Duration::from_millis(rng.u64(0..aim.span_ms()))).await;
        fleet.controller.cli.ok(&label).await?;
    }
    let hit = match victim {
        Victim::Controller => {
            let hit = midst(&fleet.controller.rollout_status(rollout).await?);
            fleet.controller.kill()?;
            sleep(Duration::from_millis(rng.u64(0..500))).await;
            fleet.controller.start().await?;
            check_remembered(fleet, number, rollout, &version).await?;
            hit
        }
        Victim::Mosquitto => {
            let mosquitto = fleet.mosquitto.as_mut().context("no mosquitto")?;
            mosquitto.kill()?;
            // Nothing passes any more: what the controller knows now is what was hit.
            let hit = midst(&fleet.controller.rollout_status(rollout).await?);
            sleep(Duration::from_millis(rng.u64(0..500))).await;
            mosquitto.start().await?;
            hit
        }
    };
    let ended = fleet.controller.rollout_end(rollout, WAIT).await?;
    ensure!(ended.succeeded, "{}", describe(&ended));
    for device in fleet.controller.devices().await? {
        ensure!(device.runs() == Some(version.as_str()), "{} runs {:?}", device.id, device.runs());
    }
    fleet.check_no_errors()?;
    Ok(hit)
}

/// Every command that was acknowledged is still in force.
async fn check_remembered(fleet: &Fleet, number: usize, rollout: u64, version: &str) -> Result<()> {
    let device = fleet.controller.device("cam-1").await?;
    let label = device.labels.get("round").map(String::as_str);
    ensure!(label == Some(&number.to_string()), "the label is {label:?}, not {number}");
    let view = fleet.controller.rollout_status(rollout).await.context("the rollout is lost")?;
    ensure!(view.counts.total == DEVICES, "{}", describe(&view));
    let shown = fleet.controller.cli.ok(&format!("model show digits@{version}")).await;
    shown.context("the release is lost").map(drop)
}
