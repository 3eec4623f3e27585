//! The fuzz targets under libFuzzer, and the protocol under Miri. Neither is part of
//! `cargo xtask test`; the same targets run there over samples, corpus and seeded mutations.
//!
//! libFuzzer runs on the pinned toolchain: counting what code was reached is stable, only
//! sanitizers need nightly. They would find misuse of memory, which safe code cannot do; what is
//! looked for here (a panic, an overflow, a hang, memory without bound) needs none. Miri does need
//! nightly.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{cargo, emulated};

/// Mutations of a target under Miri would take hours; its decoders' own tests take minutes.
const MIRI_TESTS: [&str; 4] =
    ["--lib", "--test=codec_golden", "--test=codec_largest", "--test=keyset"];
/// Counters at every edge, the table that says where they are, and operands of comparisons as
/// hints: what libFuzzer steers by.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Seconds after which one input is a hang: all of them take milliseconds.
const HANG_S: u32 = 20;
/// Memory above which an input is a bomb, MiB: the largest model is 64 of them.
const MEMORY_MIB_MAX: u32 = 2048;

/// Runs one target, or each of them, for `seconds`.
pub(crate) fn fuzz(target: Option<&str>, seconds: u64) -> Result<()> {
    let names = names()?;
    let chosen: Vec<&str> = match target {
        Some(target) if names.iter().any(|name| name == target) => vec![target],
        Some(target) => bail!("there is no fuzz target {target}; there are {}", names.join(", ")),
        None => names.iter().map(String::as_str).collect(),
    };
    crate::say("fuzzing on the pinned toolchain, without sanitizers");
    let program = build()?;
    let mut found = Vec::new();
    for name in &chosen {
        crate::say(&format!("fuzzing {name} for {seconds} s"));
        if !run(&program, name, seconds)? {
            found.push(*name);
        }
    }
    if found.is_empty() {
        println!("{} targets, nothing found", chosen.len());
        return Ok(());
    }
    bail!(
        "found something in {}; see tests/fuzz/artifacts, mend it, and keep the input in \
         tests/fuzz/corpus/<target>",
        found.join(", ")
    )
}

/// The program with all targets in it, every crate instrumented but those that run in the build.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let mut command = cargo::cargo(&["build", "--target", &host]);
    command.env("RUSTFLAGS", COVERAGE.join(" ")).env_remove("CARGO_TARGET_DIR");
    cargo::run(command.current_dir(dir()))?;
    Ok(dir().join("target").join(host).join("debug/any"))
}

/// Whether nothing was found.
fn run(program: &Path, name: &str, seconds: u64) -> Result<bool> {
    // What it finds out goes into the first directory; ours is read.
    let (grown, kept) = (dir().join("target/corpus").join(name), dir().join("corpus").join(name));
    let artifacts = dir().join("artifacts");
    for dir in [&grown, &kept, &artifacts] {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let mut command = Command::new(program);
    command.arg(&grown).arg(&kept).args([
        format!("-max_total_time={seconds}"),
        format!("-timeout={HANG_S}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        format!("-artifact_prefix={}/{name}-", artifacts.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    command.env("FLEETWAY_FUZZ_TARGET", name).env("FLEETWAY_FUZZ_SEEDS", &grown);
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    Ok(status.success())
}

/// The triple of this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what it is for")
}

/// Runs the tests of the protocol and of the int8 runtime under Miri.
pub(crate) fn miri() -> Result<()> {
    say_missing("Miri", &missing_for_miri())?;
    let mut command = Command::new("cargo");
    command.args(["+nightly", "miri", "test", "-p", "fleetway-protocol"]).args(MIRI_TESTS);
    // Leaks are no memory errors, and a clock is not read.
    command.env_remove("RUSTUP_TOOLCHAIN").current_dir(cargo::root());
    cargo::run(&mut command)?;
    // The kernels, those for vectors too: Miri knows what `vpdpbusd` does, in its own words.
    let mut command = Command::new("cargo");
    command.args(["+nightly", "miri", "test", "-p", "fleetway-qnn", "--lib"]);
    command.env("RUSTFLAGS", "-Ctarget-feature=+avx2,+fma,+avxvnni,+avx512vl,+avx512vnni");
    command.env(emulated::SETS, "portable,avx2,avx-vnni");
    command.env_remove("RUSTUP_TOOLCHAIN").current_dir(cargo::root());
    cargo::run(&mut command)
}

fn dir() -> PathBuf {
    cargo::root().join("tests/fuzz")
}

/// The targets' names, from the table that both runners use.
fn names() -> Result<Vec<String>> {
    let table = std::fs::read_to_string(cargo::root().join("tests/src/fuzz.rs"))?;
    let entry = |line: &str| {
        let line = line.trim_start();
        let rest = line.strip_prefix("target(\"").or_else(|| line.strip_prefix("slow(\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    Ok(table.lines().filter_map(entry).collect())
}

/// What a machine lacks for Miri, with the command that gets it.
fn missing_for_miri() -> Vec<String> {
    let answers = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).env_remove("RUSTUP_TOOLCHAIN").stderr(Stdio::null());
        command.output().ok().filter(|output| output.status.success())
    };
    if answers("rustc", &["+nightly", "--version"]).is_none() {
        return vec!["a nightly toolchain: `rustup toolchain install nightly`".to_owned()];
    }
    let list = answers("rustup", &["+nightly", "component", "list", "--installed"]);
    let list = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    match list.unwrap_or_default().lines().any(|line| line.starts_with("miri")) {
        true => Vec::new(),
        false => vec!["miri: `rustup +nightly component add miri`".to_owned()],
    }
}

fn say_missing(what: &str, missing: &[String]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{what} needs what this machine does not have:\n- {}", missing.join("\n- "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_name() {
        let names = names().unwrap();
        assert!(names.len() >= 37 && names.contains(&"manifest".to_owned()), "{names:?}");
        assert!(fuzz(Some("nothing"), 1).unwrap_err().to_string().contains("no fuzz target"));
    }
}
