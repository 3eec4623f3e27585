//! `fleetway rollout ...`.

use std::time::Duration;

use fleetway_controller::clock;
use tokio::time::sleep;

use super::Context;
use super::args::{RolloutArgs, RolloutVerb};
use super::model::mismatch;
use super::output::{ago, bytes, facts, table, talk, time};
use super::{follow, spec, watch};
use crate::api::client::Client;
use crate::api::failure::{Failure, Kind};
use crate::api::types::{PhaseRequest, PlanView, RolloutRequest, RolloutSummary, RolloutView};

/// Between two looks at a rollout.
const LOOK: Duration = Duration::from_millis(300);
/// How long a controller may be away while somebody waits for a rollout: a restart, with
/// the repair of its store.
const AWAY_MS_MAX: u64 = 60_000;

pub(super) async fn run(verb: RolloutVerb, context: &Context) -> Result<(), Failure> {
    let client = context.client();
    match verb {
        RolloutVerb::Lint { file } => spec::lint::run(&file, context).await,
        RolloutVerb::Plan(args) => {
            let plan: PlanView = client.post("/v1/rollouts/plan", &request(&args)?).await?;
            context.output.data(&plan, || plan_text(&plan))
        }
        RolloutVerb::Start { rollout, plan, even_if_changed } => {
            let asked =
                RolloutRequest { plan: plan.filter(|_| !even_if_changed), ..request(&rollout)? };
            let started: RolloutView = client.post("/v1/rollouts", &asked).await?;
            if started.golden_mismatch_accepted.is_some() {
                talk(format!("WARNING: {}", mismatch(started.golden_mismatch_accepted.as_deref())));
            }
            let id = started.summary.id;
            context.output.data(&started, || {
                format!("{}\nnext: fleetway rollout watch {id}", line(&started.summary))
            })
        }
        RolloutVerb::Status { id, wait, timeout } => status(id, wait, timeout, context).await,
        RolloutVerb::List => {
            let all: Vec<RolloutSummary> = client.list("/v1/rollouts").await?;
            let text = if context.output.is_wide() { list_wide } else { list_text };
            context.output.data(&all, || text(&all))
        }
        RolloutVerb::Watch { id } => watch::run(id, context).await,
        RolloutVerb::Pause { id } => steer(id, "pause", context).await,
        RolloutVerb::Resume { id } => steer(id, "resume", context).await,
        RolloutVerb::Approve { id } => steer(id, "approve", context).await,
        RolloutVerb::Abort { id } => {
            context.confirm(&format!("end rollout {id} for good?"))?;
            steer(id, "abort", context).await
        }
        RolloutVerb::Promote { id, full } => follow::promote(id, full, context).await,
        RolloutVerb::Undo(args) => follow::after("undo", args, context).await,
        RolloutVerb::Retry(args) => follow::after("retry", args, context).await,
        RolloutVerb::Rollback(args) => follow::rollback(args, context).await,
        RolloutVerb::History { id, last } => {
            follow::history(&format!("/v1/rollouts/{id}"), last, context).await
        }
    }
}

/// What is asked for: what the file says, and the flags before that.
pub(super) fn request(args: &RolloutArgs) -> Result<RolloutRequest, Failure> {
    let mut request = match &args.file {
        Some(path) => spec::load(path)?.request,
        None => RolloutRequest::default(),
    };
    if let Some(release) = &args.release {
        request.model = release.model.to_string();
        request.version = release.version.to_string();
    }
    let phases: Vec<_> = args.canary.iter().chain(&args.phases).collect();
    if !phases.is_empty() {
        request.canary.clear();
        request.phases =
            phases.into_iter().map(|size| PhaseRequest::Size(size.to_string())).collect();
    }
    over(&mut request.selector, args.selector.clone());
    over(&mut request.failures_max, args.failures_max);
    over(&mut request.success_percent_min, args.success);
    over(&mut request.max_unavailable, args.max_unavailable.map(|size| size.to_string()));
    over(&mut request.device_timeout_s, args.device_timeout);
    over(&mut request.probation_s, args.probation);
    over(&mut request.probation_answers, args.answers);
    over(&mut request.error_permille_max, args.error_percent);
    over(&mut request.p95_us_max, args.p95_ms);
    over(&mut request.collapse_permille_max, args.collapse_percent);
    over(&mut request.shadow, args.shadow.request());
    args.hold.over(&mut request.hold);
    if args.soak.is_some() {
        request.soak_s = args.soak;
        // For all phases, as it is without a file.
        for phase in &mut request.phases {
            if let PhaseRequest::Full(detail) = phase {
                detail.soak_s = args.soak;
            }
        }
    }
    Ok(request)
}

