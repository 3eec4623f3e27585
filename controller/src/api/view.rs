//! From the core's words to those of the API. Nothing is decided here.

use std::collections::BTreeMap;
use std::error::Error;

use fleetway_controller::ErrorKind;
use fleetway_controller::fleet::{
    DeviceView as Device, Fleet, IdentityView, ModelView, PlanPreview, ReleaseView as Release,
    RolloutView as Rollout,
};
use fleetway_controller::planner::{DeviceReport, Gate, PausedBy, RolloutState, Why};
use fleetway_protocol::hold::Held;
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::manifest::{Artifact, Manifest, VariantKind};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::sandbox::Sandbox;
use fleetway_protocol::shadow::ShadowReport;
use fleetway_protocol::slot::{Ending, Outcome};

use super::failure::{Failure, Kind, chain};
use super::measured;
use super::types::{
    ArtifactView, DeviceModelView, DeviceView, EndingView, ExpiryView, HeldView, PhaseView,
    PlanView, PlannedDevice, ReasonView, ReleaseRef, ReleaseView, RolloutCounts, RolloutDevice,
    RolloutSummary, RolloutView, SandboxView, ShadowView, VariantView,
};

/// A failure of the core. Its sentences end in `; what to do`.
pub(crate) fn failed(kind: ErrorKind, error: &dyn Error) -> Failure {
    let code = match kind {
        ErrorKind::Usage => Kind::Usage,
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::Conflict => Kind::Conflict,
        ErrorKind::Trust => Kind::Trust,
        ErrorKind::Unavailable | ErrorKind::Internal => Kind::Error,
    };
    let said = error.to_string();
    let causes = chain(error);
    let causes = causes.strip_prefix(&said).unwrap_or_default();
    match said.rsplit_once("; ") {
        Some((what, mend)) => Failure::new(code, format!("{what}{causes}")).mend(mend),
        None => Failure::new(code, format!("{said}{causes}")),
    }
}

/// A device's own reason.
pub(crate) fn reason(reason: Reason) -> ReasonView {
    ReasonView { code: reason.code().into(), text: reason.to_string() }
}

pub(crate) fn why(why: &Why) -> ReasonView {
    ReasonView { code: why.code().into(), text: why.to_string() }
}

pub(super) fn release_ref(fleet: &Fleet, digest: Digest) -> ReleaseRef {
    let version = fleet.release(&digest).map(|release| release.manifest.version.to_string());
    ReleaseRef { digest: digest.to_string(), version }
}

/// A device with all its models.
pub(crate) fn device(fleet: &Fleet, device: Device) -> DeviceView {
    let models = device.models.iter().map(|(name, model)| device_model(fleet, name, model));
    DeviceView {
        id: device.id.to_string(),
        online: device.online,
        standing: device.standing.word().into(),
        last_seen_s: device.heard_s,
        agent: device.agent.as_ref().map(ToString::to_string),
        sandbox: device.sandbox.as_ref().map(sandbox),
        generation: device.generation,
        taken: device.taken,
        refused: device.refused.map(reason),
        models: models.collect(),
        host: device.host.as_ref().map(measured::host),
        reports: measured::reports(device.reports),
        identity: identity(&device.identity).into(),
        via: device.identity.via.as_ref().map(ToString::to_string),
        certificate_ends_s: Some(device.identity.certificate_ends_s).filter(|ends_s| *ends_s > 0),
        labels: device.labels,
    }
}

fn sandbox(sandbox: &Sandbox) -> SandboxView {
    let missing = sandbox.missing.iter().map(|fence| fence.name().to_owned()).collect();
    SandboxView { state: sandbox.state().into(), missing, met: sandbox.met }
}

fn identity(view: &IdentityView) -> &'static str {
    match view {
        IdentityView { revoked_s: Some(_), .. } => "revoked",
        IdentityView { key: Some(_), .. } => "enrolled",
        IdentityView { token_until_s: Some(_), .. } => "invited",
        _ => "added",
    }
}

