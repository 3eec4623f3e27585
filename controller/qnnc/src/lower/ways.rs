//! Operators of one input: functions of each number, and what only moves numbers.

use super::Lower;
use super::nodes::{sizes, whole};
use super::shapes::{axis, broadcast, window};
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::value::{Func, Move, Value};

impl Lower {
    /// The function that a node is, if it is one.
    pub(super) fn func(&self, node: &Node) -> Rule<Option<Func>> {
        Ok(Some(match node.op.as_str() {
            "Relu" => Func::Clip(0.0, f32::INFINITY),
            "Clip" => {
                let bound = |at: usize, default: f32| -> Rule<f32> {
                    match self.constant(node, at)? {
                        Some(bound) => Ok(*bound.reals()?.first().ok_or("its bound is empty")?),
                        None => Ok(default),
                    }
                };
                Func::Clip(bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?)
            }
            "LeakyRelu" => Func::Leaky(node.real("alpha", 0.01)),
            "Elu" => Func::Elu(node.real("alpha", 1.0)),
            "Sigmoid" => Func::Sigmoid,
            "Tanh" => Func::Tanh,
            "HardSigmoid" => Func::HardSigmoid(node.real("alpha", 0.2), node.real("beta", 0.5)),
            "HardSwish" => Func::HardSwish,
            "Exp" => Func::Exp,
            "Sqrt" => Func::Sqrt,
            "Erf" => Func::Erf,
            "Abs" => Func::Abs,
            "Neg" => Func::Neg,
            _ => return Ok(None),
        }))
    }

    /// How a node moves numbers, if that is all that it does.
    pub(super) fn way(&self, node: &Node, value: &Value) -> Rule<Option<Move>> {
        let shape = self.value_shape(value)?;
        Ok(Some(match node.op.as_str() {
            "Reshape" => Move::Reshape(self.reshaped(node, &shape)?),
            "Flatten" => {
                let at = node.int("axis", 1);
                let at =
                    if at == shape.len() as i64 { shape.len() } else { axis(at, shape.len())? };
                let product = |of: &[usize]| of.iter().product();
                Move::Reshape(vec![product(&shape[..at]), product(&shape[at..])])
            }
            "Squeeze" => {
                let given = self.axes(node, 1)?;
                let given = given.map(|axes| {
                    axes.iter().map(|&a| axis(a, shape.len())).collect::<Rule<Vec<_>>>()
                });
                let given = given.transpose()?;
                let gone =
                    |at: usize| given.as_ref().map_or(shape[at] == 1, |axes| axes.contains(&at));
                Move::Reshape(
                    (0..shape.len()).filter(|&at| !gone(at)).map(|at| shape[at]).collect(),
                )
            }
            "Unsqueeze" => {
                let axes = self.axes(node, 1)?.unwrap_or_default();
                let rank = shape.len() + axes.len();
                let new = axes.iter().map(|&a| axis(a, rank)).collect::<Rule<Vec<_>>>()?;
                let mut rest = shape.iter().copied();
                let dim = |at: usize| if new.contains(&at) { Some(1) } else { rest.next() };
                let shape = (0..rank).map(dim).collect::<Option<_>>();
                Move::Reshape(shape.ok_or("its axes are there twice")?)
            }
            "Transpose" => {
                let order = match node.ints("perm") {
                    Some(order) => sizes(order)?,
                    None => (0..shape.len()).rev().collect(),
                };
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if sorted != (0..shape.len()).collect::<Vec<_>>() {
                    return no(format!("its order is {order:?} of {} axes", shape.len()));
                }
                Move::Transpose(order)
            }
            "Slice" => self.slice(node, &shape)?,
            "Pad" => self.pad(node, &shape)?,
            "Expand" => {
                let wanted = sizes(&self.given(node, 1)?.ints()?)?;
                Move::Expand(broadcast(&shape, &wanted)?)
            }
            "MaxPool" => {
                if node.outputs.len() > 1 || node.int("storage_order", 0) != 0 {
                    return no("indices of the largest numbers are not supported");
                }
                let kernel = sizes(node.ints("kernel_shape").unwrap_or_default())?;
                Move::MaxPool(window(node, shape.get(2..).unwrap_or_default(), &kernel)?)
            }
            "GlobalMaxPool" => Move::MaxPool(whole(&shape)?),
            _ => return Ok(None),
        }))
    }

