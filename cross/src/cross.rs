//! `cargo xtask cross`: everything for every kind of device, from the one table in [`crate::targets`], held
//! against its budgets and run as far as this machine can.
//!
//! No containers: Rust's own linker for static programs, Debian's cross compilers for the rest, both
//! installed by [`needs`]. `cargo xtask test` does the same for what the table calls tested, and has an
//! agent for AArch64 take a real update from a real broker under qemu ([`update`]).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cargo::{self, cargo};
use crate::targets::{BOARDS, Board, Build, Runner, TARGETS, Target, What};
use crate::{firmware, lanes, needs};

/// The device of the update under qemu.
const UPDATED: &str = "aarch64-unknown-linux-musl";
/// The test that an agent for it takes.
const UPDATE: [&str; 2] = ["e2e_rollout", "a_good_release_arrives_embedded"];
/// What cannot be built here, and what it would need.
const ELSEWHERE: &str = "\
not built here: the shared library for Android needs Google's NDK (its linker and libc), the one for iOS
needs Apple's Xcode; the static one above and the bindings of `cargo xtask bindings` are what they link.";

/// Builds, measures and runs everything, or only what has one of these words in its name.
pub(crate) fn cross(only: &[String]) -> Result<()> {
    let is_asked = |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word));
    let targets: Vec<&'static Target> =
        TARGETS.iter().filter(|target| is_asked(target.triple)).collect();
    let boards: Vec<&Board> = BOARDS.iter().filter(|board| is_asked(board.name)).collect();
    if targets.is_empty() && boards.is_empty() {
        let all = TARGETS.iter().map(|target| target.triple);
        let all: Vec<&str> = all.chain(BOARDS.iter().map(|board| board.name)).collect();
        bail!("nothing is called so; there are: {}", all.join(", "));
    }
    let mut sizes = made(&targets, |_| true)?;
    sizes.extend(flashed(&boards)?);
    print(&sizes)?;
    if only.is_empty() {
        println!("\n{ELSEWHERE}");
    }
    Ok(())
}

/// Builds, measures and runs what every test run does.
pub(crate) fn tested() -> Result<()> {
    let mut sizes = made(&TARGETS.iter().collect::<Vec<_>>(), |build| build.is_tested)?;
    sizes.extend(flashed(&BOARDS.iter().collect::<Vec<_>>())?);
    print(&sizes)
}

/// How large something became.
struct Size {
    of: &'static str,
    what: &'static str,
    bytes: u64,
    bytes_max: u64,
    /// What it said when it ran.
    ran: String,
}

/// All sizes beside their budgets. Fails if one is over.
fn print(sizes: &[Size]) -> Result<()> {
    println!(
        "{:<30} {:<11} {:>11} {:>11} {:>9}  run",
        "target", "build", "bytes", "budget", "left"
    );
    for Size { of, what, bytes, bytes_max, ran } in sizes {
        let left = *bytes_max as i64 - *bytes as i64;
        println!("{of:<30} {what:<11} {bytes:>11} {bytes_max:>11} {left:>9}  {ran}");
    }
    if sizes.iter().any(|size| size.bytes > size.bytes_max) {
        bail!("a program is larger than its budget in cross/src/targets.rs: find out why it grew");
    }
    Ok(())
}

