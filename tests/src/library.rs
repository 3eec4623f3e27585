//! The agent as a shared library, built where the tests are, and what is generated for it.
//!
//! The library is the workspace's, so cargo is asked for it in the same way as for the programs
//! ([`crate::harness::programs`]); the generator is a workspace of its own and is built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

use crate::harness::programs::{build, workspace};

/// `libfleetway_device.so`, of now.
///
/// # Errors
/// If it cannot be built.
pub fn shared() -> Result<&'static Path> {
    static SHARED: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let built = build(&["--lib"]).map_err(|error| format!("{error:#}"))?;
        let path = built.join("libfleetway_device.so");
        path.is_file().then_some(path).ok_or_else(|| "cargo built no shared library".to_owned())
    });
    shared.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Its crate.
pub fn source() -> PathBuf {
    workspace().join("agent/ffi")
}

/// Runs the generator.
///
/// # Errors
/// If it cannot be built, or fails.
pub fn generate(words: &[&str]) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "--locked", "--manifest-path"]);
    cargo.arg(source().join("generate/Cargo.toml"));
    cargo.arg("--target-dir").arg(workspace().join("target/generate")).arg("--").args(words);
    let done = cargo.current_dir(workspace()).output().context("cannot start cargo")?;
    ensure!(done.status.success(), "{cargo:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// Compiles a program of `tests/c/` against the header and the shared library; where it is.
///
/// # Errors
/// What the compiler says, warnings included.
pub fn compile_c(name: &str, dir: &Path) -> Result<PathBuf> {
    let library = shared()?.parent().context("no directory")?;
    let program = dir.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-g"]);
    cc.arg("-I").arg(source().join("include"));
    cc.arg(workspace().join("tests/c").join(format!("{name}.c"))).arg("-o").arg(&program);
    cc.arg("-L").arg(library).args(["-lfleetway_device", "-lpthread", "-lm"]);
    cc.arg(format!("-Wl,-rpath,{}", library.display()));
    let done = cc.output().context("there is no C compiler")?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(program)
}
