//! The Debian package, in a Debian with the real dpkg and the real systemd: it installs, joins,
//! runs under its hardened unit, is upgraded, and goes without a trace.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::agent::AgentStatus;
use fleetway_tests::harness::infer::{Application, Endpoint};
use fleetway_tests::harness::{
    BrokerKind, Debian, Digits, Feeder, Fleet, FleetSpec, programs, wait,
};

/// Longest wait for anything here, on a loaded machine.
const WAIT: Duration = Duration::from_secs(90);
/// The agent's own bound for its end, and a loaded machine's.
const STOP_MAX: Duration = Duration::from_secs(20);
/// What `systemd-analyze security` may find exposed at most, in tenths: 20 is where it stops to say
/// OK. The agent talks to a network and keeps files, so it is not zero.
const EXPOSURE_MAX: &str = "20";
/// The unit, as systemctl calls it.
const UNIT: &str = "fleetway-agent";

/// Units are judged without being run, wherever there is a systemd.
#[test]
fn units_are_hardened() {
    let texts = programs::workspace().join("cross/packaging");
    let unit = texts.join("fleetway-agent/fleetway-agent.service");
    let Some(analyze) = programs::system("systemd-analyze") else {
        println!("NOT JUDGED: no systemd-analyze here (`apt-get install systemd`)");
        return;
    };
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let judged = Command::new(&analyze)
        .args(["security", "--offline=yes", "--no-pager", &threshold])
        .arg(&unit)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success(), "too much is exposed:\n{said}");
    // What it does not know it would ignore, and we would believe ourselves fenced in.
    let warned = String::from_utf8_lossy(&judged.stderr);
    assert!(!warned.contains("ignoring"), "{warned}");
}

#[tokio::test]
async fn the_package_installs_joins_runs_upgrades_and_goes() {
    if let Some(why) = Debian::impossible() {
        println!("NOT RUN: {why}");
        return;
    }
    story().await.unwrap();
}

/// Says how far it is, and when.
#[expect(clippy::disallowed_methods, reason = "for the person who waits")]
fn say(since: Instant, what: &str) {
    println!("{:>6.1} s  {what}", Instant::now().duration_since(since).as_secs_f32());
}

/// Makes the package of this version from the programs under test.
fn package(version: &str, out: &Path) -> Result<PathBuf> {
    let binaries = programs::programs().agent.parent().context("programs")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "--offline", "-p", "xtask", "--", "package"]);
    cargo.arg("--binaries").arg(binaries).arg("--out").arg(out).args(["--version", version]);
    let made = cargo.current_dir(programs::workspace()).output().context("cargo")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let printed = String::from_utf8_lossy(&made.stdout);
    let line =
        printed.lines().find(|line| line.contains("fleetway-agent_")).context("no package")?;
    Ok(PathBuf::from(line.split(' ').next().unwrap_or_default()))
}

#[expect(clippy::disallowed_methods, reason = "for the person who waits")]
async fn story() -> Result<()> {
    let since = Instant::now();
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 0)).await?;
    let share = fleet.dir().join("share");
    std::fs::create_dir(&share)?;
    let [old, new] = ["1.0.0", "1.0.1"].map(|version| package(version, &share));
    let [old, new] = [old?, new?]
        .map(|deb| format!("/mnt/{}", deb.file_name().unwrap_or_default().to_string_lossy()));
    say(since, "two packages are made");
    let debian = Debian::boot(fleet.dir()).await?;
    say(since, "the box is up");

    // Installed, enabled, and not running: there is nothing to run yet.
    debian.ok(&format!("dpkg -i {old}")).await?;
    ensure!(
        debian.text(&format!("systemctl is-enabled {UNIT}")).await? == "enabled",
        "not enabled"
    );
    debian.run(&format!("systemctl is-active {UNIT}")).await?.expect_code(3)?;
    ensure!(
        debian
            .ok("man --version >/dev/null 2>&1; zcat -f /usr/share/man/man1/fleetway-agent.1")
            .await?
            .stdout
            .contains("doctor"),
        "the man page"
    );
    debian.ok("dpkg --verify fleetway-agent").await?;

    say(since, "installed");

    // Joined by root; what is the agent's belongs to the agent.
    let join = fleet.controller.enroll("cam-1").await?;
    debian.ok(&format!("fleetway-agent join {join}")).await?;
    let identity = debian.root().join("var/lib/fleetway-agent/identity/device.key");
    let key = std::fs::metadata(&identity)?;
    ensure!(key.permissions().mode() & 0o777 == 0o600 && key.uid() != 0, "{key:?}");
    let config = debian.root().join("etc/fleetway/agent.toml");
    ensure!(std::fs::metadata(&config)?.uid() == 0, "the agent could change its configuration");
    // A drop-in of the owner's, as one would be: telemetry comes faster, for the test.
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, format!("{text}\n[link]\ntelemetry_s = 1\n"))?;

    // Started: systemctl returns when the agent has said that it is ready.
    let started = debian.ok(&format!("systemctl start {UNIT}")).await;
    if let Err(error) = started {
        anyhow::bail!("{error:#}\n{}", journal(&debian).await);
    }
    let show = async |what: &str| debian.text(&format!("systemctl show -P {what} {UNIT}")).await;
    ensure!(show("ActiveState").await? == "active", "{}", journal(&debian).await);
    ensure!(!show("StatusText").await?.is_empty(), "no status");
    say(since, "joined, and ready");
    runs(&fleet, &debian).await?;
    say(since, "a rollout is confirmed");

    // Upgraded: what the owner wrote is kept, and the model serves on.
    let before = std::fs::read(&config)?;
    debian.ok(&format!("dpkg -i {new}")).await?;
    ensure!(std::fs::read(&config)? == before, "an upgrade changed the configuration");
    ensure!(show("ActiveState").await? == "active", "{}", journal(&debian).await);
    let answer = application(&debian).ask(Digits::heldout().body(0)).await?;
    ensure!(answer.version == "v1", "{answer:?}");

    say(since, "upgraded");
    ends(&debian).await?;
    say(since, "gone");
    fleet.controller.stop().await
}

