//! The real Prometheus and its `promtool`: those of the system, or Debian's package unpacked once
//! under the target directory, which needs neither root nor a service.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};

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
    let bin = programs::unpacked("prometheus").context(HOW)?.join("usr/bin");
    Ok(Prometheus { server: bin.join("prometheus"), promtool: bin.join("promtool") })
}
