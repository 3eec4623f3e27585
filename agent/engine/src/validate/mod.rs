//! The validator: our own reading of an ONNX file before tract sees it.
//!
//! tract answers 19 of 94 hand-made hostile files with a panic, one with an abort, one with a hang,
//! and some with silent nonsense (`research/inference.md` section 6). The rules here refuse those
//! files with a reason that a person can act on. They are rules about the file, not about what tract
//! can do: what tract does not support is tract's error to give.
//!
//! The protobuf is decoded once. What comes out is a [`ValidModel`], and only that reaches tract.
//!
//! Read in this order: this file (the graph), `constants` (tensors in the file), `ops` (one rule
//! for each kind of node), `sizes` (what sets a size), `quant` (scales and zero points), `refused` (the reasons).

mod constants;
mod ops;
mod quant;
mod refused;
mod scope;
mod sizes;

pub(crate) use constants::element_bytes;
pub use refused::Refused;

use crate::limits::{self, bounded};
use crate::tensor::{DType, TensorSpec, element_count};
use prost::Message;
use scope::{Constant, Scope};
use std::collections::HashSet;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::{
    GraphProto, ModelProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto,
    type_proto,
};

/// A decoded model that passed every rule. [`validate`] is the only constructor.
#[derive(Debug)]
pub struct ValidModel {
    proto: ModelProto,
    inputs: Vec<TensorSpec>,
    outputs: Vec<String>,
    open: bool,
}

impl ValidModel {
    /// Inputs in graph order, batch axis fixed.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// Names of the outputs in graph order; their shapes are known only after tract has derived them.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    pub(crate) fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// Whether the file leaves the first axis of every input open.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// The same graph with `rows` on the first axis of its inputs, which must be open.
    pub(crate) fn set_rows(&mut self, rows: usize) {
        let size = i64::try_from(rows).unwrap_or(i64::MAX);
        let Some(graph) = self.proto.graph.as_mut().filter(|_| self.open) else { return };
        for input in &mut graph.input {
            if !self.inputs.iter().any(|spec| spec.name == input.name) {
                continue;
            }
            if let Some(first) = shape_of(input).and_then(|shape| shape.dim.first_mut()) {
                first.value = Some(Dim::DimValue(size));
            }
        }
    }
}

/// Decodes and checks an ONNX file.
///
/// An open first axis of an input (the batch) becomes 1, and more only after a check that rows do
/// not change each other's answers ([`crate::batch`]). Every other axis must have a size in the file.
pub fn validate(bytes: &[u8]) -> Result<ValidModel, Refused> {
    if bytes.len() > limits::MODEL_BYTES_MAX {
        return Err(Refused::FileTooLarge { bytes: bytes.len() });
    }
    let mut proto = ModelProto::decode(bytes)
        .map_err(|e| Refused::NotOnnx { detail: bounded(e.to_string()) })?;
    let opset = check_header(&proto)?;
    let graph = proto.graph.as_mut().ok_or(Refused::NoGraph)?;
    check_counts(graph)?;
    // tract would take the second of two equal names for an input more, initializer or not.
    let mut names = HashSet::new();
    if let Some(twice) = graph.input.iter().find(|input| !names.insert(&input.name)) {
        return Err(Refused::DuplicateName { name: bounded(twice.name.clone()) });
    }
    let initialized: HashSet<String> =
        graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
    let mut inputs = Vec::new();
    let mut open = true;
    for input in graph.input.iter_mut().filter(|input| !initialized.contains(&input.name)) {
        let first = shape_of(input).and_then(|shape| shape.dim.first());
        open &= first.is_some_and(|dim| !matches!(dim.value, Some(Dim::DimValue(1..))));
        inputs.push(fix_input(input)?);
    }
    if inputs.is_empty() {
        return Err(Refused::GraphInput {
            name: String::new(),
            detail: "does not exist: the model takes nothing".to_owned(),
        });
    }
    let outputs = check_graph(graph, &inputs, opset)?;
    Ok(ValidModel { proto, inputs, outputs, open })
}

/// Version and features of the file; gives the version of the default operator set.
fn check_header(proto: &ModelProto) -> Result<i64, Refused> {
    let feature = |feature: &str, mend| Err(Refused::Feature { feature: feature.to_owned(), mend });
    if !proto.functions.is_empty() {
        return feature("local functions", "inline them before export");
    }
    if !proto.training_info.is_empty() {
        return feature("training information", "export for inference");
    }
    let mut versions = proto
        .opset_import
        .iter()
        .filter(|set| set.domain.is_empty() || set.domain == "ai.onnx")
        .map(|set| set.version);
    // A second entry could make another reader take another version than tract does.
    let version = match (versions.next(), versions.next()) {
        (Some(version), None) => version,
        (None, _) if proto.graph.is_none() => return Err(Refused::NoGraph),
        (None, _) => 0,
        (Some(_), Some(_)) => {
            return feature("two versions of the default operator set", "export again");
        }
    };
    match version {
        limits::OPSET_MIN..=limits::OPSET_MAX => Ok(version),
        version => Err(Refused::Opset { version }),
    }
}

