//! Bytes times packed weights with `i8mm`: `usmmla` multiplies 2x8 unsigned bytes by 8x2 signed ones.

use super::gemm::store;
use super::requant::Bounds;
use crate::format::{PANEL, QUAD};
use crate::kernels::Gemm;
use core::arch::aarch64::*;
use core::arch::asm;

/// Pairs of rows in a full tile: 16 accumulators of 32 vector registers.
const PAIRS: usize = 2;
/// Bytes of one quad of a panel.
const STEP: usize = PANEL * QUAD;
/// Accumulators of a pair of rows: of two channels each.
const TWOS: usize = PANEL / 2;

/// The instruction must be there: an `Isa` says so.
pub(super) fn gemm(of: &Gemm<'_>, output: &mut [u8]) {
    let mut row = 0;
    while row + 2 * PAIRS <= of.rows {
        tile::<PAIRS>(of, row, 2 * PAIRS, output);
        row += 2 * PAIRS;
    }
    while row < of.rows {
        let rows = 2.min(of.rows - row);
        tile::<1>(of, row, rows, output);
        row += rows;
    }
}

/// `rows` rows from `row` on, at most `2 * P`, times all panels. A row that is missing in the last pair
/// is computed as its neighbour once more, and not written.
#[inline(always)]
fn tile<const P: usize>(of: &Gemm<'_>, row: usize, rows: usize, output: &mut [u8]) {
    let bounds = Bounds::new(of.zy, of.lo, of.hi);
    for first in (0..of.columns).step_by(PANEL) {
        let weights = &of.weights[first * of.depth()..][..PANEL * of.depth()];
        let sums = sums::<P>(of, row, rows, weights);
        for (r, pair) in (0..rows).map(|r| (r, &sums[r / 2])) {
            let quarter = |quarter: usize| {
                let halves = [pair[2 * quarter], pair[2 * quarter + 1]];
                // SAFETY: NEON belongs to every AArch64 that Rust builds for.
                unsafe {
                    let [a, b] = halves.map(|half| vreinterpretq_s64_s32(half));
                    let row = if r % 2 == 0 { vzip1q_s64(a, b) } else { vzip2q_s64(a, b) };
                    vreinterpretq_s32_s64(row)
                }
            };
            let acc = [quarter(0), quarter(1), quarter(2), quarter(3)];
            store(of, &bounds, acc, row + r, first, output);
        }
    }
}

/// Sums of pairs of rows and one panel: of each pair two channels at a time, row by row.
#[inline(always)]
fn sums<const P: usize>(
    of: &Gemm<'_>,
    row: usize,
    rows: usize,
    weights: &[u8],
) -> [[int32x4_t; TWOS]; P] {
    // SAFETY: `row + rows <= of.rows` and no row beyond is read; each has `runs` runs of `run` bytes
    // inside the input (the entry checked it), and the slice of weights has `runs * run * 16`. `run`
    // is a multiple of 4: one quad is left if it is odd, and its other half is zeros. The instruction
    // is there: see `gemm`.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); TWOS]; P];
        let zero = vdupq_n_u32(0);
        let mut weights = weights.as_ptr();
        for run in 0..of.runs {
            let input = of.input.as_ptr().add(row * of.input_stride + run * of.run_stride);
            let row = |r: usize| input.add(r.min(rows - 1) * of.input_stride);
            for quad in (0..of.run / QUAD).step_by(2) {
                let both = quad + 1 < of.run / QUAD;
                let mut x = [vdupq_n_u8(0); P];
                for (pair, x) in x.iter_mut().enumerate() {
                    let half = |at: *const u8| match both {
                        true => at.cast::<u64>().read_unaligned(),
                        false => u64::from(at.cast::<u32>().read_unaligned()),
                    };
                    let rows =
                        [row(2 * pair), row(2 * pair + 1)].map(|at| half(at.add(quad * QUAD)));
                    let [first, second] = rows.map(|bytes| vcreate_u64(bytes));
                    *x = vreinterpretq_u8_u64(vcombine_u64(first, second));
                }
                for quarter in 0..4 {
                    let at = weights.add(quarter * 16).cast::<u32>();
                    let first = vld1q_u32(at);
                    let second = if both { vld1q_u32(at.byte_add(STEP)) } else { zero };
                    let [left, right] = [vzip1q_u32(first, second), vzip2q_u32(first, second)];
                    for (acc, &x) in acc.iter_mut().zip(&x) {
                        acc[2 * quarter] = multiply(acc[2 * quarter], x, left);
                        acc[2 * quarter + 1] = multiply(acc[2 * quarter + 1], x, right);
                    }
                }
                weights = weights.add(if both { 2 * STEP } else { STEP });
            }
        }
        acc
    }
}

/// Two rows by two channels, eight products each, added.
///
/// # Safety
/// The processor has `i8mm`.
#[inline(always)]
unsafe fn multiply(mut acc: int32x4_t, x: uint8x16_t, w: uint32x4_t) -> int32x4_t {
    // SAFETY: the instruction touches nothing but its registers, and the caller promises it.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "usmmla {acc:v}.4s, {x:v}.16b, {w:v}.16b",
            acc = inout(vreg) acc,
            x = in(vreg) x,
            w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}
