//! From the controller to a microcontroller and back: controller, broker, an agent as gateway, a line, and
//! the firmware itself on an emulated Cortex-M4, whose power fails at moments that a seed decides, all the
//! way through.
//!
//! It takes v1 and v2, refuses v3 by its golden vectors, is brought back from v4 by its watchdog, and what
//! it counted arrives. `FLEETWAY_SEED` repeats the moments, as far as the machine's load lets it.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::together;
use fleetway_tests::harness::views::Device;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use fleetway_tests::mcu::releases::{Flaw, import_line, spoil};
use fleetway_tests::mcu::{Mcu, know_class};
use tokio::time::Instant;

/// Longest wait for a rollout: outages included, on a loaded machine.
const WAIT: Duration = Duration::from_secs(150);
const EVERY_MCU: &str = "--selector kind=mcu --phase 100% --soak 0s --max-unavailable 100% --failures-max 0 --probation 1s --answers 20";

#[tokio::test(flavor = "multi_thread")]
async fn a_board_is_updated_while_its_power_fails() {
    let seed = together::seed("e2e_mcu");
    story(seed).await.unwrap();
}

struct Story {
    fleet: Fleet,
    mcu: Mcu,
    outages: u32,
    seed: u64,
}

async fn story(seed: u64) -> Result<()> {
    let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    know_class(&fleet)?;
    let mcu = Mcu::plug_in(&mut fleet, "mcu-1").await?;
    fleet.controller.cli.ok(&mcu.adopt_line("cam-1")).await?;
    let device = mcu.heard(&fleet).await?;
    ensure!(device.digits().unwrap().running.is_some(), "no factory model: {device:?}");
    let mut story = Story { fleet, mcu, outages: 0, seed };
    let told = story.told().await;
    told.with_context(|| format!("seed {seed}; the board says:\n{}", story.mcu.text()))
}

impl Story {
    async fn told(&mut self) -> Result<()> {
        self.import("digits-v1", "v1").await?;
        self.update("v1").await?;
        self.import("digits-v2", "v2").await?;
        self.update("v2").await?;
        // What its golden vectors do not belong to never runs.
        self.import("digits-v2", "v3").await?;
        spoil(&self.fleet.controller, "v3", "v1", Flaw::OtherGolden)?;
        self.refused("v3", "failed", "GOLDEN", u32::MAX).await?;
        // What passes its self-test and does not come back in time is ended by the watchdog.
        self.import("digits-v2", "v4").await?;
        spoil(&self.fleet.controller, "v4", "v2", Flaw::Slow)?;
        // (Three cuts in a self-test would be its fault, too, and this one takes seconds.)
        self.refused("v4", "rolled_back", "INTERRUPTED", 2).await?;
        self.counted().await?;
        ensure!(self.outages > 0, "the power never failed");
        println!("{} outages", self.outages);
        Ok(())
    }

    async fn import(&self, model: &str, version: &str) -> Result<()> {
        self.fleet.controller.cli.ok(&import_line(model, version)).await.map(drop)
    }

    /// Signs and publishes a draft, and rolls it out while the power fails.
    async fn roll_out(&mut self, version: &str, outages_max: u32) -> Result<Device> {
        let controller = &self.fleet.controller;
        controller.cli.ok(&format!("model sign digits@{version}")).await?;
        controller.cli.ok(&format!("model publish digits@{version}")).await?;
        let (began, seed) = (Instant::now(), self.seed + u64::from(self.outages));
        let outages = self.mcu.outages(seed, outages_max);
        let rollout = controller.rollout(version, EVERY_MCU).await?;
        let ended = controller.rollout_end(rollout.id, WAIT).await;
        let count = outages.count();
        self.outages += count;
        drop(outages);
        let (ended, took) = (ended?, began.elapsed());
        println!("{version}: {} after {took:?}, the power failed {count} times", ended.state);
        self.controller_heard(rollout.id).await
    }

    /// The device, once it has reported how this rollout ended.
    async fn controller_heard(&self, rollout: u64) -> Result<Device> {
        wait::until("the board to say how it ended", WAIT, async || {
            let device = self.fleet.controller.device(&self.mcu.id).await?;
            let last = device.digits().and_then(|model| model.last.as_ref());
            ensure!(device.online && last.is_some_and(|l| l.rollout == rollout), "{device:?}");
            Ok(device)
        })
        .await
    }

    async fn update(&mut self, version: &str) -> Result<()> {
        let device = self.roll_out(version, u32::MAX).await?;
        let last = device.digits().and_then(|model| model.last.clone()).unwrap();
        ensure!(last.result == "confirmed" && device.runs() == Some(version), "{device:?}");
        Ok(())
    }

    /// A release that ends so, for this reason; what ran before serves.
    async fn refused(
        &mut self,
        version: &str,
        result: &str,
        code: &str,
        outages_max: u32,
    ) -> Result<()> {
        let device = self.roll_out(version, outages_max).await?;
        let last = device.digits().and_then(|model| model.last.clone()).unwrap();
        let reason = last.reason.as_ref().map(|reason| reason.code.as_str());
        ensure!(last.result == result && reason == Some(code), "{last:?}");
        ensure!(device.runs() == Some("v2"), "{device:?}");
        Ok(())
    }

    /// What the board answered is counted at the controller: of which class, how fast.
    async fn counted(&self) -> Result<()> {
        wait::until("what the board counted", WAIT, async || {
            let device = self.fleet.controller.device(&self.mcu.id).await?;
            let counted = device.digits().and_then(|model| model.telemetry.clone());
            let counted = counted.context("nothing was reported")?;
            let classes: u32 = counted.classes.iter().sum();
            ensure!(counted.requests > 20 && counted.errors == 0, "{counted:?}");
            ensure!(u64::from(classes) == counted.requests, "{counted:?}");
            // The sensor sees different digits.
            ensure!(counted.classes.iter().filter(|n| **n > 0).count() > 5, "{counted:?}");
            ensure!(counted.p95_us.is_some_and(|us| us > 0), "{counted:?}");
            println!("{} answers, p95 {:?} us", counted.requests, counted.p95_us);
            Ok(())
        })
        .await
    }
}
