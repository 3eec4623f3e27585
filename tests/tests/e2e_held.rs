//! Consent and the shadow, with real agents: an update waits for an application's lock and goes when
//! it is released; a candidate that disagrees in the shadow never answers anybody; one that agrees
//! goes on, and whoever asks meanwhile does not feel it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::agent::{AgentModel, AgentStatus};
use fleetway_tests::harness::infer::Application;
use fleetway_tests::harness::{BrokerKind, Digits, Fleet, FleetSpec, wait};

/// Longest wait for a rollout of this small fleet.
const WAIT: Duration = Duration::from_secs(60);
/// How devices judge a release here.
const JUDGE: &str = "--probation 1s --answers 20";
/// Questions behind one latency that is compared.
const QUESTIONS: usize = 200;

async fn fleet_on_v1() -> Result<Fleet> {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;
    Ok(fleet)
}

fn digits(status: &AgentStatus) -> Result<&AgentModel> {
    status.models.first().context("no model")
}

/// Waits until the agent's model is as `is` wants it.
async fn until(fleet: &Fleet, what: &str, is: impl Fn(&AgentModel) -> bool) -> Result<()> {
    wait::until(what, WAIT, async || {
        let status = fleet.agents[0].status().await?;
        let model = digits(&status)?;
        ensure!(is(model), "{model:?}");
        Ok(())
    })
    .await
}

fn waits_for(model: &AgentModel) -> Vec<&str> {
    model.held.iter().flat_map(|held| &held.waits_for).map(|why| why.code.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_update_waits_for_a_lock_and_goes_when_it_is_released() -> Result<()> {
    let fleet = fleet_on_v1().await?;
    let agent = &fleet.agents[0];
    agent.cli("hold digits --by till --ttl 600").await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    let flags = format!("--hold unlocked,mains --phase 100% --soak 0s {JUDGE}");
    let rollout = fleet.controller.rollout("v2", &flags).await?;
    until(&fleet, "the update to be held", |m| waits_for(m) == ["HELD_BY_APPLICATION"]).await?;
    let status = agent.status().await?;
    ensure!(status.locks.iter().map(|lock| lock.by.as_str()).eq(["till"]), "{status:?}");
    ensure!(digits(&status)?.held.as_ref().is_some_and(|held| held.before == "activation"));
    ensure!(status.problems.is_empty(), "{:?}", status.problems);
    // The operator sees it, too.
    let shown = fleet.controller.cli.ok(&format!("device show {}", agent.id)).await?.stdout;
    ensure!(shown.contains("held") && shown.contains("unlocked"), "{shown}");
    // Longer than it would take.
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(fleet.feeders[0].books().score("v2").answers == 0, "v2 answers while it is held");
    agent.cli("release digits --by till").await?;
    let rollout = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    ensure!(rollout.succeeded, "{rollout:?}");
    fleet.check_no_errors()
}

/// Half of the answers came within this, and 95 of 100 within that.
async fn latency(fleet: &Fleet) -> Result<[Duration; 2]> {
    let digits = Digits::heldout();
    let mut application = Application::new(fleet.agents[0].endpoint());
    let mut times = Vec::new();
    for at in 0..QUESTIONS {
        let since = Instant::now();
        application.ask(digits.body(at % digits.len())).await?;
        times.push(since.elapsed());
    }
    times.sort_unstable();
    Ok([times[QUESTIONS / 2], times[QUESTIONS * 95 / 100]])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shadow_refuses_what_disagrees_and_nobody_feels_it() -> Result<()> {
    let fleet = fleet_on_v1().await?;
    fleet.controller.release("digits-v4", "v4", "").await?;
    let shadow = "--shadow 100% --shadow-answers 50 --shadow-agreement 80% --shadow-p95-percent 0";
    let flags = format!("{shadow} --phase 100% --soak 0s {JUDGE}");
    let rollout = fleet.controller.rollout("v4", &flags).await?;
    let line = format!("rollout status {} --wait --timeout 60s", rollout.id);
    fleet.controller.cli.run(&line).await?.expect_code(3)?;
    let status = fleet.agents[0].status().await?;
    let model = digits(&status)?;
    let why = model.last.as_ref().and_then(|last| last.why.as_ref());
    ensure!(why.is_some_and(|why| why.code == "SHADOW_DISAGREES"), "{model:?}");
    let seen = model.shadow.as_ref().context("no numbers of the shadow")?;
    ensure!(seen.ended && seen.compared > seen.agreed, "{seen:?}");
    ensure!(fleet.feeders[0].books().score("v4").answers == 0, "v4 answered an application");

    // One that agrees: how long do applications wait, without a shadow and with one?
    let before = latency(&fleet).await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    let flags = format!("{shadow} --shadow-answers 1500 --phase 100% --soak 0s {JUDGE}")
        .replace("--shadow-answers 50 ", "");
    let rollout = fleet.controller.rollout("v2", &flags).await?;
    until(&fleet, "v2 in the shadow", |m| {
        m.phase == "shadow" && m.shadow.as_ref().is_some_and(|s| !s.ended && s.compared > 0)
    })
    .await?;
    let during = latency(&fleet).await?;
    let status = fleet.agents[0].status().await?;
    ensure!(digits(&status)?.phase == "shadow", "it ended too soon to compare");
    println!("half and 95 % of the answers within {before:?}, in the shadow {during:?}");
    ensure!(during[0] <= before[0] * 2 + Duration::from_millis(5), "{before:?}, {during:?}");
    while !fleet.controller.rollout_status(rollout.id).await?.over {
        latency(&fleet).await?;
    }
    let status = fleet.agents[0].status().await?;
    let model = digits(&status)?;
    ensure!(model.running.as_ref().is_some_and(|r| r.version == "v2"), "{model:?}");
    println!("{:?}", model.shadow);
    fleet.check_no_errors()
}
