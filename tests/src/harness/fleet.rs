//! A whole fleet in one temporary directory: controller, broker, a bad network, agents,
//! and an application on each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::mosquitto::Mosquitto;
use super::views::Rollout;
use super::{Agent, Controller, Feeder, wait};
use crate::hostile::relay::{Middle, Relay};
use crate::proxy::Proxy;

/// Longer than all agents need to connect on a loaded machine, backoff included.
const CONNECT: Duration = Duration::from_secs(60);

/// Which broker carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// The controller's own.
    Embedded,
    /// Mosquitto, as a process.
    Mosquitto,
    /// Mosquitto without rules, behind somebody who has the broker's certificate.
    Hostile {
        /// Of what is done to the messages.
        seed: u64,
    },
}

/// What a fleet is made of.
#[derive(Clone, Copy, Debug)]
pub struct FleetSpec {
    /// Which broker.
    pub broker: BrokerKind,
    /// Number of devices.
    pub devices: usize,
    /// Bytes per second and direction of each device's line; `None` is unlimited.
    pub bytes_per_s: Option<u64>,
    /// Seconds between two reports of how a model does.
    pub telemetry_s: u64,
    /// Whether the operator's commands are printed.
    pub echo: bool,
    /// Seconds that certificates are good for; `None` is the default.
    pub certificate_life_s: Option<u64>,
}

impl FleetSpec {
    /// `devices` devices on fast lines.
    pub fn new(broker: BrokerKind, devices: usize) -> Self {
        Self {
            broker,
            devices,
            bytes_per_s: None,
            telemetry_s: 1,
            echo: false,
            certificate_life_s: None,
        }
    }
}

/// A running fleet. All of it ends when it is dropped.
pub struct Fleet {
    /// Applications, in the order of the agents; none before [`Fleet::feed`].
    pub feeders: Vec<Feeder>,
    /// Devices.
    pub agents: Vec<Agent>,
    /// The controller.
    pub controller: Controller,
    /// Mosquitto, if it is the broker.
    pub mosquitto: Option<Mosquitto>,
    /// Who stands in front of the broker, if anybody does.
    pub relay: Option<Relay>,
    /// The network between devices and broker.
    pub proxy: Proxy,
    telemetry_s: u64,
    // Last: everything above lives in it.
    dir: TempDir,
}

impl Fleet {
    /// Starts controller and broker, adds the devices, starts their agents, and waits until
    /// all of them are online.
    ///
    /// # Errors
    /// The first part that does not come up.
    pub async fn start(spec: FleetSpec) -> Result<Self> {
        let mut fleet = Self::prepare(spec).await?;
        for at in 1..=spec.devices {
            fleet.add_device(&format!("cam-{at}"), "").await?;
        }
        fleet.start_agents().await?;
        Ok(fleet)
    }

