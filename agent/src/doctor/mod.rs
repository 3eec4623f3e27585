//! `fleetway-agent doctor`: what an engineer would look at by hand, one line each, with the mend.
//!
//! It is safe beside a running agent and changes nothing: stored state is read through a disk
//! that forgets what is written ([`frozen`]), so that the very code of a boot judges it; the broker is
//! only connected to under the device's name while no agent is, because a second session would
//! throw the first one out.
//!
//! Read in this order: this page (what a finding is), `disk` and [`frozen`] (what is kept),
//! `identity`, `network`, `gateway`, `machine` (what we stand on), `render`.

mod disk;
mod frozen;
mod gateway;
mod identity;
mod machine;
mod network;
mod render;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Clock;
use crate::config::Config;
use crate::status::Status;
use crate::status::fetch::{FetchError, fetch};
use frozen::Stored;

pub use render::render;

/// For each question to the network: a bad mobile link answers in some seconds.
const DEADLINE: Duration = Duration::from_secs(10);

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, and will not for ever, or not as well as it could.
    Warning,
    /// Does not work.
    Problem,
}

impl Level {
    /// What monitoring systems expect of a check: 0 well, 1 warning, 2 critical.
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

/// What was found at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a stable word.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was seen.
    pub text: String,
    /// What to do, if anything.
    pub mend: Option<String>,
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of the findings.
    pub worst: Level,
    /// One per question, in the order in which a person would ask.
    pub findings: Vec<Finding>,
}

/// Findings, while they are made.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &'static str, level: Level, text: String, mend: Option<String>) {
        self.0.push(Finding { check, level, text, mend });
    }

    fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Level::Ok, text.into(), None);
    }

    fn warn(&mut self, check: &'static str, text: impl Into<String>, mend: impl Into<String>) {
        self.add(check, Level::Warning, text.into(), Some(mend.into()));
    }

    fn problem(&mut self, check: &'static str, text: impl Into<String>, mend: impl Into<String>) {
        self.add(check, Level::Problem, text.into(), Some(mend.into()));
    }

    fn report(self) -> Report {
        let worst = self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        Report { worst, findings: self.0 }
    }
}

/// What is known of the agent of this configuration.
#[derive(Debug)]
enum Agent {
    Runs(Box<Status>),
    /// It has the data directory, and does not answer.
    Mute(String),
    Stopped,
}

/// Looks at everything that the configuration at `path` names.
pub async fn examine(path: &Path) -> Report {
    let mut found = Findings::default();
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            let source = std::error::Error::source(&error).map(|s| format!(": {s}"));
            let text = format!("{error}{}", source.unwrap_or_default());
            found.problem("config", text, "correct the file, or join again");
            machine::look(&mut found);
            return found.report();
        }
    };
    let text =
        format!("{}: device {}, broker {}", path.display(), config.device, config.broker.url);
    found.ok("config", text);
    let agent = agent(&config).await;
    disk::look(&config, &mut found);
    let mut stored = Stored::read(&config);
    if matches!((&stored, &agent), (Ok(stored), Agent::Runs(_)) if stored.has_bad()) {
        // Its slot may have been filled under our eyes.
        tokio::time::sleep(Duration::from_secs(1)).await;
        stored = Stored::read(&config);
    }
    let floor_s = stored.as_ref().map_or(0, Stored::time_floor_s);
    match &stored {
        Ok(stored) => stored.look(&mut found),
        Err(error) => found.problem(
            "state",
            format!("{} cannot be read: {error}", config.data_dir.display()),
            "run this as root or as the agent's user; if it is, check the disk",
        ),
    }
    let clock = Clock::new(floor_s);
    machine::look_at_clock(Clock::new(0).unix_s(), floor_s, &mut found);
    let tls = identity::look(&config, &clock, &mut found);
    network::look(&config, &clock, tls, &agent, &mut found).await;
    machine::look_at_sandbox(config.sandbox, &mut found).await;
    machine::look(&mut found);
    look_at_checks(&config, &mut found);
    gateway::look(&config, &agent, &mut found).await;
    look_at_agent(&config, &agent, &mut found);
    found.report()
}

