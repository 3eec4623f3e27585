//! The self-test: load a model and run its golden vectors in a child process that may die.
//!
//! A hostile or unlucky model can make tract abort, hang or eat all memory, and none of the three
//! can be caught inside a process. So the program starts itself again (`/proc/self/exe` with the
//! hidden argument [`SUBCOMMAND`]); the child fences itself in, loads the model, runs the vectors
//! and writes a short report. The parent waits with a deadline and kills.
//!
//! - The model reaches the child through its stdin: the bytes tested are the very bytes that the
//!   parent verified, with no path in between that could be swapped.
//! - Everything that the child says is bounded before it is kept.
//! - A failure of the surroundings is not a verdict on the model: see [`SelfTestError::is_verdict`].
//!
//! The child sets its limits itself, first thing, before it reads a byte of the model. Setting them
//! between fork and exec would need `unsafe`; the executable is our own, so nothing is lost.
//!
//! Read in this order: this file (the parent), `child`, [`sandbox`] (the words), `fences`,
//! `landlocked`, `seccomp`, `report`; then `worker` and `serve`: a child that stays, for a model
//! in the shadow.

mod child;
mod fences;
mod landlocked;
mod pipes;
mod report;
pub mod sandbox;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod seccomp;
mod serve;
mod worker;

pub use child::{child_main, child_main_with, child_requested};
pub use report::{SelfTestError, SelfTestReport};
pub use sandbox::{Require, Sandbox};
pub use worker::{Answered, Worker, WorkerError};

use crate::clock::Stopwatch;
use crate::golden::GoldenRule;
use crate::limits::{REPORT_BYTES_MAX, SAMPLE_TIME_MAX, STDERR_TAIL_BYTES_MAX};
use crate::samples::{SampleBatch, Sampled};
use fleetway_protocol::manifest::VariantKind;
use pipes::{Tail, collect, feed};
use report::{Job, Outcome};
use rustix::process::{Pid, Signal};
use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The argument that makes an executable the child of a self-test.
pub const SUBCOMMAND: &str = "__selftest";

/// Address space for the model when nothing else is asked for. Measured on x86-64: a plain float
/// model takes five to seven times its file while it is optimized (26 MB for 4 MB, 111 MB for
/// 16 MB, 324 MB for 64 MB); digits-v2 takes 0.6 MB. The program itself takes 27 MB.
pub const MEMORY_BYTES_DEFAULT: u64 = 512 << 20;

/// Deadline when nothing else is asked for: loading takes 0.4 s for the largest model measured, and
/// a small ARM board is ten times slower.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// Environment variables through which the parent tells the child its limits. Not arguments, so
/// that they never meet the host program's own parser.
mod env {
    pub(super) const MEMORY_BYTES: &str = "FLEETWAY_SELFTEST_MEMORY_BYTES";
    pub(super) const CPU_SECONDS: &str = "FLEETWAY_SELFTEST_CPU_SECONDS";
    pub(super) const PARENT: &str = "FLEETWAY_SELFTEST_PARENT";
    pub(super) const REQUIRE: &str = "FLEETWAY_SELFTEST_REQUIRE";
    pub(super) const VERSION: &str = "FLEETWAY_SELFTEST_VERSION";
    /// The one foreign variable that is passed on: it changes which kernels tract picks, and the
    /// child must test what the parent would run.
    pub(super) const TRACT_CPU_ISA: &str = "TRACT_CPU_ISA";
}

/// What a child is given to try: a model's bytes, and what form of a release they are.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The form.
    pub kind: VariantKind,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl<'a> Candidate<'a> {
    /// An ONNX file.
    pub fn onnx(bytes: &'a [u8]) -> Self {
        Self { kind: VariantKind::Onnx, bytes }
    }
}

/// How to run a self-test.
#[derive(Debug, Clone)]
pub struct SelfTest {
    /// Executable whose `main` calls [`child_main`] when [`child_requested`].
    pub exe: PathBuf,
    /// Its arguments; [`SUBCOMMAND`] must be the first.
    pub args: Vec<OsString>,
    /// Wall-clock time until the child is killed.
    pub deadline: Duration,
    /// Address space in bytes that the child may take on top of what the program takes by itself
    /// (`RLIMIT_AS`).
    pub memory_bytes: u64,
    /// How well the child must be fenced in before it looks at the model.
    pub require: Require,
}