    /// Controller, broker and network, without a device.
    ///
    /// # Errors
    /// The first part that does not come up.
    pub async fn prepare(spec: FleetSpec) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("fleetway-").tempdir().context("tempdir")?;
        let mut mosquitto = match spec.broker {
            BrokerKind::Embedded => None,
            _ => Some(Mosquitto::new(dir.path())?),
        };
        let middle = match spec.broker {
            BrokerKind::Hostile { .. } => Some(Middle::bind().await?),
            _ => None,
        };
        let external = middle.as_ref().map(Middle::addr);
        let external = external.or(mosquitto.as_ref().map(Mosquitto::addr));
        let mut controller = Controller::init(dir.path(), external, spec.echo).await?;
        if let Some(mosquitto) = &mut mosquitto {
            match middle {
                None => mosquitto.configure(&controller).await?,
                Some(_) => mosquitto.configure_open()?,
            }
            mosquitto.start().await?;
        }
        let relay = match (middle, spec.broker, &mosquitto) {
            (Some(middle), BrokerKind::Hostile { seed }, Some(mosquitto)) => {
                Some(middle.open(controller.data(), mosquitto.addr(), seed)?)
            }
            _ => None,
        };
        let proxy = Proxy::start(controller.broker()).await.context("proxy")?;
        proxy.set_rate(spec.bytes_per_s);
        controller.advertise(proxy.addr())?;
        if let Some(life_s) = spec.certificate_life_s {
            controller.configure_enroll(&format!("certificate_life_s = {life_s}"))?;
        }
        controller.start().await?;
        Ok(Self {
            feeders: Vec::new(),
            agents: Vec::new(),
            controller,
            mosquitto,
            relay,
            proxy,
            telemetry_s: spec.telemetry_s,
            dir,
        })
    }

    /// The directory with all of it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves the directory behind when the fleet ends, and says where it is.
    pub fn keep_dir(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_path_buf()
    }

    /// Adds a device; its agent is not started.
    ///
    /// # Errors
    /// The command's.
    pub async fn add_device(&mut self, id: &str, more: &str) -> Result<()> {
        self.controller.cli.ok(format!("device add {id} {more}").trim_end()).await?;
        let dir = self.controller.data().join("devices").join(id);
        self.take_in(id, &dir)
    }

    /// The directory of a device that joins by itself.
    pub fn device_dir(&self, id: &str) -> PathBuf {
        self.dir.path().join("boxes").join(id)
    }

    /// Enrolls a device and has it join; its agent is not started.
    ///
    /// # Errors
    /// The commands'.
    pub async fn join_device(&mut self, id: &str) -> Result<()> {
        let join = self.controller.enroll(id).await?;
        let dir = self.device_dir(id);
        super::agent::join(&join, &dir).await?.expect_code(0)?;
        self.take_in(id, &dir)
    }

    fn take_in(&mut self, id: &str, dir: &Path) -> Result<()> {
        let agent = Agent::new(id, dir);
        let path = agent.config();
        let config = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        // Reports come faster than the default, so that tests see them.
        let mut config = format!("{config}\n[link]\ntelemetry_s = {}\n", self.telemetry_s);
        // Agents under an emulator have no fences: qemu knows neither seccomp nor landlock.
        if let Ok(require) = std::env::var("FLEETWAY_SANDBOX") {
            config += &format!("[sandbox]\nrequire = \"{require}\"\n");
        }
        std::fs::write(&path, config).context("agent.toml")?;
        self.agents.push(agent);
        Ok(())
    }

    /// Starts all agents and waits until the controller hears them.
    ///
    /// # Errors
    /// The first agent that does not come up.
    pub async fn start_agents(&mut self) -> Result<()> {
        for agent in &mut self.agents {
            agent.spawn()?;
        }
        self.all_online(CONNECT).await
    }

    /// Waits until every agent is heard.
    ///
    /// # Errors
    /// Names those that are not.
    pub async fn all_online(&mut self, within: Duration) -> Result<()> {
        wait::until("all devices to be online", within, async || {
            for agent in &mut self.agents {
                agent.check_running()?;
            }
            let devices = self.controller.devices().await?;
            let missing: Vec<_> =
                devices.iter().filter(|d| !d.online).map(|d| d.id.as_str()).collect();
            ensure!(missing.is_empty(), "offline: {}", missing.join(", "));
            ensure!(devices.len() >= self.agents.len(), "{} known", devices.len());
            Ok(())
        })
        .await
    }

    /// Starts an application on every device, each with an order of images of its own.
    pub fn feed(&mut self, pause: Duration) {
        let feeder =
            |(at, agent): (usize, &Agent)| Feeder::start(agent.endpoint(), pause, at as u64);
        self.feeders = self.agents.iter().enumerate().map(feeder).collect();
    }

    /// Rolls a release out to everybody at once and waits for the end.
    ///
    /// # Errors
    /// If it does not succeed in time.
    pub async fn roll_out(&self, version: &str, more: &str, within: Duration) -> Result<Rollout> {
        let all = format!("--phase 100% --soak 0s --max-unavailable 100% {more}");
        let rollout = self.controller.rollout(version, &all).await?;
        let rollout = self.controller.rollout_end(rollout.id, within).await?;
        ensure!(rollout.succeeded, "{}", super::controller::describe(&rollout));
        Ok(rollout)
    }

    /// The agent of a device.
    ///
    /// # Errors
    /// If there is none.
    pub fn at(&self, id: &str) -> Result<usize> {
        self.agents.iter().position(|a| a.id == id).with_context(|| format!("no agent {id}"))
    }

    /// Fails if an application ever missed an answer that it should have had.
    ///
    /// # Errors
    /// Names the device and the last thing it saw.
    pub fn check_no_errors(&self) -> Result<()> {
        for (agent, feeder) in self.agents.iter().zip(&self.feeders) {
            let books = feeder.books();
            ensure!(
                books.errors == 0,
                "the application on {} missed {} answers of {}, last: {}\n{}",
                agent.id,
                books.errors,
                books.answers(),
                books.last_error.unwrap_or_default(),
                super::process::log_tail(&agent.log()),
            );
        }
        Ok(())
    }
}
