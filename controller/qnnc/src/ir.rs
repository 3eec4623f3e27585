//! The program: steps over buffers and constants, before anything has an address.

use crate::value::Tensor;
use fleetway_qnn::format::{Io, Op};
use std::collections::HashMap;

/// A step whose record still has places instead of addresses.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Sizes and numbers; addresses are 0.
    pub(crate) op: Op,
    /// What it reads, in the order of the record's fields.
    pub(crate) inputs: Vec<Place>,
    pub(crate) output: Place,
    /// A buffer that nobody else needs.
    pub(crate) scratch: Option<usize>,
    /// Constants, in the order of the record's fields.
    pub(crate) blobs: Vec<usize>,
}

/// Bytes from `offset` on of a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) buffer: usize,
    pub(crate) offset: usize,
}

impl From<&Tensor> for Place {
    fn from(tensor: &Tensor) -> Self {
        Self { buffer: tensor.buffer, offset: 0 }
    }
}

/// An input or output, with its buffer.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) buffer: usize,
    pub(crate) io: Io,
}

/// What the writer turns into a file.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    /// The first axis of every input was left open, and rows stand alone.
    pub(crate) open: bool,
    pub(crate) steps: Vec<Step>,
    /// Bytes of each buffer.
    pub(crate) buffers: Vec<usize>,
    /// Constants, each once.
    pub(crate) blobs: Vec<Vec<u8>>,
    known: HashMap<Vec<u8>, usize>,
}

impl Program {
    /// A buffer of its own.
    pub(crate) fn buffer(&mut self, bytes: usize) -> usize {
        self.buffers.push(bytes);
        self.buffers.len() - 1
    }

    /// A tensor with a buffer of its own.
    pub(crate) fn tensor(&mut self, shape: &[usize], channels_last: bool) -> Tensor {
        let buffer = self.buffer(shape.iter().product());
        Tensor { buffer, shape: shape.to_vec(), channels_last }
    }

    /// A constant; the same bytes are kept once.
    pub(crate) fn blob(&mut self, bytes: Vec<u8>) -> usize {
        if let Some(&index) = self.known.get(&bytes) {
            return index;
        }
        self.known.insert(bytes.clone(), self.blobs.len());
        self.blobs.push(bytes);
        self.blobs.len() - 1
    }
}

/// The record with its addresses: inputs, output and scratch in the arena, constants in the file.
pub(crate) fn address(op: &Op, inputs: &[u32], output: u32, scratch: u32, blobs: &[u32]) -> Op {
    let mut op = *op;
    let input = |index: usize| inputs.get(index).copied().unwrap_or(0);
    let blob = |index: usize| blobs.get(index).copied().unwrap_or(0);
    match &mut op {
        Op::Conv(op) => {
            (op.input, op.output, op.scratch) = (input(0), output, scratch);
            (op.weights, op.bias, op.mult, op.wzp) = (blob(0), blob(1), blob(2), blob(3));
        }
        Op::Depthwise(op) => {
            (op.input, op.output, op.scratch) = (input(0), output, scratch);
            (op.weights, op.bias, op.mult, op.wzp) = (blob(0), blob(1), blob(2), blob(3));
        }
        Op::Add(op) => (op.a, op.b, op.output) = (input(0), input(1), output),
        Op::Mul(op) => (op.a, op.b, op.output) = (input(0), input(1), output),
        Op::MatMul(op) => (op.a, op.b, op.output) = (input(0), input(1), output),
        Op::Table(op) => (op.input, op.output, op.table) = (input(0), output, blob(0)),
        Op::Softmax(op) => (op.input, op.output, op.table) = (input(0), output, blob(0)),
        Op::Copy(op) => (op.input, op.output) = (input(0), output),
        Op::Fill(op) => op.output = output,
        Op::Load(op) => (op.output, op.data) = (output, blob(0)),
        Op::Resize(op) => {
            (op.input, op.output) = (input(0), output);
            (op.rows, op.columns) = (blob(0), blob(1));
        }
        Op::MaxPool(op) => (op.input, op.output) = (input(0), output),
        Op::AvgPool(op) => (op.input, op.output) = (input(0), output),
    }
    op
}
