//! What crosses between parent and child, and what the parent tells its caller.

use super::sandbox::{Require, Sandbox};
use crate::golden::{GoldenRule, GoldenVerdict};
use crate::limits::{GOLDEN_BYTES_MAX, MODEL_BYTES_MAX, REPORT_BYTES_MAX, SAMPLE_BATCH_BYTES_MAX};
use crate::samples::Sampled;
use crate::tensor::TensorSpec;
use fleetway_protocol::manifest::VariantKind;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};

/// The first byte on the child's stdout: fences are up, the model has not been read.
pub(super) const READY: u8 = b'R';

/// Bytes of the length in front of the job's head.
const HEAD_LENGTH_BYTES: usize = 4;

/// Bytes of the job's head: three numbers and a rule are far below.
const HEAD_BYTES_MAX: usize = 64;

/// What the parent asks for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Job {
    /// Try a model; its bytes and those of the golden set follow.
    Test { kind: VariantKind, rule: GoldenRule, model_bytes: u64, golden_bytes: u64 },
    /// Run reference samples; the model's bytes and those of the batch follow.
    Sample { kind: VariantKind, model_bytes: u64, batch_bytes: u64 },
    /// Load a model, whose bytes follow, and answer requests until stdin closes.
    Serve { kind: VariantKind, model_bytes: u64 },
    /// Say how the fences stand.
    Probe,
}

impl Job {
    /// The job as the child reads it: a length, then this.
    pub(super) fn head(&self) -> io::Result<Vec<u8>> {
        let body = postcard::to_allocvec(self).map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        Ok([length.to_le_bytes().to_vec(), body].concat())
    }

    /// Reads a job with its model, and its golden set or samples. Lengths are bounded before anything is allocated.
    pub(super) fn read(mut from: impl Read) -> io::Result<(Self, Vec<u8>, Vec<u8>)> {
        let mut length = [0; HEAD_LENGTH_BYTES];
        from.read_exact(&mut length)?;
        let head = read_bounded(&mut from, u64::from(u32::from_le_bytes(length)), HEAD_BYTES_MAX)?;
        let job: Self = postcard::from_bytes(&head).map_err(io::Error::other)?;
        let (model_bytes, bytes, max) = match job {
            Self::Test { model_bytes, golden_bytes, .. } => {
                (model_bytes, golden_bytes, GOLDEN_BYTES_MAX)
            }
            Self::Sample { model_bytes, batch_bytes, .. } => {
                (model_bytes, batch_bytes, 2 * SAMPLE_BATCH_BYTES_MAX)
            }
            Self::Serve { model_bytes, .. } => (model_bytes, 0, 0),
            Self::Probe => (0, 0, 0),
        };
        let model = read_bounded(&mut from, model_bytes, MODEL_BYTES_MAX)?;
        let rest = read_bounded(&mut from, bytes, max)?;
        Ok((job, model, rest))
    }
}

pub(super) fn read_bounded(from: &mut impl Read, length: u64, max: usize) -> io::Result<Vec<u8>> {
    if length > max as u64 {
        return Err(io::Error::other(format!(
            "{length} bytes announced, at most {max} are allowed"
        )));
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// What a passed self-test found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelfTestReport {
    /// Name of the engine that ran it.
    pub engine: String,
    /// Inputs of the model, batch axis fixed.
    pub inputs: Vec<TensorSpec>,
    /// Outputs of the model.
    pub outputs: Vec<TensorSpec>,
    /// How close it came to the golden vectors.
    pub golden: GoldenVerdict,
    /// Time to load and optimize the model, in microseconds.
    pub load_us: u64,
    /// Median time of one inference, in microseconds.
    pub run_us_p50: u64,
    /// Inferences behind that median.
    pub runs: u32,
    /// Most memory that the child ever had resident, in bytes, its program included; 0 if the system does not tell.
    pub peak_rss_bytes: u64,
    /// Address space that loading and running the model took on top of the program's own, in
    /// bytes: what [`SelfTest::memory_bytes`](super::SelfTest::memory_bytes) must allow.
    pub address_space_bytes: u64,
    /// How well the child was fenced in. Whether less than everything is enough is
    /// [`SelfTest::require`](super::SelfTest::require).
    pub sandbox: Sandbox,
}

/// What the child answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Passed(SelfTestReport),
    Refused { number: u16, text: String },
    Load(String),
    Run(String),
    Golden(GoldenVerdict),
    Environment(String),
    Probed(Sandbox),
    Sampled(Sampled),
    Unconfined(Sandbox),
}

impl Outcome {
    /// `None`: the child was never ready. `Some(None)`: it was, and then said nothing sensible.
    pub(super) fn parse_answer(answer: &[u8]) -> Option<Option<Self>> {
        let (&first, body) = answer.split_first()?;
        if first != READY {
            return None;
        }
        let whole = answer.len() < REPORT_BYTES_MAX;
        Some(postcard::from_bytes(body).ok().filter(|_| whole))
    }

