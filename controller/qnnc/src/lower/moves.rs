//! What only moves bytes: five axes with strides on both sides do all of it.

use super::Lower;
use super::shapes::{image, moved, slid};
use crate::error::{Rule, no};
use crate::ir::{Place, Step};
use crate::value::{Move, Pool, Quant, Tensor};
use fleetway_qnn::arith;
use fleetway_qnn::format::{Copy, Fill, MaxPool, Op};

/// Runs of indices that are picked, each a step: more is a table look-up, which is not what this is for.
const PICKS_MAX: usize = 512;

/// A view of bytes: sizes, and the strides of each side.
struct View {
    axes: Vec<(usize, usize, usize)>,
    from: Place,
    to: Place,
}

impl Lower {
    /// The tensor in ONNX's own order.
    pub(super) fn in_order(&mut self, of: &Tensor) -> Rule<Tensor> {
        self.laid(of, false)
    }

    /// The tensor with its channels last.
    pub(super) fn channels_last(&mut self, of: &Tensor) -> Rule<Tensor> {
        self.laid(of, true)
    }

    fn laid(&mut self, of: &Tensor, channels_last: bool) -> Rule<Tensor> {
        if of.channels_last == channels_last || of.either_way() {
            return Ok(Tensor { channels_last, ..of.clone() });
        }
        let to = self.program.tensor(&of.shape, channels_last);
        self.copy(&of.shape, (of, 0, &of.strides()), (&to, 0, &to.strides()))?;
        Ok(to)
    }

    /// The tensor repeated along axes of size 1.
    pub(super) fn expanded(&mut self, of: &Tensor, shape: &[usize]) -> Rule<Tensor> {
        if of.shape == shape {
            return Ok(of.clone());
        }
        let missing = shape.len().checked_sub(of.shape.len()).ok_or("it cannot lose axes")?;
        let of = if missing == 0 { of.clone() } else { self.in_order(of)? };
        let mut strides = vec![0; missing];
        for ((stride, &size), &wanted) in of.strides().iter().zip(&of.shape).zip(&shape[missing..])
        {
            if size != wanted && size != 1 {
                return no(format!("{:?} does not expand to {shape:?}", of.shape));
            }
            strides.push(if size == wanted { *stride } else { 0 });
        }
        let to = self.program.tensor(shape, of.channels_last && missing == 0);
        self.copy(shape, (&of, 0, &strides), (&to, 0, &to.strides()))?;
        Ok(to)
    }

    /// Moves a tensor; `quant` says what a real number that is put in becomes.
    pub(super) fn moved(&mut self, way: &Move, of: &Tensor, quant: Quant) -> Rule<Tensor> {
        let shape = moved(way, &of.shape)?;
        let strides = of.strides();
        match way {
            Move::Reshape(_) => {
                let of = self.in_order(of)?;
                if of.elements() != shape.iter().product() {
                    return no(format!("{:?} does not reshape to {shape:?}", of.shape));
                }
                Ok(Tensor { shape, ..of })
            }
            Move::Transpose(order) => self.transposed(of, order, &shape),
            Move::Expand(_) => self.expanded(of, &shape),
            Move::Slice(axes) => {
                let base =
                    axes.iter().zip(&strides).map(|((from, ..), stride)| from * stride).sum();
                let steps: Vec<usize> =
                    axes.iter().zip(&strides).map(|((_, _, step), stride)| step * stride).collect();
                let to = self.program.tensor(&shape, of.channels_last);
                self.copy(&shape, (of, base, &steps), (&to, 0, &to.strides()))?;
                Ok(to)
            }
            Move::Pad(axes, value) => {
                let byte = arith::quantize(*value, quant.scale, quant.zero.into());
                let to = self.program.tensor(&shape, of.channels_last);
                let fill = Fill { bytes: to.elements() as u32, value: byte.into(), output: 0 };
                self.emit(Op::Fill(fill), &[], &to, None, vec![]);
                let outer = to.strides();
                let base =
                    axes.iter().zip(&outer).map(|((before, _), stride)| before * stride).sum();
                self.copy(&of.shape, (of, 0, &strides), (&to, base, &outer))?;
                Ok(to)
            }
            Move::Repeat(times) => {
                let to = self.program.tensor(&shape, of.channels_last);
                let outer = to.strides();
                let axes = of.shape.iter().zip(times).zip(strides.iter().zip(&outer));
                // Each axis as two: which index, and which of its copies.
                let axes = axes.flat_map(|((&size, &times), (&from, &to))| {
                    [(size, from, to * times), (times, 0, to)]
                });
                self.view(View { axes: axes.collect(), from: of.into(), to: (&to).into() })?;
                Ok(to)
            }
            Move::Pick(axis, picks) => self.picked(of, *axis, picks, &shape),
            Move::MaxPool(window) => self.max_pool(of, window, &shape),
        }
    }

    /// Some indices of one axis: a copy for each run of them with equal steps.
    fn picked(
        &mut self,
        of: &Tensor,
        axis: usize,
        picks: &[usize],
        shape: &[usize],
    ) -> Rule<Tensor> {
        let to = self.program.tensor(shape, of.channels_last);
        let (mut from_strides, to_strides) = (of.strides(), to.strides());
        let (from_stride, to_stride) = (from_strides[axis], to_strides[axis]);
        let (mut at, mut copies) = (0, 0);
        while let Some((&first, rest)) = picks[at..].split_first() {
            let step = rest.first().and_then(|next| next.checked_sub(first)).unwrap_or(0);
            let run = picks[at..].iter().enumerate();
            let count = run.take_while(|&(i, &pick)| pick == first + i * step).count().max(1);
            let mut part = shape.to_vec();
            part[axis] = count;
            from_strides[axis] = step * from_stride;
            let from = (of, first * from_stride, &from_strides[..]);
            self.copy(&part, from, (&to, at * to_stride, &to_strides))?;
            at += count;
            copies += 1;
            if copies > PICKS_MAX {
                return no(format!("its indices make more than {PICKS_MAX} runs"));
            }
        }
        Ok(to)
    }

