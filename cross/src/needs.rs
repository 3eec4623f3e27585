//! What a machine must have beyond Rust and a C compiler, and how it gets it.
//!
//! Installed when that is allowed (root, or `sudo` that asks for no password), else named
//! with the command that installs it. Nothing that is missing is skipped.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cargo;
use crate::targets::Target;

/// The Debian package with the second broker of the end-to-end tests.
const MOSQUITTO: &str = "mosquitto";
/// Where Debian puts daemons, which is not in everybody's path.
const DAEMON_DIRS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// Everything that `cargo xtask test` needs.
pub(crate) fn for_tests() -> Result<()> {
    let mut missing = Vec::new();
    for need in [mosquitto(), python(), signers(), packages(), browser(), qemu_user(), boards()] {
        if let Err(error) = need {
            missing.push(format!("- {error:#}"));
        }
    }
    if !missing.is_empty() {
        bail!("the tests need what this machine does not have:\n{}", missing.join("\n"));
    }
    Ok(())
}

/// A program in the path, or where daemons are.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(DAEMON_DIRS.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn mosquitto() -> Result<()> {
    if find(MOSQUITTO).is_some() {
        return Ok(());
    }
    install(MOSQUITTO, &[MOSQUITTO], "the second broker of the end-to-end tests")?;
    if find(MOSQUITTO).is_none() {
        bail!("apt-get installed {MOSQUITTO}, but there is no such program");
    }
    Ok(())
}

/// Installs Debian packages, or says that somebody else has to.
fn install(what: &str, packages: &[&str], why: &str) -> Result<()> {
    let names = packages.join(" ");
    let how = format!(
        "{what} (`apt-get install {names}`, or your system's package of that name), for {why}"
    );
    if find("apt-get").is_none() {
        bail!("{how}");
    }
    let Some(rights) = rights() else {
        bail!("{how}; this user may not install it: run `sudo apt-get install {names}`");
    };
    crate::say(&format!("installing {what}, for {why}"));
    apt(rights, &["update"]).context(how.clone())?;
    let words = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    apt(rights, &words).context(how)
}

/// What the signers are tested against: a token in software, an agent, and a key to import.
fn signers() -> Result<()> {
    let programs =
        [("softhsm2-util", "softhsm2"), ("ssh-agent", "openssh-client"), ("openssl", "openssl")];
    missing_programs(&programs, "the tests of the signers")
}

/// Installs the packages of those programs that are not there.
fn missing_programs(programs: &[(&str, &str)], why: &str) -> Result<()> {
    let missing = |(program, _): &&(&str, &str)| find(program).is_none();
    let packages: Vec<_> = programs.iter().filter(missing).map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    install(&packages.join(", "), &packages, why)?;
    match programs.iter().find(missing) {
        Some((program, package)) => bail!("{package} was installed, but there is no {program}"),
        None => Ok(()),
    }
}

/// What packages are made, judged and tried with: the test boots a systemd of its own.
fn packages() -> Result<()> {
    let programs =
        [("dpkg-deb", "dpkg"), ("systemd-analyze", "systemd"), ("nsenter", "util-linux")];
    missing_programs(&programs, "the test of the Debian packages")
}

/// Who looks at the web page. The npm packages that drive it the tests put under `target/`
/// themselves (`tests/src/browser.rs`).
fn browser() -> Result<()> {
    let programs = [("chromium", "chromium"), ("node", "nodejs"), ("npm", "npm")];
    missing_programs(&programs, "the test of the web page")
}

