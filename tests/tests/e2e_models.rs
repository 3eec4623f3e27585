//! Models between places, with real processes: a site without a network to its home gets a release on a
//! stick and installs it; a registry carries one to a place under another authority. And every way in
//! which the stick can be bad leaves nothing behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_controller::catalog::oci::{
    Artifact, Descriptor, MODEL_ARTIFACT, MODEL_CONFIG, Manifest,
};
use fleetway_controller::registry::{Reference, Registry as Client};
use fleetway_protocol::ids::Digest;
use fleetway_tests::harness::registry::Registry;
use fleetway_tests::harness::{Agent, Cli, Controller, Feeder, cli, digits, programs, wait};
use serde::Deserialize;
use tempfile::TempDir;

/// Longest wait for one device.
const WAIT: Duration = Duration::from_secs(60);
/// Keys that a site gets: what its server signs with. Those of people stay at home.
const SITE_KEYS: [&str; 3] = ["snapshot", "timestamp", "director"];

/// A class of microcontrollers of the site alone, whose output is too narrow.
const TINY: &str = "[hardware.tiny]\nmodel_bytes = 1000000\ngolden_bytes = 1000000\n\
    arena_bytes = 1000000\ninput_values = 1000\noutput_values = 4\nwork = 1000000000\n";

/// A release, as `model list -o json` tells of it.
#[derive(Debug, Deserialize)]
struct Release {
    version: String,
    digest: String,
    state: String,
}

#[derive(Debug, Deserialize)]
struct Diff {
    from: Side,
    to: Side,
    tensors: Tensors,
}