impl Default for SelfTest {
    /// This very executable with the default limits.
    fn default() -> Self {
        Self::with_exe(PathBuf::from("/proc/self/exe"))
    }
}

/// Whether these bytes are an answer of the child's: what a model that took it over may say.
pub fn is_answer(answer: &[u8]) -> bool {
    report::Outcome::parse_answer(answer).flatten().is_some()
}

impl SelfTest {
    /// `exe` with the default arguments and limits.
    pub fn with_exe(exe: PathBuf) -> Self {
        Self {
            exe,
            args: vec![SUBCOMMAND.into()],
            deadline: DEADLINE_DEFAULT,
            memory_bytes: MEMORY_BYTES_DEFAULT,
            require: Require::default(),
        }
    }

    /// Tests `model` (an ONNX file) against `golden` (an encoded
    /// [`GoldenSet`](crate::golden::GoldenSet)) under `rule`.
    ///
    /// Blocks until the child has ended, at most [`SelfTest::deadline`] and the moment it takes to
    /// kill it. The child is always waited for. The calling thread must live as long as the call:
    /// the child dies with the thread that started it.
    pub fn run(
        &self,
        candidate: Candidate<'_>,
        golden: &[u8],
        rule: GoldenRule,
    ) -> Result<SelfTestReport, SelfTestError> {
        let Candidate { kind, bytes: model } = candidate;
        let (model_bytes, golden_bytes) = (model.len() as u64, golden.len() as u64);
        let job = Job::Test { kind, rule, model_bytes, golden_bytes };
        let outcome = self.ask(job, model, golden)?;
        outcome.into_result(self.memory_bytes, self.require)
    }

    /// Runs reference samples and reads off what is to be watched. As [`SelfTest::run`], with
    /// [`SAMPLE_TIME_MAX`] more for each sample.
    ///
    /// # Errors
    /// [`SelfTestError`], as for the golden vectors.
    pub fn sample(
        &self,
        candidate: Candidate<'_>,
        batch: &SampleBatch,
    ) -> Result<Sampled, SelfTestError> {
        let Candidate { kind, bytes: model } = candidate;
        let bytes = postcard::to_allocvec(batch).map_err(|error| SelfTestError::Environment {
            what: format!("the samples do not encode: {error}"),
        })?;
        let (model_bytes, batch_bytes) = (model.len() as u64, bytes.len() as u64);
        let many = u32::try_from(batch.samples.len()).unwrap_or(u32::MAX);
        let deadline = self.deadline + SAMPLE_TIME_MAX.saturating_mul(many);
        let patient = Self { deadline, ..self.clone() };
        match patient.ask(Job::Sample { kind, model_bytes, batch_bytes }, model, &bytes)? {
            Outcome::Sampled(sampled) if sampled.samples.len() == batch.samples.len() => {
                Ok(sampled)
            }
            other => Err(match other.into_result(self.memory_bytes, self.require) {
                Err(error) => error,
                Ok(_) => SelfTestError::unasked(),
            }),
        }
    }

    /// How well a child can be fenced in on this system. Costs a process that ends at once.
    ///
    /// # Errors
    /// [`SelfTestError`] if no child can be asked.
    pub fn probe(&self) -> Result<Sandbox, SelfTestError> {
        match self.ask(Job::Probe, &[], &[])? {
            Outcome::Probed(sandbox) | Outcome::Unconfined(sandbox) => Ok(sandbox),
            _ => Err(SelfTestError::unasked()),
        }
    }

