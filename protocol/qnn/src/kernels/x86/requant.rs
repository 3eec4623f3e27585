//! Accumulators to bytes: the vector form of [`crate::arith::requantize`].

use core::arch::x86_64::*;

/// What all channels of an operator share.
#[derive(Clone, Copy)]
pub(super) struct Range {
    zy: __m256i,
    lo: __m256,
    hi: __m256,
}

impl Range {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn new(zy: i32, lo: i32, hi: i32) -> Self {
        Self {
            zy: _mm256_set1_epi32(zy),
            lo: _mm256_set1_ps((lo - zy) as f32),
            hi: _mm256_set1_ps((hi - zy) as f32),
        }
    }

    /// Eight accumulators, bias included, as eight numbers within 0..=255.
    ///
    /// `maxps` gives its second operand for what is no number, as `clamp` does.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn apply(&self, acc: __m256i, mult: __m256) -> __m256i {
        self.round(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), mult))
    }

    /// Eight real numbers, as eight numbers within 0..=255.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn round(&self, value: __m256) -> __m256i {
        let value = _mm256_min_ps(_mm256_max_ps(value, self.lo), self.hi);
        _mm256_add_epi32(_mm256_cvtps_epi32(value), self.zy)
    }
}

/// Sixteen numbers within 0..=255 as bytes, in order.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn bytes(first: __m256i, second: __m256i) -> __m128i {
    let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(first, second));
    _mm_packus_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves))
}
