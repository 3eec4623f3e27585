//! `cargo xtask demo --mcu`: a microcontroller in the fleet. The firmware itself runs on an emulated
//! Cortex-M4 on the serial line of a camera, takes a model, takes a better one while its power fails,
//! refuses a bad one, and is brought back by its watchdog from one that hangs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::story::{ROLLOUT_TIME, Story};
use crate::harness::views::{Device, Ending, Model, Telemetry};
use crate::harness::wait;
use crate::mcu::releases::{Flaw, import_line, spoil};
use crate::mcu::{HARDWARE, Mcu, know_class};

/// What the teller says first.
pub(super) const OPENING: &str =
    "Fleetway with a microcontroller: a controller, a camera, and on the camera's serial line a
Cortex-M4 with 16 MB of flash and no network, emulated by QEMU. It runs the firmware itself.
Lines with $ are real commands, run as you see them. Lines with ✓ are checks.";
/// The device, and the one that carries for it.
const ID: &str = "mcu-1";
const VIA: &str = "cam-1";
/// How a release is rolled out to it.
const FLAGS: &str = "--selector kind=mcu --phase 100% --soak 0s --max-unavailable 100% --failures-max 0 --probation 2s --answers 50";
/// A class with less than the board has, for a release that does not fit.
const TINY: &str = "\n[hardware.tiny]\nmodel_bytes = 16384\ngolden_bytes = 16384\narena_bytes = 4096\ninput_values = 64\noutput_values = 10\nwork = 10000000\n";
/// Longest wait for a phase of an update.
const PHASE: Duration = Duration::from_secs(30);

/// Everything, in order; the board is to outlive it.
pub(super) async fn tell(story: &mut Story) -> Result<Mcu> {
    let mcu = joins(story).await?;
    fits(story).await?;
    first_model(story, &mcu).await?;
    power_fails(story, &mcu).await?;
    wrong_answers(story, &mcu).await?;
    hangs(story, &mcu).await?;
    counted(story, &mcu).await?;
    println!(
        "\nDone: {} checks in {:.0} s. Nothing was staged; `cargo xtask demo --mcu --stay` leaves it up.",
        story.checks(),
        story.seconds()
    );
    Ok(mcu)
}

/// The board, its gateway, and the operator who takes it in.
async fn joins(story: &mut Story) -> Result<Mcu> {
    story.fleet.add_device(VIA, "").await?;
    story.fleet.start_agents().await?;
    let mcu = Mcu::plug_in(&mut story.fleet, ID).await?;
    story.say(&format!("The agent of {VIA} carries for it. In its agent.toml:"));
    println!(
        "  │ [[gateway.device]]\n  │ id = \"{ID}\"\n  │ socket = \"unix:…/line\"     # a board has: serial = \"/dev/ttyUSB0\""
    );
    story.operator(&mcu.adopt_line(VIA), 0).await?;
    let device = mcu.heard(&story.fleet).await?;
    story.operator("device list", 0).await?;
    let running = device.digits().and_then(|model| model.running.as_ref());
    story.check(running.is_some(), "it serves its factory model, which nobody ordered", || {
        format!("{device:?}")
    })?;
    Ok(mcu)
}

/// What the board has room for is known before anything is signed.
async fn fits(story: &mut Story) -> Result<()> {
    story.section("What a board has no room for is not signed for it");
    know_class(&story.fleet)?;
    let path = story.fleet.controller.data().join("fleetway.toml");
    let config = std::fs::read_to_string(&path).context("fleetway.toml")?;
    std::fs::write(&path, format!("{config}{TINY}")).context("fleetway.toml")?;
    story.say(&format!("fleetway.toml says what {HARDWARE} has ([hardware.{HARDWARE}]), and a"));
    story.say("smaller class, tiny.");
    let line = import_line("digits-v1", "v0").replace(HARDWARE, "tiny");
    let refused = story.operator(&line, 2).await?;
    let by_how_much = refused.stderr.contains("too many");
    story.check(by_how_much, "refused, and it says by how much", || refused.stderr.clone())
}

/// v1 over the line.
async fn first_model(story: &mut Story, mcu: &Mcu) -> Result<()> {
    story.section("A first model over the serial line");
    story.operator(&import_line("digits-v1", "v1"), 0).await?;
    publish(story, "v1").await?;
    let model: Model = story.fleet.controller.cli.json("model show digits@v1").await?;
    let qnn = model.variants.iter().find(|variant| variant.kind == "qnn").context("no qnn")?;
    let claim = format!("it travels compiled, in {} pieces", qnn.artifact.chunks);
    story.check(qnn.artifact.chunks > 1, &claim, || format!("{:?}", qnn.artifact))?;
    let id = start(story, "v1").await?;
    story.wait_rollout(id, 0).await?;
    ended(story, mcu, id, "v1", "confirmed", None).await
}

/// v2, and the power fails in the middle of it.
async fn power_fails(story: &mut Story, mcu: &Mcu) -> Result<()> {
    story.section("A better model, and the power fails in the middle of it");
    import(story, "digits-v2", "v2").await?;
    publish(story, "v2").await?;
    let id = start(story, "v2").await?;
    wait::until("the download", PHASE, async || {
        let device = story.fleet.controller.device(ID).await?;
        let phase = device.digits().map_or("", |model| model.phase.as_str());
        ensure!(phase == "download", "it is in {phase:?}");
        Ok(())
    })
    .await?;
    mcu.power_cycle()?;
    println!("$ kill -9 <qemu-system-arm>; qemu-system-arm …     (the flash is as it was)");
    story.wait_rollout(id, 0).await?;
    ended(story, mcu, id, "v2", "confirmed", None).await?;
    let text = mcu.text();
    let (starts, answered) = (text.matches(" boot ").count(), text.matches("answer 1:").count());
    let claim = format!("{ID} started {starts} times, and answered with a model {answered} times");
    story.check(starts >= 2 && answered == starts, &claim, || text.clone())
}

