//! A graph of which not everything need be understood.

use crate::error::CompileError;
use crate::graph::{self, Node, Port};
use crate::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::tensor::Const;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// What was decoded, with names and order checked.
pub(super) struct Source {
    pub(super) nodes: Vec<Node>,
    /// Why a node is none that can be lowered whatever its inputs are.
    pub(super) barred: HashMap<usize, String>,
    /// What graphs inside a node read from outside of it.
    captured: Vec<Vec<String>>,
    pub(super) consts: HashMap<String, Rc<Const>>,
    /// Inputs of the graph; those whose type or shape is not ours have none.
    pub(super) inputs: HashMap<String, Option<Port>>,
    pub(super) outputs: Vec<String>,
    /// What the file itself says about tensors inside.
    pub(super) declared: HashMap<String, Port>,
    /// Which node computes a tensor.
    pub(super) producer: HashMap<String, usize>,
}

impl Source {
    pub(super) fn read(onnx: &[u8]) -> Result<Self, CompileError> {
        let (proto, opset) = graph::decode(onnx)?;
        let mut known: HashSet<&str> = proto.initializer.iter().map(|t| t.name.as_str()).collect();
        let inputs = proto.input.iter().filter(|input| !known.contains(input.name.as_str()));
        let inputs: Vec<&ValueInfoProto> = inputs.collect();
        known.extend(inputs.iter().map(|input| input.name.as_str()));
        let (mut nodes, mut barred) = (Vec::new(), HashMap::new());
        let mut captured = Vec::new();
        let mut producer = HashMap::new();
        for (index, node) in proto.node.iter().enumerate() {
            let wrong = |reason| CompileError::Node {
                node: graph::name_of(node),
                op: node.op_type.clone(),
                reason,
            };
            graph::check_names(node, &mut known).map_err(wrong)?;
            if let Err(reason) = graph::check_kind(node) {
                barred.insert(index, reason);
            }
            captured.push(inner_names(node));
            producer.extend(node.output.iter().map(|output| (output.clone(), index)));
            nodes.push(Node::new(node, opset));
        }
        // A constant of a type that is not ours is read by nobody here.
        let read = |tensor| Const::read(tensor).ok().map(Rc::new);
        let consts = proto.initializer.iter().filter_map(|t| Some((t.name.clone(), read(t)?)));
        Ok(Self {
            nodes,
            barred,
            captured,
            consts: consts.collect(),
            inputs: inputs.iter().map(|i| (i.name.clone(), graph::port(i).ok())).collect(),
            outputs: proto.output.iter().map(|output| output.name.clone()).collect(),
            declared: declared(&proto),
            producer,
        })
    }

    /// Everything that a node reads.
    pub(super) fn reads(&self, node: usize) -> impl Iterator<Item = &str> {
        let inputs = self.nodes[node].inputs.iter().filter(|name| !name.is_empty());
        inputs.chain(&self.captured[node]).map(String::as_str)
    }
}

/// Every name that graphs inside a node read: some are their own, which does no harm.
fn inner_names(node: &NodeProto) -> Vec<String> {
    let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter());
    let inner = graphs.flat_map(|graph| &graph.node);
    inner.flat_map(|node| node.input.iter().cloned().chain(inner_names(node))).collect()
}

/// Shapes that the file gives. An open axis counts only if it is the batch of an input.
fn declared(proto: &GraphProto) -> HashMap<String, Port> {
    let batches: HashSet<&str> = proto.input.iter().filter_map(|input| first(input)?.1).collect();
    let known = |info: &&ValueInfoProto| match first(info) {
        Some((None, param)) => param.is_some_and(|param| batches.contains(param)),
        _ => true,
    };
    let infos = proto.value_info.iter().chain(&proto.output).filter(known);
    infos.filter_map(|info| Some((info.name.clone(), graph::port(info).ok()?))).collect()
}

/// Size or name of the first axis.
fn first(info: &ValueInfoProto) -> Option<(Option<i64>, Option<&str>)> {
    let kind = info.r#type.as_ref()?.tensor_type.as_ref()?;
    let dim = kind.shape.as_ref()?.dim.first()?;
    Some((dim.dim_value, dim.dim_param.as_deref()))
}
