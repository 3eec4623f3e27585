//! What was true once, or is true elsewhere.

use anyhow::{Context as _, Result, ensure};
use fleetway_protocol::topics::{ROOT_DEFAULT, Topic};
use fleetway_tests::harness::agent::join;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use fleetway_tests::hostile::attack::{Class, Kind};

use super::{ASK, JUDGE, WAIT, attacker, counted, fleet_on, keeps, refused, runs, status};

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
    attacker(&fleet)?.withhold(&[Class::Order]);
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

/// The same, and the order has not expired: the device asks the controller itself, past the
/// broker, which orders are old, and looks at none before it knows.
#[tokio::test(flavor = "multi_thread")]
async fn an_unexpired_order_replayed_after_a_reset_is_refused() {
    unexpired_after_reset().await.unwrap();
}

async fn unexpired_after_reset() -> Result<()> {
    let mut fleet = fleet_on(&[("digits-v1", "v1"), ("digits-v2", "v2")], 1).await?;
    let newest = newest_order(&fleet)?;
    forget(&mut fleet).await?;
    std::fs::remove_dir_all(fleet.agents[0].data()).context("factory reset")?;
    // The controller cannot be asked: nothing is taken, neither the old one nor the newest.
    fleet.controller.stop().await?;
    fleet.agents[0].start().await?;
    wait::until("the order to wait", WAIT, async || {
        send_again(&fleet, &newest).await?;
        let status = status(&fleet, 0).await?;
        let waits = status.problems.iter().any(|p| p.contains("which orders are old"));
        ensure!(waits && status.generation == 0, "{status:?}");
        Ok(())
    })
    .await?;
    fleet.controller.start().await?;
    stays_empty_and_comes_back(&mut fleet, &newest).await
}

/// The same for a device whose identity is gone as well, and that joins anew: it is told with
/// its certificate.
#[tokio::test(flavor = "multi_thread")]
async fn an_unexpired_order_replayed_after_a_new_enrolment_is_refused() {
    unexpired_after_joining().await.unwrap();
}

async fn unexpired_after_joining() -> Result<()> {
    let spec = FleetSpec::new(BrokerKind::Hostile { seed: 1 }, 0);
    let mut fleet = Fleet::prepare(spec).await?;
    fleet.join_device("cam-1").await?;
    fleet.start_agents().await?;
    fleet.feed(ASK);
    for (model, version) in [("digits-v1", "v1"), ("digits-v2", "v2")] {
        fleet.controller.release(model, version, "").await?;
        fleet.roll_out(version, JUDGE, WAIT).await?;
    }
    let newest = newest_order(&fleet)?;
    forget(&mut fleet).await?;
    let dir = fleet.device_dir("cam-1");
    std::fs::remove_dir_all(&dir).context("factory reset")?;
    let string = fleet.controller.enroll("cam-1").await?;
    join(&string, &dir).await?.expect_code(0)?;
    fleet.agents[0].start().await?;
    stays_empty_and_comes_back(&mut fleet, &newest).await
}

fn newest_order(fleet: &Fleet) -> Result<Vec<u8>> {
    let topic = Topic::Order("cam-1".parse()?).text(ROOT_DEFAULT);
    attacker(fleet)?.said(&topic).pop().context("no order was ever seen")
}

/// Stops the device; from now on the broker keeps the true orders back.
async fn forget(fleet: &mut Fleet) -> Result<()> {
    fleet.feeders[0].expect_down(true);
    fleet.agents[0].stop().await?;
    attacker(fleet)?.withhold(&[Class::Order]);
    attacker(fleet)?.set(Some(Kind::Withhold));
    Ok(())
}

async fn send_again(fleet: &Fleet, order: &[u8]) -> Result<()> {
    let topic = Topic::Order("cam-1".parse()?).text(ROOT_DEFAULT);
    attacker(fleet)?.send("cam-1", &topic, order.to_vec()).await
}

/// The order is refused as old; the true one, made again above the floor, is carried out.
async fn stays_empty_and_comes_back(fleet: &mut Fleet, old: &[u8]) -> Result<()> {
    wait::until("the order to be refused", WAIT, async || {
        send_again(fleet, old).await?;
        let refused = status(fleet, 0).await?.refused;
        ensure!(refused.contains_key("order generation"), "{refused:?}");
        Ok(())
    })
    .await?;
    let before = status(fleet, 0).await?;
    ensure!(before.models.iter().all(|m| m.running.is_none()), "{before:?}");
    attacker(fleet)?.set(None);
    // It gets what the broker keeps for it, and the controller believes its reports.
    fleet.agents[0].stop().await?;
    fleet.agents[0].start().await?;
    wait::until("the device to be back", WAIT, async || {
        let version = runs(fleet, 0).await?;
        let device = fleet.controller.device("cam-1").await?;
        ensure!(version == "v2" && device.online && device.runs() == Some("v2"), "{device:?}");
        Ok(())
    })
    .await?;
    ensure!(status(fleet, 0).await?.generation > before.generation, "not a newer order");
    Ok(())
}
