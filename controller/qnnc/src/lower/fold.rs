//! What is known now: constants, shapes, and what exporters compute from them in the graph.
//!
//! A reshape to `[batch, -1]` is often written as Shape, Gather, Unsqueeze, Concat, Reshape. Shapes are fixed
//! here, so all of that is one constant.

use super::Lower;
use super::shapes::{self, moved};
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::proto::element;
use crate::tensor::{Const, Data, elements};
use crate::value::{Move, Tensor, Value};
use std::rc::Rc;

/// Numbers of a constant that is computed with: shapes and bounds are short, and weights are not folded.
const COMPUTED_MAX: usize = 4_096;

impl Lower {
    /// The constant that a node gives, if it does not depend on any number that is computed.
    pub(super) fn fold(&self, node: &Node) -> Rule<Option<Const>> {
        match node.op.as_str() {
            "Constant" => return Ok(Some(constant(node)?)),
            "Shape" | "Size" => return Ok(Some(self.shape_of(node)?)),
            _ => {}
        }
        let names = (0..node.inputs.len()).filter(|&at| node.input(at).is_some());
        let known = |at| match node.input(at).and_then(|name| self.values.get(name)) {
            Some(Value::Const(of)) => Some(of.clone()),
            _ => None,
        };
        let Some(inputs) = names.map(known).collect::<Option<Vec<Rc<Const>>>>() else {
            return Ok(None);
        };
        if inputs.is_empty() || inputs.iter().any(|of| of.len() > COMPUTED_MAX) {
            return Ok(None);
        }
        match (node.op.as_str(), &inputs[..]) {
            ("Add" | "Sub" | "Mul" | "Div" | "Mod" | "Min" | "Max" | "Equal" | "Less", [a, b]) => {
                binary(&node.op, a, b)
            }
            ("Where", [which, a, b]) => chosen(which, a, b).map(Some),
            ("Cast", [of]) => cast(of, node.int("to", 0)),
            ("Floor" | "Ceil" | "Neg" | "Sqrt", [of]) => Ok(unary(&node.op, of)),
            ("Concat", _) => joined(&inputs, node.int("axis", 0)).map(Some),
            ("Range", [from, to, step]) => range(from, to, step).map(Some),
            ("ConstantOfShape", [shape]) => filled(node, shape).map(Some),
            ("ReduceProd", [of]) => Ok(reduced(node, of)),
            _ => Ok(None),
        }
    }

    fn shape_of(&self, node: &Node) -> Rule<Const> {
        let shape = self.value_shape(&self.value(node, 0)?)?;
        let dims: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
        if node.op == "Size" {
            return Ok(Const { shape: vec![], data: Data::I64(vec![dims.iter().product()]) });
        }
        let rank = dims.len() as i64;
        let bound =
            |at: i64| if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank) as usize;
        let (start, end) = (bound(node.int("start", 0)), bound(node.int("end", rank)));
        let dims = dims.get(start..end.max(start)).unwrap_or_default().to_vec();
        Ok(Const { shape: vec![dims.len()], data: Data::I64(dims) })
    }
}

/// What a node of kind Constant is.
fn constant(node: &Node) -> Rule<Const> {
    let one = |data| Ok(Const { shape: vec![], data });
    if node.has("value_int") {
        return one(Data::I64(vec![node.int("value_int", 0)]));
    }
    if node.has("value_float") {
        return one(Data::F32(vec![node.real("value_float", 0.0)]));
    }
    if let Some(ints) = node.ints("value_ints").filter(|_| node.has("value_ints")) {
        return Ok(Const { shape: vec![ints.len()], data: Data::I64(ints.to_vec()) });
    }
    if let Some(reals) = node.reals("value_floats") {
        return Ok(Const { shape: vec![reals.len()], data: Data::F32(reals.to_vec()) });
    }
    node.tensor("value")
}

/// Two operands, broadcast; whole numbers if both are.
fn binary(op: &str, a: &Const, b: &Const) -> Rule<Option<Const>> {
    let shape = shapes::broadcast(&a.shape, &b.shape)?;
    let (a, b) = (expanded(a, &shape)?, expanded(b, &shape)?);
    let whole = |a: i64, b: i64| -> Option<i64> {
        match op {
            "Add" => a.checked_add(b),
            "Sub" => a.checked_sub(b),
            "Mul" => a.checked_mul(b),
            // As C does it: towards 0.
            "Div" => a.checked_div(b),
            "Mod" => a.checked_rem_euclid(b),
            "Min" => Some(a.min(b)),
            "Max" => Some(a.max(b)),
            "Equal" => Some((a == b).into()),
            "Less" => Some((a < b).into()),
            _ => None,
        }
    };
    let real = |a: f32, b: f32| match op {
        "Add" => Some(a + b),
        "Sub" => Some(a - b),
        "Mul" => Some(a * b),
        "Div" => Some(a / b),
        "Min" => Some(a.min(b)),
        "Max" => Some(a.max(b)),
        _ => None,
    };
    let data = match (&a.data, &b.data) {
        (Data::F32(a), Data::F32(b)) => {
            a.iter().zip(b).map(|(&a, &b)| real(a, b)).collect::<Option<_>>().map(Data::F32)
        }
        (Data::F32(_), _) | (_, Data::F32(_)) => return no("its operands have two types"),
        _ => {
            let pairs = a.ints()?.into_iter().zip(b.ints()?);
            pairs.map(|(a, b)| whole(a, b)).collect::<Option<_>>().map(Data::I64)
        }
    };
    Ok(data.map(|data| Const { shape, data }))
}

