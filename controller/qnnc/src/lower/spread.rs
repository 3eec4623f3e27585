//! Transposed convolutions: each phase of the strides is a convolution of its own.
//!
//! Output row `y` gets `x[i] * w[k]` where `i * s + k = y + cut`. All rows with the same `(y + cut) mod s`,
//! a phase, see the same taps `k = r, r + s, ..`, on inputs that go down by one: that is a plain convolution
//! with those taps turned round. So there is no kernel for it, and no product with zeros between inputs.

use super::Lower;
use super::shapes::image;
use super::store::Within;
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::tensor::{Const, Data};
use crate::value::{ConvOf, Move, Pool, Quant, Real, Scaled, SpreadOf, Tensor, Value};
use std::rc::Rc;

/// One phase along one axis.
#[derive(Debug, Clone, Copy)]
struct Phase {
    /// First tap; the others follow at the stride.
    tap: usize,
    taps: usize,
    /// First row of the output, and how many; the others follow at the stride.
    first: usize,
    count: usize,
    /// Padding of the convolution before and behind; below 0 the input is cut.
    pads: [i64; 2],
}

/// The phases of one axis.
fn phases(size: usize, kernel: usize, stride: usize, cut: usize, out: usize) -> Vec<Phase> {
    let phase = |tap: usize| {
        let taps = kernel.saturating_sub(tap).div_ceil(stride);
        // y = stride * q + tap - cut, for q from `from` on.
        let from = cut.saturating_sub(tap).div_ceil(stride);
        let first = (stride * from + tap).checked_sub(cut)?;
        let count = out.checked_sub(first)?.div_ceil(stride);
        // Where no tap is, a single one of zeros stands.
        let reach = taps.max(1) as i64 - 1;
        let before = reach - from as i64;
        let behind = count as i64 + reach - before - size as i64;
        (count > 0).then_some(Phase { tap, taps, first, count, pads: [before, behind] })
    };
    (0..stride).filter_map(phase).collect()
}

impl Lower {
    pub(super) fn spread_node(&mut self, node: &Node) -> Rule<Real> {
        let of = self.real(node, 0)?;
        let (input, quant) = self.stored(&of)?;
        let Value::Scaled(weights) = self.value(node, 1)? else {
            return no("its weights are not quantized constants");
        };
        if node.ints("output_shape").is_some() {
            return no("output_shape is not supported: pads say the same");
        }
        let spatial = input.shape.get(2..).unwrap_or_default();
        let kernel = weights.data.shape.get(2..).unwrap_or_default();
        let window = super::shapes::window(node, spatial, kernel)?;
        if node.text("auto_pad").is_some_and(|way| way.starts_with("SAME")) {
            return no("auto_pad is not supported: pads say the same");
        }
        let groups = super::shapes::groups(node)?;
        let [batch, channels, h, w] = image(&input.shape)?;
        let &[ic, per_group, ..] = &weights.data.shape[..] else {
            return no("its weights are no windows");
        };
        if ic != channels || ic % groups != 0 {
            return no(format!("its weights are {:?} for {channels} channels", weights.data.shape));
        }
        let extra = node.ints("output_padding").unwrap_or_default();
        let extra = match (spatial.len(), extra) {
            (_, []) => [0, 0],
            (1, &[x]) => [0, x],
            (2, &[y, x]) => [y, x],
            _ => return no(format!("its output_padding is {extra:?}")),
        };
        let reach = |at: usize| (window.kernel[at] - 1) * window.dilations[at] + 1;
        let out = |at: usize, size: usize| -> Rule<usize> {
            let full = ((size - 1) * window.strides[at] + reach(at)) as i64 + extra[at];
            let cut = window.pads[at] + window.pads[at + 2];
            let found = usize::try_from(full - cut as i64).ok().filter(|&found| found > 0);
            found.ok_or_else(|| "its pads cut everything away".to_owned())
        };
        if extra.iter().zip(window.strides).any(|(&extra, s)| extra < 0 || extra >= s as i64) {
            return no(format!("its output_padding is {extra:?}"));
        }
        let (oh, ow) = (out(0, h)?, out(1, w)?);
        let outs = per_group * groups;
        let shape = match spatial.len() {
            1 => vec![batch, outs, ow],
            _ => vec![batch, outs, oh, ow],
        };
        let bias = self.bias(node, 2, quant, &weights)?;
        Ok(Real::Spread(SpreadOf {
            input,
            quant,
            weights: Rc::new(by_output(&weights, groups, window.kernel, window.dilations)?),
            bias,
            strides: window.strides,
            cut: [window.pads[0], window.pads[1]],
            groups,
            shape,
        }))
    }

