//! The audit log of a real fleet: who did what is in it, a killed controller loses nothing of it,
//! and whoever changes a line is found by the command line alone.

mod verbs;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec};
use serde::Deserialize;

const WAIT: Duration = Duration::from_secs(60);
/// Exit code of `audit verify` for a log that was changed.
const TRUST: i32 = 7;

#[derive(Debug, Deserialize)]
struct Entry {
    who: String,
    what: String,
    key: Option<String>,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    ok: bool,
    lines: u64,
    head: String,
}

#[tokio::test]
async fn what_was_done_is_on_record_and_the_record_holds() {
    recorded().await.unwrap();
}

async fn recorded() -> Result<()> {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", "--probation 1s --answers 10", WAIT).await?;
    let cli = fleet.controller.cli.clone();
    cli.run("device add 'Cam'").await?; // Refused before it is asked.
    cli.run("rollout abort 99").await?; // Refused by the controller, and on record.
    let entries: Vec<Entry> = cli.json("audit list --last 1000").await?;
    let find = |what: &str, says: &str| {
        let found = entries.iter().find(|e| e.what == what && e.text.contains(says));
        found.with_context(|| format!("no {what} with {says:?} in {entries:#?}"))
    };
    ensure!(find("release.publish", "published digits v1")?.key.is_some());
    ensure!(find("order", "to cam-1")?.key.is_some() && find("order", "")?.who == "planner");
    find("rollout.start", "")?;
    find("rollout.state", "")?;
    ensure!(find("command", "/v1/rollouts/99")?.text.contains("404"));
    let orders: Vec<Entry> = cli.json("audit list --what order --device cam-1").await?;
    ensure!(!orders.is_empty() && orders.iter().all(|e| e.what == "order"), "{orders:?}");
    // SIGKILL loses nothing, and the next start finds the log whole.
    let before: Verdict = cli.json("audit verify").await?;
    ensure!(before.ok && before.lines >= entries.len() as u64, "{before:?}");
    fleet.controller.kill()?;
    let stopped: Verdict = cli.json("audit verify").await?;
    ensure!(stopped.ok, "without a daemon: {stopped:?}");
    fleet.controller.start().await?;
    let after: Verdict = cli.json(&format!("audit verify --head {}", before.head)).await?;
    ensure!(after.ok && after.lines >= before.lines, "{after:?}");
    // One word of one line.
    let path = log_file(&fleet)?;
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, text.replacen("published digits", "published digitz", 1))?;
    let done = cli.run("audit verify").await?.expect_code(TRUST)?;
    ensure!(done.stderr.contains("was changed"), "{}", done.stderr);
    // The last line gone.
    let shorter = text.trim_end().rsplit_once('\n').context("one line")?.0;
    std::fs::write(&path, format!("{shorter}\n"))?;
    let done = cli.run("audit verify").await?.expect_code(TRUST)?;
    ensure!(done.stderr.contains("missing") || done.stderr.contains("number"), "{}", done.stderr);
    Ok(())
}

fn log_file(fleet: &Fleet) -> Result<PathBuf> {
    let dir = fleet.controller.data().join("audit");
    let files = std::fs::read_dir(&dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max().context("no log")
}
