//! Plants every bug of `tests/mutants/table.rs` in a copy of the source, one after the other, and
//! sees whether the power tests find it. Without any bug they must pass.
//!
//! `cargo run -p fleetway-firmware --example mutants [PART OF A NAME]`
#![allow(clippy::unwrap_used, reason = "a tool for those who test")]

#[path = "../tests/mutants/table.rs"]
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The crates that are copied, and what of them.
const COPIED: [&str; 9] = [
    "protocol/src",
    "protocol/Cargo.toml",
    "protocol/qnn/src",
    "protocol/qnn/Cargo.toml",
    "firmware/src",
    "firmware/tests",
    "firmware/Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
];

fn main() -> ExitCode {
    let only = std::env::args().nth(1).unwrap_or_default();
    let copy = Copy::make();
    if let Err(problem) = copy.tests() {
        eprintln!("without any bug: {problem}");
        return ExitCode::FAILURE;
    }
    let mut survived = Vec::new();
    let chosen = table::MUTANTS.iter().filter(|mutant| mutant.name.contains(&only));
    for mutant in chosen {
        let path = copy.root.join(mutant.file);
        let source = fs::read_to_string(&path).unwrap();
        fs::write(&path, source.replacen(mutant.right, mutant.wrong, 1)).unwrap();
        match copy.tests() {
            Ok(()) => {
                println!("SURVIVED  {}", mutant.name);
                survived.push(mutant.name);
            }
            Err(problem) => println!("found     {}: {problem}", mutant.name),
        }
        fs::write(&path, source).unwrap();
    }
    println!("{} of {} planted bugs survived", survived.len(), table::MUTANTS.len());
    if survived.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A copy of what the power tests need, with a build directory of its own.
struct Copy {
    root: PathBuf,
}

impl Copy {
    fn make() -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let root = from.join("target/mutants/copy");
        let _ = fs::remove_dir_all(&root);
        for what in COPIED {
            copy(&from.join(what), &root.join(what));
        }
        let workspace = fs::read_to_string(from.join("Cargo.toml")).unwrap();
        let (_, rest) = workspace.split_once("[workspace.package]").unwrap();
        // Profiles name crates that are not here.
        let (rest, _) = rest.split_once("[profile.dev.package.").unwrap();
        let (_, lints) = workspace.split_once("[workspace.lints.rust]").unwrap();
        let members = "[workspace]\nresolver = \"3\"\nmembers = [\"protocol\", \"protocol/qnn\", \"firmware\"]\n\n";
        let text = format!("{members}[workspace.package]{rest}\n[workspace.lints.rust]{lints}");
        fs::write(root.join("Cargo.toml"), text).unwrap();
        Self { root }
    }

    /// Builds and runs the power tests.
    fn tests(&self) -> Result<(), String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut build = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
        build.args(["test", "--offline", "-p", "fleetway-firmware", "--test", "power", "--no-run"]);
        build.env("CARGO_TARGET_DIR", self.root.parent().unwrap().join("target"));
        let built = build.current_dir(&self.root).output().unwrap();
        let said = text(&built.stderr);
        assert!(built.status.success(), "does not build:\n{said}");
        let program = said.split_once("(").and_then(|(_, rest)| rest.rsplit_once(")")).unwrap().0;
        // cargo names it `Executable tests/power/main.rs (PATH)`, after what it says of profiles.
        let program = program.rsplit('(').next().unwrap();
        let mut run = Command::new(program);
        let ran = run.env("RUST_BACKTRACE", "0").current_dir(&self.root).output().unwrap();
        if ran.status.success() {
            return Ok(());
        }
        let said = text(&ran.stdout);
        let failed = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
        Err(said.lines().filter_map(failed).collect::<Vec<_>>().join(", "))
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}
