//! Our own tensor: what crosses from callers to an engine, from the parent to the self-test's
//! child, and into golden vectors. It says nothing about tract, so that an engine can be replaced.
//!
//! [`Tensor`] keeps one promise: the number of elements is the product of its shape. Every
//! constructor checks it, decoding from bytes included.

mod error;

pub use error::{TensorError, element_count};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The element types that an engine takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DType {
    /// 32-bit float, the usual one.
    F32,
    /// 64-bit float.
    F64,
    /// Signed byte (quantized).
    I8,
    /// Unsigned byte (quantized).
    U8,
    /// 16-bit signed integer.
    I16,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// Boolean, one byte each.
    Bool,
}

impl DType {
    /// Bytes of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Short name as in Rust: `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Name, element type and exact shape of one input or output. The batch axis is part of the shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name in the model's graph.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Elements on each axis; empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Whether `tensor` has this type and shape.
    pub fn matches(&self, tensor: &Tensor) -> bool {
        self.dtype == tensor.dtype() && self.shape == tensor.shape()
    }

    /// Whether `tensor` is `rows` times this on the first axis; once, it is just this.
    pub fn matches_rows(&self, tensor: &Tensor, rows: usize) -> bool {
        let (spec, shape) = (&self.shape, tensor.shape());
        match rows {
            1 => self.matches(tensor),
            _ => {
                self.dtype == tensor.dtype()
                    && spec.len() == shape.len()
                    && spec.first() == Some(&1)
                    && shape.first() == Some(&rows)
                    && spec.get(1..) == shape.get(1..)
            }
        }
    }

    /// The same with `rows` on the first axis.
    pub fn with_rows(&self, rows: usize) -> Self {
        let mut spec = self.clone();
        if let Some(first) = spec.shape.first_mut() {
            *first = rows;
        }
        spec
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}{:?}", self.name, self.dtype, self.shape)
    }
}

