//! How cargo is called: always the one that called us, always at the workspace's root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The target without an operating system that the protocol must build for.
pub(crate) const BARE_TARGET: &str = "thumbv7em-none-eabihf";
/// Another one without an operating system, that one of the firmware's boards has.
pub(crate) const RISCV_TARGET: &str = "riscv32imac-unknown-none-elf";

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo with these arguments.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args).current_dir(root());
    // Set by the `cargo run` that we live in. With these the children would believe to be us,
    // and build scripts that watch them would run again on every change of caller.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let ours = name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_BIN_");
        if ours || name == "CARGO_MANIFEST_DIR" || name == "CARGO_MANIFEST_PATH" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command in front of the person, and stops if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let text = text(command);
    eprintln!("$ {text}");
    let status = command.status().with_context(|| format!("cannot start `{text}`"))?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(())
}

/// A command as a person would type it.
pub(crate) fn text(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Builds every program of the project in its one optimized profile.
///
/// The whole workspace at once, without us: a part of it would resolve other features for
/// the expensive dependencies and build them twice; and we are running.
pub(crate) fn build_programs() -> Result<()> {
    run(&mut cargo(&["build", "--workspace", "--exclude", "xtask", "--bins"]))
}

/// Where the programs of a profile end up.
pub(crate) fn program_dir(profile_dir: &str) -> Result<PathBuf> {
    Ok(target_dir()?.join(profile_dir))
}

fn target_dir() -> Result<PathBuf> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .context("cannot start `cargo metadata`")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("`cargo metadata` gave no JSON")?;
    let dir = metadata["target_directory"].as_str().context("no target_directory")?;
    Ok(PathBuf::from(dir))
}
