//! The operator's command line, as a script uses it: exit code, data on stdout, talk on
//! stderr.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use tokio::process::Command;
use tokio::time::timeout;

use super::{programs, words};

/// No command of ours takes longer, waits included.
const PATIENCE: Duration = Duration::from_secs(300);

/// `fleetway` for one data directory.
#[derive(Clone, Debug)]
pub struct Cli {
    data: PathBuf,
    echo: bool,
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Done {
    /// The command, as a person would type it.
    pub line: String,
    /// Its exit code; -1 if it was killed.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Cli {
    /// For the controller of this directory.
    pub fn new(data: &Path) -> Self {
        Self { data: data.to_path_buf(), echo: false }
    }

    /// The same, but it prints every command before it runs it, as an operator's terminal
    /// would. Questions ([`Cli::ask`]) are not printed.
    #[must_use]
    pub fn echoing(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Runs `fleetway` with the words of `line` and says how it went, well or not.
    ///
    /// # Errors
    /// Only if it cannot be run at all.
    pub async fn run(&self, line: &str) -> Result<Done> {
        if self.echo {
            println!("$ fleetway {line}");
        }
        self.ask(line).await
    }

    /// Runs it without a word.
    ///
    /// # Errors
    /// Only if it cannot be run at all.
    pub async fn ask(&self, line: &str) -> Result<Done> {
        let mut command = Command::new(&programs::programs().fleetway);
        command.args(words::split(line)).env("FLEETWAY_DATA", &self.data);
        command.current_dir(programs::workspace());
        run(command, format!("fleetway {line}")).await
    }

    /// Runs it and expects success.
    ///
    /// # Errors
    /// With both outputs, if the exit code is not 0.
    pub async fn ok(&self, line: &str) -> Result<Done> {
        self.run(line).await?.expect_code(0)
    }

    /// Runs it without a word, with `-o json`, and reads its data.
    ///
    /// # Errors
    /// If it fails, or prints something else.
    pub async fn json<T: DeserializeOwned>(&self, line: &str) -> Result<T> {
        self.ask(&format!("{line} -o json")).await?.expect_code(0)?.read()
    }
}

/// Runs a command to its end.
///
/// # Errors
/// If it cannot be started, or does not end.
pub async fn run(mut command: Command, line: String) -> Result<Done> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output())
        .await
        .with_context(|| format!("`{line}` did not end within {PATIENCE:?}"))?
        .with_context(|| format!("cannot start `{line}`"))?;
    Ok(Done {
        line,
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Done {
    /// Passes the outcome on if the exit code is the expected one.
    ///
    /// # Errors
    /// With both outputs, if it is another.
    pub fn expect_code(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "`{}` ended with exit code {}, expected {code}\n{}{}",
            self.line,
            self.code,
            words::indented(&words::tail(&self.stdout, 25), "    "),
            words::indented(&words::tail(&self.stderr, 25), "    "),
        );
        Ok(self)
    }

    /// Reads stdout as JSON.
    ///
    /// # Errors
    /// If it is not what is expected.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.stdout).with_context(|| {
            format!("`{}` printed what we cannot read:\n{}", self.line, self.stdout)
        })
    }
}
