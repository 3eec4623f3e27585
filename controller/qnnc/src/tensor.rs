//! Constants of the file, decoded and checked.

use crate::error::{Rule, no};
use crate::proto::{TensorProto, element};

/// Elements of one constant at most: the file itself is bounded by as many bytes.
const ELEMENTS_MAX: usize = 256 << 20;

/// Elements by type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    F32(Vec<f32>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    U8(Vec<u8>),
    S8(Vec<i8>),
}

/// A constant. `data` has as many elements as `shape` says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Const {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

impl Const {
    pub(crate) fn read(proto: &TensorProto) -> Rule<Self> {
        if proto.data_location != 0 || !proto.external_data.is_empty() {
            return no("has its data in another file");
        }
        let shape = proto.dims.iter().map(|&dim| usize::try_from(dim).ok());
        let shape: Vec<usize> = shape.collect::<Option<_>>().ok_or("has a negative size")?;
        let count = elements(&shape).ok_or("is too large")?;
        let raw = &proto.raw_data;
        let wide = proto.int32_data.iter();
        let data = match proto.data_type {
            element::FLOAT => Data::F32(pick(raw, &proto.float_data, f32::from_le_bytes)?),
            element::INT64 => Data::I64(pick(raw, &proto.int64_data, i64::from_le_bytes)?),
            element::INT32 => Data::I32(pick(raw, &proto.int32_data, i32::from_le_bytes)?),
            element::UINT8 => {
                Data::U8(pick(raw, &wide.map(|&v| v as u8).collect::<Vec<_>>(), u8::from_le_bytes)?)
            }
            element::INT8 => {
                Data::S8(pick(raw, &wide.map(|&v| v as i8).collect::<Vec<_>>(), i8::from_le_bytes)?)
            }
            other => return no(format!("has element type {other}, which is not supported")),
        };
        let found = Self { shape, data };
        if found.len() != count {
            return no(format!("has {} elements where its shape says {count}", found.len()));
        }
        Ok(found)
    }

    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Data::F32(data) => data.len(),
            Data::I64(data) => data.len(),
            Data::I32(data) => data.len(),
            Data::U8(data) => data.len(),
            Data::S8(data) => data.len(),
        }
    }

    pub(crate) fn reals(&self) -> Rule<&[f32]> {
        match &self.data {
            Data::F32(data) => Ok(data),
            _ => no("a constant is not float32"),
        }
    }

    pub(crate) fn ints(&self) -> Rule<Vec<i64>> {
        Ok(match &self.data {
            Data::I64(data) => data.clone(),
            Data::I32(data) => data.iter().map(|&v| v.into()).collect(),
            Data::U8(data) => data.iter().map(|&v| v.into()).collect(),
            Data::S8(data) => data.iter().map(|&v| v.into()).collect(),
            Data::F32(_) => return no("a constant is not whole numbers"),
        })
    }
}

/// The product of sizes, within what a model may have.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &dim| {
        product.checked_mul(dim).filter(|&product| product <= ELEMENTS_MAX)
    })
}

/// Elements from raw bytes, or from the typed list.
fn pick<T: Copy, const N: usize>(
    raw: &[u8],
    typed: &[T],
    read: impl Fn([u8; N]) -> T,
) -> Rule<Vec<T>> {
    if raw.is_empty() {
        return Ok(typed.to_vec());
    }
    let (chunks, rest) = raw.as_chunks::<N>();
    if !rest.is_empty() {
        return no("has bytes left over");
    }
    Ok(chunks.iter().map(|&bytes| read(bytes)).collect())
}
