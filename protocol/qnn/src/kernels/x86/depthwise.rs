//! Each channel by itself: a line of the output, a block of channels, then all pixels of the line.
//!
//! In that order the lines of the input that a window sees stay in the first cache while the blocks
//! of channels pass. Two places of the window are multiplied by one instruction: `vpmaddwd` sums pairs.

use super::requant::{Range, bytes};
use crate::conv::{Span, Window};
use crate::kernels::Channelwise;
use core::arch::x86_64::*;

/// Places of a window at most; larger ones are the portable kernel's.
pub(super) const TAPS_MAX: usize = 64;
const PAIRS_MAX: usize = TAPS_MAX / 2;

/// A line of the output, as it is computed.
struct Line<'a> {
    of: &'a Channelwise<'a>,
    /// The image that it belongs to.
    image: &'a [u8],
    rows: Span,
    range: Range,
}

/// [`super::takes`] has said yes: at least 8 channels, no zero points, a window that is not too large.
#[target_feature(enable = "avx2,fma")]
pub(super) fn depthwise(of: &Channelwise<'_>, output: &mut [u8]) {
    let window = &of.window;
    let bytes_in = window.ih as usize * window.iw as usize * of.channels;
    let bytes_out = window.ow as usize * of.channels;
    let range = Range::new(of.zy, of.lo, of.hi);
    let small = (window.kh, window.kw) == (3, 3);
    let wide = !small && of.channels >= 16;
    let step = if wide { 16 } else { 8 };
    for (index, output) in output.chunks_exact_mut(bytes_out).enumerate() {
        let (image, oy) = (index / window.oh as usize, index as u32 % window.oh);
        if image == of.batch {
            return;
        }
        let image = &of.input[image * bytes_in..][..bytes_in];
        let line = Line { of, image, rows: window.rows(oy), range };
        for from in (0..of.channels).step_by(step) {
            // A last block that would reach beyond the channels begins earlier and repeats some.
            let from = from.min(of.channels - step);
            match (small, wide) {
                (true, _) => line.three_by_three(from, output),
                (_, true) => line.any::<2>(from, output),
                _ => line.any::<1>(from, output),
            }
        }
    }
}

