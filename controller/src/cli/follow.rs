//! What follows on a rollout: `rollout promote|undo|retry|rollback`, and what happened:
//! `rollout history` and `device history`.

use clap::Args;
use fleetway_controller::audit::Entry;

use super::Context;
use super::args::RolloutArgs;
use super::output::{table, talk, time};
use super::rollout::{line, plan_text, request};
use crate::api::failure::Failure;
use crate::api::types::{FollowView, Promote, RolloutView};

/// Devices that stay are told one by one up to this many: a screen of them.
const STAYS_SHOWN_MAX: usize = 20;

/// `rollout undo` and `rollout retry`.
#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    /// Which rollout
    #[arg(value_name = "ID")]
    pub(crate) id: u64,
    /// Say what it would do, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `rollout rollback`.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    pub(crate) rollout: RolloutArgs,
    /// Say what it would do, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `... history`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LastArgs {
    /// At most this many entries, the newest
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) last: usize,
}

pub(super) async fn promote(id: u64, full: bool, context: &Context) -> Result<(), Failure> {
    let path = format!("/v1/rollouts/{id}/promote");
    let view: RolloutView = context.client().post(&path, &Promote { full }).await?;
    context.output.data(&view, || line(&view.summary))
}

/// `verb` is `undo` or `retry`.
pub(super) async fn after(verb: &str, args: FollowArgs, context: &Context) -> Result<(), Failure> {
    let path = format!("/v1/rollouts/{}/{verb}", args.id);
    follow(&path, &(), args.dry_run, context).await
}

pub(super) async fn rollback(args: RollbackArgs, context: &Context) -> Result<(), Failure> {
    follow("/v1/rollouts/rollback", &request(&args.rollout), args.dry_run, context).await
}

/// Where a person sits, it is shown first and asked about.
async fn follow<B: serde::Serialize + Sync>(
    path: &str,
    body: &B,
    dry_run: bool,
    context: &Context,
) -> Result<(), Failure> {
    let client = context.client();
    let dry = format!("{path}?dry_run=true");
    if dry_run {
        let plan: FollowView = client.post(&dry, body).await?;
        return context.output.data(&plan, || text(&plan));
    }
    if context.would_ask() {
        let plan: FollowView = client.post(&dry, body).await?;
        talk(text(&plan));
    }
    context.confirm("start it?")?;
    let done: FollowView = client.post(path, body).await?;
    context.output.data(&done, || text(&done))
}

fn text(view: &FollowView) -> String {
    let mut parts = Vec::new();
    for rollout in &view.rollouts {
        let verb = if view.started { "started" } else { "would start" };
        parts.push(format!("{verb} rollout {}\n{}", rollout.id, plan_text(&rollout.plan)));
    }
    if !view.stays.is_empty() {
        let shown = view.stays.iter().take(STAYS_SHOWN_MAX);
        let rows = shown.map(|stay| [stay.id.clone(), stay.reason.text.clone()]);
        let mut stays = table(["stays", "why"], rows);
        if let Some(more) = view.stays.len().checked_sub(STAYS_SHOWN_MAX).filter(|more| *more > 0) {
            stays.push_str(&format!("\nand {more} more; -o json has them all"));
        }
        parts.push(stays);
    }
    if view.started {
        let next = view.rollouts.iter().map(|r| format!("next: fleetway rollout watch {}", r.id));
        parts.push(next.collect::<Vec<_>>().join("\n"));
    }
    parts.join("\n\n")
}

/// `path` is that of the rollout or the device.
pub(super) async fn history(path: &str, last: LastArgs, context: &Context) -> Result<(), Failure> {
    let path = format!("{path}/history?last={}", last.last);
    let entries: Vec<Entry> = context.client().get(&path).await?;
    context.output.data(&entries, || {
        let row = |e: &Entry| [time(e.time_s), e.who.clone(), e.what.clone(), e.text.clone()];
        table(["time", "who", "what", ""], entries.iter().map(row))
    })
}
