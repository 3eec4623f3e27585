//! The good part: a fleet comes up, takes a model, and takes a better one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::story::{
    ASK_PAUSE, CHUNK_BYTES, DEVICES, LINE_BYTES_PER_S, PROBATION, ROLLOUT_TIME, Story,
};
use super::troubles;
use crate::harness::views::{Model, RolloutDevice};
use crate::harness::wait;

/// What the teller says first.
pub(super) fn opening() -> String {
    format!(
        "Fleetway on one laptop: one controller, {DEVICES} devices, a slow network.\n\
         Lines with $ are real commands, run as you see them. Lines with ✓ are checks."
    )
}

/// Controller, devices, applications.
pub(super) async fn fleet(story: &mut Story) -> Result<()> {
    for at in 1..=DEVICES {
        let line = if at % 2 == 0 { "b" } else { "a" };
        story.fleet.add_device(&format!("cam-{at}"), &format!("--label line={line}")).await?;
    }
    story.fleet.start_agents().await?;
    story.operator("device list", 0).await?;
    story.check(true, &format!("{DEVICES} agents run as processes and are online"), String::new)?;
    story.fleet.feed(ASK_PAUSE);
    let kbps = LINE_BYTES_PER_S / 1000;
    story.say(&format!("Each line carries {kbps} kB/s each way, through a proxy that can be cut."));
    story.say("On every device an application asks some 20 times a second what digit an image");
    story.say("shows. It knows the right answer, and counts every question that goes unanswered.");
    Ok(())
}

/// v1 for everybody.
pub(super) async fn first_model(story: &mut Story) -> Result<()> {
    story.section("A first model for everybody");
    story.release("digits-v1", "v1", "").await?;
    let model: Model = story.fleet.controller.cli.json("model show digits@v1").await?;
    let artifact = model.variants.first().context("v1 has no variant")?.artifact.clone();
    let claim = format!("the model travels in {} pieces of {CHUNK_BYTES} bytes", artifact.chunks);
    story.check(artifact.chunks >= 16, &claim, || format!("{artifact:?}"))?;
    let least_s = artifact.bytes as f64 / LINE_BYTES_PER_S as f64;
    let claim = format!("on these lines that takes at least {least_s:.1} s");
    story.check(least_s >= 2.0, &claim, || "the lines are too fast".into())?;
    story.say(&format!("A device keeps a release after its probation: {PROBATION}."));
    let id = story.start_rollout("v1", "--phase 100% --soak 0s --max-unavailable 100%").await?;
    let rollout = story.wait_rollout(id, 0).await?;
    let confirmed = rollout.counts.confirmed;
    story.check(confirmed == DEVICES, "all devices confirmed v1", || {
        format!("{confirmed} of {DEVICES} did")
    })?;
    let accuracy = settled(story, "v1", 600).await?;
    let claim = format!("v1 is right in {accuracy:.1} % of its answers");
    story.check((82.0..95.0).contains(&accuracy), &claim, || "expected about 88 %".into())
}

/// v2: a canary, then all; one agent is killed on the way.
pub(super) async fn better_model(story: &mut Story) -> Result<()> {
    story.section("A better model: one canary first, then all");
    story.release("digits-v2", "v2", "").await?;
    let flags = "--canary 1 --phase 100% --soak 3s --max-unavailable 100%";
    let id = story.start_rollout("v2", flags).await?;
    let canary = canary(story, id).await?;
    story.say(&format!("{canary} is the canary; the others stay on v1 until it confirmed."));
    let what = format!("{canary} to confirm v2");
    wait::until(&what, ROLLOUT_TIME, async || {
        let rollout = story.fleet.controller.rollout_status(id).await?;
        let state = rollout.devices.iter().find(|d| d.id == canary).map(|d| d.state.clone());
        ensure!(state.as_deref() == Some("confirmed"), "it is {state:?}");
        let early = rollout.devices.iter().filter(|d| d.id != canary && d.state == "confirmed");
        ensure!(early.count() == 0, "others confirmed before the canary's soak was over");
        Ok(())
    })
    .await?;
    let at = story.fleet.at(&canary)?;
    let (new, old) = (story.fleet.feeders[at].books().score("v2"), story.score("v1"));
    let claim = format!(
        "accuracy rises: {:.1} % with v2 on the canary ({} answers), {:.1} % with v1",
        new.percent(),
        new.answers,
        old.percent()
    );
    story.check(new.percent() > old.percent() + 3.0, &claim, || "no better than v1".into())?;
    story.note(&canary, "canary of v2");

    let victim = troubles::kill_in_download(story, id, &canary).await?;
    let rollout = story.wait_rollout(id, 0).await?;
    let confirmed = rollout.counts.confirmed;
    let claim = format!("all devices confirmed v2, {victim} too");
    story.check(confirmed == DEVICES, &claim, || format!("{confirmed} of {DEVICES} did"))?;
    let accuracy = settled(story, "v2", 600).await?;
    let claim = format!(
        "v2 is right in {accuracy:.1} % of its answers; v1 was in {:.1} %",
        story.score("v1").percent()
    );
    story.check(accuracy > 96.0, &claim, || "expected about 99 %".into())?;
    story.check_none_missed("through both updates")
}

/// The device of the first phase.
pub(super) async fn canary(story: &Story, id: u64) -> Result<String> {
    wait::until("a canary", Duration::from_secs(10), async || {
        let rollout = story.fleet.controller.rollout_status(id).await?;
        let first = |d: &&RolloutDevice| d.rollout_phase == Some(1);
        let first: Vec<_> = rollout.devices.iter().filter(first).collect();
        ensure!(first.len() == 1, "{} devices in the first phase", first.len());
        Ok(first[0].id.clone())
    })
    .await
}

/// Accuracy of a version once the whole fleet gave that many answers with it.
pub(super) async fn settled(story: &Story, version: &str, answers: u64) -> Result<f64> {
    let what = format!("{answers} answers of {version}");
    wait::until(&what, Duration::from_secs(20), async || {
        let score = story.score(version);
        ensure!(score.answers >= answers, "{} so far", score.answers);
        Ok(score.percent())
    })
    .await
}
