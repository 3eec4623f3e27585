//! Where the int8 regions are: as large as they can be, and none waits for itself.
//!
//! A node that gives bytes is in a region. Its level is how often a path to it leaves the int8 part and
//! comes back: nodes of one level never wait for each other through a node outside. Those of one level
//! that hang together are a region. What only reads bytes as numbers, or is a part of an expression, has
//! no level: every region has its own copy, and so has the outside.

use super::source::Source;
use super::survey::{Role, Survey};
use std::collections::{BTreeMap, BTreeSet};

/// Operators that make a region worth its call.
const WORTH: [&str; 9] = [
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "QGemm",
    "QLinearConv",
    "QLinearMatMul",
    "MatMulInteger",
    "ConvInteger",
];

/// A region, by indices of nodes and names of tensors.
#[derive(Debug, Default)]
pub(super) struct Region {
    pub(super) nodes: BTreeSet<usize>,
    pub(super) inputs: BTreeSet<String>,
    pub(super) outputs: BTreeSet<String>,
}

/// Regions, and the nodes that stay in the graph.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) regions: Vec<Region>,
    pub(super) kept: BTreeSet<usize>,
}

pub(super) fn cut(source: &Source, survey: &Survey) -> Cut {
    let mut cutter = Cutter { source, survey, home: BTreeMap::new() };
    let levels = cutter.levels();
    let mut regions = Vec::new();
    for stored in cutter.groups(&levels) {
        let region = cutter.gather(&stored);
        let op = |node: &usize| source.nodes[*node].op.as_str();
        if region.nodes.iter().any(|node| WORTH.contains(&op(node))) {
            cutter.home.extend(stored.iter().map(|&node| (node, regions.len())));
            regions.push(region);
        }
    }
    let kept = cutter.connect(&mut regions);
    regions.retain(|region| !region.outputs.is_empty());
    Cut { regions, kept }
}

struct Cutter<'s> {
    source: &'s Source,
    survey: &'s Survey,
    /// The region of a node that gives bytes.
    home: BTreeMap<usize, usize>,
}

/// What a tensor asks of whoever reads it.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// Least level of a stored reader.
    inside: i32,
    /// Level that a reader outside comes after.
    outside: i32,
}

impl Cutter<'_> {
    fn role(&self, node: usize) -> Role {
        self.survey.roles[node]
    }

    fn producer(&self, name: &str) -> Option<usize> {
        self.source.producer.get(name).copied()
    }

    /// The level of each node.
    fn levels(&self) -> Vec<i32> {
        let start = Level { inside: 0, outside: -1 };
        let mut found: Vec<Level> = Vec::new();
        for node in 0..self.source.nodes.len() {
            let reads = self.source.reads(node);
            let reads = reads.map(|name| self.producer(name).map_or(start, |from| found[from]));
            let most = reads.fold(start, |a, b| Level {
                inside: a.inside.max(b.inside),
                outside: a.outside.max(b.outside),
            });
            found.push(match self.role(node) {
                Role::Outside => Level { inside: most.outside + 1, outside: most.outside },
                Role::Stored => Level { inside: most.inside, outside: most.inside },
                Role::Folded => start,
                Role::Numbers | Role::Pending => most,
            });
        }
        found.into_iter().map(|level| level.inside).collect()
    }

    /// Stored nodes of one level that read each other, first ones first.
    fn groups(&self, levels: &[i32]) -> Vec<BTreeSet<usize>> {
        let mut group: Vec<usize> = (0..levels.len()).collect();
        let root = |group: &[usize], mut at: usize| {
            while group[at] != at {
                at = group[at];
            }
            at
        };
        let stored = |node: &usize| self.role(*node) == Role::Stored;
        for node in (0..levels.len()).filter(stored) {
            for other in self.gather(&[node].into()).inputs {
                let Some(other) = self.producer(&other).filter(stored) else { continue };
                if levels[other] == levels[node] {
                    let (a, b) = (root(&group, node), root(&group, other));
                    group[a.max(b)] = a.min(b);
                }
            }
        }
        let mut found: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for node in (0..levels.len()).filter(stored) {
            found.entry(root(&group, node)).or_default().insert(node);
        }
        found.into_values().collect()
    }

    /// Nodes with everything that they need to be lowered, and what that reads from elsewhere.
    fn gather(&self, seeds: &BTreeSet<usize>) -> Region {
        let mut region = Region::default();
        let mut open: Vec<usize> = seeds.iter().copied().collect();
        while let Some(node) = open.pop() {
            if !region.nodes.insert(node) {
                continue;
            }
            for name in self.source.reads(node) {
                match self.producer(name) {
                    Some(from) if seeds.contains(&from) => {}
                    Some(from) if !matches!(self.role(from), Role::Stored | Role::Outside) => {
                        open.push(from);
                    }
                    None if self.source.consts.contains_key(name) => {}
                    _ => {
                        region.inputs.insert(name.to_owned());
                    }
                }
            }
        }
        region
    }

    /// Says what each region gives, and what stays in the graph, from the outputs backwards.
    fn connect(&self, regions: &mut [Region]) -> BTreeSet<usize> {
        let outside = |node: &usize| match self.role(*node) {
            Role::Outside => true,
            Role::Stored => !self.home.contains_key(node),
            _ => false,
        };
        let mut kept: BTreeSet<usize> = (0..self.source.nodes.len()).filter(outside).collect();
        let mut open: Vec<String> = self.source.outputs.clone();
        let reads = |node: usize| self.source.reads(node).map(str::to_owned);
        open.extend(kept.iter().flat_map(|&node| reads(node)));
        open.extend(regions.iter().flat_map(|region| region.inputs.iter().cloned()));
        while let Some(name) = open.pop() {
            let Some(node) = self.producer(&name) else { continue };
            match self.path(node) {
                Some((path, home)) => {
                    let given = self.gather(&path);
                    // What the path reads beyond constants, the region has already.
                    regions[home].nodes.extend(given.nodes);
                    regions[home].outputs.insert(name);
                }
                None if kept.insert(node) => open.extend(reads(node)),
                None => {}
            }
        }
        kept
    }

    /// The nodes from a tensor back to stored bytes of a region, and which: it can give that tensor.
    fn path(&self, mut node: usize) -> Option<(BTreeSet<usize>, usize)> {
        let mut path = BTreeSet::new();
        loop {
            path.insert(node);
            if let Some(&home) = self.home.get(&node) {
                return Some((path, home));
            }
            if self.role(node) != Role::Numbers {
                return None;
            }
            node = self.producer(self.source.nodes[node].input(0)?)?;
        }
    }
}
