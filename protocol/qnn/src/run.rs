//! One run: inputs into the arena, one operator after the other, outputs out of it.

use crate::arena::{carve, range};
use crate::format::{Element, Io, Op};
use crate::kernels::Kernels;
use crate::load::Model;
use crate::team::{Alone, Hands, Team};
use crate::{arith, conv, ops, resize};

/// What a caller hands in. Its element type must be the one that the model names, or numbers.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// The elements as numbers, whatever their type is: the nearest that there is, half to even.
    Numbers(&'a [f32]),
    /// Real numbers, quantized on the way in.
    F32(&'a [f32]),
    /// Bytes.
    U8(&'a [u8]),
    /// Signed bytes.
    S8(&'a [i8]),
}

/// Where a caller wants a result. Its element type must be the one that the model names, or numbers.
#[derive(Debug)]
pub enum Output<'a> {
    /// The elements as numbers, whatever their type is.
    Numbers(&'a mut [f32]),
    /// Real numbers, dequantized on the way out.
    F32(&'a mut [f32]),
    /// Bytes.
    U8(&'a mut [u8]),
    /// Signed bytes.
    S8(&'a mut [i8]),
}

/// Why a run did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Another number of inputs or outputs than the model has.
    #[error("the model has {inputs} inputs and {outputs} outputs")]
    Count {
        /// Inputs of the model.
        inputs: usize,
        /// Outputs of the model.
        outputs: usize,
    },
    /// Another length or element type than the model has.
    #[error("input or output {index} wants {elements} elements of {element:?}")]
    Io {
        /// Inputs first, from 0.
        index: usize,
        /// How many.
        elements: u32,
        /// Of which kind.
        element: Element,
    },
    /// Less memory than [`Model::arena_bytes`].
    #[error("the arena must have {bytes} bytes")]
    Arena {
        /// How many at least.
        bytes: usize,
    },
    /// A checked file does not give this.
    #[error("operator {index} does not fit the arena: a bug")]
    Bug {
        /// In the order in which they run, from 0.
        index: u32,
    },
}

impl Model<'_> {
    /// Runs the model once. The arena's former content does not matter.
    ///
    /// Inputs and outputs are in the order of [`Model::inputs`] and [`Model::outputs`].
    pub fn run(
        &self,
        kernels: Kernels,
        arena: &mut [u8],
        inputs: &[Input<'_>],
        outputs: &mut [Output<'_>],
    ) -> Result<(), RunError> {
        self.run_with(kernels, &Alone, arena, inputs, outputs)
    }

    /// As [`Model::run`], with large operators cut into parts for a team: the same bits.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn run_with(
        &self,
        kernels: Kernels,
        team: &dyn Team,
        arena: &mut [u8],
        inputs: &[Input<'_>],
        outputs: &mut [Output<'_>],
    ) -> Result<(), RunError> {
        let hands = Hands { kernels, team };
        let counts = (self.inputs().count(), self.outputs().count());
        if counts != (inputs.len(), outputs.len()) {
            return Err(RunError::Count { inputs: counts.0, outputs: counts.1 });
        }
        let bytes = self.arena_bytes();
        let arena = arena.get_mut(..bytes).ok_or(RunError::Arena { bytes })?;
        for (index, ((_, io), input)) in self.inputs().zip(inputs).enumerate() {
            let wrong = RunError::Io { index, elements: io.elements, element: io.element };
            take(&io, arena, input).ok_or(wrong)?;
        }
        for index in 0..self.op_count() {
            step(self, hands, arena, index).ok_or(RunError::Bug { index })?;
        }
        for (index, ((_, io), output)) in self.outputs().zip(outputs).enumerate() {
            let index = counts.0 + index;
            let wrong = RunError::Io { index, elements: io.elements, element: io.element };
            give(&io, arena, output).ok_or(wrong)?;
        }
        Ok(())
    }
}

/// Scale and zero point by which stored bytes stand for the port's elements as numbers. Signed bytes
/// are stored 128 higher.
fn numbers(io: &Io) -> (f32, i32) {
    match io.element {
        Element::F32 => (io.scale, io.zero as i32),
        Element::U8 => (1.0, 0),
        Element::S8 => (1.0, 128),
    }
}

fn take(io: &Io, arena: &mut [u8], input: &Input<'_>) -> Option<()> {
    let bytes = arena.get_mut(range(io.arena, io.elements as usize))?;
    let (scale, zero) = numbers(io);
    match (io.element, *input) {
        (Element::F32, Input::F32(values)) | (_, Input::Numbers(values))
            if values.len() == bytes.len() =>
        {
            for (byte, &value) in bytes.iter_mut().zip(values) {
                *byte = arith::quantize(value, scale, zero);
            }
        }
        (Element::U8, Input::U8(values)) if values.len() == bytes.len() => {
            bytes.copy_from_slice(values);
        }
        (Element::S8, Input::S8(values)) if values.len() == bytes.len() => {
            for (byte, &value) in bytes.iter_mut().zip(values) {
                *byte = value as u8 ^ 0x80;
            }
        }
        _ => return None,
    }
    Some(())
}

fn give(io: &Io, arena: &[u8], output: &mut Output<'_>) -> Option<()> {
    let bytes = arena.get(range(io.arena, io.elements as usize))?;
    let (scale, zero) = numbers(io);
    match (io.element, output) {
        (Element::F32, Output::F32(values)) | (_, Output::Numbers(values))
            if values.len() == bytes.len() =>
        {
            for (value, &byte) in values.iter_mut().zip(bytes) {
                *value = arith::dequantize(byte, scale, zero);
            }
        }
        (Element::U8, Output::U8(values)) if values.len() == bytes.len() => {
            values.copy_from_slice(bytes);
        }
        (Element::S8, Output::S8(values)) if values.len() == bytes.len() => {
            for (value, &byte) in values.iter_mut().zip(bytes) {
                *value = (byte ^ 0x80) as i8;
            }
        }
        _ => return None,
    }
    Some(())
}

/// One operator. Nothing comes back only if the loader let something through.
fn step(model: &Model<'_>, hands: Hands<'_>, arena: &mut [u8], index: u32) -> Option<()> {
    match model.op(index)? {
        Op::Conv(op) => conv::conv(model, hands, arena, &op),
        Op::Depthwise(op) => conv::depthwise(model, hands, arena, &op),
        Op::Add(op) => {
            let parts = carve(arena, range(op.output, op.bytes as usize), 0..0)?;
            let a = parts.read(op.a, op.a_bytes as usize)?;
            let b = parts.read(op.b, op.b_bytes as usize)?;
            hands.kernels.add(&op, a, b, parts.output);
            Some(())
        }
        Op::Mul(op) => {
            let parts = carve(arena, range(op.output, op.bytes as usize), 0..0)?;
            let a = parts.read(op.a, op.a_bytes as usize)?;
            let b = parts.read(op.b, op.b_bytes as usize)?;
            ops::mul(&op, a, b, parts.output);
            Some(())
        }
        Op::Load(op) => {
            let bytes = model.data(op.data, op.bytes as usize)?;
            arena.get_mut(range(op.output, bytes.len()))?.copy_from_slice(bytes);
            Some(())
        }
        Op::Resize(op) => resize::resize(model, arena, &op),
        Op::Table(op) => ops::table(model, arena, &op),
        Op::Copy(op) => ops::copy(arena, &op),
        Op::Fill(op) => {
            arena.get_mut(range(op.output, op.bytes as usize))?.fill(op.value as u8);
            Some(())
        }
        Op::MaxPool(op) => ops::max_pool(arena, &op),
        Op::AvgPool(op) => ops::avg_pool(arena, &op),
        Op::Softmax(op) => ops::softmax(model, arena, &op),
        Op::MatMul(op) => ops::mat_mul(arena, &op),
    }
}
