//! Graphs of which only parts are int8: each part becomes one node, everything else stays as it was.
//!
//! Read in this order: this file; `source` (a graph of which not everything need be understood), `survey`
//! (which nodes can be lowered), `foreign` (shapes of the others), `regions` (where the parts are, and that
//! none waits for itself), `rewrite` and `raw` (the file that comes out).
//!
//! The partition is a guess that is then tried: each region is compiled as a graph of its own, by the one
//! compiler. What that does not take goes back outside, and the partition is made again.

mod foreign;
mod raw;
mod regions;
mod rewrite;
mod source;
mod survey;

use crate::error::CompileError;
use crate::graph::{Graph, Port};
use crate::lower;
use crate::write;
use regions::Cut;
use source::Source;
use survey::{Left, Role, Survey};

/// Domain of the node that a region becomes.
pub const DOMAIN: &str = "fleetway";
/// Operator of the node that a region becomes.
pub const OPERATOR: &str = "FleetwayQnn";
/// The one attribute of that node: a tensor of `uint8`, the qnn file.
pub const ATTRIBUTE: &str = "model";

/// A graph with its int8 regions compiled.
#[derive(Debug)]
pub struct Mixed {
    /// The rewritten model.
    pub onnx: Vec<u8>,
    /// What became one node each.
    pub regions: Vec<Region>,
    /// Nodes that stay in the graph, and why; constants and copies are not among them.
    pub left: Vec<Remaining>,
}

/// A region that became one node.
#[derive(Debug)]
pub struct Region {
    /// Name of the node that it became.
    pub name: String,
    /// Nodes that it was.
    pub nodes: usize,
    /// Multiply-accumulates and moved elements of a run.
    pub work: u64,
    /// The qnn file.
    pub file: Vec<u8>,
    /// Tensors that it reads, in the order of the node's and of the file's inputs.
    pub inputs: Vec<String>,
    /// Tensors that it gives, in the order of the node's and of the file's outputs.
    pub outputs: Vec<String>,
}

/// A node that stays in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remaining {
    /// Its name, or that of its first output.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Why it is in no region.
    pub reason: String,
}

/// Compiles every int8 region of an ONNX file. An error if there is none: then there is nothing to gain.
pub fn compile_mixed(onnx: &[u8]) -> Result<Mixed, CompileError> {
    let source = Source::read(onnx)?;
    let mut left: Left = source.barred.clone().into_iter().collect();
    loop {
        let survey = survey::survey(&source, &mut left);
        let cut = regions::cut(&source, &survey);
        let before = left.len();
        let mut compiled = Vec::new();
        for (index, region) in cut.regions.iter().enumerate() {
            match compile_region(&source, &survey, region, index) {
                Ok(region) => compiled.push(region),
                Err(error) => refuse(&survey, region, &error, &mut left),
            }
        }
        if left.len() > before {
            continue;
        }
        if compiled.is_empty() {
            return Err(nothing(&source, &left));
        }
        let onnx = rewrite::rewrite(onnx, &source, &cut.kept, &compiled)?;
        return Ok(Mixed {
            onnx,
            regions: compiled,
            left: remaining(&source, &survey, &cut, &left),
        });
    }
}

/// A region as a graph of its own.
fn compile_region(
    source: &Source,
    survey: &Survey,
    region: &regions::Region,
    index: usize,
) -> Result<Region, CompileError> {
    let missing = |name: &String| CompileError::Value {
        name: name.clone(),
        reason: "has no known shape".to_owned(),
    };
    let port = |name: &String| survey.ports.get(name).cloned().ok_or_else(|| missing(name));
    let inputs = region.inputs.iter().map(port).collect::<Result<Vec<Port>, _>>()?;
    let nodes: Vec<_> = region.nodes.iter().map(|&node| source.nodes[node].clone()).collect();
    let used = nodes.iter().flat_map(|node| &node.inputs);
    let consts = used.filter_map(|name| Some((name.clone(), source.consts.get(name)?.clone())));
    let consts = consts.collect();
    let outputs: Vec<String> = region.outputs.iter().cloned().collect();
    let graph = Graph { inputs, outputs: outputs.clone(), nodes, consts, open: false };
    let file = write::write(&lower::lower(&graph)?)?;
    let model = fleetway_qnn::Model::load(&file);
    let work = model.map_err(|e| CompileError::Refused(e.to_string()))?.work();
    Ok(Region {
        name: format!("{DOMAIN}_qnn_{index}"),
        nodes: region.nodes.len(),
        work,
        file,
        inputs: region.inputs.iter().cloned().collect(),
        outputs,
    })
}

/// The reason why there is no region: that of the first node that could have been in one.
fn nothing(source: &Source, left: &Left) -> CompileError {
    match left.iter().next() {
        Some((&node, reason)) => CompileError::Node {
            node: source.nodes[node].name.clone(),
            op: source.nodes[node].op.clone(),
            reason: format!("{reason}; and no other part of the model runs in int8"),
        },
        None => CompileError::Graph("has no part that runs in int8".to_owned()),
    }
}

/// Puts everything outside that a region stores.
fn refuse(survey: &Survey, region: &regions::Region, error: &CompileError, left: &mut Left) {
    let stored = |node: &&usize| survey.roles[**node] == Role::Stored;
    for &node in region.nodes.iter().filter(stored) {
        left.entry(node).or_insert_with(|| error.to_string());
    }
}

/// The nodes that were lowered nowhere.
fn remaining(source: &Source, survey: &Survey, cut: &Cut, left: &Left) -> Vec<Remaining> {
    let own = |node: &&usize| matches!(survey.roles[**node], Role::Outside | Role::Stored);
    let kept = cut.kept.iter().filter(own);
    let reason = |node: usize| {
        let small =
            || "what could run in int8 around it has no convolution and no product".to_owned();
        left.get(&node).cloned().unwrap_or_else(small)
    };
    kept.map(|&node| Remaining {
        node: source.nodes[node].name.clone(),
        op: source.nodes[node].op.clone(),
        reason: reason(node),
    })
    .collect()
}
