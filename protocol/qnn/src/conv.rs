//! Convolutions: which bytes meet which weights. What is done with them is a kernel's.
//!
//! A dense convolution is a product of matrices whose left side is the input unrolled: a row for
//! each output pixel. A plain 1x1 window needs no unrolling, the input is that matrix already;
//! everything else is unrolled a few rows at a time into scratch that stays in the first cache.

use crate::arena::{carve, range};
use crate::format::{AvgPool, Conv, Depthwise, MaxPool, PANEL, QUAD};
use crate::kernels::{Channelwise, Gemm, Kernels};
use crate::load::Model;

/// Bytes behind the rows in scratch that a short copy may write: copies go in whole vectors.
pub(crate) const SLACK: usize = 16;

/// The geometry of a window that slides over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) ih: u32,
    pub(crate) iw: u32,
    pub(crate) oh: u32,
    pub(crate) ow: u32,
    pub(crate) kh: u32,
    pub(crate) kw: u32,
    pub(crate) sh: u32,
    pub(crate) sw: u32,
    pub(crate) dh: u32,
    pub(crate) dw: u32,
    pub(crate) pt: u32,
    pub(crate) pl: u32,
}

macro_rules! window_of {
    ($($op:ident),*) => {
        $(impl From<&$op> for Window {
            fn from(op: &$op) -> Self {
                let &$op { ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, pt, pl, .. } = op;
                Self { ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, pt, pl }
            }
        })*
    };
}
window_of!(Conv, Depthwise, MaxPool, AvgPool);

impl Window {
    /// Row of the input under the first row of the window, and the rows of the window inside it.
    pub(crate) fn rows(&self, oy: u32) -> Span {
        Span::new(oy, self.sh, self.pt, self.kh, self.dh, self.ih)
    }

    /// Column of the input under the first column of the window, and the columns inside it.
    pub(crate) fn columns(&self, ox: u32) -> Span {
        Span::new(ox, self.sw, self.pl, self.kw, self.dw, self.iw)
    }
}

/// Which places of a window along one axis lie inside the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Where the first place lies, perhaps before the input.
    pub(crate) base: i32,
    /// First place inside.
    pub(crate) from: u32,
    /// One behind the last place inside.
    pub(crate) to: u32,
}

impl Span {
    #[inline]
    fn new(out: u32, stride: u32, pad: u32, taps: u32, step: u32, size: u32) -> Self {
        // The loader has checked that none of this leaves an i32.
        let base = (out * stride) as i32 - pad as i32;
        let from = if base < 0 { base.unsigned_abs().div_ceil(step) } else { 0 };
        let room = size as i32 - base;
        let to = if room <= 0 { 0 } else { taps.min((room as u32).div_ceil(step)) };
        Self { base, from: from.min(to), to }
    }
}

/// Whether the input is the matrix already.
pub(crate) fn is_plain(op: &Conv) -> bool {
    (op.kh, op.kw, op.sh, op.sw, op.pt, op.pl) == (1, 1, 1, 1, 0, 0)
        && (op.oh, op.ow) == (op.ih, op.iw)
        && (op.ic / op.groups) as usize % QUAD == 0
}

/// What one output sums over, rounded up to whole quads.
pub(crate) fn padded_depth(op: &Conv) -> usize {
    (op.kh as usize * op.kw as usize * (op.ic / op.groups) as usize).next_multiple_of(QUAD)
}

pub(crate) fn conv(model: &Model<'_>, kernels: Kernels, arena: &mut [u8], op: &Conv) -> Option<()> {
    let pixels_in = op.batch as usize * op.ih as usize * op.iw as usize;
    let pixels = op.batch as usize * op.oh as usize * op.ow as usize;
    let (ic, oc) = (op.ic as usize, op.oc as usize);
    let (group_in, group_out) = (ic / op.groups as usize, oc / op.groups as usize);
    let (depth, plain) = (padded_depth(op), is_plain(op));
    let columns = group_out.next_multiple_of(PANEL);
    let scratch = if plain { 0 } else { op.scratch_bytes as usize };
    let parts = carve(arena, range(op.output, pixels * oc), range(op.scratch, scratch))?;
    let input = parts.read(op.input, pixels_in * ic)?;
    let all = columns * op.groups as usize;
    let weights = model.data(op.weights, all * depth)?;
    let bias = model.data(op.bias, all * 4)?;
    let mult = model.data(op.mult, all * 4)?;
    let wzp = if op.wzp == 0 { None } else { Some(model.data(op.wzp, all * 4)?) };
    for group in 0..op.groups as usize {
        let part = group * columns..(group + 1) * columns;
        let words = part.start * 4..part.end * 4;
        let mut gemm = Gemm {
            rows: pixels,
            depth,
            inputs: op.kh as usize * op.kw as usize * group_in,
            columns: group_out,
            input: input.get(group * group_in..)?,
            input_stride: ic,
            weights: weights.get(part.start * depth..part.end * depth)?,
            bias: bias.get(words.clone())?,
            mult: mult.get(words.clone())?,
            wzp: wzp.and_then(|wzp| wzp.get(words)),
            zy: op.zy as i32,
            lo: op.lo as i32,
            hi: op.hi as i32,
            output_stride: oc,
        };
        let output = parts.output.get_mut(group * group_out..)?;
        if plain {
            gemm.input = &gemm.input[..(pixels - 1) * ic + depth];
            kernels.gemm(&gemm, output);
            continue;
        }
        let block = (scratch - SLACK) / depth;
        gemm.input_stride = depth;
        let mut unroll = Unroll::new(op, input, group * group_in);
        for first in (0..pixels).step_by(block) {
            let rows = block.min(pixels - first);
            let unrolled = unroll.rows(parts.scratch, rows, depth);
            let gemm = Gemm { rows, input: unrolled, ..gemm };
            kernels.gemm(&gemm, output.get_mut(first * oc..)?);
        }
    }
    Some(())
}