/// Where: of two constants, by a third.
fn chosen(which: &Const, a: &Const, b: &Const) -> Rule<Const> {
    let shape = shapes::broadcast(&shapes::broadcast(&which.shape, &a.shape)?, &b.shape)?;
    let which = expanded(which, &shape)?.ints()?;
    let (a, b) = (expanded(a, &shape)?, expanded(b, &shape)?);
    let data = match (&a.data, &b.data) {
        (Data::F32(a), Data::F32(b)) => {
            let each = which.iter().zip(a.iter().zip(b));
            Data::F32(each.map(|(&w, (&a, &b))| if w != 0 { a } else { b }).collect())
        }
        _ => {
            let each = which.iter().zip(a.ints()?.into_iter().zip(b.ints()?));
            Data::I64(each.map(|(&w, (a, b))| if w != 0 { a } else { b }).collect())
        }
    };
    Ok(Const { shape, data })
}

/// To float32 or to whole numbers; other types are not folded.
fn cast(of: &Const, to: i64) -> Rule<Option<Const>> {
    const BOOL: i64 = 9;
    let (float, whole) =
        (i64::from(element::FLOAT), [element::INT64, element::INT32].map(i64::from));
    let data = match &of.data {
        Data::F32(reals) if whole.contains(&to) => {
            Data::I64(reals.iter().map(|&real| real as i64).collect())
        }
        Data::F32(reals) if to == float => Data::F32(reals.clone()),
        Data::I64(_) | Data::I32(_) if to == float => {
            Data::F32(of.ints()?.into_iter().map(|whole| whole as f32).collect())
        }
        Data::I64(_) | Data::I32(_) if whole.contains(&to) => Data::I64(of.ints()?),
        Data::I64(_) | Data::I32(_) if to == BOOL => {
            Data::I64(of.ints()?.into_iter().map(|whole| (whole != 0).into()).collect())
        }
        _ => return Ok(None),
    };
    Ok(Some(Const { shape: of.shape.clone(), data }))
}

