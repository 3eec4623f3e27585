//! What was true once, or is true elsewhere.

use anyhow::{Context as _, Result, ensure};
use fleetway_protocol::topics::{ROOT_DEFAULT, Topic};
use fleetway_tests::harness::wait;
use fleetway_tests::hostile::attack::{Class, Kind};

use super::{JUDGE, WAIT, attacker, counted, fleet_on, keeps, refused, runs, status};

/// A release for other hardware, signed and ordered by mistake: refused by its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_for_other_hardware_is_refused() {
    other_hardware().await.unwrap();
}

async fn other_hardware() -> Result<()> {
    let mut fleet = fleet_on(&[("digits-v1", "v1")], 1).await?;
    for (version, class, result) in [("v2", "board-b", "WRONG_HARDWARE"), ("v3", "board-a", "")] {
        if result.is_empty() {
            // From now on the device says what it is.
            fleet.feeders[0].expect_down(true);
            fleet.agents[0].stop().await?;
            let path = fleet.agents[0].config();
            let config = std::fs::read_to_string(&path).context("agent.toml")?;
            let config = format!("hardware = \"{class}\"\n{config}");
            std::fs::write(&path, config).context("agent.toml")?;
            fleet.agents[0].start().await?;
            wait::until("the model", WAIT, async || runs(&fleet, 0).await.map(drop)).await?;
            fleet.feeders[0].expect_down(false);
            fleet.all_online(WAIT).await?;
        }
        fleet.controller.release("digits-v2", version, &format!("--hardware {class}")).await?;
        let flags = format!("--phase 100% --soak 0s --failures-max 0 {JUDGE}");
        let id = fleet.controller.rollout(version, &flags).await?.id;
        let rollout = fleet.controller.rollout_end(id, WAIT).await?;
        ensure!(rollout.succeeded == result.is_empty(), "{rollout:?}");
        let models = status(&fleet, 0).await?.models;
        let why = models[0].last.as_ref().and_then(|last| last.why.as_ref());
        ensure!(why.map_or("", |why| &why.code) == result, "{models:?}");
    }
    keeps(&fleet, 0, "v3").await
}

/// A device that lost its memory gets an order from before. Signed it is, and newer than
/// nothing; but an order has an end, and after it the device does not start anything.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_order_is_refused_after_a_factory_reset() {
    after_reset().await.unwrap();
}

async fn after_reset() -> Result<()> {
    let mut fleet = fleet_on(&[("digits-v1", "v1"), ("digits-v2", "v2")], 1).await?;
    let old = attacker(&fleet)?.oldest(Class::Order).context("no order was ever seen")?;
    // Before the reset the generation is enough.
    let topic = Topic::Order("cam-1".parse()?).text(ROOT_DEFAULT);
    let before = counted(&fleet, 0, "order generation").await?;
    attacker(&fleet)?.send("cam-1", &topic, old.clone()).await?;
    refused(&fleet, 0, "order generation", before, 1).await?;
    keeps(&fleet, 0, "v2").await?;
    // The reset: all that the agent keeps is gone, its identity is not. Eight days later.
    fleet.feeders[0].expect_down(true);
    fleet.agents[0].stop().await?;
    std::fs::remove_dir_all(fleet.agents[0].data()).context("factory reset")?;
    attacker(&fleet)?.withhold(Class::Order);
    attacker(&fleet)?.set(Some(Kind::Withhold));
    fleet.agents[0].set_clock(Some("+8d"))?;
    fleet.agents[0].start().await?;
    wait::until("the old order to be refused", WAIT, async || {
        attacker(&fleet)?.send("cam-1", &topic, old.clone()).await?;
        let refused = status(&fleet, 0).await?.refused;
        // Nothing that it is given is fresh: neither the order nor whom it should believe.
        let late = ["order expired", "trust expired"].iter().any(|c| refused.contains_key(*c));
        ensure!(late, "{refused:?}");
        Ok(())
    })
    .await?;
    let models = status(&fleet, 0).await?.models;
    ensure!(models.iter().all(|m| m.running.is_none()), "{models:?}");
    Ok(())
}
