//! Every verb of the command line is on record, or has a written reason why it need not be.
//!
//! The verbs are those of the program itself (its help is clap's own tree, walked to the leaves):
//! a new one is missing from the table below until somebody says what it leaves. Each verb that
//! changes something is really run, and its entry is looked for: who, what, and whose signature.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::cli::Cli;
use fleetway_tests::harness::controller::Controller;
use fleetway_tests::harness::{digits, wait};
use tempfile::TempDir;

use super::Entry;

/// What a verb leaves in the log.
enum Record {
    /// An entry with this word, and the ids of keys.
    Signed(&'static str),
    /// An entry with this word; nothing is signed by it.
    Plain(&'static str),
    /// Nothing, and why: for whoever reads the table.
    Nothing(#[expect(dead_code, reason = "people read it")] &'static str),
}
use Record::{Nothing, Plain, Signed};

const READS: Record = Nothing("it reads");
const ELSEWHERE: Record =
    Nothing("no device of this story runs anything; controller/src/fleet/tests/follow.rs looks");
const VERBS: &[(&str, Record)] = &[
    ("init", Signed("init")),
    ("serve", Nothing("it runs the controller, whose commands and decisions have entries")),
    ("status", READS),
    ("model import", Plain("model.import")),
    ("model sign", Signed("model.sign")),
    ("model publish", Signed("release.publish")),
    ("model export", Nothing("it copies what was imported and signed, and changes neither")),
    ("model compile", Nothing("it writes a file for whoever asks, and nothing of the fleet's")),
    ("model inspect", READS),
    ("model diff", READS),
    ("model bad", READS),
    ("model allow", Nothing("nothing is bad in this story; it notes release.lift")),
    ("model list", READS),
    ("model show", READS),
    ("device add", Signed("device.key")),
    ("device list", READS),
    ("device enroll", Plain("device.enroll")),
    ("device adopt", Plain("device.adopt")),
    ("device revoke", Plain("device.revoke")),
    ("device show", READS),
    ("device history", READS),
    ("device label", Plain("device.label")),
    ("broker config", Signed("broker.config")),
    ("broker viewer", Signed("broker.viewer")),
    ("audit list", READS),
    ("audit verify", READS),
    ("replay", READS),
    ("token create", Plain("token.create")),
    ("token list", READS),
    ("token revoke", Plain("token.revoke")),
    ("web", Nothing("its token is made by the same route as that of `token create`")),
    ("key generate", Signed("key.generate")),
    ("key list", READS),
    ("key rotate", Signed("key.rotate")),
    ("key revoke", Signed("key.revoke")),
    ("trust init", Plain("trust.init")),
    ("trust status", READS),
    ("trust sign", Signed("trust.sign")),
    ("trust add-signature", Signed("trust.add-signature")),
    ("trust delegate", Plain("trust.delegate")),
    ("trust unstage", Plain("trust.unstage")),
    ("trust publish", Signed("trust.publish")),
    ("rollout lint", READS),
    ("rollout approve", Plain("rollout.approve")),
    ("rollout plan", Nothing("it asks what would be")),
    ("rollout start", Plain("rollout.start")),
    ("rollout status", READS),
    ("rollout list", READS),
    ("rollout watch", READS),
    ("rollout pause", Plain("rollout.pause")),
    ("rollout resume", Plain("rollout.resume")),
    ("rollout abort", Plain("rollout.abort")),
    ("rollout promote", Plain("rollout.promote")),
    ("rollout undo", ELSEWHERE),
    ("rollout retry", ELSEWHERE),
    ("rollout rollback", ELSEWHERE),
    ("rollout history", READS),
    ("top", READS),
    ("config view", READS),
    ("config contexts", READS),
    ("config use", Nothing("it changes a setting of the operator's own, not the fleet")),
    ("completions", READS),
    ("man", READS),
];

/// The leaves of the tree below `path`.
async fn leaves(cli: &Cli, path: &str) -> Result<Vec<String>> {
    let help = cli.ask(&format!("{path} -h")).await?.expect_code(0)?.stdout;
    let below = help.split_once("\nCommands:\n").map(|(_, below)| below);
    let Some(below) = below else { return Ok(vec![path.trim().to_owned()]) };
    let mut found = Vec::new();
    for line in below.lines().take_while(|line| !line.is_empty()) {
        let verb = line.strip_prefix("  ").filter(|verb| !verb.starts_with(' '));
        if let Some(verb) = verb.and_then(|verb| verb.split_whitespace().next()) {
            found.extend(Box::pin(leaves(cli, &format!("{path} {verb}"))).await?);
        }
    }
    Ok(found)
}

/// A verb that was run, where, and what its sentence has to say.
type Run = (&'static str, PathBuf, String);

struct Story {
    dir: TempDir,
    controller: Controller,
    runs: Vec<Run>,
}

impl Story {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn key(&self, name: &str) -> String {
        self.controller.data().join("keys").join(format!("{name}.key")).display().to_string()
    }

    async fn run_in(
        &mut self,
        data: &Path,
        verb: &'static str,
        more: &str,
        says: &str,
    ) -> Result<()> {
        Cli::new(data).ok(&format!("{verb} {more}")).await?;
        self.runs.push((verb, data.to_owned(), says.to_owned()));
        Ok(())
    }

    async fn run(&mut self, verb: &'static str, more: &str, says: &str) -> Result<()> {
        let data = self.controller.data().to_owned();
        self.run_in(&data, verb, more, says).await
    }

    async fn devices_and_models(&mut self) -> Result<()> {
        let dir = digits::model_dir();
        let (model, golden) = (dir.join("digits-v1.onnx"), dir.join("digits-v1.golden.npz"));
        let import =
            format!("{} --name digits --version v1 --golden {}", model.display(), golden.display());
        let out = self.path("mosquitto").display().to_string();
        self.run("device add", "cam-1", "cam-1 was given the key").await?;
        self.run("device enroll", "cam-2", "cam-2 may join").await?;
        // The public key of RFC 8032's first example.
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let adopt = format!("mcu-1 --via cam-1 --hardware board --key {key}");
        self.run("device adopt", &adopt, "mcu-1 (board) hangs on cam-1").await?;
        self.run("device label", "cam-1 site=lab", "site=lab").await?;
        self.run("device revoke", "cam-2", "revoked cam-2").await?;
        self.run("token create", "ci --role viewer", "token ci may").await?;
        self.run("token revoke", "ci", "token ci is good for nothing").await?;
        self.run("broker config", &format!("mosquitto --out {out}"), &out).await?;
        self.run("broker viewer", "wall", "dashboard wall").await?;
        self.run("model import", &import, "imported digits v1").await?;
        self.run("model sign", "digits@v1", "signed digits@v1").await?;
        self.run("model publish", "digits@v1", "published digits v1").await?;
        self.run("rollout start", "digits@v1", "started rollout 1").await?;
        self.run("rollout promote", "1", "goes on with phase 2 of 3").await?;
        self.run("rollout pause", "1", "is paused now").await?;
        self.run("rollout resume", "1", "is running now").await?;
        self.run("rollout abort", "1", "is aborted now").await?;
        let file = self.path("approved.toml");
        std::fs::write(&file, "release = \"digits@v1\"\napproval = true\n")?;
        self.run("rollout start", &format!("-f {}", file.display()), "started rollout 2").await?;
        self.run("rollout approve", "2", "is running now").await
    }

    /// Two keys, a team of them, one leaves it, and everything is signed here or elsewhere.
    async fn ceremony(&mut self) -> Result<()> {
        let away = self.path("away");
        for name in ["vic", "val"] {
            let out = self.path(&format!("{name}.key")).display().to_string();
            let line = format!("{name} --plain --out {out}");
            self.run_in(&away, "key generate", &line, &format!("made the key {name}")).await?;
        }
        let public = |story: &Self, name: &str| {
            format!("{name}={}", story.path(&format!("{name}.key.pub")).display())
        };
        let (vic, val) = (public(self, "vic"), public(self, "val"));
        let root = self.key("root");
        self.run("key rotate", &format!("release --to {vic}"), "staged vic in the place").await?;
        self.run("trust unstage", "", "dropped what was staged").await?;
        let team = format!("vision --models face-* --team-key {vic} --team-key {val}");
        self.run("trust delegate", &team, "staged team vision").await?;
        self.run("key revoke", "val", "staged the end of val").await?;

        let staged = self.controller.data().join("trust/staged/2.keyset").display().to_string();
        let signatures = self.path("root.json").display().to_string();
        let sign = format!("{staged} --key {root} --out {signatures}");
        self.run_in(&away, "trust sign", &sign, "2.keyset for another machine").await?;
        self.run("trust add-signature", &signatures, &signatures).await?;
        for key in [self.path("vic.key").display().to_string(), self.key("release")] {
            self.run("trust sign", &format!("--key {key}"), "signed what is staged").await?;
        }
        self.run("trust publish", "", "2.keyset").await?;
        let init = format!("--root {vic} --targets {val}");
        self.run_in(&self.path("other"), "trust init", &init, "staged the first root").await
    }
}

/// Everything on record in a directory: in the chain, and waiting for a daemon.
async fn entries(data: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in std::fs::read_dir(data.join("audit/offline")).into_iter().flatten() {
        entries.push(serde_json::from_slice(&std::fs::read(file?.path())?)?);
    }
    let chained: Vec<Entry> = Cli::new(data).json("audit list --last 1000").await?;
    entries.extend(chained);
    Ok(entries)
}

#[tokio::test]
async fn every_verb_is_on_record_or_says_why_not() {
    story().await.unwrap();
}

async fn story() -> Result<()> {
    let dir = TempDir::new()?;
    let mut controller = Controller::init(dir.path(), None, false).await?;
    let listed: BTreeSet<String> = leaves(&controller.cli, "").await?.into_iter().collect();
    let known: BTreeSet<String> = VERBS.iter().map(|(verb, _)| (*verb).to_owned()).collect();
    ensure!(
        listed == known,
        "say in the table what these leave in the audit log, or why nothing: {:?}",
        listed.symmetric_difference(&known).collect::<Vec<_>>()
    );
    controller.start().await?;
    let mut story = Story { dir, controller, runs: Vec::new() };
    let home = story.controller.data().to_owned();
    story.runs.push(("init", home.clone(), "made a fleet".to_owned()));
    story.devices_and_models().await?;
    story.ceremony().await?;

    wait::until(
        "the daemon to take in what was done offline",
        Duration::from_secs(20),
        async || {
            let left = std::fs::read_dir(home.join("audit/offline"))?.count();
            ensure!(left == 0, "{left} notes wait");
            Ok(())
        },
    )
    .await?;
    let who = entries(&home).await?.into_iter().find(|entry| entry.what == "init");
    let who = who.context("no entry of init")?.who;
    ensure!(!who.is_empty() && who != "planner", "by {who:?}");
    for (verb, record) in VERBS {
        let (what, is_signed) = match record {
            Signed(what) => (what, true),
            Plain(what) => (what, false),
            Nothing(_) => continue,
        };
        let runs: Vec<_> = story.runs.iter().filter(|(run, ..)| run == verb).collect();
        ensure!(!runs.is_empty(), "{verb} changes something and was not run");
        for (_, data, says) in runs {
            let entries = entries(data).await?;
            let found = entries.iter().any(|entry| {
                let key = entry.key.as_ref().is_some_and(|key| !key.is_empty());
                entry.what == *what
                    && entry.text.contains(says.as_str())
                    && entry.who == who
                    && key == is_signed
            });
            ensure!(found, "{verb}: no {what} by {who} with {says:?} in {entries:#?}");
        }
    }
    story.controller.stop().await
}