async fn agent(config: &Config) -> Agent {
    let is_locked = disk::is_locked(&config.data_dir);
    let Some(unix) = &config.serve.endpoints.unix else {
        let text = "its unix socket is off in agent.toml";
        return if is_locked { Agent::Mute(text.to_owned()) } else { Agent::Stopped };
    };
    match fetch(&unix.path).await {
        Ok(status) => Agent::Runs(Box::new(status)),
        Err(FetchError::NotRunning(_)) if !is_locked => Agent::Stopped,
        // It has the directory, or somebody is there, whoever it is.
        Err(error) => Agent::Mute(error.to_string()),
    }
}

fn look_at_agent(config: &Config, agent: &Agent, found: &mut Findings) {
    match agent {
        Agent::Stopped => {
            found.warn("agent", "does not run", "start it: `systemctl start fleetway-agent`");
        }
        Agent::Mute(error) => {
            let mend = "look into its log (`journalctl -u fleetway-agent`), then restart it";
            found.problem("agent", format!("runs, and cannot be asked: {error}"), mend);
        }
        Agent::Runs(status) => {
            let up = crate::status::render::age(status.uptime_s);
            found.ok("agent", format!("version {}, up {up}", status.agent));
            for model in &status.models {
                let runs = model.running.as_ref().map_or("nothing", |r| r.version.as_str());
                found.ok("model", format!("{} runs {runs}, {}", model.name, model.phase));
            }
            let mend = "`fleetway-agent status` tells more";
            for problem in &status.problems {
                found.warn("agent", problem.clone(), mend);
            }
            look_at_sockets(config, found);
        }
    }
}

/// The programs that have a word before a release is confirmed.
fn look_at_checks(config: &Config, found: &mut Findings) {
    use std::os::unix::fs::PermissionsExt as _;
    for (model, check) in &config.checks {
        let shown = format!("{model}: {}", check.program.display());
        match std::fs::metadata(&check.program) {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
                found.ok("check", shown);
            }
            Ok(_) => found.problem("check", format!("{shown} is no program"), "chmod +x it"),
            Err(error) => {
                let mend = "install it, or correct [check] in agent.toml; no release is confirmed \
                            until it answers";
                found.problem("check", format!("{shown}: {error}"), mend);
            }
        }
    }
}

/// Who may ask the models.
fn look_at_sockets(config: &Config, found: &mut Findings) {
    use std::os::unix::fs::MetadataExt as _;
    let endpoints = &config.serve.endpoints;
    for unix in [&endpoints.unix, &endpoints.grpc_unix].into_iter().flatten() {
        let shown = unix.path.display();
        match std::fs::symlink_metadata(&unix.path) {
            Ok(meta) => {
                let (mode, gid) = (meta.mode() & 0o777, meta.gid());
                let group = machine::group_name(gid).unwrap_or_else(|| gid.to_string());
                found.ok("socket", format!("{shown}: mode {mode:o}, group {group}"));
            }
            Err(error) => found.problem("socket", format!("{shown}: {error}"), "restart the agent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_exit_code() {
        let mut found = Findings::default();
        assert_eq!(Findings::default().report().worst.exit_code(), 0);
        found.ok("a", "well");
        found.warn("b", "so so", "rest");
        assert_eq!(found.0.len(), 2);
        assert_eq!(Findings(found.0.clone()).report().worst.exit_code(), 1);
        found.problem("c", "ill", "see a doctor");
        let report = found.report();
        assert_eq!(report.worst.exit_code(), 2);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["worst"], "problem");
        assert_eq!(json["findings"][1]["mend"], "rest");
        assert_eq!(json["findings"][0]["mend"], serde_json::Value::Null);
    }
}
