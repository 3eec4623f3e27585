//! `fleetway`: the controller and its operator's command line.
//!
//! Read in this order: `cli` (what can be typed), `config` (what is configured), `api`
//! (what the command line asks a running controller), `serve` (the running controller).
//! What is decided lies in the library: `fleetway_controller`.

mod api;
mod cli;
mod config;
mod serve;
mod web;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the child is fenced in, and must not touch what we would.
    if fleetway_engine::selftest::child_requested() {
        return fleetway_engine::selftest::child_main();
    }
    cli::main()
}
