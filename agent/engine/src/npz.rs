//! Reads numpy's `.npz`, the form in which authors hand over golden vectors and held-out data.
//!
//! An `.npz` is a zip of `.npy` files and comes from outside, so everything is bounded before it is
//! allocated: the file, the number of arrays, each header, and all bytes together after inflating.

use crate::golden::{GoldenError, GoldenSet};
use crate::limits::{NPY_HEADER_BYTES_MAX, NPZ_ARRAYS_MAX, NPZ_BYTES_MAX};
use crate::tensor::{DType, Tensor, TensorError};
use npyz::{Endianness, NpyHeader, Order, TypeChar};
use std::io::{Cursor, Read};

/// Why an `.npz` could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are the words of the messages")]
pub enum NpzError {
    /// More bytes than the bound, packed or unpacked.
    #[error("the file holds more than {max} bytes: save fewer vectors")]
    TooLarge { max: usize },
    /// More arrays than [`NPZ_ARRAYS_MAX`].
    #[error("{have} arrays, at most {NPZ_ARRAYS_MAX} are allowed")]
    TooMany { have: usize },
    /// Not a zip file, or a damaged one.
    #[error("this is no npz file ({0}): save it with numpy.savez")]
    Zip(String),
    /// An array that is not as numpy writes it.
    #[error("array `{name}`: {detail}")]
    Array { name: String, detail: String },
}

/// All arrays of an `.npz` file with their names, in file order.
pub fn read_npz(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, NpzError> {
    read_npz_within(bytes, NPZ_BYTES_MAX)
}

/// The same, of a file that may hold `max` bytes, packed and unpacked.
pub(crate) fn read_npz_within(bytes: &[u8], max: usize) -> Result<Vec<(String, Tensor)>, NpzError> {
    if bytes.len() > max {
        return Err(NpzError::TooLarge { max });
    }
    let zip_error = |e: zip::result::ZipError| NpzError::Zip(e.to_string());
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(zip_error)?;
    if archive.len() > NPZ_ARRAYS_MAX {
        return Err(NpzError::TooMany { have: archive.len() });
    }
    let mut budget = max;
    let mut arrays = Vec::new();
    for at in 0..archive.len() {
        let file = archive.by_index(at).map_err(zip_error)?;
        let name = file.name().to_owned();
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        let refuse = |detail: String| NpzError::Array { name: name.clone(), detail };
        let mut content = Vec::new();
        // One byte more than allowed, to tell "full" from "too much". The size that the zip claims
        // is not believed.
        file.take(budget as u64 + 1)
            .read_to_end(&mut content)
            .map_err(|e| refuse(e.to_string()))?;
        budget = budget.checked_sub(content.len()).ok_or(NpzError::TooLarge { max })?;
        let tensor = read_npy(&content).map_err(refuse)?;
        arrays.push((name, tensor));
    }
    Ok(arrays)
}

impl GoldenSet {
    /// A golden set from an `.npz` with the arrays `in.<name>` and `out.<name>`; the first axis
    /// counts the vectors.
    pub fn from_npz(bytes: &[u8]) -> Result<Self, GoldenError> {
        let arrays = read_npz(bytes).map_err(|e| GoldenError::Codec(e.to_string()))?;
        Self::from_arrays(&arrays)
    }
}

fn read_npy(content: &[u8]) -> Result<Tensor, String> {
    check_header_size(content)?;
    let mut rest = content;
    let header = NpyHeader::from_reader(&mut rest).map_err(|e| e.to_string())?;
    if header.order() == Order::Fortran && header.shape().len() > 1 {
        return Err("is in Fortran order: save it with numpy.ascontiguousarray".to_owned());
    }
    let dtype = dtype_of(&header).ok_or_else(|| {
        format!("has the element type {}, which is not supported", header.dtype().descr())
    })?;
    let shape: Result<Vec<usize>, _> =
        header.shape().iter().map(|&dim| usize::try_from(dim)).collect();
    let shape = shape.map_err(|e| e.to_string())?;
    Tensor::from_le_bytes(dtype, &shape, rest).map_err(|e: TensorError| e.to_string())
}

/// The header's length before its parser sees it: the parser believes it, and recurses on what is inside.
fn check_header_size(content: &[u8]) -> Result<(), String> {
    let size = match content.get(6..12) {
        _ if !content.starts_with(b"\x93NUMPY") => return Err("is no npy file".to_owned()),
        Some([1, _, a, b, ..]) => usize::from(u16::from_le_bytes([*a, *b])),
        Some([_, _, a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => return Err("is no npy file".to_owned()),
    };
    if size > NPY_HEADER_BYTES_MAX { Err(format!("has a header of {size} bytes")) } else { Ok(()) }
}

fn dtype_of(header: &NpyHeader) -> Option<DType> {
    let npyz::DType::Plain(plain) = header.dtype() else { return None };
    if plain.endianness() == Endianness::Big {
        return None;
    }
    Some(match (plain.type_char(), plain.size_field()) {
        (TypeChar::Float, 4) => DType::F32,
        (TypeChar::Float, 8) => DType::F64,
        (TypeChar::Int, 1) => DType::I8,
        (TypeChar::Uint, 1) => DType::U8,
        (TypeChar::Int, 2) => DType::I16,
        (TypeChar::Uint, 2) => DType::U16,
        (TypeChar::Int, 4) => DType::I32,
        (TypeChar::Int, 8) => DType::I64,
        (TypeChar::Bool, 1) => DType::Bool,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "npz_tests.rs"]
mod tests;
