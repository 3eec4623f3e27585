//! Means: over the pixels of an image, or over any other axes.

use super::Lower;
use super::nodes::{sizes, whole};
use super::shapes::{self, window};
use super::store::Within;
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::value::{Move, Quant, Real, Tensor, Value};
use fleetway_qnn::format::{AvgPool, Op};
use std::rc::Rc;

impl Lower {
    pub(super) fn mean_node(&mut self, node: &Node) -> Rule<Real> {
        let of = self.real(node, 0)?;
        let shape = self.shape(&of)?;
        match node.op.as_str() {
            "AveragePool" => {
                let spatial = shape.get(2..).unwrap_or_default();
                let kernel = sizes(node.ints("kernel_shape").unwrap_or_default())?;
                let window = window(node, spatial, &kernel)?;
                let count_pad = node.int("count_include_pad", 0) != 0;
                Ok(Real::AvgPool { of, window, count_pad })
            }
            "GlobalAveragePool" => {
                Ok(Real::AvgPool { of, window: whole(&shape)?, count_pad: false })
            }
            _ => self.reduce_mean(node, of, &shape),
        }
    }

    fn reduce_mean(&mut self, node: &Node, of: Rc<Real>, shape: &[usize]) -> Rule<Real> {
        let given = self.axes(node, 1)?.filter(|axes| !axes.is_empty());
        if given.is_none() && node.int("noop_with_empty_axes", 0) != 0 {
            return no("a mean over nothing is not supported");
        }
        let axes = match given {
            Some(axes) => {
                axes.iter().map(|&at| shapes::axis(at, shape.len())).collect::<Rule<Vec<_>>>()?
            }
            None => (0..shape.len()).collect(),
        };
        let gone = |at: usize| axes.contains(&at);
        let keep = node.int("keepdims", 1) != 0;
        let left = |(at, &dim): (usize, &usize)| match gone(at) {
            true => keep.then_some(1),
            false => Some(dim),
        };
        let result: Vec<usize> = shape.iter().enumerate().filter_map(left).collect();
        let pixels =
            matches!(shape.len(), 3 | 4) && (0..shape.len()).all(|at| gone(at) == (at >= 2));
        if pixels {
            let mean = Real::AvgPool { of, window: whole(shape)?, count_pad: false };
            return Ok(Real::Move(Move::Reshape(result), Rc::new(mean)));
        }
        // Axes that lie together are one; others are brought together behind all that stays.
        let first = (0..shape.len()).find(|&at| gone(at)).ok_or("it has no axes")?;
        let last = (0..shape.len()).rfind(|&at| gone(at)).ok_or("it has no axes")?;
        let size = |of: &[usize]| of.iter().product::<usize>();
        let together = (first..=last).all(gone);
        let of = if together {
            of
        } else {
            let stay = (0..shape.len()).filter(|&at| !gone(at));
            let order = stay.chain((0..shape.len()).filter(|&at| gone(at))).collect();
            match self.move_value(Value::Real(of), Move::Transpose(order))? {
                Value::Real(of) => of,
                _ => return no("it takes real numbers"),
            }
        };
        let count = (0..shape.len()).filter(|&at| gone(at)).map(|at| shape[at]).product();
        let axes = match together {
            true => [size(&shape[..first]), count, size(&shape[last + 1..])],
            false => [size(shape) / count, count, 1],
        };
        Ok(Real::Mean { of, axes, shape: result })
    }

    /// The mean over one of three axes is that over an image of one column.
    pub(super) fn mean(
        &mut self,
        (of, shape): (&Rc<Real>, &[usize]),
        axes: [usize; 3],
        quant: Quant,
        within: Within,
    ) -> Rule<Tensor> {
        let (x, qx) = self.stored(of)?;
        let x = self.in_order(&x)?;
        let y = self.program.tensor(shape, false);
        let [outer, count, inner] = axes.map(|size| size as u32);
        let op = Op::AvgPool(AvgPool {
            batch: outer,
            ih: count,
            iw: 1,
            ic: inner,
            oh: 1,
            ow: 1,
            kh: count,
            kw: 1,
            sh: 1,
            sw: 1,
            dh: 1,
            dw: 1,
            zx: qx.zero.into(),
            zy: quant.zero.into(),
            lo: within.lo.into(),
            hi: within.hi.into(),
            scale_x: qx.scale.to_bits(),
            scale_y: quant.scale.to_bits(),
            ..AvgPool::default()
        });
        self.emit(op, &[&x], &y, None, vec![]);
        Ok(y)
    }
}