    pub(super) fn spread(&mut self, of: &SpreadOf, quant: Quant, within: Within) -> Rule<Tensor> {
        let [_, _, h, w] = image(&of.input.shape)?;
        let [_, _, kh, kw] = image(&of.weights.data.shape)?;
        let [_, _, oh, ow] = image(&of.shape)?;
        let rows = phases(h, kh, of.strides[0], of.cut[0], oh);
        let columns = phases(w, kw, of.strides[1], of.cut[1], ow);
        if let ([row], [column]) = (&rows[..], &columns[..]) {
            return self.phase(of, row, column, quant, within);
        }
        let y = self.program.tensor(&of.shape, true);
        let strides = y.strides();
        let rank = strides.len();
        for (row, column) in rows.iter().flat_map(|row| columns.iter().map(move |c| (row, c))) {
            let part = self.phase(of, row, column, quant, within)?;
            let mut to = strides.clone();
            let mut at = column.first * strides[rank - 1];
            to[rank - 1] *= of.strides[1];
            if rank == 4 {
                at += row.first * strides[2];
                to[2] *= of.strides[0];
            }
            debug_assert_eq!(part.shape[rank - 1], column.count);
            let part = self.channels_last(&part)?;
            self.copy(&part.shape, (&part, 0, &part.strides()), (&y, at, &to))?;
        }
        Ok(y)
    }

    fn phase(
        &mut self,
        of: &SpreadOf,
        row: &Phase,
        column: &Phase,
        quant: Quant,
        within: Within,
    ) -> Rule<Tensor> {
        let mut input = of.input.clone();
        let rank = input.shape.len();
        let mut axes: Vec<_> = input.shape.iter().map(|&dim| (0, dim, 1)).collect();
        let mut pads = [0; 4];
        for (at, (axis, phase)) in
            [(rank.wrapping_sub(2), row), (rank - 1, column)].iter().enumerate()
        {
            let [before, behind] = phase.pads;
            (pads[at], pads[at + 2]) = (before.max(0) as usize, behind.max(0) as usize);
            let gone = [before, behind].map(|pad| pad.min(0).unsigned_abs() as usize);
            if gone != [0, 0] {
                let left =
                    input.shape[*axis].checked_sub(gone[0] + gone[1]).filter(|&left| left > 0);
                axes[*axis] = (gone[0], left.ok_or("its pads leave nothing to see")?, 1);
            }
        }
        let whole = |(axis, &dim): (&(usize, usize, usize), &usize)| *axis == (0, dim, 1);
        if !axes.iter().zip(&input.shape).all(whole) {
            input = self.moved(&Move::Slice(axes), &input, of.quant)?;
        }
        let window = Pool {
            kernel: [row.taps.max(1), column.taps.max(1)],
            strides: [1, 1],
            dilations: [1, 1],
            pads,
            ceil: false,
        };
        let weights = Rc::new(turned(&of.weights, [row, column], of.strides)?);
        let (bias, groups) = (of.bias.clone(), of.groups);
        self.conv(&ConvOf { input, quant: of.quant, weights, bias, window, groups }, quant, within)
    }
}