    fn ask(&self, job: Job, model: &[u8], golden: &[u8]) -> Result<Outcome, SelfTestError> {
        let head = job.head().map_err(SelfTestError::environment)?;
        let cpu_seconds = self.deadline.as_secs() + 1;
        let mut child = Reaped(self.spawn(cpu_seconds).map_err(SelfTestError::environment)?);
        std::thread::scope(|scope| {
            let (stdin, stdout, stderr) =
                (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
            let fed = scope.spawn(move || feed(stdin, [&head, model, golden]));
            let answer = scope.spawn(move || collect(stdout, REPORT_BYTES_MAX, Tail::Stop));
            let complaint =
                scope.spawn(move || collect(stderr, STDERR_TAIL_BYTES_MAX, Tail::KeepEnd));
            // The threads end when the child does: it is the only holder of the other ends.
            let ended = self.wait(&mut child.0);
            let answer = answer.join().unwrap_or_default();
            let complaint = complaint.join().unwrap_or_default();
            let _ = fed.join();
            judge(ended.map_err(SelfTestError::environment)?, &answer, &complaint, self)
        })
    }

    fn spawn(&self, cpu_seconds: u64) -> std::io::Result<Child> {
        let mut command = Command::new(&self.exe);
        command.args(&self.args).env_clear();
        command.env(env::MEMORY_BYTES, self.memory_bytes.to_string());
        command.env(env::CPU_SECONDS, cpu_seconds.to_string());
        command.env(env::PARENT, std::process::id().to_string());
        command.env(env::REQUIRE, self.require.name());
        command.env(env::VERSION, env!("CARGO_PKG_VERSION"));
        command.envs(std::env::var_os(env::TRACT_CPU_ISA).map(|isa| (env::TRACT_CPU_ISA, isa)));
        // A group of its own, so that the kill reaches whatever the child may have started.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }

    /// Waits until the child has ended or must be killed.
    fn wait(&self, child: &mut Child) -> std::io::Result<Ended> {
        let since = Stopwatch::start();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait()? {
                // Whoever was left behind would hold the pipes open.
                kill_group(child);
                return Ok(Ended { status, killed: None });
            }
            if since.elapsed() >= self.deadline {
                let cpu_ms = cpu_ms(child.id());
                kill_group(child);
                return Ok(Ended { status: child.wait()?, killed: Some(cpu_ms) });
            }
            std::thread::sleep(pause.min(self.deadline.saturating_sub(since.elapsed())));
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// Kills the child and its group. An error means that nobody is left to kill.
fn kill_group(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
}

/// A child that is killed and waited for even if the parent panics.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both are no-ops on a child that was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Ended {
    status: ExitStatus,
    /// Set if the parent killed it; then the CPU time it had used, if that could be read.
    killed: Option<Option<u64>>,
}

/// What the end of the child means.
fn judge(
    ended: Ended,
    answer: &[u8],
    stderr: &[u8],
    test: &SelfTest,
) -> Result<Outcome, SelfTestError> {
    let stderr = String::from_utf8_lossy(stderr).trim().to_owned();
    if let Some(cpu_ms) = ended.killed {
        let deadline_ms = u64::try_from(test.deadline.as_millis()).unwrap_or(u64::MAX);
        return Err(SelfTestError::TimedOut { deadline_ms, cpu_ms });
    }
    let Some(outcome) = Outcome::parse_answer(answer) else {
        // Before the child is ready it has not seen the model.
        let what = format!("the child ended before it was ready ({}): {stderr}", ended.status);
        return Err(SelfTestError::Environment { what });
    };
    if let Some(signal) = ended.status.signal() {
        return Err(crashed(signal, stderr, test));
    }
    match outcome {
        Some(outcome) => Ok(outcome),
        None => {
            let what = format!("the child ended without a report ({}): {stderr}", ended.status);
            Err(SelfTestError::Environment { what })
        }
    }
}

fn crashed(signal: i32, stderr: String, test: &SelfTest) -> SelfTestError {
    const SIGABRT: i32 = 6;
    const SIGKILL: i32 = 9;
    const SIGXCPU: i32 = 24;
    const SIGSYS: i32 = 31;
    match signal {
        SIGABRT if report::tells_no_memory(&stderr) => {
            SelfTestError::OutOfMemory { memory_bytes: test.memory_bytes, detail: stderr }
        }
        SIGXCPU => {
            let seconds = test.deadline.as_secs() + 1;
            SelfTestError::TimedOut { deadline_ms: seconds * 1_000, cpu_ms: Some(seconds * 1_000) }
        }
        SIGSYS => SelfTestError::Forbidden { stderr },
        // Not from us: the kernel's OOM killer, or someone stopping the service.
        SIGKILL => SelfTestError::Environment {
            what: "the child was killed from outside (signal 9)".to_owned(),
        },
        signal => SelfTestError::Crashed { signal, stderr },
    }
}

/// CPU time that a live process has used so far, from `/proc/<pid>/stat` in the kernel's fixed
/// user-space unit of 1/100 s.
fn cpu_ms(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything.
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * 10)
}
