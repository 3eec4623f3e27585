//! Test programs, several at a time: most of them wait for a broker, a clock or a dead process, while one or
//! two want every processor. One after the other they take twice as long.
//!
//! cargo says which programs there are and where each belongs; a program's output is shown as a whole
//! when it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cargo::{self, cargo};

/// Programs at once, at most: every one of the fleet's tests starts some processes of its own.
const LANES_MAX: usize = 4;
/// What takes longest comes first, so that it does not end alone.
const LONG: &str = "--test world";
/// Emulated boards live in real time, and their watchdogs bite: they have the machine to themselves.
const ALONE: [&str; 2] = ["--test boards", "--test e2e_mcu"];

/// A test program, as cargo built it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    path: PathBuf,
    /// Where cargo would start it: its package's directory.
    dir: PathBuf,
    /// As cargo's arguments name it: `-p PACKAGE --test NAME`.
    pub(crate) name: String,
}

/// What a program said and how it ended.
pub(crate) struct Ended {
    pub(crate) program: Program,
    pub(crate) output: Vec<u8>,
    pub(crate) ok: bool,
}

/// Builds all test programs of the workspace.
pub(crate) fn build() -> Result<Vec<Program>> {
    let mut command = cargo(&["test", "--workspace", "--no-run", "--message-format=json"]);
    eprintln!("$ {}", cargo::text(&command));
    let built = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    let messages = String::from_utf8_lossy(&built.stdout);
    let read = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
    let messages: Vec<Value> = read.collect();
    if !built.status.success() {
        let rendered = |message: &Value| message["message"]["rendered"].as_str().map(str::to_owned);
        messages.iter().filter_map(rendered).for_each(|text| eprint!("{text}"));
        bail!("the tests do not build; see above");
    }
    let mut programs: Vec<Program> = messages.iter().filter_map(program).collect();
    programs.sort_by_key(|program| (!program.name.ends_with(LONG), program.name.clone()));
    if programs.is_empty() {
        bail!("cargo built no tests");
    }
    Ok(programs)
}

/// The program that one of cargo's messages tells of.
fn program(message: &Value) -> Option<Program> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let target = &message["target"];
    let name = target["name"].as_str()?;
    let id = message["package_id"].as_str()?;
    // `path+file:///place#name@version`, or `…/name#version` where directory and name are the same.
    let (place, tail) = id.rsplit_once('#')?;
    let package = match tail.split_once('@') {
        Some((package, _)) => package,
        None => place.rsplit('/').next()?,
    };
    let kind = match target["kind"][0].as_str()? {
        "test" => format!("--test {name}"),
        "bin" => format!("--bin {name}"),
        "example" => format!("--example {name}"),
        _ => "--lib".to_owned(),
    };
    Some(Program { path, dir, name: format!("-p {package} {kind}") })
}

/// Runs them all, and calls with each as it ends.
pub(crate) fn run(
    programs: Vec<Program>,
    bin_dir: &Path,
    mut each: impl FnMut(Ended),
) -> Result<()> {
    let is_alone = |program: &Program| ALONE.iter().any(|name| program.name.ends_with(name));
    let (alone, together) = programs.into_iter().partition(is_alone);
    let lanes = std::thread::available_parallelism().map_or(1, usize::from).min(LANES_MAX);
    run_in(lanes, together, bin_dir, &mut each)?;
    run_in(1, alone, bin_dir, &mut each)
}

/// Runs them in so many lanes.
fn run_in(
    lanes: usize,
    programs: Vec<Program>,
    bin_dir: &Path,
    each: &mut impl FnMut(Ended),
) -> Result<()> {
    let todo = Mutex::new(programs.into_iter());
    let (tell, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            let (tell, todo) = (tell.clone(), &todo);
            scope.spawn(move || {
                let next = || todo.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some(program) = next() {
                    if tell.send(run_one(program, bin_dir)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        for ended in hear {
            each(ended?);
        }
        Ok(())
    })
}

impl Program {
    /// Starts it as cargo would, with our own programs from this directory.
    pub(crate) fn command(&self, bin_dir: &Path) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.dir).stdin(Stdio::null());
        command.env("FLEETWAY_BIN_DIR", bin_dir).env("CARGO_MANIFEST_DIR", &self.dir);
        command
    }
}

fn run_one(program: Program, bin_dir: &Path) -> Result<Ended> {
    let (mut reader, writer) = std::io::pipe().context("no pipe")?;
    let mut command = program.command(bin_dir);
    // What is marked ignored needs something that we have seen to.
    command.arg("--include-ignored");
    command.stdout(writer.try_clone().context("no pipe")?).stderr(writer);
    // So that one that hangs can be named.
    eprintln!("     Running {}", program.name);
    let mut child =
        command.spawn().with_context(|| format!("cannot start {}", program.path.display()))?;
    // The command holds writing ends: while one is open, the pipe does not end.
    drop(command);
    let mut output = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut output).context("cannot read from a test")?;
    let ok = child.wait().context("a test was lost")?.success();
    Ok(Ended { program, output, ok })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_program_is_named_as_cargo_names_it() {
        let message = |id: &str, kind: &str, name: &str| {
            json!({"reason": "compiler-artifact", "package_id": id, "executable": "/t/x-1",
                   "manifest_path": "/w/a/Cargo.toml", "profile": {"test": true},
                   "target": {"kind": [kind], "name": name}})
        };
        for (id, kind, name, expected) in [
            ("path+file:///w/a#fleetway-a@0.1.0", "test", "world", "-p fleetway-a --test world"),
            ("path+file:///w/xtask#0.1.0", "bin", "xtask", "-p xtask --bin xtask"),
            ("path+file:///w/a#fleetway-a@0.1.0", "lib", "fleetway_a", "-p fleetway-a --lib"),
        ] {
            let found = program(&message(id, kind, name)).unwrap();
            assert_eq!((found.name.as_str(), &*found.dir), (expected, Path::new("/w/a")));
        }
        let mut other = message("path+file:///w/a#a@1", "lib", "a");
        other["profile"]["test"] = json!(false);
        assert_eq!(program(&other), None);
    }

    #[test]
    fn all_programs_run_and_a_failed_one_is_told() {
        let of = |path: &str| Program {
            path: path.into(),
            dir: std::env::temp_dir(),
            name: path.to_owned(),
        };
        let paths = ["/bin/echo", "/bin/false", "/bin/echo", "/bin/true"];
        let mut seen = Vec::new();
        run(paths.map(of).into(), Path::new("/"), |ended| {
            seen.push((ended.program.name, String::from_utf8(ended.output).unwrap(), ended.ok));
        })
        .unwrap();
        seen.sort();
        let told = |path: &str, output: &str, ok| (path.to_owned(), output.to_owned(), ok);
        let echo = told("/bin/echo", "--include-ignored\n", true);
        let expected =
            [echo.clone(), echo, told("/bin/false", "", false), told("/bin/true", "", true)];
        assert_eq!(seen, expected);
        assert!(run(vec![of("/no/such/program")], Path::new("/"), |_| ()).is_err());
    }
}
