//! Sums of two tensors, 16 bytes at a time.

use super::requant::{Range, bytes};
use crate::format::Add;
use crate::kernels::portable;
use core::arch::x86_64::*;

#[target_feature(enable = "avx2,fma")]
pub(super) fn add(op: &Add, a: &[u8], b: &[u8], output: &mut [u8]) {
    let (ratio_a, ratio_b) = (broadcast(op.ratio_a), broadcast(op.ratio_b));
    let fixed = broadcast(op.fixed);
    let flips = [op.flip_a, op.flip_b].map(|flip| _mm256_set1_epi32(flip as i32));
    let range = Range::new(op.flip_y as i32, op.lo as i32, op.hi as i32);
    let (blocks_a, rest_a) = a.as_chunks::<16>();
    let (blocks_b, rest_b) = b.as_chunks::<16>();
    let (blocks, rest) = output.as_chunks_mut::<16>();
    for ((a, b), y) in blocks_a.iter().zip(blocks_b).zip(blocks) {
        // SAFETY: the arrays have 16 bytes.
        let (a, b) =
            unsafe { (_mm_loadu_si128(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast())) };
        let eight = |a: __m128i, b: __m128i| {
            let (a, b) = (widen(a, flips[0]), widen(b, flips[1]));
            range.round(_mm256_fmadd_ps(a, ratio_a, _mm256_fmadd_ps(b, ratio_b, fixed)))
        };
        let first = eight(a, b);
        let second = eight(_mm_srli_si128::<8>(a), _mm_srli_si128::<8>(b));
        // SAFETY: as above.
        unsafe { _mm_storeu_si128(y.as_mut_ptr().cast(), bytes(first, second)) };
    }
    portable::add(op, rest_a, rest_b, rest);
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn broadcast(bits: u32) -> __m256 {
    _mm256_set1_ps(f32::from_bits(bits))
}

/// The first eight bytes as real numbers, in the operand's own type.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn widen(of: __m128i, flip: __m256i) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(of), flip))
}
