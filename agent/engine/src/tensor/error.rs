//! Why a tensor cannot be: its shape, or what should fill it.

use super::DType;
use crate::limits::{RANK_MAX, TENSOR_ELEMENTS_MAX};

/// Why a tensor could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// More axes than [`RANK_MAX`].
    #[error("{rank} axes; at most {RANK_MAX} are allowed")]
    Rank {
        /// Axes asked for.
        rank: usize,
    },
    /// The product of the shape passes [`TENSOR_ELEMENTS_MAX`].
    #[error("shape {shape:?} has more than {TENSOR_ELEMENTS_MAX} elements")]
    TooLarge {
        /// Shape asked for.
        shape: Vec<usize>,
    },
    /// The data does not fill the shape.
    #[error("shape {shape:?} needs {want} elements, the data has {have}")]
    Length {
        /// Shape asked for.
        shape: Vec<usize>,
        /// Elements that the shape needs.
        want: usize,
        /// Elements that came.
        have: usize,
    },
    /// Raw bytes that are no whole number of elements, or a boolean that is neither 0 nor 1.
    #[error("{have} bytes are not the {want} bytes of {dtype}{shape:?}")]
    Bytes {
        /// Element type asked for.
        dtype: DType,
        /// Shape asked for.
        shape: Vec<usize>,
        /// Bytes that it needs.
        want: usize,
        /// Bytes that came.
        have: usize,
    },
    /// Rows that are not of one form.
    #[error("rows of {have:?} do not go under {shape:?}")]
    Rows {
        /// Shape that is there.
        shape: Vec<usize>,
        /// Shape that came.
        have: Vec<usize>,
    },
    /// A boolean byte that is neither 0 nor 1.
    #[error("byte {byte} is no boolean (0 or 1)")]
    NotBool {
        /// The byte.
        byte: u8,
    },
}

/// The product of `shape`, or why it is not allowed.
pub fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    if shape.len() > RANK_MAX {
        return Err(TensorError::Rank { rank: shape.len() });
    }
    shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .filter(|&count| count <= TENSOR_ELEMENTS_MAX)
        .ok_or_else(|| TensorError::TooLarge { shape: shape.to_vec() })
}
