//! Sums of two tensors, 8 bytes at a time.

use super::requant::{Bounds, bytes};
use crate::format::Add;
use crate::kernels::portable;
use core::arch::aarch64::*;

pub(super) fn add(op: &Add, a: &[u8], b: &[u8], output: &mut [u8]) {
    let bounds = Bounds::new(op.flip_y as i32, op.lo as i32, op.hi as i32);
    let (blocks_a, rest_a) = a.as_chunks::<8>();
    let (blocks_b, rest_b) = b.as_chunks::<8>();
    let (blocks, rest) = output.as_chunks_mut::<8>();
    for ((a, b), y) in blocks_a.iter().zip(blocks_b).zip(blocks) {
        // SAFETY: the arrays have the 8 bytes that are read and written; NEON belongs to every AArch64.
        unsafe {
            let (a, b) = (widen(a, op.flip_a), widen(b, op.flip_b));
            let four = |a: int32x4_t, b: int32x4_t| {
                let [ratio_a, ratio_b, fixed] = [op.ratio_a, op.ratio_b, op.fixed]
                    .map(|bits| vdupq_n_f32(f32::from_bits(bits)));
                let b = vfmaq_f32(fixed, vcvtq_f32_s32(b), ratio_b);
                bounds.round(vfmaq_f32(b, vcvtq_f32_s32(a), ratio_a))
            };
            vst1_u8(y.as_mut_ptr(), bytes(four(a[0], b[0]), four(a[1], b[1])));
        }
    }
    portable::add(op, rest_a, rest_b, rest);
}

/// Eight bytes in the operand's own type.
#[inline(always)]
fn widen(bytes: &[u8; 8], flip: u32) -> [int32x4_t; 2] {
    // SAFETY: the array has the 8 bytes that are read; NEON as above.
    unsafe {
        let shorts = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(bytes.as_ptr())));
        let shorts = vsubq_s16(shorts, vdupq_n_s16(flip as i16));
        [vmovl_s16(vget_low_s16(shorts)), vmovl_high_s16(shorts)]
    }
}
