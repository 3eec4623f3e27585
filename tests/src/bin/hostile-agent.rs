//! The agent with a broken parser: the same library, the same fences, and a self-test child that
//! does what an attacking model says ([`fleetway_tests::attacks`]). Never shipped.
//!
//! Started under a name with [`OLD_KERNEL`] in it, it lives on a kernel without landlock and
//! seccomp: the calls that would ask for them do not exist for it and its child.
//!
//! `hostile-agent run --config FILE` and `status -o json --config FILE`, as the harness calls them.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use fleetway_agent::config::Config;
use fleetway_agent::{run, status};
use fleetway_engine::selftest;
use fleetway_tests::attacks::OLD_KERNEL;

fn main() -> ExitCode {
    if selftest::child_requested() {
        return selftest::child_main_with(fleetway_tests::attacks::act);
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
    if args[0].contains(OLD_KERNEL) {
        fleetway_tests::attacks::live_on_an_old_kernel()?;
    }
    let config = args.last().context("no --config")?;
    let config = Config::load(config.as_ref())?;
    let runtime = tokio::runtime::Runtime::new()?;
    if args.iter().any(|arg| arg == "status") {
        let socket = config.serve.endpoints.unix.context("no socket")?;
        let status = runtime.block_on(status::fetch::fetch(&socket.path))?;
        println!("{}", serde_json::to_string(&status)?);
        return Ok(());
    }
    let _ = runtime.block_on(run::run(config))?;
    Ok(())
}
