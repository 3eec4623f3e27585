//! Whether the rows of an open batch stand alone.
//!
//! A file computes one row; whoever brings several gets them one after the other. That is what the
//! graph means only if nothing in it looks across rows (Softmax over the first axis, a batch that is
//! transposed away). So the graph is compiled for two rows as well, and both must agree: on random
//! numbers a row that hears of another does not keep its bits.

use crate::graph::Graph;
use crate::{lower, write};
use fleetway_qnn::format::Element;
use fleetway_qnn::{Input, Kernels, Model, Output};

/// Pairs of random rows that are tried.
const PROBES: u64 = 3;

/// Whether `one`, which was compiled of `graph`, may be run row by row.
pub(crate) fn stand_alone(graph: &Graph, one: &[u8]) -> bool {
    if !graph.open {
        return false;
    }
    let mut pair = graph.clone();
    for input in &mut pair.inputs {
        if let Some(rows) = input.shape.first_mut() {
            *rows = 2;
        }
    }
    let file = lower::lower(&pair).and_then(|program| write::write(&program));
    let Ok(two) = file else { return false };
    let (Ok(one), Ok(two)) = (Model::load(one), Model::load(&two)) else { return false };
    (1..=PROBES).all(|seed| agree(&one, &two, seed) == Some(true))
}

/// `None`: they do not even have the same form.
fn agree(one: &Model<'_>, two: &Model<'_>, seed: u64) -> Option<bool> {
    let mut random = seed;
    let mut byte = || {
        // Knuth's MMIX constants.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 56) as u8
    };
    let rows: Vec<Vec<u8>> =
        two.inputs().map(|(_, io)| (0..io.elements).map(|_| byte()).collect()).collect();
    let both = run(two, &rows)?;
    for at in 0..2 {
        let half = |bytes: &Vec<u8>| {
            let size = bytes.len() / 2;
            bytes.get(at * size..(at + 1) * size).map(<[u8]>::to_vec)
        };
        let alone = run(one, &rows.iter().map(half).collect::<Option<Vec<_>>>()?)?;
        if both.iter().map(half).collect::<Option<Vec<_>>>()? != alone {
            return Some(false);
        }
    }
    Some(true)
}

/// Runs a file on bytes; float inputs are made of them, float outputs given as bits.
fn run(model: &Model<'_>, bytes: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let floats: Vec<Vec<f32>> =
        bytes.iter().map(|all| all.iter().map(|&b| f32::from(b) / 32.0 - 4.0).collect()).collect();
    let signed: Vec<Vec<i8>> =
        bytes.iter().map(|all| all.iter().map(|&b| b.cast_signed()).collect()).collect();
    let inputs = model.inputs().enumerate().map(|(at, (_, io))| match io.element {
        Element::F32 => Input::F32(&floats[at]),
        Element::U8 => Input::U8(&bytes[at]),
        Element::S8 => Input::S8(&signed[at]),
    });
    let inputs: Vec<Input<'_>> = inputs.collect();
    let sizes: Vec<(Element, usize)> =
        model.outputs().map(|(_, io)| (io.element, io.elements as usize)).collect();
    let mut reals: Vec<Vec<f32>> = sizes.iter().map(|&(_, size)| vec![0.0; size]).collect();
    let mut whole: Vec<Vec<u8>> = sizes.iter().map(|&(_, size)| vec![0; size]).collect();
    let mut halves: Vec<Vec<i8>> = sizes.iter().map(|&(_, size)| vec![0; size]).collect();
    let places = sizes.iter().zip(reals.iter_mut().zip(whole.iter_mut().zip(&mut halves)));
    let places = places.map(|(&(element, _), (reals, (whole, halves)))| match element {
        Element::F32 => Output::F32(reals),
        Element::U8 => Output::U8(whole),
        Element::S8 => Output::S8(halves),
    });
    let mut outputs: Vec<Output<'_>> = places.collect();
    let mut arena = vec![0; model.arena_bytes()];
    model.run(Kernels::best(), &mut arena, &inputs, &mut outputs).ok()?;
    drop(outputs);
    let bits = |at: usize| match sizes[at].0 {
        Element::F32 => reals[at].iter().flat_map(|real| real.to_le_bytes()).collect(),
        Element::U8 => whole[at].clone(),
        Element::S8 => halves[at].iter().map(|byte| byte.cast_unsigned()).collect(),
    };
    Some((0..sizes.len()).map(bits).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Node, Port};
    use crate::proto::{AttributeProto, NodeProto, element};
    use crate::tensor::{Const, Data};
    use std::rc::Rc;

    /// `x -> DequantizeLinear -> Softmax(axis) -> QuantizeLinear -> y`.
    fn softmax(axis: i64, open: bool) -> Graph {
        let node = |op: &str, input: &[&str], output: &str, attribute: Vec<AttributeProto>| {
            let input = input.iter().map(|name| (*name).to_owned()).collect();
            let (output, op_type) = (vec![output.to_owned()], op.to_owned());
            Node::new(&NodeProto { input, output, op_type, attribute, ..NodeProto::default() }, 13)
        };
        let axis = AttributeProto { name: "axis".into(), i: axis, kind: 2, ..Default::default() };
        let scalar = |data| Rc::new(Const { shape: Vec::new(), data });
        let consts = [
            ("s", scalar(Data::F32(vec![0.02]))),
            ("t", scalar(Data::F32(vec![1.0 / 256.0]))),
            ("z", scalar(Data::U8(vec![0]))),
        ];
        Graph {
            inputs: vec![Port { name: "x".into(), element: element::UINT8, shape: vec![1, 5] }],
            outputs: vec!["y".into()],
            nodes: vec![
                node("DequantizeLinear", &["x", "s", "z"], "a", Vec::new()),
                node("Softmax", &["a"], "b", vec![axis]),
                node("QuantizeLinear", &["b", "t", "z"], "y", Vec::new()),
            ],
            consts: consts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            open,
        }
    }

    #[test]
    fn a_batch_is_open_where_no_row_hears_of_another() {
        for (axis, open, want) in [(1, true, true), (0, true, false), (1, false, false)] {
            let graph = softmax(axis, open);
            let file = write::write(&lower::lower(&graph).unwrap()).unwrap();
            assert_eq!(stand_alone(&graph, &file), want, "axis {axis}, open {open}");
        }
    }
}
