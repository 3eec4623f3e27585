//! Accumulators to bytes: the vector form of [`crate::arith::requantize`].

use core::arch::x86_64::*;

/// What all channels of an operator share.
#[derive(Clone, Copy)]
pub(super) struct Range {
    /// The zero point, as 32 and as 16 bits.
    zy: __m256i,
    zy_short: __m256i,
    /// Bounds of real numbers, before the zero point is added.
    lo: __m256,
    hi: __m256,
    /// The lower bound as bytes.
    lo_bytes: __m128i,
}

impl Range {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn new(zy: i32, lo: i32, hi: i32) -> Self {
        Self {
            zy: _mm256_set1_epi32(zy),
            zy_short: _mm256_set1_epi16(zy as i16),
            lo: _mm256_set1_ps((lo - zy) as f32),
            hi: _mm256_set1_ps((hi - zy) as f32),
            lo_bytes: _mm_set1_epi8(lo as i8),
        }
    }

    /// Eight accumulators, bias included, as eight numbers within 0..=255.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn apply(&self, acc: __m256i, mult: __m256) -> __m256i {
        self.round(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), mult))
    }

    /// Eight real numbers, as eight numbers within 0..=255.
    ///
    /// `maxps` gives its second operand for what is no number, as `clamp` does.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn round(&self, value: __m256) -> __m256i {
        let value = _mm256_min_ps(_mm256_max_ps(value, self.lo), self.hi);
        _mm256_add_epi32(_mm256_cvtps_epi32(value), self.zy)
    }

    /// Sixteen accumulators in the order 0 1 4 5, 2 3 6 7, 8 9 12 13, 10 11 14 15, as sixteen bytes
    /// in order.
    ///
    /// The lower bound is met as bytes: what is far below it, or no number (`minps` gives its second
    /// operand then), converts to the least integer, and every step from there on saturates.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn sixteen(&self, acc: [__m256i; 2], mult: [__m256; 2]) -> __m128i {
        let first = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[0]), mult[0]);
        let second = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[1]), mult[1]);
        let first = _mm256_cvtps_epi32(_mm256_min_ps(self.hi, first));
        let second = _mm256_cvtps_epi32(_mm256_min_ps(self.hi, second));
        let shorts = _mm256_adds_epi16(_mm256_packs_epi32(first, second), self.zy_short);
        let low = _mm256_castsi256_si128(shorts);
        let packed = _mm_packus_epi16(low, _mm256_extracti128_si256::<1>(shorts));
        let order = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
        _mm_max_epu8(_mm_shuffle_epi8(packed, order), self.lo_bytes)
    }
}

/// Sixteen numbers within 0..=255 as bytes, in order.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn bytes(first: __m256i, second: __m256i) -> __m128i {
    let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(first, second));
    _mm_packus_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves))
}
