//! A microcontroller behind a gateway is a device of the fleet, end to end: controller, broker,
//! an agent as gateway, a line, and a device that believes what firmware believes.
//!
//! It is adopted, appears, takes an order that carries the nonce of its boot, fetches every byte
//! and reports under its own key. A gateway that alters what it carries is found at both ends,
//! and a release comes through once it stops. Moved to another gateway, the first may not speak
//! for it any more.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod mcu;
mod tamper;

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;
use fleetway_protocol::ids::Digest;
use fleetway_tests::harness::views::Status;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use mcu::{Mcu, Provision};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use tamper::Tamper;

/// Longest wait for anything, on a loaded machine.
const WAIT: Duration = Duration::from_secs(90);
const ALL: &str = "--selector kind=mcu --phase 100% --soak 0s --max-unavailable 100%";

#[tokio::test(flavor = "multi_thread")]
async fn a_microcontroller_is_a_device_of_the_fleet() {
    through_a_gateway().await.unwrap();
}

/// What `fleetway-agent status` says of devices behind it.
#[derive(Debug, Deserialize)]
struct GatewayStatus {
    gateway: Vec<DownstreamStatus>,
}

#[derive(Debug, Deserialize)]
struct DownstreamStatus {
    device: String,
    up: bool,
    problem: Option<String>,
}

/// What `device show` says beyond what all tests look at.
#[derive(Debug, Deserialize)]
struct Behind {
    via: Option<String>,
}

struct Story {
    fleet: Fleet,
    mcu: Mcu,
    tamper: Tamper,
}

/// mosquitto's plugin has to come to the same rules by other words.
#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_lets_one_gateway_speak_for_it() {
    on_mosquitto().await.unwrap();
}

async fn on_mosquitto() -> Result<()> {
    let mut story = begin(BrokerKind::Mosquitto).await?;
    story.is_found_before_it_is_adopted().await?;
    story.adopt("cam-1").await?;
    story.takes_a_release("v1").await?;
    story.another_gateway().await
}

async fn through_a_gateway() -> Result<()> {
    let mut story = begin(BrokerKind::Embedded).await?;
    story.is_found_before_it_is_adopted().await?;
    story.adopt("cam-1").await?;
    story.takes_a_release("v1").await?;
    story.alters_and_is_found().await?;
    story.another_gateway().await
}

async fn begin(broker: BrokerKind) -> Result<Story> {
    let mut fleet = Fleet::start(FleetSpec::new(broker, 1)).await?;
    let data = fleet.controller.data().to_owned();
    let ca = CertificateDer::from_pem_file(data.join("pki/ca.pem"))?;
    let mcu = Mcu::start(Provision {
        id: "mcu-1".parse()?,
        hardware: "test-board".parse()?,
        key: SigningKey::from_bytes(&[42; 32]),
        ca: Digest::of(&ca),
        keyset: std::fs::read(data.join("trust/metadata/1.keyset"))?,
    })?;
    let tamper = Tamper::start(mcu.addr)?;
    let agent = &mut fleet.agents[0];
    agent.stop().await?;
    let config = std::fs::read_to_string(agent.config())?;
    let line = format!("[[gateway.device]]\nid = \"mcu-1\"\nsocket = \"tcp:{}\"\n", tamper.addr);
    std::fs::write(agent.config(), format!("{config}\n{line}"))?;
    agent.start().await?;
    Ok(Story { fleet, mcu, tamper })
}

impl Story {
    async fn downstream(&self) -> Result<DownstreamStatus> {
        let text = self.fleet.agents[0].cli("status -o json").await?;
        let status: GatewayStatus = serde_json::from_str(&text)?;
        status.gateway.into_iter().next().context("no device behind it")
    }

    /// The line is up, and the broker lets nobody speak for a device that nobody adopted.
    async fn is_found_before_it_is_adopted(&self) -> Result<()> {
        wait::until("the gateway to be refused", WAIT, async || {
            let device = self.downstream().await?;
            ensure!(device.device == "mcu-1" && device.up, "{device:?}");
            let problem = device.problem.context("no problem")?;
            ensure!(problem.contains("fleetway device adopt"), "{problem}");
            Ok(())
        })
        .await?;
        ensure!(self.fleet.controller.device("mcu-1").await.is_err(), "it is in the fleet");
        Ok(())
    }

