//! The verbs that build and then become a program: demo and bench; and those that are
//! tests with other numbers: sim and soak.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::cargo::{self, cargo};

/// Builds everything and shows the main job, or a microcontroller in the fleet.
pub(crate) fn demo(mcu: bool, stay: bool) -> Result<()> {
    if mcu {
        crate::needs::boards()?;
    }
    crate::say("building (the first time takes some minutes, mostly for the model engine)");
    cargo::build_programs()?;
    become_program("demo", |demo| {
        if mcu {
            demo.arg("--mcu");
        }
        if stay {
            demo.arg("--stay");
        }
    })
}

/// Builds everything and measures.
pub(crate) fn bench(json: Option<&Path>, no_dist: bool, only: &[String]) -> Result<()> {
    crate::say("building");
    cargo::build_programs()?;
    let mut dist = None;
    if !no_dist {
        crate::say("building what is shipped, for its size (link-time optimization takes minutes)");
        let mut build = cargo(&["build", "--profile", "dist", "--bins"]);
        cargo::run(build.args(["-p", "fleetway-agent", "-p", "fleetway-controller"]))?;
        dist = Some(cargo::program_dir("dist")?);
    }
    // Relative to where the person stands, not to the workspace.
    let json = json.map(std::path::absolute).transpose().context("--json")?;
    become_program("bench", |bench| {
        if let Some(json) = &json {
            bench.arg("--json").arg(json);
        }
        if let Some(dist) = &dist {
            bench.env("FLEETWAY_DIST_DIR", dist);
        }
        bench.args(only);
    })
}

/// Runs the simulated world.
pub(crate) fn sim(seeds: u64, seed: Option<u64>) -> Result<()> {
    let mut sim = cargo(&["test", "--test", "world", "--"]);
    sim.args(["--nocapture"]).env("FLEETWAY_SIM_SEEDS", seeds.to_string());
    if let Some(seed) = seed {
        sim.env("FLEETWAY_SIM_SEED", seed.to_string());
    }
    cargo::run(&mut sim)
}

/// Runs the simulated rollouts: how often they stop by mistake, and when they should.
pub(crate) fn rollouts(seeds: u64, first: u64) -> Result<()> {
    let mut sim = cargo(&["test", "--test", "rollouts", "--"]);
    sim.args(["--nocapture", "--test-threads", "1"]);
    sim.env("FLEETWAY_SIM_ROLLOUTS", seeds.to_string());
    cargo::run(sim.env("FLEETWAY_SIM_FIRST", first.to_string()))
}

/// Repeats the kill tests, each time with another seed, until the time is over.
pub(crate) fn soak(time: Duration) -> Result<()> {
    crate::needs::for_tests()?;
    cargo::build_programs()?;
    let dir = cargo::program_dir("debug")?;
    let started = now();
    let mut seed = u64::from(std::process::id()) << 16;
    while started.elapsed() < time {
        seed += 1;
        crate::say(&format!(
            "kill tests with FLEETWAY_SEED={seed}, {} s so far",
            started.elapsed().as_secs()
        ));
        let mut kills = cargo(&["test", "--test", "e2e_kill", "--"]);
        kills.arg("--nocapture").env("FLEETWAY_SEED", seed.to_string());
        cargo::run(kills.env("FLEETWAY_BIN_DIR", &dir)).with_context(|| {
            format!("repeat it with `FLEETWAY_SEED={seed} cargo xtask test --test e2e_kill`")
        })?;
    }
    Ok(())
}

/// The wall clock, for the person who waits.
#[expect(clippy::disallowed_methods, reason = "how long to go on is asked in wall time")]
fn now() -> Instant {
    Instant::now()
}

/// Takes the place of this process, so that Ctrl-C and exit codes are the program's own.
fn become_program(name: &str, configure: impl FnOnce(&mut Command)) -> Result<()> {
    let dir = cargo::program_dir("debug")?;
    let program = dir.join(name);
    let mut command = Command::new(&program);
    command.env("FLEETWAY_BIN_DIR", &dir);
    configure(&mut command);
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
