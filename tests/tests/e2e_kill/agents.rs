//! Agents die. Each dies once in every rollout (a third ungraceful end in one trial would
//! rightly poison the release), at a moment of its own.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use fleetway_tests::harness::together::{report, seed, together};
use fleetway_tests::harness::{Agent, BrokerKind, Feeder, Fleet, FleetSpec, wait};
use tokio::time::{Instant, sleep};

use crate::states::{OnDisk, on_disk};
use crate::{ASK, BYTES_PER_S, CHUNKS, Histogram, JUDGE, KILLS, WAIT};

const DEVICES: usize = 8;
const ROUNDS: usize = KILLS.div_ceil(DEVICES);
/// Longest way to the state that is aimed at.
const AIM: Duration = Duration::from_secs(60);
/// An agent that had a model answers this soon after its start, whatever it died of.
const BACK: Duration = Duration::from_secs(20);

#[tokio::test]
async fn agents_lose_nothing() {
    let seed = seed("kill -9 of agents");
    let started = Instant::now();
    let spec = FleetSpec {
        bytes_per_s: Some(BYTES_PER_S),
        ..FleetSpec::new(BrokerKind::Embedded, DEVICES)
    };
    let mut fleet = Fleet::start(spec).await.unwrap();
    fleet.feed(ASK);
    fleet.controller.release("digits-v1", "v0", CHUNKS).await.unwrap();
    fleet.roll_out("v0", JUDGE, WAIT).await.unwrap();
    let mut histogram = Histogram::default();
    for number in 1..=ROUNDS {
        let hits = round(&mut fleet, number, seed).await;
        histogram.add(&hits.unwrap_or_else(|error| panic!("round {number}: {error:#}")));
    }
    report(&format!("{ROUNDS} rollouts in {:.0} s", started.elapsed().as_secs_f32()));
    histogram.check("agents", &OnDisk::ALL.map(OnDisk::name)[1..]).unwrap();
}

/// One rollout, in which every agent dies once.
async fn round(fleet: &mut Fleet, number: usize, seed: u64) -> Result<Histogram> {
    let version = format!("v{number}");
    let model = if number % 2 == 1 { "digits-v2" } else { "digits-v1" };
    fleet.controller.release(model, &version, CHUNKS).await?;
    let flags = format!("--phase 100% --soak 0s --max-unavailable 100% --failures-max 0 {JUDGE}");
    let rollout = fleet.controller.rollout(&version, &flags).await?.id;
    let pairs = fleet.agents.drain(..).zip(fleet.feeders.drain(..));
    let stories = pairs.enumerate().map(|(at, (agent, feeder))| {
        let rng = fastrand::Rng::with_seed(seed ^ (number * 1000 + at) as u64);
        die_and_return(agent, feeder, rollout, rng)
    });
    let mut histogram = Histogram::default();
    for (agent, feeder, state) in together(stories.collect::<Vec<_>>()).await? {
        histogram.hit(state.name());
        fleet.agents.push(agent);
        fleet.feeders.push(feeder);
    }
    let ended = fleet.controller.rollout_end(rollout, WAIT).await?;
    ensure!(ended.succeeded, "{}", fleetway_tests::harness::controller::describe(&ended));
    check_settled(fleet, rollout, &version).await?;
    Ok(histogram)
}

async fn die_and_return(
    mut agent: Agent,
    feeder: Feeder,
    rollout: u64,
    mut rng: fastrand::Rng,
) -> Result<(Agent, Feeder, OnDisk)> {
    let aim = OnDisk::ALL[rng.usize(1..OnDisk::ALL.len())];
    let deadline = Instant::now() + AIM;
    while on_disk(&agent.data(), rollout) < aim {
        agent.check_running()?;
        if Instant::now() > deadline {
            bail!("{} did not come to {aim:?} in {AIM:?}", agent.id);
        }
        sleep(Duration::from_millis(4)).await;
    }
    sleep(Duration::from_millis(rng.u64(0..aim.span_ms()))).await;
    feeder.expect_down(true);
    agent.kill()?;
    let answered = feeder.books().answers();
    let hit = on_disk(&agent.data(), rollout);
    sleep(Duration::from_millis(rng.u64(0..300))).await;
    agent.spawn()?;
    let id = agent.id.clone();
    wait::until(&format!("{id}, killed in {hit:?}, to answer again"), BACK, async || {
        agent.check_running()?;
        // One answer may have been on its way when the agent died.
        ensure!(feeder.books().answers() > answered + 1, "no answer yet");
        Ok(())
    })
    .await?;
    feeder.expect_down(false);
    Ok((agent, feeder, hit))
}

/// Everybody runs it, says so everywhere, and no living agent owed an answer.
async fn check_settled(fleet: &Fleet, rollout: u64, version: &str) -> Result<()> {
    fleet.check_no_errors()?;
    for device in fleet.controller.devices().await? {
        ensure!(device.runs() == Some(version), "{} runs {:?}", device.id, device.runs());
        let last = device.digits().and_then(|model| model.last.as_ref());
        let right = last.is_some_and(|last| last.rollout == rollout && last.result == "confirmed");
        ensure!(right, "{} ended with {last:?}", device.id);
    }
    for agent in &fleet.agents {
        let hit = on_disk(&agent.data(), rollout);
        ensure!(hit == OnDisk::Confirmed, "{}'s disk says {hit:?}", agent.id);
    }
    Ok(())
}
