//! Accumulators to bytes: the vector form of [`crate::arith::requantize`].

use core::arch::aarch64::*;

/// What all channels of an operator share.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    zy: int32x4_t,
    /// Of real numbers, before the zero point is added.
    lo: float32x4_t,
    hi: float32x4_t,
}

impl Bounds {
    #[inline(always)]
    pub(super) fn new(zy: i32, lo: i32, hi: i32) -> Self {
        // SAFETY: NEON belongs to every AArch64 that Rust builds for.
        unsafe {
            let bound = |bound: i32| vdupq_n_f32((bound - zy) as f32);
            Self { zy: vdupq_n_s32(zy), lo: bound(lo), hi: bound(hi) }
        }
    }

    /// Four real numbers, as numbers within 0..=255.
    ///
    /// `fmaxnm` gives the number of the two where one is none, as `clamp` does; `fcvtns` rounds half to
    /// even.
    #[inline(always)]
    pub(super) fn round(&self, value: float32x4_t) -> int32x4_t {
        // SAFETY: as above.
        unsafe {
            let value = vminnmq_f32(vmaxnmq_f32(value, self.lo), self.hi);
            vaddq_s32(vcvtnq_s32_f32(value), self.zy)
        }
    }

    /// Four accumulators, bias included, and their multipliers.
    #[inline(always)]
    pub(super) fn apply(&self, acc: int32x4_t, mult: float32x4_t) -> int32x4_t {
        // SAFETY: as above.
        self.round(unsafe { vmulq_f32(vcvtq_f32_s32(acc), mult) })
    }
}

/// Eight numbers within 0..=255 as bytes.
#[inline(always)]
pub(super) fn bytes(first: int32x4_t, second: int32x4_t) -> uint8x8_t {
    // SAFETY: as above.
    unsafe { vqmovn_u16(vcombine_u16(vqmovun_s32(first), vqmovun_s32(second))) }
}

/// Four 32-bit words.
#[inline(always)]
pub(super) fn words(of: &[u8], first: usize) -> int32x4_t {
    let bytes = &of[first * 4..][..16];
    // SAFETY: the slice has the 16 bytes that are read, at any alignment.
    unsafe { vreinterpretq_s32_u8(vld1q_u8(bytes.as_ptr())) }
}

/// Four real numbers.
#[inline(always)]
pub(super) fn reals(of: &[u8], first: usize) -> float32x4_t {
    // SAFETY: as above.
    unsafe { vreinterpretq_f32_s32(words(of, first)) }
}
