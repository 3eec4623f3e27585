//! The smallest host of the self-test's child: what the tests of `fleetway-engine` start. Shipped
//! programs ask the same question first thing in their own `main` and start themselves.

use std::process::ExitCode;

fn main() -> ExitCode {
    if fleetway_engine::selftest::child_requested() {
        return fleetway_engine::selftest::child_main();
    }
    eprintln!("this program is only ever started by a self-test");
    ExitCode::FAILURE
}
