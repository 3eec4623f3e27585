//! Kinds of bad model, each undone by the device with the network cut, within its policy's time,
//! and with its own reason. The twelfth kind, the one that dies after an hour, is in
//! `trust/device/late.rs`, where an hour costs nothing.
//!
//! The network is cut while the self-test runs, before anything is known of the release; it comes
//! back after the verdict, and then the controller hears the same story.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::faults::Fault;
use fleetway_tests::harness::agent::AgentModel;
use fleetway_tests::harness::controller::golden_of;
use fleetway_tests::harness::digits::model_dir;
use fleetway_tests::harness::together::report;
use fleetway_tests::harness::{Agent, BrokerKind, Digits, Fleet, FleetSpec, wait};
use tokio::time::Instant;

/// Longest wait for anything else than the verdict.
const WAIT: Duration = Duration::from_secs(60);
/// What the policy gives a release to prove itself; after it, it would go for want of evidence.
const POLICY: Duration = Duration::from_secs(30);
/// Pause between two questions of an application: a judgement needs hundreds of answers.
const ASK: Duration = Duration::from_millis(2);
/// Requests that may fail until a release that fails each is undone: half a second of them.
const FAILED_MAX: u64 = 250;

/// One kind of bad model.
struct Bad<'a> {
    /// Its file, without `.onnx`; its golden vectors are beside it.
    file: &'a str,
    fault: Option<Fault>,
    /// Lines of its health policy, beside the time.
    policy: &'a str,
    /// More for `model import`.
    import: &'a str,
    reason: &'a str,
    failed_max: u64,
}

impl Bad<'_> {
    fn fault(fault: Fault, reason: &'static str) -> Self {
        let (file, policy, import) = ("digits-v2", "", "");
        Self { file, fault: Some(fault), policy, import, reason, failed_max: 0 }
    }

    fn file(file: &'static str, reason: &'static str) -> Self {
        Self { file, fault: None, policy: "", import: "", reason, failed_max: 0 }
    }
}

async fn fleet_on_v1(more: &str) -> Result<Fleet> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.add_device("cam-1", "").await?;
    fleet.agents[0].set_program(PathBuf::from(env!("CARGO_BIN_EXE_faulty-agent")));
    if !more.is_empty() {
        let path = fleet.agents[0].config();
        std::fs::write(&path, std::fs::read_to_string(&path)? + more)?;
    }
    fleet.start_agents().await?;
    fleet.feed(ASK);
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", "--probation 0s --answers 20", WAIT).await?;
    Ok(fleet)
}

async fn model(fleet: &Fleet) -> Result<AgentModel> {
    fleet.agents[0].status().await?.models.into_iter().next().context("no model")
}

/// Puts `bad` on a device that serves v1 and cuts its network in the self-test; expects v1 to
/// serve again for the right reason, and in time.
async fn undone(bad: Bad<'_>) -> Result<()> {
    let mut fleet = fleet_on_v1("").await?;
    let policy = fleet.dir().join("policy.toml");
    let seconds = POLICY.as_secs();
    let text = format!("inconclusive = \"roll back after {seconds}s\"\n{}\n", bad.policy);
    std::fs::write(&policy, text)?;
    let dim = fleet.dir().join("dim.npz");
    Digits::heldout().write_reference(&dim, 0.7)?;
    let import = bad.import.replace("DIM", &dim.display().to_string());
    let bytes = std::fs::read(model_dir().join(format!("{}.onnx", bad.file)))?;
    let bytes = bad.fault.map_or(bytes.clone(), |fault| fault.put_into(&bytes));
    let file = fleet.dir().join("bad.onnx");
    std::fs::write(&file, bytes)?;
    let other = match bad.fault {
        Some(Fault::Hang) => Some(another_on_trial(&fleet).await?),
        _ => None,
    };
    // A fault is a mark in the ONNX file, and compiling would leave it behind.
    let import = format!("--onnx-only --health '{}' {import}", policy.display());
    fleet.controller.release_file(&file, &golden_of(bad.file), "bad", &import).await?;

    let flags = "--phase 100% --soak 0s --max-unavailable 100% --probation 0s --answers 20";
    let rollout = fleet.controller.rollout("bad", flags).await?;
    wait::until("the self-test", WAIT, async || {
        let phase = model(&fleet).await?.phase;
        ensure!(phase == "self-test", "it is in {phase}");
        Ok(())
    })
    .await?;
    fleet.proxy.cut();
    let cut = Instant::now();
    if bad.fault == Some(Fault::Crash) {
        fleet.feeders[0].expect_down(true);
    }
    let mut trial = None;
    let mut starts = 0;
    wait::until("the device to go back", WAIT, async || {
        if bad.fault == Some(Fault::Crash) && fleet.agents[0].check_running().is_err() {
            // As a service manager would.
            fleet.agents[0].spawn()?;
            starts += 1;
        }
        let model = model(&fleet).await?;
        if model.phase == "probation" {
            trial.get_or_insert_with(Instant::now);
        }
        let last = model.last.as_ref().and_then(|last| last.why.as_ref());
        let why = last.filter(|_| model.phase == "idle").context("no verdict yet")?;
        ensure!(why.code == bad.reason, "{why:?}");
        let running = model.running.context("nothing runs")?;
        ensure!(running.version == "v1", "{} runs", running.version);
        Ok(())
    })
    .await?;
    let (since, how) = trial.map_or((cut, "since the cut"), |trial| (trial, "on trial"));
    let took = since.elapsed();
    // Where a thread hung the process starts anew, and for a moment nobody answers.
    let status = wait::until("it to answer", WAIT, async || fleet.agents[0].status().await).await?;
    ensure!(!status.link.connected, "it is connected");
    ensure!(took <= POLICY, "it took {took:?}, the policy gives {POLICY:?}");
    if bad.fault == Some(Fault::Hang) {
        nothing_hangs(&mut fleet).await?;
    }
    if let Some(before) = other {
        let after = trial_of_gauges(&fleet).await?;
        ensure!(after == before, "the trial of another model paid: {before:?}, then {after:?}");
    }
    answers_go_on(&fleet).await?;
    let books = fleet.feeders[0].books();
    let tried = books.score("bad").answers;
    report(&format!(
        "{:<12} {:<18} {:>5.1} s {how}, {tried:>4} answers of it, {:>3} requests failed, {starts} restarts",
        bad.fault.map_or(bad.file.to_owned(), Fault::name),
        bad.reason,
        took.as_secs_f64(),
        books.errors,
    ));
    ensure!(books.errors <= bad.failed_max, "{} failed: {:?}", books.errors, books.last_error);
    ensure!(bad.fault != Some(Fault::Crash) || starts == 3, "{starts} starts");

    fleet.proxy.heal();
    let rollout = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    ensure!(rollout.state == "halted", "it is {}", rollout.state);
    let device = fleet.controller.device("cam-1").await?;
    let last = device.digits().and_then(|model| model.last.clone()).context("no ending")?;
    let said = last.reason.map(|reason| reason.code);
    ensure!(said.as_deref() == Some(bad.reason), "the controller was told {said:?}");
    Ok(())
}

