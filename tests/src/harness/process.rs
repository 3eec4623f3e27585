//! One process that cannot be left behind: it dies when it is dropped and when we die.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::time::{Instant, sleep};

use super::words;

/// A process that should run does not: waiting on is in vain.
#[derive(Debug)]
pub struct Ended(String);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Ended {}

/// A running (or ended) daemon, with its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; stdout and stderr are appended to `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = open_log(log)?;
        let again = file.try_clone().context("log")?;
        command.stdin(Stdio::null()).stdout(file).stderr(again);
        die_with_us(command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_path_buf(), ended: None })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The system's.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().context("wait")?;
        }
        Ok(self.ended)
    }

    /// Fails with the end of its log if it does not run.
    ///
    /// # Errors
    /// [`Ended`], which no wait waits through.
    pub fn check_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(how) => {
                let (name, tail) = (&self.name, self.tail());
                let text = format!("{name} ended by itself ({how}); its log ends:\n{tail}");
                Err(Ended(text).into())
            }
        }
    }

    /// SIGKILL: it gets no chance to say or save anything.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.child.kill().context("kill")?;
            self.ended = Some(self.child.wait().context("wait")?);
        }
        Ok(())
    }

    /// SIGTERM, and then as long as it takes, up to `within`.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn stop(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        if self.ended()?.is_none() {
            kill_process(pid(&self.child), Signal::TERM).context("SIGTERM")?;
        }
        loop {
            if let Some(how) = self.ended()? {
                return Ok(how);
            }
            if Instant::now() >= deadline {
                let tail = self.tail();
                bail!("{} did not stop within {within:?}; its log ends:\n{tail}", self.name);
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        log_tail(&self.log)
    }

    /// Processor time of all its threads since it started.
    ///
    /// # Errors
    /// If it does not run.
    pub fn cpu(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        // The name stands in brackets and may hold anything; user and system time come 12th and
        // 13th behind it, in ticks of a hundredth of a second.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: Vec<u64> =
            rest.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
        ensure!(ticks.len() == 2, "no times in {path}: {stat}");
        Ok(Duration::from_millis(10 * ticks.iter().sum::<u64>()))
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// If it does not run.
    pub fn rss_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(kib.with_context(|| format!("no VmRSS in {path}"))? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.kill();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn open_log(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| format!("cannot open {}", path.display()))
}

/// The last lines of a log.
pub fn log_tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    words::indented(&words::tail(&String::from_utf8_lossy(&text), 25), "    ")
}

/// Makes the kernel kill the child when the thread that starts it ends: a test that
/// panics, or is itself killed, leaves nothing behind.
///
/// So daemons are started from threads that live as long as the fleet: the test's own, or
/// `main`'s, never a thread pool's.
#[expect(unsafe_code, reason = "std has no other way to prepare a child after fork")]
pub fn die_with_us(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: this is one
    // prctl system call, without allocation or locks.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}
