//! Every set of kernels against exact 64-bit sums, and so against each other, on random shapes.
//!
//! Plain functions of a seed, so that a microcontroller without a test harness runs them, too
//! (`examples/armv7em`).

extern crate alloc;

use self::alloc::vec;
use self::alloc::vec::Vec;
use super::{Channelwise, Gemm, Kernels};
use crate::arith::requantize;
use crate::conv::Window;
use crate::format::{Add, PANEL, QUAD};
use fastrand::Rng;

/// Inputs and channels of a product, at most: Miri is some thousand times slower.
const SIDES: [usize; 2] = if cfg!(miri) { [40, 40] } else { [200, 70] };

fn bytes(rng: &mut Rng, count: usize) -> Vec<u8> {
    // Sometimes only ends: the largest sums.
    let ends = rng.u8(0..4) == 0;
    (0..count)
        .map(|_| match (ends, rng.bool()) {
            (true, high) => {
                if high {
                    255
                } else {
                    0
                }
            }
            _ => rng.u8(..),
        })
        .collect()
}

fn weights(rng: &mut Rng, count: usize) -> Vec<u8> {
    bytes(rng, count).into_iter().map(|byte| byte ^ 0x80).collect()
}

fn words<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    values.flatten().collect()
}

struct Range {
    zy: i32,
    lo: i32,
    hi: i32,
}

fn range(rng: &mut Rng) -> Range {
    let lo = if rng.bool() { 0 } else { rng.i32(0..=255) };
    Range { zy: rng.i32(0..=255), lo, hi: if rng.bool() { 255 } else { rng.i32(lo..=255) } }
}

/// The exact result: a sum of 64-bit products, brought to 32 bits and requantized.
fn exact(sum: i64, bias: i32, mult: f32, range: &Range) -> u8 {
    let acc = i32::try_from(sum + i64::from(bias)).expect("the cases stay within 32 bits");
    requantize(acc, mult, range.zy, range.lo, range.hi)
}

/// Products of matrices of one shape.
pub fn products(seed: u64) {
    let rng = &mut Rng::with_seed(seed);
    let (rows, inputs, columns) =
        (rng.usize(1..12), rng.usize(1..SIDES[0]), rng.usize(1..SIDES[1]));
    let (runs, run) = (rng.usize(1..4), inputs.next_multiple_of(QUAD));
    let (depth, panels) = (runs * run, columns.div_ceil(PANEL));
    let (input_stride, output_stride) = (rng.usize(1..2 * run), columns + rng.usize(0..9));
    let run_stride = rng.usize(0..3 * run);
    let input = bytes(rng, (rows - 1) * input_stride + (runs - 1) * run_stride + run);
    let mut packed = weights(rng, panels * PANEL * depth);
    for (at, weight) in packed.iter_mut().enumerate() {
        let quad = at % (PANEL * depth) / (PANEL * QUAD);
        if quad * QUAD % run + at % QUAD >= inputs {
            *weight = 0;
        }
    }
    let bias: Vec<i32> = (0..panels * PANEL).map(|_| rng.i32(-99_999..99_999)).collect();
    let mult: Vec<f32> = (0..panels * PANEL).map(|_| rng.f32() * 0.002).collect();
    let zeros: Vec<i32> = (0..panels * PANEL).map(|_| rng.i32(-128..128)).collect();
    let with_zeros = rng.u8(0..4) == 0;
    let range = range(rng);
    let (bias_bytes, mult_bytes) =
        (words(bias.iter().map(|b| b.to_le_bytes())), words(mult.iter().map(|m| m.to_le_bytes())));
    let zero_bytes = words(zeros.iter().map(|z| z.to_le_bytes()));
    let of = Gemm {
        rows,
        runs,
        run,
        inputs,
        run_stride,
        columns,
        input: &input,
        input_stride,
        weights: &packed,
        bias: &bias_bytes,
        mult: &mult_bytes,
        wzp: with_zeros.then_some(&zero_bytes),
        zy: range.zy,
        lo: range.lo,
        hi: range.hi,
        output_stride,
    };
    let mut expected = vec![7; (rows - 1) * output_stride + columns];
    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |c| (row, c))) {
        let panel = &packed[column / PANEL * PANEL * depth..][..PANEL * depth];
        let zero = if with_zeros { i64::from(zeros[column]) } else { 0 };
        let all = (0..runs).flat_map(|r| (0..inputs).map(move |i| (r, i)));
        let products = all.map(|(r, i)| {
            let at = (r * run + i) / QUAD * PANEL * QUAD + column % PANEL * QUAD + i % QUAD;
            let byte = input[row * input_stride + r * run_stride + i];
            i64::from(byte) * (i64::from(panel[at] as i8) - zero)
        });
        expected[row * output_stride + column] =
            exact(products.sum(), bias[column], mult[column], &range);
    }
    for kernels in Kernels::all() {
        let mut output = vec![7; expected.len()];
        kernels.gemm(&of, &mut output);
        assert_eq!(output, expected, "{} seed {seed}", kernels.name());
    }
}