/// Builds boards' firmware. The tests of `fleetway-firmware` run it.
fn flashed(boards: &[&'static Board]) -> Result<Vec<Size>> {
    let flashed = boards.iter().map(|board| {
        crate::say(&format!("the firmware for {}", board.name));
        let (of, what, bytes_max) = (board.name, "firmware", board.flash_bytes_max);
        let ran = "in its own tests".to_owned();
        Ok(Size { of, what, bytes: firmware::flash(board)?, bytes_max, ran })
    });
    flashed.collect()
}

/// Builds what is wanted of these targets, measures it, and has it run.
fn made(targets: &[&'static Target], wanted: impl Fn(&Build) -> bool) -> Result<Vec<Size>> {
    for target in targets {
        needs::cross(target)?;
    }
    for what in [What::Small, What::Full, What::Library] {
        let has = |target: &&&Target| target.builds.iter().any(|b| b.what == what && wanted(b));
        let of: Vec<&Target> = targets.iter().filter(has).copied().collect();
        if !of.is_empty() {
            crate::say(&format!("{}, for {} targets", recipe(what).name, of.len()));
            build(what, &of)?;
        }
    }
    let mut sizes = Vec::new();
    for target in targets {
        for build in target.builds.iter().filter(|build| wanted(build)) {
            let file = file(target, build.what)?;
            let bytes = std::fs::metadata(&file).with_context(|| file.display().to_string())?.len();
            let (of, what, bytes_max) = (target.triple, recipe(build.what).name, build.bytes_max);
            let ran = ran(target, build.what, &file)?;
            sizes.push(Size { of, what, bytes, bytes_max, ran });
        }
    }
    Ok(sizes)
}

/// How something is built.
struct Recipe {
    /// As a person calls it.
    name: &'static str,
    profile: &'static str,
    /// Cargo's words.
    words: &'static [&'static str],
    /// What comes out.
    file: &'static str,
}

fn recipe(what: What) -> Recipe {
    match what {
        What::Small => Recipe {
            name: "small agent",
            profile: "dist-small",
            words: &["build", "-p", "fleetway-agent", "--no-default-features", "--bins"],
            file: "fleetway-agent",
        },
        What::Full => Recipe {
            name: "full agent",
            profile: "dist",
            words: &["build", "-p", "fleetway-agent", "--bins"],
            file: "fleetway-agent",
        },
        What::Library => Recipe {
            name: "library",
            profile: "dist",
            words: &[
                "rustc",
                "-p",
                "fleetway-ffi",
                "--no-default-features",
                "--lib",
                "--crate-type=staticlib",
            ],
            file: "libfleetway_device.a",
        },
    }
}

/// One cargo for all targets: while one program is linked, which takes one processor a minute, the next is
/// compiled.
fn build(what: What, targets: &[&Target]) -> Result<()> {
    let Recipe { profile, words, .. } = recipe(what);
    let mut command = cargo(words);
    command.args(["--profile", profile]);
    for target in targets {
        let (triple, cc) = (target.triple, target.cc.program);
        let upper = triple.to_uppercase().replace('-', "_");
        let linker = if target.is_static { "rust-lld" } else { cc };
        command.args(["--target", triple]);
        command.env(format!("CARGO_TARGET_{upper}_LINKER"), linker);
        command.env(format!("CC_{}", triple.replace('-', "_")), cc);
    }
    cargo::run(&mut command)
}

/// Where it ends up.
fn file(target: &Target, what: What) -> Result<PathBuf> {
    let Recipe { profile, file, .. } = recipe(what);
    Ok(cargo::program_dir(target.triple)?.join(profile).join(file))
}

/// Has a program say its version, on this machine or under an emulator.
fn ran(target: &Target, what: What, file: &Path) -> Result<String> {
    if what == What::Library {
        return Ok("- (a library)".to_owned());
    }
    let mut command = match &target.runner {
        Some(Runner { program, root }) => {
            let mut command = Command::new(program);
            command.args(["-L", root]).arg(file);
            command
        }
        None => Command::new(file),
    };
    let output = command.arg("--version").output().context("cannot start it")?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || !said.starts_with("fleetway-agent ") {
        bail!("{} does not run ({}): {said}", file.display(), output.status);
    }
    Ok(said)
}

/// An agent for AArch64 takes a release from a real controller over a real broker, and serves it.
///
/// The agent starts itself again for a self-test, so that the kernel must know how to run such
/// a program: in a namespace of its own, which changes nothing for anybody else, and needs Linux 6.7.
pub(crate) fn update(programs: &[lanes::Program]) -> Result<()> {
    crate::say(&format!("an agent for {UPDATED} takes an update"));
    let find = |target: &&Target| target.triple == UPDATED;
    let target = TARGETS.iter().find(find).context("the target of the update")?;
    let agent = file(target, What::Small)?;
    let runner = target.runner.as_ref().context("its emulator")?;
    let dir = cargo::program_dir("cross")?;
    std::fs::create_dir_all(&dir)?;
    let qemu = needs::find(runner.program).context("its emulator")?;
    let text = emulated(&qemu, &agent);
    script(&dir.join("fleetway-agent"), &text)?;
    let controller = cargo::program_dir("debug")?.join("fleetway");
    script(&dir.join("fleetway"), &format!("exec {} \"$@\"\n", controller.display()))?;
    let program = programs.iter().find(|program| program.name.ends_with(UPDATE[0]));
    let program = program.with_context(|| format!("no test {}", UPDATE[0]))?;
    let mut test = program.command(&dir);
    cargo::run(test.arg(UPDATE[1]).arg("--exact").env("FLEETWAY_SANDBOX", "limits"))
}

/// A shell script that runs a program for AArch64 and all that it starts.
fn emulated(qemu: &Path, program: &Path) -> String {
    // The first bytes of an ELF file: 64 bits, little-endian, a program (or a shared one), AArch64.
    let magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
    let mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
    format!(
        "exec unshare --user --map-root-user --mount sh -c '\n\
         mount -t binfmt_misc none /proc/sys/fs/binfmt_misc &&\n\
         printf \"%s\" \":aarch64:M::{magic}:{mask}:{}:F\" >/proc/sys/fs/binfmt_misc/register &&\n\
         exec {} \"$@\"' sh \"$@\"\n",
        qemu.display(),
        program.display()
    )
}

fn script(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, format!("#!/bin/sh\n{text}"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_budget_once_for_each_build() {
        for target in TARGETS {
            assert!(!target.builds.is_empty(), "{}", target.triple);
            for build in target.builds {
                let same = target.builds.iter().filter(|other| other.what == build.what);
                assert_eq!(same.count(), 1, "{}", target.triple);
                // 5 MB is what small devices were promised.
                assert!(build.what != What::Small || build.bytes_max <= 5_000_000);
            }
        }
        assert!(TARGETS.iter().any(|target| target.triple == UPDATED));
    }
}
