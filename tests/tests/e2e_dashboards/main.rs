//! What is shipped for dashboards, run where it can be run: the flow in the real Node-RED, the bridge
//! before the real Home Assistant, queries of panels in the real Prometheus; and what a collector is sent.
//!
//! Read in this order: this page (a fleet on which a release is rolled back), then one file for each program.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod grafana;
mod home_assistant;
mod node_red;
mod otlp;

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec};

/// Longest wait for anything, on a loaded machine.
const WAIT: Duration = Duration::from_secs(60);
/// How devices judge a release here.
const JUDGE: &str = "--probation 1s --answers 20";

/// Devices that serve v1, under a controller with one more section in its configuration.
async fn fleet_on_v1(broker: BrokerKind, devices: usize, section: &str) -> Result<Fleet> {
    let mut fleet = Fleet::prepare(FleetSpec::new(broker, devices)).await?;
    if !section.is_empty() {
        fleet.controller.stop().await?;
        fleet.controller.configure_enroll(section)?;
        fleet.controller.start().await?;
    }
    for at in 1..=devices {
        fleet.add_device(&format!("cam-{at}"), "--label site=lab").await?;
    }
    fleet.start_agents().await?;
    fleet.feed(Duration::from_millis(10));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;
    Ok(fleet)
}

/// A release that every device takes, tries, and goes back from.
async fn roll_back(fleet: &Fleet) -> Result<()> {
    fleet.controller.release("digits-v4", "v4", "").await?;
    let flags = format!("--phase 100% --soak 0s --max-unavailable 100% --failures-max 0 {JUDGE}");
    let rollout = fleet.controller.rollout("v4", &flags).await?;
    let rollout = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    ensure!(rollout.state == "halted", "it is {}", rollout.state);
    Ok(())
}
