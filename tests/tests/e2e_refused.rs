//! Bad input from outside, as the issue lists it: each gets an error that names the thing
//! and the mend, an exit code by kind, and changes nothing. (The full disk is in
//! `e2e_disk.rs`.)

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::cli::{self, Done};
use fleetway_tests::harness::digits::model_dir;
use fleetway_tests::harness::views::Status;
use fleetway_tests::harness::{
    Agent, BrokerKind, Cli, Controller, Fleet, FleetSpec, programs, wait,
};
use tempfile::TempDir;

/// Longest wait for a small thing.
const WAIT: Duration = Duration::from_secs(60);
const JUDGE: &str = "--probation 1s --answers 10";

// Exit codes of `fleetway`, an interface.
const ERROR: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 4;
const NOT_FOUND: i32 = 5;
const CONFLICT: i32 = 6;
const TRUST: i32 = 7;

/// The command fails with this code, says all of this, and says how to mend it.
async fn refused(cli: &Cli, line: &str, code: i32, says: &[&str]) -> Result<()> {
    said(&cli.run(line).await?.expect_code(code)?, says)
}

fn said(done: &Done, says: &[&str]) -> Result<()> {
    let text = &done.stderr;
    for word in says {
        ensure!(text.contains(word), "`{}` does not say {word:?} but:\n{text}", done.line);
    }
    ensure!(done.stdout.is_empty(), "an error is no data:\n{}", done.stdout);
    Ok(())
}

fn import(file: &Path, version: &str, more: &str) -> String {
    let golden = model_dir().join("digits-v1.golden.npz");
    format!(
        "model import '{}' --name digits --version {version} --golden '{}' {more}",
        file.display(),
        golden.display()
    )
}

#[tokio::test]
async fn bad_input_gets_a_clear_error() {
    table().await.unwrap();
}

async fn table() -> Result<()> {
    let fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    let cli = &fleet.controller.cli;
    let v1 = model_dir().join("digits-v1.onnx");
    // An unsigned release, and one that does not exist.
    cli.ok(&import(&v1, "v1", "")).await?;
    refused(cli, "model publish digits@v1", TRUST, &["digits@v1", "not signed", "model sign"])
        .await?;
    refused(cli, "model sign digits@v9", NOT_FOUND, &["v9", "model list"]).await?;
    // An altered one: any byte of what was imported.
    cli.ok("model sign digits@v1").await?;
    let untouched = alter(&catalogued(&fleet, "v1")?)?;
    refused(cli, "model publish digits@v1", TRUST, &["the bytes hash to", "publish again"]).await?;
    untouched.restore()?;
    cli.ok("model publish digits@v1").await?;
    // Files that are no models, or none that we take.
    let hostile = [
        ("truncated.onnx", TRUST, ["not imported", "truncated"]),
        ("cycle.onnx", TRUST, ["not imported", "sort the graph"]),
        ("empty.onnx", USAGE, ["it is empty", "export the model again"]),
    ];
    for (file, code, words) in hostile {
        let path = model_dir().join("hostile").join(file);
        refused(cli, &import(&path, "v2", ""), code, &words).await?;
    }
    let nowhere = Path::new("/nowhere/model.onnx");
    refused(cli, &import(nowhere, "v2", ""), NOT_FOUND, &["/nowhere/model.onnx"]).await?;
    let altered = model_dir().join("digits-v3.onnx");
    refused(cli, &import(&altered, "v3", ""), TRUST, &["golden", "--accept-golden-mismatch"])
        .await?;
    // Ids with topic characters.
    for id in ["cam/1", "cam+", "#", "Cam", "controller"] {
        refused(cli, &format!("device add '{id}'"), USAGE, &[id]).await?;
    }
    // A selector that matches nobody, and a release that is not there.
    let nobody = format!("rollout start digits@v1 -l site=nowhere {JUDGE}");
    refused(cli, &nobody, NOT_FOUND, &["site=nowhere", "labels in use"]).await?;
    refused(cli, "rollout start digits@v7", NOT_FOUND, &["v7"]).await?;
    refused(cli, "rollout status 99", NOT_FOUND, &["99", "rollout list"]).await?;
    refused(cli, "device show nobody", NOT_FOUND, &["nobody", "device list"]).await?;
    // Nothing of it left a trace.
    let devices = fleet.controller.devices().await?;
    ensure!(devices.len() == 1 && devices[0].id == "cam-1", "{devices:?}");
    let rollouts: Vec<serde_json::Value> = cli.json("rollout list").await?;
    ensure!(rollouts.is_empty(), "{rollouts:?}");
    Ok(())
}

/// The files of a release in the catalog of this machine.
fn catalogued(fleet: &Fleet, version: &str) -> Result<PathBuf> {
    let dir = fleet.controller.data().join("catalog/digits").join(version);
    let entries = std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let size = |path: &PathBuf| path.metadata().map_or(0, |meta| meta.len());
    files.max_by_key(size).context("an empty release")
}

