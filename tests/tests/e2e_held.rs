//! Consent and the shadow, with real agents: an update waits for an application's lock, says so
//! everywhere, and goes when it is released; a candidate in the shadow gets a share of the requests,
//! never answers anybody, and what it would have said arrives as numbers at the controller.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::agent::{AgentModel, AgentStatus};
use fleetway_tests::harness::infer::Application;
use fleetway_tests::harness::views::Shadow;
use fleetway_tests::harness::{BrokerKind, Digits, Fleet, FleetSpec, wait};
use tokio::time::Instant;

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

/// What the controller was told of the shadow of this release, once it is over.
async fn shadow_told(fleet: &Fleet, version: &str) -> Result<Shadow> {
    let id = &fleet.agents[0].id;
    wait::until("the shadow's end at the controller", WAIT, async || {
        let device = fleet.controller.device(id).await?;
        let shadow = device.digits().and_then(|m| m.shadow.clone()).context("nothing said")?;
        let over = shadow.release.version.as_deref() == Some(version) && shadow.ended.is_some();
        ensure!(over, "{shadow:?}");
        Ok(shadow)
    })
    .await
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
    // A person at the box reads it,
    let said = agent.cli("status").await?;
    for words in ["lock       digits by till", "held before the activation: an application holds"] {
        ensure!(said.contains(words), "{words:?} in\n{said}");
    }
    // the operator sees it on the device and in the rollout,
    let shown = fleet.controller.cli.ok(&format!("device show {}", agent.id)).await?.stdout;
    ensure!(shown.contains("before the activation for: unlocked"), "{shown}");
    let device = fleet.controller.device(&agent.id).await?;
    let held = device.digits().and_then(|m| m.held.clone()).context("not held?")?;
    ensure!(held.conditions == ["unlocked"] && held.before == "activation", "{held:?}");
    ensure!(held.since_s.is_some(), "{held:?}");
    let status = fleet.controller.rollout_status(rollout.id).await?;
    let why = status.devices.first().and_then(|d| d.reason.clone()).context("no reason")?;
    ensure!(why.code == "HELD" && why.text.contains("holds a lock"), "{why:?}");
    // and it is still so after longer than an update takes.
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(fleet.feeders[0].books().score("v2").answers == 0, "v2 answers while it is held");
    agent.cli("release digits --by till").await?;
    let rollout = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    ensure!(rollout.succeeded, "{rollout:?}");
    let device = fleet.controller.device(&agent.id).await?;
    ensure!(device.digits().is_some_and(|m| m.held.is_none()), "{device:?}");
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

/// What the device answers to each question.
async fn classes(fleet: &Fleet) -> Result<Vec<usize>> {
    let digits = Digits::heldout();
    let mut application = Application::new(fleet.agents[0].endpoint());
    let mut classes = Vec::new();
    for at in 0..QUESTIONS {
        classes.push(application.ask(digits.body(at % digits.len())).await?.class);
    }
    Ok(classes)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_disagrees_in_the_shadow_answers_nobody() -> Result<()> {
    let fleet = fleet_on_v1().await?;
    let books = || fleet.feeders[0].books();
    fleet.controller.release("digits-v4", "v4", "").await?;
    let before = classes(&fleet).await?;
    let mut asked = books().answers();
    let shadow = "--shadow 10% --shadow-answers 300 --shadow-agreement 80% --shadow-p95-percent 0";
    let flags = format!("{shadow} --phase 100% --soak 0s {JUDGE}");
    let rollout = fleet.controller.rollout("v4", &flags).await?;
    // All the while the same questions get the same answers, so that none is the candidate's: it
    // gives one class to everything.
    let mut own = 0;
    let rollout = wait::until("the shadow to refuse v4", WAIT, async || {
        let during = classes(&fleet).await?;
        own += QUESTIONS as u64;
        assert_eq!(during, before, "an answer changed beside v4");
        let rollout = fleet.controller.rollout_status(rollout.id).await?;
        ensure!(rollout.over, "{}", rollout.state);
        Ok(rollout)
    })
    .await?;
    ensure!(rollout.state == "halted", "{rollout:?}");
    asked = books().answers() - asked + own;
    let status = fleet.agents[0].status().await?;
    let model = digits(&status)?;
    let why = model.last.as_ref().and_then(|last| last.why.as_ref());
    ensure!(why.is_some_and(|why| why.code == "SHADOW_DISAGREES"), "{model:?}");
    ensure!(books().score("v4").answers == 0, "v4 answered an application");
    // What it would have said arrives at the controller, as numbers.
    let told = shadow_told(&fleet, "v4").await?;
    println!("of {asked} requests v4 in the shadow got: {told:?}");
    ensure!(told.ended.as_ref().is_some_and(|e| e.code == "SHADOW_DISAGREES"), "{told:?}");
    // A fifth of 300 may differ, and it was refused at the first one more.
    ensure!(told.compared - told.agreed == 61 && told.diff_max > 0.0, "{told:?}");
    ensure!(told.p95_us >= told.p50_us && told.p50_us > 0 && told.serving_p95_us > 0, "{told:?}");
    // Copies are a share of the requests, and no more.
    let copies = u64::from(told.compared + told.failed + told.dropped);
    ensure!(
        copies <= asked / 10 + 1,
        "{copies} copies of {asked} requests, where 10 % are allowed"
    );
    fleet.check_no_errors()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agrees_in_the_shadow_goes_on_and_nobody_feels_it() -> Result<()> {
    let fleet = fleet_on_v1().await?;
    // How long do applications wait, without a shadow and with one that gets everything?
    let before = latency(&fleet).await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    // It ends by its time: how many copies the lowest priority answers is the machine's affair.
    let shadow = "--shadow 100% --shadow-answers 100000 --shadow-agreement 80% \
                  --shadow-p95-percent 0 --shadow-time 15s --shadow-otherwise proceed";
    let flags = format!("{shadow} --phase 100% --soak 0s {JUDGE}");
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
    ensure!(fleet.feeders[0].books().score("v2").answers == 0, "v2 answers in the shadow");
    let rollout = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    ensure!(rollout.succeeded, "{rollout:?}");
    let status = fleet.agents[0].status().await?;
    let model = digits(&status)?;
    ensure!(model.running.as_ref().is_some_and(|r| r.version == "v2"), "{model:?}");
    let told = shadow_told(&fleet, "v2").await?;
    println!("v2 in the shadow: {told:?}");
    ensure!(told.ended.as_ref().is_some_and(|e| e.code == "PASSED"), "{told:?}");
    ensure!(told.compared > 0 && told.failed == 0, "{told:?}");
    ensure!(told.agreed * 2 > told.compared, "{told:?}");
    fleet.check_no_errors()
}
