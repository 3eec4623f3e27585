//! A model that attacks while it is tried: the fences hold, the device says what happened, and
//! the application that keeps asking the serving model never notices.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_engine::{Candidate, GoldenRule, GoldenSet, Require, SelfTest, SelfTestError};
use fleetway_protocol::reason::Reason;
use fleetway_tests::attacks::{Attack, LOOT, OLD_KERNEL};
use fleetway_tests::harness::agent::Sandbox;
use fleetway_tests::harness::controller::{describe, golden_of};
use fleetway_tests::harness::digits::model_dir;
use fleetway_tests::harness::{Agent, BrokerKind, Fleet, FleetSpec, views, wait};

/// Longest wait for one rollout: a hang takes the self-test's deadline of 30 s.
const WAIT: Duration = Duration::from_secs(120);
const RULE: GoldenRule = GoldenRule { max_abs_err: 0.1, require_same_top1: true };

fn hostile_agent() -> PathBuf {
    env!("CARGO_BIN_EXE_hostile-agent").into()
}

fn sound() -> Vec<u8> {
    std::fs::read(model_dir().join("digits-v1.onnx")).expect("the repository's own file")
}

#[test]
fn every_attack_ends_the_child_and_has_its_reason() {
    let golden = GoldenSet::from_npz(&std::fs::read(golden_of("digits-v1")).unwrap()).unwrap();
    let golden = golden.encode().unwrap();
    let _ = std::fs::remove_file(LOOT);
    for require in [Require::Full, Require::Confined] {
        let test = SelfTest {
            deadline: Duration::from_secs(2),
            memory_bytes: 200 << 20,
            require,
            ..SelfTest::with_exe(hostile_agent())
        };
        // The seam itself changes nothing.
        let report = test.run(Candidate::onnx(&sound()), &golden, RULE).unwrap();
        assert_eq!(report.sandbox.to_string(), "full");
        for attack in Attack::ALL {
            let error =
                test.run(Candidate::onnx(&attack.put_into(&sound())), &golden, RULE).unwrap_err();
            let right = match attack.reason() {
                Reason::SelfTestTimeout => matches!(error, SelfTestError::TimedOut { .. }),
                Reason::SelfTestCrashed => matches!(error, SelfTestError::Crashed { .. }),
                Reason::SelfTestMemory => matches!(error, SelfTestError::OutOfMemory { .. }),
                _ => matches!(error, SelfTestError::Forbidden { .. }),
            };
            assert!(right && error.is_verdict(), "{attack:?}: {error}");
        }
    }
    assert!(!Path::new(LOOT).exists(), "the model wrote a file");
}

#[tokio::test]
async fn the_serving_model_never_notices() {
    attacked().await.unwrap();
}

async fn attacked() -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.add_device("cam-1", "").await?;
    fleet.agents[0].set_program(hostile_agent());
    fleet.start_agents().await?;
    fleet.feed(Duration::from_millis(10));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", "--probation 1s --answers 10", WAIT).await?;
    let pid = fleet.agents[0].process().map(|process| process.pid());
    // One of each kind of end, to the device a signed release like any other.
    let attacks = [
        Attack::Write,
        Attack::Read,
        Attack::Connect,
        Attack::Exec,
        Attack::Fork,
        Attack::KillParent,
        Attack::Segfault,
        Attack::Abort,
        Attack::Memory,
        Attack::Hang,
    ];
    for attack in attacks {
        deploy(&fleet, attack).await?;
    }
    ensure!(!Path::new(LOOT).exists(), "the model wrote a file");
    let running = fleet.agents[0].status().await?.models.into_iter().find_map(|m| m.running);
    ensure!(running.is_some_and(|running| running.version == "v1"), "something else runs");
    fleet.agents[0].check_running()?;
    ensure!(fleet.agents[0].process().map(|process| process.pid()) == pid, "another process");
    let books = fleet.feeders[0].books();
    ensure!(books.versions.len() == 1 && books.answers() > 1_000, "{books:?}");
    println!("{} answers, {} errors, all from v1", books.answers(), books.errors);
    fleet.check_no_errors()
}

