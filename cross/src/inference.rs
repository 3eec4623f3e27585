//! `cargo xtask bench inference`: int8 models on qnn, tract, onnxruntime and LiteRT, side by side.
//!
//! The measuring is `tests/python/qnn_bench.py`; here it gets its rivals (from the Python package
//! index, once) and our worker, built as it is shipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cargo::{self, cargo};

/// The rivals, in the versions that the figures in `docs/measurements` were taken with.
const PACKAGES: [&str; 4] =
    ["numpy==2.4.6", "onnx==1.23.2", "onnxruntime==1.32.0", "ai-edge-litert==2.3.0"];

/// Builds, prepares and measures; further models come from a directory.
pub(crate) fn bench(json: Option<&Path>, models: Option<&Path>, threads: usize) -> Result<()> {
    let absolute = |path: Option<&Path>| path.map(std::path::absolute).transpose();
    let (json, models) = (absolute(json)?, absolute(models)?);
    crate::say("building");
    cargo::run(&mut cargo(&["build", "--release", "-p", "fleetway-qnnc"]))?;
    let program = cargo::program_dir("release")?.join("fleetway-qnnc");
    // tract takes ten processor minutes to build: the one that tests and demo have will do. Its crates
    // are optimized there as here.
    cargo::build_programs()?;
    let agent = cargo::program_dir("debug")?.join("engine-worker");
    let work = cargo::program_dir("release")?.join("inference");
    std::fs::create_dir_all(&work)?;
    let python = rivals(&work)?;
    let root = cargo::root();
    let mut bench = Command::new(python);
    bench.arg(root.join("tests/python/qnn_bench.py")).arg("--qnnc").arg(program);
    bench.arg("--agent").arg(agent);
    bench.arg("--work").arg(&work);
    bench.arg("--digits").arg(root.join("tests/models/digits/digits-v2.onnx"));
    bench.args(["--threads", &threads.to_string()]);
    if let Some(models) = models {
        bench.arg("--models").arg(models);
    }
    if let Some(json) = json {
        bench.arg("--json").arg(json);
    }
    cargo::run(&mut bench)
}

/// A Python that has the rivals.
fn rivals(work: &Path) -> Result<PathBuf> {
    let dir = work.join("python-1");
    let (python, ready) = (dir.join("bin/python"), dir.join("ready"));
    if !ready.exists() {
        crate::say("installing onnxruntime and LiteRT (some 100 MB, once)");
        cargo::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))
            .context("Python 3.10 or newer with venv is needed (Debian: python3, python3-venv)")?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        cargo::run(Command::new(&python).args(pip).args(PACKAGES))?;
        std::fs::write(&ready, b"")?;
    }
    Ok(python)
}
