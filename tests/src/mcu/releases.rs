//! Releases that import would not make: a compiled form that its golden vectors do not belong to, and
//! one that is too slow for the board. They stand for a compiler's bug and for a model that hangs; what is
//! signed, published and ordered of them is as real as of any other.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fleetway_emulator::maker::{self, artifact};
use fleetway_emulator::network::{SLOW_POOLS, network};
use fleetway_emulator::{answers, golden_set};
use fleetway_protocol::codec;
use fleetway_protocol::limits::MANIFEST_BYTES_MAX;
use fleetway_protocol::manifest::{Manifest, VariantKind};

use super::HARDWARE;
use crate::harness::Controller;

/// Numbers that the slow network takes and gives: as many as the sensor has.
const PIXELS: u32 = 64;
/// Bytes of its file: its operators, and some filling.
const SLOW_BYTES: usize = 9_000;

/// What is put into the place of a draft's compiled form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The golden vectors of the release before.
    OtherGolden,
    /// A network that works for seconds.
    Slow,
}

/// The command that imports one of the repository's models for the board, run from the repository's root.
pub fn import_line(model: &str, version: &str) -> String {
    let dir = "tests/models/digits";
    format!(
        "model import {dir}/{model}.onnx --name digits --version {version} --golden {dir}/{model}.golden.npz --hardware {HARDWARE}"
    )
}

/// Where a release lies in the catalog.
fn dir(controller: &Controller, version: &str) -> PathBuf {
    controller.data().join("catalog/digits").join(version)
}

/// Spoils a draft: `before` is the release whose golden vectors it may get.
///
/// # Errors
/// The disk's.
pub fn spoil(controller: &Controller, version: &str, before: &str, flaw: Flaw) -> Result<()> {
    let (at, other) = (dir(controller, version), dir(controller, before));
    let path = at.join("manifest.bin");
    let bytes = std::fs::read(&path).context("manifest.bin")?;
    let mut manifest: Manifest = codec::decode(&bytes, MANIFEST_BYTES_MAX)?;
    let qnn = manifest.variants.iter_mut().find(|v| v.kind == VariantKind::Qnn);
    let qnn = qnn.context("it was not compiled")?;
    match flaw {
        Flaw::OtherGolden => {
            let golden = std::fs::read(other.join("golden-qnn.bin")).context("golden-qnn.bin")?;
            qnn.golden = put(&at, "golden-qnn", "bin", &golden)?;
        }
        Flaw::Slow => {
            let file = network(PIXELS, 1, SLOW_BYTES, SLOW_POOLS);
            let input = (0..PIXELS).map(|at| (at % 17) as f32).collect();
            let golden = golden_set(&answers(&file, [input])?);
            qnn.model = put(&at, "model", "qnn", &file)?;
            qnn.golden = put(&at, "golden-qnn", "bin", &golden)?;
        }
    }
    std::fs::write(&path, maker::encoded(&manifest)).context("manifest.bin")
}

/// Writes a file of a release, and its chunk list.
fn put(
    dir: &Path,
    name: &str,
    ending: &str,
    bytes: &[u8],
) -> Result<fleetway_protocol::manifest::Artifact> {
    let (artifact, list) = artifact(bytes);
    let chunks = if ending == "qnn" { "model-qnn" } else { name };
    std::fs::write(dir.join(format!("{name}.{ending}")), bytes).context("an artifact")?;
    std::fs::write(dir.join(format!("{chunks}.chunks")), list).context("a chunk list")?;
    Ok(artifact)
}
