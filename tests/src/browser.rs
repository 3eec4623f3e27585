//! A real browser: Debian's Chromium, driven by playwright-core, judged by axe-core.
//!
//! The two npm packages are put under the target directory once. Where that cannot be done the
//! test fails and says how to get it; it is never skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::harness::programs::{system, workspace};

/// What is installed, to the last digit.
const PACKAGES: [&str; 2] = ["playwright-core@1.65.1", "axe-core@4.14.1"];
const HOW: &str = "a browser is needed: `cargo xtask test` installs it, or run \
                   `apt-get install chromium nodejs npm` and let npm reach a package index";

/// Runs `tests/web/walk.mjs` with what it is told; what it prints.
///
/// # Errors
/// If there is no browser, or with what was wrong with the page.
pub fn walk(instructions: &Path) -> Result<String> {
    let modules = modules()?;
    let chromium = system("chromium").context(HOW)?;
    let script = workspace().join("tests/web/walk.mjs");
    let mut node = Command::new(system("node").context(HOW)?);
    run(node.arg(script).arg(modules).arg(chromium).arg(instructions))
}

/// Where the npm packages are.
fn modules() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let dir = target.unwrap_or_else(|| workspace().join("target")).join("browser-1.65.1-4.14.1");
    let ready = dir.join("ready");
    if !ready.exists() {
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        std::fs::write(dir.join("package.json"), "{\"private\":true}")?;
        let mut npm = Command::new(system("npm").context(HOW)?);
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]);
        run(npm.args(PACKAGES).current_dir(&dir)).context(HOW)?;
        std::fs::write(&ready, b"")?;
    }
    Ok(dir)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