#[derive(Debug, Deserialize)]
struct Side {
    inputs: Vec<String>,
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Tensors {
    changed: Vec<String>,
    elements: u64,
    changed_elements: u64,
}

/// `model import` of a model that MLflow wrote.
fn mlflow(version: &str) -> String {
    let models = digits::model_dir();
    let source = models.join("../mlflow/model").display().to_string();
    let golden = models.join("digits-v1.golden.npz").display().to_string();
    format!("model import '{source}' --name digits --version {version} --golden '{golden}'")
}

/// A place under `home`'s authority, with keys for its server alone.
async fn site_of(home: &Controller, dir: &Path) -> Result<Controller> {
    let (from, to) = (home.data(), dir.join("controller"));
    copy(&from.join("trust"), &to.join("trust"))?;
    fs::create_dir_all(to.join("keys"))?;
    for name in SITE_KEYS {
        for file in [format!("{name}.key"), format!("{name}.key.pub")] {
            let from = from.join("keys").join(&file);
            fs::copy(&from, to.join("keys").join(&file)).with_context(|| file.clone())?;
        }
    }
    Controller::init(dir, None, false).await
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

/// What is wrong with a stick, and what is said to it.
async fn bad_sticks(site: &Controller, good: &Path, dir: &Path) -> Result<()> {
    let cli = &site.cli;
    let bytes = fs::read(good)?;
    let mut flipped = bytes.clone();
    let model = fs::read(digits::model_dir().join("digits-v1.onnx"))?;
    let weights = &model[model.len() / 2..][..32];
    let at = bytes.windows(32).position(|some| some == weights).context("no weights in it")?;
    flipped[at] ^= 1;
    let cut = bytes[..bytes.len() - 20_000].to_vec();
    let evil = renamed(&bytes, b"../../evil");
    for (name, bytes, says) in [
        ("flipped", flipped, "changed or cut"),
        ("cut", cut, "cut"),
        ("evil", evil, "no plain file inside of it"),
    ] {
        let path = dir.join(format!("{name}.tar"));
        fs::write(&path, bytes)?;
        let done = cli.run(&format!("model import '{}'", path.display())).await?;
        ensure!(done.code != 0 && done.stderr.contains(says), "{name}: {done:?}");
        let listed: Vec<Release> = cli.json("model list").await?;
        ensure!(listed.is_empty(), "{name} left {listed:?}");
        let left: Vec<_> =
            fs::read_dir(site.data().join("catalog")).into_iter().flatten().collect();
        ensure!(left.is_empty(), "{name} left {left:?}");
    }
    Ok(())
}

/// The same tar, its first file under another name of the same length.
fn renamed(tar: &[u8], name: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    tar[..name.len()].copy_from_slice(name);
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

#[tokio::test]
async fn a_site_without_a_network_installs_what_came_on_a_stick() {
    stick().await.unwrap();
}

async fn stick() -> Result<()> {
    let dir = TempDir::new()?;
    let (at_home, at_site) = (dir.path().join("home"), dir.path().join("site"));
    let mut home = Controller::init(&at_home, None, false).await?;
    home.start().await?;
    // The site is set up once, before there is anything to install.
    let mut site = site_of(&home, &at_site).await?;
    site.start().await?;
    home.cli.ok(&mlflow("v1")).await?;
    let file = dir.path().join("digits-v1.oci.tar");
    let export = format!("model export digits@v1 --to '{}'", file.display());
    let early = home.cli.run(&export).await?.expect_code(7)?;
    ensure!(early.stderr.contains("model publish"), "{early:?}");
    home.cli.ok("model sign digits@v1").await?;
    home.cli.ok("model publish digits@v1").await?;
    home.cli.ok(&export).await?;
    home.stop().await?;

    bad_sticks(&site, &file, dir.path()).await?;
    let import = format!("model import '{}'", file.display());
    site.cli.run(&format!("{import} --counter 3")).await?.expect_code(2)?;
    site.cli.run(&format!("{import} --version v2")).await?.expect_code(2)?;
    let path = site.data().join("fleetway.toml");
    fs::write(&path, fs::read_to_string(&path)? + TINY)?;
    let taken = site.cli.ok(&import).await?;
    ensure!(taken.stdout.contains("this place's own authority"), "{taken:?}");
    ensure!(taken.stderr.contains("does not fit tiny: output 10 of 4 numbers"), "{taken:?}");
    site.cli.run(&import).await?.expect_code(6)?;
    // No release key is here: what people signed at home is enough.
    site.cli.ok("model publish digits@v1").await?;
    site.cli.ok("device add cam-1").await?;
    let mut agent = Agent::new("cam-1", &site.data().join("devices/cam-1"));
    agent.start().await?;
    let feeder = Feeder::start(agent.endpoint(), Duration::from_millis(20), 0);
    let flags = "--phase 100% --soak 0s --max-unavailable 100% --probation 1s --answers 20";
    let rollout = site.rollout("v1", flags).await?;
    let rollout = site.rollout_end(rollout.id, WAIT).await?;
    ensure!(rollout.succeeded, "{rollout:?}");
    wait::until("answers with v1", WAIT, async || {
        ensure!(feeder.books().version.as_deref() == Some("v1"), "{:?}", feeder.books().version);
        Ok(())
    })
    .await?;
    drop(feeder);
    agent.stop().await?;
    site.stop().await
}

#[tokio::test]
async fn a_registry_carries_a_release_to_another_authority() {
    registry().await.unwrap();
}

async fn registry() -> Result<()> {
    let dir = TempDir::new()?;
    let mut docker = Registry::start(&dir.path().join("registry"), false).await?;
    let mut home = Controller::init(&dir.path().join("home"), None, false).await?;
    home.start().await?;
    home.cli.ok(&mlflow("v1")).await?;
    home.cli.ok("model sign digits@v1").await?;
    home.cli.ok("model publish digits@v1").await?;
    let reference = format!("oci://{}/models/digits", docker.host());
    home.cli.ok(&format!("model export digits@v1 --to {reference}:v1")).await?;
    // Again: every blob is there already.
    home.cli.ok(&format!("model export digits@v1 --to {reference}:v1")).await?;
    home.stop().await?;

    let mut other = Controller::init(&dir.path().join("other"), None, false).await?;
    other.start().await?;
    let cli = other.cli.clone();
    let refused = cli.run(&format!("model import {reference}:v1")).await?.expect_code(7)?;
    ensure!(refused.stderr.contains("--trust-root"), "{refused:?}");
    let own = other.data().join("trust/metadata/1.root.json").display().to_string();
    let wrong = format!("model import {reference}:v1 --trust-root '{own}'");
    cli.run(&wrong).await?.expect_code(7)?;
    let absent = cli.run(&format!("model import {reference}:v9")).await?.expect_code(5)?;
    ensure!(absent.stderr.contains("404"), "{absent:?}");
    let root = home.data().join("trust/metadata/1.root.json").display().to_string();
    cli.ok(&format!("model import {reference}:v1 --trust-root '{root}'")).await?;
    let [release] = &cli.json::<Vec<Release>>("model list").await?[..] else {
        anyhow::bail!("not one release")
    };
    ensure!(release.state == "signed" && release.version == "v1", "{release:?}");
    // Its signature is home's, which means nothing here.
    cli.run("model publish digits@v1").await?.expect_code(7)?;
    cli.ok("model sign digits@v1").await?;
    cli.ok("model publish digits@v1").await?;
    let [published] = &cli.json::<Vec<Release>>("model list").await?[..] else {
        anyhow::bail!("not one release")
    };
    ensure!(published.state == "published" && published.digest == release.digest, "{published:?}");

    modelpack(&cli, &format!("{reference}-v2:latest")).await?;
    let diff: Diff = cli.json("model diff digits@v1 digits@v2").await?;
    ensure!(diff.from.inputs == diff.to.inputs, "{diff:?}");
    ensure!(diff.from.annotations["mlflow:version"] == "3.17.2", "{diff:?}");
    ensure!(diff.to.annotations["modelpack:licenses"] == "MIT", "{diff:?}");
    ensure!(diff.to.annotations["source:file"] == "model.onnx", "{diff:?}");
    ensure!(!diff.tensors.changed.is_empty(), "{diff:?}");
    ensure!(diff.tensors.changed_elements <= diff.tensors.elements, "{diff:?}");
    docker.check_running()?;
    other.stop().await
}

/// A model as another ModelPack tool pushes it: weights, golden vectors and a card, nothing of ours.
async fn modelpack(cli: &Cli, reference: &str) -> Result<()> {
    let models = digits::model_dir();
    let file = |name: &str| fs::read(models.join(name)).with_context(|| name.to_owned());
    let config = br#"{"descriptor":{"name":"d","licenses":["MIT"]},"config":{"format":"onnx"},"modelfs":{"type":"layers","diffIds":[]}}"#;
    let layers = [
        ("weight.v1.raw", "model.onnx", file("digits-v2.onnx")?),
        ("dataset.v1.raw", "model.golden.npz", file("digits-v2.golden.npz")?),
        ("doc.v1.raw", "README.md", b"---\nlicense: mit\n---\n# Digits\n".to_vec()),
    ];
    let described = layers.iter().map(|(kind, name, bytes)| {
        Descriptor::of(&format!("application/vnd.cncf.model.{kind}"), bytes).named(name)
    });
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some("application/vnd.oci.image.manifest.v1+json".into()),
        artifact_type: Some(MODEL_ARTIFACT.into()),
        config: Descriptor::of(MODEL_CONFIG, config),
        layers: described.collect(),
        annotations: Default::default(),
    };
    let blobs = layers.iter().map(|(.., bytes)| bytes.clone()).chain([config.to_vec()]);
    let blobs = blobs.map(|bytes| (Digest::of(&bytes), bytes)).collect();
    let artifact = Artifact { manifest: serde_json::to_vec(&manifest)?, blobs };
    Client::new(reference.parse::<Reference>()?).push(&artifact).await?;
    // By digest: the name says what it must be.
    let at = reference.rsplit_once(':').context("a tag")?.0;
    let line = format!("model import {at}@sha256:{}", artifact.digest());
    let nameless = cli.run(&line).await?.expect_code(2)?;
    ensure!(nameless.stderr.contains("--name"), "{nameless:?}");
    cli.ok(&format!("{line} --name digits --version v2")).await?;
    let wrong = format!("{at}@sha256:{}", Digest([7; 32]));
    cli.run(&format!("model import {wrong} --name digits --version v3")).await?.expect_code(5)?;
    Ok(())
}

#[tokio::test]
async fn a_registry_that_asks_who_we_are() {
    password().await.unwrap();
}

async fn password() -> Result<()> {
    let dir = TempDir::new()?;
    let docker = Registry::start(&dir.path().join("registry"), true).await?;
    let mut home = Controller::init(&dir.path().join("home"), None, false).await?;
    home.start().await?;
    home.cli.ok(&mlflow("v1")).await?;
    home.cli.ok("model sign digits@v1").await?;
    home.cli.ok("model publish digits@v1").await?;
    let to = format!("model export digits@v1 --to oci://{}/digits:v1", docker.host());
    let refused = home.cli.run(&to).await?.expect_code(7)?;
    ensure!(refused.stderr.contains("REGISTRY_AUTH_FILE"), "{refused:?}");
    // `ann:secret`, as `docker login` writes it.
    let auth = dir.path().join("auth.json");
    let text = format!(r#"{{"auths": {{"{}": {{"auth": "YW5uOnNlY3JldA=="}}}}}}"#, docker.host());
    fs::write(&auth, text)?;
    let mut command = tokio::process::Command::new(&programs::programs().fleetway);
    command.args(to.split(' ')).env("FLEETWAY_DATA", home.data()).env("REGISTRY_AUTH_FILE", &auth);
    cli::run(command, to).await?.expect_code(0)?;
    home.stop().await
}
