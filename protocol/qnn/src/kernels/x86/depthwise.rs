//! Each channel by itself: a few lines of the output, a block of channels, then all pixels of the lines.
//!
//! In that order the lines of the input that a window sees stay in the first cache while the blocks
//! of channels pass. Two places of the window are multiplied by one instruction: `vpmaddwd` sums pairs.

use super::requant::{Range, bytes};
use crate::conv::Span;
use crate::kernels::Channelwise;
use core::arch::x86_64::*;
use core::ops::Range as Lines;

/// Places of a window at most; larger ones are the portable kernel's.
pub(super) const TAPS_MAX: usize = 64;
/// Bytes of input that all blocks of channels meet before the next lines come: half of the first cache.
const BAND_BYTES: usize = 16 << 10;

/// A block of channels of one image.
struct Block<'a> {
    of: &'a Channelwise<'a>,
    image: &'a [u8],
    /// The first of its channels.
    from: usize,
    range: Range,
}

/// [`super::takes`] has said yes: at least 8 channels, no zero points, a window that is not too large.
#[target_feature(enable = "avx2,fma")]
pub(super) fn depthwise(of: &Channelwise<'_>, output: &mut [u8]) {
    let window = &of.window;
    let line_in = window.iw as usize * of.channels;
    let bytes_in = window.ih as usize * line_in;
    let bytes_out = (window.oh * window.ow) as usize * of.channels;
    let range = Range::new(of.zy, of.lo, of.hi);
    let taps = window.kh * window.kw;
    let small = (window.kh, window.kw) == (3, 3);
    let wide = of.channels >= 16;
    let step = if wide { 16 } else { 8 };
    let band = (BAND_BYTES / (line_in * window.sh as usize)).clamp(1, window.oh as usize);
    for (index, output) in output.chunks_exact_mut(bytes_out).take(of.batch).enumerate() {
        let image = &of.input[index * bytes_in..][..bytes_in];
        for first in (0..window.oh).step_by(band) {
            let lines = first..window.oh.min(first + band as u32);
            for from in (0..of.channels).step_by(step) {
                // A last block that would reach beyond the channels begins earlier and repeats some.
                let block = Block { of, image, from: from.min(of.channels - step), range };
                let lines = lines.clone();
                // What is set aside for weights fits the window: it is cleared for each block.
                match (small, wide, taps) {
                    (true, true, _) => block.three_by_three::<2>(lines, output),
                    (true, ..) => block.three_by_three::<1>(lines, output),
                    (_, true, ..=4) => block.any::<2, 2>(lines, output),
                    (_, true, ..=8) => block.any::<2, 4>(lines, output),
                    (_, true, ..=16) => block.any::<2, 8>(lines, output),
                    (_, true, _) => block.any::<2, { TAPS_MAX / 2 }>(lines, output),
                    _ => block.any::<1, { TAPS_MAX / 2 }>(lines, output),
                }
            }
        }
    }
}

