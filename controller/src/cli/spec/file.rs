//! The keys of a rollout's file. What is left out takes the default of the flag of that meaning;
//! `docs/rollouts/README.md` is the page about it.

use fleetway_controller::planner::{HaltScope, Selector};
use fleetway_protocol::ids::DeviceId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::values::{Amount, Bytes, Latency, Moment, Permille, Share, Time, parsed};
use crate::api::types::{
    BudgetRequest, GateRequest, HoldRequest, PhaseDetail, PhaseRequest, RateRequest, RetryRequest,
    RolloutRequest, ScheduleRequest, ShadowRequest, WindowRequest,
};
use crate::cli::values::ReleaseName;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(deserialize_with = "parsed")]
    pub(super) release: ReleaseName,
    #[serde(default, deserialize_with = "selector")]
    select: Option<Selector>,
    membership: Option<Membership>,
    priority: Option<i16>,
    #[serde(default)]
    approval: bool,
    on_abort: Option<OnAbort>,
    soak: Option<Time>,
    success_min: Option<Share>,
    failures_max: Option<u32>,
    max_unavailable: Option<Amount>,
    offline_after: Option<Time>,
    device_timeout: Option<Time>,
    deadline: Option<Time>,
    #[serde(default, deserialize_with = "phases")]
    phase: Vec<Phase>,
    rate: Option<Rate>,
    retry: Option<Retry>,
    #[serde(default)]
    schedule: Schedule,
    #[serde(default)]
    budget: Budget,
    #[serde(default)]
    probation: Probation,
    shadow: Option<Shadow>,
    #[serde(default)]
    hold: Hold,
    #[serde(default)]
    gate: Vec<GateRequest>,
    #[serde(default)]
    halt: HaltScope,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Membership {
    Dynamic,
    Snapshot,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnAbort {
    Revert,
    Keep,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Phase {
    #[serde(default)]
    devices: Vec<Name>,
    size: Option<Amount>,
    soak: Option<Time>,
    reporters_min: Option<u32>,
    success_min: Option<Share>,
    failures_max: Option<u32>,
    max_unavailable: Option<Amount>,
    #[serde(default)]
    approval: bool,
}

#[derive(Debug, Deserialize)]
struct Name(#[serde(deserialize_with = "parsed")] DeviceId);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    per_minute: u32,
    factor: Option<f64>,
    every: Option<u32>,
    per_minute_max: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    times: u32,
    wait: Time,
    on: Vec<RetryOn>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RetryOn {
    Silent,
    Late,
    Trust,
    Device,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Schedule {
    not_before: Option<Moment>,
    not_after: Option<Moment>,
    window: Vec<LocalWindow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalWindow {
    #[serde(deserialize_with = "parsed")]
    times: fleetway_protocol::hold::Window,
    zone: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Budget {
    per_day: Option<Bytes>,
    total: Option<Bytes>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Probation {
    time: Option<Time>,
    answers: Option<u32>,
    errors_max: Option<Permille>,
    p95_max: Option<Latency>,
    collapse_max: Option<Permille>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shadow {
    share: Permille,
    answers: Option<u32>,
    agreement_min: Option<Permille>,
    errors_max: Option<Permille>,
    p95_percent_max: Option<u16>,
    time: Option<Time>,
    otherwise: Option<String>,
    interface: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Hold {
    activation: Vec<String>,
    download: Vec<String>,
    idle: Option<Time>,
    window: Option<String>,
    max: Option<Time>,
    aside: Option<Time>,
}

impl File {
    /// What flags of the same meaning would ask for.
    pub(super) fn request(&self) -> RolloutRequest {
        let time = |time: Option<Time>| time.map(|Time(s)| s);
        RolloutRequest {
            model: self.release.model.to_string(),
            version: self.release.version.to_string(),
            selector: self.select.as_ref().map(ToString::to_string),
            membership: self.membership.map(lower),
            canary: self.phase.iter().flat_map(|p| &p.devices).map(|n| n.0.to_string()).collect(),
            phases: self.phase.iter().map(Phase::request).collect(),
            soak_s: time(self.soak),
            failures_max: self.failures_max,
            success_percent_min: self.success_min.map(|Share(p)| p),
            max_unavailable: self.max_unavailable.map(|Amount(size)| size.to_string()),
            device_timeout_s: time(self.device_timeout),
            offline_after_s: time(self.offline_after),
            deadline_s: time(self.deadline),
            retry: self.retry.as_ref().map(Retry::request),
            rate: self.rate.as_ref().map(Rate::request),
            schedule: self.schedule.request(),
            budget: BudgetRequest {
                per_day_bytes: self.budget.per_day.map_or(0, |Bytes(bytes)| bytes),
                total_bytes: self.budget.total.map_or(0, |Bytes(bytes)| bytes),
            },
            approval: self.approval,
            priority: self.priority,
            on_abort: self.on_abort.map(lower),
            probation_s: time(self.probation.time),
            probation_answers: self.probation.answers,
            error_permille_max: self.probation.errors_max.map(|Permille(p)| p),
            p95_us_max: self.probation.p95_max.map(|Latency(us)| us),
            collapse_permille_max: self.probation.collapse_max.map(|Permille(p)| p),
            shadow: self.shadow.as_ref().map(Shadow::request),
            hold: self.hold.request(),
            gates: self.gate.clone(),
            halt: self.halt,
            plan: None,
        }
    }
}

impl Phase {
    fn request(&self) -> PhaseRequest {
        PhaseRequest::Full(PhaseDetail {
            size: self.size.map(|Amount(size)| size.to_string()),
            soak_s: self.soak.map(|Time(s)| s),
            reporters_min: self.reporters_min,
            success_percent_min: self.success_min.map(|Share(p)| p),
            failures_max: self.failures_max,
            max_unavailable: self.max_unavailable.map(|Amount(size)| size.to_string()),
            approval: self.approval,
        })
    }
}

impl Rate {
    fn request(&self) -> RateRequest {
        let Self { per_minute, factor, every, per_minute_max } = *self;
        RateRequest { per_minute, factor, every, per_minute_max }
    }
}

impl Retry {
    fn request(&self) -> RetryRequest {
        let on = self.on.iter().map(|kind| lower(*kind)).collect();
        RetryRequest { times: self.times, wait_s: self.wait.0.into(), on }
    }
}

impl Schedule {
    fn request(&self) -> ScheduleRequest {
        let window =
            |w: &LocalWindow| WindowRequest { times: w.times.to_string(), zone: w.zone.clone() };
        ScheduleRequest {
            not_before_s: self.not_before.map(|Moment(s)| s),
            not_after_s: self.not_after.map(|Moment(s)| s),
            windows: self.window.iter().map(window).collect(),
        }
    }
}

impl Shadow {
    fn request(&self) -> ShadowRequest {
        ShadowRequest {
            share_permille: self.share.0,
            answers_min: self.answers,
            agreement_permille_min: self.agreement_min.map(|Permille(p)| p),
            error_permille_max: self.errors_max.map(|Permille(p)| p),
            p95_percent_max: self.p95_percent_max,
            s_max: self.time.map(|Time(s)| s),
            otherwise: self.otherwise.clone(),
            interface_differs: self.interface.clone(),
        }
    }
}

impl Hold {
    fn request(&self) -> HoldRequest {
        HoldRequest {
            download: self.download.clone(),
            activation: self.activation.clone(),
            idle_s: self.idle.map(|Time(s)| s),
            window: self.window.clone(),
            s_max: self.max.map(|Time(s)| s),
            aside_s: self.aside.map(|Time(s)| s),
        }
    }
}

/// A unit variant as it is written: its name in lower case.
fn lower(variant: impl std::fmt::Debug) -> String {
    format!("{variant:?}").to_ascii_lowercase()
}

fn selector<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Selector>, D::Error> {
    parsed(deserializer).map(Some)
}

/// Phases of which only the first has names, and each has either names or a size.
fn phases<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Phase>, D::Error> {
    let phases = Vec::<Phase>::deserialize(deserializer)?;
    for (at, phase) in phases.iter().enumerate() {
        let named = !phase.devices.is_empty();
        if named == phase.size.is_some() {
            let what = format!("phase {}: name the devices or give a size, one of them", at + 1);
            return Err(D::Error::custom(what));
        }
        if named && at > 0 {
            return Err(D::Error::custom("only the first phase may name its devices"));
        }
    }
    Ok(phases)
}
