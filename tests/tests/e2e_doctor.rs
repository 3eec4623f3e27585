//! `fleetway-agent doctor` on real devices: all well, and every kind of ill, each with its mend;
//! beside a running agent and alone, and never with a trace on the disk.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::{Agent, BrokerKind, Fleet, FleetSpec};
use serde::Deserialize;

/// Longest wait for anything here, on a loaded machine.
const WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize)]
struct Report {
    worst: String,
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    check: String,
    level: String,
    text: String,
    mend: Option<String>,
}

/// What the doctor says; its exit code is the worst finding's.
async fn doctor(agent: &Agent) -> Result<Report> {
    let done = agent.ask("doctor -o json").await?;
    let report: Report = done.read()?;
    let code = ["ok", "warning", "problem"].iter().position(|level| *level == report.worst);
    ensure!(code.and_then(|code| i32::try_from(code).ok()) == Some(done.code), "{done:?}");
    for finding in &report.findings {
        ensure!((finding.level == "ok") == finding.mend.is_none(), "{finding:?}");
    }
    Ok(report)
}

impl Report {
    /// Fails unless `check` has a finding of this level that says `text`.
    fn says(&self, check: &str, level: &str, text: &str) -> Result<()> {
        let fits = |f: &&Finding| f.check == check && f.level == level && f.text.contains(text);
        let found = self.findings.iter().find(fits);
        found.with_context(|| format!("no {level} about {check}: {text:?} in {self:#?}")).map(drop)
    }

    /// Findings that this machine has whatever the agent does: its kernel, memory, heat.
    fn is_well_but_for_the_machine(&self) -> bool {
        let machine = ["sandbox", "memory", "heat", "room", "data"];
        self.findings.iter().all(|f| f.level == "ok" || machine.contains(&f.check.as_str()))
    }
}

/// Every file below a directory: when it was last changed, and its bytes.
type Tree = BTreeMap<PathBuf, (i64, i64, Vec<u8>)>;

fn tree(dir: &Path) -> Result<Tree> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            let meta = std::fs::symlink_metadata(&path)?;
            let bytes = if meta.is_file() { std::fs::read(&path)? } else { Vec::new() };
            found.insert(path.clone(), (meta.mtime(), meta.mtime_nsec(), bytes));
            if meta.is_dir() {
                dirs.push(path);
            }
        }
    }
    Ok(found)
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong_and_changes_nothing() {
    story().await.unwrap();
}

async fn story() -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 0)).await?;
    fleet.join_device("cam-1").await?;
    fleet.start_agents().await?;
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", "--probation 1s --answers 20", WAIT).await?;

    // Beside a running agent: well, and the link that it holds is not taken from it.
    let connects = connects(&fleet);
    let report = doctor(&fleet.agents[0]).await?;
    ensure!(report.is_well_but_for_the_machine(), "{report:#?}");
    report.says("config", "ok", "device cam-1")?;
    report.says("slots", "ok", "digits: a holds v1")?;
    report.says("broker", "ok", "TCP and TLS")?;
    report.says("mqtt", "ok", "the agent is connected")?;
    report.says("enroll", "ok", "answers")?;
    report.says("socket", "ok", "mode 660")?;
    report.says("agent", "ok", "version")?;
    ensure!(self::connects(&fleet) == connects, "the doctor disturbed the link");
    fleet.feeders.clear();

    // Alone: a session of its own is accepted, and the disk is bit for bit as it was.
    fleet.agents[0].stop().await?;
    let dir = fleet.agents[0].data().parent().context("its directory")?.to_path_buf();
    let before = tree(&dir)?;
    let report = doctor(&fleet.agents[0]).await?;
    report.says("agent", "warning", "does not run")?;
    report.says("mqtt", "ok", "the broker accepts this device")?;
    ensure!(tree(&dir)? == before, "the doctor left something behind");

    ills(&fleet, &dir).await?;
    fleet.controller.stop().await?;
    let report = doctor(&fleet.agents[0]).await?;
    report.says("enroll", "warning", "cannot reach")?;
    ensure!(report.worst == "problem", "{report:#?}");
    // The proxy before the broker still takes connections, and hangs up.
    let broker = report.findings.iter().find(|f| f.check == "broker").context("broker")?;
    ensure!(broker.level == "problem", "{broker:?}");
    Ok(())
}

fn connects(fleet: &Fleet) -> usize {
    let log = std::fs::read_to_string(fleet.agents[0].log()).unwrap_or_default();
    log.matches("connected").count()
}

/// One thing after the other is broken, found, and mended.
async fn ills(fleet: &Fleet, dir: &Path) -> Result<()> {
    let agent = &fleet.agents[0];
    let key = dir.join("device.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644))?;
    doctor(agent).await?.says("key", "problem", "open to others (mode 644)")?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;

    // Bit rot: one bit in the middle of the model.
    let model = agent.data().join("models/digits/slot-a/model");
    let mut bytes = std::fs::read(&model)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&model, &bytes)?;
    doctor(agent).await?.says("slots", "problem", "NOT as signed")?;
    bytes[middle] ^= 1;
    std::fs::write(&model, &bytes)?;

    // A factory model that lacks its end, and one that is whole.
    let (config, born) = (agent.config(), dir.join("born"));
    let good = std::fs::read_to_string(&config)?;
    std::fs::write(&config, format!("factory_dir = \"born\"\n{good}"))?;
    std::fs::create_dir_all(born.join("digits"))?;
    for name in ["release", "keyset", "golden", "model"] {
        std::fs::copy(
            agent.data().join("models/digits/slot-a").join(name),
            born.join("digits").join(name),
        )?;
    }
    doctor(agent).await?.says("slots", "ok", "digits: factory holds v1")?;
    std::fs::write(born.join("digits/model"), &bytes[..middle])?;
    doctor(agent).await?.says("slots", "problem", "is no form of the release beside it")?;
    std::fs::remove_dir_all(born)?;
    std::fs::write(&config, good)?;

    // Half of a slot table is torn: the other half counts.
    let table = agent.data().join("models/digits/table.0");
    let good = std::fs::read(&table)?;
    std::fs::write(&table, &good[..good.len() / 2])?;
    doctor(agent).await?.says("slots", "warning", "1 of 2 copies")?;
    std::fs::write(&table, &good)?;

    // Certificates that do not belong together, and none.
    let cert = dir.join("device.pem");
    let good = std::fs::read(&cert)?;
    std::fs::copy(dir.join("ca.pem"), &cert)?;
    doctor(agent).await?.says("identity", "problem", "cannot be used together")?;
    std::fs::remove_file(&cert)?;
    doctor(agent).await?.says("identity", "problem", "cannot read")?;
    std::fs::write(&cert, good)?;

    let config = agent.config();
    let good = std::fs::read_to_string(&config)?;
    std::fs::write(&config, good.replace("data_dir", "data_dri"))?;
    let report = doctor(agent).await?;
    report.says("config", "problem", "data_dri")?;
    std::fs::write(&config, good.replace("localhost", "nowhere.invalid"))?;
    doctor(agent).await?.says("broker", "problem", "nowhere.invalid")?;
    std::fs::write(&config, good)?;
    ensure!(doctor(agent).await?.worst == "warning", "mended, and only not running");

    // Thrown out of the fleet: the certificate is good, and nobody takes it.
    fleet.controller.cli.ok("device revoke cam-1").await?;
    let report = doctor(agent).await?;
    ensure!(report.worst == "problem", "{report:#?}");
    Ok(())
}
