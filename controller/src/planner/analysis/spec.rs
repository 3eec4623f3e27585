//! What a gate asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Unit;

/// What is measured.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Installs that ended well, of those that ended. Without a control cohort: nobody else installs.
    InstallSuccess,
    /// Installs that ran and were undone by their device, of those that ended. Likewise.
    Rollbacks,
    /// Devices whose agent began anew without being told to.
    Crashes,
    /// 95th percentile of the latency of answers.
    P95Latency,
    /// Failed requests.
    ErrorRate,
    /// Devices whose answers or inputs drifted from their release's reference (PSI above its bound).
    Drift,
    /// Mean confidence of the answers.
    Confidence,
    /// Answers in the shadow that agree with those served by the same device, which are the control.
    ShadowAgreement,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::InstallSuccess,
        Self::Rollbacks,
        Self::Crashes,
        Self::P95Latency,
        Self::ErrorRate,
        Self::Drift,
        Self::Confidence,
        Self::ShadowAgreement,
    ];

    /// Its name in specifications, JSON and pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::InstallSuccess => "install-success",
            Self::Rollbacks => "rollbacks",
            Self::Crashes => "crashes",
            Self::P95Latency => "p95-latency",
            Self::ErrorRate => "error-rate",
            Self::Drift => "drift",
            Self::Confidence => "confidence",
            Self::ShadowAgreement => "shadow-agreement",
        }
    }

    /// What its values are.
    pub fn unit(self) -> Unit {
        match self {
            Self::P95Latency => Unit::Microseconds,
            _ => Unit::Millionths,
        }
    }

    /// Whether it is held against a control cohort, and not against a bound alone.
    pub fn has_control(self) -> bool {
        !matches!(self, Self::InstallSuccess | Self::Rollbacks | Self::ShadowAgreement)
    }

    /// Whether more of it is better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::InstallSuccess | Self::Confidence | Self::ShadowAgreement)
    }
}

/// What a gate's result does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is shown and decides nothing.
    DryRun,
    /// A fail halts; without enough evidence the phase goes on by the devices' own verdicts.
    Halt,
    /// A fail halts, and nothing but a pass lets the phase end.
    Require,
}

/// One gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSpec {
    /// What is measured.
    pub metric: Metric,
    /// What comes of it.
    pub mode: Mode,
    /// Worsening that is tolerated, millionths: of a share, or (latency) of the control's value.
    /// A fail is a worsening that is surely greater.
    pub tolerated: u32,
    /// Worsening that must be ruled out, likewise. A pass is one that is surely smaller.
    pub excluded: u32,
    /// Devices that must have counted something, on each side.
    pub devices_min: u32,
    /// Requests that must have been counted, on each side, where requests are counted.
    pub answers_min: u32,
}

/// Devices on each side below which nobody is judged: with four, one odd device is a quarter of
/// all that is known.
pub const DEVICES_MIN_DEFAULT: u32 = 5;
/// Requests on each side, likewise.
pub const ANSWERS_MIN_DEFAULT: u32 = 200;

impl GateSpec {
    /// The default gate of a metric. Installs and rollbacks are shown only, because `failures_max`
    /// and `success_percent_min` decide on them; so is the shadow, which the device judges.
    pub fn of(metric: Metric) -> Self {
        let (mode, tolerated, excluded) = match metric {
            Metric::InstallSuccess | Metric::Rollbacks => (Mode::DryRun, 50_000, 200_000),
            Metric::ShadowAgreement => (Mode::DryRun, 20_000, 50_000),
            Metric::Crashes | Metric::Drift => (Mode::Halt, 50_000, 200_000),
            Metric::ErrorRate => (Mode::Halt, 10_000, 50_000),
            Metric::P95Latency => (Mode::Halt, 200_000, 1_000_000),
            Metric::Confidence => (Mode::Halt, 20_000, 100_000),
        };
        let (devices_min, answers_min) = (DEVICES_MIN_DEFAULT, ANSWERS_MIN_DEFAULT);
        Self { metric, mode, tolerated, excluded, devices_min, answers_min }
    }

    /// The default gates, one for each metric.
    pub fn defaults() -> Vec<Self> {
        Metric::ALL.map(Self::of).to_vec()
    }

    /// Whether its numbers make sense; else what does not.
    ///
    /// # Errors
    /// A sentence.
    pub fn checked(&self) -> Result<(), String> {
        let name = self.metric.name();
        match () {
            () if self.excluded < self.tolerated => Err(format!(
                "the gate on {name} must rule out at least what it tolerates; raise `excluded` to {} or more",
                self.tolerated
            )),
            () if self.metric != Metric::P95Latency && self.excluded > 1_000_000 => {
                Err(format!("the gate on {name} rules out more than everything; use a share"))
            }
            () if self.devices_min < 2 => Err(format!(
                "the gate on {name} needs at least 2 devices: one says nothing of the others"
            )),
            () => Ok(()),
        }
    }
}
