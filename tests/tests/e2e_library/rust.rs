//! A Rust program with the agent inside: this test. What a daemon left is taken up, what is left here the
//! daemon takes up; a bad release is refused and one that is bad in use is undone, as ever.

use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_agent::embed::{
    Agent, Answer, Child, InferError, ModelChange, NamedTensor, OpenError, Options, Tensor,
};
use fleetway_tests::harness::{Digits, programs, wait};

use super::{WAIT, empty_device, place, start_rollout, succeeds};

fn child() -> Options {
    let agent = programs::programs().agent.clone();
    Options { child: Child::Program(agent), sockets: false }
}

fn ask(agent: &Agent, at: usize) -> Result<Answer, InferError> {
    let tensor = Tensor::from_f32(&[1, 1, 8, 8], Digits::heldout().pixels(at).to_vec());
    agent.infer("digits", vec![NamedTensor { name: "image".into(), tensor: tensor.expect("fits") }])
}

/// Asks until the future ends, as an application would.
async fn asking<T>(agent: &Agent, until: impl Future<Output = Result<T>>) -> Result<T> {
    let ask = async {
        for at in (0..Digits::heldout().len()).cycle() {
            // Blocks a thread of this runtime for a moment, which has more.
            tokio::task::block_in_place(|| ask(agent, at))?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        anyhow::bail!("never")
    };
    tokio::select! {
        ended = until => ended,
        missed = ask => missed,
    }
}

fn version(change: &ModelChange) -> Option<&str> {
    change.running.as_ref().map(|running| running.version.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_rust_and_the_daemon_take_turns() -> Result<()> {
    let mut fleet = empty_device().await?;
    let dir = place(&fleet)?;
    let agent = Agent::open_with(&dir, child())?;
    let (tell, told) = channel();
    let news = agent.on_model_changed(move |change| drop(tell.send(change.clone())))?;

    // A good release arrives, and is confirmed by what this program asks.
    let rollout = start_rollout(&fleet, "digits-v1", "v1", "").await?;
    let first = tokio::task::block_in_place(|| told.recv_timeout(WAIT)).context("no news")?;
    ensure!(version(&first) == Some("v1"), "{first:?}");
    asking(&agent, succeeds(&fleet, &rollout)).await?;
    let answer = ask(&agent, 0)?;
    let running = first.running.context("running")?;
    ensure!((answer.release.as_str(), answer.slot) == (running.release.as_str(), &*running.slot));
    let right = (0..200).filter(|at| {
        let scores = ask(&agent, *at).map(|a| a.outputs[0].tensor.as_f32().unwrap().to_vec());
        let scores = scores.expect("an answer");
        let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        best == Some(Digits::heldout().label(*at))
    });
    let right = right.count();
    // v1 is the weaker of the digits models: 88 in a hundred.
    ensure!(right >= 170, "{right} of 200 right");

    // One with other answers than its golden vectors never gets past the self-test, in its own process.
    let bad = start_rollout(&fleet, "digits-v3", "v3", "--accept-golden-mismatch 'a test'").await?;
    let bad = asking(&agent, fleet.controller.rollout_end(bad.id, WAIT)).await?;
    let said = bad.devices[0].model.as_ref().and_then(|m| m.last.as_ref()).context("no ending")?;
    ensure!(said.reason.as_ref().is_some_and(|r| r.code == "GOLDEN"), "{said:?}");
    // One that collapses in use is activated, judged by this program's answers, and undone.
    let bad = start_rollout(&fleet, "digits-v4", "v4", "").await?;
    let bad = asking(&agent, fleet.controller.rollout_end(bad.id, WAIT)).await?;
    let said = bad.devices[0].model.as_ref().and_then(|m| m.last.as_ref()).context("no ending")?;
    ensure!(said.reason.as_ref().is_some_and(|r| r.code == "HEALTH_COLLAPSE"), "{said:?}");
    // The fleet may hear of the verdict before the old engine is loaded again.
    for expected in ["v4", "v1"] {
        let change = tokio::task::block_in_place(|| told.recv_timeout(WAIT)).context("no news")?;
        ensure!(version(&change) == Some(expected), "{change:?}, not {expected}");
    }

    // The directory is this program's: neither the daemon nor a second agent gets it.
    ensure!(matches!(Agent::open(&dir), Err(OpenError::OpenHere(_))), "opened twice");
    let daemon = fleet.agents[0].run_command().output()?;
    let words = String::from_utf8_lossy(&daemon.stderr).into_owned();
    ensure!(!daemon.status.success() && words.contains("another fleetway-agent"), "{words}");

    // Closed, it is the daemon's, which answers at once with what was confirmed; and the other way round.
    drop(news);
    agent.close()?;
    ensure!(matches!(ask(&agent, 0), Err(InferError::Closed(_))), "answered after its end");
    fleet.agents[0].start().await?;
    let error = Agent::open(&dir).expect_err("the daemon has it");
    ensure!(matches!(error, OpenError::OpenElsewhere(_)), "{error:?}");
    wait::until("the daemon to run v1", WAIT, async || {
        let status = fleet.agents[0].status().await?;
        let model = status.models.first().context("no model")?;
        let running = model.running.as_ref().context("nothing runs")?;
        ensure!(running.version == "v1" && model.phase == "idle", "{model:?}");
        Ok(())
    })
    .await?;
    fleet.agents[0].stop().await?;
    let again = Agent::open_with(&dir, child())?;
    wait::until("v1 to answer", WAIT, async || {
        let answer = tokio::task::block_in_place(|| ask(&again, 1))?;
        ensure!(answer.version == "v1", "{answer:?}");
        Ok(())
    })
    .await?;
    // A confirmed release has no try to lose, and a graceful end takes none: nothing is poisoned but
    // what was found bad.
    let status = again.status();
    let poisoned: Vec<_> = status.models[0].poisoned.iter().map(|p| p.why.code.clone()).collect();
    ensure!(poisoned == ["GOLDEN", "HEALTH_COLLAPSE"], "{poisoned:?}");
    again.close().map_err(Into::into)
}

/// A phone that brings no program for self-tests keeps what it has, and says why it takes nothing new.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_child_nothing_new_is_tried() -> Result<()> {
    let fleet = empty_device().await?;
    let dir = place(&fleet)?;
    let absent = Options { child: Child::Absent, sockets: false };
    let agent = Agent::open_with(&dir, absent)?;
    let rollout = start_rollout(&fleet, "digits-v1", "v1", "").await?;
    let ended = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    let said =
        ended.devices[0].model.as_ref().and_then(|m| m.last.as_ref()).context("no ending")?;
    ensure!(said.reason.as_ref().is_some_and(|r| r.code == "SANDBOX_TOO_WEAK"), "{said:?}");
    let device = fleet.controller.device("phone-1").await?;
    let sandbox = device.sandbox.context("no sandbox reported")?;
    ensure!(sandbox.state == "none" && !sandbox.met, "{sandbox:?}");
    let error = tokio::task::block_in_place(|| ask(&agent, 0)).expect_err("nothing runs");
    ensure!(matches!(error, InferError::UnknownModel { .. }), "{error:?}");
    agent.close()?;
    // Nobody is poisoned for it: with a program the very release runs.
    let agent = Agent::open_with(&dir, child())?;
    let flags = format!("{} {}", super::AT_ONCE, super::JUDGE);
    let again = fleet.controller.rollout("v1", &flags).await?;
    wait::until("v1 to answer", WAIT, async || {
        tokio::task::block_in_place(|| ask(&agent, 0)).map(drop).map_err(Into::into)
    })
    .await?;
    asking(&agent, succeeds(&fleet, &again)).await?;
    agent.close().map_err(Into::into)
}
