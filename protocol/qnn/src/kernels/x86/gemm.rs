//! Bytes times packed weights. Three rows by one panel of 16 channels stay in registers.

use super::requant::Range;
use crate::format::{PANEL, QUAD};
use crate::kernels::Gemm;
use core::arch::x86_64::*;

/// Rows of a full tile: 12 accumulators of 16 vector registers.
const ROWS: usize = 3;
/// Bytes of input that are met by every panel before the next rows come: half of the first cache.
const BLOCK_BYTES: usize = 16 << 10;
/// Bytes of one quad of a panel.
const STEP: usize = PANEL * QUAD;
/// Channels of a quarter of a panel: what one vector of widened weights holds.
const QUARTER: usize = 4;

/// [`super::super::Kernels::gemm`] has checked every length; that is what the pointers below rest on.
#[target_feature(enable = "avx2,fma")]
pub(super) fn gemm(of: &Gemm<'_>, output: &mut [u8]) {
    let block = (BLOCK_BYTES / of.depth()).max(ROWS).next_multiple_of(ROWS);
    let range = Range::new(of.zy, of.lo, of.hi);
    for first in (0..of.rows).step_by(block) {
        let last = of.rows.min(first + block);
        for panel in 0..of.columns.div_ceil(PANEL) {
            let panel = Panel::new(of, &range, panel * PANEL);
            // A last panel that is half empty is computed by half.
            if panel.columns > 2 * QUARTER {
                panel.rows::<4>(first, last, output);
            } else {
                panel.rows::<2>(first, last, output);
            }
        }
    }
}

/// Sixteen output channels, or what is left of them.
struct Panel<'a> {
    of: &'a Gemm<'a>,
    range: &'a Range,
    first: usize,
    columns: usize,
    weights: &'a [u8],
    bias: &'a [u8],
    /// In the order in which sums come out: 0 1 4 5, 2 3 6 7.
    mult: [__m256; 2],
}

impl<'a> Panel<'a> {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(of: &'a Gemm<'a>, range: &'a Range, first: usize) -> Self {
        let depth = of.depth();
        let words = &of.mult[first * 4..][..PANEL * 4];
        let mut mult = [_mm256_setzero_ps(); 2];
        for (mult, bytes) in mult.iter_mut().zip(words.as_chunks::<32>().0) {
            // SAFETY: the array has the 32 bytes that are read.
            let words = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            *mult = _mm256_castsi256_ps(_mm256_permute4x64_epi64::<0b11_01_10_00>(words));
        }
        Self {
            of,
            range,
            first,
            columns: PANEL.min(of.columns - first),
            weights: &of.weights[first * depth..][..PANEL * depth],
            bias: &of.bias[first * 4..][..PANEL * 4],
            mult,
        }
    }

    /// Rows `first..last`, `Q` quarters of the panel.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn rows<const Q: usize>(&self, first: usize, last: usize, output: &mut [u8]) {
        let mut row = first;
        while row + ROWS <= last {
            self.tile::<ROWS, Q>(row, output);
            row += ROWS;
        }
        match last - row {
            2 => self.tile::<2, Q>(row, output),
            1 => self.tile::<1, Q>(row, output),
            _ => {}
        }
    }

    /// `R` rows from `row` on.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn tile<const R: usize, const Q: usize>(&self, row: usize, output: &mut [u8]) {
        let of = self.of;
        let mut acc = [[_mm256_setzero_si256(); Q]; R];
        for (quarter, bias) in self.bias.as_chunks::<16>().0.iter().enumerate().take(Q) {
            // SAFETY: the array has the 16 bytes that are read.
            let bias = _mm256_cvtepu32_epi64(unsafe { _mm_loadu_si128(bias.as_ptr().cast()) });
            for acc in &mut acc {
                acc[quarter] = bias;
            }
        }
        // SAFETY: `row + R <= rows`, each row has `runs` runs of `run` bytes inside the input, and the
        // panel has `runs * run * 16` weights: the entry checked all of it. `run` is a multiple of 4,
        // so quads do not reach beyond it.
        unsafe {
            let mut weights = self.weights.as_ptr();
            for run in 0..of.runs {
                let input = of.input.as_ptr().add(row * of.input_stride + run * of.run_stride);
                for quad in 0..of.run / QUAD {
                    let mut x = [_mm256_setzero_si256(); R];
                    for (r, x) in x.iter_mut().enumerate() {
                        let at = input.add(r * of.input_stride + quad * QUAD).cast::<i32>();
                        *x = _mm256_cvtepu8_epi16(_mm_set1_epi32(at.read_unaligned()));
                    }
                    for quarter in 0..Q {
                        let at = weights.add(quarter * 16).cast::<__m128i>();
                        let w = _mm256_cvtepi8_epi16(_mm_loadu_si128(at));
                        for (acc, &x) in acc.iter_mut().zip(&x) {
                            let products = _mm256_madd_epi16(x, w);
                            acc[quarter] = _mm256_add_epi32(acc[quarter], products);
                        }
                    }
                    weights = weights.add(STEP);
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            // Lanes are pairs of two sums of one channel; pairs of vectors are summed and interleaved.
            let first = pairs(acc[0], acc[1]);
            let second = if Q == 4 { pairs(acc[2], acc[3]) } else { first };
            let result = self.range.sixteen([first, second], self.mult);
            let at = (row + r) * of.output_stride + self.first;
            let to = &mut output[at..at + self.columns];
            if let Ok(to) = <&mut [u8; PANEL]>::try_from(&mut *to) {
                // SAFETY: the array has the 16 bytes that are written.
                unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), result) };
            } else {
                let mut whole = [0; PANEL];
                // SAFETY: as above.
                unsafe { _mm_storeu_si128(whole.as_mut_ptr().cast(), result) };
                short(to, &whole);
            }
        }
    }
}

/// Sums of neighbours, of both vectors in turn: `vphaddd` in half its time.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn pairs(a: __m256i, b: __m256i) -> __m256i {
    let (a, b) = (_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
    let even = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
    let odd = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(a, b));
    _mm256_add_epi32(even, odd)
}

/// Copies less than sixteen bytes without a call.
#[inline(always)]
fn short(to: &mut [u8], from: &[u8; PANEL]) {
    let eight = if to.len() < 8 { 0 } else { 8 };
    let (first, rest) = to.split_at_mut(eight);
    if let Ok(first) = <&mut [u8; 8]>::try_from(first) {
        first.copy_from_slice(&from[..8]);
    }
    for (to, from) in rest.iter_mut().zip(&from[eight..]) {
        *to = *from;
    }
}
