//! Rollouts from outside, on the embedded broker and on Mosquitto: a good one arrives, bad
//! ones stop themselves, and a device without a network keeps serving.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::infer::{Application, Endpoint};
use fleetway_tests::harness::views::Rollout;
use fleetway_tests::harness::{BrokerKind, Digits, Fleet, FleetSpec, wait};

/// Longest wait for a rollout of these small fleets, backoff included.
const WAIT: Duration = Duration::from_secs(60);
/// Pause between two questions of an application.
const ASK: Duration = Duration::from_millis(20);
/// The same where a judgement needs many answers.
const FAST: Duration = Duration::from_millis(2);
/// How devices judge a release here.
const JUDGE: &str = "--probation 1s --answers 20";

async fn fleet_on_v1(broker: BrokerKind, devices: usize) -> Result<Fleet> {
    let mut fleet = Fleet::start(FleetSpec::new(broker, devices)).await?;
    fleet.feed(ASK);
    fleet.controller.release("digits-v1", "v1", "").await?;
    fleet.roll_out("v1", JUDGE, WAIT).await?;
    Ok(fleet)
}

async fn check_all_run(fleet: &Fleet, version: &str) -> Result<()> {
    for device in fleet.controller.devices().await? {
        ensure!(device.runs() == Some(version), "{} runs {:?}", device.id, device.runs());
    }
    check_answers(fleet, version).await
}

