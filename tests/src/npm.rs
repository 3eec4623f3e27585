//! Programs of others that come as npm packages: put under the target directory once, pinned to the last
//! digit. Where that cannot be done the test fails and says how to get them; it is never skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::harness::programs::{system, workspace};

const HOW: &str = "npm packages are needed: `cargo xtask test` installs what reads them, or run \
                   `apt-get install chromium nodejs npm` and let npm reach a package index";

/// The directory `name` below the target directory, with `packages` in its `node_modules`.
///
/// # Errors
/// If they cannot be had, with what to install.
pub fn modules(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| workspace().join("target"));
    let dir = target.join(name);
    let ready = dir.join("ready");
    std::fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
    // Test programs may run at once: one of them prepares it, the others wait.
    let lock = std::fs::File::create(target.join(format!("{name}.lock")))?;
    lock.lock()?;
    if !ready.exists() {
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        std::fs::write(dir.join("package.json"), "{\"private\":true}")?;
        let mut npm = Command::new(system("npm").context(HOW)?);
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]);
        run(npm.args(packages).current_dir(&dir)).context(HOW)?;
        std::fs::write(&ready, b"")?;
    }
    Ok(dir)
}

/// Node itself.
///
/// # Errors
/// If it is not there, with what to install.
pub fn node() -> Result<PathBuf> {
    system("node").context(HOW)
}

/// Runs something to its end; what it prints.
///
/// # Errors
/// If it fails, with what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A script of ours, by its name below `tests/`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
