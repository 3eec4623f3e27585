//! The child's side of a [`Worker`](super::Worker): loads a model once, then answers requests
//! from stdin until it closes, behind the same fences as a self-test.

use super::report::read_bounded;
use crate::clock::CpuClock;
use crate::limits::{FRAME_BYTES_MAX, bounded};
use crate::load;
use crate::tensor::{Tensor, TensorSpec};
use fleetway_protocol::manifest::VariantKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// What the child says, one a frame.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// The model is loaded, with this interface.
    Loaded { inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec> },
    /// The model cannot be loaded. The child ends.
    NotLoaded(String),
    /// Its answer, and the processor time that it took.
    Answered { outputs: Vec<Tensor>, cpu_us: u64 },
    /// It gave no answer.
    Failed(String),
}

/// Loads and answers.
pub(super) fn serve(
    kind: VariantKind,
    model: Vec<u8>,
    cpu: &mut CpuClock,
    from: &mut impl Read,
    to: &mut impl Write,
) -> io::Result<()> {
    let engine = match load::parse(kind, model.into()) {
        Ok(engine) => engine,
        Err(error) => return write(to, &Said::NotLoaded(bounded(error.to_string()))),
    };
    let (inputs, outputs) = (engine.inputs().to_vec(), engine.outputs().to_vec());
    write(to, &Said::Loaded { inputs, outputs })?;
    while let Some(inputs) = read::<Vec<Tensor>>(from)? {
        let since_us = cpu.now_us();
        let said = match engine.run(&inputs) {
            Ok(outputs) => {
                let cpu_us = cpu.now_us().saturating_sub(since_us);
                Said::Answered { outputs, cpu_us }
            }
            Err(error) => Said::Failed(bounded(error.to_string())),
        };
        write(to, &said)?;
    }
    Ok(())
}

/// A value as a frame: its length, then its bytes.
pub(super) fn frame(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    bytes = postcard::to_extend(value, bytes).map_err(io::Error::other)?;
    let length = bytes.len() - 4;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!(
            "{length} bytes, at most {FRAME_BYTES_MAX} are sent"
        )));
    }
    let length = u32::try_from(length).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

fn write(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(value)?)?;
    to.flush()
}

/// The next frame; `None` at the end.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let bytes = read_bounded(from, u64::from(u32::from_le_bytes(length)), FRAME_BYTES_MAX)?;
    postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written_and_bounded() {
        let sent = [frame(&"one").unwrap(), frame(&"two").unwrap()].concat();
        let mut from = &sent[..];
        assert_eq!(read::<String>(&mut from).unwrap().as_deref(), Some("one"));
        assert_eq!(read::<String>(&mut from).unwrap().as_deref(), Some("two"));
        assert_eq!(read::<String>(&mut from).unwrap(), None);
        let long = [&u32::MAX.to_le_bytes()[..], &[0; 9]].concat();
        assert!(read::<String>(&mut &long[..]).is_err());
        assert!(read::<String>(&mut &sent[..6]).is_err(), "torn");
    }
}
