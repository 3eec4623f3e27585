//! `device revoke`: the live session ends, nothing passes any more, and there is no way back.

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetway_tests::harness::agent::join;
use fleetway_tests::harness::{Agent, BrokerKind, Fleet, FleetSpec, wait};

use super::WAIT;
use super::client::Client;

/// What is promised.
const CUT: Duration = Duration::from_secs(60);
const JUDGE: &str = "--probation 1s --answers 10";

#[tokio::test]
async fn on_the_embedded_broker() {
    story(BrokerKind::Embedded).await.unwrap();
}

#[tokio::test]
async fn on_mosquitto() {
    story(BrokerKind::Mosquitto).await.unwrap();
}

async fn story(broker: BrokerKind) -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(broker, 2)).await?;
    fleet.join_device("cam-1").await?;
    fleet.join_device("cam-2").await?;
    fleet.start_agents().await?;
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;
    let cli = fleet.controller.cli.clone();

    // Somebody took cam-1's key, and holds its session with a client that never gives up.
    fleet.agents[0].stop().await?;
    let dir = fleet.device_dir("cam-1");
    let order = "fleetway/v1/d/cam-1/dn/ds";
    let files = Client::device_files(&dir);
    let mut thief = Client::connect(fleet.controller.broker(), "cam-1", files, &[order]).await?;
    let heard = thief.heard("", Duration::from_secs(2)).await;
    ensure!(heard.iter().any(|(topic, _)| topic == order), "a live session: {heard:?}");

    cli.ok("device revoke cam-1").await?;
    let took = thief.down(CUT).await?;
    println!("{broker:?}: the session ended {took:?} after the command");
    // Whatever it tries from now on, for longer than the controller's repetitions.
    if broker == BrokerKind::Embedded {
        ensure!(!thief.comes_back(Duration::from_secs(8)).await, "it came back");
    } else {
        let heard = thief.heard("", Duration::from_secs(8)).await;
        ensure!(heard.is_empty(), "it still hears {heard:?}");
    }
    drop(thief);

    // Its own agent is out as well, keeps serving what it has, and says why.
    fleet.agents[0].start().await?;
    let device = fleet.controller.device("cam-1").await?;
    ensure!(device.identity == "revoked" && !device.online, "{device:?}");
    // A rollout moves the others, and does not wait for it.
    fleet.controller.release("digits-v2", "v2", "").await?;
    let rollout = fleet.roll_out("v2", JUDGE, WAIT).await?;
    ensure!(rollout.devices.iter().all(|d| d.id == "cam-2"), "{rollout:?}");
    let status = fleet.agents[0].status().await?;
    let running = status.models.iter().find_map(|m| m.running.as_ref());
    ensure!(running.is_some_and(|r| r.version == "v1"), "{status:?}");
    ensure!(!fleet.controller.device("cam-1").await?.online, "it was heard");
    // The revocation is durable.
    fleet.controller.stop().await?;
    fleet.controller.start().await?;
    ensure!(fleet.controller.device("cam-1").await?.identity == "revoked", "forgotten");

    // The way back, where the broker can tell the keys apart: a new string, a new key.
    fleet.agents[0].stop().await?;
    let again = cli.run("device enroll cam-1").await?;
    if broker == BrokerKind::Mosquitto {
        let refused = again.expect_code(6)?;
        ensure!(refused.stderr.contains("revoked"), "{}", refused.stderr);
        return Ok(());
    }
    let new_dir = fleet.device_dir("cam-1-anew");
    join(again.expect_code(0)?.stdout.trim(), &new_dir).await?.expect_code(0)?;
    let mut anew = Agent::new("cam-1", &new_dir);
    anew.start().await?;
    wait::until("the device to be back", WAIT, async || {
        ensure!(fleet.controller.device("cam-1").await?.online, "offline");
        Ok(())
    })
    .await?;
    // The old certificate has not ended, and is of no use.
    let files = Client::device_files(&dir);
    let old = Client::connect(fleet.controller.broker(), "cam-1", files, &[]).await;
    ensure!(old.is_err(), "the old key came in");
    Ok(())
}
