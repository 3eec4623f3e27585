//! Each channel by itself, eight at a time: `smlal` over bytes widened to 16 bits.

use super::requant::{Bounds, bytes, reals, words};
use crate::kernels::Channelwise;
use crate::kernels::channelwise::{Block, TAPS_MAX, blocks};
use core::arch::aarch64::*;
use core::ops::Range;

/// Channels of a block.
const LANES: usize = 8;

/// [`super::takes`] has said yes: at least 8 channels, no zero points, a window that is not too large.
pub(super) fn depthwise(of: &Channelwise<'_>, output: &mut [u8]) {
    let small = (of.window.kh, of.window.kw) == (3, 3);
    blocks(of, LANES, output, |block, lines, output| match small {
        true => three_by_three(block, lines, output),
        false => any(block, lines, output),
    });
}

/// Eight sums, and how they become bytes.
#[derive(Clone, Copy)]
struct Sums {
    acc: [int32x4_t; 2],
    mult: [float32x4_t; 2],
    bounds: Bounds,
}

impl Sums {
    #[inline(always)]
    fn new(of: &Channelwise<'_>, from: usize) -> Self {
        Self {
            acc: [words(of.bias, from), words(of.bias, from + 4)],
            mult: [reals(of.mult, from), reals(of.mult, from + 4)],
            bounds: Bounds::new(of.zy, of.lo, of.hi),
        }
    }

    #[inline(always)]
    fn add(&mut self, x: int16x8_t, w: int16x8_t) {
        // SAFETY: NEON belongs to every AArch64 that Rust builds for.
        unsafe {
            self.acc[0] = vmlal_s16(self.acc[0], vget_low_s16(x), vget_low_s16(w));
            self.acc[1] = vmlal_high_s16(self.acc[1], x, w);
        }
    }

    #[inline(always)]
    fn store(&self, to: &mut [u8]) {
        let of = |half: usize| self.bounds.apply(self.acc[half], self.mult[half]);
        let to = &mut to[..LANES];
        // SAFETY: the slice has the 8 bytes that are written.
        unsafe { vst1_u8(to.as_mut_ptr(), bytes(of(0), of(1))) };
    }
}

/// Eight weights, widened.
#[inline(always)]
fn weights(of: &Channelwise<'_>, tap: usize, from: usize) -> int16x8_t {
    let bytes = &of.weights[tap * of.channels + from..][..LANES];
    // SAFETY: the slice has the 8 bytes that are read.
    unsafe { vmovl_s8(vreinterpret_s8_u8(vld1_u8(bytes.as_ptr()))) }
}

/// Eight bytes of input, widened.
///
/// # Safety
/// `LANES` bytes can be read there.
#[inline(always)]
unsafe fn input(at: *const u8) -> int16x8_t {
    // SAFETY: the caller's promise.
    unsafe { vreinterpretq_s16_u16(vmovl_u8(vld1_u8(at))) }
}

/// Eight channels under a 3x3 window. A column is met by three windows: it is read and widened once.
fn three_by_three(block: &Block<'_>, lines: Range<u32>, output: &mut [u8]) {
    let (of, window, from) = (block.of, &block.of.window, block.from);
    let place = |kx: usize, ky: usize| weights(of, ky * 3 + kx, from);
    let weights = [0, 1, 2].map(|kx| [place(kx, 0), place(kx, 1), place(kx, 2)]);
    let start = Sums::new(of, from);
    // By how many columns of the window it moves from pixel to pixel; 0 stands for all others.
    let moves = if window.sw.is_multiple_of(window.dw) { window.sw / window.dw } else { 0 };
    let step = window.dw as i32;
    for (oy, pixels) in block.lines(lines, output) {
        let columns = block.columns(oy, LANES);
        // SAFETY: the block's channels can be read at every place of a column.
        let column = |ix: i32| columns.at(ix).map(|at| unsafe { input(at) });
        let mut ix = -(window.pl as i32);
        let (mut a, mut b) = (column(ix), column(ix + step));
        for output in pixels {
            let c = column(ix + 2 * step);
            let mut sums = start;
            for (column, weights) in [a, b, c].into_iter().zip(weights) {
                for (x, w) in column.into_iter().zip(weights) {
                    sums.add(x, w);
                }
            }
            sums.store(&mut output[from..]);
            ix += window.sw as i32;
            (a, b) = match moves {
                1 => (b, c),
                2 => (c, column(ix + step)),
                _ => (column(ix), column(ix + step)),
            };
        }
    }
}

/// Eight channels under any window.
fn any(block: &Block<'_>, lines: Range<u32>, output: &mut [u8]) {
    let (of, window, from) = (block.of, &block.of.window, block.from);
    let taps = (window.kh * window.kw) as usize;
    let start = Sums::new(of, from);
    let mut packed = [weights(of, 0, from); TAPS_MAX];
    for (tap, packed) in packed.iter_mut().enumerate().take(taps) {
        *packed = weights(of, tap, from);
    }
    let mut places = [[of.padding[from..].as_ptr()]; TAPS_MAX];
    for (oy, pixels) in block.lines(lines, output) {
        let rows = window.rows(oy);
        for (ox, output) in pixels.enumerate() {
            let base = (ox as u32 * window.sw) as i32 - window.pl as i32;
            block.see(&mut places, rows, base);
            let mut sums = start;
            for (&[at], &w) in places.iter().zip(&packed).take(taps) {
                // SAFETY: the block's channels can be read at every place that a window sees.
                sums.add(unsafe { input(at) }, w);
            }
            sums.store(&mut output[from..]);
        }
    }
}