/// A second model, on trial for as long as nobody asks it anything: its trial as the doctor tells it.
async fn another_on_trial(fleet: &Fleet) -> Result<String> {
    let (cli, dir) = (&fleet.controller.cli, model_dir());
    let (model, golden) = (dir.join("digits-v1.onnx"), golden_of("digits-v1"));
    let (model, golden) = (model.display(), golden.display());
    cli.ok(&format!("model import '{model}' --name gauges --version v1 --golden '{golden}'"))
        .await?;
    cli.ok("model sign gauges@v1").await?;
    cli.ok("model publish gauges@v1").await?;
    let flags = "--phase 100% --soak 0s --max-unavailable 100% --probation 0s --answers 20";
    cli.ok(&format!("rollout start gauges@v1 {flags}")).await?;
    wait::until("the trial of another model", WAIT, async || trial_of_gauges(fleet).await).await
}

async fn trial_of_gauges(fleet: &Fleet) -> Result<String> {
    let dir = fleet.agents[0].config().parent().context("its directory")?.to_owned();
    // The real program; its exit code tells of the machine.
    let said = Agent::new("cam-1", &dir).ask("doctor").await?.stdout;
    let line = said.lines().find(|line| line.contains("gauges: ") && line.contains("on trial"));
    line.map(str::to_owned).with_context(|| format!("gauges is not on trial:\n{said}"))
}

/// The thread that hung is gone with the process that had it, and the process kept its place.
async fn nothing_hangs(fleet: &mut Fleet) -> Result<()> {
    let pid = fleet.agents[0].process().context("no agent")?.pid();
    wait::until("a process without a hung thread", WAIT, async || {
        let before = ticks(pid)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A hundred to the second and processor; one that hangs takes all of one.
        let spent = ticks(pid)? - before;
        ensure!(spent < 60, "{spent} % of a processor");
        Ok(())
    })
    .await?;
    fleet.agents[0].check_running()?;
    let log = std::fs::read_to_string(fleet.agents[0].log())?;
    ensure!(log.matches("starts anew").count() == 1, "it did not start anew just once");
    Ok(())
}

/// Hundredths of a second of processor time that a process has had.
fn ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("stat")?.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

