//! `cargo xtask test`: everything, from a bare machine, with one sum at the end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::cargo::{self, cargo};
use crate::{cross, emulated, lanes, lint, needs};

/// Runs the tests; `args`, if there are some, go to `cargo test` as they are.
pub(crate) fn test(args: &[String]) -> Result<()> {
    needs::for_tests()?;
    crate::say("building the programs");
    cargo::build_programs()?;
    let dir = cargo::program_dir("debug")?;
    let started = started();
    let mut sum = Sum::default();
    if !args.is_empty() {
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let ok = watched(&[&["test"], &words[..]].concat(), &dir, &mut sum)?;
        return end(&sum, ok, started.elapsed());
    }
    crate::say("building the tests");
    let programs = lanes::build()?;
    let known = programs.clone();
    crate::say(&format!("testing, {} programs", programs.len()));
    let mut ok = true;
    lanes::run(programs, &dir, |ended| {
        ok &= ended.ok;
        show(&ended, &mut sum);
    })?;
    crate::say("testing what the documentation says");
    ok &= watched(&["test", "--workspace", "--no-fail-fast", "--doc"], &dir, &mut sum)?;
    crate::say("the protocol without std");
    let others = lint::bare_protocol().and_then(|()| emulated::quick());
    let others = others.and_then(|()| cross::tested()).and_then(|()| cross::update(&known));
    let ended = end(&sum, ok, started.elapsed());
    others?;
    ended
}

/// A program that ended, as cargo would show it.
fn show(ended: &lanes::Ended, sum: &mut Sum) {
    let mut out = std::io::stdout().lock();
    // A closed terminal must not stop the tests half way.
    let _ = writeln!(out, "\n     Ran {}", ended.program.name)
        .and_then(|()| out.write_all(&ended.output))
        .and_then(|()| out.flush());
    String::from_utf8_lossy(&ended.output).lines().for_each(|line| sum.read(line));
    if !ended.ok {
        sum.reruns.push(again(&ended.program.name));
    }
}

fn end(sum: &Sum, ok: bool, took: Duration) -> Result<()> {
    closing(sum, took);
    if ok && sum.failed == 0 {
        return Ok(());
    }
    let seen = sum.failures.len() + sum.reruns.len() > 0;
    bail!("not all tests passed; see {}", if seen { "above" } else { "cargo's error" });
}

/// The wall clock, for the person who waits.
#[expect(clippy::disallowed_methods, reason = "nothing is decided by it")]
fn started() -> Instant {
    Instant::now()
}

/// What libtest said, added up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    programs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Names of failed tests.
    failures: Vec<String>,
    /// Arguments for the test programs that failed, those that died included.
    reruns: Vec<String>,
    /// Names of tests that did not run.
    skipped: Vec<String>,
    /// libtest's closing lines, word for word.
    lines: Vec<String>,
}

impl Sum {
    fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ") {
            if let Some((name, _)) = name.split_once(" ... FAILED") {
                self.failures.push(name.to_owned());
            } else if let Some((name, _)) = name.split_once(" ... ignored") {
                self.skipped.push(name.to_owned());
            }
        }
        if let Some(rerun) = line.strip_prefix("error: test failed, to rerun pass ") {
            self.reruns.push(again(rerun.trim_matches('`')));
        }
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        self.programs += 1;
        self.lines.push(line.to_owned());
        for part in counts.split(['.', ';']).map(str::trim) {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// How to run a program again. With the package's name cargo would build its dependencies anew, with the
/// features that this package alone wants: ten minutes. A test's own name is enough.
fn again(program: &str) -> String {
    program.find("--test ").map_or(program, |at| &program[at..]).to_owned()
}

/// Runs cargo in front of the person and reads along.
fn watched(words: &[&str], program_dir: &Path, sum: &mut Sum) -> Result<bool> {
    let (reader, writer) = std::io::pipe().context("no pipe")?;
    let mut command = cargo(words);
    command.env("FLEETWAY_BIN_DIR", program_dir);
    eprintln!("$ {}", cargo::text(&command));
    let mut child = command
        .stdout(writer.try_clone().context("no pipe")?)
        .stderr(writer)
        .spawn()
        .context("cannot start cargo")?;
    // The command holds writing ends: while one is open, the pipe does not end.
    drop(command);
    let mut out = std::io::stdout().lock();
    let mut bytes = Vec::new();
    let mut reader = BufReader::new(reader);
    while reader.read_until(b'\n', &mut bytes).context("cannot read from cargo")? > 0 {
        // A closed terminal must not stop the tests half way.
        let _ = out.write_all(&bytes).and_then(|()| out.flush());
        sum.read(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
    Ok(child.wait().context("cargo was lost")?.success())
}

fn closing(sum: &Sum, took: Duration) {
    println!("\n== closing lines");
    sum.lines.iter().filter(|line| !line.contains(" 0 passed; 0 failed; 0 ignored")).for_each(
        |line| {
            println!("{line}");
        },
    );
    for name in &sum.skipped {
        println!("NOT RUN (marked ignored): {name}");
    }
    for name in &sum.failures {
        println!("FAILED: {name}");
    }
    for rerun in &sum.reruns {
        println!("run again: cargo xtask test {rerun}");
    }
    println!(
        "\n{} passed, {} failed, {} ignored, in {} test programs, {} s",
        sum.passed,
        sum.failed,
        sum.ignored,
        sum.programs,
        took.as_secs(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_is_read_word_for_word() {
        let mut sum = Sum::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test a::d ... ignored, needs a moon",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s",
            "error: test failed, to rerun pass `-p x --test y`",
            "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            sum.read(line);
        }
        assert_eq!((sum.programs, sum.passed, sum.failed, sum.ignored), (2, 8, 1, 1));
        assert_eq!((sum.failures, sum.skipped), (vec!["a::c".into()], vec!["a::d".to_owned()]));
        assert_eq!(sum.reruns, ["--test y"]);
    }
}
