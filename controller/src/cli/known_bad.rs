//! `fleetway model bad | allow`: what is not offered again, and what is.

use fleetway_protocol::ids::HardwareClass;

use super::Context;
use super::output::{or_dash, table};
use super::values::ReleaseName;
use crate::api::failure::Failure;
use crate::api::types::{KnownBadLift, KnownBadView};

pub(super) async fn list(context: &Context) -> Result<(), Failure> {
    let all: Vec<KnownBadView> = context.client().get("/v1/known-bad").await?;
    context.output.data(&all, || {
        let rows = all.iter().map(|bad| {
            let version = bad.release.version.clone().unwrap_or_else(|| bad.release.digest.clone());
            let name = or_dash(bad.model.as_ref());
            let lifted = if bad.lifted_s.is_some() { "lifted" } else { "barred" };
            let rollout = bad.rollout.to_string();
            [
                format!("{name}@{version}"),
                bad.hardware.clone(),
                lifted.into(),
                rollout,
                bad.why.clone(),
            ]
        });
        table(["release", "hardware", "state", "rollout", "why"], rows)
    })
}

pub(super) async fn allow(
    release: &ReleaseName,
    hardware: &HardwareClass,
    reason: String,
    context: &Context,
) -> Result<(), Failure> {
    let body = KnownBadLift {
        model: release.model.to_string(),
        version: release.version.to_string(),
        class: hardware.to_string(),
        reason,
    };
    let lifted: KnownBadView = context.client().post("/v1/known-bad/lift", &body).await?;
    context.output.data(&lifted, || {
        format!("{}@{} may be offered to {hardware} again", release.model, release.version)
    })
}