impl Line<'_> {
    /// Where eight or more channels from `from` on of a pixel lie: in the image, or in the padding.
    #[inline(always)]
    fn place(&self, ky: u32, ix: i32, from: usize) -> *const u8 {
        let (window, channels) = (&self.of.window, self.of.channels);
        let inside = (self.rows.from..self.rows.to).contains(&ky) && (ix as u32) < window.iw;
        if !inside {
            return self.of.padding[from..].as_ptr();
        }
        let iy = (self.rows.base + (ky * window.dh) as i32) as usize;
        self.image[(iy * window.iw as usize + ix as usize) * channels + from..].as_ptr()
    }

    /// Eight channels under a 3x3 window. A column is met by three windows: it is widened once.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn three_by_three(&self, from: usize, output: &mut [u8]) {
        let (of, window) = (self.of, &self.of.window);
        // For each column: the first two rows as pairs, and the third with nothing.
        let mut weights = [[_mm256_setzero_si256(); 2]; 3];
        for (kx, weights) in weights.iter_mut().enumerate() {
            let top = load::<1>(of.weights, kx * of.channels + from);
            let middle = load::<1>(of.weights, (3 + kx) * of.channels + from);
            let bottom = load::<1>(of.weights, (6 + kx) * of.channels + from);
            weights[0] = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(top, middle));
            weights[1] = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(bottom, _mm_setzero_si128()));
        }
        let [bias] = words::<1>(of.bias, from);
        let [mult] = words::<1>(of.mult, from);
        let mult = _mm256_castsi256_ps(mult);
        let columns = Columns::new(self, from);
        let slides = (window.sw, window.dw) == (1, 1);
        let (step, mut ix) = (window.dw as i32, -(window.pl as i32));
        let (mut a, mut b) = (columns.at(ix), columns.at(ix + step));
        for output in output.chunks_exact_mut(of.channels) {
            let c = columns.at(ix + 2 * step);
            let mut acc = bias;
            for (column, weights) in [a, b, c].iter().zip(&weights) {
                acc = _mm256_add_epi32(acc, _mm256_madd_epi16(column[0], weights[0]));
                acc = _mm256_add_epi32(acc, _mm256_madd_epi16(column[1], weights[1]));
            }
            let result = self.range.apply(acc, mult);
            store::<1>([result], &mut output[from..from + 8]);
            ix += window.sw as i32;
            (a, b) = if slides { (b, c) } else { (columns.at(ix), columns.at(ix + step)) };
        }
    }

    /// `8 * H` channels under any window.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn any<const H: usize>(&self, from: usize, output: &mut [u8]) {
        let (of, window) = (self.of, &self.of.window);
        let taps = (window.kh * window.kw) as usize;
        let pairs = taps.div_ceil(2);
        let mut weights = [[_mm256_setzero_si256(); H]; PAIRS_MAX];
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
        let bias = words::<H>(of.bias, from);
        let mult = words::<H>(of.mult, from);
        // A place that does not exist meets weights of 0.
        let mut places = [[of.padding[from..].as_ptr(); 2]; PAIRS_MAX];
        for (ox, output) in output.chunks_exact_mut(of.channels).enumerate() {
            let base = (ox as u32 * window.sw) as i32 - window.pl as i32;
            self.see(&mut places, base, from, window);
            let mut acc = bias;
            for (place, weights) in places.iter().zip(&weights).take(pairs) {
                // SAFETY: each place has at least `channels - from >= 8 * H` bytes, as above.
                let both =
                    unsafe { interleave::<H>(load_at::<H>(place[0]), load_at::<H>(place[1])) };
                for ((acc, &weights), bytes) in acc.iter_mut().zip(weights).zip(both) {
                    let products = _mm256_madd_epi16(_mm256_cvtepu8_epi16(bytes), weights);
                    *acc = _mm256_add_epi32(*acc, products);
                }
            }
            let mut results = acc;
            for (result, &mult) in results.iter_mut().zip(&mult) {
                *result = self.range.apply(*result, _mm256_castsi256_ps(mult));
            }
            store::<H>(results, &mut output[from..from + 8 * H]);
        }
    }

    /// All places of the window whose first column is `base`.
    #[inline(always)]
    fn see(
        &self,
        places: &mut [[*const u8; 2]; PAIRS_MAX],
        base: i32,
        from: usize,
        window: &Window,
    ) {
        let mut tap = 0;
        for ky in 0..window.kh {
            for kx in 0..window.kw {
                places[tap / 2][tap % 2] = self.place(ky, base + (kx * window.dw) as i32, from);
                tap += 1;
            }
        }
    }
}

/// Three lines of the input under a line of the output, at eight channels.
struct Columns<'a> {
    /// The first pixel of each line, or the padding.
    lines: [&'a [u8]; 3],
    /// Bytes from one pixel of a line to the next; 0 where the line is padding.
    steps: [usize; 3],
    padding: &'a [u8],
    iw: u32,
}

impl<'a> Columns<'a> {
    #[inline(always)]
    fn new(line: &Line<'a>, from: usize) -> Self {
        let (window, channels) = (&line.of.window, line.of.channels);
        let padding = &line.of.padding[from..][..8];
        let (mut lines, mut steps) = ([padding; 3], [0; 3]);
        for ky in line.rows.from..line.rows.to {
            let iy = (line.rows.base + (ky * window.dh) as i32) as usize;
            let bytes = window.iw as usize * channels;
            lines[ky as usize] = &line.image[iy * bytes..][..bytes][from..];
            steps[ky as usize] = channels;
        }
        Self { lines, steps, padding, iw: window.iw }
    }

    /// One column of the input, widened: the first two rows as pairs, and the third with nothing.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn at(&self, ix: i32) -> [__m256i; 2] {
        let inside = (ix as u32) < self.iw;
        let ix = if inside { ix as usize } else { 0 };
        let mut bytes = [_mm_setzero_si128(); 3];
        for (row, bytes) in bytes.iter_mut().enumerate() {
            let line = if inside { self.lines[row] } else { self.padding };
            // SAFETY: a line that is padding has 8 bytes and step 0. Any other has `iw` pixels of
            // `step` bytes less the first `from`, and `from + 8 <= step`: so 8 bytes lie behind
            // each `ix * step` with `ix < iw`. Outside, `ix` is 0 and the line is the padding.
            *bytes = unsafe { _mm_loadl_epi64(line.as_ptr().add(ix * self.steps[row]).cast()) };
        }
        [
            _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(bytes[0], bytes[1])),
            _mm256_cvtepu8_epi32(bytes[2]),
        ]
    }
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