/// Writes the rows of the unrolled input, one output pixel after the other.
struct Unroll<'a> {
    window: Window,
    input: &'a [u8],
    /// Channels of a pixel, and those of the group: where they begin, and how many.
    ic: usize,
    from: usize,
    take: usize,
    zx: u8,
    image: usize,
    oy: u32,
    ox: u32,
}

impl<'a> Unroll<'a> {
    fn new(op: &Conv, input: &'a [u8], from: usize) -> Self {
        let (ic, take) = (op.ic as usize, (op.ic / op.groups) as usize);
        let window = Window::from(op);
        Self { window, input, ic, from, take, zx: op.zx as u8, image: 0, oy: 0, ox: 0 }
    }

    fn rows<'s>(&mut self, scratch: &'s mut [u8], rows: usize, depth: usize) -> &'s [u8] {
        for row in 0..rows {
            self.row(&mut scratch[row * depth..]);
            self.ox += 1;
            if self.ox == self.window.ow {
                (self.ox, self.oy) = (0, self.oy + 1);
            }
            if self.oy == self.window.oh {
                (self.oy, self.image) = (0, self.image + 1);
            }
        }
        &scratch[..rows * depth]
    }

    /// One row. Bytes behind it may be written: they belong to the next row, or to the slack.
    fn row(&self, out: &mut [u8]) {
        let of = &self.window;
        let (rows, columns) = (of.rows(self.oy), of.columns(self.ox));
        let (take, kw) = (self.take, of.kw as usize);
        let together = of.dw == 1 && take == self.ic;
        let mut at = 0;
        for ky in 0..of.kh {
            if !(rows.from..rows.to).contains(&ky) {
                out[at..at + kw * take].fill(self.zx);
                at += kw * take;
                continue;
            }
            let iy = (rows.base + (ky * of.dh) as i32) as usize;
            let line = (self.image * of.ih as usize + iy) * of.iw as usize;
            let left = columns.from as usize * take;
            out[at..at + left].fill(self.zx);
            let inside = (columns.to - columns.from) as usize;
            let ix = columns.base + (columns.from * of.dw) as i32;
            let mut from = (line + ix.max(0) as usize) * self.ic + self.from;
            if together {
                copy(out, at + left, self.input, from, inside * take);
            } else {
                for place in 0..inside {
                    copy(out, at + left + place * take, self.input, from, take);
                    from += of.dw as usize * self.ic;
                }
            }
            let right = at + left + inside * take;
            at += kw * take;
            out[right..at].fill(self.zx);
        }
    }
}

/// Copies, and lets a short copy write up to a vector's length: one move instead of a call.
#[inline(always)]
fn copy(out: &mut [u8], at: usize, input: &[u8], from: usize, len: usize) {
    if len <= SLACK
        && let (Some(to), Some(bytes)) =
            (out.get_mut(at..at + SLACK), input.get(from..from + SLACK))
    {
        to.copy_from_slice(bytes);
    } else {
        out[at..at + len].copy_from_slice(&input[from..from + len]);
    }
}

pub(crate) fn depthwise(
    model: &Model<'_>,
    kernels: Kernels,
    arena: &mut [u8],
    op: &Depthwise,
) -> Option<()> {
    let window = Window::from(op);
    let (ic, multiplier) = (op.ic as usize, op.multiplier as usize);
    let channels = ic * multiplier;
    let input = op.batch as usize * op.ih as usize * op.iw as usize * ic;
    let output = op.batch as usize * op.oh as usize * op.ow as usize * channels;
    let parts = carve(arena, range(op.output, output), range(op.scratch, ic))?;
    parts.scratch.fill(op.zx as u8);
    let words = |at| model.data(at, channels * 4);
    let of = Channelwise {
        window,
        batch: op.batch as usize,
        channels: ic,
        multiplier,
        input: parts.read(op.input, input)?,
        padding: parts.scratch,
        weights: model.data(op.weights, op.kh as usize * op.kw as usize * channels)?,
        bias: words(op.bias)?,
        mult: words(op.mult)?,
        wzp: if op.wzp == 0 { None } else { Some(words(op.wzp)?) },
        zy: op.zy as i32,
        lo: op.lo as i32,
        hi: op.hi as i32,
    };
    kernels.depthwise(&of, parts.output);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_what_lies_inside() {
        // Asked place by place, over every small geometry.
        for size in 1..6 {
            for (taps, step, stride, pad) in
                (1..5).flat_map(|t| (1..4).flat_map(move |d| (1..4).flat_map(move |s| (0..4).map(move |p| (t, d, s, p)))))
            {
                for out in 0..5 {
                    let span = Span::new(out, stride, pad, taps, step, size);
                    for tap in 0..taps {
                        let at = (out * stride + tap * step) as i32 - pad as i32;
                        let inside = (0..size as i32).contains(&at);
                        assert_eq!((span.from..span.to).contains(&tap), inside, "{span:?} {tap}");
                    }
                }
            }
        }
    }
}
