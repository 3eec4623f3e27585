//! Three people, three machines, two signatures: the ceremony as people type it.
//!
//! Each person has a directory that nobody else reads, and files are carried between them as
//! by a USB stick. Nothing here needs a controller that runs, nor a network.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::cli::Cli;
use fleetway_tests::harness::digits;
use tempfile::TempDir;

/// Everybody's directories.
struct Office {
    dir: TempDir,
}

impl Office {
    fn new() -> Result<Self> {
        let office = Self { dir: TempDir::new()? };
        std::fs::write(office.path("passphrase"), "correct horse battery staple\n")?;
        Ok(office)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where root changes are staged and published.
    fn home(&self) -> Cli {
        Cli::new(&self.path("home"))
    }

    fn staged(&self, name: &str) -> PathBuf {
        self.path("home/trust/staged").join(name)
    }

    fn secret(&self) -> String {
        format!("--passphrase-file {}", self.path("passphrase").display())
    }

    /// A person with an encrypted key on a machine of their own.
    async fn person(&self, name: &str) -> Result<()> {
        let key = self.path(&format!("{name}.key"));
        let line = format!("key generate {name} --out {} {}", key.display(), self.secret());
        Cli::new(&self.path(name)).ok(&line).await?;
        let text = std::fs::read_to_string(&key)?;
        ensure!(text.starts_with("-----BEGIN AGE"), "the key is not encrypted");
        Ok(())
    }

    fn public(&self, name: &str) -> String {
        format!("{name}={}", self.path(&format!("{name}.key.pub")).display())
    }

    fn key(&self, name: &str) -> String {
        format!("--key {} {}", self.path(&format!("{name}.key")).display(), self.secret())
    }

    /// `name` signs staged files on their own machine; gives the file of signatures.
    async fn sign_away(&self, name: &str, files: &[&str]) -> Result<PathBuf> {
        let out = self.path(&format!("{name}-signatures.json"));
        let stick = self.path(&format!("{name}-stick"));
        std::fs::create_dir_all(&stick)?;
        let mut words = Vec::new();
        for file in files {
            std::fs::copy(self.staged(file), stick.join(file))
                .with_context(|| (*file).to_owned())?;
            words.push(stick.join(file).display().to_string());
        }
        let (files, key, out_text) = (words.join(" "), self.key(name), out.display());
        let line = format!("trust sign {files} {key} --name {name} --out {out_text}");
        Cli::new(&self.path(name)).ok(&line).await?;
        Ok(out)
    }

    /// Ada, bob and eve hold the root, two of them are enough; tia releases.
    async fn open() -> Result<Self> {
        let office = Self::new()?;
        for name in ["ada", "bob", "eve", "tia"] {
            office.person(name).await?;
        }
        let roots = ["ada", "bob", "eve"].map(|name| format!("--root {}", office.public(name)));
        let line = format!(
            "trust init {} --root-threshold 2 --targets {}",
            roots.join(" "),
            office.public("tia")
        );
        office.home().ok(&line).await?;
        Ok(office)
    }

    async fn published() -> Result<Self> {
        let office = Self::open().await?;
        for name in ["ada", "bob", "tia"] {
            office.home().ok(&format!("trust sign {}", office.key(name))).await?;
        }
        office.home().ok("trust publish").await?;
        Ok(office)
    }
}

fn contains(text: &str, expected: &str) -> Result<()> {
    ensure!(text.contains(expected), "{expected:?} is not in:\n{text}");
    Ok(())
}

fn flip(path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    let at = text.rfind("\"sig\": \"").context("a signature")? + 8;
    let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
    Ok(std::fs::write(path, format!("{}{digit}{}", &text[..at], &text[at + 1..]))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_sign_on_their_own_machines() -> Result<()> {
    let office = Office::open().await?;
    let home = office.home();
    let files = ["1.root.json", "1.keyset"];
    let ada = office.sign_away("ada", &files).await?;
    let bob = office.sign_away("bob", &files).await?;

    let refused = home.run("trust publish").await?.expect_code(7)?;
    contains(&refused.stderr, "1.root.json needs 2 more by root: of ada, bob, eve")?;
    let refused = home.run("init --listen 127.0.0.1:8883").await?.expect_code(6)?;
    contains(&refused.stderr, "is not over")?;
    let added = home.ok(&format!("trust add-signature {}", ada.display())).await?;
    contains(&added.stdout, "1.root.json needs 1 more by root: of bob, eve")?;

    flip(&bob)?;
    let refused = home.run(&format!("trust add-signature {}", bob.display())).await?;
    contains(&refused.expect_code(7)?.stderr, "it was changed, or made with another key")?;
    let bob = office.sign_away("bob", &files).await?;
    home.ok(&format!("trust add-signature {}", bob.display())).await?;

    let refused = home.run("trust publish").await?.expect_code(7)?;
    contains(&refused.stderr, "1.targets.json needs 1 more by targets: of tia")?;
    home.ok(&format!("trust sign {}", office.key("tia"))).await?;
    home.ok("trust publish").await?;
    ensure!(office.path("home/trust/metadata/timestamp.json").is_file(), "no timestamp");

    let status = home.ok("trust status").await?;
    contains(&status.stdout, "change keys and thresholds: 2 of these 3 together: ada, bob, eve")?;
    contains(&status.stdout, "release any model: tia")?;
    ensure!(!status.stderr.contains("DEVELOPMENT"), "these keys are nobody's toys");
    home.run("trust publish").await?.expect_code(6)?;

    // The controller of this fleet: their keys, and no development key beside them.
    let pinned = std::fs::read(office.path("home/trust/metadata/1.root.json"))?;
    let made = home.ok("init --listen 127.0.0.1:8883").await?;
    ensure!(!made.stderr.contains("DEVELOPMENT"), "{}", made.stderr);
    ensure!(!office.path("home/keys/root.key").exists(), "a root key on the controller");
    home.ok("device add cam-1").await?;
    let device = std::fs::read(office.path("home/devices/cam-1/root.json"))?;
    ensure!(device == pinned, "the device begins with another root");
    let status = home.ok("trust status").await?;
    contains(&status.stdout, "change keys and thresholds: 2 of these 3 together: ada, bob, eve")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_is_replaced_by_the_others() -> Result<()> {
    let office = Office::published().await?;
    let home = office.home();
    office.person("eva").await?;
    home.ok(&format!("key rotate eve --to {}", office.public("eva"))).await?;
    home.ok(&format!("trust sign {}", office.key("ada"))).await?;
    let refused = home.run("trust publish").await?.expect_code(7)?;
    contains(&refused.stderr, "2.root.json needs 1 more by root before: of bob, eve")?;
    for name in ["bob", "tia"] {
        home.ok(&format!("trust sign {}", office.key(name))).await?;
    }
    home.ok("trust publish").await?;
    let keys = home.ok("key list").await?.stdout;
    ensure!(keys.contains("eva") && !keys.contains("eve"), "{keys}");
    // Two of three cannot be taken away below the threshold.
    home.ok("key revoke eva").await?;
    let refused = home.run("key revoke bob").await?.expect_code(2)?;
    contains(&refused.stderr, "threshold 2 of 1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_signs_its_models_and_no_others() -> Result<()> {
    let office = Office::published().await?;
    let home = office.home();
    office.person("vic").await?;
    let key = office.public("vic");
    home.ok(&format!("trust delegate vision --models face-* --team-key {key}")).await?;
    for name in ["ada", "bob", "vic", "tia"] {
        home.ok(&format!("trust sign {}", office.key(name))).await?;
    }
    home.ok("trust publish").await?;

    let dir = digits::model_dir();
    let (model, golden) = (dir.join("digits-v1.onnx"), dir.join("digits-v1.golden.npz"));
    for name in ["digits", "face-eu"] {
        let line = format!(
            "model import {} --name {name} --version v1 --golden {}",
            model.display(),
            golden.display()
        );
        home.ok(&line).await?;
    }
    let refused = home.run(&format!("model sign digits@v1 {}", office.key("vic"))).await?;
    contains(&refused.expect_code(7)?.stderr, "key vic may sign face-*, not releases of digits")?;
    ensure!(!office.path("home/catalog/digits/v1/release.env").exists(), "a signature was left");
    home.ok(&format!("model sign face-eu@v1 {}", office.key("vic"))).await?;
    home.ok(&format!("model sign digits@v1 {}", office.key("tia"))).await?;
    home.ok("trust publish").await?;
    let status = home.ok("trust status").await?.stdout;
    contains(&status, "release face-* (team vision): vic")?;
    ensure!(office.path("home/trust/metadata/2.vision.json").is_file(), "no team metadata");
    Ok(())
}

/// All files below a directory, with what is in them.
fn tree(dir: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files.extend(tree(&path)?),
            false => files.push((path.clone(), std::fs::read(&path)?)),
        }
    }
    files.sort();
    Ok(files)
}

/// Every signature is there and every file in order; only a device's client sees that nobody
/// would ever find the release.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_would_not_find_is_not_published() -> Result<()> {
    let dir = TempDir::new()?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    let home = Cli::new(&dir.path().join("home"));
    home.ok("init").await?;
    for (team, models) in [("faces", "face-*"), ("europe", "face-eu")] {
        let key = at(&format!("{team}.key"));
        home.ok(&format!("key generate {team} --plain --out {key}")).await?;
        let key = format!("--team-key {team}={key}.pub");
        home.ok(&format!("trust delegate {team} --models {models} {key}")).await?;
    }
    let keys = ["home/keys/root.key", "faces.key", "europe.key", "home/keys/release.key"];
    for key in keys {
        home.ok(&format!("trust sign --key {}", at(key))).await?;
    }
    home.ok("trust publish").await?;
    let models = digits::model_dir();
    let (model, golden) = (models.join("digits-v1.onnx"), models.join("digits-v1.golden.npz"));
    let (model, golden) = (model.display(), golden.display());
    home.ok(&format!("model import {model} --name face-eu --version v1 --golden {golden}")).await?;
    home.ok(&format!("model sign face-eu@v1 --key {}", at("europe.key"))).await?;

    let trust = dir.path().join("home/trust");
    let before = tree(&trust)?;
    let refused = home.run("trust publish").await?.expect_code(7)?;
    contains(&refused.stderr, "a device would refuse it: a new device says: team europe lists")?;
    contains(&refused.stderr, "team faces is asked first for face-eu")?;
    ensure!(tree(&trust)? == before, "something was changed");
    home.ok("trust unstage").await.map(drop)
}