async fn journal(debian: &Debian) -> String {
    let log = debian.run(&format!("journalctl --no-pager -n 40 -u {UNIT}")).await;
    log.map_or_else(|error| error.to_string(), |done| done.stdout)
}

fn socket(debian: &Debian) -> PathBuf {
    debian.root().join("run/fleetway/serve.sock")
}

fn application(debian: &Debian) -> Application {
    Application::new(Endpoint::Unix(socket(debian)))
}

async fn status(debian: &Debian) -> Result<AgentStatus> {
    debian.ok("fleetway-agent status -o json").await?.read()
}

/// A rollout under the unit: its self-test's fences stand, and the journal has its fields.
async fn runs(fleet: &Fleet, debian: &Debian) -> Result<()> {
    wait::until("the agent to be online", WAIT, async || {
        ensure!(status(debian).await?.link.connected, "{}", journal(debian).await);
        Ok(())
    })
    .await?;
    fleet.controller.release("digits-v1", "v1", "").await?;
    let feeder = Feeder::start(Endpoint::Unix(socket(debian)), Duration::from_millis(20), 1);
    fleet.roll_out("v1", "--probation 1s --answers 20", WAIT).await?;
    drop(feeder);
    // The unit's own fences take nothing from those of the self-test.
    let inside = status(debian).await?.sandbox;
    let config = debian.root().join("etc/fleetway/agent.toml");
    let mut outside = Command::new(&programs::programs().agent);
    let outside = outside.args(["doctor", "--config"]).arg(config).output()?;
    let outside = String::from_utf8_lossy(&outside.stdout).into_owned();
    let line = outside.lines().find(|line| line.contains("sandbox")).unwrap_or_default();
    let same = line.contains(&format!(": {}", inside.state));
    ensure!(inside.met && same, "under the unit {inside:?}, without it {line}");

    // Members of the group may ask, nobody else.
    let gid = debian.text("getent group fleetway | cut -d: -f3").await?;
    for name in ["serve.sock", "grpc.sock"] {
        let meta = std::fs::metadata(socket(debian).with_file_name(name))?;
        ensure!(meta.mode() & 0o777 == 0o660 && meta.gid().to_string() == gid, "{name}: {meta:?}");
    }
    let dir = std::fs::metadata(debian.root().join("run/fleetway"))?;
    ensure!(dir.mode() & 0o777 == 0o750 && dir.gid().to_string() == gid, "{dir:?}");

    let log = debian.ok(&format!("journalctl -u {UNIT} -o json FLEETWAY_MODEL=digits")).await?;
    let line = log.stdout.lines().find(|line| line.contains("self-test passed"));
    let entry: serde_json::Value = serde_json::from_str(line.context("no such entry")?)?;
    ensure!(entry["FLEETWAY_VERSION"] == "v1" && entry["PRIORITY"] == "5", "{entry}");

    let log = debian.ok("journalctl -o json FLEETWAY_MODEL=digits FLEETWAY_ROLLOUT=1").await?;
    ensure!(log.stdout.contains("confirmed"), "{}", log.stdout);

    let doctor = debian.run("fleetway-agent doctor").await?;
    ensure!(!doctor.stdout.contains("PROBLEM"), "{}", doctor.stdout);
    ensure!(doctor.stdout.contains("digits: a holds v1"), "{}", doctor.stdout);
    Ok(())
}

/// Stopped in time, removed with everything kept, purged with nothing left.
#[expect(clippy::disallowed_methods, reason = "how long an end takes is measured")]
async fn ends(debian: &Debian) -> Result<()> {
    let since = Instant::now();
    debian.ok(&format!("systemctl stop {UNIT}")).await?;
    ensure!(since.elapsed() < STOP_MAX, "it took {:?}", since.elapsed());
    let result = debian.text(&format!("systemctl show -P Result {UNIT}")).await?;
    ensure!(result == "success", "{result}: {}", journal(debian).await);
    ensure!(!socket(debian).exists(), "its socket is left");

    debian.ok(&format!("systemctl start {UNIT}")).await?;
    debian.ok("dpkg -r fleetway-agent").await?;
    debian.run(&format!("systemctl is-active {UNIT}")).await?.expect_code(3)?;
    for kept in ["etc/fleetway/agent.toml", "var/lib/fleetway-agent/identity/device.key"] {
        ensure!(debian.root().join(kept).exists(), "a removal took {kept}");
    }
    debian.ok("dpkg -P fleetway-agent").await?;
    let left = debian.text("find /etc /usr /var /run -name '*fleetway*'").await?;
    let left: Vec<_> = left.lines().collect();
    ensure!(left.is_empty(), "a purge left {left:?}");
    debian.ok("id fleetway-agent").await.map(drop)
}
