//! What a look found, for programs and people. Integers only: equal is equal, and stored is what
//! was decided by.

use std::fmt;

use fleetway_protocol::ids::HardwareClass;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ControlKind, Metric, Mode};

/// One look at all gates of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Looked {
    /// Its number, from 1: which part of the allowance it spent.
    pub number: u32,
    /// When, Unix seconds.
    pub at_s: u64,
    /// Since when both sides were counted, Unix seconds.
    pub since_s: u64,
    /// Who the control cohort was.
    pub control_kind: ControlKind,
    /// By class, then for all together.
    pub results: Vec<GateResult>,
}

impl Looked {
    /// What was found in one line: what failed, else what is not known yet, else that all is well.
    pub fn summary(&self) -> String {
        let of = |verdict| {
            let decides = |r: &&GateResult| r.verdict == verdict && r.mode != Mode::DryRun;
            self.results.iter().filter(decides).map(GateResult::line).collect::<Vec<_>>()
        };
        let number = self.number;
        match (of(GateVerdict::Fail), of(GateVerdict::Inconclusive)) {
            (failed, _) if !failed.is_empty() => {
                format!("look {number} at its gates fails: {}", failed.join("; "))
            }
            (_, open) if !open.is_empty() => {
                format!("look {number} at its gates is inconclusive: {}", open.join("; "))
            }
            _ => format!("look {number} at its gates is good"),
        }
    }
}

/// One gate, looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateResult {
    /// What was measured.
    pub metric: Metric,
    /// What comes of it.
    pub mode: Mode,
    /// Of which hardware class; `None`: of all devices, without classes that failed.
    #[schemars(with = "Option<String>")]
    pub class: Option<HardwareClass>,
    /// What the values are.
    pub unit: Unit,
    /// The devices that were offered the release.
    pub cohort: Estimate,
    /// Those that were not, where the metric has such.
    pub control: Option<Estimate>,
    /// How much worse the cohort is, millionths; of a latency: of the control's. `None` if it
    /// cannot be told yet.
    pub worse: Option<Bounded>,
    /// Worsening that is tolerated, millionths.
    pub tolerated: u32,
    /// Worsening that must be ruled out, millionths.
    pub excluded: u32,
    /// What follows.
    pub verdict: GateVerdict,
    /// The same in one sentence.
    pub sentence: String,
}

impl GateResult {
    /// Whether it stops devices.
    pub fn halts(&self) -> bool {
        self.verdict == GateVerdict::Fail && self.mode != Mode::DryRun
    }

    fn line(&self) -> String {
        let class = self.class.as_ref().map_or(String::new(), |class| format!("on {class}: "));
        format!("{class}{}", self.sentence)
    }

    /// Whether it keeps a phase from ending.
    pub fn holds(&self) -> bool {
        self.verdict == GateVerdict::Inconclusive && self.mode == Mode::Require
    }
}

/// Pass, fail, or not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateVerdict {
    /// Surely not worse than what must be ruled out.
    Pass,
    /// Surely worse than tolerated.
    Fail,
    /// Neither can be told.
    Inconclusive,
}

/// What values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Of a share.
    Millionths,
    /// Of time.
    Microseconds,
}

/// What one side measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Devices on this side; in the cohort, all that were offered the release.
    pub devices: u32,
    /// Of these, the ones that counted anything.
    pub counted: u32,
    /// Of these, the ones that are not there or silent.
    pub offline: u32,
    /// Requests, installs or devices counted.
    pub samples: u64,
    /// The value, `None` if nothing was counted.
    pub value: Option<Bounded>,
}

/// A value and its confidence bounds, in the unit that stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bounded {
    /// The best guess.
    pub value: i64,
    /// Not below this.
    pub low: i64,
    /// Not above this.
    pub high: i64,
}

/// Writes a bounded value with its unit, for people.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub Bounded, pub Unit);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounded { value, low, high } = self.0;
        let (scale, unit) = match self.1 {
            Unit::Millionths => (10_000.0, "%"),
            Unit::Microseconds => (1_000.0, "ms"),
        };
        let [value, low, high] = [value, low, high].map(|v| v as f64 / scale);
        write!(f, "{value:.1} {unit} ({low:.1} to {high:.1})")
    }
}
