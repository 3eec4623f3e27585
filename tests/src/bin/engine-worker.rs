//! An engine as the agent has it, for `cargo xtask bench inference`: loads a model with a proof of where
//! it comes from, and runs it as often as it is asked (`tests/python/qnn_bench.py`), by some threads.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use fleetway_engine::load::load;
use fleetway_engine::tensor::TensorData;
use fleetway_engine::{DType, ModelBytes, Tensor, TensorSpec};
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::trust::VerifiedArtifact;
use fleetway_tests::proof;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("engine-worker MODEL.(onnx|qnn) [THREADS]")?;
    if let Some(threads) = std::env::args().nth(2) {
        fleetway_engine::crew::start(threads.parse()?)?;
    }
    let bare = peak_kib();
    let since = now();
    let bytes = ModelBytes::map(&std::fs::File::open(&path).with_context(|| path.clone())?)?;
    let kind = match Path::new(&path).extension().is_some_and(|end| end == "qnn") {
        true => VariantKind::Qnn,
        false => VariantKind::Onnx,
    };
    let manifest = proof::manifest(&bytes, kind)?;
    let pick = |m: &fleetway_protocol::manifest::Manifest| m.variant(kind).map(|v| v.model);
    let artifact = VerifiedArtifact::check(&bytes, &manifest, pick)?;
    let engine = load(kind, &artifact, bytes.clone())?;
    let load_us = since.elapsed().as_secs_f64() * 1e6;
    let inputs: Vec<Tensor> = engine.inputs().iter().map(input).collect::<Result<_>>()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{{\"load_us\": {load_us}, \"engine\": \"{}\"}}", engine.kind())?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let mut times = Vec::new();
        for _ in 0..line?.trim().parse::<u32>()? {
            let since = now();
            engine.run(&inputs)?;
            times.push(since.elapsed().as_nanos().to_string());
        }
        writeln!(out, "{}", times.join(" "))?;
        out.flush()?;
    }
    writeln!(out, "{{\"peak_kib\": {}, \"bare_kib\": {bare}}}", peak_kib())?;
    Ok(())
}

/// The wall clock: it is what is measured.
#[expect(clippy::disallowed_methods, reason = "a bench times")]
fn now() -> Instant {
    Instant::now()
}

/// Something else than zeros, the same in every run and for every engine.
fn input(spec: &TensorSpec) -> Result<Tensor> {
    let count: usize = spec.shape.iter().product();
    let data = match spec.dtype {
        DType::U8 => TensorData::U8((0..count).map(|i| (i * 37) as u8).collect()),
        DType::I8 => TensorData::I8((0..count).map(|i| (i * 37) as i8).collect()),
        _ => TensorData::F32((0..count).map(|i| (i % 97) as f32 / 48.5 - 1.0).collect()),
    };
    Ok(Tensor::new(spec.shape.clone(), data)?)
}

/// Most memory that this process ever had, KiB; 0 where the system does not say.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