impl Block<'_> {
    /// Lines of the output, each with its number.
    #[inline(always)]
    fn lines<'o>(
        &self,
        lines: Lines<u32>,
        output: &'o mut [u8],
    ) -> impl Iterator<Item = (u32, core::slice::ChunksExactMut<'o, u8>)> + use<'o> {
        let bytes = self.of.window.ow as usize * self.of.channels;
        let channels = self.of.channels;
        let part = &mut output[lines.start as usize * bytes..lines.end as usize * bytes];
        lines.zip(part.chunks_exact_mut(bytes).map(move |line| line.chunks_exact_mut(channels)))
    }

    /// Where the block's channels of a pixel lie: in the image, or in the padding.
    #[inline(always)]
    fn place(&self, rows: Span, ky: u32, ix: i32) -> *const u8 {
        let (window, channels) = (&self.of.window, self.of.channels);
        let inside = (rows.from..rows.to).contains(&ky) && (ix as u32) < window.iw;
        if !inside {
            return self.of.padding[self.from..].as_ptr();
        }
        let iy = (rows.base + (ky * window.dh) as i32) as usize;
        let pixel = iy * window.iw as usize + ix as usize;
        self.image[pixel * channels + self.from..].as_ptr()
    }

    /// `8 * H` channels under a 3x3 window. A column is met by three windows: it is widened once.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn three_by_three<const H: usize>(&self, lines: Lines<u32>, output: &mut [u8]) {
        let (of, window, from) = (self.of, &self.of.window, self.from);
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
        let slides = (window.sw, window.dw) == (1, 1);
        let step = window.dw as i32;
        for (oy, pixels) in self.lines(lines, output) {
            let columns = Columns::new(self, window.rows(oy), 8 * H);
            let mut ix = -(window.pl as i32);
            let (mut a, mut b) = (columns.at::<H>(ix), columns.at::<H>(ix + step));
            for output in pixels {
                let c = columns.at::<H>(ix + 2 * step);
                let mut acc = bias;
                for (column, weights) in [a, b, c].iter().zip(&weights) {
                    for ((acc, rows), weights) in acc.iter_mut().zip(column).zip(weights) {
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(rows[0], weights[0]));
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(rows[1], weights[1]));
                    }
                }
                for (acc, &mult) in acc.iter_mut().zip(&mult) {
                    *acc = self.range.apply(*acc, _mm256_castsi256_ps(mult));
                }
                store::<H>(acc, &mut output[from..from + 8 * H]);
                ix += window.sw as i32;
                (a, b) =
                    if slides { (b, c) } else { (columns.at::<H>(ix), columns.at::<H>(ix + step)) };
            }
        }
    }

    /// `8 * H` channels under any window of at most `2 * P` places.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn any<const H: usize, const P: usize>(&self, lines: Lines<u32>, output: &mut [u8]) {
        let (of, window, from) = (self.of, &self.of.window, self.from);
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
        for (oy, pixels) in self.lines(lines, output) {
            let rows = window.rows(oy);
            for (ox, output) in pixels.enumerate() {
                let base = (ox as u32 * window.sw) as i32 - window.pl as i32;
                self.see(&mut places, rows, base);
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
                    *acc = self.range.apply(*acc, _mm256_castsi256_ps(mult));
                }
                store::<H>(acc, &mut output[from..from + 8 * H]);
            }
        }
    }

    /// All places of the window whose first column is `base`.
    #[inline(always)]
    fn see(&self, places: &mut [[*const u8; 2]], rows: Span, base: i32) {
        let window = &self.of.window;
        let mut tap = 0;
        for ky in 0..window.kh {
            for kx in 0..window.kw {
                places[tap / 2][tap % 2] = self.place(rows, ky, base + (kx * window.dw) as i32);
                tap += 1;
            }
        }
    }
}

/// Three lines of the input under a line of the output, at a block of channels.
struct Columns<'a> {
    /// The first pixel of each line, or the padding.
    lines: [&'a [u8]; 3],
    /// Which bits of an offset count: none where the line is padding.
    masks: [usize; 3],
    padding: &'a [u8],
    channels: usize,
    iw: u32,
}

impl<'a> Columns<'a> {
    #[inline(always)]
    fn new(block: &Block<'a>, rows: Span, bytes: usize) -> Self {
        let (window, channels, from) = (&block.of.window, block.of.channels, block.from);
        let padding = &block.of.padding[from..][..bytes];
        let (mut lines, mut masks) = ([padding; 3], [0; 3]);
        for ky in rows.from..rows.to {
            let iy = (rows.base + (ky * window.dh) as i32) as usize;
            let line = window.iw as usize * channels;
            lines[ky as usize] = &block.image[iy * line..][..line][from..];
            masks[ky as usize] = usize::MAX;
        }
        Self { lines, masks, padding, channels, iw: window.iw }
    }

    /// One column of the input, widened: for each eight channels the first two rows as pairs, and the
    /// third with nothing.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn at<const H: usize>(&self, ix: i32) -> [[__m256i; 2]; H] {
        let inside = (ix as u32) < self.iw;
        let offset = if inside { ix as usize * self.channels } else { 0 };
        let mut places = [self.padding.as_ptr(); 3];
        if inside {
            for (place, (line, mask)) in places.iter_mut().zip(self.lines.iter().zip(self.masks)) {
                *place = line.as_ptr().wrapping_add(offset & mask);
            }
        }
        let mut column = [[_mm256_setzero_si256(); 2]; H];
        for (half, column) in column.iter_mut().enumerate() {
            // SAFETY: the padding has the block's `8 * H` bytes, and so has a line that is padding, of
            // which no offset counts. Any other has `iw` pixels of `channels` bytes less the first
            // `from`, and `from + 8 * H <= channels`: so as many lie behind each pixel's offset.
            unsafe {
                let top = load_at::<1>(places[0].add(8 * half));
                let middle = load_at::<1>(places[1].add(8 * half));
                let bottom = load_at::<1>(places[2].add(8 * half));
                column[0] = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(top, middle));
                column[1] = _mm256_cvtepu8_epi32(bottom);
            }
        }
        column
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