struct Untouched {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Untouched {
    fn restore(self) -> Result<()> {
        Ok(std::fs::write(&self.path, &self.bytes)?)
    }
}

/// Flips a bit in the middle of a file.
fn alter(path: &Path) -> Result<Untouched> {
    let bytes = std::fs::read(path)?;
    let mut altered = bytes.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(path, altered)?;
    Ok(Untouched { path: path.to_path_buf(), bytes })
}

#[tokio::test]
async fn configurations_are_refused_by_line() {
    let dir = TempDir::new().unwrap();
    let controller = Controller::init(dir.path(), None, false).await.unwrap();
    let path = controller.data().join("fleetway.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\nlisen = 1\n")).unwrap();
    let line = text.lines().count() + 2;
    let place = format!("fleetway.toml:{line}");
    refused(&controller.cli, "serve", USAGE, &[&place, "lisen"]).await.unwrap();
    std::fs::write(&path, &text).unwrap();
    // A controller that does not run, and a directory that is none.
    let says = ["no controller answers", "serve"];
    refused(&controller.cli, "status", UNREACHABLE, &says).await.unwrap();
    let nowhere = Cli::new(&dir.path().join("nowhere"));
    refused(&nowhere, "serve", NOT_FOUND, &["nowhere", "init"]).await.unwrap();
    refused(&controller.cli, "init", CONFLICT, &["exists"]).await.unwrap();
}

#[tokio::test]
async fn an_agents_configuration_is_refused_by_line() {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 1)).await.unwrap();
    fleet.add_device("cam-1", "").await.unwrap();
    let agent = &fleet.agents[0];
    let text = std::fs::read_to_string(agent.config()).unwrap();
    std::fs::write(agent.config(), format!("{text}window = 3\n")).unwrap();
    let done = run_agent(agent).await.unwrap();
    let line = text.lines().count() + 1;
    assert_ne!(done.code, 0);
    said(&done, &[&format!("agent.toml:{line}"), "window"]).unwrap();
}

async fn run_agent(agent: &Agent) -> Result<Done> {
    let mut command = tokio::process::Command::new(&programs::programs().agent);
    command.arg("run").arg("--config").arg(agent.config());
    cli::run(command, "fleetway-agent run".into()).await
}

#[tokio::test]
async fn a_second_controller_on_a_directory_is_refused() {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 1)).await.unwrap();
    let cli = fleet.controller.cli.clone();
    let pid = fleet.controller.pid().unwrap().to_string();
    refused(&cli, "serve", CONFLICT, &[&pid]).await.unwrap();
    // The first one is none the worse.
    fleet.controller.check_running().unwrap();
    let status: Status = cli.json("status").await.unwrap();
    assert_eq!(status.pid.to_string(), pid);
    fleet.controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_agent_on_a_directory_is_refused() {
    let fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 1)).await.unwrap();
    let done = run_agent(&fleet.agents[0]).await.unwrap();
    assert_eq!(done.code, ERROR);
    let pid = fleet.agents[0].process().unwrap().pid().to_string();
    said(&done, &["another fleetway-agent", &pid, "data_dir"]).unwrap();
}

/// Two boxes with the same certificate: they throw each other out. Both keep serving, both
/// say that something is wrong with the link, and once one is gone the other is well.
#[tokio::test]
async fn two_devices_with_one_id_keep_serving() {
    twins().await.unwrap();
}

async fn twins() -> Result<()> {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;
    fleet.feeders[0].expect_down(true);
    fleet.agents[0].stop().await?;
    let twin_dir = fleet.dir().join("twin");
    copy_dir(fleet.agents[0].config().parent().context("no directory")?, &twin_dir)?;
    fleet.agents[0].start().await?;
    let mut twin = Agent::new("cam-1", &twin_dir);
    twin.start().await?;
    fleet.feeders[0].expect_down(false);
    wait::until("one of the two to say what is wrong", WAIT, async || {
        let (one, two) = (fleet.agents[0].status().await?, twin.status().await?);
        let problems: Vec<_> = one.problems.into_iter().chain(two.problems).collect();
        ensure!(problems.iter().any(|text| text.contains("broker")), "{problems:?}");
        Ok(())
    })
    .await?;
    for agent in [&fleet.agents[0], &twin] {
        // It answers as soon as it listens; its model is loaded a moment later.
        wait::until("both to serve", WAIT, async || {
            let running = agent.status().await?.models.into_iter().find_map(|m| m.running);
            ensure!(running.is_some_and(|r| r.version == "v1"), "{} serves nothing", agent.id);
            Ok(())
        })
        .await?;
    }
    twin.stop().await?;
    fleet.all_online(WAIT).await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    fleet.roll_out("v2", JUDGE, WAIT).await?;
    fleet.check_no_errors()
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_dir(&path, &to)?;
        } else if kind.is_file() {
            std::fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

/// A broker that is away: the controller runs, says so, and comes right when it is there.
#[tokio::test]
async fn a_broker_that_is_away_is_said_and_waited_for() {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Mosquitto, 1)).await.unwrap();
    fleet.mosquitto.as_mut().unwrap().kill().unwrap();
    wait::until("the controller to see that its broker is away", WAIT, async || {
        let done = fleet.controller.cli.ask("status").await?.expect_code(0)?;
        let status: Status = fleet.controller.cli.json("status").await?;
        ensure!(!status.link.up && done.stdout.contains("down"), "{}", done.stdout);
        Ok(())
    })
    .await
    .unwrap();
    fleet.mosquitto.as_mut().unwrap().start().await.unwrap();
    fleet.all_online(WAIT).await.unwrap();
}