fn window(rng: &mut Rng) -> Window {
    let (kh, kw) = if rng.bool() { (3, 3) } else { (rng.u32(1..6), rng.u32(1..6)) };
    let [sh, sw, dh, dw] = core::array::from_fn(|_| if rng.bool() { 1 } else { rng.u32(1..4) });
    let [ih, iw] = core::array::from_fn(|_| rng.u32(1..9));
    let [pt, pl, pb, pr] = core::array::from_fn(|_| rng.u32(0..4));
    let out = |size: u32, pads: u32, taps: u32, step: u32, stride: u32| {
        (size + pads).saturating_sub((taps - 1) * step + 1) / stride + 1
    };
    let (oh, ow) = (out(ih, pt + pb, kh, dh, sh), out(iw, pl + pr, kw, dw, sw));
    Window { ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, pt, pl }
}

/// A convolution of each channel by itself of one shape.
pub fn channels(seed: u64) {
    let rng = &mut Rng::with_seed(seed);
    let of = window(rng);
    let (batch, channels) = (rng.usize(1..3), rng.usize(1..50));
    let multiplier = if rng.u8(0..4) == 0 { rng.usize(2..4) } else { 1 };
    let (all, taps) = (channels * multiplier, (of.kh * of.kw) as usize);
    let input = bytes(rng, batch * (of.ih * of.iw) as usize * channels);
    let zx = rng.u8(..);
    let padding = vec![zx; channels];
    let packed = weights(rng, taps * all);
    let bias: Vec<i32> = (0..all).map(|_| rng.i32(-9_999..9_999)).collect();
    let mult: Vec<f32> = (0..all).map(|_| rng.f32() * 0.01).collect();
    let zeros: Vec<i32> = (0..all).map(|_| rng.i32(-128..128)).collect();
    let with_zeros = rng.u8(0..4) == 0;
    let range = range(rng);
    let (bias_bytes, mult_bytes) =
        (words(bias.iter().map(|b| b.to_le_bytes())), words(mult.iter().map(|m| m.to_le_bytes())));
    let zero_bytes = words(zeros.iter().map(|z| z.to_le_bytes()));
    let parts = Channelwise {
        window: of,
        batch,
        lines: (0, of.oh),
        channels,
        multiplier,
        input: &input,
        padding: &padding,
        weights: &packed,
        bias: &bias_bytes,
        mult: &mult_bytes,
        wzp: with_zeros.then_some(&zero_bytes),
        zy: range.zy,
        lo: range.lo,
        hi: range.hi,
    };
    let mut expected = Vec::new();
    for image in 0..batch as u32 {
        for (oy, ox) in (0..of.oh).flat_map(|oy| (0..of.ow).map(move |ox| (oy, ox))) {
            for channel in 0..all {
                let mut sum = 0;
                for (ky, kx) in (0..of.kh).flat_map(|ky| (0..of.kw).map(move |kx| (ky, kx))) {
                    let y = i64::from(oy * of.sh + ky * of.dh) - i64::from(of.pt);
                    let x = i64::from(ox * of.sw + kx * of.dw) - i64::from(of.pl);
                    let inside =
                        (0..i64::from(of.ih)).contains(&y) && (0..i64::from(of.iw)).contains(&x);
                    let at = (i64::from(image * of.ih) + y) * i64::from(of.iw) + x;
                    let byte = match inside {
                        true => input[at as usize * channels + channel / multiplier],
                        false => zx,
                    };
                    let weight = packed[(ky * of.kw + kx) as usize * all + channel] as i8;
                    let zero = if with_zeros { i64::from(zeros[channel]) } else { 0 };
                    sum += i64::from(byte) * (i64::from(weight) - zero);
                }
                expected.push(exact(sum, bias[channel], mult[channel], &range));
            }
        }
    }
    for kernels in Kernels::all() {
        let mut output = vec![7; expected.len()];
        kernels.depthwise(&parts, &mut output);
        assert_eq!(output, expected, "{} seed {seed} {of:?}", kernels.name());
    }
}

