//! Lowering as a question: what would become of a node in a graph that cannot be lowered whole.

use super::Lower;
use crate::error::Rule;
use crate::graph::{Node, Port};
use crate::proto::element;
use crate::tensor::Const;
use crate::value::{Real, Value};
use std::collections::HashMap;
use std::rc::Rc;

/// What an output of a node became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Known now.
    Folded,
    /// Bytes in the arena.
    Stored,
    /// Bytes in the arena, read as real numbers.
    Numbers,
    /// Real numbers that nobody stored: an expression.
    Pending,
}

/// The walk over a graph of which parts are foreign: they come as inputs, when they are reached.
pub(crate) struct Probe(Lower);

impl Probe {
    pub(crate) fn new(consts: &HashMap<String, Rc<Const>>) -> Self {
        Self(Lower::new(consts))
    }

    /// A tensor that something else computes.
    pub(crate) fn foreign(&mut self, port: &Port) {
        self.0.input(port);
    }

    /// Lowers a node: what each of its outputs is, and its element type and shape unless it is a constant.
    pub(crate) fn visit(&mut self, node: &Node) -> Rule<Vec<(Outcome, Port)>> {
        self.0.visit(node)?;
        let outputs = node.outputs.iter().filter(|name| !name.is_empty());
        outputs.map(|name| self.outcome(name)).collect()
    }

    fn outcome(&self, name: &str) -> Rule<(Outcome, Port)> {
        let value = self.0.values.get(name).ok_or_else(|| format!("it gives no `{name}`"))?;
        let (outcome, element) = match value {
            Value::Const(_) | Value::Scaled(_) => (Outcome::Folded, element::FLOAT),
            Value::Stored(_, true) => (Outcome::Stored, element::INT8),
            Value::Stored(_, false) => (Outcome::Stored, element::UINT8),
            Value::Real(real) => match **real {
                Real::Stored(..) => (Outcome::Numbers, element::FLOAT),
                _ => (Outcome::Pending, element::FLOAT),
            },
        };
        let shape = self.0.value_shape(value)?;
        Ok((outcome, Port { name: name.to_owned(), element, shape }))
    }
}
