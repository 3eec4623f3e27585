//! The unmodified `tritonclient` from PyPI, against a real agent with real models: what an
//! application that was written for a server finds on a device.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::digits::model_dir;
use fleetway_tests::harness::infer::Application;
use fleetway_tests::harness::views::Rollout;
use fleetway_tests::harness::{BrokerKind, Digits, Fleet, FleetSpec};
use fleetway_tests::python;
use hyper::Method;
use serde_json::Value;

const WAIT: Duration = Duration::from_secs(90);
const JUDGE: &str = "--probation 1s --answers 10";
const AT_ONCE: &str = "--phase 100% --soak 0s --max-unavailable 100%";

/// The digits model with the first axis of its image left open: a nameless `dim_param` instead of
/// `dim_value = 1`, which is as long.
fn open_model(dir: &Path) -> Result<PathBuf> {
    let mut bytes = std::fs::read(model_dir().join("digits-v2.onnx"))?;
    let dims = b"\x0a\x02\x08\x01\x0a\x02\x08\x01\x0a\x02\x08\x08\x0a\x02\x08\x08";
    let places: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(dims)).collect();
    ensure!(places.len() == 1, "the image's shape stands at {places:?}");
    bytes[places[0] + 2..places[0] + 4].copy_from_slice(b"\x12\x00");
    let path = dir.join("open.onnx");
    std::fs::write(&path, bytes)?;
    Ok(path)
}

/// Rolls out model `open`, with an application that asks it so that its probation ends.
async fn roll_out_open(fleet: &Fleet) -> Result<()> {
    let cli = &fleet.controller.cli;
    let (model, golden) = (open_model(fleet.dir())?, model_dir().join("digits-v2.golden.npz"));
    let import = format!(
        "model import '{}' --name open --version v1 --golden '{}'",
        model.display(),
        golden.display()
    );
    for line in [&import, "model sign open@v1", "model publish open@v1"] {
        cli.ok(line).await?;
    }
    let rollout: Rollout = cli.json(&format!("rollout start open@v1 {AT_ONCE} {JUDGE}")).await?;
    let mut application = Application::new(fleet.agents[0].endpoint());
    let digits = Digits::heldout();
    let ask = async {
        for image in (0..digits.len()).cycle() {
            // Refused until it is there.
            let path = "/v2/models/open/infer";
            let _ = application.request(Method::POST, path, digits.body(image)).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("never")
    };
    tokio::select! {
        ended = fleet.controller.rollout_end(rollout.id, WAIT) => ended.map(drop),
        never = ask => never,
    }
}

/// The names of a process's threads.
fn threads(pid: u32) -> Result<Vec<String>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    tasks.map(|task| Ok(std::fs::read_to_string(task?.path().join("comm"))?)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_asks_in_every_way() -> Result<()> {
    let prepared = std::thread::spawn(|| python::triton().map(Path::to_path_buf));
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 1)).await?;
    fleet.add_device("cam-1", "").await?;
    let path = fleet.agents[0].config();
    let config = std::fs::read_to_string(&path)?.replace("[serve]\n", "[serve]\nthreads = 2\n");
    std::fs::write(&path, config + "\n[serve.grpc]\ntcp = \"127.0.0.1:0\"\n")?;
    fleet.start_agents().await?;
    let pid = fleet.agents[0].process().context("it runs")?.pid();
    ensure!(threads(pid)?.iter().filter(|name| name.starts_with("qnn-")).count() == 2);
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-v2", "v2", "").await?;
    fleet.roll_out("v2", JUDGE, WAIT).await?;
    fleet.feeders.clear();
    roll_out_open(&fleet).await?;

    let python = prepared.join().expect("no panic")?;
    let agent = &fleet.agents[0];
    let status = agent.status().await?;
    let serving = &status.serving;
    let running = status.models.iter().find_map(|model| model.running.as_ref());
    let running = running.context("nothing runs")?;
    ensure!(running.version == "v2", "models in the order of their names: {running:?}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/triton.py");
    let said = tokio::process::Command::new(python)
        .arg(script)
        .arg(serving.tcp.context("no port")?.to_string())
        .arg(serving.grpc_tcp.context("no gRPC port")?.to_string())
        .arg(agent.data().join("grpc.sock"))
        .arg(model_dir().join("heldout.npz"))
        .arg(&running.release)
        .output()
        .await?;
    let errors = String::from_utf8_lossy(&said.stderr);
    ensure!(said.status.success(), "{errors}");
    let said: Value = serde_json::from_slice(&said.stdout).context("no JSON")?;
    ensure!(said["done"].as_array().is_some_and(|done| done.len() == 7), "{said}");
    println!("{said}");
    Ok(())
}
