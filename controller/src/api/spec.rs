//! From a request to a specification. The words are checked here, the numbers by
//! [`RolloutSpec::checked`]. `rollout lint` reads a file by the same way, without a controller.

use fleetway_controller::planner::{
    Budget, LocalWindow, Membership, OnAbort, PhaseSpec, Ramp, Rate, Retry, RetryOn, RolloutSpec,
    Schedule, Size,
};
use fleetway_protocol::hold::WindowError;
use fleetway_protocol::ids::{DeviceId, Digest, ModelName, Version};

use super::devices::selector;
use super::failure::Failure;
use super::types::{
    PhaseDetail, PhaseRequest, RateRequest, RetryRequest, RolloutRequest, ScheduleRequest,
};
use super::view::failed;
use super::wishes;

/// Time that a finished phase is watched, unless said otherwise.
const SOAK_S: u64 = 600;
/// A factor of one, in thousandths.
const ONE_PERMILLE: f64 = 1000.0;

/// The specification that a request asks for, of a release that it names.
pub(crate) fn spec_of(
    request: &RolloutRequest,
    model: ModelName,
    release: Digest,
    version: Version,
) -> Result<RolloutSpec, Failure> {
    let mut spec =
        RolloutSpec::new(model, release, version, selector(request.selector.as_deref())?);
    phases(&mut spec, request)?;
    spec.canary = request.canary.iter().map(|id| canary(id)).collect::<Result<_, _>>()?;
    if let Some(text) = &request.max_unavailable {
        spec.max_unavailable = size(text)?;
    }
    set(&mut spec.failures_max, request.failures_max);
    set(&mut spec.success_percent_min, request.success_percent_min);
    set(&mut spec.device_timeout_s, request.device_timeout_s);
    set(&mut spec.hold_aside_s, request.hold.aside_s);
    set(&mut spec.deadline_s, request.deadline_s);
    set(&mut spec.priority, request.priority);
    // A short timeout means that silence is told from absence sooner as well.
    spec.offline_after_s = match request.offline_after_s {
        Some(offline_after_s) => offline_after_s.into(),
        None => spec.offline_after_s.min(spec.device_timeout_s),
    };
    spec.membership = match request.membership.as_deref() {
        None | Some("dynamic") => Membership::Dynamic,
        Some("snapshot") => Membership::Snapshot,
        Some(text) => return Err(wrong(text, "is neither dynamic nor snapshot")),
    };
    spec.on_abort = match request.on_abort.as_deref() {
        None | Some("revert") => OnAbort::Revert,
        Some("keep") => OnAbort::Keep,
        Some(text) => return Err(wrong(text, "is neither revert nor keep")),
    };
    spec.approval = request.approval;
    spec.rate = request.rate.as_ref().map(rate);
    spec.retry = request.retry.as_ref().map(retry).transpose()?;
    spec.schedule = schedule(&request.schedule)?;
    spec.budget = Budget {
        per_day_bytes: request.budget.per_day_bytes,
        total_bytes: request.budget.total_bytes,
    };
    super::gates::gates(&mut spec, &request.gates);
    spec.halt = request.halt;
    terms(&mut spec, request)?;
    Ok(spec)
}

fn phases(spec: &mut RolloutSpec, request: &RolloutRequest) -> Result<(), Failure> {
    let soak_s = request.soak_s.map(u64::from);
    if request.phases.is_empty() {
        spec.phases.iter_mut().for_each(|phase| phase.soak_s = soak_s.unwrap_or(phase.soak_s));
        return Ok(());
    }
    let soak_s = soak_s.unwrap_or(SOAK_S);
    let phase = |request: &PhaseRequest| match request {
        PhaseRequest::Size(text) => size(text).map(|size| PhaseSpec::new(size, soak_s)),
        PhaseRequest::Full(detail) => phase(detail, soak_s),
    };
    let phases = request.phases.iter().map(phase).collect::<Result<_, _>>()?;
    spec.phases = phases;
    Ok(())
}

fn phase(detail: &PhaseDetail, soak_s: u64) -> Result<PhaseSpec, Failure> {
    let size_of = |text: &Option<String>| text.as_deref().map(size).transpose();
    Ok(PhaseSpec {
        // That of a phase whose devices are named follows from their number.
        size: size_of(&detail.size)?.unwrap_or(Size::Count(1)),
        soak_s: detail.soak_s.map_or(soak_s, u64::from),
        reporters_min: detail.reporters_min.unwrap_or(0),
        success_percent_min: detail.success_percent_min,
        failures_max: detail.failures_max,
        max_unavailable: size_of(&detail.max_unavailable)?,
        approval: detail.approval,
    })
}

fn terms(spec: &mut RolloutSpec, request: &RolloutRequest) -> Result<(), Failure> {
    let terms = &mut spec.terms;
    set(&mut terms.probation_s, request.probation_s);
    set(&mut terms.probation_answers, request.probation_answers);
    set(&mut terms.error_permille_max, request.error_permille_max);
    set(&mut terms.p95_us_max, request.p95_us_max);
    set(&mut terms.collapse_permille_max, request.collapse_permille_max);
    terms.shadow = request.shadow.as_ref().map(wishes::shadow).transpose()?;
    terms.hold = wishes::hold(&request.hold)?;
    Ok(())
}

fn canary(text: &str) -> Result<DeviceId, Failure> {
    DeviceId::new(text).map_err(|error| wrong(text, &format!("is no device: {error}")))
}

fn size(text: &str) -> Result<Size, Failure> {
    text.parse::<Size>().map_err(|e| failed(e.kind(), &e))
}

/// A growing rate has all three numbers; what is missing is 0, which is refused as no rate.
fn rate(request: &RateRequest) -> Rate {
    let grows =
        request.factor.is_some() || request.every.is_some() || request.per_minute_max.is_some();
    let ramp = grows.then(|| Ramp {
        factor_permille: (request.factor.unwrap_or(0.0) * ONE_PERMILLE).round() as u32,
        every: request.every.unwrap_or(request.per_minute),
        per_minute_max: request.per_minute_max.unwrap_or(0),
    });
    Rate { per_minute: request.per_minute, ramp }
}

fn retry(request: &RetryRequest) -> Result<Retry, Failure> {
    let kind = |word: &String| {
        let found = RetryOn::ALL.into_iter().find(|kind| kind.word() == word);
        found.ok_or_else(|| wrong(word, "is none of silent, late, trust and device"))
    };
    let on = request.on.iter().map(kind).collect::<Result<_, _>>()?;
    Ok(Retry { times: request.times, wait_s: request.wait_s, on })
}

fn schedule(request: &ScheduleRequest) -> Result<Schedule, Failure> {
    let windows = request.windows.iter().map(|window| {
        let times = window.times.parse();
        let times = times.map_err(|error: WindowError| wrong(&window.times, &error.to_string()))?;
        Ok(LocalWindow { window: times, zone: window.zone.clone() })
    });
    Ok(Schedule {
        not_before_s: request.not_before_s,
        not_after_s: request.not_after_s,
        windows: windows.collect::<Result<_, _>>()?,
    })
}

fn wrong(text: &str, what: &str) -> Failure {
    Failure::usage(format!("{text:?} {what}"))
}

fn set<T, U: From<T>>(field: &mut U, value: Option<T>) {
    if let Some(value) = value {
        *field = value.into();
    }
}