/// Rolls one attack out and expects the reason it must have.
async fn deploy(fleet: &Fleet, attack: Attack) -> Result<()> {
    let version = format!("attack-{}", attack.name());
    let file = fleet.dir().join(format!("{version}.onnx"));
    std::fs::write(&file, attack.put_into(&sound()))?;
    let golden = golden_of("digits-v1");
    fleet.controller.release_file(&file, &golden, &version, "--onnx-only").await?;
    let rollout = fleet.controller.rollout(&version, "--phase 100% --soak 0s").await?;
    let rollout = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    let said = describe(&rollout);
    ensure!(!rollout.succeeded && rollout.counts.failed == 1, "{attack:?}: {said}");
    let device = fleet.controller.device("cam-1").await?;
    let last = device.digits().and_then(|model| model.last.clone());
    let code = last.and_then(|last| last.reason).map(|reason| reason.code);
    ensure!(code.as_deref() == Some(attack.reason().code()), "{attack:?}: {code:?}, {said}");
    Ok(())
}

/// A kernel that has less is a state with a name, and the policy decides.
#[tokio::test]
async fn a_weaker_kernel_is_named_and_the_policy_decides() {
    weaker().await.unwrap();
}

async fn weaker() -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.add_device("cam-1", "").await?;
    let program = fleet.dir().join(format!("{OLD_KERNEL}-agent"));
    std::os::unix::fs::symlink(hostile_agent(), &program)?;
    fleet.agents[0].set_program(program);
    fleet.start_agents().await?;
    let sandbox = probed(&fleet.agents[0]).await?;
    ensure!(sandbox.state == "partial" && !sandbox.met, "{sandbox:?}");
    ensure!(sandbox.require == "confined" && sandbox.missing.len() == 3, "{sandbox:?}");
    let problems = fleet.agents[0].status().await?.problems;
    ensure!(problems.iter().any(|text| text.contains("no new model is tried")), "{problems:?}");
    // The operator sees the same, and for all devices at once.
    let reported = |met: bool| {
        let missing = sandbox.missing.iter().filter_map(|text| text.split(' ').next());
        let missing = missing.map(str::to_owned).collect();
        Some(views::Sandbox { state: "partial".into(), missing, met })
    };
    shown(&fleet, &reported(false)).await?;
    // By the default policy nothing is tried; the release is not to blame.
    fleet.controller.release("digits-v1", "v1", "").await?;
    let rollout = fleet.controller.rollout("v1", "--phase 100% --soak 0s").await?;
    let rollout = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    ensure!(!rollout.succeeded, "{}", describe(&rollout));
    let digits = fleet.controller.device("cam-1").await?.digits().cloned();
    let digits = digits.context("no report")?;
    let code = digits.last.and_then(|last| last.reason).map(|reason| reason.code);
    ensure!(code.as_deref() == Some(Reason::SandboxTooWeak.code()), "{code:?}");
    ensure!(digits.poisoned == 0, "the release was blamed");
    // The owner of the device decides otherwise, and the same release runs.
    fleet.agents[0].stop().await?;
    let config = fleet.agents[0].config();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, format!("{text}\n[sandbox]\nrequire = \"limits\"\n"))?;
    fleet.start_agents().await?;
    let now = probed(&fleet.agents[0]).await?;
    ensure!(now.state == "partial" && now.met, "{now:?}");
    shown(&fleet, &reported(true)).await?;
    fleet.feed(Duration::from_millis(20));
    fleet.roll_out("v1", "--probation 1s --answers 10", WAIT).await.map(drop)
}

async fn probed(agent: &Agent) -> Result<Sandbox> {
    wait::until("the sandbox to be probed", WAIT, async || {
        let sandbox = agent.status().await?.sandbox;
        ensure!(sandbox.state != "unknown", "not yet");
        Ok(sandbox)
    })
    .await
}

/// The controller shows this of the device.
async fn shown(fleet: &Fleet, expected: &Option<views::Sandbox>) -> Result<()> {
    wait::until("the controller to show the sandbox", WAIT, async || {
        let one = fleet.controller.device("cam-1").await?.sandbox;
        let list: Vec<views::Device> = fleet.controller.cli.json("device list").await?;
        let all = list.into_iter().find_map(|device| device.sandbox);
        ensure!(one == *expected && all == *expected, "{one:?}, {all:?}");
        Ok(())
    })
    .await
}
