//! The teller: sections, the operator's terminal, and checks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use crate::harness::cli::Done;
use crate::harness::feeder::Score;
use crate::harness::views::Rollout;
use crate::harness::{BrokerKind, Fleet, FleetSpec, words};

/// Devices of the demo.
pub(super) const DEVICES: usize = 8;
/// Each device's line in bytes per second, both ways: with [`CHUNK_BYTES`] a download of
/// 23 KiB is 24 pieces and takes between two and three seconds.
pub(super) const LINE_BYTES_PER_S: u64 = 10_000;
/// Size of the pieces.
pub(super) const CHUNK_BYTES: u32 = 1024;
/// Pause between two questions of an application: some twenty a second.
pub(super) const ASK_PAUSE: Duration = Duration::from_millis(40);
/// How a release is judged on a device, as flags.
pub(super) const PROBATION: &str = "--probation 5s --answers 50";
/// Longest wait for a rollout.
pub(super) const ROLLOUT_TIME: Duration = Duration::from_secs(120);

/// The fleet, and what was told about it.
pub(super) struct Story {
    pub(super) fleet: Fleet,
    /// What happened to a device, for the table.
    pub(super) notes: BTreeMap<String, Vec<String>>,
    started: Instant,
    sections: usize,
    checks: usize,
}

impl Story {
    /// Starts controller and network: the first section. `bytes_per_s` is what each line carries.
    pub(super) async fn begin(
        opening: &str,
        title: &str,
        bytes_per_s: Option<u64>,
    ) -> Result<Self> {
        let started = Instant::now();
        println!("{opening}");
        heading(&format!("1. {title}"), started);
        let spec = FleetSpec { bytes_per_s, echo: true, ..FleetSpec::new(BrokerKind::Embedded, 0) };
        let fleet = Fleet::prepare(spec).await?;
        Ok(Self { fleet, notes: BTreeMap::new(), started, sections: 1, checks: 0 })
    }

    /// A new section.
    pub(super) fn section(&mut self, title: &str) {
        self.sections += 1;
        heading(&format!("{}. {title}", self.sections), self.started);
    }

    /// A sentence.
    pub(super) fn say(&self, text: &str) {
        println!("  {text}");
    }

    /// Seconds since the beginning.
    pub(super) fn seconds(&self) -> f32 {
        self.started.elapsed().as_secs_f32()
    }

    /// Checks made so far.
    pub(super) fn checks(&self) -> usize {
        self.checks
    }

    /// A claim, and what is seen if it does not hold.
    pub(super) fn check(
        &mut self,
        holds: bool,
        claim: &str,
        otherwise: impl FnOnce() -> String,
    ) -> Result<()> {
        ensure!(holds, "{claim}: NOT so; {}", otherwise());
        self.checks += 1;
        println!("  ✓ {claim}");
        Ok(())
    }

    /// The operator types a command; its output is shown.
    pub(super) async fn operator(&self, line: &str, code: i32) -> Result<Done> {
        let done = self.fleet.controller.cli.run(line).await?.expect_code(code)?;
        let (out, err) = (words::tail(&done.stdout, 16), words::tail(&done.stderr, 16));
        print!("{}{}", words::indented(&err, "  │ "), words::indented(&out, "  │ "));
        Ok(done)
    }

    /// Imports, signs and publishes one of the repository's models. The first time all that
    /// the commands say is shown, then only what matters.
    pub(super) async fn release(&self, model: &str, version: &str, more: &str) -> Result<()> {
        let lines = [
            self.import_line(model, version, more),
            format!("model sign digits@{version}"),
            format!("model publish digits@{version}"),
        ];
        for line in lines {
            if version == "v1" {
                self.operator(&line, 0).await?;
                continue;
            }
            let done = self.fleet.controller.cli.ok(&line).await?;
            let matters = |line: &&str| {
                ["golden vectors ", "WARNING", "signed by ", "published"]
                    .iter()
                    .any(|w| line.contains(w))
            };
            let all = done.stderr.lines().chain(done.stdout.lines());
            all.filter(matters)
                .filter(|line| !line.starts_with("signed by") && !line.starts_with("running"))
                .for_each(|line| println!("  │ {line}"));
        }
        Ok(())
    }

    /// The command that imports a model, run from the repository's root.
    pub(super) fn import_line(&self, model: &str, version: &str, more: &str) -> String {
        let dir = "tests/models/digits";
        let line = format!(
            "model import {dir}/{model}.onnx --name digits --version {version} \
             --golden {dir}/{model}.golden.npz --chunk-bytes {CHUNK_BYTES} {more}"
        );
        line.trim_end().to_owned()
    }

    /// The operator starts a rollout; says its number.
    pub(super) async fn start_rollout(&self, version: &str, flags: &str) -> Result<u64> {
        self.operator(&format!("rollout start digits@{version} {flags} {PROBATION}"), 0).await?;
        self.newest_rollout().await?.context("a rollout was started and none is listed")
    }

    /// The number of the newest rollout.
    pub(super) async fn newest_rollout(&self) -> Result<Option<u64>> {
        let rollouts: Vec<Rollout> = self.fleet.controller.cli.json("rollout list").await?;
        Ok(rollouts.iter().map(|rollout| rollout.id).max())
    }

    /// The operator waits for the end of a rollout.
    pub(super) async fn wait_rollout(&self, id: u64, code: i32) -> Result<Rollout> {
        let wait_s = ROLLOUT_TIME.as_secs();
        self.operator(&format!("rollout status {id} --wait --timeout {wait_s}s"), code).await?;
        self.fleet.controller.rollout_status(id).await
    }

    /// How a version did on all devices together, from the labels.
    pub(super) fn score(&self, version: &str) -> Score {
        let scores = self.fleet.feeders.iter().map(|feeder| feeder.books().score(version));
        scores.fold(Score::default(), Score::plus)
    }

    /// Answers that applications should have had and did not get, all together.
    pub(super) fn missed(&self) -> u64 {
        self.fleet.feeders.iter().map(|feeder| feeder.books().errors).sum()
    }

    /// No application missed an answer.
    pub(super) fn check_none_missed(&mut self, when: &str) -> Result<()> {
        self.fleet.check_no_errors()?;
        let answers: u64 = self.fleet.feeders.iter().map(|f| f.books().answers()).sum();
        let claim = format!("{when}: {answers} answers so far, none missed");
        self.check(self.missed() == 0, &claim, String::new)
    }

    /// Remembers what happened to a device.
    pub(super) fn note(&mut self, device: &str, what: &str) {
        self.notes.entry(device.to_owned()).or_default().push(what.to_owned());
    }
}

fn heading(title: &str, started: Instant) {
    let at_s = started.elapsed().as_secs_f32();
    println!("\n{title:<74}{at_s:>5.1} s\n{}", "─".repeat(81));
}
