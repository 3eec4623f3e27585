//! Bytes times packed weights, with NEON alone or with dot products.
//!
//! Both multiply unsigned bytes. Weights are signed, so they are moved up by 128 on the way in, and 128
//! times the sum of the inputs is taken off at the end.

use super::requant::{Bounds, bytes, reals, words};
use crate::format::{PANEL, QUAD};
use crate::kernels::Gemm;
use core::arch::aarch64::*;
use core::arch::asm;

/// Bytes of one quad of a panel.
const STEP: usize = PANEL * QUAD;

/// How sixteen channels are summed.
pub(super) trait Sums: Copy {
    /// Rows of a full tile: as many accumulators as registers bear.
    const ROWS: usize;
    fn zero() -> Self;
    /// Adds a quad of one row times a quarter of a panel: four channels.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn add(&mut self, quarter: usize, x: uint8x16_t, w: uint8x16_t);
    /// The sums of four channels.
    fn quarter(&self, quarter: usize) -> uint32x4_t;
}

/// The implementor's instructions must be there: an `Isa` says so.
pub(super) fn with<S: Sums>(of: &Gemm<'_>, output: &mut [u8]) {
    let mut row = 0;
    while row + S::ROWS <= of.rows {
        match S::ROWS {
            4 => tile::<S, 4>(of, row, output),
            _ => tile::<S, 2>(of, row, output),
        }
        row += S::ROWS;
    }
    for row in row..of.rows {
        tile::<S, 1>(of, row, output);
    }
}

/// `R` rows from `row` on, times all panels.
#[inline(always)]
fn tile<S: Sums, const R: usize>(of: &Gemm<'_>, row: usize, output: &mut [u8]) {
    let bounds = Bounds::new(of.zy, of.lo, of.hi);
    // 128 times what the rows sum to, bytes that meet zeros included: their weights moved up, too.
    let mut moved = [0_i32; R];
    for (r, moved) in moved.iter_mut().enumerate() {
        for run in 0..of.runs {
            let bytes = &of.input[(row + r) * of.input_stride + run * of.run_stride..][..of.run];
            *moved += bytes.iter().map(|&byte| i32::from(byte)).sum::<i32>();
        }
        // May wrap, as the accumulator does; the difference is right.
        *moved = moved.wrapping_mul(128);
    }
    for first in (0..of.columns).step_by(PANEL) {
        let sums = sums::<S, R>(of, row, &of.weights[first * of.depth()..][..PANEL * of.depth()]);
        for (r, sums) in sums.into_iter().enumerate() {
            // SAFETY: NEON belongs to every AArch64 that Rust builds for.
            let acc = |quarter: usize| unsafe {
                let sum = vreinterpretq_s32_u32(sums.quarter(quarter));
                vsubq_s32(sum, vdupq_n_s32(moved[r]))
            };
            store(of, &bounds, [acc(0), acc(1), acc(2), acc(3)], row + r, first, output);
        }
    }
}

/// Sixteen sums of a row, or what the row has of them, as bytes; biases are added here.
#[inline(always)]
pub(super) fn store(
    of: &Gemm<'_>,
    bounds: &Bounds,
    acc: [int32x4_t; 4],
    row: usize,
    first: usize,
    output: &mut [u8],
) {
    let mut whole = [0; PANEL];
    for (half, acc) in acc.as_chunks::<2>().0.iter().enumerate() {
        let four = |quarter: usize| {
            let at = first + half * 8 + quarter * 4;
            // SAFETY: NEON belongs to every AArch64 that Rust builds for.
            let acc = unsafe { vaddq_s32(acc[quarter], words(of.bias, at)) };
            bounds.apply(acc, reals(of.mult, at))
        };
        let to = &mut whole[half * 8..][..8];
        // SAFETY: the slice has the 8 bytes that are written.
        unsafe { vst1_u8(to.as_mut_ptr(), bytes(four(0), four(1))) };
    }
    let (at, columns) = (row * of.output_stride + first, PANEL.min(of.columns - first));
    let to = &mut output[at..at + columns];
    match <&mut [u8; PANEL]>::try_from(&mut *to) {
        Ok(to) => *to = whole,
        Err(_) => to.copy_from_slice(&whole[..columns]),
    }
}

/// Sums of `R` rows and one panel, with weights moved up by 128.
#[inline(always)]
fn sums<S: Sums, const R: usize>(of: &Gemm<'_>, row: usize, weights: &[u8]) -> [S; R] {
    let mut sums = [S::zero(); R];
    // SAFETY: `row + R <= rows`, each row has `runs` runs of `run` bytes inside the input (the entry
    // checked it), and the slice of weights has `runs * run * 16`. `run` is a multiple of 4. The
    // instructions are there: see `with`.
    unsafe {
        let up = vdupq_n_u8(0x80);
        let mut weights = weights.as_ptr();
        for run in 0..of.runs {
            let input = of.input.as_ptr().add(row * of.input_stride + run * of.run_stride);
            for quad in 0..of.run / QUAD {
                let mut x = [up; R];
                for (r, x) in x.iter_mut().enumerate() {
                    let at = input.add(r * of.input_stride + quad * QUAD).cast::<u32>();
                    *x = vreinterpretq_u8_u32(vdupq_n_u32(at.read_unaligned()));
                }
                for quarter in 0..4 {
                    let w = veorq_u8(vld1q_u8(weights.add(quarter * 16)), up);
                    for (sums, &x) in sums.iter_mut().zip(&x) {
                        sums.add(quarter, x, w);
                    }
                }
                weights = weights.add(STEP);
            }
        }
    }
    sums
}

/// Dot products: four sums in one vector.
#[derive(Clone, Copy)]
pub(super) struct Dot([uint32x4_t; 4]);

impl Sums for Dot {
    const ROWS: usize = 4;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: NEON belongs to every AArch64 that Rust builds for.
        Self([unsafe { vdupq_n_u32(0) }; 4])
    }

    #[inline(always)]
    unsafe fn add(&mut self, quarter: usize, x: uint8x16_t, w: uint8x16_t) {
        // SAFETY: the instruction touches nothing but its registers, and the caller promises it.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "udot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
                acc = inout(vreg) self.0[quarter],
                w = in(vreg) w,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    fn quarter(&self, quarter: usize) -> uint32x4_t {
        self.0[quarter]
    }
}

/// NEON alone: two vectors for four channels, each lane the sum of half of its products.
#[derive(Clone, Copy)]
pub(super) struct Long([[uint32x4_t; 2]; 4]);

impl Sums for Long {
    const ROWS: usize = 2;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: NEON belongs to every AArch64 that Rust builds for.
        Self([[unsafe { vdupq_n_u32(0) }; 2]; 4])
    }

    #[inline(always)]
    unsafe fn add(&mut self, quarter: usize, x: uint8x16_t, w: uint8x16_t) {
        // SAFETY: as above. A product of bytes fits 16 bits, and pairs are summed in 32.
        unsafe {
            let [low, high] = &mut self.0[quarter];
            *low = vpadalq_u16(*low, vmull_u8(vget_low_u8(x), vget_low_u8(w)));
            *high = vpadalq_u16(*high, vmull_high_u8(x, w));
        }
    }

    #[inline(always)]
    fn quarter(&self, quarter: usize) -> uint32x4_t {
        let [low, high] = self.0[quarter];
        // SAFETY: as above.
        unsafe { vpaddq_u32(low, high) }
    }
}
