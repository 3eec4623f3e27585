//! Two bad releases: one that its golden vectors give away, and one that only use does.

use anyhow::{Context as _, Result};

use super::acts::canary;
use super::story::Story;
use crate::harness::views::{Rollout, RolloutDevice};

/// v3: altered after its golden vectors were made.
pub(super) async fn altered(story: &mut Story) -> Result<()> {
    story.section("A bad model that the self-test knows");
    story.say("v3's weights were altered after its golden vectors were made.");
    story.operator(&story.import_line("digits-v3", "v3", ""), 7).await?;
    story.check(true, "the import is refused", String::new)?;
    story.say("Somebody insists, with a reason that travels with the release:");
    let reason = "'the demo wants to see the device refuse it'";
    story.release("digits-v3", "v3", &format!("--accept-golden-mismatch {reason}")).await?;
    let flags = "--canary 1 --phase 100% --soak 0s --failures-max 0 --max-unavailable 100%";
    let plan = story.operator(&format!("rollout plan digits@v3 {flags}"), 0).await?;
    let shown =
        plan.stdout.contains("the demo wants to see") || plan.stderr.contains("the demo wants");
    story.check(shown, "the plan shows the reason", || "it does not".into())?;
    let id = story.start_rollout("v3", flags).await?;
    let canary = canary(story, id).await?;
    let rollout = story.wait_rollout(id, 3).await?;
    halted(story, &rollout, &canary, "failed", "GOLDEN")?;
    let at = story.fleet.at(&canary)?;
    let answers = story.fleet.feeders[at].books().score("v3").answers;
    let claim = format!("{canary} refused it by its own self-test, before it answered anybody");
    story.check(answers == 0, &claim, || format!("v3 gave {answers} answers"))?;
    story.note(&canary, "refused v3");
    still_on_v2(story, "v3").await
}

/// v4: passes its self-test honestly, and collapses in use.
pub(super) async fn collapsing(story: &mut Story) -> Result<()> {
    story.section("A bad model that only use gives away");
    story.say("v4 passes its self-test. It was made for images 16 times as bright as those that");
    story.say("the applications send: every digit looks like an empty field to it.");
    story.release("digits-v4", "v4", "").await?;
    let flags = "--canary 1 --phase 100% --soak 0s --failures-max 0 --max-unavailable 100%";
    let id = story.start_rollout("v4", flags).await?;
    let canary = canary(story, id).await?;
    let rollout = story.wait_rollout(id, 3).await?;
    halted(story, &rollout, &canary, "rolled_back", "HEALTH_COLLAPSE")?;
    let at = story.fleet.at(&canary)?;
    let books = story.fleet.feeders[at].books();
    let tried = books.score("v4");
    let claim = format!(
        "{canary} tried it for {} answers ({:.0} % right) and went back to v2 by itself",
        tried.answers,
        tried.percent()
    );
    let back = books.version.as_deref() == Some("v2");
    story.check(tried.answers > 0 && back, &claim, || {
        format!("{} answers of v4; now {:?} answers", tried.answers, books.version)
    })?;
    story.note(&canary, "tried v4 and went back");
    still_on_v2(story, "v4").await?;
    story.check_none_missed("through two bad releases")
}

/// The rollout stopped itself after its canary.
fn halted(
    story: &mut Story,
    rollout: &Rollout,
    canary: &str,
    result: &str,
    code: &str,
) -> Result<()> {
    story.check(rollout.state == "halted", "the rollout halted by itself", || {
        format!("it is {}", rollout.state)
    })?;
    let device = |d: &&RolloutDevice| d.id == canary;
    let device = rollout.devices.iter().find(device).context("the canary is not listed")?;
    let last = device.model.as_ref().and_then(|model| model.last.as_ref());
    let last = last.context("the canary reported no ending")?;
    let reason = last.reason.as_ref().map(|reason| reason.code.as_str());
    let text = last.reason.as_ref().map_or("", |reason| reason.text.as_str());
    let claim = format!("{canary} says why: {code}, {text}");
    story.check(last.result == result && reason == Some(code), &claim, || {
        format!("it says {} {reason:?}", last.result)
    })
}

/// Nobody runs the bad release.
async fn still_on_v2(story: &mut Story, bad: &str) -> Result<()> {
    let devices = story.fleet.controller.devices().await?;
    let elsewhere: Vec<String> = devices
        .iter()
        .filter(|device| device.runs() != Some("v2"))
        .map(|device| format!("{} runs {}", device.id, device.runs().unwrap_or("nothing")))
        .collect();
    let claim = format!("every device runs v2; {bad} reached its canary and nobody else");
    story.check(elsewhere.is_empty(), &claim, || elsewhere.join(", "))
}
