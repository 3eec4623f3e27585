//! An agent as a process, on a device that `fleetway device add` made.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::infer::Endpoint;
use super::process::Process;
use super::views::Reports;
use super::{cli, programs, wait};

/// Longer than a start on a loaded machine, with a model to check and load.
const START: Duration = Duration::from_secs(30);
/// Longer than its own bounds for a stop.
const STOP: Duration = Duration::from_secs(15);

/// A device and its agent.
#[derive(Debug)]
pub struct Agent {
    /// The device's id.
    pub id: String,
    dir: PathBuf,
    program: PathBuf,
    clock: Option<(PathBuf, String)>,
    env: Vec<(String, String)>,
    process: Option<Process>,
}

/// What `fleetway-agent status -o json` says, as far as we look at it.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentStatus {
    /// The link to the broker.
    pub link: AgentLink,
    /// Where applications ask.
    pub serving: Serving,
    /// The certificate.
    pub certificate: AgentCertificate,
    /// How self-tests are fenced in.
    pub sandbox: Sandbox,
    /// What became of the telemetry reports.
    pub telemetry: Option<Reports>,
    /// The models.
    pub models: Vec<AgentModel>,
    /// What is wrong: a sentence each.
    pub problems: Vec<String>,
    /// Highest generation of an order that it acted on.
    pub generation: u64,
    /// Locks that applications hold.
    pub locks: Vec<AgentLock>,
    /// Messages that did not pass a check, by check.
    pub refused: BTreeMap<String, u64>,
    /// What did not come in time and was asked for again, by kind.
    pub late: BTreeMap<String, u64>,
}

/// The link to the broker.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentLink {
    /// Whether it is there.
    pub connected: bool,
}

/// The certificate.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentCertificate {
    /// When it ends, Unix seconds.
    pub ends_s: Option<u64>,
    /// Why it was not renewed.
    pub problem: Option<String>,
}

/// Where applications ask.
#[derive(Clone, Debug, Deserialize)]
pub struct Serving {
    /// TCP address.
    pub tcp: Option<SocketAddr>,
    /// gRPC's TCP address.
    pub grpc_tcp: Option<SocketAddr>,
}

/// How self-tests are fenced in.
#[derive(Clone, Debug, Deserialize)]
pub struct Sandbox {
    /// `full`, `partial`, `none`, or `unknown`.
    pub state: String,
    /// Fences that do not stand.
    pub missing: Vec<String>,
    /// What the configuration requires.
    pub require: String,
    /// Whether that is met.
    pub met: bool,
}

/// One model.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentModel {
    /// What answers.
    pub running: Option<Running>,
    /// Where an update is.
    pub phase: String,
    /// Chunks of the model, while it is downloaded.
    pub progress: Option<AgentProgress>,
    /// All that a held update waits for.
    pub held: Option<AgentHeld>,
    /// The candidate in the shadow, or how the last one did.
    pub shadow: Option<AgentShadow>,
    /// How the last order ended.
    pub last: Option<AgentLast>,
}

/// Chunks of a download.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct AgentProgress {
    /// On disk.
    pub have: u32,
}

/// A lock.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentLock {
    /// Who holds it.
    pub by: String,
}

/// An update that is held.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentHeld {
    /// `download` or `activation`.
    pub before: String,
    /// What it waits for.
    pub waits_for: Vec<AgentWhy>,
}

/// A candidate in the shadow.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentShadow {
    /// Copies that both answered.
    pub compared: u32,
    /// Of these, the ones that agree.
    pub agreed: u32,
    /// Copies that it gave no answer to.
    pub failed: u32,
    /// Copies that were not made.
    pub dropped: u32,
    /// 95th percentile of its processor time, microseconds.
    pub p95_us: u32,
    /// The same of what serves, by the clock.
    pub serving_p95_us: u32,
    /// Whether it is over.
    pub ended: bool,
}

/// How an order ended.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentLast {
    /// Why, if not well.
    pub why: Option<AgentWhy>,
}

/// A reason.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentWhy {
    /// Its code.
    pub code: String,
    /// For a person.
    pub sentence: String,
}