/// Elements in row-major order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is the element type of the same name")]
pub enum TensorData {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    U16(Vec<u16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
}

/// Runs one expression for whatever vector is inside.
macro_rules! each {
    ($data:expr, $v:ident => $e:expr) => {
        match $data {
            TensorData::F32($v) => $e,
            TensorData::F64($v) => $e,
            TensorData::I8($v) => $e,
            TensorData::U8($v) => $e,
            TensorData::I16($v) => $e,
            TensorData::U16($v) => $e,
            TensorData::I32($v) => $e,
            TensorData::I64($v) => $e,
            TensorData::Bool($v) => $e,
        }
    };
}

impl TensorData {
    /// No elements yet, and room for so many.
    pub fn with_room(dtype: DType, room: usize) -> Self {
        match dtype {
            DType::F32 => Self::F32(Vec::with_capacity(room)),
            DType::F64 => Self::F64(Vec::with_capacity(room)),
            DType::I8 => Self::I8(Vec::with_capacity(room)),
            DType::U8 => Self::U8(Vec::with_capacity(room)),
            DType::I16 => Self::I16(Vec::with_capacity(room)),
            DType::U16 => Self::U16(Vec::with_capacity(room)),
            DType::I32 => Self::I32(Vec::with_capacity(room)),
            DType::I64 => Self::I64(Vec::with_capacity(room)),
            DType::Bool => Self::Bool(Vec::with_capacity(room)),
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::I8(_) => DType::I8,
            Self::U8(_) => DType::U8,
            Self::I16(_) => DType::I16,
            Self::U16(_) => DType::U16,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
            Self::Bool(_) => DType::Bool,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        each!(self, v => v.len())
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `at` as f64 (false is 0, true is 1; an i64 past 2^53 is rounded), if there is one.
    pub fn get_f64(&self, at: usize) -> Option<f64> {
        Some(match self {
            Self::F32(v) => f64::from(*v.get(at)?),
            Self::F64(v) => *v.get(at)?,
            Self::I8(v) => f64::from(*v.get(at)?),
            Self::U8(v) => f64::from(*v.get(at)?),
            Self::I16(v) => f64::from(*v.get(at)?),
            Self::U16(v) => f64::from(*v.get(at)?),
            Self::I32(v) => f64::from(*v.get(at)?),
            #[allow(clippy::cast_precision_loss)]
            Self::I64(v) => *v.get(at)? as f64,
            Self::Bool(v) => f64::from(u8::from(*v.get(at)?)),
        })
    }

    /// A copy of `range`, or `None` when it reaches past the end.
    fn slice(&self, range: std::ops::Range<usize>) -> Option<Self> {
        Some(match self {
            Self::F32(v) => Self::F32(v.get(range)?.to_vec()),
            Self::F64(v) => Self::F64(v.get(range)?.to_vec()),
            Self::I8(v) => Self::I8(v.get(range)?.to_vec()),
            Self::U8(v) => Self::U8(v.get(range)?.to_vec()),
            Self::I16(v) => Self::I16(v.get(range)?.to_vec()),
            Self::U16(v) => Self::U16(v.get(range)?.to_vec()),
            Self::I32(v) => Self::I32(v.get(range)?.to_vec()),
            Self::I64(v) => Self::I64(v.get(range)?.to_vec()),
            Self::Bool(v) => Self::Bool(v.get(range)?.to_vec()),
        })
    }
}

/// Shape and elements; the elements always fill the shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

/// What comes off the wire, before the promise of [`Tensor`] is checked.
#[derive(Deserialize)]
struct Unchecked {
    shape: Vec<usize>,
    data: TensorData,
}

impl TryFrom<Unchecked> for Tensor {
    type Error = TensorError;
    fn try_from(raw: Unchecked) -> Result<Self, TensorError> {
        Self::new(raw.shape, raw.data)
    }
}

impl Tensor {
    /// A tensor of `shape` over `data` in row-major order.
    pub fn new(shape: Vec<usize>, data: TensorData) -> Result<Self, TensorError> {
        let want = element_count(&shape)?;
        let have = data.len();
        if want != have {
            return Err(TensorError::Length { shape, want, have });
        }
        Ok(Self { shape, data })
    }

    /// Shorthand for the usual case.
    pub fn from_f32(shape: &[usize], data: Vec<f32>) -> Result<Self, TensorError> {
        Self::new(shape.to_vec(), TensorData::F32(data))
    }

    /// From little-endian bytes in row-major order, as a serving request brings them.
    pub fn from_le_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Self, TensorError> {
        let want = element_count(shape)? * dtype.size_bytes();
        if want != bytes.len() {
            return Err(TensorError::Bytes {
                dtype,
                shape: shape.to_vec(),
                want,
                have: bytes.len(),
            });
        }
        macro_rules! words {
            ($t:ty) => {
                bytes.as_chunks().0.iter().map(|word| <$t>::from_le_bytes(*word)).collect()
            };
        }
        let data = match dtype {
            DType::F32 => TensorData::F32(words!(f32)),
            DType::F64 => TensorData::F64(words!(f64)),
            DType::I8 => TensorData::I8(words!(i8)),
            DType::U8 => TensorData::U8(bytes.to_vec()),
            DType::I16 => TensorData::I16(words!(i16)),
            DType::U16 => TensorData::U16(words!(u16)),
            DType::I32 => TensorData::I32(words!(i32)),
            DType::I64 => TensorData::I64(words!(i64)),
            DType::Bool => {
                TensorData::Bool(bytes.iter().map(|&byte| bool_of(byte)).collect::<Result<_, _>>()?)
            }
        };
        Self::new(shape.to_vec(), data)
    }

    /// Little-endian bytes in row-major order.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put_le_bytes(&mut bytes);
        bytes
    }

    /// Bytes that [`Tensor::put_le_bytes`] adds.
    pub fn len_bytes(&self) -> usize {
        self.data.len() * self.dtype().size_bytes()
    }

    /// Adds the elements to `out`, little-endian, in row-major order.
    pub fn put_le_bytes(&self, out: &mut Vec<u8>) {
        let start = out.len();
        // Words into whole chunks: the compiler makes one copy of it.
        macro_rules! words {
            ($v:expr) => {{
                out.resize(start + self.len_bytes(), 0);
                let chunks = out[start..].as_chunks_mut().0;
                chunks.iter_mut().zip($v).for_each(|(chunk, x)| *chunk = x.to_le_bytes());
            }};
        }
        match &self.data {
            TensorData::F32(v) => words!(v),
            TensorData::F64(v) => words!(v),
            TensorData::I8(v) => words!(v),
            TensorData::U8(v) => out.extend_from_slice(v),
            TensorData::I16(v) => words!(v),
            TensorData::U16(v) => words!(v),
            TensorData::I32(v) => words!(v),
            TensorData::I64(v) => words!(v),
            TensorData::Bool(v) => out.extend(v.iter().map(|&x| u8::from(x))),
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Elements on each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in row-major order.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements, if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(v) => Some(v),
            _ => None,
        }
    }

    /// Row `at` of the first axis, with that axis kept as 1: how one vector is cut out of a batch.
    pub fn row(&self, at: usize) -> Option<Self> {
        self.rows(at..at.checked_add(1)?)
    }

    /// Some rows of the first axis.
    pub fn rows(&self, range: std::ops::Range<usize>) -> Option<Self> {
        let rows = *self.shape.first()?;
        if range.is_empty() || range.end > rows {
            return None;
        }
        let each = self.data.len() / rows;
        let mut shape = self.shape.clone();
        shape[0] = range.len();
        Some(Self { shape, data: self.data.slice(range.start * each..range.end * each)? })
    }

    /// Adds the rows of `more`, which is the same on every axis but the first.
    pub fn append(&mut self, more: &Self) -> Result<(), TensorError> {
        let (shape, have) = (self.shape.clone(), more.shape.clone());
        let other = || TensorError::Rows { shape: shape.clone(), have: have.clone() };
        let same = shape.get(1..).is_some_and(|rest| Some(rest) == have.get(1..));
        let mut grown = shape.clone();
        match (grown.first_mut(), have.first()) {
            (Some(rows), Some(more)) if same => *rows = rows.saturating_add(*more),
            _ => return Err(other()),
        }
        element_count(&grown)?;
        match (&mut self.data, &more.data) {
            (TensorData::F32(v), TensorData::F32(w)) => v.extend_from_slice(w),
            (TensorData::F64(v), TensorData::F64(w)) => v.extend_from_slice(w),
            (TensorData::I8(v), TensorData::I8(w)) => v.extend_from_slice(w),
            (TensorData::U8(v), TensorData::U8(w)) => v.extend_from_slice(w),
            (TensorData::I16(v), TensorData::I16(w)) => v.extend_from_slice(w),
            (TensorData::U16(v), TensorData::U16(w)) => v.extend_from_slice(w),
            (TensorData::I32(v), TensorData::I32(w)) => v.extend_from_slice(w),
            (TensorData::I64(v), TensorData::I64(w)) => v.extend_from_slice(w),
            (TensorData::Bool(v), TensorData::Bool(w)) => v.extend_from_slice(w),
            _ => return Err(other()),
        }
        self.shape = grown;
        Ok(())
    }
}

fn bool_of(byte: u8) -> Result<bool, TensorError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        byte => Err(TensorError::NotBool { byte }),
    }
}