/// Python with venv: an implementation of TUF by others judges ours. What it needs beyond that
/// the tests put under `target/` themselves (`tests/src/python.rs`).
fn python() -> Result<()> {
    let has_venv = || {
        let mut python = Command::new("python3");
        let probe = python.args(["-c", "import venv, ensurepip"]).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    if has_venv() {
        return Ok(());
    }
    install(
        "python3 with venv",
        &["python3", "python3-venv"],
        "python-tuf, which reads our metadata",
    )?;
    if !has_venv() {
        bail!("python3 with venv (Debian: python3, python3-venv) was installed, and does not work");
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Rights {
    Root,
    Sudo,
}

/// How packages may be installed without asking anybody.
fn rights() -> Option<Rights> {
    let quiet = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()
    };
    let id = quiet("id", &["-u"])?;
    if id.stdout.trim_ascii() == b"0" {
        return Some(Rights::Root);
    }
    quiet("sudo", &["-n", "true"]).filter(|o| o.status.success()).map(|_| Rights::Sudo)
}

fn apt(rights: Rights, args: &[&str]) -> Result<()> {
    let mut command = match rights {
        Rights::Root => Command::new("apt-get"),
        Rights::Sudo => {
            let mut command = Command::new("sudo");
            command.args(["-n", "apt-get"]);
            command
        }
    };
    // Another apt-get at work is waited for; a question would wait for ever.
    command.args(["-o", "DPkg::Lock::Timeout=120", "-q"]);
    cargo::run(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// A target of Rust beyond this machine's.
pub(crate) fn target(target: &str) -> Result<()> {
    if has_target(target) {
        return Ok(());
    }
    let how = format!("the Rust target {target} (`rustup target add {target}`)");
    if find("rustup").is_none() {
        bail!("{how}; there is no rustup here, so get it the way you got Rust");
    }
    crate::say(&format!("installing the Rust target {target}"));
    rustup(&["target", "add", target]).context(how)
}

/// What a target of [`crate::targets`] is built and run with.
pub(crate) fn cross(target: &Target) -> Result<()> {
    self::target(target.triple)?;
    let mut programs = vec![(target.cc.program, target.cc.package)];
    programs.extend(target.runner.as_ref().map(|runner| (runner.program, "qemu-user-static")));
    missing_programs(&programs, "programs for other devices")?;
    if target.libc.is_empty() || has_package(target.libc) {
        return Ok(());
    }
    install(target.libc, &[target.libc], "programs for other devices")
}

/// Whether a Debian package is installed.
fn has_package(name: &str) -> bool {
    let list = PathBuf::from("/var/lib/dpkg/info").join(format!("{name}.list"));
    list.exists()
}

/// Runs programs for AArch64.
pub(crate) const QEMU_AARCH64: &str = "qemu-aarch64-static";
/// Runs boards with a Cortex-M4.
pub(crate) const QEMU_ARM: &str = "qemu-system-arm";
/// What the emulators are for.
const OTHERS: &str = "the tests on other processors and on boards";

/// The first of the two.
pub(crate) fn qemu_user() -> Result<()> {
    missing_programs(&[(QEMU_AARCH64, "qemu-user-static")], OTHERS)
}

/// The second.
pub(crate) fn qemu_system_arm() -> Result<()> {
    missing_programs(&[(QEMU_ARM, "qemu-system-arm")], OTHERS)
}

/// A processor with AVX-512, and what makes a disc that it starts from.
pub(crate) fn bochs() -> Result<()> {
    let programs = [("bochs-bin", "bochs"), ("xorriso", "xorriso"), ("dpkg-deb", "dpkg")];
    missing_programs(&programs, OTHERS)?;
    for (file, package) in [
        ("/usr/lib/ISOLINUX/isolinux.bin", "isolinux"),
        ("/usr/share/bochs/BIOS-bochs-latest", "bochsbios"),
        ("/usr/share/bochs/VGABIOS-lgpl-latest", "vgabios"),
    ] {
        if !Path::new(file).exists() {
            install(package, &[package], OTHERS)?;
        }
    }
    Ok(())
}

/// rustup for the toolchain that this workspace names.
pub(crate) fn rustup(args: &[&str]) -> Result<()> {
    // Inside a rustup proxy this names the toolchain; the file at the root must win.
    cargo::run(Command::new("rustup").args(args).current_dir(cargo::root()))
}

fn has_target(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(cargo::root())
        .stderr(Stdio::null())
        .output();
    let Ok(printed) = printed else { return false };
    let dir = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    let is_core = |name: &OsStr| name.to_string_lossy().starts_with("libcore-");
    files(&dir).iter().filter_map(|file| file.file_name()).any(is_core)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

/// What the firmware's boards are built and run with.
pub(crate) fn boards() -> Result<()> {
    qemu_system_arm()?;
    qemu_system_riscv()?;
    target(cargo::BARE_TARGET)?;
    target(cargo::RISCV_TARGET)
}

/// The third of the emulators.
fn qemu_system_riscv() -> Result<()> {
    missing_programs(&[("qemu-system-riscv32", "qemu-system-misc")], OTHERS)
}
