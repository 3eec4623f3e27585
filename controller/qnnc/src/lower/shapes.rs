//! Shapes: of expressions, of windows, of what broadcasts.

use super::Lower;
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::value::{Move, Pool, Real, Right};

/// Largest size, stride, pad or window, as the runtime has it.
const DIM_MAX: i64 = fleetway_qnn::limits::DIM_MAX as i64;

/// An axis that may count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Rule<usize> {
    let at = if axis < 0 { axis + rank as i64 } else { axis };
    let at = usize::try_from(at).ok().filter(|&at| at < rank);
    at.ok_or_else(|| format!("it has no axis {axis}"))
}

/// The shape that a convolution gives, from the shapes of its input and weights.
pub(crate) fn window_out(node: &Node, input: &[usize], weights: &[usize]) -> Option<Vec<usize>> {
    let window = window(node, input.get(2..)?, weights.get(2..)?).ok()?;
    pooled(&window, input, *weights.first()?).ok()
}

/// The attributes of a window; `spatial` are the sizes that it slides over.
pub(super) fn window(node: &Node, spatial: &[usize], kernel: &[usize]) -> Rule<Pool> {
    let axes = spatial.len();
    if axes != 1 && axes != 2 || kernel.len() != axes {
        return no("only windows over one or two axes are supported");
    }
    if kernel.iter().any(|&size| size == 0 || size > DIM_MAX as usize) {
        return no(format!("its window is {kernel:?}"));
    }
    let list = |name: &str, default: i64, count: usize, least: i64| -> Rule<Vec<usize>> {
        let found = node.ints(name).filter(|found| !found.is_empty());
        let found = found.map_or(vec![default; count], <[i64]>::to_vec);
        if found.len() != count || found.iter().any(|v| !(least..=DIM_MAX).contains(v)) {
            return no(format!("its {name} are {found:?}"));
        }
        Ok(found.into_iter().map(|v| v as usize).collect())
    };
    let strides = list("strides", 1, axes, 1)?;
    let dilations = list("dilations", 1, axes, 1)?;
    let mut pads = list("pads", 0, 2 * axes, 0)?;
    match node.text("auto_pad").as_deref() {
        None | Some("" | "NOTSET") => {}
        Some("VALID") => pads.fill(0),
        Some(way @ ("SAME_UPPER" | "SAME_LOWER")) => {
            for at in 0..axes {
                let reach = (kernel[at] - 1) * dilations[at] + 1;
                let outs = spatial[at].div_ceil(strides[at]);
                let all = ((outs - 1) * strides[at] + reach).saturating_sub(spatial[at]);
                let before = if way == "SAME_UPPER" { all / 2 } else { all.div_ceil(2) };
                (pads[at], pads[axes + at]) = (before, all - before);
            }
        }
        Some(way) => return no(format!("its auto_pad is {way}")),
    }
    let wide = |of: &[usize], fill: usize| if axes == 1 { [fill, of[0]] } else { [of[0], of[1]] };
    let pads =
        if axes == 1 { [0, pads[0], 0, pads[1]] } else { [pads[0], pads[1], pads[2], pads[3]] };
    Ok(Pool {
        kernel: wide(kernel, 1),
        strides: wide(&strides, 1),
        dilations: wide(&dilations, 1),
        pads,
        ceil: node.int("ceil_mode", 0) != 0,
    })
}

/// Height and width behind a window.
pub(super) fn slid(window: &Pool, height: usize, width: usize) -> Rule<[usize; 2]> {
    let mut out = [0; 2];
    for (at, size) in [height, width].into_iter().enumerate() {
        let padded = size + window.pads[at] + window.pads[at + 2];
        let reach = (window.kernel[at] - 1) * window.dilations[at] + 1;
        let room = padded.checked_sub(reach).ok_or("its window is larger than its input")?;
        out[at] = if window.ceil {
            // A window that would begin in the padding behind does not count.
            let outs = room.div_ceil(window.strides[at]) + 1;
            let begins = (outs - 1) * window.strides[at];
            outs - usize::from(begins >= size + window.pads[at])
        } else {
            room / window.strides[at] + 1
        };
    }
    Ok(out)
}

/// Batch, channels, height and width of a tensor with channels; height 1 if it has one axis less.
pub(super) fn image(shape: &[usize]) -> Rule<[usize; 4]> {
    match *shape {
        [n, c, w] => Ok([n, c, 1, w]),
        [n, c, h, w] => Ok([n, c, h, w]),
        _ => no(format!("its input has shape {shape:?}, which is no image")),
    }
}

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Rule<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |of: &[usize], at: usize| (at + of.len()).checked_sub(rank).map_or(1, |at| of[at]);
    let dims = (0..rank).map(|at| match (dim(a, at), dim(b, at)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => no(format!("{a:?} and {b:?} do not fit together")),
    });
    bounded(dims.collect::<Rule<_>>()?)
}

