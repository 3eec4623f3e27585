//! `cargo xtask test`: everything, from a bare machine, with one sum at the end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::cargo::{self, cargo};
use crate::{emulated, lint, needs};

/// Runs the tests; `args` go to `cargo test` as they are.
pub(crate) fn test(args: &[String]) -> Result<()> {
    needs::for_tests()?;
    crate::say("building the programs");
    cargo::build_programs()?;
    let dir = cargo::program_dir("debug")?;
    let mut words: Vec<&str> = vec!["test"];
    if args.is_empty() || args[0] == "--" {
        words.extend(["--workspace", "--no-fail-fast"]);
    }
    if args.is_empty() {
        // What is marked ignored needs something that we have just seen to.
        words.extend(["--", "--include-ignored"]);
    }
    words.extend(args.iter().map(String::as_str));
    crate::say("testing");
    let started = started();
    let (ok, sum) = watched(&words, &dir)?;
    crate::say("the protocol without std");
    let bare = lint::bare_protocol();
    let emulated = if args.is_empty() { emulated::quick() } else { Ok(()) };
    closing(&sum, started.elapsed());
    bare?;
    emulated?;
    if !ok || sum.failed > 0 {
        let seen = sum.failures.len() + sum.reruns.len() > 0;
        bail!("not all tests passed; see {}", if seen { "above" } else { "cargo's error" });
    }
    Ok(())
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
            self.reruns.push(rerun.trim_matches('`').to_owned());
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

/// Runs cargo in front of the person and reads along.
fn watched(words: &[&str], program_dir: &std::path::Path) -> Result<(bool, Sum)> {
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
    let mut sum = Sum::default();
    let mut out = std::io::stdout().lock();
    let mut bytes = Vec::new();
    let mut reader = BufReader::new(reader);
    while reader.read_until(b'\n', &mut bytes).context("cannot read from cargo")? > 0 {
        // A closed terminal must not stop the tests half way.
        let _ = out.write_all(&bytes).and_then(|()| out.flush());
        sum.read(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
    Ok((child.wait().context("cargo was lost")?.success(), sum))
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
        assert_eq!(sum.reruns, ["-p x --test y"]);
    }
}
