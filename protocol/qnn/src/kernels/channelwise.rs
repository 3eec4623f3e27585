//! How a convolution of each channel by itself is walked, whatever the size of the vectors: a few lines
//! of the output, a block of channels, then all pixels of the lines.
//!
//! In that order the lines of the input that a window sees stay in the first cache while the blocks
//! of channels pass.

use crate::conv::Span;
use crate::kernels::Channelwise;
use core::ops::Range as Lines;

/// Places of a window at most; larger ones are the portable kernel's.
pub(crate) const TAPS_MAX: usize = 64;
/// Bytes of input that all blocks of channels meet before the next lines come: half of the first cache.
const BAND_BYTES: usize = 16 << 10;

/// A block of channels of one image.
pub(crate) struct Block<'a> {
    pub(crate) of: &'a Channelwise<'a>,
    image: &'a [u8],
    /// The first of its channels.
    pub(crate) from: usize,
}

/// Calls with every block of `step` channels and every few lines, and with the image's output.
///
/// A last block that would reach beyond the channels begins earlier and repeats some.
#[inline(always)]
pub(crate) fn blocks(
    of: &Channelwise<'_>,
    step: usize,
    output: &mut [u8],
    mut each: impl FnMut(&Block<'_>, Lines<u32>, &mut [u8]),
) {
    let window = &of.window;
    let line_in = window.iw as usize * of.channels;
    let bytes_in = window.ih as usize * line_in;
    let bytes_out = ((of.lines.1 - of.lines.0) * window.ow) as usize * of.channels;
    let band = (BAND_BYTES / (line_in * window.sh as usize)).clamp(1, window.oh as usize);
    for (index, output) in output.chunks_exact_mut(bytes_out).take(of.batch).enumerate() {
        let image = &of.input[index * bytes_in..][..bytes_in];
        for first in (of.lines.0..of.lines.1).step_by(band) {
            let lines = first..of.lines.1.min(first + band as u32);
            for from in (0..of.channels).step_by(step) {
                let block = Block { of, image, from: from.min(of.channels - step) };
                each(&block, lines.clone(), output);
            }
        }
    }
}

impl<'a> Block<'a> {
    /// Lines of the output, each with its number.
    #[inline(always)]
    pub(crate) fn lines<'o>(
        &self,
        lines: Lines<u32>,
        output: &'o mut [u8],
    ) -> impl Iterator<Item = (u32, core::slice::ChunksExactMut<'o, u8>)> + use<'o> {
        let bytes = self.of.window.ow as usize * self.of.channels;
        let channels = self.of.channels;
        let at = |line: u32| (line - self.of.lines.0) as usize * bytes;
        let part = &mut output[at(lines.start)..at(lines.end)];
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

    /// All places of the window whose first column is `base`, `N` of them in a group. At each of them
    /// the block's channels can be read.
    #[inline(always)]
    pub(crate) fn see<const N: usize>(&self, places: &mut [[*const u8; N]], rows: Span, base: i32) {
        let window = &self.of.window;
        let mut tap = 0;
        for ky in 0..window.kh {
            for kx in 0..window.kw {
                places[tap / N][tap % N] = self.place(rows, ky, base + (kx * window.dw) as i32);
                tap += 1;
            }
        }
    }

    #[cfg(qnn_dsp)]
    /// From all places of one window to those of the next in its line, if both lie in the image from
    /// the left to the right.
    #[inline(always)]
    pub(crate) fn step(&self, places: &mut [[*const u8; 1]], rows: Span) {
        let (window, channels) = (&self.of.window, self.of.channels);
        // The other rows are padding.
        for [place] in &mut places[(rows.from * window.kw) as usize..(rows.to * window.kw) as usize]
        {
            *place = place.wrapping_add(window.sw as usize * channels);
        }
    }

    #[cfg(not(qnn_dsp))]
    /// Three lines of the input under a line of the output, at the block's first `bytes` channels.
    #[inline(always)]
    pub(crate) fn columns(&self, oy: u32, bytes: usize) -> Columns<'a> {
        let (window, channels, from) = (&self.of.window, self.of.channels, self.from);
        let (rows, padding) = (window.rows(oy), &self.of.padding[from..][..bytes]);
        let (mut lines, mut masks) = ([padding; 3], [0; 3]);
        for ky in rows.from..rows.to {
            let iy = (rows.base + (ky * window.dh) as i32) as usize;
            let line = window.iw as usize * channels;
            lines[ky as usize] = &self.image[iy * line..][..line][from..];
            masks[ky as usize] = usize::MAX;
        }
        Columns { lines, masks, padding, channels, iw: window.iw }
    }
}

#[cfg(not(qnn_dsp))]
/// Three lines of the input, at a block of channels.
pub(crate) struct Columns<'a> {
    /// The first pixel of each line, or the padding.
    lines: [&'a [u8]; 3],
    /// Which bits of an offset count: none where the line is padding.
    masks: [usize; 3],
    padding: &'a [u8],
    channels: usize,
    iw: u32,
}

#[cfg(not(qnn_dsp))]
impl Columns<'_> {
    /// Where a column's three pixels lie. At each of them the block's channels can be read: the padding
    /// has them, and so has a line that is padding, of which no offset counts. Any other line has `iw`
    /// pixels of `channels` bytes less the first `from`, and the block ends within the channels: so as
    /// many bytes lie behind each pixel's offset.
    #[inline(always)]
    pub(crate) fn at(&self, ix: i32) -> [*const u8; 3] {
        let mut places = [self.padding.as_ptr(); 3];
        if (ix as u32) < self.iw {
            let offset = ix as usize * self.channels;
            for (place, (line, mask)) in places.iter_mut().zip(self.lines.iter().zip(self.masks)) {
                *place = line.as_ptr().wrapping_add(offset & mask);
            }
        }
        places
    }
}
