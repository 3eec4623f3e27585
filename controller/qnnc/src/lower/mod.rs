//! Node by node: from the graph to steps over bytes.
//!
//! Read in this order: this file (the walk), `quant` (where numbers become bytes and back), `store`
//! (an expression becomes steps), `dense` (convolutions and products), `spread` (transposed ones), `moves`
//! (what only moves bytes), then one rule for each operator of ONNX: `nodes`, `operands`, `reduce`,
//! `resize`, `integer`, `qlinear`, `ways`; `shapes`. `fold` computes what is known now. `probe` asks the same rules what would become
//! of a node.

mod dense;
mod fold;
mod integer;
mod moves;
mod nodes;
mod operands;
mod probe;
mod qlinear;
mod quant;
mod reduce;
mod resize;
mod shapes;
mod spread;
mod store;
mod ways;

pub(crate) use probe::{Outcome, Probe};
pub(crate) use shapes::{broadcast, window_out};

use crate::error::{CompileError, Rule, no};
use crate::graph::{self, Graph, Node};
use crate::ir::{Port, Program};
use crate::proto::element;
use crate::tensor::Const;
use crate::value::{Quant, Real, Tensor, Value};
use fleetway_qnn::format::{Element, Io};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Lowers the whole graph.
pub(crate) fn lower(graph: &Graph) -> Result<Program, CompileError> {
    let mut lower = Lower::new(&graph.consts);
    graph.inputs.iter().for_each(|input| lower.input(input));
    for node in &graph.nodes {
        lower.visit(node).map_err(|reason| CompileError::Node {
            node: node.name.clone(),
            op: node.op.clone(),
            reason,
        })?;
    }
    lower.ports(graph)?;
    drop_unused(&mut lower.program);
    Ok(lower.program)
}

/// The walk.
struct Lower {
    program: Program,
    values: HashMap<String, Value>,
    /// Of the inputs of the graph.
    shapes: Vec<Vec<usize>>,
    /// What each input is stored as, once that is known.
    quantized: Vec<Option<(Tensor, Quant)>>,
}

impl Lower {
    fn new(consts: &HashMap<String, Rc<Const>>) -> Self {
        let values = consts.iter();
        let values = values.map(|(name, of)| (name.clone(), Value::Const(of.clone()))).collect();
        Self { program: Program::default(), values, shapes: vec![], quantized: vec![] }
    }

    /// One more input.
    fn input(&mut self, port: &graph::Port) {
        self.shapes.push(port.shape.clone());
        let (value, stored) = if port.element == element::FLOAT {
            (Value::Real(Rc::new(Real::Input(self.shapes.len() - 1))), None)
        } else {
            let tensor = self.program.tensor(&port.shape, false);
            let flip = if port.element == element::INT8 { 128 } else { 0 };
            let quant = Quant { scale: 1.0, zero: 0, flip };
            (Value::Stored(tensor.clone(), flip == 128), Some((tensor, quant)))
        };
        self.quantized.push(stored);
        self.values.insert(port.name.clone(), value);
    }

    fn visit(&mut self, node: &Node) -> Rule {
        let values = self.lower_node(node)?;
        for (name, value) in node.outputs.iter().zip(values) {
            self.values.insert(name.clone(), value);
        }
        Ok(())
    }

    /// Inputs and outputs of the program.
    fn ports(&mut self, graph: &Graph) -> Result<(), CompileError> {
        for (input, found) in graph.inputs.iter().zip(&self.quantized) {
            let Some((tensor, quant)) = found else {
                let reason = "is never quantized".to_owned();
                return Err(CompileError::Value { name: input.name.clone(), reason });
            };
            let kind = match input.element {
                element::FLOAT => Element::F32,
                element::INT8 => Element::S8,
                _ => Element::U8,
            };
            self.program.inputs.push(port(&input.name, tensor, kind, *quant));
        }
        for name in &graph.outputs {
            let value = self.values.get(name).cloned();
            let port = self
                .output(name, value)
                .map_err(|reason| CompileError::Value { name: name.clone(), reason })?;
            self.program.outputs.push(port);
        }
        Ok(())
    }

