//! Mosquitto as a process, with the configuration that the controller writes for it and
//! the certificates of the controller's own authority.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_controller::broker::mosquitto::{Mosquitto as Config, render};
use fleetway_protocol::topics::ROOT_DEFAULT;
use tokio::net::TcpStream;

use super::process::Process;
use super::{ports, programs, wait};

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

    /// Writes its configuration, with the certificates in the controller's directory.
    ///
    /// # Errors
    /// The disk's.
    pub fn configure(&self, controller: &Path) -> Result<()> {
        let store = self.dir.join("store");
        std::fs::create_dir_all(&store).context("mosquitto's store")?;
        let acl_file = self.dir.join("acl");
        let rendered = render(&Config {
            port: self.addr.port(),
            root: ROOT_DEFAULT,
            ca_file: &controller.join("pki/ca.pem"),
            cert_file: &controller.join("pki/server.pem"),
            key_file: &controller.join("pki/server.key"),
            acl_file: &acl_file,
            persistence_dir: &store,
            viewers: &[],
            plugin: None,
        })?;
        // Started by root it would become the user `mosquitto`, who may not read the key.
        let conf = match rustix::process::getuid().is_root() {
            true => format!("{}user root\n", rendered.conf),
            false => rendered.conf,
        };
        std::fs::write(self.dir.join("mosquitto.conf"), conf).context("mosquitto.conf")?;
        std::fs::write(&acl_file, rendered.acl).context("mosquitto's ACL")
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
             max_queued_messages 20000\n"
        );
        std::fs::write(self.dir.join("mosquitto.conf"), conf).context("mosquitto.conf")
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
