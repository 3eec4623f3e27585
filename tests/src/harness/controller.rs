//! The controller as a process, and what an operator does with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::cli::Cli;
use super::process::Process;
use super::views::{Device, Rollout, RunFile, Status};
use super::{digits, ports, programs, wait};

/// Longer than a start on a loaded machine.
const START: Duration = Duration::from_secs(30);
/// Longer than its own bounds for a stop.
const STOP: Duration = Duration::from_secs(15);

/// A controller with its data directory.
#[derive(Debug)]
pub struct Controller {
    /// The operator's command line for it.
    pub cli: Cli,
    data: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    broker: SocketAddr,
    env: BTreeMap<String, String>,
}

impl Controller {
    /// Makes a data directory below `dir`: with the embedded broker, or for the external
    /// one that listens on `broker`.
    ///
    /// # Errors
    /// `fleetway init`'s.
    pub async fn init(dir: &Path, broker: Option<SocketAddr>, echo: bool) -> Result<Self> {
        let data = dir.join("controller");
        let cli = if echo { Cli::new(&data).echoing() } else { Cli::new(&data) };
        // The same port after a restart: the devices know it.
        let listen = SocketAddr::from(([127, 0, 0, 1], ports::lasting()?));
        let external = broker.map(|at| format!(" --broker mqtts://localhost:{}", at.port()));
        let enroll = SocketAddr::from(([127, 0, 0, 1], ports::lasting()?));
        let external = external.unwrap_or_default();
        cli.ok(&format!("init --listen {listen} --enroll {enroll}{external}")).await?;
        let broker = broker.unwrap_or(listen);
        Ok(Self {
            cli,
            data,
            log: dir.join("controller.log"),
            process: None,
            broker,
            env: BTreeMap::new(),
        })
    }

    /// Has devices told to connect to this address: the bad network's.
    ///
    /// # Errors
    /// The disk's.
    pub fn advertise(&self, addr: SocketAddr) -> Result<()> {
        self.configure(&format!("advertise = \"mqtts://localhost:{}\"", addr.port()))
    }

    /// Adds a line to its configuration, for its next start.
    ///
    /// # Errors
    /// The disk's.
    pub fn configure(&self, line: &str) -> Result<()> {
        let path = self.data.join("fleetway.toml");
        let config = std::fs::read_to_string(&path).context("fleetway.toml")?;
        // At the top: below it come sections.
        std::fs::write(&path, format!("{line}\n{config}")).context("fleetway.toml")
    }

    /// Adds a line to the section `[enroll]`, which is the last one.
    ///
    /// # Errors
    /// The disk's.
    pub fn configure_enroll(&self, line: &str) -> Result<()> {
        let path = self.data.join("fleetway.toml");
        let config = std::fs::read_to_string(&path).context("fleetway.toml")?;
        std::fs::write(&path, format!("{config}{line}\n")).context("fleetway.toml")
    }

    /// Sets a variable of its environment, for its next start.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Where devices connect.
    pub fn broker(&self) -> SocketAddr {
        self.broker
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// If it ends, or does not answer in time.
    pub async fn start(&mut self) -> Result<()> {
        let mut command = self.serve_command();
        let mut process = Process::start("the controller", &mut command, &self.log)?;
        let pid = process.pid();
        let (cli, data) = (self.cli.clone(), self.data.clone());
        let ready = wait::until("the controller to answer", START, async || {
            process.check_running()?;
            let run = std::fs::read(data.join("run.json")).context("no run.json")?;
            let run: RunFile = serde_json::from_slice(&run).context("run.json")?;
            ensure!(run.pid == pid, "run.json is of process {}", run.pid);
            cli.json::<Status>("status").await.map(drop)
        });
        let ready = ready.await;
        let tail = process.tail();
        self.process = Some(process);
        ready.with_context(|| format!("controller's log ends:\n{tail}"))
    }

    /// The command that runs it in the foreground.
    pub fn serve_command(&self) -> Command {
        let mut command = Command::new(&programs::programs().fleetway);
        command.arg("serve").env("FLEETWAY_DATA", &self.data).envs(&self.env);
        command
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The system's, or that it ended before by itself.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.check_running()?;
        process.kill()
    }

    /// SIGTERM; expects a clean end.
    ///
    /// # Errors
    /// If it takes too long or ends badly.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.check_running()?;
        let how = process.stop(STOP).await?;
        ensure!(how.success(), "the controller ended badly: {how}\n{}", process.tail());
        Ok(())
    }

