//! A real daemon's rollouts, one good and one bad, a kill in between, and then every decision made
//! again from its files; and one byte of them changed, which is found.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec};
use serde_json::Value;

const WAIT: Duration = Duration::from_secs(60);
const JUDGE: &str = "--probation 1s --answers 20";

/// The journal's files, oldest first.
fn files(fleet: &Fleet) -> Result<Vec<PathBuf>> {
    let dir = fleet.controller.data().join("decisions");
    let entries = std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemons_decisions_come_out_the_same_and_a_flipped_byte_is_found() -> Result<()> {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 3)).await?;
    fleet.feed(Duration::from_millis(5));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;
    // The next run of the controller goes on in a file of its own.
    fleet.controller.kill()?;
    fleet.controller.start().await?;
    fleet.all_online(WAIT).await?;
    fleet.controller.release("digits-v4", "v4", "").await?;
    let bad = fleet.controller.rollout("v4", &format!("--canary 1 {JUDGE}")).await?;
    let line = format!("rollout status {} --wait --timeout 60s", bad.id);
    fleet.controller.cli.run(&line).await?.expect_code(3)?;

    let cli = &fleet.controller.cli;
    let found: Value = cli.json("replay").await?;
    let of = |name: &str| found[name].as_u64().unwrap_or_default();
    println!("{found}");
    // Three devices got v1 at once, one got v4; the two ends are decisions as well.
    ensure!(of("orders") == 4 && of("acted") == 4, "{found}");
    ensure!(of("files") == 2 && of("lost") == 0, "{found}");

    let path = files(&fleet)?.remove(0);
    let mut bytes = std::fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    let copy = fleet.dir().join("flipped.log");
    std::fs::write(&copy, &bytes)?;
    let refused = cli.ask(&format!("replay {}", copy.display())).await?.expect_code(7)?;
    ensure!(refused.stderr.contains("is not what was written"), "{}", refused.stderr);
    Ok(())
}