fn unary(op: &str, of: &Const) -> Option<Const> {
    let data = match (&of.data, op) {
        (Data::F32(reals), _) => Data::F32(
            reals
                .iter()
                .map(|&real| match op {
                    "Floor" => libm::floorf(real),
                    "Ceil" => libm::ceilf(real),
                    "Sqrt" => libm::sqrtf(real),
                    _ => -real,
                })
                .collect(),
        ),
        (Data::I64(whole), "Neg") => {
            Data::I64(whole.iter().map(|&whole| whole.checked_neg()).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    Some(Const { shape: of.shape.clone(), data })
}

fn joined(parts: &[Rc<Const>], axis: i64) -> Rule<Const> {
    let first = &parts[0];
    let axis = shapes::axis(axis, first.shape.len())?;
    let rest = |of: &Const| {
        let mut shape = of.shape.clone();
        (axis < shape.len()).then(|| shape.remove(axis)).map(|_| shape)
    };
    if parts.iter().any(|part| rest(part).is_none() || rest(part) != rest(first)) {
        return no("what it joins has different shapes");
    }
    let mut shape = first.shape.clone();
    shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    let run = |of: &Const| of.len() / outer.max(1);
    // From each part in turn, as long as the axis goes.
    let places = (0..outer).flat_map(|outer| {
        let each = parts.iter().enumerate();
        each.flat_map(move |(index, part)| {
            (0..run(part)).map(move |at| (index, outer * run(part) + at))
        })
    });
    macro_rules! gather {
        ($($kind:ident),*) => {
            match &first.data {
                $(Data::$kind(_) => {
                    let lists = parts.iter().map(|part| match &part.data {
                        Data::$kind(list) => Ok(list),
                        _ => no("what it joins has different types"),
                    });
                    let lists = lists.collect::<Rule<Vec<_>>>()?;
                    Data::$kind(places.map(|(index, at)| lists[index][at]).collect())
                })*
            }
        };
    }
    Ok(Const { data: gather!(F32, I64, I32, U8, S8), shape })
}

fn range(from: &Const, to: &Const, step: &Const) -> Rule<Const> {
    let one = |of: &Const| -> Rule<i64> {
        of.ints()?.first().copied().ok_or_else(|| "one of its bounds is empty".to_owned())
    };
    let (from, to, step) = (one(from)?, one(to)?, one(step)?);
    let count = (i128::from(to) - i128::from(from)) / i128::from(step.max(1));
    if step < 1 || count > COMPUTED_MAX as i128 {
        return no(format!("it goes from {from} to {to} by {step}"));
    }
    let data: Vec<i64> = (from..to).step_by(step as usize).collect();
    Ok(Const { shape: vec![data.len()], data: Data::I64(data) })
}

fn filled(node: &Node, shape: &Const) -> Rule<Const> {
    let shape = super::nodes::sizes(&shape.ints()?)?;
    let count = elements(&shape).filter(|&count| count <= COMPUTED_MAX);
    let count = count.ok_or_else(|| format!("its shape is {shape:?}"))?;
    let value = match node.has("value") {
        true => node.tensor("value")?,
        false => Const { shape: vec![1], data: Data::F32(vec![0.0]) },
    };
    let one = Const { shape: vec![], data: value.data };
    if one.len() != 1 {
        return no("it is filled with more than one number");
    }
    Ok(taken(&one, shape, &vec![0; count]))
}

/// The product of all numbers: of a shape, the number of elements.
fn reduced(node: &Node, of: &Const) -> Option<Const> {
    let Data::I64(whole) = &of.data else { return None };
    let all = of.shape.len() <= 1;
    let product = whole.iter().try_fold(1_i64, |product, &dim| product.checked_mul(dim))?;
    let shape = if node.int("keepdims", 1) == 0 { vec![] } else { vec![1; of.shape.len()] };
    all.then_some(Const { shape, data: Data::I64(vec![product]) })
}

/// A constant that is moved in the graph.
pub(super) fn move_constant(of: &Const, way: &Move) -> Rule<Const> {
    let shape = moved(way, &of.shape)?;
    let old = Tensor { buffer: 0, shape: of.shape.clone(), channels_last: false }.strides();
    match way {
        Move::Reshape(_) if shape.iter().product::<usize>() == of.len() => {
            Ok(Const { shape, data: of.data.clone() })
        }
        Move::Transpose(order) => {
            let strides: Vec<usize> = order.iter().map(|&axis| old[axis]).collect();
            Ok(viewed(of, shape, 0, &strides))
        }
        Move::Slice(axes) => {
            let base = axes.iter().zip(&old).map(|((from, ..), stride)| from * stride).sum();
            let strides: Vec<usize> =
                axes.iter().zip(&old).map(|((_, _, step), stride)| step * stride).collect();
            Ok(viewed(of, shape, base, &strides))
        }
        Move::Expand(_) => expanded(of, &shape),
        Move::Pick(axis, picks) => {
            let inner: usize = of.shape[axis + 1..].iter().product();
            let outer: usize = of.shape[..*axis].iter().product();
            let places = (0..outer).flat_map(|outer| {
                picks.iter().flat_map(move |pick| {
                    (0..inner).map(move |at| (outer * of.shape[*axis] + pick) * inner + at)
                })
            });
            let places: Vec<usize> = places.collect();
            Ok(taken(of, shape, &places))
        }
        _ => no("a constant is moved in a way that is not supported"),
    }
}

/// The constant repeated along axes of size 1.
fn expanded(of: &Const, shape: &[usize]) -> Rule<Const> {
    let missing = shape.len().checked_sub(of.shape.len()).ok_or("it cannot lose axes")?;
    let old = Tensor { buffer: 0, shape: of.shape.clone(), channels_last: false }.strides();
    let mut strides = vec![0; missing];
    for ((&size, &stride), &wanted) in of.shape.iter().zip(&old).zip(&shape[missing..]) {
        if size != wanted && size != 1 {
            return no(format!("{:?} does not expand to {shape:?}", of.shape));
        }
        strides.push(if size == wanted { stride } else { 0 });
    }
    Ok(viewed(of, shape.to_vec(), 0, &strides))
}

/// What lies at `base` and goes by `strides`.
fn viewed(of: &Const, shape: Vec<usize>, base: usize, strides: &[usize]) -> Const {
    let place = |mut index: usize| {
        let mut at = base;
        for (&stride, &size) in strides.iter().zip(&shape).rev() {
            at += index % size * stride;
            index /= size;
        }
        at
    };
    let places: Vec<usize> = (0..shape.iter().product()).map(place).collect();
    taken(of, shape, &places)
}

/// The numbers at these places.
fn taken(of: &Const, shape: Vec<usize>, places: &[usize]) -> Const {
    let data = match &of.data {
        Data::F32(data) => Data::F32(places.iter().map(|&at| data[at]).collect()),
        Data::I64(data) => Data::I64(places.iter().map(|&at| data[at]).collect()),
        Data::I32(data) => Data::I32(places.iter().map(|&at| data[at]).collect()),
        Data::U8(data) => Data::U8(places.iter().map(|&at| data[at]).collect()),
        Data::S8(data) => Data::S8(places.iter().map(|&at| data[at]).collect()),
    };
    Const { shape, data }
}
