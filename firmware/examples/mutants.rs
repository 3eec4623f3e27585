//! Plants every bug of `tests/mutants/table.rs` in a copy of the source, one after the other, and
//! sees whether the power tests find it. Without any bug they must pass.
//!
//! `cargo run -p fleetway-firmware --example mutants [build | run]`: first the building of a test
//! program for each, which takes minutes, then the running, or only one of them.
#![allow(clippy::unwrap_used, reason = "a tool for those who test")]

#[path = "../tests/mutants/table.rs"]
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use table::{MUTANTS, Mutant};

/// What the power tests need.
const COPIED: [&str; 8] = [
    "protocol",
    "controller/qnnc",
    "firmware/emulator",
    "firmware/src",
    "firmware/tests",
    "firmware/Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
];

fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    let copy = Copy::new();
    if only.as_deref() != Some("run") {
        copy.build_all();
    }
    if only.as_deref() == Some("build") {
        return ExitCode::SUCCESS;
    }
    if let Err(found) = run(&copy.program(0)) {
        eprintln!("without any bug: {found}");
        return ExitCode::FAILURE;
    }
    let mut survived = 0;
    for (n, mutant) in MUTANTS.iter().enumerate() {
        match run(&copy.program(n + 1)) {
            Ok(()) => {
                survived += 1;
                println!("SURVIVED  {}", mutant.name);
            }
            Err(found) => println!("found     {} ({found})", mutant.name),
        }
    }
    println!("{survived} of {} planted bugs survived", MUTANTS.len());
    if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a test program; the tests that failed, if any did.
fn run(program: &Path) -> Result<(), String> {
    let ran = Command::new(program).env("RUST_BACKTRACE", "0").output().unwrap();
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let failed =
        |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    Err(said.lines().filter_map(failed).collect::<Vec<_>>().join(", "))
}

/// A copy of the source, with a build directory of its own.
struct Copy {
    from: PathBuf,
    root: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf();
        let root = from.join("target/mutants");
        Self { from, root }
    }

    /// The test program with the `n`-th bug; the first has none.
    fn program(&self, n: usize) -> PathBuf {
        self.root.join(format!("power-{n}"))
    }

    fn build_all(&self) {
        let source = self.root.join("source");
        let _ = fs::remove_dir_all(&source);
        for what in COPIED {
            copy(&self.from.join(what), &source.join(what));
        }
        fs::write(source.join("Cargo.toml"), self.workspace()).unwrap();
        self.build(0);
        for (n, Mutant { name, file, right, wrong }) in MUTANTS.iter().enumerate() {
            println!("building  {name}");
            let path = source.join(file);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replacen(right, wrong, 1)).unwrap();
            self.build(n + 1);
            fs::write(&path, text).unwrap();
        }
    }

    /// The workspace's manifest, as far as these crates go.
    fn workspace(&self) -> String {
        let whole = fs::read_to_string(self.from.join("Cargo.toml")).unwrap();
        let (_, rest) = whole.split_once("[workspace.package]").unwrap();
        // Profiles name crates that are not here.
        let (rest, _) = rest.split_once("[profile.dev.package.").unwrap();
        let (_, lints) = whole.split_once("[workspace.lints.rust]").unwrap();
        let members = r#"members = ["protocol", "protocol/qnn", "controller/qnnc", "firmware", "firmware/emulator"]"#;
        format!(
            "[workspace]\nresolver = \"3\"\n{members}\n[workspace.package]{rest}\n\
             [workspace.lints.rust]{lints}"
        )
    }

    fn build(&self, n: usize) {
        let mut build = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
        build.args(["test", "--offline", "-p", "fleetway-firmware", "--test", "power", "--no-run"]);
        build.env("CARGO_TARGET_DIR", self.root.join("target"));
        let built = build.current_dir(self.root.join("source")).output().unwrap();
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        assert!(built.status.success(), "does not build:\n{said}");
        // cargo ends with `Executable tests/power/main.rs (PATH)`.
        let program = said.trim_end().trim_end_matches(')').rsplit('(').next().unwrap();
        let program = self.root.join("source").join(program);
        fs::copy(program, self.program(n)).unwrap();
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