fn device_model(fleet: &Fleet, name: &ModelName, model: &ModelView) -> DeviceModelView {
    let state = model.state.as_ref();
    let release = |digest: Digest| release_ref(fleet, digest);
    DeviceModelView {
        model: name.to_string(),
        desired: model.desired.map(release),
        running: state.and_then(|s| s.running).map(release),
        target: state.and_then(|s| s.target).map(release),
        phase: state.map_or("unknown", |s| s.phase.code()).into(),
        have: state.map_or(0, |s| s.progress.have),
        total: state.map_or(0, |s| s.progress.total),
        waiting: state.and_then(|s| s.waiting).map(reason),
        held: state.and_then(|s| s.held.as_ref()).map(held),
        shadow: state.and_then(|s| s.shadow.as_ref()).map(|shadow| shadowed(fleet, shadow)),
        last: state.and_then(|s| s.last.as_ref()).map(|last| ending(fleet, last)),
        floor: state.map_or(0, |s| s.floor),
        poisoned: state.map_or(0, |s| u32::from(s.poisoned)),
        telemetry: model.telemetry.as_ref().map(|t| measured::telemetry(fleet, t)),
    }
}

fn held(held: &Held) -> HeldView {
    HeldView {
        before: held.before.name().into(),
        conditions: held.conditions.iter().map(|c| c.name().into()).collect(),
        reasons: held.conditions.iter().map(|c| reason(c.reason())).collect(),
        since_s: Some(held.since_s).filter(|since_s| *since_s > 0),
    }
}

fn shadowed(fleet: &Fleet, report: &ShadowReport) -> ShadowView {
    ShadowView {
        release: release_ref(fleet, report.release),
        compared: report.compared,
        agreed: report.agreed,
        failed: report.failed,
        dropped: report.dropped,
        diff_max: f64::from(report.diff_millionths_max) / 1e6,
        p50_us: report.p50_us,
        p95_us: report.p95_us,
        serving_p95_us: report.serving_p95_us,
        ended: report.ended.map(|ended| match ended {
            Ok(()) => ReasonView { code: "PASSED".into(), text: "passed".into() },
            Err(why) => reason(why),
        }),
    }
}

fn ending(fleet: &Fleet, outcome: &Outcome) -> EndingView {
    let (result, why) = match outcome.result {
        Ending::Confirmed => ("confirmed", None),
        Ending::Failed(why) => ("failed", Some(why)),
        Ending::RolledBack(why) => ("rolled_back", Some(why)),
        Ending::Removed => ("removed", None),
    };
    EndingView {
        release: release_ref(fleet, outcome.release),
        rollout: outcome.rollout,
        result: result.into(),
        reason: why.map(reason),
        evidence: why.zip(outcome.evidence).map(|(why, found)| measured::evidence(why, found)),
    }
}

/// A published release.
pub(crate) fn published(fleet: &Fleet, release: &Release) -> ReleaseView {
    let envelope = fleet.release_envelope(&release.digest);
    let view = self::release(release.digest, &release.manifest, "published", envelope);
    ReleaseView { in_use: measured::in_use(fleet, &release.digest), ..view }
}

/// A release, whatever its state.
pub(crate) fn release(
    digest: Digest,
    manifest: &Manifest,
    state: &str,
    envelope: Option<&[u8]>,
) -> ReleaseView {
    let envelope =
        envelope.and_then(|bytes| fleetway_protocol::envelope::Envelope::decode(bytes).ok());
    let variants = manifest.variants.iter().map(|variant| VariantView {
        kind: kind(variant.kind).into(),
        artifact: artifact(&variant.model),
        golden: artifact(&variant.golden),
    });
    ReleaseView {
        model: manifest.model.to_string(),
        version: manifest.version.to_string(),
        counter: manifest.counter,
        min_release: manifest.min_release,
        digest: digest.to_string(),
        state: state.into(),
        signers: envelope
            .map_or_else(Vec::new, |e| e.signers().map(|key| key.to_string()).collect()),
        golden_mismatch_accepted: manifest
            .golden_mismatch_accepted
            .as_ref()
            .map(ToString::to_string),
        golden_abs_err_max: manifest.golden.abs_err_max,
        health: measured::policy_words(&manifest.health),
        scores: measured::scores_word(manifest.health.scores).map(Into::into),
        in_use: None,
        variants: variants.collect(),
    }
}

fn kind(kind: VariantKind) -> &'static str {
    match kind {
        VariantKind::Onnx => "onnx",
        VariantKind::Qnn => "qnn",
        VariantKind::Mixed => "mixed",
    }
}

