//! Certificates of some seconds: renewed while the model answers, and got back after they
//! have ended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};

use super::WAIT;

/// Seconds that a certificate lives here: two renewals fit a test.
const LIFE_S: u64 = 20;
const JUDGE: &str = "--probation 1s --answers 10";

#[tokio::test]
async fn certificates_are_renewed_and_come_back_while_the_model_answers() {
    story().await.unwrap();
}

async fn story() -> Result<()> {
    let spec =
        FleetSpec { certificate_life_s: Some(LIFE_S), ..FleetSpec::new(BrokerKind::Embedded, 1) };
    let mut fleet = Fleet::prepare(spec).await?;
    fleet.join_device("cam-1").await?;
    fleet.start_agents().await?;
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;

    // Renewed twice, by itself.
    let mut ends_s = certificate_end(&fleet).await?;
    for _ in 0..2 {
        ends_s = wait::until("a newer certificate", WAIT, async || {
            let next_s = certificate_end(&fleet).await?;
            ensure!(
                next_s > ends_s,
                "still the one until {next_s}: {:?}",
                fleet.agents[0].status().await?
            );
            Ok(next_s)
        })
        .await?;
    }
    // The old certificates have ended by now; the link lives on, with the new one.
    fleet.all_online(WAIT).await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    fleet.roll_out("v2", JUDGE, WAIT).await?;
    fleet.check_no_errors()?;

    // Off for longer than its certificate.
    fleet.feeders[0].expect_down(true);
    fleet.agents[0].stop().await?;
    tokio::time::sleep(Duration::from_secs(LIFE_S + 2)).await;
    fleet.agents[0].start().await?;
    wait::until("the model", WAIT, async || {
        let models = fleet.agents[0].status().await?.models;
        ensure!(models.iter().any(|model| model.running.is_some()), "{models:?}");
        Ok(())
    })
    .await?;
    fleet.feeders[0].expect_down(false);
    let came_back = wait::until("the device to come back", WAIT, async || {
        let status = fleet.agents[0].status().await?;
        ensure!(status.link.connected, "{status:?}");
        certificate_end(&fleet).await
    })
    .await?;
    ensure!(came_back > ends_s, "by an old certificate");
    let log = std::fs::read_to_string(fleet.controller.log())?;
    ensure!(log.contains("came back by its key"), "not by its key:\n{log}");
    fleet.check_no_errors()
}

async fn certificate_end(fleet: &Fleet) -> Result<u64> {
    fleet.agents[0].status().await?.certificate.ends_s.context("no certificate")
}