/// v3: golden vectors of another model.
async fn wrong_answers(story: &mut Story, mcu: &Mcu) -> Result<()> {
    story.section("A bad model that the self-test knows");
    story.say(
        "v3 is signed with golden vectors of another network, as after a bug of the compiler.",
    );
    import(story, "digits-v2", "v3").await?;
    spoil(&story.fleet.controller, "v3", "v1", Flaw::OtherGolden)?;
    publish(story, "v3").await?;
    let id = start(story, "v3").await?;
    story.wait_rollout(id, 3).await?;
    ended(story, mcu, id, "v2", "failed", Some("GOLDEN")).await
}

/// v4: seconds for an answer that may take one.
async fn hangs(story: &mut Story, mcu: &Mcu) -> Result<()> {
    story.section("A model that hangs");
    story
        .say("v4 is right in its self-test, which may take its time. An answer may take a second;");
    story.say("after that the watchdog starts the board again. There is no second thread to ask.");
    import(story, "digits-v2", "v4").await?;
    spoil(&story.fleet.controller, "v4", "v2", Flaw::Slow)?;
    publish(story, "v4").await?;
    let id = start(story, "v4").await?;
    story.wait_rollout(id, 3).await?;
    ended(story, mcu, id, "v2", "rolled_back", Some("INTERRUPTED")).await?;
    let text = mcu.text();
    let starts: Vec<&str> = text.lines().filter(|line| line.contains(" boot ")).collect();
    starts.iter().for_each(|line| println!("  │ {line}"));
    let hung = starts.iter().filter(|line| line.contains("after a hang")).count();
    let claim = format!("the board says so itself: {hung} times after a hang");
    story.check(hung >= 3, &claim, || text.clone())
}

/// What the board answered and counted is known to the operator.
async fn counted(story: &mut Story, mcu: &Mcu) -> Result<()> {
    story.section("What it counted");
    let counted = wait::until("its counters", ROLLOUT_TIME, async || {
        let device = story.fleet.controller.device(ID).await?;
        let counted = device.digits().and_then(|model| model.telemetry.clone());
        counted.filter(|counted| counted.requests > 0).context("nothing was reported")
    });
    let counted: Telemetry = counted.await?;
    story.operator(&format!("device show {}", mcu.id), 0).await?;
    let classes: u32 = counted.classes.iter().sum();
    let claim = format!(
        "{} answers, {} errors, each counted under its class; 95 % within {:.1} ms",
        counted.requests,
        counted.errors,
        counted.p95_us.unwrap_or(0) as f64 / 1000.0
    );
    let holds = counted.errors == 0 && u64::from(classes) == counted.requests;
    story.check(holds, &claim, || format!("{counted:?}"))
}

async fn import(story: &Story, model: &str, version: &str) -> Result<()> {
    story.fleet.controller.cli.ok(&import_line(model, version)).await.map(drop)
}

async fn publish(story: &Story, version: &str) -> Result<()> {
    story.fleet.controller.cli.ok(&format!("model sign digits@{version}")).await?;
    story.fleet.controller.cli.ok(&format!("model publish digits@{version}")).await.map(drop)
}

async fn start(story: &Story, version: &str) -> Result<u64> {
    let before = story.newest_rollout().await?;
    story.operator(&format!("rollout start digits@{version} {FLAGS}"), 0).await?;
    let id = story.newest_rollout().await?;
    id.filter(|_| id != before).context("a rollout was started and none is listed")
}

/// The board says how a rollout ended, and what it serves now.
async fn ended(
    story: &mut Story,
    mcu: &Mcu,
    id: u64,
    runs: &str,
    result: &str,
    code: Option<&str>,
) -> Result<()> {
    let device: Device = wait::until("the board to say how it ended", PHASE, async || {
        let device = story.fleet.controller.device(ID).await?;
        let last = device.digits().and_then(|model| model.last.as_ref());
        ensure!(last.is_some_and(|last| last.rollout == id), "{device:?}\n{}", mcu.text());
        Ok(device)
    })
    .await?;
    let last: &Ending = device.digits().and_then(|m| m.last.as_ref()).context("no ending")?;
    let reason = last.reason.as_ref().map(|reason| (reason.code.as_str(), reason.text.as_str()));
    let why = reason.map_or(String::new(), |(code, text)| format!(", {code}: {text}"));
    let claim = format!("{ID} says: {}{why}", last.result);
    let holds = last.result == result && reason.map(|(code, _)| code) == code;
    story.check(holds, &claim, || format!("wanted {result} {code:?}"))?;
    let claim = format!("it serves {runs}");
    story.check(device.runs() == Some(runs), &claim, || format!("{device:?}"))
}

/// How to go on playing.
pub(super) async fn stay(story: &Story, mcu: &Mcu) -> Result<()> {
    let (data, agent) = (story.fleet.controller.data(), story.fleet.agents[0].config());
    println!("\nThe fleet stays up. In another terminal:\n");
    println!("  export FLEETWAY_DATA={}", data.display());
    println!("  fleetway device show {}", mcu.id);
    println!("  fleetway rollout start digits@v1 {FLAGS}");
    println!("  fleetway-agent status --config {}", agent.display());
    println!("\nCtrl-C here stops everything and cleans up.");
    std::future::pending().await
}
