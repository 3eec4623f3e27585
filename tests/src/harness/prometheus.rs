//! The real Prometheus and its `promtool`: those of the system, or Debian's package unpacked once
//! under the target directory, which needs neither root nor a service.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

use super::programs;

const HOW: &str = "there is no prometheus here: install Debian's package `prometheus`, or let \
                   `apt-get download` reach a mirror";

/// Its two programs.
#[derive(Clone, Debug)]
pub struct Prometheus {
    /// The server.
    pub server: PathBuf,
    /// What checks its files.
    pub promtool: PathBuf,
}

/// Finds them, or unpacks them.
///
/// # Errors
/// If they can be neither found nor fetched, with what to install.
pub fn prometheus() -> Result<&'static Prometheus> {
    static FOUND: OnceLock<std::result::Result<Prometheus, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn find() -> Result<Prometheus> {
    let both = (programs::system("prometheus"), programs::system("promtool"));
    if let (Some(server), Some(promtool)) = both {
        return Ok(Prometheus { server, promtool });
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let dir = target.unwrap_or_else(|| programs::workspace().join("target")).join("prometheus");
    let bin = dir.join("usr/bin");
    let here = Prometheus { server: bin.join("prometheus"), promtool: bin.join("promtool") };
    if !(here.server.is_file() && here.promtool.is_file()) {
        unpack(&dir).context(HOW)?;
    }
    Ok(here)
}

fn unpack(dir: &Path) -> Result<()> {
    let fetched = tempfile::tempdir()?;
    let mut apt = Command::new("apt-get");
    run(apt.args(["download", "prometheus"]).current_dir(fetched.path()))?;
    let mut entries = std::fs::read_dir(fetched.path())?;
    let package = entries.next().context("apt-get downloaded nothing")??.path();
    std::fs::create_dir_all(dir)?;
    run(Command::new("dpkg").arg("-x").arg(package).arg(dir))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {said}");
    Ok(())
}
