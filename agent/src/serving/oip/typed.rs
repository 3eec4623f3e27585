//! The numbers of a gRPC request as typed lists (`InferTensorContents`), straight into vectors of
//! the model's types.
//!
//! Clients usually send raw bytes; this is the other form that the protocol has. Protobuf has no
//! types below 32 bits, so small ones come in wider lists, and each number is checked.

use fleetway_engine::tensor::{TensorData, element_count};
use fleetway_engine::{DType, Tensor, TensorSpec};

use super::request::RequestError;
use crate::serving::grpc::wire::{Fields, Value, varint};

/// Fields of `InferTensorContents`.
const BOOL: u32 = 1;
const INT: u32 = 2;
const INT64: u32 = 3;
const UINT: u32 = 4;
const FP32: u32 = 6;
const FP64: u32 = 7;

/// The list in which numbers of a type come.
fn field_of(dtype: DType) -> (u32, &'static str) {
    match dtype {
        DType::Bool => (BOOL, "bool_contents"),
        DType::I8 | DType::I16 | DType::I32 => (INT, "int_contents"),
        DType::I64 => (INT64, "int64_contents"),
        DType::U8 | DType::U16 => (UINT, "uint_contents"),
        DType::F32 => (FP32, "fp32_contents"),
        DType::F64 => (FP64, "fp64_contents"),
    }
}

/// Reads the contents of one input. A vector never grows past what `spec` has room for.
pub(super) fn read(contents: &[u8], spec: &TensorSpec) -> Result<Tensor, RequestError> {
    let wrong = |detail: String| RequestError::Typed { name: spec.name.clone(), detail };
    let want = element_count(&spec.shape).map_err(|e| wrong(e.to_string()))?;
    let (field, list) = field_of(spec.dtype);
    // An element is at least one byte.
    let mut sink = Sink { data: TensorData::with_room(spec.dtype, want.min(contents.len())), want };
    for item in Fields::of(contents) {
        let (number, value) = item.map_err(RequestError::Message)?;
        if number != field {
            let name = super::datatype(spec.dtype);
            return Err(wrong(format!("{name} comes in {list}, not in field {number}")));
        }
        sink.take(value).map_err(|fault| wrong(fault.text(spec, want)))?;
    }
    let have = sink.data.len();
    let shape = &spec.shape;
    Tensor::new(shape.clone(), sink.data)
        .map_err(|_| wrong(format!("{have} elements, shape {shape:?} needs {want}")))
}

enum Fault {
    TooMany,
    Range,
    Form(&'static str),
}

impl Fault {
    fn text(&self, spec: &TensorSpec, want: usize) -> String {
        match self {
            Self::TooMany => format!("more than the {want} elements of shape {:?}", spec.shape),
            Self::Range => format!("a number that is no {}", super::datatype(spec.dtype)),
            Self::Form(text) => (*text).to_owned(),
        }
    }
}

struct Sink {
    data: TensorData,
    want: usize,
}

impl Sink {
    /// One number, or a packed list of them.
    fn take(&mut self, value: Value<'_>) -> Result<(), Fault> {
        match (&self.data, value) {
            (TensorData::F32(_), Value::Bytes(packed)) => {
                let (words, rest) = packed.as_chunks();
                whole(rest)?;
                self.room(words.len())?;
                let TensorData::F32(v) = &mut self.data else { return Ok(()) };
                v.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
                Ok(())
            }
            (TensorData::F64(_), Value::Bytes(packed)) => {
                let (words, rest) = packed.as_chunks();
                whole(rest)?;
                self.room(words.len())?;
                let TensorData::F64(v) = &mut self.data else { return Ok(()) };
                v.extend(words.iter().map(|word| f64::from_le_bytes(*word)));
                Ok(())
            }
            (TensorData::F32(_), Value::Fixed32(word)) => {
                self.room(1)?;
                let TensorData::F32(v) = &mut self.data else { return Ok(()) };
                v.push(f32::from_bits(word));
                Ok(())
            }
            (TensorData::F64(_), Value::Fixed64(word)) => {
                self.room(1)?;
                let TensorData::F64(v) = &mut self.data else { return Ok(()) };
                v.push(f64::from_bits(word));
                Ok(())
            }
            (TensorData::F32(_) | TensorData::F64(_), _) => Err(Fault::Form("no list of floats")),
            (_, Value::Varint(number)) => self.integer(number),
            (_, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let (number, rest) = varint(packed).ok_or(Fault::Form("a cut number"))?;
                    self.integer(number)?;
                    packed = rest;
                }
                Ok(())
            }
            _ => Err(Fault::Form("no list of whole numbers")),
        }
    }

    fn room(&self, more: usize) -> Result<(), Fault> {
        let have = self.data.len().saturating_add(more);
        if have > self.want { Err(Fault::TooMany) } else { Ok(()) }
    }

    /// A varint: signed numbers are sign-extended to 64 bits.
    fn integer(&mut self, number: u64) -> Result<(), Fault> {
        self.room(1)?;
        let signed = i64::from_le_bytes(number.to_le_bytes());
        let fits = match &mut self.data {
            TensorData::I8(v) => signed.try_into().map(|n| v.push(n)).is_ok(),
            TensorData::I16(v) => signed.try_into().map(|n| v.push(n)).is_ok(),
            TensorData::I32(v) => signed.try_into().map(|n| v.push(n)).is_ok(),
            TensorData::U8(v) => number.try_into().map(|n| v.push(n)).is_ok(),
            TensorData::U16(v) => number.try_into().map(|n| v.push(n)).is_ok(),
            TensorData::I64(v) => {
                v.push(signed);
                true
            }
            TensorData::Bool(v) => {
                v.push(number == 1);
                number <= 1
            }
            TensorData::F32(_) | TensorData::F64(_) => false,
        };
        if fits { Ok(()) } else { Err(Fault::Range) }
    }
}

fn whole(rest: &[u8]) -> Result<(), Fault> {
    if rest.is_empty() { Ok(()) } else { Err(Fault::Form("a cut number")) }
}
