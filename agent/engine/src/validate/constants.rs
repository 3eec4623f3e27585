//! Tensors whose data stands in the file: sizes that add up, types that the engine knows, nothing
//! outside the file.

use super::Refused;
use crate::limits::bounded;
use crate::tensor::element_count;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

/// Name of an element type for messages.
pub(super) fn type_name(elem_type: i32) -> String {
    DataType::try_from(elem_type)
        .map_or_else(|_| elem_type.to_string(), |dtype| dtype.as_str_name().to_owned())
}

/// Bytes of one element, for the types that tract can load.
pub(crate) fn element_bytes(dtype: DataType) -> Option<usize> {
    Some(match dtype {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
        DataType::Int16 | DataType::Uint16 | DataType::Float16 => 2,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        _ => return None,
    })
}

/// Elements in the list that tract reads for this type when there are no raw bytes. Unsigned 32 and
/// 64 bit numbers have a list of their own, which tract's decoder drops: they must come raw.
fn listed(tensor: &TensorProto, dtype: DataType) -> usize {
    match dtype {
        DataType::Float => tensor.float_data.len(),
        DataType::Double => tensor.double_data.len(),
        DataType::Int64 => tensor.int64_data.len(),
        DataType::Uint32 | DataType::Uint64 => 0,
        _ => tensor.int32_data.len(),
    }
}

/// Checks one tensor; `name` is how messages call it.
pub(super) fn check_tensor(tensor: &TensorProto, name: &str) -> Result<(), Refused> {
    let name = || bounded(name.to_owned());
    if tensor.data_location == Some(DataLocation::External as i32)
        || !tensor.external_data.is_empty()
    {
        return Err(Refused::ExternalData { tensor: name() });
    }
    if tensor.segment.is_some() {
        return Err(Refused::Feature {
            feature: "segmented tensors".to_owned(),
            mend: "store them whole",
        });
    }
    let bad_type = || Refused::TensorType { tensor: name(), dtype: type_name(tensor.data_type) };
    let dtype = DataType::try_from(tensor.data_type).map_err(|_| bad_type())?;
    let size = element_bytes(dtype).ok_or_else(bad_type)?;
    let count = count(tensor).map_err(|detail| Refused::TensorShape {
        tensor: name(),
        dims: tensor.dims.iter().copied().take(16).collect(),
        detail,
    })?;
    let (unit, want, have) = match tensor.raw_data.len() {
        0 => ("elements", count, listed(tensor, dtype)),
        bytes => ("bytes", count * size, bytes),
    };
    if want != have {
        return Err(Refused::TensorData { tensor: name(), unit, want, have });
    }
    Ok(())
}

/// Elements of the tensor. An empty vector is how an absent optional input is written; any other
/// axis of size zero is a mistake.
fn count(tensor: &TensorProto) -> Result<usize, String> {
    if tensor.dims == [0] {
        return Ok(0);
    }
    let dims: Option<Vec<usize>> =
        tensor.dims.iter().map(|&dim| usize::try_from(dim).ok().filter(|&dim| dim > 0)).collect();
    let dims = dims.ok_or("every axis needs at least one element: export the model again")?;
    element_count(&dims).map_err(|e| e.to_string())
}

/// Values of an integer tensor that passed [`check_tensor`].
pub(super) fn ints(tensor: &TensorProto) -> Option<Vec<i64>> {
    let raw = &tensor.raw_data;
    Some(match (DataType::try_from(tensor.data_type).ok()?, raw.is_empty()) {
        (DataType::Int64, true) => tensor.int64_data.clone(),
        (DataType::Int64, false) => {
            raw.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word)).collect()
        }
        (
            DataType::Int32 | DataType::Int8 | DataType::Uint8 | DataType::Int16 | DataType::Uint16,
            true,
        ) => tensor.int32_data.iter().map(|&value| i64::from(value)).collect(),
        (DataType::Int32, false) => {
            raw.as_chunks().0.iter().map(|word| i64::from(i32::from_le_bytes(*word))).collect()
        }
        (DataType::Int16, false) => {
            raw.as_chunks().0.iter().map(|word| i64::from(i16::from_le_bytes(*word))).collect()
        }
        (DataType::Uint16, false) => {
            raw.as_chunks().0.iter().map(|word| i64::from(u16::from_le_bytes(*word))).collect()
        }
        (DataType::Int8, false) => raw.iter().map(|&byte| i64::from(byte.cast_signed())).collect(),
        (DataType::Uint8, false) => raw.iter().map(|&byte| i64::from(byte)).collect(),
        _ => return None,
    })
}

/// Values of an f32 or f64 tensor that passed [`check_tensor`].
pub(super) fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    let raw = &tensor.raw_data;
    #[allow(clippy::cast_possible_truncation)]
    Some(match (DataType::try_from(tensor.data_type).ok()?, raw.is_empty()) {
        (DataType::Float, true) => tensor.float_data.clone(),
        (DataType::Float, false) => {
            raw.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
        }
        (DataType::Double, true) => tensor.double_data.iter().map(|&value| value as f32).collect(),
        (DataType::Double, false) => {
            raw.as_chunks().0.iter().map(|word| f64::from_le_bytes(*word) as f32).collect()
        }
        _ => return None,
    })
}