fn artifact(artifact: &Artifact) -> ArtifactView {
    ArtifactView {
        digest: artifact.digest.to_string(),
        bytes: artifact.bytes,
        chunks: artifact.chunk_count(),
        chunk_bytes: artifact.chunk_bytes,
    }
}

fn state_reason(state: &RolloutState) -> Option<ReasonView> {
    let view = |code: &str, text: &str| Some(ReasonView { code: code.into(), text: text.into() });
    match state {
        RolloutState::Running { .. } | RolloutState::Succeeded => None,
        RolloutState::Paused { by: PausedBy::Operator, .. } => {
            view("OPERATOR", "paused by an operator")
        }
        RolloutState::Paused { by: PausedBy::Inconclusive(text), .. } => view("INCONCLUSIVE", text),
        RolloutState::Halted { why, reason, .. } => {
            view(reason.map_or("HALTED", Reason::code), why)
        }
        RolloutState::Aborted => view("ABORTED", "aborted by an operator"),
        RolloutState::WaitingForApproval { phase } => {
            let text = format!("phase {} waits until somebody approves it", phase + 1);
            view("WAITING_FOR_APPROVAL", &text)
        }
    }
}

/// A rollout in one line.
pub(crate) fn rollout_summary(fleet: &Fleet, rollout: &Rollout) -> RolloutSummary {
    let (spec, report) = (&rollout.spec, &rollout.report);
    let phases = spec.phases.len() as u32;
    let phase = match &rollout.state {
        state if state.is_open() => state.phase().map_or(1, |phase| phase + 1),
        RolloutState::Succeeded => phases,
        _ => rollout.devices.iter().filter_map(|d| d.phase).max().map_or(1, |phase| phase + 1),
    };
    let (gate, gate_text) = match &report.gate {
        Gate::Pass => ("pass", None),
        Gate::Waiting(text) => ("waiting", Some(text)),
        Gate::Inconclusive(text) => ("inconclusive", Some(text)),
        Gate::Fail(text) => ("fail", Some(text)),
    };
    RolloutSummary {
        id: rollout.id,
        model: spec.model.to_string(),
        release: release_ref(fleet, spec.release),
        state: rollout.state.word().into(),
        over: !rollout.state.is_open(),
        succeeded: rollout.state == RolloutState::Succeeded,
        reason: state_reason(&rollout.state),
        phase,
        phases,
        gate: gate.into(),
        gate_text: gate_text.cloned(),
        counts: RolloutCounts {
            total: report.total as u32,
            waiting: report.total.saturating_sub(report.offered) as u32,
            moving: report.in_flight as u32,
            silent: report.silent as u32,
            confirmed: report.confirmed as u32,
            failed: report.failed as u32,
        },
        started_by: rollout.started_by.clone(),
        started_s: rollout.started_s,
    }
}

/// A rollout with all its devices.
pub(crate) fn rollout(fleet: &Fleet, rollout: &Rollout) -> RolloutView {
    let devices = rollout.devices.iter();
    let devices = devices.map(|d| rollout_device(fleet, &rollout.spec.model, d)).collect();
    RolloutView { devices, ..rollout_alone(fleet, rollout) }
}

/// A rollout without its devices.
pub(crate) fn rollout_alone(fleet: &Fleet, rollout: &Rollout) -> RolloutView {
    let spec = &rollout.spec;
    let total = rollout.report.total;
    let phases = spec.phases.iter().enumerate().map(|(at, phase)| PhaseView {
        number: at as u32 + 1,
        share: phase.size.to_string(),
        devices: spec.phase_bound(at, total) as u32,
        soak_s: phase.soak_s,
    });
    let release = fleet.release(&spec.release);
    let mismatch = release.and_then(|r| r.manifest.golden_mismatch_accepted.as_ref());
    RolloutView {
        summary: rollout_summary(fleet, rollout),
        selector: Some(spec.selector.as_str().to_owned()),
        golden_mismatch_accepted: mismatch.map(ToString::to_string),
        gates: rollout.looked.clone(),
        barred: rollout.report.barred as u32,
        phase_list: phases.collect(),
        devices: Vec::new(),
    }
}

