//! Kernels in plain Rust: what all others are held against, and what any processor runs.

use super::{Channelwise, Gemm, int, real};
use crate::arith::{clamp, fused, requantize, round_even};
use crate::format::{Add, PANEL, QUAD};

pub(crate) fn gemm(of: &Gemm<'_>, output: &mut [u8]) {
    for row in 0..of.rows {
        let run = |run: usize| &of.input[row * of.input_stride + run * of.run_stride..][..of.run];
        let output = &mut output[row * of.output_stride..][..of.columns];
        let sum = match of.wzp {
            Some(_) => (0..of.runs).flat_map(|r| &run(r)[..of.inputs]).map(|&x| i32::from(x)).sum(),
            None => 0_i32,
        };
        let panels = of.weights.chunks_exact(of.depth() * PANEL).enumerate();
        for ((panel, weights), output) in panels.zip(output.chunks_mut(PANEL)) {
            let mut sums = [0_i32; PANEL];
            for (r, weights) in weights.chunks_exact(of.run * PANEL).enumerate() {
                add_products(&mut sums, run(r), weights);
            }
            for (lane, (y, acc)) in output.iter_mut().zip(sums).enumerate() {
                let channel = panel * PANEL + lane;
                let shift = of.wzp.map_or(0, |wzp| int(wzp, channel).wrapping_mul(sum));
                let acc = acc.wrapping_add(int(of.bias, channel)).wrapping_sub(shift);
                *y = requantize(acc, real(of.mult, channel), of.zy, of.lo, of.hi);
            }
        }
    }
}

/// One run of a row times its part of one panel.
fn add_products(sums: &mut [i32; PANEL], input: &[u8], weights: &[u8]) {
    for (x, w) in input.as_chunks::<QUAD>().0.iter().zip(weights.chunks_exact(PANEL * QUAD)) {
        for (sum, w) in sums.iter_mut().zip(w.as_chunks::<QUAD>().0) {
            for (&x, &w) in x.iter().zip(w) {
                *sum = sum.wrapping_add(i32::from(x) * i32::from(w as i8));
            }
        }
    }
}

/// Output channels that are summed at a time: their accumulators stay in registers.
const LANES: usize = 16;

pub(crate) fn depthwise(of: &Channelwise<'_>, output: &mut [u8]) {
    let (window, all) = (&of.window, of.channels * of.multiplier);
    let mut pixels = output.chunks_exact_mut(all);
    for image in 0..of.batch {
        let places = (of.lines.0..of.lines.1).flat_map(|oy| (0..window.ow).map(move |ox| (oy, ox)));
        for (oy, ox) in places {
            let Some(output) = pixels.next() else { return };
            for (block, output) in output.chunks_mut(LANES).enumerate() {
                let from = block * LANES;
                let (sums, totals) = window_sums(of, (image, oy, ox), from, output.len());
                for (lane, y) in output.iter_mut().enumerate() {
                    let channel = from + lane;
                    let zero = of.wzp.map_or(0, |wzp| int(wzp, channel));
                    let acc = sums[lane].wrapping_add(int(of.bias, channel));
                    let acc = acc.wrapping_sub(zero.wrapping_mul(totals[lane]));
                    *y = requantize(acc, real(of.mult, channel), of.zy, of.lo, of.hi);
                }
            }
        }
    }
}

/// For some channels of one output pixel: products summed, and inputs summed.
fn window_sums(
    of: &Channelwise<'_>,
    (image, oy, ox): (usize, u32, u32),
    from: usize,
    lanes: usize,
) -> ([i32; LANES], [i32; LANES]) {
    let (window, all) = (&of.window, of.channels * of.multiplier);
    let (rows, columns) = (window.rows(oy), window.columns(ox));
    let (mut sums, mut totals) = ([0_i32; LANES], [0_i32; LANES]);
    for (ky, kx) in (0..window.kh).flat_map(|ky| (0..window.kw).map(move |kx| (ky, kx))) {
        let inside = (rows.from..rows.to).contains(&ky) && (columns.from..columns.to).contains(&kx);
        let pixel = if inside {
            let iy = (rows.base + (ky * window.dh) as i32) as usize;
            let ix = (columns.base + (kx * window.dw) as i32) as usize;
            let at = (image * window.ih as usize + iy) * window.iw as usize + ix;
            &of.input[at * of.channels..][..of.channels]
        } else {
            of.padding
        };
        let weights = &of.weights[(ky * window.kw + kx) as usize * all + from..][..lanes];
        if of.multiplier == 1 {
            let pixel = &pixel[from..from + lanes];
            for (lane, (&x, &w)) in pixel.iter().zip(weights).enumerate() {
                sums[lane] += i32::from(x) * i32::from(w as i8);
                totals[lane] += i32::from(x);
            }
        } else {
            for (lane, &w) in weights.iter().enumerate() {
                let x = i32::from(pixel[(from + lane) / of.multiplier]);
                sums[lane] += x * i32::from(w as i8);
                totals[lane] += x;
            }
        }
    }
    (sums, totals)
}

pub(crate) fn add(op: &Add, a: &[u8], b: &[u8], output: &mut [u8]) {
    add_by(op, a, b, output, fused);
}

/// By an instruction, where there is one, or by software: [`fused`] says of what.
#[inline(always)]
pub(crate) fn add_by(
    op: &Add,
    a: &[u8],
    b: &[u8],
    output: &mut [u8],
    fused: impl Fn(f32, f32, f32) -> f32,
) {
    let (ratio_a, ratio_b) = (f32::from_bits(op.ratio_a), f32::from_bits(op.ratio_b));
    let fixed = f32::from_bits(op.fixed);
    let (flip_a, flip_b, flip_y) = (op.flip_a as i32, op.flip_b as i32, op.flip_y as i32);
    let (lo, hi) = ((op.lo as i32 - flip_y) as f32, (op.hi as i32 - flip_y) as f32);
    for ((y, &a), &b) in output.iter_mut().zip(a.iter().cycle()).zip(b.iter().cycle()) {
        let (a, b) = ((i32::from(a) - flip_a) as f32, (i32::from(b) - flip_b) as f32);
        let value = fused(a, ratio_a, fused(b, ratio_b, fixed));
        *y = (round_even(clamp(value, lo, hi)) + flip_y) as u8;
    }
}
