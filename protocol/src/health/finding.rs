//! What a gate found, in numbers: they go into the report with the verdict, and a person reads
//! them as one sentence.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::drift::Watch;
use crate::reason::Reason;

/// A verdict and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which verdict.
    pub reason: Reason,
    /// What was measured, where something was.
    pub evidence: Option<Evidence>,
}

impl From<Reason> for Finding {
    fn from(reason: Reason) -> Self {
        Self { reason, evidence: None }
    }
}

/// What was measured against what. The unit follows from the reason: thousandths of the answers
/// (errors, collapse), microseconds, thousandths (PSI, confidence), MiB, or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Of what.
    pub of: Subject,
    /// What it is.
    pub measured: u32,
    /// What it may be at most, or for [`Reason::HealthInconclusive`] must be at least.
    pub bound: u32,
    /// Answers that it was measured on.
    pub samples: u32,
}

/// What a measurement is about, beside its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// The reason says it all.
    Whole,
    /// Compared with the release before.
    Before,
    /// What was added since the probation began.
    Growth,
    /// The distribution of the answers' classes.
    Classes,
    /// A watched number.
    Watched(Watch),
}

impl Evidence {
    /// One sentence about a finding with this reason.
    pub fn sentence(self, reason: Reason) -> impl fmt::Display {
        Sentence { reason, evidence: self }
    }
}

struct Sentence {
    reason: Reason,
    evidence: Evidence,
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence { of, measured, bound, samples } = self.evidence;
        let tenth = |n: u32| (n / 10, n % 10);
        let ((m, m10), (b, b10)) = (tenth(measured), tenth(bound));
        let milli = |n: u32| (n / 1000, n % 1000);
        let ((mm, m1000), (bb, b1000)) = (milli(measured), milli(bound));
        match self.reason {
            Reason::HealthErrors => {
                write!(f, "{m}.{m10} % of {samples} answers failed, tolerated are {b}.{b10} %")
            }
            Reason::HealthCollapse => write!(
                f,
                "one class has {m}.{m10} % of {samples} answers, tolerated are {b}.{b10} %"
            ),
            Reason::HealthLatency => {
                let before = if of == Subject::Before { " by what was before" } else { "" };
                write!(
                    f,
                    "95 % of {samples} answers took up to {mm}.{m1000:03} ms, tolerated{before} are {bb}.{b1000:03} ms"
                )
            }
            Reason::HealthDrift => write!(
                f,
                "PSI of {of} is {mm}.{m1000:03} over {samples} answers, tolerated are {bb}.{b1000:03}"
            ),
            Reason::HealthConfidence => write!(
                f,
                "mean confidence of {samples} answers is off by {mm}.{m1000:03}, tolerated are {bb}.{b1000:03}"
            ),
            Reason::HealthMemory if of == Subject::Growth => {
                write!(f, "the process grew by {measured} MiB, tolerated are {bound} MiB")
            }
            Reason::HealthMemory => {
                write!(f, "the process has {measured} MiB resident, tolerated are {bound} MiB")
            }
            Reason::HealthInconclusive => {
                write!(f, "{measured} answers that tell of {of}, {bound} are needed")
            }
            _ => write!(f, "{of}: {measured}, bound {bound}, {samples} answers"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the release"),
            Self::Before => f.write_str("the release beside the one before"),
            Self::Growth => f.write_str("growth"),
            Self::Classes => f.write_str("the classes"),
            Self::Watched(watch) => watch.fmt(f),
        }
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mean { input } => write!(f, "the mean of input {input}"),
            Self::Spread { input } => write!(f, "the spread of input {input}"),
            Self::Element { input, at } => write!(f, "element {at} of input {input}"),
            Self::Confidence => f.write_str("the confidence"),
        }
    }
}