/// Sums of two tensors of one length.
pub fn sums(seed: u64) {
    let rng = &mut Rng::with_seed(seed);
    let len = rng.usize(1..200);
    let (a, b) = (bytes(rng, len), bytes(rng, len));
    let real = |rng: &mut Rng| (rng.f32() * 3.0).to_bits();
    let range = range(rng);
    let [flip_a, flip_b, flip_y] = core::array::from_fn(|_| if rng.bool() { 128 } else { 0 });
    let op = Add {
        ratio_a: real(rng),
        ratio_b: real(rng),
        fixed: (rng.f32() * 200.0 - 100.0).to_bits(),
        flip_a,
        flip_b,
        flip_y,
        lo: range.lo as u32,
        hi: range.hi as u32,
        ..Add::default()
    };
    let mut expected = vec![7; len];
    Kernels::portable().add(&op, &a, &b, &mut expected);
    for kernels in Kernels::all() {
        let mut output = vec![7; len];
        kernels.add(&op, &a, &b, &mut output);
        assert_eq!(output, expected, "{} seed {seed}", kernels.name());
    }
}

/// The fused instruction against software, to the bit: in sums of tensors a second rounding would change a byte
/// too rarely to be seen.
#[cfg(all(qnn_dsp, target_abi = "eabihf"))]
pub fn fused(seed: u64) {
    let rng = &mut Rng::with_seed(seed);
    let mut real = |spread: f32| (rng.f32() - 0.5) * spread;
    for (x, y) in core::array::from_fn::<_, 64, _>(|_| (real(512.0), real(3.0))) {
        // Close to what cancels it, where one rounding and two differ most.
        let z = -x * y + real(1e-4);
        let (instruction, software) = (super::vector::fused(x, y, z), crate::arith::fused(x, y, z));
        assert_eq!(instruction.to_bits(), software.to_bits(), "{x} * {y} + {z}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shapes of each kind that are tried.
    const CASES: u64 = if cfg!(miri) { 6 } else { 400 };
    /// Names of the sets that must run here, the portable one first: `cargo xtask emulated` sets it, so
    /// that an emulator that lacks an instruction is a failure and not a test of less.
    const SETS: &str = "FLEETWAY_QNN_SETS";

    #[test]
    fn the_sets_that_must_run_here_do() {
        let here: Vec<&str> = Kernels::all().map(Kernels::name).collect();
        std::println!("sets of kernels: {here:?}");
        assert_eq!(here.first(), Some(&Kernels::portable().name()));
        if let Ok(expected) = std::env::var(SETS) {
            assert_eq!(here.join(","), expected);
        }
    }

    #[test]
    fn products_of_matrices_are_exact_on_every_set() {
        (0..CASES).for_each(products);
    }

    #[test]
    fn convolutions_by_channel_are_exact_on_every_set() {
        (0..CASES).for_each(channels);
    }

    #[test]
    fn sums_have_the_same_bits_on_every_set() {
        (0..CASES).for_each(sums);
    }
}
