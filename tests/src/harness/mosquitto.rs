//! Mosquitto as a process, with the configuration that the controller writes for it and
//! the certificates of the controller's own authority.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::net::TcpStream;

use super::process::Process;
use super::{Controller, ports, programs, wait};

/// Longer than a start on a loaded machine.
const START: Duration = Duration::from_secs(15);

/// A Mosquitto.
#[derive(Debug)]
pub struct Mosquitto {
    dir: PathBuf,
    addr: SocketAddr,
    process: Option<Process>,
}

impl Mosquitto {
    /// One that will live below `dir`. It is started once there are certificates.
    ///
    /// # Errors
    /// If there is no port.
    pub fn new(dir: &Path) -> Result<Self> {
        let addr = SocketAddr::from(([127, 0, 0, 1], ports::lasting()?));
        Ok(Self { dir: dir.join("mosquitto"), addr, process: None })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Has the controller write its configuration, and tells the controller that sessions
    /// can be ended.
    ///
    /// # Errors
    /// The command's, the disk's.
    pub async fn configure(&self, controller: &Controller) -> Result<()> {
        let out = self.dir.display();
        let line =
            format!("broker config mosquitto --dynamic-security --viewer wall --out '{out}'");
        controller.cli.ok(&line).await?;
        controller.configure("dynamic_security = true")?;
        self.add(user())
    }

    /// Writes a configuration without any rule: for whoever stands in front of it.
    ///
    /// # Errors
    /// The disk's.
    pub fn configure_open(&self) -> Result<()> {
        std::fs::create_dir_all(&self.dir).context("mosquitto's directory")?;
        let port = self.addr.port();
        let conf = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 100\n\
             max_queued_messages 20000\n{}",
            user()
        );
        std::fs::write(self.dir.join("mosquitto.conf"), conf).context("mosquitto.conf")
    }

    /// Adds to its configuration, for its next start.
    ///
    /// # Errors
    /// The disk's.
    pub fn add(&self, lines: &str) -> Result<()> {
        let path = self.dir.join("mosquitto.conf");
        let conf = std::fs::read_to_string(&path).context("mosquitto.conf")?;
        std::fs::write(&path, format!("{conf}{lines}")).context("mosquitto.conf")
    }

    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// If it is not installed, ends, or does not listen in time.
    pub async fn start(&mut self) -> Result<()> {
        let program = programs::system("mosquitto").context(
            "there is no mosquitto here: `cargo xtask test` installs it, or run \
             `apt-get install mosquitto`",
        )?;
        let mut command = Command::new(program);
        command.arg("-c").arg(self.dir.join("mosquitto.conf"));
        let log = self.dir.join("mosquitto.log");
        let mut process = Process::start("mosquitto", &mut command, &log)?;
        let addr = self.addr;
        let ready = wait::until("mosquitto to listen", START, async || {
            process.check_running()?;
            Ok(TcpStream::connect(addr).await.map(drop)?)
        });
        let ready = ready.await;
        self.process = Some(process);
        ready
    }

    /// SIGKILL: what it wrote last is what it knows.
    ///
    /// # Errors
    /// The system's, or that it ended before by itself.
    pub fn kill(&mut self) -> Result<()> {
        let process = self.process.take();
        ensure!(process.is_some(), "mosquitto was not started");
        let Some(mut process) = process else { return Ok(()) };
        process.check_running()?;
        process.kill()
    }
}

/// Started by root it would become the user `mosquitto`, who may not read our keys.
fn user() -> &'static str {
    if rustix::process::getuid().is_root() { "user root\n" } else { "" }
}
