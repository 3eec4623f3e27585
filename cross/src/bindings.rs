//! `cargo xtask bindings`: the agent as a shared library, its C header, and the bindings.
//!
//! The header is kept in the repository, so that a C program needs no generator, and a test compares it
//! with the code. The bindings are not kept: each side checks at start that the other is of the same
//! build, so they are made for the very library that they go with.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cargo::{self, cargo};

/// Builds the library and makes everything that goes with it.
pub(crate) fn bindings(out: &Path) -> Result<()> {
    crate::say("building the library");
    // All of the workspace: a part of it would build the expensive dependencies again.
    cargo::run(&mut cargo(&["build", "--workspace", "--exclude", "xtask", "--lib"]))?;
    let library = cargo::program_dir("debug")?.join("libfleetway_device.so");
    crate::say("making the header and the bindings");
    let header = "agent/ffi/include/fleetway_device.h";
    generate(&["header".as_ref(), header.as_ref()])?;
    generate(&["bindings".as_ref(), library.as_os_str(), out.as_os_str()])?;
    let beside = cargo::root().join(out).join("python/libfleetway_device.so");
    std::fs::copy(&library, &beside).with_context(|| beside.display().to_string())?;
    println!("{header}");
    for language in ["kotlin", "swift", "python"] {
        println!("{}", out.join(language).display());
    }
    Ok(())
}

/// Runs the generator, which is a workspace of its own.
fn generate(words: &[&std::ffi::OsStr]) -> Result<()> {
    let manifest = ["--manifest-path", "agent/ffi/generate/Cargo.toml"];
    let mut command = cargo(&["run", "--quiet", "--locked"]);
    command.args(manifest).args(["--target-dir", "target/generate", "--"]).args(words);
    cargo::run(&mut command)
}