/// A shape that is neither empty nor larger than any model needs.
fn bounded(shape: Vec<usize>) -> Rule<Vec<usize>> {
    match crate::tensor::elements(&shape) {
        Some(1..) => Ok(shape),
        _ => no(format!("its result would be {shape:?}, which is empty or too large")),
    }
}

/// The number of groups of a convolution.
pub(super) fn groups(node: &Node) -> Rule<usize> {
    match node.int("group", 1) {
        groups @ 1..=DIM_MAX => Ok(groups as usize),
        groups => no(format!("it has {groups} groups")),
    }
}

impl Lower {
    pub(super) fn shape(&self, real: &Real) -> Rule<Vec<usize>> {
        bounded(self.any_shape(real)?)
    }

    fn any_shape(&self, real: &Real) -> Rule<Vec<usize>> {
        match real {
            Real::Input(index) => Ok(self.shapes[*index].clone()),
            Real::Stored(tensor, _) => Ok(tensor.shape.clone()),
            Real::Fixed(of) => Ok(of.shape.clone()),
            Real::Mean { shape, .. } => Ok(shape.clone()),
            Real::Spread(of) => Ok(of.shape.clone()),
            Real::Resize { of, rows, columns } => {
                let mut shape = self.shape(of)?;
                let [.., width] = &mut shape[..] else { return no("its input is one number") };
                *width = columns.len();
                if let [_, _, height, _] = &mut shape[..] {
                    *height = rows.len();
                }
                Ok(shape)
            }
            Real::Map(_, of) | Real::Softmax { of, .. } => self.shape(of),
            Real::Move(way, of) => moved(way, &self.shape(of)?),
            Real::Conv(of) => {
                let outs = of.weights.data.shape.first().copied().unwrap_or(0);
                pooled(&of.window, &of.input.shape, outs)
            }
            Real::AvgPool { of, window, .. } => {
                let shape = self.shape(of)?;
                let channels = shape.get(1).copied().unwrap_or(0);
                pooled(window, &shape, channels)
            }
            Real::Product(of) => {
                let columns = match &of.b {
                    Right::Weights { of, by_rows } => {
                        of.data.shape.get(usize::from(!by_rows)).copied().unwrap_or(0)
                    }
                    Right::Stored(tensor, _) => tensor.shape.last().copied().unwrap_or(1),
                };
                let mut shape = of.a.shape.clone();
                if let Some(last) = shape.last_mut() {
                    *last = columns;
                }
                Ok(shape)
            }
            Real::Sum { a, b, .. } | Real::Times { a, b } => {
                broadcast(&self.shape(a)?, &self.shape(b)?)
            }
            Real::Concat { of, axis } => {
                let shapes = of.iter().map(|part| self.shape(part)).collect::<Rule<Vec<_>>>()?;
                let along = |shape: &Vec<usize>| shape.get(*axis).copied();
                let all: Option<Vec<usize>> = shapes.iter().map(along).collect();
                let mut shape = shapes.into_iter().next().ok_or("it joins nothing")?;
                shape[*axis] = all.ok_or("what it joins has different shapes")?.iter().sum();
                Ok(shape)
            }
        }
    }
}

fn pooled(window: &Pool, shape: &[usize], channels: usize) -> Rule<Vec<usize>> {
    let [n, _, h, w] = image(shape)?;
    let [oh, ow] = slid(window, h, w)?;
    Ok(if shape.len() == 3 { vec![n, channels, ow] } else { vec![n, channels, oh, ow] })
}

/// The shape of what was moved.
pub(super) fn moved(way: &Move, shape: &[usize]) -> Rule<Vec<usize>> {
    bounded(match way {
        Move::Reshape(shape) | Move::Expand(shape) => shape.clone(),
        Move::Transpose(order) => order.iter().map(|&axis| shape[axis]).collect(),
        Move::Slice(axes) => axes.iter().map(|&(_, count, _)| count).collect(),
        Move::Pad(axes, _) => shape.iter().zip(axes).map(|(dim, (a, b))| dim + a + b).collect(),
        Move::Repeat(times) => shape.iter().zip(times).map(|(dim, times)| dim * times).collect(),
        Move::Pick(axis, picks) => {
            let mut shape = shape.to_vec();
            shape[*axis] = picks.len();
            shape
        }
        Move::MaxPool(window) => pooled(window, shape, shape.get(1).copied().unwrap_or(0))?,
    })
}
