//! What a model consists of, for people who compare two of them: operators, and tensors with their
//! values. Read from a file that the validator passed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use crate::validate::ValidModel;

/// What a model consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline<'a> {
    /// Version of the default operator set.
    pub opset: i64,
    /// The program that wrote the file, as it says.
    pub producer: String,
    /// How often each operator is used; one outside the default set with its domain before it.
    pub operators: BTreeMap<String, usize>,
    /// The stored tensors, by name.
    pub tensors: BTreeMap<&'a str, Stored<'a>>,
}

/// A tensor in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Element type in ONNX's words, small: `float`, `int8`.
    pub dtype: String,
    /// Size on each axis.
    pub dims: &'a [i64],
    /// Bytes of one element.
    pub element_bytes: usize,
    /// Values, row-major, little-endian.
    pub data: Cow<'a, [u8]>,
}

impl Stored<'_> {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.data.len() / self.element_bytes.max(1)
    }
}

impl ValidModel {
    /// What it consists of: stored tensors and the values of `Constant` nodes.
    pub fn outline(&self) -> Outline<'_> {
        let proto = self.proto();
        let mut operators = BTreeMap::new();
        let mut tensors = BTreeMap::new();
        let Some(graph) = &proto.graph else {
            return Outline { opset: 0, producer: String::new(), operators, tensors };
        };
        tensors.extend(graph.initializer.iter().map(|t| (t.name.as_str(), stored(t))));
        for node in &graph.node {
            let name = match node.domain.as_str() {
                "" | "ai.onnx" => node.op_type.clone(),
                domain => format!("{domain}.{}", node.op_type),
            };
            *operators.entry(name).or_default() += 1;
            let value = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
            let output = node.output.first().filter(|_| node.op_type == "Constant");
            tensors.extend(output.zip(value).map(|(name, value)| (name.as_str(), stored(value))));
        }
        let default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let opset = proto.opset_import.iter().find(|set| default(&set.domain));
        let producer = format!("{} {}", proto.producer_name, proto.producer_version);
        Outline {
            opset: opset.map_or(0, |set| set.version),
            producer: producer.trim().to_owned(),
            operators,
            tensors,
        }
    }
}

fn stored(tensor: &TensorProto) -> Stored<'_> {
    let dtype = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
    let element_bytes = crate::validate::element_bytes(dtype).unwrap_or(1);
    let data = match tensor.raw_data.is_empty() {
        false => Cow::Borrowed(tensor.raw_data.as_slice()),
        true => Cow::Owned(listed(tensor, dtype, element_bytes)),
    };
    let dtype = dtype.as_str_name().to_lowercase();
    Stored { dtype, dims: &tensor.dims, element_bytes, data }
}

/// The values of a tensor that stand in lists of their own, as raw bytes would have them.
fn listed(tensor: &TensorProto, dtype: DataType, element_bytes: usize) -> Vec<u8> {
    match dtype {
        DataType::Float => tensor.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DataType::Double => tensor.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DataType::Int64 => tensor.int64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        _ => {
            let width = element_bytes.min(4);
            tensor.int32_data.iter().flat_map(|x| x.to_le_bytes().into_iter().take(width)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_values_in_lists_and_raw_are_the_same() {
        let raw = |data_type: DataType, raw_data: Vec<u8>| TensorProto {
            data_type: data_type as i32,
            dims: vec![2],
            raw_data,
            ..TensorProto::default()
        };
        let floats = TensorProto {
            data_type: DataType::Float as i32,
            dims: vec![2],
            float_data: vec![1.0, -2.5],
            ..TensorProto::default()
        };
        let bytes = [1.0f32.to_le_bytes(), (-2.5f32).to_le_bytes()].concat();
        assert_eq!(stored(&floats), stored(&raw(DataType::Float, bytes)));
        let small = TensorProto {
            data_type: DataType::Int8 as i32,
            dims: vec![2],
            int32_data: vec![-1, 7],
            ..TensorProto::default()
        };
        let small = stored(&small);
        assert_eq!((small.dtype.as_str(), small.elements()), ("int8", 2));
        assert_eq!(small, stored(&raw(DataType::Int8, vec![0xff, 7])));
    }
}
