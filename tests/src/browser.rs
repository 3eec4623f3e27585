//! A real browser: Debian's Chromium, driven by playwright-core, judged by axe-core.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::harness::programs::system;
use crate::npm;

/// What is installed, to the last digit.
const PACKAGES: [&str; 2] = ["playwright-core@1.65.1", "axe-core@4.14.1"];
const HOW: &str = "a browser is needed: `cargo xtask test` installs it, or run \
                   `apt-get install chromium`";

/// Runs a script below `tests/` with what it is told; what it prints.
///
/// # Errors
/// If there is no browser, or with what was wrong with the page.
pub fn run(script: &str, instructions: &Path) -> Result<String> {
    let modules = npm::modules("browser-1.65.1-4.14.1", &PACKAGES)?;
    let chromium = system("chromium").context(HOW)?;
    let mut node = Command::new(npm::node()?);
    npm::run(node.arg(npm::script(script)).arg(modules).arg(chromium).arg(instructions))
}
