//! The int8 kernels on processors that this machine is not: the same comparison, emulated.
//!
//! AArch64 and Armv7E-M run in every `cargo xtask test`: qemu takes seconds. AVX-512 is left to
//! `cargo xtask emulated`, because of all emulators only Bochs has it: see [`crate::bochs`]. Each processor is told which
//! sets of kernels it must have, so that an emulator that lacks an instruction is a failure.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cargo::{self, BARE_TARGET, cargo};
use crate::{bochs, needs};

/// Tells the tests which sets of kernels must run.
pub(crate) const SETS: &str = "FLEETWAY_QNN_SETS";
/// A static program, linked by what comes with Rust.
const AARCH64: &str = "aarch64-unknown-linux-musl";
/// Processors of qemu, and the sets of kernels that run on them, the fastest last.
const PROCESSORS: [(&str, &str); 3] = [
    ("cortex-a72", "portable,neon"),
    ("cortex-a76", "portable,neon,neon-dot"),
    ("max", "portable,neon,neon-dot,neon-i8mm"),
];

/// Every processor.
pub(crate) fn all() -> Result<()> {
    quick()?;
    bochs::avx512()
}

/// Those that take seconds.
pub(crate) fn quick() -> Result<()> {
    aarch64()?;
    armv7em()
}

fn aarch64() -> Result<()> {
    needs::target(AARCH64)?;
    needs::qemu_user()?;
    for (processor, sets) in PROCESSORS {
        crate::say(&format!("int8 kernels on {processor}: {sets}"));
        let mut test = cargo(&["test", "--quiet", "--release", "--target", AARCH64]);
        test.args(["-p", "fleetway-qnn", "--features", "std", "--lib"])
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld")
            .env(
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER",
                format!("{} -cpu {processor}", needs::QEMU_AARCH64),
            )
            .env(SETS, sets);
        cargo::run(&mut test)?;
    }
    Ok(())
}

/// A Cortex-M4 without an operating system.
fn armv7em() -> Result<()> {
    needs::target(BARE_TARGET)?;
    needs::qemu_system_arm()?;
    crate::say("int8 kernels on a Cortex-M4: portable,armv7e-m");
    let script = cargo::root().join("protocol/qnn/examples/armv7em/link.x");
    let mut build = cargo(&["rustc", "--release", "--target", BARE_TARGET, "-p", "fleetway-qnn"]);
    build.args(["--features", "check", "--example", "armv7em", "--"]);
    cargo::run(build.arg(format!("-Clink-arg=-T{}", script.display())))?;
    let program = target_dir()?.join(BARE_TARGET).join("release/examples/armv7em");
    let mut qemu = Command::new(needs::QEMU_ARM);
    qemu.args(["-M", "mps2-an386", "-nographic", "-semihosting", "-kernel"]);
    cargo::run(qemu.arg(program))
}

/// The directory of all targets.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let debug = cargo::program_dir("debug")?;
    debug.parent().map(PathBuf::from).context("no target directory")
}