async fn check_answers(fleet: &Fleet, version: &str) -> Result<()> {
    for (agent, feeder) in fleet.agents.iter().zip(&fleet.feeders) {
        wait::until(&format!("{} to answer with {version}", agent.id), WAIT, async || {
            let answers = feeder.books().version;
            ensure!(answers.as_deref() == Some(version), "it answers with {answers:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Starts a rollout with a canary and expects it to stop itself.
async fn halts(fleet: &Fleet, version: &str, result: &str, reason: &str) -> Result<Rollout> {
    let flags = format!(
        "--canary 1 --phase 100% --soak 0s --max-unavailable 100% --failures-max 0 {JUDGE}"
    );
    let rollout = fleet.controller.rollout(version, &flags).await?;
    let line = format!("rollout status {} --wait --timeout 60s", rollout.id);
    fleet.controller.cli.run(&line).await?.expect_code(3)?;
    let rollout = fleet.controller.rollout_status(rollout.id).await?;
    ensure!(rollout.state == "halted", "it is {}", rollout.state);
    ensure!(rollout.counts.failed == 1, "{:?}", rollout.counts);
    let touched: Vec<_> = rollout.devices.iter().filter(|d| d.state == "failed").collect();
    let last = touched[0].model.as_ref().and_then(|m| m.last.as_ref()).context("no ending")?;
    let said = last.reason.as_ref().map(|reason| reason.code.as_str());
    ensure!(last.result == result && said == Some(reason), "it says {last:?}");
    Ok(rollout)
}

async fn good_release(broker: BrokerKind) -> Result<()> {
    let mut fleet = fleet_on_v1(broker, 4).await?;
    check_all_run(&fleet, "v1").await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    let flags =
        format!("--canary 1 --phase 50% --phase 100% --soak 1s --max-unavailable 100% {JUDGE}");
    let rollout = fleet.controller.rollout("v2", &flags).await?;
    let rollout = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    ensure!(rollout.succeeded && rollout.counts.confirmed == 4, "{rollout:?}");
    check_all_run(&fleet, "v2").await?;
    // The other door: TCP on loopback, at the port that the agent says.
    let status = fleet.agents[0].status().await?;
    // It is int8, so that it runs compiled.
    let running = status.models.first().and_then(|model| model.running.as_ref());
    ensure!(running.is_some_and(|running| running.engine == "qnn"), "{running:?}");
    let tcp = status.serving.tcp.context("no TCP port in the agent's status")?;
    let digits = Digits::heldout();
    let answer = Application::new(Endpoint::Tcp(tcp)).ask(digits.body(0)).await?;
    ensure!(answer.version == "v2", "{answer:?}");
    fleet.check_no_errors()?;
    born_with_it(&mut fleet).await
}

/// A copy of a device's slot is a factory model for a device that has nothing else, not even a network.
async fn born_with_it(fleet: &mut Fleet) -> Result<()> {
    fleet.feeders.clear();
    fleet.proxy.cut();
    let agent = &mut fleet.agents[0];
    agent.stop().await?;
    let dir = agent.config().parent().context("its directory")?.to_owned();
    let (models, born) = (agent.data().join("models"), dir.join("born"));
    let slots = ["slot-a", "slot-b"].map(|slot| models.join("digits").join(slot));
    // v2 came after v1, into the other one.
    std::fs::create_dir(&born)?;
    std::fs::rename(&slots[1], born.join("digits"))?;
    std::fs::remove_dir_all(models)?;
    let config = std::fs::read_to_string(agent.config())?;
    std::fs::write(agent.config(), format!("factory_dir = \"born\"\n{config}"))?;
    agent.start().await?;
    wait::until("it to serve what it was born with", WAIT, async || {
        let status = agent.status().await?;
        let model = status.models.first().context("no model")?;
        let running = model.running.as_ref().context("nothing runs")?;
        ensure!(
            (running.version.as_str(), running.slot.as_str()) == ("v2", "factory"),
            "{model:?}"
        );
        ensure!(running.engine == "qnn", "{model:?}");
        Ok(())
    })
    .await
}

async fn bad_releases(broker: BrokerKind) -> Result<()> {
    let fleet = fleet_on_v1(broker, 3).await?;
    fleet.controller.release("digits-v3", "v3", "--accept-golden-mismatch 'a test'").await?;
    halts(&fleet, "v3", "failed", "GOLDEN").await?;
    fleet.controller.release("digits-v4", "v4", "").await?;
    halts(&fleet, "v4", "rolled_back", "HEALTH_COLLAPSE").await?;
    check_all_run(&fleet, "v1").await?;
    let answered = |version: &str| {
        fleet.feeders.iter().filter(|f| f.books().score(version).answers > 0).count()
    };
    ensure!(answered("v3") == 0, "v3 answered somebody");
    ensure!(answered("v4") == 1, "v4 answered on {} devices", answered("v4"));
    fleet.check_no_errors()
}

async fn no_network(broker: BrokerKind) -> Result<()> {
    let mut fleet = fleet_on_v1(broker, 2).await?;
    fleet.proxy.cut();
    wait::until("the controller to see them offline", WAIT, async || {
        let devices = fleet.controller.devices().await?;
        ensure!(devices.iter().all(|device| !device.online), "somebody is online");
        Ok(())
    })
    .await?;
    // A restart without a broker: what was confirmed answers again.
    fleet.feeders[0].expect_down(true);
    fleet.agents[0].stop().await?;
    fleet.agents[0].start().await?;
    answers_more(&fleet, 0).await?;
    fleet.feeders[0].expect_down(false);
    answers_more(&fleet, 1).await?;
    let status = fleet.agents[0].status().await?;
    ensure!(!status.link.connected, "it says that it is connected");
    let problem = status.problems.iter().find(|text| text.contains("unreachable"));
    ensure!(problem.is_some_and(|text| text.contains("keeps serving")), "{:?}", status.problems);
    fleet.proxy.heal();
    fleet.all_online(WAIT).await?;
    fleet.controller.release("digits-v2", "v2", "").await?;
    fleet.roll_out("v2", JUDGE, WAIT).await?;
    check_all_run(&fleet, "v2").await?;
    fleet.check_no_errors()
}

async fn answers_more(fleet: &Fleet, at: usize) -> Result<()> {
    let before = fleet.feeders[at].books().answers();
    wait::until("ten more answers", WAIT, async || {
        let now = fleet.feeders[at].books().answers();
        ensure!(now >= before + 10, "{} so far", now - before);
        Ok(())
    })
    .await
}

/// Sends a release to a device that nobody asks, cuts its network, and has applications ask it:
/// the device undoes the release alone, and tells the controller when it can.
async fn undone_alone(fleet: &mut Fleet, version: &str, reason: &str, numbers: &str) -> Result<()> {
    fleet.feeders.clear();
    let flags = format!("--phase 100% --soak 0s --max-unavailable 100% {JUDGE}");
    let rollout = fleet.controller.rollout(version, &flags).await?;
    wait::until("the trial", WAIT, async || {
        let status = fleet.agents[0].status().await?;
        let model = status.models.first().context("no model")?;
        ensure!(model.phase == "probation", "it is in {}", model.phase);
        Ok(())
    })
    .await?;
    fleet.proxy.cut();
    fleet.feed(FAST);
    wait::until("the device to go back", WAIT, async || {
        let status = fleet.agents[0].status().await?;
        ensure!(!status.link.connected, "it is connected");
        let model = status.models.first().context("no model")?;
        let why = model.last.as_ref().and_then(|last| last.why.as_ref());
        let why = why.filter(|_| model.phase == "idle").context("no verdict yet")?;
        ensure!(why.code == reason && why.sentence.contains(numbers), "{why:?}");
        Ok(())
    })
    .await?;
    check_answers(fleet, "v1").await?;
    fleet.proxy.heal();
    let rollout = fleet.controller.rollout_end(rollout.id, WAIT).await?;
    ensure!(rollout.state == "halted", "it is {}", rollout.state);
    let device = fleet.controller.devices().await?.into_iter().next().context("no device")?;
    let last = device.digits().and_then(|m| m.last.clone()).context("no ending")?;
    let said = last.reason.map(|reason| reason.code);
    ensure!(said.as_deref() == Some(reason), "{said:?}");
    let evidence = last.evidence.context("no numbers")?;
    ensure!(evidence.measured > evidence.bound && evidence.text.contains(numbers), "{evidence:?}");
    fleet.check_no_errors()
}

/// Bad models that only real requests show, undone with the network cut; and one that is watched
/// in the same way and stays.
async fn judged_alone() -> Result<()> {
    let mut fleet = fleet_on_v1(BrokerKind::Embedded, 1).await?;
    fleet.controller.release("digits-v4", "v4", "").await?;
    undone_alone(&mut fleet, "v4", "HEALTH_COLLAPSE", "one class has 100.0 %").await?;

    // Right for what it was made for, which is not what applications send.
    let (dim, as_sent) = (fleet.dir().join("dim.npz"), fleet.dir().join("as-sent.npz"));
    let images = Digits::heldout();
    images.write_reference(&dim, 0.7)?;
    images.write_reference(&as_sent, 1.0)?;
    let reference = |path: &Path| format!("--reference '{}'", path.display());
    fleet.controller.release("digits-v2", "dim", &reference(&dim)).await?;
    undone_alone(&mut fleet, "dim", "HEALTH_DRIFT", "PSI of the mean of input 0").await?;

    // The same bytes with the right reference.
    fleet.controller.release("digits-v2", "v2", &reference(&as_sent)).await?;
    let shown = fleet.controller.cli.ok("model show digits@v2").await?.stdout;
    ensure!(shown.contains("no drift above PSI 0.1 on 500 answers"), "{shown}");
    fleet.roll_out("v2", JUDGE, WAIT).await?;
    check_answers(&fleet, "v2").await?;
    wait::until("the numbers of 500 answers", WAIT, async || {
        let device = fleet.controller.devices().await?.into_iter().next().context("no device")?;
        let host = device.host.as_ref().context("nothing of its machine")?;
        ensure!(host.uptime_s.is_some() && host.memory_bytes > Some(1 << 20), "{host:?}");
        let telemetry = device.digits().and_then(|m| m.telemetry.as_ref()).context("none")?;
        ensure!(telemetry.requests >= 500, "{} so far", telemetry.requests);
        ensure!(telemetry.drift.len() == 3, "{:?}", telemetry.drift);
        ensure!(!telemetry.drift.iter().any(|drift| drift.alarm), "{:?}", telemetry.drift);
        Ok(())
    })
    .await?;
    fleet.check_no_errors()
}

#[tokio::test]
async fn a_device_judges_alone() {
    judged_alone().await.unwrap();
}

#[tokio::test]
async fn a_good_release_arrives_embedded() {
    good_release(BrokerKind::Embedded).await.unwrap();
}

#[tokio::test]
async fn a_good_release_arrives_mosquitto() {
    good_release(BrokerKind::Mosquitto).await.unwrap();
}

#[tokio::test]
async fn bad_releases_stop_themselves_embedded() {
    bad_releases(BrokerKind::Embedded).await.unwrap();
}

#[tokio::test]
async fn bad_releases_stop_themselves_mosquitto() {
    bad_releases(BrokerKind::Mosquitto).await.unwrap();
}

#[tokio::test]
async fn without_a_network_devices_keep_serving_embedded() {
    no_network(BrokerKind::Embedded).await.unwrap();
}

#[tokio::test]
async fn without_a_network_devices_keep_serving_mosquitto() {
    no_network(BrokerKind::Mosquitto).await.unwrap();
}
