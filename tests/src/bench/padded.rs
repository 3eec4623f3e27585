//! The digits model with an initializer that nobody uses, so that it has a size of choice.
//!
//! Protobuf merges repeated occurrences of an embedded message: a second `graph` field with
//! one initializer in it, appended to the file, is an initializer more. The padding is
//! random, so that nothing on the way can make it smaller, and of another seed for every
//! release, so that no two share bytes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::harness::digits::model_dir;

/// The size of the artifacts in the bench.
pub(super) const BYTES: usize = 5 * 1024 * 1024;

/// `ModelProto.graph`, `GraphProto.initializer`, and the fields of `TensorProto`.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const DIMS: u64 = 1;
const DATA_TYPE: u64 = 2;
const NAME: u64 = 8;
const RAW_DATA: u64 = 9;
/// `TensorProto.DataType.UINT8`.
const UINT8: u64 = 2;

/// Writes `model` padded to `wanted` bytes into `dir`.
///
/// # Errors
/// The disk's.
pub fn write(model: &str, dir: &Path, seed: u64, wanted: usize) -> Result<PathBuf> {
    let source = model_dir().join(format!("{model}.onnx"));
    let mut bytes = std::fs::read(&source).with_context(|| source.display().to_string())?;
    pad(&mut bytes, wanted, seed);
    let path = dir.join(format!("{model}-{seed}.onnx"));
    std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Appends an unused initializer, so that the whole has `wanted` bytes or a few less.
fn pad(model: &mut Vec<u8>, wanted: usize, seed: u64) {
    // Tags, lengths and names around the data: 47 bytes at most.
    let count = wanted.saturating_sub(model.len() + 47);
    let mut data = vec![0; count];
    fastrand::Rng::with_seed(seed).fill(&mut data);
    let mut tensor = Vec::new();
    put_number(&mut tensor, DIMS, count as u64);
    put_number(&mut tensor, DATA_TYPE, UINT8);
    put_bytes(&mut tensor, NAME, b"padding");
    put_bytes(&mut tensor, RAW_DATA, &data);
    let mut graph = Vec::new();
    put_bytes(&mut graph, INITIALIZER, &tensor);
    put_bytes(model, GRAPH, &graph);
}

fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_model_is_still_the_model() {
        let dir = tempfile::tempdir().unwrap();
        let path = write("digits-v2", dir.path(), 1, BYTES).unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert!((BYTES - 16..=BYTES).contains(&bytes.len()), "{}", bytes.len());
        let model = fleetway_engine::validate::validate(&bytes).unwrap();
        drop(model);
    }
}
