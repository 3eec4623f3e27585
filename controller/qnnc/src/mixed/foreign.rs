//! Types and shapes of what stays as it was, so that a region behind it knows its input.
//!
//! What lowering itself has seen, and what the file declares, comes first; this is for files that declare
//! nothing. A tensor whose shape is not known here is no input of a region: less speed, never a wrong answer.

use super::source::Source;
use crate::graph::{Node, Port};
use crate::lower::window_out;
use crate::proto::element;
use crate::tensor::Data;
use std::collections::HashMap;

/// Operators whose first output has type and shape of their first input.
const ALIKE: &[&str] = &[
    "Abs",
    "BatchNormalization",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "CumSum",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "LRN",
    "Mish",
    "Neg",
    "PRelu",
    "RMSNormalization",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tanh",
    "ThresholdedRelu",
];
/// Operators whose output has the type of their inputs, and the shape that these broadcast to.
const BROADCAST: &[&str] = &["Add", "Div", "Max", "Mean", "Min", "Mod", "Mul", "Pow", "Sub", "Sum"];

/// The first output of a node, if it is known; `ports` are the tensors known so far.
pub(super) fn output(source: &Source, node: &Node, ports: &HashMap<String, Port>) -> Option<Port> {
    let name = node.outputs.first()?.clone();
    let constant = |name: &str| source.consts.get(name);
    let input = |at: usize| node.input(at);
    let shape = |at: usize| -> Option<Vec<usize>> {
        let name = input(at)?;
        let known = ports.get(name).map(|port| port.shape.clone());
        known.or_else(|| constant(name).map(|of| of.shape.clone()))
    };
    let like_first = |shape: Vec<usize>| {
        let element = ports.get(input(0)?)?.element;
        Some(Port { name: name.clone(), element, shape })
    };
    match node.op.as_str() {
        op if ALIKE.contains(&op) => like_first(shape(0)?),
        op if BROADCAST.contains(&op) => {
            let shapes = (0..node.inputs.len()).map(shape).collect::<Option<Vec<_>>>()?;
            let joined = shapes.into_iter().map(Ok);
            let joined =
                joined.reduce(|a: Result<_, String>, b| crate::lower::broadcast(&a?, &b?))?;
            let element =
                (0..node.inputs.len()).find_map(|at| Some(ports.get(input(at)?)?.element));
            Some(Port { name, element: element?, shape: joined.ok()? })
        }
        "QuantizeLinear" => {
            let element = match input(2).map(constant) {
                None => element::UINT8,
                Some(zero) => match zero?.data {
                    Data::U8(_) => element::UINT8,
                    Data::S8(_) => element::INT8,
                    _ => return None,
                },
            };
            Some(Port { name, element, shape: shape(0)? })
        }
        "DequantizeLinear" => Some(Port { name, element: element::FLOAT, shape: shape(0)? }),
        "Conv" => like_first(window_out(node, &shape(0)?, &shape(1)?)?),
        "MatMul" => {
            let (mut a, b) = (shape(0)?, shape(1)?);
            let (&k, &[.., depth, columns]) = (a.last()?, &b[..]) else { return None };
            // Whichever side has the outer axes.
            if k != depth || a.len() < b.len() && a.len() > 2 {
                return None;
            }
            *a.last_mut()? = columns;
            let outer = crate::lower::broadcast(&a[..a.len() - 2], &b[..b.len() - 2]).ok();
            let outer = if b.len() == 2 { a[..a.len() - 2].to_vec() } else { outer? };
            like_first([&outer[..], &a[a.len() - 2..]].concat())
        }
        "Gemm" => {
            let (a, b) = (shape(0)?, shape(1)?);
            let (&[a0, a1], &[b0, b1]) = (&a[..], &b[..]) else { return None };
            let flag = |name: &str| node.int(name, 0) != 0;
            let rows = if flag("transA") { a1 } else { a0 };
            like_first(vec![rows, if flag("transB") { b0 } else { b1 }])
        }
        _ => None,
    }
}
