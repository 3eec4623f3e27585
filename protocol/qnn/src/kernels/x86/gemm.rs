//! Bytes times packed weights. Three rows by one panel of 16 channels stay in registers.

use super::requant::{Range, bytes};
use crate::format::{PANEL, QUAD};
use crate::kernels::Gemm;
use core::arch::x86_64::*;

/// Rows of a full tile: 12 accumulators of 16 vector registers.
const ROWS: usize = 3;
/// Bytes of input that are met by every panel before the next rows come: half of the first cache.
const BLOCK_BYTES: usize = 16 << 10;
/// Bytes of one quad of a panel.
const STEP: usize = PANEL * QUAD;

/// [`super::super::Kernels::gemm`] has checked every length; that is what the pointers below rest on.
#[target_feature(enable = "avx2,fma")]
pub(super) fn gemm(of: &Gemm<'_>, output: &mut [u8]) {
    let block = (BLOCK_BYTES / of.depth()).max(ROWS).next_multiple_of(ROWS);
    let range = Range::new(of.zy, of.lo, of.hi);
    for first in (0..of.rows).step_by(block) {
        let last = of.rows.min(first + block);
        for panel in 0..of.columns.div_ceil(PANEL) {
            let mut row = first;
            while row + ROWS <= last {
                tile::<ROWS>(of, &range, panel, row, output);
                row += ROWS;
            }
            match last - row {
                2 => tile::<2>(of, &range, panel, row, output),
                1 => tile::<1>(of, &range, panel, row, output),
                _ => {}
            }
        }
    }
}

/// `R` rows from `row` on, times one panel.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tile<const R: usize>(
    of: &Gemm<'_>,
    range: &Range,
    panel: usize,
    row: usize,
    output: &mut [u8],
) {
    let mut acc = [[_mm256_setzero_si256(); 4]; R];
    // SAFETY: `row + R <= rows`, each row has `runs` runs of `run` bytes inside `input`, and there are
    // `runs * run * 16` weights in each of the `columns / 16` panels: the entry checked all of it.
    // `run` is a multiple of 4, so quads do not reach beyond it.
    unsafe {
        let mut weights = of.weights.as_ptr().add(panel * of.depth() * PANEL);
        for run in 0..of.runs {
            let input = of.input.as_ptr().add(row * of.input_stride + run * of.run_stride);
            for quad in 0..of.run / QUAD {
                let mut x = [_mm256_setzero_si256(); R];
                for (r, x) in x.iter_mut().enumerate() {
                    let at = input.add(r * of.input_stride + quad * QUAD).cast::<i32>();
                    *x = _mm256_cvtepu8_epi16(_mm_set1_epi32(at.read_unaligned()));
                }
                for part in 0..4 {
                    let at = weights.add(part * 16).cast::<__m128i>();
                    let w = _mm256_cvtepi8_epi16(_mm_loadu_si128(at));
                    for (acc, &x) in acc.iter_mut().zip(&x) {
                        acc[part] = _mm256_add_epi32(acc[part], _mm256_madd_epi16(x, w));
                    }
                }
                weights = weights.add(STEP);
            }
        }
    }
    let first = panel * PANEL;
    let (bias, mult) = (words(of.bias, first), words(of.mult, first));
    for (r, acc) in acc.iter().enumerate() {
        let half = |at: usize| {
            // Lanes are pairs of two sums of one channel, in the order 0 1 4 5, 2 3 6 7.
            let sums = _mm256_hadd_epi32(acc[2 * at], acc[2 * at + 1]);
            let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(sums);
            let sums = _mm256_add_epi32(sums, bias[at]);
            range.apply(sums, _mm256_castsi256_ps(mult[at]))
        };
        let result = bytes(half(0), half(1));
        let at = (row + r) * of.output_stride + first;
        let columns = PANEL.min(of.columns - first);
        if let Ok(to) = <&mut [u8; PANEL]>::try_from(&mut output[at..at + columns]) {
            // SAFETY: the array has the 16 bytes that are written.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), result) };
        } else {
            let mut whole = [0; PANEL];
            // SAFETY: as above.
            unsafe { _mm_storeu_si128(whole.as_mut_ptr().cast(), result) };
            output[at..at + columns].copy_from_slice(&whole[..columns]);
        }
    }
}

/// Sixteen words of a panel.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn words(of: &[u8], first: usize) -> [__m256i; 2] {
    let bytes = &of[first * 4..][..PANEL * 4];
    // SAFETY: the slice has the 64 bytes that are read.
    unsafe {
        let at = bytes.as_ptr().cast::<__m256i>();
        [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
    }
}