    fn output(&mut self, name: &str, value: Option<Value>) -> Rule<Port> {
        let plain = Quant { scale: 1.0, zero: 0, flip: 0 };
        match value {
            Some(Value::Stored(tensor, signed)) => {
                let tensor = self.in_order(&tensor)?;
                let kind = if signed { Element::S8 } else { Element::U8 };
                Ok(port(name, &tensor, kind, plain))
            }
            Some(Value::Real(real)) => match &*real {
                Real::Stored(tensor, quant) => {
                    let tensor = self.in_order(tensor)?;
                    Ok(port(name, &tensor, Element::F32, *quant))
                }
                _ => no("is an output of real numbers that are not quantized before"),
            },
            _ => no("is an output that does not depend on the input"),
        }
    }

    /// The value of an input of a node.
    fn value(&self, node: &Node, index: usize) -> Rule<Value> {
        let name = node.input(index).ok_or_else(|| format!("its input {index} is missing"))?;
        let value = self.values.get(name).cloned();
        value.ok_or_else(|| format!("its input `{name}` is not supported"))
    }

    /// A constant input of a node, or nothing if it is not given.
    fn constant(&self, node: &Node, index: usize) -> Rule<Option<Rc<Const>>> {
        match node.input(index) {
            None => Ok(None),
            Some(name) => match self.values.get(name) {
                Some(Value::Const(constant)) => Ok(Some(constant.clone())),
                _ => no(format!("its input `{name}` must be a constant")),
            },
        }
    }

    /// A constant input of a node.
    fn given(&self, node: &Node, index: usize) -> Rule<Rc<Const>> {
        self.constant(node, index)?.ok_or_else(|| format!("its input {index} is missing"))
    }

    /// An input of a node as real numbers.
    fn real(&mut self, node: &Node, index: usize) -> Rule<Rc<Real>> {
        match self.value(node, index)? {
            Value::Real(real) => Ok(real),
            Value::Scaled(of) => self.loaded(&of),
            Value::Stored(..) => no("it takes integers where real numbers are needed"),
            _ => no("it computes with a constant in a way that is not supported"),
        }
    }

    /// An input of a node as stored real numbers, with how.
    fn stored_input(&mut self, node: &Node, index: usize) -> Rule<(Tensor, Quant)> {
        let real = self.real(node, index)?;
        self.stored(&real)
    }

    /// Real numbers that are stored, with how.
    fn stored(&self, real: &Real) -> Rule<(Tensor, Quant)> {
        match real {
            Real::Stored(tensor, quant) => Ok((tensor.clone(), *quant)),
            _ => no("its input is not quantized (no DequantizeLinear before it)"),
        }
    }
}

fn port(name: &str, tensor: &Tensor, element: Element, quant: Quant) -> Port {
    let mut dims = [1; 6];
    for (dim, &size) in dims.iter_mut().zip(&tensor.shape) {
        *dim = size as u32;
    }
    let io = Io {
        element,
        rank: tensor.shape.len().min(6) as u32,
        dims,
        arena: 0,
        elements: tensor.elements() as u32,
        scale: quant.scale,
        zero: quant.zero.into(),
        name: 0,
        name_bytes: 0,
    };
    Port { name: name.to_owned(), buffer: tensor.buffer, io }
}

/// Drops steps whose result nobody reads.
fn drop_unused(program: &mut Program) {
    let mut read: HashSet<usize> = program.outputs.iter().map(|port| port.buffer).collect();
    let mut kept = Vec::new();
    for step in program.steps.drain(..).rev() {
        if read.contains(&step.output.buffer) {
            read.extend(step.inputs.iter().map(|place| place.buffer));
            kept.push(step);
        }
    }
    kept.reverse();
    program.steps = kept;
}
