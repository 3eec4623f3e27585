//! AArch64 with dot products (Armv8.2 and later; every core since Cortex-A55 and A75).
//!
//! `udot` multiplies unsigned bytes, sixteen at a time. Weights are signed, so they are moved up by 128
//! on the way in, and 128 times the sum of the inputs is taken off at the end. The intrinsic is not
//! stable yet, hence the assembler. Depthwise layers run the portable kernel here, which NEON speeds up
//! by what the compiler sees.

use super::Gemm;
use crate::format::{PANEL, QUAD};
use core::arch::aarch64::*;
use core::arch::asm;

/// Rows of a full tile: 16 accumulators of 32 vector registers.
const ROWS: usize = 4;
/// Bytes of one quad of a panel.
const STEP: usize = PANEL * QUAD;

/// Whether the processor has dot products: asked at run time where there is an operating system.
pub(super) fn has_dot() -> bool {
    #[cfg(feature = "std")]
    return std::arch::is_aarch64_feature_detected!("dotprod");
    #[cfg(not(feature = "std"))]
    return cfg!(target_feature = "dotprod");
}

pub(super) fn gemm(of: &Gemm<'_>, output: &mut [u8]) {
    // SAFETY: only `Isa::Dot` calls this, and it exists only where `has_dot` said yes.
    unsafe { rows(of, output) }
}

#[target_feature(enable = "neon,dotprod")]
fn rows(of: &Gemm<'_>, output: &mut [u8]) {
    let mut row = 0;
    while row + ROWS <= of.rows {
        tile::<ROWS>(of, row, output);
        row += ROWS;
    }
    for row in row..of.rows {
        tile::<1>(of, row, output);
    }
}

/// `R` rows from `row` on, times all panels.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn tile<const R: usize>(of: &Gemm<'_>, row: usize, output: &mut [u8]) {
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
        let acc = sums::<R>(of, row, &of.weights[first * of.depth()..][..PANEL * of.depth()]);
        let columns = PANEL.min(of.columns - first);
        for (r, acc) in acc.into_iter().enumerate() {
            let mut whole = [0; PANEL];
            for (quarter, acc) in acc.into_iter().enumerate() {
                let at = (first + 4 * quarter) * 4;
                let (bias, mult) = (&of.bias[at..][..16], &of.mult[at..][..16]);
                // SAFETY: the slices have the 16 bytes that are read, at any alignment.
                let (bias, mult) = unsafe {
                    (vld1q_u8(bias.as_ptr()), vreinterpretq_f32_u8(vld1q_u8(mult.as_ptr())))
                };
                let acc = vsubq_s32(vreinterpretq_s32_u32(acc), vdupq_n_s32(moved[r]));
                let acc = vaddq_s32(acc, vreinterpretq_s32_u8(bias));
                let bytes = bytes(of, acc, mult);
                whole[4 * quarter..][..4].copy_from_slice(&bytes.to_le_bytes());
            }
            let at = (row + r) * of.output_stride + first;
            output[at..at + columns].copy_from_slice(&whole[..columns]);
        }
    }
}

/// Sums of `R` rows and one panel, with weights moved up by 128.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sums<const R: usize>(of: &Gemm<'_>, row: usize, weights: &[u8]) -> [[uint32x4_t; 4]; R] {
    let mut acc = [[vdupq_n_u32(0); 4]; R];
    let up = vdupq_n_u8(0x80);
    // SAFETY: `row + R <= rows`, each row has `runs` runs of `run` bytes inside the input (the entry
    // checked it), and the slice of weights has `runs * run * 16`. `run` is a multiple of 4.
    unsafe {
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
                    for (acc, &x) in acc.iter_mut().zip(&x) {
                        acc[quarter] = dot(acc[quarter], w, x);
                    }
                }
                weights = weights.add(STEP);
            }
        }
    }
    acc
}

/// Four sums of four products each, added.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot(mut acc: uint32x4_t, w: uint8x16_t, x: uint8x16_t) -> uint32x4_t {
    // SAFETY: the instruction touches nothing but its registers, and the feature says it exists.
    unsafe {
        asm!(
            "udot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
            acc = inout(vreg) acc,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// Four accumulators as bytes: the vector form of [`crate::arith::requantize`].
///
/// `fmaxnm` gives the number of the two where one is none, as `clamp` does; `fcvtns` rounds half to even.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn bytes(of: &Gemm<'_>, acc: int32x4_t, mult: float32x4_t) -> u32 {
    let bound = |bound: i32| vdupq_n_f32((bound - of.zy) as f32);
    let value = vmulq_f32(vcvtq_f32_s32(acc), mult);
    let value = vminnmq_f32(vmaxnmq_f32(value, bound(of.lo)), bound(of.hi));
    let whole = vaddq_s32(vcvtnq_s32_f32(value), vdupq_n_s32(of.zy));
    let short = vqmovun_s32(whole);
    let bytes = vqmovn_u16(vcombine_u16(short, short));
    vget_lane_u32::<0>(vreinterpret_u32_u8(bytes))
}
