//! What can be said about the code without running it.

use anyhow::Result;

use crate::cargo::{self, BARE_TARGET, cargo};
use crate::{flash, needs};

/// Runs every check, the quick ones first.
pub(crate) fn lint() -> Result<()> {
    components()?;
    crate::say("format");
    cargo::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    crate::say("clippy");
    cargo::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    crate::say("documentation");
    let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
    cargo::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    crate::say("the protocol without std");
    bare_protocol()?;
    deny()?;
    crate::say("lint: all clean");
    Ok(())
}

/// Builds what runs there for a microcontroller, and links the int8 runtime within its budget.
pub(crate) fn bare_protocol() -> Result<()> {
    needs::target(BARE_TARGET)?;
    cargo::run(&mut cargo(&[
        "build",
        "-p",
        "fleetway-protocol",
        "-p",
        "fleetway-qnn",
        "-p",
        "fleetway-firmware",
        "--target",
        BARE_TARGET,
    ]))?;
    flash::check()
}

/// clippy and rustfmt come with the toolchain file, unless that is told not to install.
fn components() -> Result<()> {
    let has = |verb: &str| {
        let shown = cargo(&[verb, "--version"]).output();
        shown.is_ok_and(|shown| shown.status.success())
    };
    if has("clippy") && has("fmt") {
        return Ok(());
    }
    needs::rustup(&["component", "add", "clippy", "rustfmt"])
}

fn deny() -> Result<()> {
    if needs::find("cargo-deny").is_none() {
        eprintln!("\ncargo-deny is not installed: licences and advisories were NOT checked here");
        eprintln!("(`cargo install cargo-deny` brings it; every other check ran)");
        return Ok(());
    }
    crate::say("licences, advisories, sources");
    cargo::run(&mut cargo(&["deny", "check"]))
}
