//! A full disk, really full: a small tmpfs under an agent's data, and under a controller's.
//!
//! It is mounted when we may (root), else inside a user namespace of our own. Where neither
//! is allowed the test fails and says so: a promise that was not tested is not kept.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fleetway_tests::harness::process::log_tail;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};

const WAIT: Duration = Duration::from_secs(90);
const JUDGE: &str = "--probation 1s --answers 10";

/// A small disk; unmounted when it is dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    fn mount(at: &Path, kib: u64) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let options = format!("size={kib}k,mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "fleetway-test"]).arg(at);
        let done = mount.output().context("there is no `mount`")?;
        if !done.status.success() {
            bail!(
                "a small disk cannot be mounted here ({}), so a full disk cannot be tested; run \
                 the tests as root with CAP_SYS_ADMIN, or as `unshare --map-root-user --mount \
                 cargo xtask test`",
                String::from_utf8_lossy(&done.stderr).trim()
            );
        }
        Ok(Self { at: at.to_path_buf() })
    }

    /// Fills it but for `spare` bytes (whole pages of 4 KiB).
    fn fill(&self, spare: u64) -> Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.ballast())?;
        while file.write_all(&[7; 4096]).is_ok() {}
        let len = file.metadata()?.len();
        Ok(file.set_len(len - spare)?)
    }

    fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: somebody may still stand in it.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// Not even the order can be stored: it is refused, and taken when there is room.
#[tokio::test]
async fn a_device_without_room_for_an_order_says_so_and_goes_on() {
    device(0).await.unwrap();
}

/// The order fits and the model does not: the download waits, and goes on.
#[tokio::test]
async fn a_device_without_room_for_a_model_says_so_and_goes_on() {
    device(16 * 1024).await.unwrap();
}

async fn device(spare: u64) -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.add_device("cam-1", "").await?;
    let disk = SmallDisk::mount(&fleet.agents[0].data(), 512)?;
    fleet.start_agents().await?;
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;
    disk.fill(spare)?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    let flags = format!("--phase 100% --soak 0s {JUDGE}");
    let rollout = fleet.controller.rollout("v2", &flags).await?.id;
    wait::until("the device to say that its disk is full", WAIT, async || {
        let device = fleet.controller.device("cam-1").await?;
        let waiting = device.digits().and_then(|model| model.waiting.as_ref());
        let full = waiting.or(device.refused.as_ref()).is_some_and(|why| why.code == "DISK_FULL");
        ensure!(full, "{device:?}\n{}", log_tail(&fleet.agents[0].log()));
        let status = fleet.agents[0].status().await?;
        let said = status.problems.iter().any(|text| text.contains("no room on the disk"));
        ensure!(said, "the status at the box does not say it: {:?}", status.problems);
        Ok(())
    })
    .await?;
    // A crash on a full disk: what was confirmed is served all the same.
    fleet.feeders[0].expect_down(true);
    fleet.agents[0].kill()?;
    let answered = fleet.feeders[0].books().answers();
    fleet.agents[0].start().await?;
    wait::until("answers on a full disk", WAIT, async || {
        ensure!(fleet.feeders[0].books().answers() > answered + 5, "none yet");
        Ok(())
    })
    .await?;
    fleet.feeders[0].expect_down(false);
    disk.free()?;
    let ended = fleet.controller.rollout_end(rollout, WAIT).await;
    let ended = ended.with_context(|| log_tail(&fleet.agents[0].log()))?;
    ensure!(ended.succeeded, "{ended:?}");
    fleet.check_no_errors()?;
    fleet.agents[0].stop().await
}

#[tokio::test]
async fn a_controller_with_a_full_disk_refuses_and_loses_nothing() {
    controller().await.unwrap();
}

async fn controller() -> Result<()> {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.controller.cli.ok("device label cam-1 before=yes").await?;
    fleet.controller.stop().await?;
    // Its data moves to a small disk, and the place of the old directory becomes that.
    let data = fleet.controller.data().to_path_buf();
    let aside = data.with_file_name("aside");
    std::fs::rename(&data, &aside)?;
    let disk = SmallDisk::mount(&data, 16 * 1024)?;
    let copied = Command::new("cp").arg("-a").arg(aside.join(".")).arg(&data).status()?;
    ensure!(copied.success(), "cp failed");
    fleet.controller.start().await?;
    disk.fill(0)?;
    // Commands with some weight: a log that was given its room before still has some.
    let weight: Vec<String> = (0..40).map(|key| format!("k{key}={}", "x".repeat(60))).collect();
    let weight = weight.join(" ");
    let mut refused = None;
    for number in 0..400 {
        let line = format!("device label cam-1 at={number} {weight}");
        let done = fleet.controller.cli.run(&line).await?;
        if done.code != 0 {
            refused = Some(done);
            break;
        }
    }
    let done = refused.context("400 commands were acknowledged on a full disk")?;
    let text = &done.stderr;
    ensure!(text.contains("space") || text.contains("disk"), "it does not say why: {text}");
    let device = fleet.controller.device("cam-1").await?;
    let acknowledged = device.labels.clone();
    fleet.controller.kill()?;
    disk.free()?;
    fleet.controller.start().await?;
    let device = fleet.controller.device("cam-1").await?;
    ensure!(device.labels == acknowledged, "{:?}, then {:?}", acknowledged, device.labels);
    ensure!(device.labels.get("before").is_some_and(|v| v == "yes"), "{:?}", device.labels);
    fleet.controller.cli.ok("device label cam-1 after=yes").await?;
    fleet.controller.stop().await
}
