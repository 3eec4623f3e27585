//! Each channel by itself, with AVX2. Two places of the window are multiplied by one instruction:
//! `vpmaddwd` sums pairs.

use super::requant::{Range, bytes};
use crate::kernels::Channelwise;
use crate::kernels::channelwise::{Block, TAPS_MAX, blocks};
use core::arch::x86_64::*;
use core::ops::Range as Lines;

/// [`super::takes`] has said yes: at least 8 channels, no zero points, a window that is not too large.
#[target_feature(enable = "avx2,fma")]
pub(super) fn depthwise(of: &Channelwise<'_>, output: &mut [u8]) {
    let window = &of.window;
    let (taps, small) = (window.kh * window.kw, (window.kh, window.kw) == (3, 3));
    let wide = of.channels >= 16;
    blocks(of, if wide { 16 } else { 8 }, output, |block, lines, output| {
        // What is set aside for weights fits the window: it is cleared for each block.
        match (small, wide, taps) {
            (true, true, _) => three_by_three::<2>(block, lines, output),
            (true, ..) => three_by_three::<1>(block, lines, output),
            (_, true, ..=4) => any::<2, 2>(block, lines, output),
            (_, true, ..=8) => any::<2, 4>(block, lines, output),
            (_, true, ..=16) => any::<2, 8>(block, lines, output),
            (_, true, _) => any::<2, { TAPS_MAX / 2 }>(block, lines, output),
            _ => any::<1, { TAPS_MAX / 2 }>(block, lines, output),
        }
    });
}

/// `8 * H` channels under a 3x3 window. A column is met by three windows: it is widened once.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn three_by_three<const H: usize>(block: &Block<'_>, lines: Lines<u32>, output: &mut [u8]) {
    let (of, window, from) = (block.of, &block.of.window, block.from);
    let range = Range::new(of.zy, of.lo, of.hi);
    // For each column: the first two rows as pairs, and the third with nothing.
    let mut weights = [[[_mm256_setzero_si256(); 2]; H]; 3];
    for (kx, weights) in weights.iter_mut().enumerate() {
        for (half, weights) in weights.iter_mut().enumerate() {
            let from = from + 8 * half;
            let top = load::<1>(of.weights, kx * of.channels + from);
            let middle = load::<1>(of.weights, (3 + kx) * of.channels + from);
            let bottom = load::<1>(of.weights, (6 + kx) * of.channels + from);
            weights[0] = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(top, middle));
            weights[1] = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(bottom, _mm_setzero_si128()));
        }
    }
    let (bias, mult) = (words::<H>(of.bias, from), words::<H>(of.mult, from));
    // By how many columns of the window it moves from pixel to pixel; 0 stands for all others.
    let moves = if window.sw.is_multiple_of(window.dw) { window.sw / window.dw } else { 0 };
    let step = window.dw as i32;
    for (oy, pixels) in block.lines(lines, output) {
        let columns = block.columns(oy, 8 * H);
        let mut ix = -(window.pl as i32);
        // SAFETY: the block's channels, `8 * H` of them, can be read at every place of a column.
        let column = |ix: i32| unsafe { column::<H>(columns.at(ix)) };
        let (mut a, mut b) = (column(ix), column(ix + step));
        for output in pixels {
            let c = column(ix + 2 * step);
            let mut acc = bias;
            for (column, weights) in [a, b, c].iter().zip(&weights) {
                for ((acc, rows), weights) in acc.iter_mut().zip(column).zip(weights) {
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(rows[0], weights[0]));
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(rows[1], weights[1]));
                }
            }
            for (acc, &mult) in acc.iter_mut().zip(&mult) {
                *acc = range.apply(*acc, _mm256_castsi256_ps(mult));
            }
            store::<H>(acc, &mut output[from..from + 8 * H]);
            ix += window.sw as i32;
            (a, b) = match moves {
                1 => (b, c),
                2 => (c, column(ix + step)),
                _ => (column(ix), column(ix + step)),
            };
        }
    }
}

