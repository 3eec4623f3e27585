//! The validator: from bytes to a graph in which every name, size and order holds.

use crate::error::{CompileError, Rule, no};
use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, element};
use crate::tensor::{Const, elements};
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Bytes of a file, as `agent/engine` has it.
const FILE_BYTES_MAX: usize = 256 << 20;
/// Nodes of a graph, as `agent/engine` has it.
const NODES_MAX: usize = 5_000;
/// Version of the default operator set: 10 has the quantized operators, 28 is the latest read.
const OPSETS: std::ops::RangeInclusive<i64> = 10..=28;

/// A checked graph: nodes in an order in which every input is known.
#[derive(Debug, Clone)]
pub struct Graph {
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<String>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) consts: HashMap<String, Rc<Const>>,
    /// The first axis of every input has no size: it is the batch.
    pub(crate) open: bool,
}

/// An input of the graph.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) name: String,
    /// One of [`element`].
    pub(crate) element: i32,
    pub(crate) shape: Vec<usize>,
}

/// One operator.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) op: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) opset: i64,
    attributes: Vec<AttributeProto>,
}

/// Decodes and checks.
pub fn read(onnx: &[u8]) -> Result<Graph, CompileError> {
    let (proto, opset) = decode(onnx)?;
    let value = |name: &str, reason: String| CompileError::Value { name: name.into(), reason };
    let mut consts = HashMap::new();
    for tensor in &proto.initializer {
        let found = Const::read(tensor).map_err(|reason| value(&tensor.name, reason))?;
        if consts.insert(tensor.name.clone(), Rc::new(found)).is_some() {
            return Err(value(&tensor.name, "is there twice".to_owned()));
        }
    }
    let ports = proto.input.iter().filter(|input| !consts.contains_key(&input.name));
    let inputs = ports
        .map(|input| port(input).map_err(|reason| value(&input.name, reason)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut known: HashSet<&str> = consts.keys().map(String::as_str).collect();
    for input in &inputs {
        if !known.insert(&input.name) {
            return Err(value(&input.name, "is there twice".to_owned()));
        }
    }
    let mut nodes = Vec::new();
    for proto in &proto.node {
        check_node(proto, &mut known).map_err(|reason| CompileError::Node {
            node: name_of(proto),
            op: proto.op_type.clone(),
            reason,
        })?;
        nodes.push(Node::new(proto, opset));
    }
    for output in &proto.output {
        if !known.contains(output.name.as_str()) {
            return Err(value(&output.name, "is an output that nothing computes".to_owned()));
        }
    }
    let outputs: Vec<String> = proto.output.iter().map(|output| output.name.clone()).collect();
    drop(known);
    let open = proto.input.iter().filter(|info| !consts.contains_key(&info.name)).all(is_open);
    Ok(Graph { inputs, outputs, nodes, consts, open })
}

/// The graph and its version of the default operator set; what no graph may be is refused.
pub(crate) fn decode(onnx: &[u8]) -> Result<(GraphProto, i64), CompileError> {
    let graph = |reason: &str| CompileError::Graph(reason.to_owned());
    if onnx.len() > FILE_BYTES_MAX {
        return Err(graph("is larger than 256 MiB"));
    }
    let model = ModelProto::decode(onnx).map_err(|e| CompileError::NotOnnx(e.to_string()))?;
    let proto = model.graph;
    let proto = proto.ok_or_else(|| CompileError::NotOnnx("there is no graph in it".to_owned()))?;
    if !model.functions.is_empty() || !proto.sparse_initializer.is_empty() {
        return Err(graph("has local functions or sparse constants"));
    }
    let opset = model.opset_import.iter().find(|set| set.domain.is_empty()).map(|set| set.version);
    let opset = opset.filter(|version| OPSETS.contains(version));
    let opset = opset.ok_or_else(|| graph("names no operator set from 10 to 28"))?;
    if proto.node.len() > NODES_MAX {
        return Err(graph("has more than 5,000 nodes"));
    }
    Ok((proto, opset))
}

pub(crate) fn name_of(node: &NodeProto) -> String {
    let output = node.output.first().cloned().unwrap_or_default();
    if node.name.is_empty() { output } else { node.name.clone() }
}

fn check_node<'p>(node: &'p NodeProto, known: &mut HashSet<&'p str>) -> Rule {
    check_kind(node)?;
    check_names(node, known)
}

/// Whether it is a node of a kind that can be read at all.
pub(crate) fn check_kind(node: &NodeProto) -> Rule {
    if !matches!(node.domain.as_str(), "" | "ai.onnx" | "com.microsoft") {
        return no(format!("operators of `{}` are not supported", node.domain));
    }
    if node.attribute.iter().any(|attribute| attribute.g.is_some()) {
        return no("graphs inside a node are not supported");
    }
    Ok(())
}

/// That its inputs are known before it, and its outputs are not.
pub(crate) fn check_names<'p>(node: &'p NodeProto, known: &mut HashSet<&'p str>) -> Rule {
    if let Some(input) = node.input.iter().find(|i| !i.is_empty() && !known.contains(i.as_str())) {
        return no(format!("its input `{input}` is not known before it"));
    }
    for output in node.output.iter().filter(|output| !output.is_empty()) {
        if !known.insert(output) {
            return no(format!("its output `{output}` is there twice"));
        }
    }
    Ok(())
}

/// Whether the first axis has no size.
fn is_open(info: &ValueInfoProto) -> bool {
    let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    let first = shape.and_then(|shape| shape.dim.first());
    first.is_some_and(|dim| matches!(dim.dim_value, None | Some(0)))
}

pub(crate) fn port(info: &ValueInfoProto) -> Rule<Port> {
    let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let tensor = tensor.ok_or("is no tensor")?;
    if ![element::FLOAT, element::UINT8, element::INT8].contains(&tensor.elem_type) {
        return no("is neither float32 nor uint8 nor int8");
    }
    let dims = &tensor.shape.as_ref().ok_or("has no shape")?.dim;
    let mut shape = Vec::new();
    for (axis, dim) in dims.iter().enumerate() {
        match dim.dim_value {
            Some(size @ 1..=65_536) => shape.push(size as usize),
            // An open first axis is the batch: one at a time.
            None | Some(0) if axis == 0 => shape.push(1),
            _ => return no(format!("has no size on axis {axis}, or none that can be")),
        }
    }
    if shape.len() > 6 || elements(&shape).is_none() {
        return no("is too large");
    }
    Ok(Port { name: info.name.clone(), element: tensor.elem_type, shape })
}

impl Node {
    pub(crate) fn new(proto: &NodeProto, opset: i64) -> Self {
        Self {
            name: name_of(proto),
            op: proto.op_type.clone(),
            inputs: proto.input.clone(),
            outputs: proto.output.clone(),
            opset,
            attributes: proto.attribute.clone(),
        }
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub(crate) fn reals(&self, name: &str) -> Option<&[f32]> {
        self.attribute(name).map(|attribute| attribute.floats.as_slice())
    }

    pub(crate) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    pub(crate) fn real(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |attribute| attribute.f)
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.attribute(name).map(|attribute| String::from_utf8_lossy(&attribute.s).into_owned())
    }

    pub(crate) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    pub(crate) fn tensor(&self, name: &str) -> Rule<Const> {
        let tensor = self.attribute(name).and_then(|attribute| attribute.t.as_ref());
        Const::read(tensor.ok_or("its value is missing")?)
    }

    /// The name of an input, if it is given.
    pub(crate) fn input(&self, index: usize) -> Option<&str> {
        self.inputs.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }
}