fn check_counts(graph: &GraphProto) -> Result<(), Refused> {
    let counts = [
        ("nodes", graph.node.len(), limits::NODES_MAX),
        ("initializers", graph.initializer.len(), limits::INITIALIZERS_MAX),
        ("graph inputs", graph.input.len(), limits::INITIALIZERS_MAX + limits::GRAPH_IO_MAX),
        ("graph outputs", graph.output.len(), limits::GRAPH_IO_MAX),
    ];
    for (what, have, max) in counts {
        if have > max {
            return Err(Refused::TooMany { what, have, max });
        }
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(Refused::Feature {
            feature: "sparse initializers".to_owned(),
            mend: "store them densely",
        });
    }
    Ok(())
}

fn shape_of(input: &mut ValueInfoProto) -> Option<&mut TensorShapeProto> {
    match &mut input.r#type.as_mut()?.value {
        Some(type_proto::Value::TensorType(tensor)) => tensor.shape.as_mut(),
        _ => None,
    }
}

/// Type and size of one graph input; an open batch axis is written into the graph as 1.
fn fix_input(input: &mut ValueInfoProto) -> Result<TensorSpec, Refused> {
    check_name(&input.name)?;
    let name = input.name.clone();
    let refuse = |detail: String| Refused::GraphInput { name: name.clone(), detail };
    let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) =
        &mut input.r#type
    else {
        return Err(refuse("is no tensor".to_owned()));
    };
    let dtype = interface_dtype(tensor.elem_type).ok_or_else(|| {
        refuse(format!(
            "has the unsupported element type {}",
            constants::type_name(tensor.elem_type)
        ))
    })?;
    let dims = tensor.shape.as_mut().ok_or_else(|| refuse("has no shape".to_owned()))?;
    let mut shape = Vec::new();
    for (axis, dim) in dims.dim.iter_mut().enumerate() {
        shape.push(fix_dim(axis, dim).map_err(&refuse)?);
    }
    element_count(&shape).map_err(|e| refuse(format!("is too large ({e})")))?;
    Ok(TensorSpec { name: name.clone(), dtype, shape })
}

fn fix_dim(axis: usize, dim: &mut tensor_shape_proto::Dimension) -> Result<usize, String> {
    match &dim.value {
        Some(Dim::DimValue(size)) if *size > 0 => {
            usize::try_from(*size).map_err(|_| format!("has {size} elements on axis {axis}"))
        }
        // -1 and 0 are how older exporters write "open".
        Some(Dim::DimParam(_)) | None | Some(Dim::DimValue(-1 | 0)) if axis == 0 => {
            dim.value = Some(Dim::DimValue(1));
            Ok(1)
        }
        Some(Dim::DimValue(size)) => Err(format!("has {size} elements on axis {axis}")),
        Some(Dim::DimParam(_)) | None => Err(format!("has no size on axis {axis}")),
    }
}

fn interface_dtype(elem_type: i32) -> Option<DType> {
    Some(match DataType::try_from(elem_type).ok()? {
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
        DataType::Int8 => DType::I8,
        DataType::Uint8 => DType::U8,
        DataType::Int16 => DType::I16,
        DataType::Uint16 => DType::U16,
        DataType::Int32 => DType::I32,
        DataType::Int64 => DType::I64,
        DataType::Bool => DType::Bool,
        _ => return None,
    })
}

/// Walks the graph in file order, which ONNX requires to be topological: a name that nothing before
/// made is a cycle, a wrong order or a hole, and none of the three is guessed at.
fn check_graph(
    graph: &GraphProto,
    inputs: &[TensorSpec],
    opset: i64,
) -> Result<Vec<String>, Refused> {
    let mut scope = Scope::new(opset);
    for input in inputs {
        scope.define_input(input)?;
    }
    for tensor in &graph.initializer {
        check_name(&tensor.name)?;
        constants::check_tensor(tensor, &tensor.name)?;
        scope.define_constant(&tensor.name, Constant::Tensor(tensor))?;
    }
    for node in &graph.node {
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            if !scope.is_defined(name) {
                return Err(Refused::UnknownName {
                    node: ops::label(node),
                    name: bounded(name.clone()),
                });
            }
        }
        ops::check_node(&scope, node)?;
        scope.define_outputs(node)?;
    }
    let mut outputs = Vec::new();
    for output in &graph.output {
        if !scope.is_defined(&output.name) {
            return Err(Refused::MissingOutput { name: bounded(output.name.clone()) });
        }
        if outputs.contains(&output.name) {
            return Err(Refused::DuplicateName { name: output.name.clone() });
        }
        outputs.push(output.name.clone());
    }
    if outputs.is_empty() {
        return Err(Refused::MissingOutput { name: String::new() });
    }
    Ok(outputs)
}

fn check_name(name: &str) -> Result<(), Refused> {
    if name.len() > limits::NAME_BYTES_MAX {
        return Err(Refused::LongName {
            start: name.chars().take(32).collect(),
            bytes: name.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
