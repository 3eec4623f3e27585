//! The web page in a real browser, over a real controller with real devices: every view, light and
//! dark, wide and narrow; live updates, buttons, keys, the content policy, and axe-core's judgement.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::browser;
use fleetway_tests::harness::views::Rollout;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use serde_json::json;

/// Longest wait for a rollout of this small fleet.
const WAIT: Duration = Duration::from_secs(60);
/// How often applications ask.
const ASK: Duration = Duration::from_millis(5);
const JUDGE: &str = "--probation 1s --answers 20";
/// What an importer may say, and no browser may run.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";
/// The program's own bound; what was measured is far below.
const VIEW_MS_MAX: u64 = 3_000;

/// Three devices on v1, a bad v4 that stopped itself at its canary, and v2 watched at its canary.
async fn fleet() -> Result<(Fleet, Rollout, u64)> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 3)).await?;
    fleet.controller.stop().await?;
    fleet.controller.configure_enroll("[api]\nlisten = \"127.0.0.1:0\"")?;
    fleet.controller.start().await?;
    for at in 1..=3 {
        fleet.add_device(&format!("cam-{at}"), "--label site=lab").await?;
    }
    fleet.start_agents().await?;
    fleet.feed(ASK);
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;
    let accepted = format!("--accept-golden-mismatch '{HOSTILE}'");
    fleet.controller.release("digits-v3", "v3", &accepted).await?;
    let flags = format!("--canary 1 --soak 0s --failures-max 0 {JUDGE}");
    let bad = fleet.controller.rollout("v3", &flags).await?;
    let bad = fleet.controller.rollout_end(bad.id, WAIT).await?;
    ensure!(bad.state == "halted", "it is {}", bad.state);
    fleet.controller.release("digits-v2", "v2", "").await?;
    let flags = format!("--canary 1 --phase 67% --soak 1h --selector site=lab {JUDGE}");
    let good = fleet.controller.rollout("v2", &flags).await?;
    let good = wait::until("the canary", WAIT, async || {
        let rollout = fleet.controller.rollout_status(good.id).await?;
        ensure!(rollout.counts.confirmed == 1, "{:?}", rollout.counts);
        Ok(rollout)
    })
    .await;
    Ok((fleet, good?, bad.id))
}

async fn token(fleet: &Fleet, role: &str) -> Result<String> {
    let line = format!("token create {role}-1 --role {role}");
    Ok(fleet.controller.cli.ok(&line).await?.stdout.trim().to_owned())
}

fn base(data: &Path) -> Result<String> {
    let run = std::fs::read(data.join("run.json")).context("run.json")?;
    let run: serde_json::Value = serde_json::from_slice(&run).context("run.json")?;
    run["api_url"].as_str().map(str::to_owned).context("no address in run.json")
}

async fn walked() -> Result<()> {
    let (fleet, rollout, halted) = fleet().await?;
    let waiting = rollout.devices.iter().find(|device| device.state == "waiting");
    let waiting = waiting.context("everybody runs v2")?;
    // Kept when asked for: a person looks at them.
    let out =
        std::env::var_os("FLEETWAY_SHOTS").map_or_else(|| fleet.dir().join("shots"), Into::into);
    std::fs::create_dir_all(&out).context("screenshots")?;
    let instructions = json!({
        "base": base(fleet.controller.data())?,
        "operator": token(&fleet, "operator").await?,
        "viewer": token(&fleet, "viewer").await?,
        "rollout": rollout.id,
        "halted": halted,
        "device": waiting.id,
        "hostile": HOSTILE,
        "out": out,
    });
    let file = fleet.dir().join("walk.json");
    std::fs::write(&file, instructions.to_string()).context("instructions")?;
    let said = tokio::task::spawn_blocking(move || browser::run("web/walk.mjs", &file)).await??;
    println!("{}", said.trim());
    let figures: serde_json::Value = serde_json::from_str(&said).context("figures")?;
    let views = figures["views"].as_object().context("no views")?;
    ensure!(views.len() >= 15, "only {} views were walked", views.len());
    for (view, ms) in views {
        let ms = ms.as_u64().context("no time")?;
        ensure!(ms <= VIEW_MS_MAX, "{view} took {ms} ms");
    }
    // What was started in the browser is there for everybody else.
    let started = figures["started"].as_u64().context("nothing was started")?;
    let state = fleet.controller.rollout_status(started).await?.state;
    ensure!(state == "running", "what was started is {state}");
    fleet.controller.cli.ok(&format!("rollout abort {started}")).await.map(drop)
}

/// The link that the command line prints.
async fn link_signs_in() -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 0)).await?;
    // Nothing to link to.
    let done = fleet.controller.cli.run("web").await?.expect_code(6)?;
    ensure!(done.stderr.contains("[api]"), "{}", done.stderr);
    fleet.controller.stop().await?;
    fleet.controller.configure_enroll("[api]\nlisten = \"127.0.0.1:0\"")?;
    fleet.controller.start().await?;
    let link = fleet.controller.cli.ok("web --role viewer").await?.stdout;
    let (url, token) = link.trim().split_once("/login#").context("no link")?;
    ensure!(url == base(fleet.controller.data())? && !token.is_empty(), "{link}");
    Ok(())
}

#[tokio::test]
async fn a_person_with_a_browser() {
    walked().await.unwrap();
}

#[tokio::test]
async fn the_command_line_prints_a_link() {
    link_signs_in().await.unwrap();
}
