//! Time in the wrong hands: metadata that never gets fresh, and clocks that lie.
//!
//! The agent runs under libfaketime, which moves its wall clock and leaves the monotonic one.

use anyhow::{Result, ensure};
use fleetway_tests::harness::{Fleet, wait};
use fleetway_tests::hostile::attack::{Class, Kind};

use super::{JUDGE, WAIT, attacker, fleet_on, keeps, runs, status};

/// Everybody at once, and a device that waits does not stop the others.
const ALL: &str = "--phase 100% --soak 0s --max-unavailable 100% --failures-max 100";

async fn restart_at(fleet: &mut Fleet, clock: Option<&str>) -> Result<()> {
    fleet.feeders[0].expect_down(true);
    fleet.agents[0].stop().await?;
    fleet.agents[0].set_clock(clock)?;
    fleet.agents[0].start().await?;
    wait::until("the model to be served", WAIT, async || runs(fleet, 0).await.map(drop)).await?;
    fleet.feeders[0].expect_down(false);
    Ok(())
}

/// The broker gives out no new metadata. After a day what the device has is stale: it
/// installs nothing new, says why, and goes on with what it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_fleet_installs_nothing_new_and_serves_on() {
    freeze().await.unwrap();
}

async fn freeze() -> Result<()> {
    let mut fleet = fleet_on(&[("digits-v1", "v1")], 1).await?;
    attacker(&fleet)?.withhold(&[Class::Trust]);
    attacker(&fleet)?.set(Some(Kind::Withhold));
    restart_at(&mut fleet, Some("+2d")).await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    let id = fleet.controller.rollout("v2", &format!("{ALL} {JUDGE}")).await?.id;
    wait::until("the device to say that its metadata is stale", WAIT, async || {
        let status = status(&fleet, 0).await?;
        let said = format!("{:?} {:?}", status.problems, status.models);
        ensure!(said.contains("expired") || said.contains("EXPIRED"), "{said}");
        Ok(())
    })
    .await?;
    keeps(&fleet, 0, "v1").await?;
    // An honest broker again, and the right time: it goes on by itself.
    attacker(&fleet)?.set(None);
    restart_at(&mut fleet, None).await?;
    let rollout = fleet.controller.rollout_end(id, WAIT).await?;
    ensure!(rollout.succeeded, "{rollout:?}");
    keeps(&fleet, 0, "v2").await
}

/// Ten years forward: everything looks expired. Nothing is installed, the model serves, and
/// with the right clock again the device is as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ten_years_ahead_is_a_pause_and_no_brick() {
    wrong_clock("+10y", false).await.unwrap();
}

/// Ten years back: the signed floor of time is what counts, and the device goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ten_years_behind_changes_nothing() {
    wrong_clock("-10y", true).await.unwrap();
}

async fn wrong_clock(clock: &str, updates: bool) -> Result<()> {
    let mut fleet = fleet_on(&[("digits-v1", "v1")], 1).await?;
    restart_at(&mut fleet, Some(clock)).await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    let id = fleet.controller.rollout("v2", &format!("{ALL} {JUDGE}")).await?.id;
    if updates {
        let rollout = fleet.controller.rollout_end(id, WAIT).await?;
        ensure!(rollout.succeeded, "{rollout:?}");
        keeps(&fleet, 0, "v2").await?;
    } else {
        keeps(&fleet, 0, "v1").await?;
        let status = status(&fleet, 0).await?;
        ensure!(!status.problems.is_empty(), "it says nothing about it");
    }
    restart_at(&mut fleet, None).await?;
    let rollout = fleet.controller.rollout_end(id, WAIT).await?;
    ensure!(rollout.succeeded, "{rollout:?}");
    keeps(&fleet, 0, "v2").await
}