    fn reshaped(&self, node: &Node, shape: &[usize]) -> Rule<Vec<usize>> {
        let wanted = self.given(node, 1)?.ints()?;
        if node.int("allowzero", 0) != 0 && wanted.contains(&0) {
            return no("an empty result is not supported");
        }
        let all: usize = shape.iter().product();
        let (mut found, mut open) = (Vec::new(), None);
        for (at, &size) in wanted.iter().enumerate() {
            found.push(match size {
                0 => *shape.get(at).ok_or("it keeps an axis that is not there")?,
                -1 if open.is_none() => {
                    open = Some(at);
                    1
                }
                size => usize::try_from(size).map_err(|_| format!("its shape is {wanted:?}"))?,
            });
        }
        let known = crate::tensor::elements(&found).filter(|&known| known > 0);
        let known = known.ok_or_else(|| format!("its shape is {wanted:?}"))?;
        if let Some(at) = open {
            found[at] = all / known;
        }
        if crate::tensor::elements(&found) != Some(all) {
            return no(format!("{shape:?} does not reshape to {wanted:?}"));
        }
        Ok(found)
    }

    fn slice(&self, node: &Node, shape: &[usize]) -> Rule<Move> {
        let starts = self.given(node, 1)?.ints()?;
        let ends = self.given(node, 2)?.ints()?;
        let all = || (0..starts.len() as i64).collect();
        let axes = self.constant(node, 3)?.map_or_else(|| Ok(all()), |axes| axes.ints())?;
        let steps = self.constant(node, 4)?;
        let steps = steps.map_or_else(|| Ok(vec![1; starts.len()]), |steps| steps.ints())?;
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return no("its starts, ends, axes and steps differ in number");
        }
        let mut found: Vec<_> = shape.iter().map(|&dim| (0, dim, 1)).collect();
        for (((start, end), at), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let at = axis(at, shape.len())?;
            let size = shape[at] as i64;
            let bound = |at: i64| if at < 0 { at.saturating_add(size) } else { at }.clamp(0, size);
            let (start, end) = (bound(start), bound(end));
            if step < 1 || end <= start {
                return no("empty and backward slices are not supported");
            }
            let step = step.min(size);
            found[at] = (start as usize, ((end - start + step - 1) / step) as usize, step as usize);
        }
        Ok(Move::Slice(found))
    }

    fn pad(&self, node: &Node, shape: &[usize]) -> Rule<Move> {
        if !matches!(node.text("mode").as_deref(), None | Some("constant")) {
            return no("only constant padding is supported");
        }
        let pads = sizes(&self.given(node, 1)?.ints()?)?;
        let axes = match self.constant(node, 3)? {
            Some(axes) => axes.ints()?,
            None => (0..shape.len() as i64).collect(),
        };
        if pads.len() != 2 * axes.len() || pads.iter().any(|&pad| pad > 1 << 16) {
            return no(format!("its pads are {pads:?}"));
        }
        let value = match node.input(2) {
            None => 0.0,
            Some(_) => match self.value(node, 2)? {
                Value::Const(of) if of.len() == 1 => match of.reals() {
                    Ok(reals) => reals[0],
                    Err(_) => of.ints()?[0] as f32,
                },
                Value::Scaled(of) if of.data.len() == 1 => {
                    (of.data.ints()?[0] - of.zeros[0]) as f32 * of.scales[0]
                }
                _ => return no("what it pads with is not one constant"),
            },
        };
        let mut found = vec![(0, 0); shape.len()];
        for (index, &at) in axes.iter().enumerate() {
            found[axis(at, shape.len())?] = (pads[index], pads[axes.len() + index]);
        }
        Ok(Move::Pad(found, value))
    }
}
