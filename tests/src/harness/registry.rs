//! A container registry as a process: Debian's `docker-registry`, which is the reference implementation
//! of the distribution protocol.
//!
//! It is unpacked below the target directory and not installed, so that no service of the machine's
//! starts. Where that cannot be done the test fails and says how to get it; it is never skipped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;

use super::process::Process;
use super::{ports, programs, wait};

/// Longer than a start on a loaded machine.
const START: Duration = Duration::from_secs(15);
const PROGRAM: &str = "docker-registry";
const HOW: &str = "a container registry is needed: `apt-get install docker-registry`, or let `apt-get \
                   download` reach a package index";
/// Name and password `ann` and `secret`, as `htpasswd -B` writes them.
const PASSWORDS: &str = "ann:$2y$05$ca6eHF7KEDuUtWzLODc5H.wsW68xFw08l2bdia9VFcyZq0Jgywtn.\n";

/// A registry on loopback.
#[derive(Debug)]
pub struct Registry {
    addr: SocketAddr,
    process: Process,
}

impl Registry {
    /// Starts an empty one that keeps its things below `dir`; with `password`, only `ann` with the
    /// password `secret` may do anything.
    ///
    /// # Errors
    /// If there is none here and none can be fetched, or it does not listen in time.
    pub async fn start(dir: &Path, password: bool) -> Result<Self> {
        let program = program().context(HOW)?;
        std::fs::create_dir_all(dir).context("the registry's directory")?;
        let addr = SocketAddr::from(([127, 0, 0, 1], ports::lasting()?));
        let auth = match password {
            true => {
                let path = dir.join("passwords");
                std::fs::write(&path, PASSWORDS).context("passwords")?;
                format!("auth: {{htpasswd: {{realm: r, path: '{}'}}}}\n", path.display())
            }
            false => String::new(),
        };
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\n\
             http: {{addr: '{addr}'}}\n{auth}",
            dir.join("blobs").display()
        );
        let path = dir.join("config.yml");
        std::fs::write(&path, config).context("config.yml")?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&path);
        let mut process = Process::start("the registry", &mut command, &dir.join("registry.log"))?;
        wait::until("the registry to listen", START, async || {
            process.check_running()?;
            Ok(TcpStream::connect(addr).await.map(drop)?)
        })
        .await?;
        Ok(Self { addr, process })
    }

    /// Where it listens, as a reference names it.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// Fails if it ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        self.process.check_running()
    }
}

/// The system's, or Debian's package unpacked.
fn program() -> Result<PathBuf> {
    match programs::system(PROGRAM) {
        Some(program) => Ok(program),
        None => Ok(programs::unpacked(PROGRAM)?.join("usr/bin").join(PROGRAM)),
    }
}
