//! Swapping under load: how long is nobody answered, and how soon is a bad release gone.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_protocol::health::HealthPolicy;
use tokio::time::Instant;

use super::asker::{Asker, Moment, gap_ms};
use super::figures::{Figures, quantile};
use super::padded;
use crate::harness::controller::golden_of;
use crate::harness::{BrokerKind, Fleet, FleetSpec, wait};

/// Swaps that are measured.
const SWAPS: u64 = 60;
/// On both sides of the first answer of the new release: the swap, and nothing else.
const AROUND: Duration = Duration::from_millis(100);
/// Devices and rounds of rollbacks.
const DEVICES: usize = 8;
const ROUNDS: usize = 5;
/// Longest wait for a rollout.
const WAIT: Duration = Duration::from_secs(120);

/// Gaps in the answers while a release of 5 MiB takes the place of another.
pub(super) async fn gaps(figures: &mut Figures) -> Result<()> {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    let asker = Asker::start(fleet.agents[0].endpoint(), Duration::ZERO)?;
    publish(&fleet, 0).await?;
    fleet.roll_out("v0", "--probation 1s --answers 20", WAIT).await?;
    asker.take();
    let (mut swaps, mut quiet, mut updates, mut errors) = (vec![], vec![], vec![], 0);
    for number in 1..=SWAPS {
        publish(&fleet, number).await?;
        tokio::time::sleep(2 * AROUND).await;
        let calm = asker.take();
        let before = Instant::now();
        let version = format!("v{number}");
        fleet.roll_out(&version, "--probation 1s --answers 20", WAIT).await?;
        let moments = asker.take();
        let is_new = |moment: &&Moment| moment.version.as_deref() == Some(version.as_str());
        let swap = moments.iter().find(is_new).context("the new release never answered")?.at;
        swaps.push(gap_ms(&moments, swap - AROUND, swap + AROUND));
        updates.push(gap_ms(&moments, before, Instant::now()));
        quiet.push(gap_ms(&calm, before - 2 * AROUND, before));
        errors += moments.iter().chain(&calm).filter(|moment| moment.version.is_none()).count();
        fleet.agents[0].check_running()?;
    }
    let within_ms = AROUND.as_millis();
    let how = format!(
        "longest gap within {within_ms} ms of a swap, {SWAPS} swaps of 5 MiB, one application \
         asking without pause over the unix socket"
    );
    figures.add("swap_gap_ms_p99", quantile(&mut swaps, 990), Some(10.0), how);
    figures.add("swap_gap_ms_p50", quantile(&mut swaps, 500), None, "the same, median");
    figures.add(
        "quiet_gap_ms_p99",
        quantile(&mut quiet, 990),
        None,
        "as long, without a swap: the machine's own noise",
    );
    figures.add(
        "update_gap_ms_p99",
        quantile(&mut updates, 990),
        None,
        "longest gap in the whole update, download and self-test included",
    );
    figures.add("swap_errors", errors as f64, Some(0.0), "requests without an answer, all swaps");
    Ok(())
}

async fn publish(fleet: &Fleet, number: u64) -> Result<()> {
    let model = if number.is_multiple_of(2) { "digits-v1" } else { "digits-v2" };
    let path = padded::write(model, fleet.dir(), number, padded::BYTES)?;
    let version = format!("v{number}");
    fleet.controller.release_file(&path, &golden_of(model), &version, "").await?;
    std::fs::remove_file(&path).context("padded model")
}

/// From the answer that made the verdict to the first answer of the old release.
pub(super) async fn rollbacks(figures: &mut Figures) -> Result<()> {
    let fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, DEVICES)).await?;
    let start =
        |agent: &crate::harness::Agent| Asker::start(agent.endpoint(), Duration::from_millis(5));
    let askers = fleet.agents.iter().map(start).collect::<Result<Vec<_>>>()?;
    fleet.controller.release("digits-v2", "good", "").await?;
    fleet.roll_out("good", "--probation 1s --answers 20", WAIT).await?;
    let mut times = Vec::new();
    for round in 1..=ROUNDS {
        askers.iter().for_each(|asker| drop(asker.take()));
        let version = format!("bad{round}");
        fleet.controller.release("digits-v4", &version, "").await?;
        let flags = "--phase 100% --soak 0s --max-unavailable 100% --failures-max 100 --probation 5s --answers 50";
        let id = fleet.controller.rollout(&version, flags).await?.id;
        let what = "every device to go back";
        wait::until(what, WAIT, async || {
            let rollout = fleet.controller.rollout_status(id).await?;
            ensure!(rollout.counts.failed == DEVICES, "{:?}", rollout.counts);
            Ok(())
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        for (asker, agent) in askers.iter().zip(&fleet.agents) {
            let moments = asker.take();
            let time = back_ms(&moments, &version).with_context(|| agent.id.clone())?;
            times.push(time);
        }
    }
    let judged = HealthPolicy::default().samples_min;
    let how = format!(
        "from the {judged}th answer of the bad release, before which there is no \
         verdict, to the first of the old one; {} rollbacks",
        times.len()
    );
    figures.add("rollback_ms_p99", quantile(&mut times, 990), Some(2000.0), how);
    figures.add("rollback_ms_p50", quantile(&mut times, 500), None, "the same, median");
    Ok(())
}

fn back_ms(moments: &[Moment], bad: &str) -> Result<f64> {
    let answers = || moments.iter().filter(|moment| moment.version.is_some());
    let is_bad = |moment: &&Moment| moment.version.as_deref() == Some(bad);
    let verdict = answers().filter(is_bad).nth(HealthPolicy::default().samples_min as usize - 1);
    let verdict = verdict.context("too few answers of the bad release")?.at;
    let back = answers().find(|m| m.at > verdict && m.version.as_deref() != Some(bad));
    let back = back.context("the old release never answered again")?.at;
    Ok((back - verdict).as_secs_f64() * 1000.0)
}