    /// The same for the caller; `memory_bytes` is what the child was given, `require` what it
    /// was held to.
    pub(super) fn into_result(
        self,
        memory_bytes: u64,
        require: Require,
    ) -> Result<SelfTestReport, SelfTestError> {
        Err(match self {
            Self::Passed(report) => return Ok(report),
            Self::Unconfined(sandbox) => SelfTestError::Unconfined { sandbox, require },
            Self::Probed(_) | Self::Sampled(_) => SelfTestError::unasked(),
            Self::Load(text) | Self::Run(text) if tells_no_memory(&text) => {
                SelfTestError::OutOfMemory { memory_bytes, detail: text }
            }
            Self::Refused { number, text } => SelfTestError::Refused { number, text },
            Self::Load(text) => SelfTestError::Load { text },
            Self::Run(text) => SelfTestError::Run { text },
            Self::Golden(verdict) => SelfTestError::Golden { verdict: Box::new(verdict) },
            Self::Environment(what) => SelfTestError::Environment { what },
        })
    }
}

/// Whether a text is what Rust's allocator prints before it aborts, or what tract panics with.
pub(super) fn tells_no_memory(text: &str) -> bool {
    text.contains("memory allocation of") || text.contains("failed to allocate Layout")
}

/// Why a self-test did not pass. [`SelfTestError::number`] is stable: it travels in reports.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are the words of the messages")]
pub enum SelfTestError {
    /// 1: our validator refused the model; `number` is that of
    /// [`Refused`](crate::validate::Refused).
    #[error("the model was refused (reason {number}): {text}")]
    Refused { number: u16, text: String },
    /// 2: the engine could not load it.
    #[error("the model could not be loaded: {text}")]
    Load { text: String },
    /// 3: it answered, and not what the golden vectors hold.
    #[error("{verdict}")]
    Golden { verdict: Box<GoldenVerdict> },
    /// 4: the child died of a signal.
    #[error("the child crashed with signal {signal} while loading or running the model: {stderr}")]
    Crashed { signal: i32, stderr: String },
    /// 5: the deadline passed. Little CPU time means that the device was busy rather than the model
    /// endless.
    #[error(
        "not finished after {deadline_ms} ms ({} ms of CPU time used)",
        cpu_ms.map_or("unknown".to_owned(), |ms| ms.to_string())
    )]
    TimedOut { deadline_ms: u64, cpu_ms: Option<u64> },
    /// 6: the child ran out of the memory it was given.
    #[error(
        "the model needs more than the {memory_bytes} bytes of address space that the self-test allows: {detail}"
    )]
    OutOfMemory { memory_bytes: u64, detail: String },
    /// 7: a golden vector could not be run.
    #[error("a golden vector could not be run: {text}")]
    Run { text: String },
    /// 8: the surroundings failed: no process, no pipe, a golden set that is none, a kill from
    /// outside. This says nothing about the model.
    #[error("the self-test could not be carried out: {what}")]
    Environment { what: String },
    /// 9: the child tried what no model needs (a file, a socket, a program) and was killed for it.
    #[error(
        "the model made the self-test reach for a file, a program or the network, and it was killed for that: {stderr}"
    )]
    Forbidden { stderr: String },
    /// 10: this system cannot fence the child in as [`SelfTest::require`](super::SelfTest::require)
    /// asks. The model was not looked at.
    #[error(
        "the sandbox is {sandbox}, and the policy requires `{}`; use a newer kernel, or require less",
        require.name()
    )]
    Unconfined { sandbox: Sandbox, require: Require },
}

impl SelfTestError {
    /// The number of the kind; never reused.
    pub fn number(&self) -> u16 {
        match self {
            Self::Refused { .. } => 1,
            Self::Load { .. } => 2,
            Self::Golden { .. } => 3,
            Self::Crashed { .. } => 4,
            Self::TimedOut { .. } => 5,
            Self::OutOfMemory { .. } => 6,
            Self::Run { .. } => 7,
            Self::Environment { .. } => 8,
            Self::Forbidden { .. } => 9,
            Self::Unconfined { .. } => 10,
        }
    }

    /// Whether this is a verdict on the model. If not, the test may be repeated and must not poison
    /// the release.
    pub fn is_verdict(&self) -> bool {
        !matches!(self, Self::Environment { .. } | Self::Unconfined { .. })
    }

    /// The child answered a question that was not asked.
    pub(super) fn unasked() -> Self {
        Self::Environment { what: "the child answered something else".to_owned() }
    }

    pub(super) fn environment(error: io::Error) -> Self {
        Self::Environment { what: error.to_string() }
    }
}
