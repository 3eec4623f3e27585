//! Which nodes can be lowered, and what stays outside with which reason.

use super::foreign;
use super::source::Source;
use crate::graph::Port;
use crate::lower::{Outcome, Probe};
use std::collections::{BTreeMap, HashMap};

/// Nodes that stay as they are, and why.
pub(super) type Left = BTreeMap<usize, String>;

/// What a node is to the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Stays as it is.
    Outside,
    /// Gives constants: whoever needs them has a copy.
    Folded,
    /// Gives bytes: belongs to one region.
    Stored,
    /// Gives real numbers that are bytes read: whoever needs them has a copy, or a region gives them.
    Numbers,
    /// Is a part of an expression: whoever stores that has a copy.
    Pending,
}

/// The answer.
pub(super) struct Survey {
    pub(super) roles: Vec<Role>,
    /// Tensors of known type and shape.
    pub(super) ports: HashMap<String, Port>,
}

/// Asks about every node; those that stay outside are added to `left`.
pub(super) fn survey(source: &Source, left: &mut Left) -> Survey {
    // What a node that stays outside now was when it was lowered.
    let mut seen = HashMap::new();
    loop {
        let mut pass = Pass::new(source, &mut seen);
        for node in 0..source.nodes.len() {
            pass.visit(node, left);
        }
        pass.needed_in_float();
        if pass.blamed.is_empty() {
            return Survey { roles: pass.roles, ports: pass.ports };
        }
        // Each pass blames a node that was not blamed before: this ends.
        left.append(&mut pass.blamed);
    }
}

/// One walk over the graph.
struct Pass<'s> {
    source: &'s Source,
    probe: Probe,
    roles: Vec<Role>,
    ports: HashMap<String, Port>,
    seen: &'s mut HashMap<String, Port>,
    /// Nodes that must stay outside for the sake of others: the next pass knows.
    blamed: Left,
}

impl<'s> Pass<'s> {
    fn new(source: &'s Source, seen: &'s mut HashMap<String, Port>) -> Self {
        let mut probe = Probe::new(&source.consts);
        let known = source.inputs.values().flatten();
        let ports: HashMap<_, _> = known.map(|port| (port.name.clone(), port.clone())).collect();
        ports.values().for_each(|port| probe.foreign(port));
        Self { source, probe, roles: Vec::new(), ports, seen, blamed: Left::new() }
    }

    fn visit(&mut self, index: usize, left: &mut Left) {
        if left.contains_key(&index) {
            return self.outside(index);
        }
        match self.probe.visit(&self.source.nodes[index]) {
            Ok(outcomes) => {
                let role = match outcomes.first() {
                    Some((Outcome::Stored, _)) => Role::Stored,
                    Some((Outcome::Numbers, _)) => Role::Numbers,
                    Some((Outcome::Pending, _)) => Role::Pending,
                    _ => Role::Folded,
                };
                self.roles.push(role);
                for (_, port) in outcomes {
                    self.seen.insert(port.name.clone(), port.clone());
                    self.ports.insert(port.name.clone(), port);
                }
            }
            Err(reason) => {
                match self.to_blame(index) {
                    Some(other) => {
                        self.blamed.insert(other, reason);
                    }
                    // Behind somebody who is to blame a node may only look as if it failed.
                    None if self.blamed.is_empty() => {
                        left.insert(index, reason);
                    }
                    None => {}
                }
                self.outside(index);
            }
        }
    }

    /// A number that cannot be stored is the fault of the expression, not of QuantizeLinear.
    fn to_blame(&self, index: usize) -> Option<usize> {
        let node = &self.source.nodes[index];
        let other = *self.source.producer.get(node.input(0)?)?;
        (node.op == "QuantizeLinear" && self.roles[other] == Role::Pending).then_some(other)
    }

    /// What a foreign node gives may still be the input of a region.
    fn outside(&mut self, index: usize) {
        self.roles.push(Role::Outside);
        let node = &self.source.nodes[index];
        for (at, name) in node.outputs.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let known = self.seen.get(name).or_else(|| self.source.declared.get(name)).cloned();
            let first = |_| foreign::output(self.source, node, &self.ports);
            if let Some(port) = known.or_else(|| (at == 0).then_some(()).and_then(|()| first(()))) {
                self.probe.foreign(&port);
                self.ports.insert(name.clone(), port);
            }
        }
    }

    /// Numbers that nobody stores, and somebody outside reads, are computed outside.
    fn needed_in_float(&mut self) {
        let outputs = self.source.outputs.iter();
        let mut wanted: HashMap<&str, &str> =
            outputs.map(|name| (name.as_str(), "the graph's output")).collect();
        for index in (0..self.source.nodes.len()).rev() {
            let node = &self.source.nodes[index];
            let reader = node.outputs.iter().find_map(|name| wanted.get(name.as_str()));
            if let (Role::Pending, Some(reader)) = (self.roles[index], reader) {
                let reason = format!("`{reader}` needs its numbers before they are quantized");
                self.blamed.insert(index, reason);
                self.roles[index] = Role::Outside;
            }
            if self.roles[index] == Role::Outside {
                wanted.extend(self.source.reads(index).map(|name| (name, node.name.as_str())));
            }
        }
    }
}