/// Weights by output channel, as a convolution has them, with zeros in the steps inside a window.
fn by_output(of: &Scaled, groups: usize, kernel: [usize; 2], steps: [usize; 2]) -> Rule<Scaled> {
    let [ic, each, kh, kw] = image(&of.data.shape)?;
    let outs = each * groups;
    // A scale per channel is one per channel of a group.
    let spread = |count: usize| {
        count == 1 || (of.axis == 1 && count == each) || of.axis == 1 && count == outs
    };
    if !spread(of.scales.len()) {
        return no("the scales of its weights are not on the axis of output channels");
    }
    let repeat = of.scales.len() == each && each != outs;
    let times = if repeat { groups } else { 1 };
    let scales: Vec<f32> = of.scales.repeat(times);
    let zeros: Vec<i64> = of.zeros.repeat(times);
    let old = of.data.ints()?;
    let own = ic / groups;
    let [th, tw] = [(kernel[0] - 1) * steps[0] + 1, (kernel[1] - 1) * steps[1] + 1];
    let mut new = Vec::with_capacity(outs * own * th * tw);
    for (out, input) in (0..outs).flat_map(|out| (0..own).map(move |input| (out, input))) {
        let (group, channel) = (out / each, out % each);
        let from = ((group * own + input) * each + channel) * kh * kw;
        let zero = zeros[if zeros.len() == 1 { 0 } else { out }];
        for (y, x) in (0..th).flat_map(|y| (0..tw).map(move |x| (y, x))) {
            let tap = y % steps[0] == 0 && x % steps[1] == 0;
            new.push(if tap { old[from + y / steps[0] * kw + x / steps[1]] } else { zero });
        }
    }
    let mut shape = vec![outs, own, th, tw];
    if of.data.shape.len() == 3 {
        shape.remove(2);
    }
    Ok(Scaled { data: Rc::new(like(&of.data, shape, &new)), scales, zeros, axis: 0 })
}

/// The taps of one phase, the last one first.
fn turned(of: &Scaled, phases: [&Phase; 2], strides: [usize; 2]) -> Rule<Scaled> {
    let [outs, own, kh, kw] = image(&of.data.shape)?;
    let old = of.data.ints()?;
    let [th, tw] = phases.map(|phase| phase.taps.max(1));
    let tap = |at: usize, turned: usize, count: usize| {
        let phase = phases[at];
        (phase.taps > 0).then(|| phase.tap + strides[at] * (count - 1 - turned))
    };
    let mut new = Vec::with_capacity(outs * own * th * tw);
    for row in 0..outs * own {
        let zero = of.zeros[if of.zeros.len() == 1 { 0 } else { row / own }];
        for (y, x) in (0..th).flat_map(|y| (0..tw).map(move |x| (y, x))) {
            new.push(match (tap(0, y, th), tap(1, x, tw)) {
                (Some(y), Some(x)) => old[(row * kh + y) * kw + x],
                _ => zero,
            });
        }
    }
    let mut shape = vec![outs, own, th, tw];
    if of.data.shape.len() == 3 {
        shape.remove(2);
    }
    let data = Rc::new(like(&of.data, shape, &new));
    Ok(Scaled { data, scales: of.scales.clone(), zeros: of.zeros.clone(), axis: 0 })
}

/// A constant of the same type.
fn like(of: &Const, shape: Vec<usize>, values: &[i64]) -> Const {
    let data = match of.data {
        Data::U8(_) => Data::U8(values.iter().map(|&v| v as u8).collect()),
        _ => Data::S8(values.iter().map(|&v| v as i8).collect()),
    };
    Const { shape, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_the_transposed_convolution() {
        // Against the definition, over every small geometry, with weights and inputs that tell apart.
        for (size, kernel, stride) in
            (1..5).flat_map(|i| (1..6).flat_map(move |k| (1..5).map(move |s| (i, k, s))))
        {
            let full: usize = (size - 1) * stride + kernel;
            for (cut, lost) in (0..full.min(5)).flat_map(|cut| (0..4).map(move |lost| (cut, lost)))
            {
                let Some(out @ 1..) = full.checked_sub(cut + lost) else { continue };
                let (x, w) = (|i: usize| 3 * i + 1, |k: usize| 100 * k + 7);
                let mut expected = vec![0; full];
                for (i, k) in (0..size).flat_map(|i| (0..kernel).map(move |k| (i, k))) {
                    expected[i * stride + k] += x(i) * w(k);
                }
                let mut found = vec![usize::MAX; out];
                for phase in phases(size, kernel, stride, cut, out) {
                    for q in 0..phase.count {
                        let tap = |t: usize| {
                            let at = q as i64 + t as i64 - phase.pads[0];
                            let at = usize::try_from(at).ok().filter(|&at| at < size)?;
                            let turned = phase.taps.checked_sub(t + 1)?;
                            Some(x(at) * w(phase.tap + stride * turned))
                        };
                        let sum = (0..phase.taps.max(1)).filter_map(tap).sum();
                        found[phase.first + q * stride] = sum;
                    }
                }
                assert_eq!(found, expected[cut..cut + out], "{size} {kernel} {stride} {cut}");
            }
        }
    }
}
