//! The agent inside other programs, each with a real controller and broker: a Rust program, one in C, one in
//! Python. What is checked is what an application sees, and that the fleet cannot tell the difference.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod guests;
mod made;
mod rust;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use fleetway_tests::harness::views::Rollout;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec};

/// Longest wait for one thing on a loaded machine.
const WAIT: Duration = Duration::from_secs(90);
const JUDGE: &str = "--probation 1s --answers 10";
const AT_ONCE: &str = "--phase 100% --soak 0s --max-unavailable 100% --failures-max 0";

/// A fleet with one device, whose agent nobody runs.
async fn empty_device() -> Result<Fleet> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.add_device("phone-1", "").await?;
    Ok(fleet)
}

/// The device's directory, as an application opens it.
fn place(fleet: &Fleet) -> Result<std::path::PathBuf> {
    let config = fleet.agents[0].config();
    ensure!(config.is_file(), "{} is not there", config.display());
    Ok(config.parent().unwrap_or(Path::new("/")).to_path_buf())
}

/// Starts to roll out a release of the digits model to everybody.
async fn start_rollout(fleet: &Fleet, model: &str, version: &str, more: &str) -> Result<Rollout> {
    fleet.controller.release(model, version, more).await?;
    fleet.controller.rollout(version, &format!("{AT_ONCE} {JUDGE}")).await
}

/// The rollout's end, which is good.
async fn succeeds(fleet: &Fleet, rollout: &Rollout) -> Result<()> {
    let ended = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    ensure!(ended.succeeded, "{}", fleetway_tests::harness::controller::describe(&ended));
    Ok(())
}
