//! What needs a nightly toolchain: libFuzzer over the fuzz targets, Miri over the protocol. Neither
//! is part of `cargo xtask test`, whose toolchain is the pinned one; the same targets run there on
//! stable, over samples, corpus and seeded mutations.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::cargo;
use crate::needs;

/// Mutations of a target under Miri would take hours; its decoders' own tests take minutes.
const MIRI_TESTS: [&str; 4] =
    ["--lib", "--test=codec_golden", "--test=codec_largest", "--test=keyset"];

/// Runs one target, or each of them, for `seconds`.
pub(crate) fn fuzz(target: Option<&str>, seconds: u64) -> Result<()> {
    let missing = missing(&["cargo-fuzz"], None);
    let names = names()?;
    if let Some(target) = target
        && !names.iter().any(|name| name == target)
    {
        bail!("there is no fuzz target {target}; there are {}", names.join(", "));
    }
    say_missing("fuzzing", &missing)?;
    let chosen: Vec<&str> = match target {
        Some(target) => vec![target],
        None => names.iter().map(String::as_str).collect(),
    };
    for name in chosen {
        crate::say(&format!("fuzzing {name} for {seconds} s"));
        let corpus = dir().join("corpus").join(name);
        std::fs::create_dir_all(&corpus)?;
        let mut command = Command::new("cargo");
        command.args(["+nightly", "fuzz", "run", "any"]).arg(&corpus).arg("--");
        command.arg(format!("-max_total_time={seconds}")).arg("-rss_limit_mb=2048");
        command.env("FLEETWAY_FUZZ_TARGET", name).env_remove("RUSTUP_TOOLCHAIN");
        cargo::run(command.current_dir(cargo::root().join("tests")))?;
    }
    Ok(())
}

/// Runs the protocol's tests under Miri.
pub(crate) fn miri() -> Result<()> {
    say_missing("Miri", &missing(&[], Some("miri")))?;
    let mut command = Command::new("cargo");
    command.args(["+nightly", "miri", "test", "-p", "fleetway-protocol"]).args(MIRI_TESTS);
    // Leaks are no memory errors, and a clock is not read.
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

/// What a machine lacks, with the command that gets it.
fn missing(programs: &[&str], component: Option<&str>) -> Vec<String> {
    let mut missing = Vec::new();
    let answers = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).env_remove("RUSTUP_TOOLCHAIN").stderr(Stdio::null());
        command.output().ok().filter(|output| output.status.success())
    };
    if answers("rustc", &["+nightly", "--version"]).is_none() {
        missing.push("a nightly toolchain: `rustup toolchain install nightly`".to_owned());
    } else if let Some(component) = component {
        let list = answers("rustup", &["+nightly", "component", "list", "--installed"]);
        let list = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        if !list.unwrap_or_default().lines().any(|line| line.starts_with(component)) {
            missing.push(format!("{component}: `rustup +nightly component add {component}`"));
        }
    }
    for program in programs {
        if needs::find(program).is_none() {
            missing.push(format!("{program}: `cargo install {program}`"));
        }
    }
    missing
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
        assert!(names.len() >= 21 && names.contains(&"manifest".to_owned()), "{names:?}");
        assert!(fuzz(Some("nothing"), 1).unwrap_err().to_string().contains("no fuzz target"));
    }
}