/// One of its devices.
pub(crate) fn rollout_device(
    fleet: &Fleet,
    model: &ModelName,
    report: &DeviceReport,
) -> RolloutDevice {
    let device = fleet.device(&report.device);
    let online = device.as_ref().is_some_and(|d| d.online);
    let model =
        device.as_ref().and_then(|d| d.models.get(model).map(|m| device_model(fleet, model, m)));
    RolloutDevice {
        id: report.device.to_string(),
        online,
        rollout_phase: report.phase.map(|phase| phase + 1),
        state: device_state(&report.why).into(),
        reason: why(&report.why),
        cause: report.why.reason().map(reason),
        model,
    }
}

/// Where one of its devices is, in a word.
pub(crate) fn device_state(why: &Why) -> &'static str {
    match why {
        Why::Confirmed | Why::AlreadyRuns => "confirmed",
        Why::Failed(_) | Why::RolledBack(_) | Why::Silent | Why::Late => "failed",
        Why::Ordered
        | Why::InProgress { .. }
        | Why::Held { .. }
        | Why::SilentInProgress { .. }
        | Why::Reverting => "moving",
        Why::Reverted => "reverted",
        Why::NotYourPhase { .. }
        | Why::WaitingForSlot { .. }
        | Why::Offline { .. }
        | Why::NotListening
        | Why::HeldByOtherRollout(_)
        | Why::GivesWay(_)
        | Why::NotBefore { .. }
        | Why::OutsideWindow { .. }
        | Why::RateLimited { .. }
        | Why::OverBudget { .. }
        | Why::WaitingForApproval
        | Why::Retrying { .. }
        | Why::Paused => "waiting",
        Why::TakenByNewerRollout(_)
        | Why::BelowFloor { .. }
        | Why::KnownBad { .. }
        | Why::TooManyModels
        | Why::CameLater
        | Why::ScheduleOver { .. }
        | Why::Left
        | Why::Halted
        | Why::Aborted
        | Why::Over
        | Why::NothingBefore
        | Why::BeforeUnknown
        | Why::BeforeNotPublished(_)
        | Why::RemembersAsBad(_)
        | Why::NothingNewer => "left_out",
    }
}

/// What a rollout would do.
pub(crate) fn plan(fleet: &Fleet, preview: &PlanPreview, expiries: Vec<ExpiryView>) -> PlanView {
    let spec = &preview.spec;
    let phases = preview.phases.iter().enumerate().map(|(at, phase)| PhaseView {
        number: at as u32 + 1,
        share: spec.phases.get(at).map_or_else(String::new, |p| p.size.to_string()),
        devices: phase.up_to as u32,
        soak_s: phase.soak_s,
    });
    let later: BTreeMap<_, _> = preview.later.iter().map(|(id, reason)| (id, reason)).collect();
    let moving = preview.phases.iter().enumerate().flat_map(|(at, phase)| {
        let later = &later;
        phase.devices.iter().map(move |id| PlannedDevice {
            id: id.to_string(),
            phase: Some(at as u32 + 1),
            moves: at == 0 && !later.contains_key(id),
            bytes: preview.bytes_of(id),
            reason: later.get(id).map(|reason| why(reason)),
        })
    });
    let left_out = preview.left_out.iter().map(|(id, reason)| PlannedDevice {
        id: id.to_string(),
        phase: None,
        moves: false,
        bytes: 0,
        reason: Some(why(reason)),
    });
    PlanView {
        model: spec.model.to_string(),
        release: release_ref(fleet, spec.release),
        golden_mismatch_accepted: preview.golden_mismatch.clone(),
        phases: phases.collect(),
        devices: moving.chain(left_out).collect(),
        bytes_per_device: preview.bytes_per_device,
        bytes_total: preview.bytes_total(),
        takes_s: preview.takes.total_s,
        takes_how: preview.takes.how.clone(),
        signers: preview.signers.clone(),
        expiries,
        hash: preview.hash.to_string(),
        notes: preview.notes.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mend_comes_after_the_semicolon() {
        #[derive(Debug, thiserror::Error)]
        #[error("device cam-1 exists; change its labels with `fleetway device label`")]
        struct Exists;
        let failure = failed(ErrorKind::Conflict, &Exists);
        assert_eq!(failure.message, "device cam-1 exists");
        assert_eq!(failure.mend.as_deref(), Some("change its labels with `fleetway device label`"));
        assert_eq!(failure.code, Kind::Conflict);
    }
}