    fn transposed(&mut self, of: &Tensor, order: &[usize], shape: &[usize]) -> Rule<Tensor> {
        let old = of.strides();
        let strides: Vec<usize> = order.iter().map(|&axis| old[axis]).collect();
        // Often the bytes lie right already, and only the names of the axes change.
        for channels_last in [false, true] {
            let to = Tensor { buffer: of.buffer, shape: shape.to_vec(), channels_last };
            let same = |((a, b), &size): ((&usize, &usize), &usize)| a == b || size == 1;
            if to.strides().iter().zip(&strides).zip(shape).all(same) {
                return Ok(to);
            }
        }
        let to = self.program.tensor(shape, false);
        self.copy(shape, (of, 0, &strides), (&to, 0, &to.strides()))?;
        Ok(to)
    }

    /// Tensors side by side along one axis.
    pub(super) fn join(&mut self, parts: &[Tensor], axis: usize) -> Rule<Tensor> {
        let Some(first) = parts.first() else { return no("it joins nothing") };
        let channels_last = parts.iter().all(|part| part.channels_last || part.either_way());
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape.get(axis).copied().unwrap_or(0)).sum();
        let to = self.program.tensor(&shape, channels_last);
        let (strides, mut at) = (to.strides(), 0);
        for part in parts {
            let rest =
                |of: &[usize]| of.iter().enumerate().any(|(i, &d)| i != axis && d != shape[i]);
            if part.shape.len() != shape.len() || rest(&part.shape) {
                return no("what it joins has different shapes");
            }
            let part = self.laid(part, channels_last)?;
            self.copy(
                &part.shape,
                (&part, 0, &part.strides()),
                (&to, at * strides[axis], &strides),
            )?;
            at += part.shape[axis];
        }
        Ok(to)
    }

    fn max_pool(&mut self, of: &Tensor, window: &Pool, shape: &[usize]) -> Rule<Tensor> {
        let of = self.channels_last(of)?;
        let [n, c, h, w] = image(&of.shape)?;
        let [oh, ow] = slid(window, h, w)?;
        let to = self.program.tensor(shape, true);
        let op = Op::MaxPool(MaxPool {
            batch: n as u32,
            ih: h as u32,
            iw: w as u32,
            ic: c as u32,
            oh: oh as u32,
            ow: ow as u32,
            kh: window.kernel[0] as u32,
            kw: window.kernel[1] as u32,
            sh: window.strides[0] as u32,
            sw: window.strides[1] as u32,
            dh: window.dilations[0] as u32,
            dw: window.dilations[1] as u32,
            pt: window.pads[0] as u32,
            pl: window.pads[1] as u32,
            ..MaxPool::default()
        });
        self.emit(op, &[&of], &to, None, vec![]);
        Ok(to)
    }

    pub(super) fn copy(
        &mut self,
        shape: &[usize],
        (from, from_at, from_strides): (&Tensor, usize, &[usize]),
        (to, to_at, to_strides): (&Tensor, usize, &[usize]),
    ) -> Rule {
        let axes = shape.iter().zip(from_strides).zip(to_strides);
        let axes = axes.map(|((&size, &from), &to)| (size, from, to)).collect();
        let from = Place { buffer: from.buffer, offset: from_at };
        self.view(View { axes, from, to: Place { buffer: to.buffer, offset: to_at } })
    }

    /// As few axes as it takes, the one whose bytes lie together in the output last.
    fn view(&mut self, mut view: View) -> Rule {
        view.axes.retain(|&(size, ..)| size != 1);
        view.axes.sort_by_key(|&(_, _, to)| std::cmp::Reverse(to));
        let mut axes: Vec<(usize, usize, usize)> = Vec::new();
        for axis in view.axes {
            match axes.last_mut() {
                Some(outer) if outer.1 == axis.0 * axis.1 && outer.2 == axis.0 * axis.2 => {
                    *outer = (outer.0 * axis.0, axis.1, axis.2);
                }
                _ => axes.push(axis),
            }
        }
        // A run that is together on both sides is copied whole; else the longest run is the best.
        if axes.last().is_some_and(|&(_, from, to)| (from, to) != (1, 1))
            && let Some(longest) = (0..axes.len()).max_by_key(|&at| axes[at].0)
        {
            let axis = axes.remove(longest);
            axes.push(axis);
        }
        let Some(missing) = 5_usize.checked_sub(axes.len()) else {
            return no("it moves along more than five axes at once");
        };
        let mut all = vec![(1, 0, 0); missing];
        all.extend(axes);
        // A single byte, or a run that ends without one: both sides step by 1.
        if all[4].0 == 1 {
            all[4] = (1, 1, 1);
        }
        let [d0, d1, d2, d3, d4] = std::array::from_fn(|at| all[at].0 as u32);
        let [i0, i1, i2, i3, i4] = std::array::from_fn(|at| all[at].1 as u32);
        let [o0, o1, o2, o3, o4] = std::array::from_fn(|at| all[at].2 as u32);
        let (input, output) = (0, 0);
        let op = Copy { input, output, d0, d1, d2, d3, d4, i0, i1, i2, i3, i4, o0, o1, o2, o3, o4 };
        self.program.steps.push(Step {
            op: Op::Copy(op),
            inputs: vec![view.from],
            output: view.to,
            scratch: None,
            blobs: vec![],
        });
        Ok(())
    }
}
