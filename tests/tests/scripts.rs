//! A scripted operator's day: commands and what they print, in one file each (`tests/scripts/`).
//!
//! A real daemon, real agents with real models, real applications asking them. A script holds
//!
//! ```text
//! # a remark
//! % devices 3          something that no command of ours does (see `act`)
//! % until soaks: fleetway rollout status 2
//! $ fleetway status    a line for the shell
//! ...                  what it printed; what it said on stderr begins with `2> `
//! [3]                  its exit code, where it is not 0
//! ```
//!
//! A script is run as a whole and compared as a whole. What differs from run to run is replaced
//! by its name before (`VOLATILE`), digests by their place in the script: the same digest has the
//! same name everywhere. `FLEETWAY_BLESS=1` writes the outputs anew; read the difference.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fleetway_tests::harness::cli::{Done, run};
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, digits, programs, wait};
use regex::{Captures, Regex};
use tokio::process::Command;

/// Pause between two requests of an application: probations of twenty answers pass in a second.
const ASK: Duration = Duration::from_millis(20);
/// Longer than agents need to come back on a loaded machine.
const BACK: Duration = Duration::from_secs(60);

/// What differs from run to run, and what stands for it.
const VOLATILE: &[(&str, &str)] = &[
    (r"\b[0-9a-f]{32}\b", "<key>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r"\b\d+ (s|min|h|d)\b( ago)?", "<duration>"),
    (r"\b\d+(\.\d+)? ms\b", "<ms>"),
    (r"\b\d+ us\b", "<us>"),
    (r"\b\d+(\.\d+)? (B|KiB|MiB)\b", "<bytes>"),
    (r"(localhost|127\.0\.0\.1):\d+", "$1:<port>"),
    (r"process \d+", "process <pid>"),
    (r"\d+ pieces", "<n> pieces"),
    // Columns are as wide as what stands in them.
    (r"  +", "  "),
];

fn script(name: &str) -> PathBuf {
    programs::workspace().join("tests/scripts").join(name).with_extension("txt")
}

/// One script on its way.
struct Player {
    fleet: Fleet,
    volatile: Vec<(Regex, &'static str)>,
    digest: Regex,
    /// Digests by the place where they first stood.
    digests: Vec<String>,
}

impl Player {
    async fn new() -> Result<Self> {
        let regex = |pattern: &str| Regex::new(pattern).context("a pattern of ours");
        let volatile = VOLATILE.iter().map(|(pattern, name)| Ok((regex(pattern)?, *name)));
        Ok(Self {
            fleet: Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 0)).await?,
            volatile: volatile.collect::<Result<_>>()?,
            digest: regex(r"\b[0-9a-f]{12}([0-9a-f]{52})?\b")?,
            digests: Vec::new(),
        })
    }

    /// The script as it reads with the outputs of this run.
    async fn play(&mut self, text: &str) -> Result<String> {
        let mut out = String::new();
        for line in text.lines() {
            let kept = line.is_empty() || ["#", "%", "$"].iter().any(|m| line.starts_with(m));
            if !kept {
                continue;
            }
            out.push_str(line);
            out.push('\n');
            if let Some(words) = line.strip_prefix("% ") {
                self.act(words).await.with_context(|| line.to_owned())?;
            } else if let Some(command) = line.strip_prefix("$ ") {
                let done = self.shell(command).await?;
                out.push_str(&self.normal(&shown(&done)));
            }
        }
        Ok(out)
    }

    /// What no command of ours does.
    async fn act(&mut self, words: &str) -> Result<()> {
        if let Some((text, command)) = words.strip_prefix("until ").and_then(|w| w.split_once(": "))
        {
            return wait::until(text, BACK, async || {
                let done = self.shell(command).await?;
                ensure!(done.stdout.contains(text), "{}", shown(&done));
                Ok(())
            })
            .await;
        }
        let words: Vec<_> = words.split_whitespace().collect();
        match words.as_slice() {
            ["devices", count] => {
                for at in 1..=count.parse()? {
                    self.fleet.add_device(&format!("cam-{at}"), "").await?;
                }
                self.fleet.start_agents().await
            }
            ["feed"] => {
                self.fleet.feed(ASK);
                Ok(())
            }
            ["stop", id] => {
                let at = self.fleet.at(id)?;
                self.fleet.feeders[at].expect_down(true);
                self.fleet.agents[at].stop().await
            }
            ["start", id] => {
                let at = self.fleet.at(id)?;
                self.fleet.agents[at].start().await?;
                self.fleet.all_online(BACK).await
            }
            ["kill", "controller"] => {
                self.fleet.controller.kill()?;
                self.fleet.controller.start().await?;
                self.fleet.all_online(BACK).await
            }
            _ => bail!("no such act; see `act` in tests/tests/scripts.rs"),
        }
    }

    async fn shell(&self, line: &str) -> Result<Done> {
        let program = &programs::programs().fleetway;
        let beside = program.parent().context("a program without a directory")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(
            [beside.to_path_buf()].into_iter().chain(std::env::split_paths(&path)),
        )?;
        let home = self.fleet.dir().join("home");
        std::fs::create_dir_all(&home)?;
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&home);
        // Of the tester's own settings none counts.
        for name in ["FLEETWAY_OUTPUT", "FLEETWAY_CONTEXT", "FLEETWAY_CONFIG", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.env("PATH", path).env("HOME", &home).env("USER", "ann").env_remove("SUDO_USER");
        command.env("MODELS", digits::model_dir());
        command.env("FLEETWAY_DATA", self.fleet.controller.data());
        run(command, line.to_owned()).await
    }

    /// What differs from run to run, by its name.
    fn normal(&mut self, text: &str) -> String {
        let dir = self.fleet.dir().display().to_string();
        let models = digits::model_dir().display().to_string();
        let mut text = text.replace(&dir, "<dir>").replace(&models, "<models>");
        let digests = &mut self.digests;
        let named = |found: &Captures<'_>| {
            let short = found[0][..12].to_owned();
            let known = digests.iter().position(|digest| *digest == short);
            let at = known.unwrap_or_else(|| {
                digests.push(short);
                digests.len() - 1
            });
            format!("<digest {}>", at + 1)
        };
        text = self.digest.replace_all(&text, named).into_owned();
        for (pattern, name) in &self.volatile {
            text = pattern.replace_all(&text, *name).into_owned();
        }
        text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

/// What a command printed, and how it ended.
fn shown(done: &Done) -> String {
    let mut text = String::new();
    for line in done.stdout.lines() {
        // These begin lines of other kinds; blank lines are the script's own.
        let escaped = line.is_empty() || ["#", "%", "$"].iter().any(|m| line.starts_with(m));
        text.push_str(if escaped { " " } else { "" });
        text.push_str(if line.is_empty() { "." } else { line });
        text.push('\n');
    }
    for line in done.stderr.lines().filter(|line| !line.is_empty()) {
        text.push_str(&format!("2> {line}\n"));
    }
    if done.code != 0 {
        text.push_str(&format!("[{}]\n", done.code));
    }
    text
}

/// The first place where two texts differ, with what stands around it.
fn difference(stored: &str, now: &str) -> String {
    let (stored, now): (Vec<_>, Vec<_>) = (stored.lines().collect(), now.lines().collect());
    let at = stored.iter().zip(&now).take_while(|(a, b)| a == b).count();
    let part = |lines: &[&str]| {
        let from = at.saturating_sub(4).min(lines.len());
        lines[from..(at + 8).min(lines.len())].join("\n")
    };
    format!("line {}, stored:\n{}\n\nnow:\n{}", at + 1, part(&stored), part(&now))
}

async fn check(name: &str) -> Result<()> {
    let path = script(name);
    let stored = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let now = Player::new().await?.play(&stored).await?;
    if std::env::var_os("FLEETWAY_BLESS").is_some() {
        return std::fs::write(&path, now).context("the script");
    }
    ensure!(
        stored == now,
        "tests/scripts/{name}.txt does not print what it did (FLEETWAY_BLESS=1 writes it anew): {}",
        difference(&stored, &now)
    );
    Ok(())
}

#[tokio::test]
async fn a_good_day() {
    check("good-day").await.unwrap();
}

#[tokio::test]
async fn a_bad_day() {
    check("bad-day").await.unwrap();
}

#[tokio::test]
async fn forms_and_settings() {
    check("forms").await.unwrap();
}

#[test]
fn every_script_is_played() {
    let dir = script("x");
    let files = std::fs::read_dir(dir.parent().unwrap_or(Path::new("."))).unwrap();
    let mut names: Vec<_> =
        files.map(|f| f.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["bad-day.txt", "forms.txt", "good-day.txt"]);
}
