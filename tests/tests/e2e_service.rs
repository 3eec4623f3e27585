//! The agent under a service manager, as a real process: when it says that it is ready, that it
//! lives, that it ends; and that it does not say so when it does not.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::infer::Application;
use fleetway_tests::harness::{BrokerKind, Digits, Fleet, FleetSpec, wait};

/// Longest wait for anything here, on a loaded machine.
const WAIT: Duration = Duration::from_secs(60);
/// The watchdog's time in these tests, and what systemd would pass for it.
const WATCHDOG: Duration = Duration::from_millis(1_500);

/// The service manager's ear.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
    pinged: Option<Instant>,
    pings: usize,
}

impl Manager {
    fn on(socket: UnixDatagram) -> Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, heard: Vec::new(), pinged: None, pings: 0 })
    }

    /// Takes what was said; every line is one assignment.
    #[expect(clippy::disallowed_methods, reason = "a watchdog measures the time of the wall")]
    fn listen(&mut self) -> &[String] {
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            for line in String::from_utf8_lossy(&bytes[..length]).lines() {
                if line == "WATCHDOG=1" {
                    self.pinged = Some(Instant::now());
                    self.pings += 1;
                } else {
                    self.heard.push(line.to_owned());
                }
            }
        }
        &self.heard
    }

    async fn hears(&mut self, line: &str) -> Result<()> {
        wait::until(&format!("{line:?} to be said"), WAIT, async || {
            let heard = self.listen();
            ensure!(heard.iter().any(|said| said.contains(line)), "said so far: {heard:?}");
            Ok(())
        })
        .await
    }

    /// How long ago the last ping was.
    fn silence(&mut self) -> Duration {
        self.listen();
        self.pinged.map_or(Duration::ZERO, |at| at.elapsed())
    }
}

#[tokio::test]
async fn ready_is_said_when_what_is_confirmed_answers_and_stopping_when_it_ends() {
    readiness().await.unwrap();
}

async fn readiness() -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 0)).await?;
    fleet.add_device("cam-1", "").await?;
    let path = fleet.dir().join("notify");
    let mut manager = Manager::on(UnixDatagram::bind(&path)?)?;
    fleet.agents[0].set_env("NOTIFY_SOCKET", path.to_string_lossy());
    // Known to have no model: ready, and a status for people.
    fleet.agents[0].spawn()?;
    manager.hears("READY=1").await?;
    manager.hears("STATUS=no model yet").await?;
    fleet.all_online(WAIT).await?;
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", "--probation 1s --answers 20", WAIT).await?;
    manager.hears("STATUS=serves digits v1; connected").await?;
    fleet.feeders.clear();
    stops(&mut fleet, &mut manager).await?;

    // With one: whoever waits for READY gets an answer at once, from the sockets that are open.
    manager.heard.clear();
    fleet.agents[0].spawn()?;
    manager.hears("READY=1").await?;
    let digits = Digits::heldout();
    let mut application = Application::new(fleet.agents[0].endpoint());
    let answer = application.ask(digits.body(0)).await?;
    ensure!(answer.version == "v1", "{answer:?}");
    let ready = manager.listen().iter().filter(|said| *said == "READY=1").count();
    ensure!(ready == 1, "{:?}", manager.heard);
    ensure!(manager.pings == 0, "nobody asked for pings");
    stops(&mut fleet, &mut manager).await
}

async fn stops(fleet: &mut Fleet, manager: &mut Manager) -> Result<()> {
    ensure!(!manager.listen().iter().any(|said| said == "STOPPING=1"), "{:?}", manager.heard);
    fleet.agents[0].stop().await?;
    manager.hears("STOPPING=1").await
}

/// The disk hangs: a pipe lies where a file of the release authority is to be written, and the
/// open of a pipe without a reader does not return. The agent is the shipped one.
#[tokio::test]
async fn a_loop_that_hangs_does_not_say_that_it_lives() {
    hanging().await.unwrap();
}

async fn hanging() -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 0)).await?;
    fleet.add_device("cam-1", "").await?;
    fleet.controller.stop().await?;
    let pipe = fleet.agents[0].data().join("trust/timestamp.json.new");
    mkfifo(&pipe)?;
    let name = format!("fleetway-e2e-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let mut manager = Manager::on(socket)?;
    fleet.agents[0].set_env("NOTIFY_SOCKET", format!("@{name}"));
    fleet.agents[0].set_env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    fleet.agents[0].start().await?;
    manager.hears("READY=1").await?;

    // Without a broker the loops turn all the same.
    let before = manager.pings;
    wait::until("pings", WAIT, async || {
        manager.listen();
        ensure!(manager.pings >= before + 6, "{} pings", manager.pings);
        Ok(())
    })
    .await?;

    // The first timestamp hangs the loop. Everything else lives: the watchdog alone notices.
    fleet.controller.start().await?;
    wait::until("the pings to stop", WAIT, async || {
        let silence = manager.silence();
        ensure!(silence > 2 * WATCHDOG, "the last one was {silence:?} ago");
        Ok(())
    })
    .await?;
    fleet.agents[0].status().await.context("the sockets still answer")?;

    // The disk comes back, and the loop goes on by itself.
    let before = manager.pings;
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe)?;
    std::fs::remove_file(&pipe)?;
    wait::until("pings again", WAIT, async || {
        manager.listen();
        ensure!(manager.pings >= before + 3, "{} pings", manager.pings - before);
        Ok(())
    })
    .await?;
    drop(reader);
    fleet.agents[0].stop().await
}

fn mkfifo(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path.parent().context("its directory")?)?;
    let made = Command::new("mkfifo").arg(path).status()?;
    ensure!(made.success(), "mkfifo {}", path.display());
    Ok(())
}