async fn answers_go_on(fleet: &Fleet) -> Result<()> {
    let v1 = || fleet.feeders[0].books().score("v1").answers;
    let before = v1();
    wait::until("v1 to answer again", WAIT, async || {
        ensure!(v1() >= before + 10, "{} answers so far", v1() - before);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn one_that_does_not_load() {
    undone(Bad::fault(Fault::NoLoad, "ACTIVATION_FAILED")).await.unwrap();
}

#[tokio::test]
async fn one_that_gives_nan() {
    let bad = Bad { failed_max: FAILED_MAX, ..Bad::file("digits-nan", "HEALTH_ERRORS") };
    undone(bad).await.unwrap();
}

#[tokio::test]
async fn one_that_is_ten_times_slower() {
    let policy = "p95_beside_before_max = \"300%\"";
    undone(Bad { policy, ..Bad::fault(Fault::Slow, "HEALTH_LATENCY") }).await.unwrap();
}

#[tokio::test]
async fn one_that_hangs() {
    // The request that hangs; those that come between two processes.
    let bad = Bad { failed_max: FAILED_MAX, ..Bad::fault(Fault::Hang, "HEALTH_HANG") };
    undone(bad).await.unwrap();
}

#[tokio::test]
async fn one_that_leaks() {
    let policy = "samples_min = 100000\nmemory_growth_max = \"32MiB\"";
    undone(Bad { policy, ..Bad::fault(Fault::Leak, "HEALTH_MEMORY") }).await.unwrap();
}

#[tokio::test]
async fn one_that_is_too_big() {
    let policy = "samples_min = 100000\nmemory_max = \"120MiB\"";
    undone(Bad { policy, ..Bad::fault(Fault::Big, "HEALTH_MEMORY") }).await.unwrap();
}

#[tokio::test]
async fn one_that_crashes() {
    undone(Bad::fault(Fault::Crash, "INTERRUPTED")).await.unwrap();
}

#[tokio::test]
async fn one_that_collapses() {
    undone(Bad::file("digits-v4", "HEALTH_COLLAPSE")).await.unwrap();
}

#[tokio::test]
async fn one_that_drifts() {
    let bad = Bad { import: "--reference 'DIM'", ..Bad::file("digits-v2", "HEALTH_DRIFT") };
    undone(bad).await.unwrap();
}

#[tokio::test]
async fn one_of_another_shape() {
    let bad = Bad { failed_max: FAILED_MAX, ..Bad::file("digits-flat", "HEALTH_ERRORS") };
    undone(bad).await.unwrap();
}

#[tokio::test]
async fn one_of_another_type() {
    let bad = Bad { failed_max: FAILED_MAX, ..Bad::file("digits-whole", "HEALTH_ERRORS") };
    undone(bad).await.unwrap();
}

/// The check of the box's own says `script`; what happens to v2, which nothing else is wrong with?
async fn checked(script: &str, decides: &str, asked: bool) -> Result<(Fleet, String)> {
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("check");
    write_program(&program, script)?;
    let config = format!(
        "[check.digits]\ncommand = [\"{}\", \"gate-7\"]\ndecides = \"{decides}\"\n",
        program.display()
    );
    let mut fleet = fleet_on_v1(&config).await?;
    if !asked {
        fleet.feeders.clear();
    }
    fleet.controller.release("digits-v2", "v2", "").await?;
    let flags = "--phase 100% --soak 0s --max-unavailable 100% --probation 1s --answers 20";
    let rollout = fleet.controller.rollout("v2", flags).await?;
    let rollout = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    let told = std::fs::read_to_string(dir.path().join("told")).unwrap_or_default();
    let device = fleet.controller.device("cam-1").await?;
    let last = device.digits().and_then(|model| model.last.clone()).context("no ending")?;
    let reason = last.reason.map_or(String::new(), |reason| reason.code);
    let ending = format!("{} {} {reason}", rollout.state, last.result);
    ensure!(told.lines().all(|line| line.starts_with("gate-7 cam-1 digits ")), "{told}");
    Ok((fleet, format!("{} times: {}", told.lines().count(), ending.trim_end())))
}

fn write_program(path: &Path, script: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let text = format!(
        "#!/bin/sh\ntold=$(dirname \"$0\")/told\n\
         echo \"$1 $FLEETWAY_DEVICE $FLEETWAY_MODEL $FLEETWAY_RELEASE\" >>\"$told\"\n\
         test -S \"$FLEETWAY_SOCKET\" || exit 1\n{script}\n"
    );
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// Twice: v1's own trial asks it, too.
#[tokio::test]
async fn the_boxs_own_check_sends_a_release_back() {
    let no_to_the_second = "test $(wc -l <\"$told\") -lt 2";
    let (fleet, said) = checked(no_to_the_second, "veto", true).await.unwrap();
    assert_eq!(said, "2 times: halted rolled_back HEALTH_VETO");
    answers_go_on(&fleet).await.unwrap();
}

#[tokio::test]
async fn a_check_that_does_not_know_is_asked_again() {
    let later = "test $(wc -l <\"$told\") -eq 2 && exit 75; exit 0";
    let (_fleet, said) = checked(later, "veto", true).await.unwrap();
    assert_eq!(said, "3 times: succeeded confirmed");
}

/// Nobody asks v2 anything: its time is over, and the check's yes is all there is.
#[tokio::test]
async fn the_boxs_own_check_can_confirm_where_nobody_asks() {
    let (_fleet, said) = checked("exit 0", "confirm", false).await.unwrap();
    assert_eq!(said, "2 times: succeeded confirmed");
}