    /// Fails with its log if it does not run.
    ///
    /// # Errors
    /// Says how it ended.
    pub fn check_running(&mut self) -> Result<()> {
        self.process.as_mut().context("the controller was not started")?.check_running()
    }

    /// Imports, signs and publishes one of the repository's models as `version`.
    ///
    /// # Errors
    /// The first command that fails.
    pub async fn release(&self, model: &str, version: &str, more: &str) -> Result<()> {
        let dir = digits::model_dir();
        let (model, golden) = (dir.join(format!("{model}.onnx")), golden_of(model));
        self.release_file(&model, &golden, version, more).await
    }

    /// The same for any file.
    ///
    /// # Errors
    /// The first command that fails.
    pub async fn release_file(
        &self,
        model: &Path,
        golden: &Path,
        version: &str,
        more: &str,
    ) -> Result<()> {
        self.cli
            .ok(&format!(
                "model import '{}' --name digits --version {version} --golden '{}' {more}",
                model.display(),
                golden.display()
            ))
            .await?;
        self.cli.ok(&format!("model sign digits@{version}")).await?;
        self.cli.ok(&format!("model publish digits@{version}")).await.map(drop)
    }

    /// Starts a rollout.
    ///
    /// # Errors
    /// The command's.
    pub async fn rollout(&self, version: &str, more: &str) -> Result<Rollout> {
        self.cli.json(&format!("rollout start digits@{version} {more}")).await
    }

    /// How a rollout is.
    ///
    /// # Errors
    /// The command's.
    pub async fn rollout_status(&self, id: u64) -> Result<Rollout> {
        // Its exit code says how the rollout is, not whether the question was answered.
        self.cli.ask(&format!("rollout status {id} -o json")).await?.read()
    }

    /// Waits until a rollout is over.
    ///
    /// # Errors
    /// If it is not in time, with what each device says.
    pub async fn rollout_end(&self, id: u64, within: Duration) -> Result<Rollout> {
        wait::until(&format!("the end of rollout {id}"), within, async || {
            let rollout = self.rollout_status(id).await?;
            ensure!(rollout.over, "{}", describe(&rollout));
            Ok(rollout)
        })
        .await
        .with_context(|| format!("controller's log ends:\n{}", super::process::log_tail(&self.log)))
    }

    /// All devices.
    ///
    /// # Errors
    /// The command's.
    pub async fn devices(&self) -> Result<Vec<Device>> {
        self.cli.json("device list").await
    }

    /// Opens the door to a device: its join string.
    ///
    /// # Errors
    /// The command's.
    pub async fn enroll(&self, id: &str) -> Result<String> {
        let done = self.cli.ok(&format!("device enroll {id}")).await?;
        Ok(done.stdout.trim().to_owned())
    }

    /// One device.
    ///
    /// # Errors
    /// The command's.
    pub async fn device(&self, id: &str) -> Result<Device> {
        self.cli.json(&format!("device show {id}")).await
    }
}

/// The golden vectors beside a model.
pub fn golden_of(model: &str) -> PathBuf {
    digits::model_dir().join(format!("{model}.golden.npz"))
}

/// A rollout in one line, for failures.
pub fn describe(rollout: &Rollout) -> String {
    let device = |d: &super::views::RolloutDevice| {
        let reason = d.reason.as_ref().map_or("", |r| r.code.as_str());
        let phase = d.model.as_ref().map_or("", |m| m.phase.as_str());
        let there = if d.online { "" } else { "offline " };
        format!("{}: {there}{} {phase} {reason}", d.id, d.state)
    };
    let devices: Vec<String> = rollout.devices.iter().map(device).collect();
    format!("rollout {} is {}; {}", rollout.id, rollout.state, devices.join(", "))
}
