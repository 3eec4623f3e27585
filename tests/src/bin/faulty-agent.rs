//! The agent with an engine that goes wrong as the model says ([`fleetway_tests::faults`]), and with
//! a self-test that takes a while, so that a test can cut the network before it ends. Never shipped.
//!
//! `faulty-agent run --config FILE` and `status -o json --config FILE`, as the harness calls them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fleetway_agent::config::Config;
use fleetway_agent::{run, status};
use fleetway_engine::selftest;

/// Longer than a test needs to see that the self-test is under way, and to cut the network.
const SELF_TEST: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if selftest::child_requested() {
        return selftest::child_main_with(|_| std::thread::sleep(SELF_TEST));
    }
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let config = args.last().context("no --config")?;
    let config = Config::load(config.as_ref())?;
    // As the agent has it: one thread for the loop, one for applications.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if args.iter().any(|arg| arg == "status") {
        let socket = config.serve.endpoints.unix.context("no socket")?;
        let status = runtime.block_on(status::fetch::fetch(&socket.path))?;
        println!("{}", serde_json::to_string(&status)?);
        return Ok(());
    }
    fleetway_agent::service::log::init();
    match runtime.block_on(run::run_with(config, fleetway_tests::faults::load))? {
        run::Ended::Stopped => runtime.shutdown_timeout(Duration::from_secs(1)),
        run::Ended::Again => return Err(run::again::become_again()).context("cannot start anew"),
    }
    Ok(())
}
