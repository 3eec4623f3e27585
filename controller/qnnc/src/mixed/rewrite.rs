//! The file that comes out: kept nodes as they were, one node for each region, constants that are still used.

use super::raw::{fields, put, text};
use super::source::Source;
use super::{ATTRIBUTE, DOMAIN, OPERATOR, Region};
use crate::error::CompileError;
use crate::proto::{AttributeProto, NodeProto, OperatorSetIdProto, TensorProto, element};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Field numbers of ONNX's messages.
mod field {
    pub(super) const MODEL_GRAPH: u64 = 7;
    pub(super) const MODEL_OPSET: u64 = 8;
    pub(super) const GRAPH_NODE: u64 = 1;
    pub(super) const GRAPH_CONST: u64 = 5;
    pub(super) const GRAPH_INPUT: u64 = 11;
    pub(super) const GRAPH_INFO: u64 = 13;
    pub(super) const GRAPH_QUANTIZATION: u64 = 14;
    pub(super) const TENSOR_NAME: u64 = 8;
    /// Of inputs, and of what says something about a tensor.
    pub(super) const NAME: u64 = 1;
}

/// ONNX's number for an attribute that is a tensor.
const KIND_TENSOR: i32 = 4;
/// Of the operators of [`DOMAIN`].
const OPSET: i64 = 1;

pub(super) fn rewrite(
    onnx: &[u8],
    source: &Source,
    kept: &BTreeSet<usize>,
    regions: &[Region],
) -> Result<Vec<u8>, CompileError> {
    let mut model = Vec::new();
    for part in fields(onnx)? {
        if part.number == field::MODEL_GRAPH {
            put(&mut model, part.number, &graph(part.body, source, kept, regions)?);
        } else {
            model.extend_from_slice(part.whole);
        }
    }
    let opset = OperatorSetIdProto { domain: DOMAIN.to_owned(), version: OPSET };
    put(&mut model, field::MODEL_OPSET, &opset.encode_to_vec());
    Ok(model)
}

fn graph(
    old: &[u8],
    source: &Source,
    kept: &BTreeSet<usize>,
    regions: &[Region],
) -> Result<Vec<u8>, CompileError> {
    let old = fields(old)?;
    let nodes = old.iter().filter(|part| part.number == field::GRAPH_NODE);
    let nodes: Vec<&[u8]> = nodes.map(|part| part.body).collect();
    let mut read: HashSet<&str> = kept.iter().flat_map(|&node| source.reads(node)).collect();
    read.extend(source.outputs.iter().map(String::as_str));
    let gives = kept.iter().flat_map(|&node| &source.nodes[node].outputs);
    let gives: HashSet<&str> =
        gives.chain(regions.iter().flat_map(|r| &r.outputs)).map(String::as_str).collect();
    let here = |name: &str| {
        gives.contains(name) || read.contains(name) || source.inputs.contains_key(name)
    };
    let mut new = Vec::new();
    for part in &old {
        let stays = match part.number {
            field::GRAPH_NODE => false,
            field::GRAPH_CONST => read.contains(text(part.body, field::TENSOR_NAME)?),
            field::GRAPH_INPUT | field::GRAPH_INFO | field::GRAPH_QUANTIZATION => {
                here(text(part.body, field::NAME)?)
            }
            _ => true,
        };
        if stays {
            new.extend_from_slice(part.whole);
        }
    }
    for unit in order(source, kept, regions)? {
        match unit {
            Unit::Node(node) => put(&mut new, field::GRAPH_NODE, nodes[node]),
            Unit::Region(index) => {
                put(&mut new, field::GRAPH_NODE, &node_of(&regions[index]).encode_to_vec());
            }
        }
    }
    Ok(new)
}

fn node_of(region: &Region) -> NodeProto {
    let file = TensorProto {
        dims: vec![region.file.len() as i64],
        data_type: element::UINT8,
        raw_data: region.file.clone(),
        ..TensorProto::default()
    };
    let model = AttributeProto {
        name: ATTRIBUTE.to_owned(),
        t: Some(file),
        kind: KIND_TENSOR,
        ..AttributeProto::default()
    };
    NodeProto {
        input: region.inputs.clone(),
        output: region.outputs.clone(),
        name: region.name.clone(),
        op_type: OPERATOR.to_owned(),
        attribute: vec![model],
        domain: DOMAIN.to_owned(),
    }
}

/// What becomes a node of the new graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Region(usize),
    Node(usize),
}

/// An order in which every input is known.
fn order(
    source: &Source,
    kept: &BTreeSet<usize>,
    regions: &[Region],
) -> Result<Vec<Unit>, CompileError> {
    let mut gives: BTreeMap<&str, Unit> = BTreeMap::new();
    for &node in kept {
        let names = source.nodes[node].outputs.iter().map(String::as_str);
        gives.extend(names.map(|name| (name, Unit::Node(node))));
    }
    for (index, region) in regions.iter().enumerate() {
        gives.extend(region.outputs.iter().map(|name| (name.as_str(), Unit::Region(index))));
    }
    let reads = |unit: Unit| -> BTreeSet<Unit> {
        let names: Vec<&str> = match unit {
            Unit::Node(node) => source.reads(node).collect(),
            Unit::Region(index) => regions[index].inputs.iter().map(String::as_str).collect(),
        };
        names.into_iter().filter_map(|name| gives.get(name).copied()).collect()
    };
    let units: BTreeSet<Unit> = gives.values().copied().collect();
    let mut waits: BTreeMap<Unit, usize> = BTreeMap::new();
    let mut readers: BTreeMap<Unit, Vec<Unit>> = BTreeMap::new();
    for &unit in &units {
        let before = reads(unit);
        waits.insert(unit, before.len());
        before.into_iter().for_each(|other| readers.entry(other).or_default().push(unit));
    }
    let ready = waits.iter().filter(|(_, waits)| **waits == 0);
    let mut ready: BTreeSet<Unit> = ready.map(|(&unit, _)| unit).collect();
    let mut found = Vec::new();
    while let Some(unit) = ready.pop_first() {
        found.push(unit);
        for reader in readers.remove(&unit).unwrap_or_default() {
            let Some(waits) = waits.get_mut(&reader) else { continue };
            *waits -= 1;
            if *waits == 0 {
                ready.insert(reader);
            }
        }
    }
    if found.len() != units.len() {
        return Err(CompileError::Graph(
            "was cut into parts that wait for each other: a bug".into(),
        ));
    }
    Ok(found)
}
