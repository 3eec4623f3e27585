//! A child that stays: a model loaded behind the fences of a self-test, asked request after request.
//!
//! For a candidate in the shadow of what serves: its crash, its hang and its hunger are those of
//! another process. Each request has a deadline; whoever passes it is killed, and the worker is
//! over. Nothing is asked of a worker while a request is open.

use super::report::{Job, READY, SelfTestError};
use super::serve::{Said, frame, read};
use super::{Candidate, Ended, Reaped, SelfTest, cpu_ms, crashed, kill_group};
use crate::engine::RunError;
use crate::limits::STDERR_TAIL_BYTES_MAX;
use crate::selftest::pipes::{Tail, collect};
use crate::tensor::{Tensor, TensorSpec};
use std::io::{self, Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Processor seconds of a worker: no bound. It lives as long as requests come, and each has its
/// own deadline.
const CPU_SECONDS: u64 = u32::MAX as u64;

/// An answer of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// What the model gave.
    pub outputs: Vec<Tensor>,
    /// Processor time of the run, microseconds: how long it would take undisturbed. A worker has
    /// the lowest priority, so that the time on the wall says how busy the device is.
    pub cpu_us: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The model gave none to this request; the next may do better.
    #[error("{0}")]
    Run(String),
    /// The worker is over.
    #[error(transparent)]
    Ended(SelfTestError),
}

/// A running child. Killed when dropped. It dies with the thread that started it, so start it on
/// the thread that asks.
pub struct Worker {
    child: Reaped,
    limits: SelfTest,
    ask: Sender<Vec<u8>>,
    answers: Receiver<io::Result<Option<Said>>>,
    complaint: Option<JoinHandle<Vec<u8>>>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

impl Worker {
    /// Starts a child and has it load `candidate`, within the limits of `test`.
    ///
    /// # Errors
    /// [`SelfTestError`], as for a self-test.
    pub fn start(test: &SelfTest, candidate: Candidate<'_>) -> Result<Self, SelfTestError> {
        let environment = SelfTestError::environment;
        let Candidate { kind, bytes: model } = candidate;
        let job = Job::Serve { kind, model_bytes: model.len() as u64 };
        let head = job.head().map_err(environment)?;
        let mut child = Reaped(test.spawn(CPU_SECONDS).map_err(environment)?);
        let pipes = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(environment(io::Error::other("the child has no pipes")));
        };
        let (ask, asked) = channel();
        let (answer, answers) = channel();
        spawn("worker pipes", move || carry(stdin, stdout, &asked, &answer))?;
        let keep = move || collect(Some(stderr), STDERR_TAIL_BYTES_MAX, Tail::KeepEnd);
        let complaint = Some(spawn("worker stderr", keep)?);
        let (inputs, outputs) = (Vec::new(), Vec::new());
        let limits = test.clone();
        let mut worker = Self { child, limits, ask, answers, complaint, inputs, outputs };
        match worker.exchange([head, model.to_vec()].concat())? {
            Said::Loaded { inputs, outputs } => {
                (worker.inputs, worker.outputs) = (inputs, outputs);
                Ok(worker)
            }
            Said::NotLoaded(text) => Err(SelfTestError::Load { text }),
            Said::Answered { .. } | Said::Failed(_) => Err(SelfTestError::unasked()),
        }
    }

    /// Inputs of the model.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// Outputs of the model.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Has the model answer, within `deadline`.
    ///
    /// # Errors
    /// [`WorkerError`] says whether the worker lives on.
    pub fn run(&mut self, inputs: &[Tensor], deadline: Duration) -> Result<Answered, WorkerError> {
        crate::engine::check_inputs(&self.inputs, inputs, 1)
            .map_err(|error: RunError| WorkerError::Run(error.to_string()))?;
        let request = frame(&inputs).map_err(|error| WorkerError::Run(error.to_string()))?;
        self.limits.deadline = deadline;
        match self.exchange(request).map_err(WorkerError::Ended)? {
            Said::Answered { outputs, cpu_us } => {
                let fits = outputs.len() == self.outputs.len()
                    && self.outputs.iter().zip(&outputs).all(|(spec, tensor)| spec.matches(tensor));
                if fits {
                    return Ok(Answered { outputs, cpu_us });
                }
                Err(WorkerError::Run("the answer is not what the model declares".to_owned()))
            }
            Said::Failed(text) => Err(WorkerError::Run(text)),
            Said::Loaded { .. } | Said::NotLoaded(_) => {
                Err(WorkerError::Ended(SelfTestError::unasked()))
            }
        }
    }

    /// Sends bytes and waits for what the child says to them, until the deadline.
    fn exchange(&mut self, request: Vec<u8>) -> Result<Said, SelfTestError> {
        let cpu_before_ms = cpu_ms(self.child.0.id());
        // A carrier that is gone has said why.
        let _ = self.ask.send(request);
        match self.answers.recv_timeout(self.limits.deadline) {
            Ok(Ok(Some(said))) => Ok(said),
            Ok(Ok(None) | Err(_)) => Err(self.end(None)),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(self.end(None)),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Err(self.end(Some(cpu_before_ms))),
        }
    }

    /// Ends the child and says what its end means. `late`: it passed its deadline, and before that
    /// request it had used so much processor time, as far as that is known.
    fn end(&mut self, late: Option<Option<u64>>) -> SelfTestError {
        let used_ms =
            |before: Option<u64>| Some(cpu_ms(self.child.0.id())?.saturating_sub(before?));
        let killed = late.map(used_ms);
        if late.is_some() {
            kill_group(&mut self.child.0);
        }
        let status = match self.child.0.wait() {
            Ok(status) => status,
            Err(error) => return SelfTestError::environment(error),
        };
        kill_group(&mut self.child.0);
        let complaint = self.complaint.take().and_then(|thread| thread.join().ok());
        let stderr = String::from_utf8_lossy(&complaint.unwrap_or_default()).trim().to_owned();
        meaning(Ended { status, killed }, stderr, &self.limits)
    }
}

fn meaning(ended: Ended, stderr: String, limits: &SelfTest) -> SelfTestError {
    use std::os::unix::process::ExitStatusExt as _;
    if let Some(cpu_ms) = ended.killed {
        let deadline_ms = u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX);
        return SelfTestError::TimedOut { deadline_ms, cpu_ms };
    }
    match ended.status.signal() {
        Some(signal) => crashed(signal, stderr, limits),
        None => {
            let what = format!("the worker ended ({}): {stderr}", ended.status);
            SelfTestError::Environment { what }
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, SelfTestError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map_err(SelfTestError::environment)
}

/// Writes each request and reads its answer, until either end closes. A child that reads nothing
/// or says nothing blocks this thread and nobody else; the kill frees it.
fn carry(
    mut stdin: ChildStdin,
    mut stdout: ChildStdout,
    asked: &Receiver<Vec<u8>>,
    answer: &Sender<io::Result<Option<Said>>>,
) {
    let mut ready = [0];
    let began = stdout.read_exact(&mut ready).and_then(|()| match ready {
        [READY] => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    });
    if let Err(error) = began {
        let _ = answer.send(Err(error));
        return;
    }
    for request in asked {
        let said = stdin
            .write_all(&request)
            .and_then(|()| stdin.flush())
            .and_then(|()| read::<Said>(&mut stdout));
        let over = !matches!(said, Ok(Some(_)));
        if answer.send(said).is_err() || over {
            return;
        }
    }
}
