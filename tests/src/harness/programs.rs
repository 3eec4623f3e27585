//! Where the programs under test are.
//!
//! `FLEETWAY_BIN_DIR` names their directory (`cargo xtask` sets it, having built them).
//! Without it they are looked for beside the running test program, so in the same profile,
//! and built there first: a run of `cargo test -p fleetway-tests` must never pass against
//! last week's agent. Cargo is quick to see that nothing changed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Controller and operator's command line.
    pub fleetway: PathBuf,
    /// The device daemon.
    pub agent: PathBuf,
}

/// Finds the programs, and builds them if need be.
///
/// # Panics
/// If they can be neither found nor built: no test can say anything without them.
pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| match find() {
        Ok(programs) => programs,
        Err(error) => panic!("no programs to test: {error:#}"),
    })
}

fn find() -> Result<Programs> {
    let dir = match std::env::var_os("FLEETWAY_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => build(&["--bins"])?,
    };
    let program = |name: &str| {
        let path = dir.join(name);
        ensure!(path.is_file(), "{} is not there; run `cargo xtask test`", path.display());
        Ok(path)
    };
    Ok(Programs { fleetway: program("fleetway")?, agent: program("fleetway-agent")? })
}

/// Builds what is `wanted` of the workspace where the running program was built:
/// `<target>/<profile>[/deps]/<us>`. Gives the profile's directory.
///
/// # Errors
/// If cargo cannot.
pub fn build(wanted: &[&str]) -> Result<PathBuf> {
    let us = std::env::current_exe().context("who am I?")?;
    let beside = us.parent().context("no directory")?;
    let dir = match beside.file_name() {
        Some(name) if name == "deps" => beside.parent().context("no profile directory")?,
        _ => beside,
    };
    let target = dir.parent().context("no target directory")?;
    let profile = match dir.file_name().map(|name| name.to_string_lossy()) {
        Some(name) if name != "debug" => name.into_owned(),
        _ => "dev".to_owned(),
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--workspace", "--exclude", "xtask"]).args(wanted);
    cargo.args(["--profile", &profile]).arg("--target-dir").arg(target);
    let built = cargo.current_dir(workspace()).status().context("cannot start cargo")?;
    ensure!(built.success(), "`cargo build` failed ({built})");
    Ok(dir.to_path_buf())
}

/// The workspace's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A program of the system, in the path or where Debian puts daemons.
pub fn system(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    dirs.into_iter().map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Debian's package of that name, unpacked once under the target directory: its programs need neither root
/// nor a service there. Gives the directory.
///
/// # Errors
/// If it can be neither fetched nor unpacked.
pub fn unpacked(package: &str) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| workspace().join("target"));
    let (dir, ready) = (target.join(format!("debian-{package}")), "ready");
    std::fs::create_dir_all(&dir).context("the target directory")?;
    // Test programs may run at once: one of them fetches it, the others wait.
    let lock = std::fs::File::create(target.join(format!("debian-{package}.lock")))?;
    lock.lock()?;
    if !dir.join(ready).exists() {
        let fetch =
            format!("apt-get download -q {package} && dpkg -x {package}_*.deb . && touch {ready}");
        let done = Command::new("sh").args(["-ec", &fetch]).current_dir(&dir).output();
        let done = done.context("cannot start a shell")?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(dir)
}

/// A library of the system, where Debian and others put them.
pub fn library(name: &str) -> Option<PathBuf> {
    let arch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let dirs = [arch.as_str(), "/usr/lib64", "/usr/lib", "/usr/local/lib"];
    dirs.into_iter().map(|dir| Path::new(dir).join(name)).find(|file| file.is_file())
}
