//! The file: header, inputs and outputs, steps, constants.

use crate::error::CompileError;
use crate::ir::{Program, address};
use crate::plan;
use fleetway_qnn::format::{ALIGN, HEADER_WORDS, Header, IO_WORDS, OP_WORDS};

/// Everything gets its address; offsets that do not fit a word are refused.
pub(crate) fn write(program: &Program) -> Result<Vec<u8>, CompileError> {
    let arena = plan::plan(program);
    let large = || CompileError::Graph("is too large for a qnn file".to_owned());
    let word = |value: usize| u32::try_from(value).map_err(|_| large());
    let ports = program.inputs.len() + program.outputs.len();
    let head = (HEADER_WORDS + ports * IO_WORDS + program.steps.len() * OP_WORDS) * 4;
    let mut file = vec![0; head];
    let mut blobs = Vec::new();
    for blob in &program.blobs {
        file.resize(file.len().next_multiple_of(ALIGN), 0);
        blobs.push(word(file.len())?);
        file.extend_from_slice(blob);
    }
    let mut records = Vec::new();
    for port in program.inputs.iter().chain(&program.outputs) {
        let mut io = port.io;
        io.arena = word(arena.at[port.buffer])?;
        (io.name, io.name_bytes) = (word(file.len())?, word(port.name.len())?);
        file.extend_from_slice(port.name.as_bytes());
        records.extend(io.to_words());
    }
    for step in &program.steps {
        let place = |place: &crate::ir::Place| word(arena.at[place.buffer] + place.offset);
        let inputs = step.inputs.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let scratch = word(step.scratch.map_or(0, |buffer| arena.at[buffer]))?;
        let blobs: Vec<u32> = step.blobs.iter().map(|&blob| blobs[blob]).collect();
        let op = address(&step.op, &inputs, place(&step.output)?, scratch, &blobs);
        records.extend(op.to_words());
    }
    let header = Header {
        file_bytes: word(file.len())?,
        arena_bytes: word(arena.bytes)?,
        inputs: word(program.inputs.len())?,
        outputs: word(program.outputs.len())?,
        ops: word(program.steps.len())?,
        open: u32::from(program.open),
    };
    let words = header.to_words().into_iter().chain(records);
    for (bytes, word) in file.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Ok(file)
}