/// What answers.
#[derive(Clone, Debug, Deserialize)]
pub struct Running {
    /// Digest of its manifest.
    pub release: String,
    /// What people call it.
    pub version: String,
    /// Where its bytes are: `a`, `b` or `factory`.
    pub slot: String,
    /// What runs it.
    pub engine: String,
}

/// Runs `fleetway-agent join` for the directory `dir`.
///
/// # Errors
/// Only if it cannot be run at all.
pub async fn join(string: &str, dir: &Path) -> Result<cli::Done> {
    let mut command = tokio::process::Command::new(&programs::programs().agent);
    command.arg("join").arg(string).arg("--config").arg(dir.join("agent.toml"));
    cli::run(command, format!("fleetway-agent join {string}")).await
}

impl Agent {
    /// The device whose directory is `dir`.
    pub fn new(id: &str, dir: &Path) -> Self {
        let program = programs::programs().agent.clone();
        let (id, dir) = (id.to_owned(), dir.to_path_buf());
        Self { id, dir, program, clock: None, env: Vec::new(), process: None }
    }

    /// From its next start on it runs another build of the agent.
    pub fn set_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// From its next start on it finds this in its environment.
    pub fn set_env(&mut self, name: &str, value: impl Into<String>) {
        self.env.push((name.to_owned(), value.into()));
    }

    /// Runs one of its other verbs, with its configuration.
    ///
    /// # Errors
    /// Only if it cannot be run at all.
    pub async fn ask(&self, verb: &str) -> Result<cli::Done> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(verb.split(' ')).arg("--config").arg(self.config());
        cli::run(command, format!("fleetway-agent {verb}")).await
    }

    /// From its next start on its wall clock is off by so much, in libfaketime's words
    /// (`+2d`, `-10y`); `None` is the machine's.
    ///
    /// # Errors
    /// If libfaketime is not installed.
    pub fn set_clock(&mut self, offset: Option<&str>) -> Result<()> {
        let library = programs::library("faketime/libfaketimeMT.so.1").context(
            "there is no libfaketime here: `cargo xtask test` installs it, or run \
             `apt-get install libfaketime`",
        );
        self.clock = match offset {
            Some(offset) => Some((library?, offset.to_owned())),
            None => None,
        };
        Ok(())
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// What it keeps.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Its inference API on the unix socket, which keeps its place over restarts.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.data().join("serve.sock"))
    }

    /// The command that runs it in the foreground.
    pub fn run_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--config").arg(self.config());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some((library, offset)) = &self.clock {
            command.env("LD_PRELOAD", library).env("FAKETIME", offset);
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command
    }

    /// Starts it; does not wait.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&mut self) -> Result<()> {
        let name = format!("agent {}", self.id);
        self.process = Some(Process::start(&name, &mut self.run_command(), &self.log())?);
        Ok(())
    }

    /// Starts it and waits until it answers on its own socket.
    ///
    /// # Errors
    /// If it ends, or does not answer in time.
    pub async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let what = format!("agent {} to answer", self.id);
        wait::until(&what, START, async || {
            self.check_running()?;
            self.status().await.map(drop)
        })
        .await
    }

    /// What it says to a person at the box.
    ///
    /// # Errors
    /// If it does not run, or its answer cannot be read.
    pub async fn status(&self) -> Result<AgentStatus> {
        self.ask("status -o json").await?.expect_code(0)?.read()
    }

    /// Runs `fleetway-agent` with these arguments and this agent's configuration: what it prints.
    ///
    /// # Errors
    /// If it cannot be run, or ends badly.
    pub async fn cli(&self, line: &str) -> Result<String> {
        let done = self.ask(line).await?.expect_code(0)?;
        Ok(done.stdout)
    }

    /// Its process, while it runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Fails with its log if it does not run.
    ///
    /// # Errors
    /// Says how it ended.
    pub fn check_running(&mut self) -> Result<()> {
        let id = &self.id;
        self.process
            .as_mut()
            .with_context(|| format!("agent {id} was not started"))?
            .check_running()
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
        ensure!(how.success(), "agent {} ended badly: {how}\n{}", self.id, process.tail());
        Ok(())
    }
}
