//! Each channel by itself: 16 (or 8) channels at a time, two places of the window per instruction.
//!
//! The weights of a block of channels stay in registers while all pixels pass.

use super::requant::{Range, bytes};
use crate::kernels::Channelwise;
use core::arch::x86_64::*;

/// Places of a window at most; larger ones are the portable kernel's.
pub(super) const TAPS_MAX: usize = 64;
/// Pairs of a 3x3 window: it has a kernel whose loops are unrolled.
const PAIRS_3X3: usize = 5;

#[target_feature(enable = "avx2,fma")]
pub(super) fn depthwise(of: &Channelwise<'_>, output: &mut [u8]) {
    let mut from = 0;
    // A last block that would reach beyond the channels begins earlier and computes some again.
    while from < of.channels {
        let left = of.channels - from;
        if left > 8 && of.channels >= 16 {
            block::<2>(of, from.min(of.channels - 16), output);
            from += 16;
        } else {
            block::<1>(of, from.min(of.channels - 8), output);
            from += 8;
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn block<const H: usize>(of: &Channelwise<'_>, from: usize, output: &mut [u8]) {
    if of.window.kh * of.window.kw == 9 {
        pixels::<H, PAIRS_3X3>(of, from, output);
    } else {
        pixels::<H, { TAPS_MAX / 2 }>(of, from, output);
    }
}

/// All pixels of `8 * H` channels; the window has at most `2 * P` places.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn pixels<const H: usize, const P: usize>(of: &Channelwise<'_>, from: usize, output: &mut [u8]) {
    let window = &of.window;
    let (kh, kw) = (window.kh as usize, window.kw as usize);
    let (taps, channels, iw) = (kh * kw, of.channels, window.iw as usize);
    let pairs = if P == PAIRS_3X3 { P } else { taps.div_ceil(2) };
    let mut weights = [[_mm256_setzero_si256(); H]; P];
    for (pair, weights) in weights.iter_mut().enumerate().take(pairs) {
        let first = load::<H>(of.weights, 2 * pair * channels + from);
        let second = match 2 * pair + 1 < taps {
            true => load::<H>(of.weights, (2 * pair + 1) * channels + from),
            false => _mm_setzero_si128(),
        };
        let both = interleave::<H>(first, second);
        for (weights, bytes) in weights.iter_mut().zip(both) {
            *weights = _mm256_cvtepi8_epi16(bytes);
        }
    }
    let (bias, mult) = (words::<H>(of.bias, from), words::<H>(of.mult, from));
    let range = Range::new(of.zy, of.lo, of.hi);
    // Offsets of the places from the first one, for windows that lie inside.
    let mut steps = [[0_usize; 2]; P];
    for tap in 0..taps {
        let (ky, kx) = (tap / kw * window.dh as usize, tap % kw * window.dw as usize);
        steps[tap / 2][tap % 2] = (ky * iw + kx) * channels;
    }
    let padding = of.padding[from..][..8 * H].as_ptr();
    let mut at = from;
    for image in 0..of.batch {
        let pixels = window.ih as usize * iw * channels;
        let image = &of.input[image * pixels..][..pixels];
        for oy in 0..window.oh {
            let rows = window.rows(oy);
            let whole_rows = rows.from == 0 && rows.to == window.kh;
            for ox in 0..window.ow {
                let columns = window.columns(ox);
                let mut places = [[padding; 2]; P];
                if whole_rows && columns.from == 0 && columns.to == window.kw {
                    let first = (rows.base as usize * iw + columns.base as usize) * channels + from;
                    let first = image[first..].as_ptr();
                    for (place, step) in places.iter_mut().zip(&steps).take(pairs) {
                        // SAFETY: the window lies inside the image, so each of its places does; a
                        // second place that does not exist has offset 0.
                        *place = unsafe { [first.add(step[0]), first.add(step[1])] };
                    }
                } else {
                    for ky in rows.from..rows.to {
                        let iy = (rows.base + (ky * window.dh) as i32) as usize;
                        for kx in columns.from..columns.to {
                            let ix = (columns.base + (kx * window.dw) as i32) as usize;
                            let tap = (ky * window.kw + kx) as usize;
                            let pixel = &image[(iy * iw + ix) * channels + from..][..8 * H];
                            places[tap / 2][tap % 2] = pixel.as_ptr();
                        }
                    }
                }
                let mut acc = bias;
                for (place, weights) in places.iter().zip(&weights).take(pairs) {
                    // SAFETY: every place has `channels - from >= 8 * H` bytes: it is a pixel, from
                    // its channel `from` on, or the padding.
                    let both = unsafe {
                        interleave::<H>(load_at::<H>(place[0]), load_at::<H>(place[1]))
                    };
                    for ((acc, &weights), bytes) in acc.iter_mut().zip(weights).zip(both) {
                        let products = _mm256_madd_epi16(_mm256_cvtepu8_epi16(bytes), weights);
                        *acc = _mm256_add_epi32(*acc, products);
                    }
                }
                store::<H>(&range, acc, mult, &mut output[at..at + 8 * H]);
                at += channels;
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store<const H: usize>(
    range: &Range,
    acc: [__m256i; H],
    mult: [__m256i; H],
    output: &mut [u8],
) {
    let apply = |half: usize| range.apply(acc[half], _mm256_castsi256_ps(mult[half]));
    let to = output[..8 * H].as_mut_ptr();
    if H == 2 {
        // SAFETY: `output` has 16 bytes.
        unsafe { _mm_storeu_si128(to.cast(), bytes(apply(0), apply(H - 1))) };
    } else {
        // SAFETY: `output` has 8 bytes.
        unsafe { _mm_storel_epi64(to.cast(), bytes(apply(0), apply(0))) };
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
