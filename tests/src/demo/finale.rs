//! The table at the end, and how to go on playing.

use anyhow::{Context as _, Result};

use super::acts::settled;
use super::story::{DEVICES, Story};
use crate::harness::{Digits, programs};

/// What every device runs in the end.
const RUNS: &str = "v2.1";

/// Everything about everybody, and whether it is as it must be.
pub(super) async fn table(story: &mut Story) -> Result<()> {
    story.section("Where everybody is");
    settled(story, RUNS, 800).await?;
    story.operator("rollout list", 0).await?;
    let devices = story.fleet.controller.devices().await?;
    println!("\n  device  runs   accuracy  answers  missed  what happened to it");
    let mut wrong = Vec::new();
    for at in 0..story.fleet.agents.len() {
        let id = story.fleet.agents[at].id.clone();
        let books = story.fleet.feeders[at].books();
        let device = devices.iter().find(|d| d.id == id).context("a device is not listed")?;
        let runs = device.runs().unwrap_or("nothing");
        let accuracy = books.score(RUNS).percent();
        println!(
            "  {id:<7} {runs:<6} {accuracy:>6.1} %  {:>7}  {:>6}  {}",
            books.answers(),
            books.errors,
            story.notes.get(&id).map(|notes| notes.join("; ")).unwrap_or_default()
        );
        let itself = story.fleet.agents[at].status().await?;
        let loaded = itself.models.iter().find_map(|model| model.running.as_ref());
        let loaded = loaded.map_or("nothing", |running| running.version.as_str());
        let last = device.digits().and_then(|model| model.last.as_ref());
        let ended = last.map_or("nothing", |last| last.result.as_str());
        let facts = [
            (device.online, "is offline".to_owned()),
            (runs == RUNS, format!("runs {runs} as the controller heard")),
            (loaded == RUNS, format!("runs {loaded} as it says itself")),
            (ended == "confirmed", format!("ended with {ended}")),
            (books.version.as_deref() == Some(RUNS), format!("answers with {:?}", books.version)),
            (books.errors == 0, format!("missed {} answers", books.errors)),
            (accuracy > 94.0, format!("is right in {accuracy:.1} % only")),
        ];
        let faults = facts.into_iter().filter(|(holds, _)| !holds);
        wrong.extend(faults.map(|(_, fault)| format!("{id} {fault}")));
    }
    println!();
    let claim = format!("all {DEVICES} devices are where they must be");
    story.check(wrong.is_empty(), &claim, || wrong.join(", "))?;
    println!(
        "\nDone: {} checks in {:.0} s. Nothing was staged; `cargo xtask demo --stay` leaves it up.",
        story.checks(),
        story.seconds()
    );
    Ok(())
}

/// Leaves the fleet up until Ctrl-C.
pub(super) async fn stay(story: &mut Story) -> Result<()> {
    let dir = story.fleet.dir();
    let image = dir.join("seven.json");
    let digits = Digits::heldout();
    let seven = (0..digits.len()).find(|at| digits.label(*at) == 7).context("no seven")?;
    std::fs::write(&image, digits.body(seven)).context("seven.json")?;
    let fleetway = &programs::programs().fleetway;
    let bin = fleetway.parent().context("no directory")?.display();
    let socket = story.fleet.agents[0].data().join("serve.sock");
    println!("\nThe fleet stays up. In another terminal:\n");
    println!("  export FLEETWAY_DATA={} PATH={bin}:$PATH", story.fleet.controller.data().display());
    println!("  fleetway status");
    println!("  fleetway device show cam-1");
    println!("  fleetway rollout plan digits@v1");
    println!("  fleetway-agent status --config {}", story.fleet.agents[0].config().display());
    println!(
        "  curl --unix-socket {} --json @{} http://localhost/v2/models/digits/infer",
        socket.display(),
        image.display()
    );
    println!("\nCtrl-C here stops everything and cleans up.");
    std::future::pending().await
}