/// A flag that was given goes before what the file says.
fn over<T>(field: &mut Option<T>, flag: Option<T>) {
    if flag.is_some() {
        *field = flag;
    }
}

async fn steer(id: u64, verb: &str, context: &Context) -> Result<(), Failure> {
    let path = format!("/v1/rollouts/{id}/{verb}");
    let view: RolloutView = context.client().post(&path, &()).await?;
    context.output.data(&view, || line(&view.summary))
}

/// Looks at a rollout, past short absences of the controller.
pub(super) struct Follower {
    client: Client,
    id: u64,
    away_since_ms: Option<u64>,
}

impl Follower {
    pub(super) fn new(client: Client, id: u64) -> Self {
        Self { client, id, away_since_ms: None }
    }

    /// The next look.
    pub(super) async fn look(&mut self) -> Result<RolloutView, Failure> {
        loop {
            match self.client.get::<RolloutView>(&format!("/v1/rollouts/{}", self.id)).await {
                Ok(view) => {
                    if self.away_since_ms.take().is_some() {
                        talk("the controller answers again");
                    }
                    return Ok(view);
                }
                Err(failure) if failure.code == Kind::Unreachable => {
                    let now_ms = clock::now_ms();
                    if self.away_since_ms.is_none() {
                        talk(format!("{}; waiting for it", failure.message));
                    }
                    let since_ms = *self.away_since_ms.get_or_insert(now_ms);
                    if now_ms.saturating_sub(since_ms) > AWAY_MS_MAX {
                        return Err(failure);
                    }
                    sleep(LOOK).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The look after that, a moment later.
    pub(super) async fn look_again(&mut self) -> Result<RolloutView, Failure> {
        sleep(LOOK).await;
        self.look().await
    }
}

async fn status(
    id: u64,
    wait: bool,
    limit: Option<Duration>,
    context: &Context,
) -> Result<(), Failure> {
    if !wait && limit.is_none() {
        let view: RolloutView = context.client().get(&format!("/v1/rollouts/{id}")).await?;
        context.output.data(&view, || watch::page(&view, context.output.is_wide()))?;
        return outcome(&view.summary);
    }
    let mut follower = Follower::new(context.client(), id);
    let mut view = follower.look().await?;
    let ended = async {
        while !view.summary.over {
            view = follower.look_again().await?;
        }
        Ok::<(), Failure>(())
    };
    let in_time = match limit {
        None => {
            ended.await?;
            true
        }
        Some(limit) => match tokio::time::timeout(limit, ended).await {
            Ok(ended) => {
                ended?;
                true
            }
            Err(_) => false,
        },
    };
    context.output.data(&view, || watch::page(&view, context.output.is_wide()))?;
    if in_time {
        return outcome(&view.summary);
    }
    let limit_s = limit.unwrap_or_default().as_secs();
    Err(Failure::new(Kind::Unreachable, format!("rollout {id} is not over after {limit_s} s"))
        .mend(format!("it goes on; see `fleetway rollout watch {id}`")))
}

/// An error for a rollout that ended badly.
pub(super) fn outcome(summary: &RolloutSummary) -> Result<(), Failure> {
    if !summary.over || summary.succeeded {
        return Ok(());
    }
    let why = summary.reason.as_ref().map_or_else(String::new, |why| format!(": {}", why.text));
    let name = format!("{}@{}", summary.model, summary.release.text());
    let mend = match summary.state.as_str() {
        "aborted" => "start another rollout when you want one".to_owned(),
        _ => {
            "publish a corrected release and roll that out; no further device gets this one".into()
        }
    };
    let what = format!("rollout {} of {name} {}{why}", summary.id, summary.state);
    Err(Failure::new(Kind::RolloutFailed, what).mend(mend))
}

/// A rollout in one line.
pub(super) fn line(summary: &RolloutSummary) -> String {
    let why = summary.reason.as_ref().map_or_else(String::new, |why| format!(": {}", why.text));
    format!(
        "rollout {} of {}@{} {}, phase {} of {}, {} of {} confirmed, {} moving, {} failed{why}",
        summary.id,
        summary.model,
        summary.release.text(),
        summary.state,
        summary.phase,
        summary.phases,
        summary.counts.confirmed,
        summary.counts.total,
        summary.counts.moving,
        summary.counts.failed,
    )
}

/// The list of rollouts.
pub(super) fn list_text(all: &[RolloutSummary]) -> String {
    let now_s = clock::now_s();
    table(
        ["rollout", "release", "state", "phase", "confirmed", "moving", "failed", "started", "why"],
        all.iter().map(|rollout| {
            [
                rollout.id.to_string(),
                format!("{}@{}", rollout.model, rollout.release.text()),
                rollout.state.clone(),
                format!("{}/{}", rollout.phase, rollout.phases),
                format!("{}/{}", rollout.counts.confirmed, rollout.counts.total),
                rollout.counts.moving.to_string(),
                rollout.counts.failed.to_string(),
                format!("{} ago", ago(now_s.saturating_sub(rollout.started_s))),
                rollout.reason.as_ref().map_or_else(String::new, |why| why.text.clone()),
            ]
        }),
    )
}

/// The same with who, when and what the gate says.
fn list_wide(all: &[RolloutSummary]) -> String {
    table(
        [
            "rollout",
            "release",
            "digest",
            "state",
            "phase",
            "total",
            "waiting",
            "moving",
            "silent",
            "confirmed",
            "failed",
            "started",
            "by",
            "gate",
            "why",
        ],
        all.iter().map(|rollout| {
            let RolloutSummary { counts, .. } = rollout;
            [
                rollout.id.to_string(),
                format!("{}@{}", rollout.model, rollout.release.text()),
                rollout.release.digest.chars().take(12).collect(),
                rollout.state.clone(),
                format!("{}/{}", rollout.phase, rollout.phases),
                counts.total.to_string(),
                counts.waiting.to_string(),
                counts.moving.to_string(),
                counts.silent.to_string(),
                counts.confirmed.to_string(),
                counts.failed.to_string(),
                time(rollout.started_s),
                rollout.started_by.clone(),
                rollout.gate_text.clone().unwrap_or_else(|| rollout.gate.clone()),
                rollout.reason.as_ref().map_or_else(String::new, |why| why.text.clone()),
            ]
        }),
    )
}

/// A plan as a page.
pub(super) fn plan_text(plan: &PlanView) -> String {
    let now_s = clock::now_s();
    let moving = plan.devices.iter().filter(|device| device.phase.is_some()).count();
    let takes = plan
        .takes_s
        .map_or_else(|| "more than 90 days".to_owned(), |s| format!("about {}", ago(s)));
    let mut lines = vec![
        ("release", format!("{}@{}", plan.model, plan.release.text())),
        ("signed by", plan.signers.join(", ")),
        ("devices", format!("{moving} of {} would move", plan.devices.len())),
        (
            "fetches",
            format!(
                "{} in all, {} by a device that has nothing of it",
                bytes(plan.bytes_total),
                bytes(plan.bytes_per_device)
            ),
        ),
        ("takes", takes),
        ("that is", plan.takes_how.clone()),
        ("plan", plan.hash.clone()),
    ];
    let ends_s = now_s.saturating_add(plan.takes_s.unwrap_or(u64::MAX));
    for expiry in &plan.expiries {
        let left = match expiry.expires_s.checked_sub(now_s) {
            Some(left_s) => format!("expires in {}", ago(left_s)),
            None => "has expired: no device takes anything new".to_owned(),
        };
        let late = if expiry.expires_s < ends_s { ", before this would be done" } else { "" };
        lines.push(("metadata", format!("{} {left}{late}", expiry.what)));
    }
    if plan.golden_mismatch_accepted.is_some() {
        lines.push(("WARNING", mismatch(plan.golden_mismatch_accepted.as_deref())));
    }
    for note in &plan.notes {
        lines.push(("note", note.clone()));
    }
    let phases = table(
        ["phase", "size", "devices", "soak"],
        plan.phases.iter().map(|phase| {
            [
                phase.number.to_string(),
                phase.share.clone(),
                phase.devices.to_string(),
                ago(phase.soak_s),
            ]
        }),
    );
    let devices = table(
        ["device", "phase", "fetches", "note"],
        plan.devices.iter().map(|device| {
            [
                device.id.clone(),
                super::output::or_dash(device.phase),
                bytes(device.bytes),
                device.reason.as_ref().map_or_else(String::new, |reason| reason.text.clone()),
            ]
        }),
    );
    format!("{}\n\n{phases}\n\n{devices}", facts(&lines))
}