    async fn adopt(&self, via: &str) -> Result<()> {
        let key = SigningKey::from_bytes(&[42; 32]).verifying_key().to_bytes();
        let key = Digest(key).to_string();
        let line = format!(
            "device adopt mcu-1 --via {via} --hardware test-board --key {key} --label kind=mcu"
        );
        self.fleet.controller.cli.ok(&line).await.map(drop)
    }

    async fn online(&self) -> Result<()> {
        wait::until("the microcontroller to appear", WAIT, async || {
            let device = self.fleet.controller.device("mcu-1").await?;
            ensure!(device.online && device.identity == "enrolled", "{device:?}");
            let behind: Behind = self.fleet.controller.cli.json("device show mcu-1").await?;
            ensure!(behind.via.as_deref() == Some("cam-1"), "{behind:?}");
            Ok(())
        })
        .await
    }

    async fn takes_a_release(&mut self, version: &str) -> Result<()> {
        self.online().await?;
        let controller = &self.fleet.controller;
        controller.release("digits-v1", version, "--chunk-bytes 4096").await?;
        let rollout = controller.rollout(version, ALL).await?;
        let rollout = controller.rollout_end(rollout.id, WAIT).await?;
        ensure!(rollout.succeeded, "{rollout:?}");
        let device = controller.device("mcu-1").await?;
        ensure!(device.runs() == Some(version), "{device:?}");
        let seen = self.mcu.seen();
        ensure!(seen.model_bytes > 1_024 && seen.forged == 0, "{seen:?}");
        // Nobody else was asked, and whoever carries has its own rights still.
        let gateway = controller.device("cam-1").await?;
        ensure!(gateway.online && gateway.models.is_empty(), "{gateway:?}");
        Ok(())
    }

    async fn alters_and_is_found(&self) -> Result<()> {
        let controller = &self.fleet.controller;
        controller.release("digits-v2", "v2", "--chunk-bytes 4096").await?;
        self.tamper.alters.store(true, Ordering::Relaxed);
        let rollout = controller.rollout("v2", ALL).await?;
        wait::until("what was altered to be found at the device", WAIT, async || {
            let seen = self.mcu.seen();
            ensure!(seen.forged > 0, "{seen:?}");
            Ok(())
        })
        .await?;
        let device = controller.device("mcu-1").await?;
        ensure!(device.runs() == Some("v1"), "{device:?}");
        // The line is cut: the board starts, and what it says now is altered on its way up.
        self.reset().await?;
        wait::until("what was altered to be found at the controller", WAIT, async || {
            let status: Status = controller.cli.json("status").await?;
            let refused = status.reports_refused.get("report signature").copied();
            ensure!(refused.unwrap_or(0) > 0, "{:?}", status.reports_refused);
            Ok(())
        })
        .await?;
        ensure!(self.tamper.altered.load(Ordering::Relaxed) > 1, "nothing was altered");
        // It stops, and what is true comes through.
        self.tamper.alters.store(false, Ordering::Relaxed);
        self.reset().await?;
        let rollout = controller.rollout_end(rollout.id, WAIT).await?;
        ensure!(rollout.succeeded, "{rollout:?}");
        ensure!(controller.device("mcu-1").await?.runs() == Some("v2"), "it does not run v2");
        Ok(())
    }

    /// Cuts the line: the board behind it starts anew.
    async fn reset(&self) -> Result<()> {
        let boots = self.mcu.seen().boots;
        self.tamper.cut.store(true, Ordering::Relaxed);
        wait::until("the board to start anew", WAIT, async || {
            ensure!(self.mcu.seen().boots > boots, "{:?}", self.mcu.seen());
            Ok(())
        })
        .await
    }

    async fn another_gateway(&mut self) -> Result<()> {
        self.fleet.add_device("cam-2", "").await?;
        self.adopt("cam-2").await?;
        wait::until("the first gateway to be refused", WAIT, async || {
            let problem = self.downstream().await?.problem.context("no problem")?;
            ensure!(problem.contains("fleetway device adopt"), "{problem}");
            Ok(())
        })
        .await?;
        let generation = self.mcu.seen().generation;
        self.adopt("cam-1").await?;
        // Not only is it not refused: the next boot gets its order.
        self.reset().await?;
        wait::until("the gateway to be let in again", WAIT, async || {
            let (device, seen) = (self.downstream().await?, self.mcu.seen());
            ensure!(device.up && device.problem.is_none(), "{device:?}");
            ensure!(seen.generation > generation, "{seen:?}");
            Ok(())
        })
        .await
    }
}