/// `8 * H` channels under any window of at most `2 * P` places.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn any<const H: usize, const P: usize>(block: &Block<'_>, lines: Lines<u32>, output: &mut [u8]) {
    let (of, window, from) = (block.of, &block.of.window, block.from);
    let range = Range::new(of.zy, of.lo, of.hi);
    let taps = (window.kh * window.kw) as usize;
    let pairs = taps.div_ceil(2);
    let mut weights = [[_mm256_setzero_si256(); H]; P];
    for (pair, weights) in weights.iter_mut().enumerate().take(pairs) {
        let first = load::<H>(of.weights, 2 * pair * of.channels + from);
        let second = match 2 * pair + 1 < taps {
            true => load::<H>(of.weights, (2 * pair + 1) * of.channels + from),
            false => _mm_setzero_si128(),
        };
        let both = interleave::<H>(first, second);
        for (weights, bytes) in weights.iter_mut().zip(both) {
            *weights = _mm256_cvtepi8_epi16(bytes);
        }
    }
    let (bias, mult) = (words::<H>(of.bias, from), words::<H>(of.mult, from));
    // A place that does not exist meets weights of 0.
    let mut places = [[of.padding[from..].as_ptr(); 2]; P];
    for (oy, pixels) in block.lines(lines, output) {
        let rows = window.rows(oy);
        for (ox, output) in pixels.enumerate() {
            let base = (ox as u32 * window.sw) as i32 - window.pl as i32;
            block.see(&mut places, rows, base);
            let mut acc = bias;
            for (place, weights) in places.iter().zip(&weights).take(pairs) {
                // SAFETY: each place is a pixel from channel `from` on, or the padding: at least
                // `channels - from >= 8 * H` bytes of its slice.
                let both =
                    unsafe { interleave::<H>(load_at::<H>(place[0]), load_at::<H>(place[1])) };
                for ((acc, &weights), bytes) in acc.iter_mut().zip(weights).zip(both) {
                    let products = _mm256_madd_epi16(_mm256_cvtepu8_epi16(bytes), weights);
                    *acc = _mm256_add_epi32(*acc, products);
                }
            }
            for (acc, &mult) in acc.iter_mut().zip(&mult) {
                *acc = range.apply(*acc, _mm256_castsi256_ps(mult));
            }
            store::<H>(acc, &mut output[from..from + 8 * H]);
        }
    }
}

/// One column of the input, widened: for each eight channels the first two rows as pairs, and the
/// third with nothing.
///
/// # Safety
/// `8 * H` bytes can be read at each place.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn column<const H: usize>(places: [*const u8; 3]) -> [[__m256i; 2]; H] {
    let mut column = [[_mm256_setzero_si256(); 2]; H];
    for (half, column) in column.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let [top, middle, bottom] = places.map(|at| unsafe { load_at::<1>(at.add(8 * half)) });
        column[0] = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(top, middle));
        column[1] = _mm256_cvtepu8_epi32(bottom);
    }
    column
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store<const H: usize>(results: [__m256i; H], output: &mut [u8]) {
    let to = output[..8 * H].as_mut_ptr();
    if H == 2 {
        // SAFETY: `output` has 16 bytes.
        unsafe { _mm_storeu_si128(to.cast(), bytes(results[0], results[H - 1])) };
    } else {
        // SAFETY: `output` has 8 bytes.
        unsafe { _mm_storel_epi64(to.cast(), bytes(results[0], results[0])) };
    }
}

/// `8 * H` bytes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn load<const H: usize>(of: &[u8], at: usize) -> __m128i {
    // SAFETY: the slice has the bytes that are read.
    unsafe { load_at::<H>(of[at..][..8 * H].as_ptr()) }
}

/// # Safety
/// `8 * H` bytes can be read there.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_at<const H: usize>(at: *const u8) -> __m128i {
    // SAFETY: the caller's promise.
    unsafe { if H == 2 { _mm_loadu_si128(at.cast()) } else { _mm_loadl_epi64(at.cast()) } }
}

/// Bytes of two places side by side, eight channels in each vector.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn interleave<const H: usize>(first: __m128i, second: __m128i) -> [__m128i; H] {
    let mut both = [_mm_unpacklo_epi8(first, second); H];
    if H == 2 {
        both[H - 1] = _mm_unpackhi_epi8(first, second);
    }
    both
}

/// `8 * H` words.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn words<const H: usize>(of: &[u8], first: usize) -> [__m256i; H] {
    let mut words = [_mm256_setzero_si256(); H];
    let bytes = &of[first * 4..][..32 * H];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<32>().0) {
        // SAFETY: the array has the 32 bytes that are read.
        *word = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    }
    words
}
