//! Convolutions: which bytes meet which weights. What is done with them is a kernel's.
//!
//! A dense convolution is a product of matrices whose left side is the input unrolled: a row for
//! each output pixel. That matrix is hardly ever written: for a plain 1x1 window the input is it
//! already, and other windows are read line by line, each line one run of bytes. Only padding makes
//! a copy, of a band of lines that stays in the first cache. Groups and steps inside a line are
//! unrolled (`unroll`).

use crate::arena::{carve, range};
use crate::format::{AvgPool, Conv, Depthwise, MaxPool, PANEL, QUAD};
use crate::kernels::{Channelwise, Gemm, Kernels};
use crate::load::Model;
use crate::team::{Cut, Hands, Part};
use crate::unroll::Unroll;

/// Bytes behind the rows in scratch: short copies go in whole vectors, and runs end in whole quads.
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

/// How a dense convolution reads its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The input is the matrix already: a plain 1x1 window.
    Plain,
    /// Rows of the window are read where they lie: there is no padding.
    InPlace,
    /// A band of lines is copied to scratch with its padding, and read there.
    Banded,
    /// A few rows of the matrix at a time are written to scratch.
    Unrolled,
}

/// Channels that an output sums over, of each pixel.
fn own_channels(op: &Conv) -> usize {
    (op.ic / op.groups) as usize
}

/// Which way it is; the loader has checked the sizes.
pub(crate) fn reading(op: &Conv) -> Reading {
    let whole = (op.kw as usize * own_channels(op)).is_multiple_of(QUAD);
    let one = (op.kh, op.kw, op.sh, op.sw, op.pt, op.pl) == (1, 1, 1, 1, 0, 0)
        && (op.oh, op.ow) == (op.ih, op.iw);
    if one && whole {
        return Reading::Plain;
    }
    if op.groups != 1 || op.dw != 1 {
        return Reading::Unrolled;
    }
    let reach =
        |out: u32, stride: u32, taps: u32, step: u32| (out - 1) * stride + (taps - 1) * step + 1;
    let inside = (op.pt, op.pl) == (0, 0)
        && reach(op.oh, op.sh, op.kh, op.dh) <= op.ih
        && reach(op.ow, op.sw, op.kw, op.dw) <= op.iw;
    if inside && whole { Reading::InPlace } else { Reading::Banded }
}

/// Runs of bytes that one output reads, and bytes of each: a window's rows, or all of it unrolled.
///
/// Every run meets whole quads of weights; zeros stand where it ends within one.
pub(crate) fn runs(op: &Conv) -> (usize, usize) {
    let (kh, kw) = (op.kh as usize, op.kw as usize);
    match reading(op) {
        Reading::Unrolled => (1, kh * kw * own_channels(op)),
        _ => (kh, kw * own_channels(op)),
    }
}

/// Weights of one output channel.
pub(crate) fn padded_depth(op: &Conv) -> usize {
    let (runs, run) = runs(op);
    runs * run.next_multiple_of(QUAD)
}

/// Bytes of a line in a band, and lines under `rows` rows of outputs.
fn band(op: &Conv, rows: u32) -> (u64, u64) {
    let reach = |out: u32, stride: u32, taps: u32, step: u32| {
        u64::from(out - 1) * u64::from(stride) + u64::from(taps - 1) * u64::from(step) + 1
    };
    let line = reach(op.ow, op.sw, op.kw, op.dw) * u64::from(op.ic);
    (line, reach(rows, op.sh, op.kh, op.dh))
}

/// Bytes of scratch for so many rows: of the matrix if it is unrolled, else of the output.
pub fn scratch_bytes(op: &Conv, rows: u32) -> u64 {
    let (line, lines) = band(op, rows.max(1));
    match reading(op) {
        Reading::Plain | Reading::InPlace => 0,
        Reading::Banded => line.saturating_mul(lines).saturating_add(SLACK as u64),
        Reading::Unrolled => u64::from(rows.max(1)) * padded_depth(op) as u64 + SLACK as u64,
    }
}

pub(crate) fn conv(model: &Model<'_>, hands: Hands<'_>, arena: &mut [u8], op: &Conv) -> Option<()> {
    let pixels_in = op.batch as usize * op.ih as usize * op.iw as usize;
    let pixels = op.batch as usize * op.oh as usize * op.ow as usize;
    let (ic, oc) = (op.ic as usize, op.oc as usize);
    let (group_in, group_out) = (own_channels(op), oc / op.groups as usize);
    let (reading, depth, (runs, run)) = (reading(op), padded_depth(op), runs(op));
    let columns = group_out.next_multiple_of(PANEL);
    let needs_scratch = matches!(reading, Reading::Banded | Reading::Unrolled);
    let scratch = if needs_scratch { op.scratch_bytes as usize } else { 0 };
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
        let gemm = Gemm {
            rows: pixels,
            runs,
            run: run.next_multiple_of(QUAD),
            inputs: run,
            run_stride: 0,
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
        match reading {
            Reading::Plain => product(hands, &gemm, output)?,
            Reading::InPlace | Reading::Banded => {
                by_lines(hands, op, &gemm, parts.scratch, output)?;
            }
            Reading::Unrolled => {
                let block = (scratch - SLACK) / depth;
                let mut unroll = Unroll::new(op, input, group * group_in);
                for first in (0..pixels).step_by(block) {
                    let rows = block.min(pixels - first);
                    let input = unroll.rows(parts.scratch, rows, depth);
                    let gemm = Gemm { rows, input, input_stride: depth, ..gemm };
                    product(hands, &gemm, output.get_mut(first * oc..)?)?;
                }
            }
        }
    }
    Some(())
}

/// Multiply-accumulates of so many rows of a product: more than 32 bits hold, perhaps.
fn work(rows: usize, of: &Gemm<'_>) -> u64 {
    rows as u64 * of.columns as u64 * of.depth() as u64
}

/// One product, cut by rows; a single row is cut by panels of channels.
fn product(hands: Hands<'_>, of: &Gemm<'_>, output: &mut [u8]) -> Option<()> {
    let parts = hands.team.parts(work(of.rows, of));
    let one = of.rows == 1;
    let (count, line) = if one { (of.columns / PANEL, PANEL) } else { (of.rows, of.output_stride) };
    if parts.min(count) < 2 {
        hands.kernels.gemm(of, output);
        return Some(());
    }
    let whole = Part { lines: 0..count, output, scratch: &mut [] };
    Cut { hands, line, scratch: 0 }.run(parts, whole, &|part| {
        let last = part.lines.end == count;
        let part_of = if one { of.panels(part.lines, last)? } else { of.rows(part.lines)? };
        hands.kernels.gemm(&part_of, part.output);
        Some(())
    })
}

/// A product for each line of the output, over the input itself or over lines that were copied with
/// their padding.
fn by_lines(
    hands: Hands<'_>,
    op: &Conv,
    gemm: &Gemm<'_>,
    scratch: &mut [u8],
    output: &mut [u8],
) -> Option<()> {
    let lines = op.batch as usize * op.oh as usize;
    let line = op.ow as usize * op.oc as usize;
    let parts = hands.team.parts(work(lines * op.ow as usize, gemm));
    let least = scratch_bytes(op, 1) as usize;
    let whole = Part { lines: 0..lines, output, scratch };
    Cut { hands, line, scratch: least }.run(parts, whole, &|part| match least {
        0 => in_place(hands.kernels, op, gemm, part),
        _ => banded(hands.kernels, op, gemm, part),
    })
}

fn in_place(kernels: Kernels, op: &Conv, gemm: &Gemm<'_>, part: Part<'_>) -> Option<()> {
    let (ow, oc, line) = (op.ow as usize, op.oc as usize, op.iw as usize * op.ic as usize);
    for (index, at) in part.lines.enumerate() {
        let (image, oy) = (at / op.oh as usize, at % op.oh as usize);
        let input = gemm.input.get((image * op.ih as usize + oy * op.sh as usize) * line..)?;
        let gemm = Gemm {
            rows: ow,
            input,
            input_stride: op.sw as usize * op.ic as usize,
            run_stride: op.dh as usize * line,
            ..*gemm
        };
        kernels.gemm(&gemm, part.output.get_mut(index * ow * oc..)?);
    }
    Some(())
}

fn banded(kernels: Kernels, op: &Conv, gemm: &Gemm<'_>, part: Part<'_>) -> Option<()> {
    let (ow, oh, oc, ic) = (op.ow as usize, op.oh as usize, op.oc as usize, op.ic as usize);
    let (line, least) = band(op, 1);
    let (line, least) = (line as usize, least as usize);
    let most = 1 + ((part.scratch.len() - SLACK) / line).checked_sub(least)? / op.sh as usize;
    let mut at = part.lines.start;
    while at < part.lines.end {
        let (image, first) = (at / oh, at % oh);
        let rows = most.min(oh - first).min(part.lines.end - at);
        fill_band(op, gemm.input, (image, first, rows), line, part.scratch)?;
        for row in 0..rows {
            let gemm = Gemm {
                rows: ow,
                input: part.scratch.get(row * op.sh as usize * line..)?,
                input_stride: op.sw as usize * ic,
                run_stride: op.dh as usize * line,
                ..*gemm
            };
            let at = (at - part.lines.start + row) * ow * oc;
            kernels.gemm(&gemm, part.output.get_mut(at..)?);
        }
        at += rows;
    }
    Some(())
}

/// Copies the lines under `rows` lines of the output, each of `line` bytes with its padding.
fn fill_band(
    op: &Conv,
    input: &[u8],
    (image, first, rows): (usize, usize, usize),
    line: usize,
    scratch: &mut [u8],
) -> Option<()> {
    let ic = op.ic as usize;
    let left = (op.pl as usize * ic).min(line);
    let (_, lines) = band(op, rows as u32);
    let top = (first * op.sh as usize) as i64 - i64::from(op.pt);
    for (index, out) in scratch.chunks_exact_mut(line).take(lines as usize).enumerate() {
        let iy = usize::try_from(top + index as i64).ok();
        let Some(iy) = iy.filter(|&iy| iy < op.ih as usize) else {
            out.fill(op.zx as u8);
            continue;
        };
        let from = (image * op.ih as usize + iy) * op.iw as usize * ic;
        let inside = (op.iw as usize * ic).min(line - left);
        out[..left].fill(op.zx as u8);
        out[left..left + inside].copy_from_slice(input.get(from..from + inside)?);
        out[left + inside..].fill(op.zx as u8);
    }
    Some(())
}

pub(crate) fn depthwise(
    model: &Model<'_>,
    hands: Hands<'_>,
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
        lines: (0, op.oh),
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
    by_channels(hands, &of, parts.output)
}

/// One image is cut by lines, several image by image.
fn by_channels(hands: Hands<'_>, of: &Channelwise<'_>, output: &mut [u8]) -> Option<()> {
    let window = &of.window;
    let taps = u64::from(window.kh) * u64::from(window.kw);
    let parts = hands.team.parts(output.len() as u64 * taps);
    let line = window.ow as usize * of.channels * of.multiplier;
    let image = window.oh as usize * line;
    let one = of.batch == 1;
    let (count, line) = if one { (window.oh as usize, line) } else { (of.batch, image) };
    let whole = Part { lines: 0..count, output, scratch: &mut [] };
    Cut { hands, line, scratch: 0 }.run(parts, whole, &|part| {
        let part_of = if one { of.lines(part.lines) } else { of.images(part.lines)? };
        hands.kernels.depthwise(&part_of, part.output);
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_what_lies_inside() {
        // Asked place by place, over every small geometry.
        for size in 1..6 {
            for (taps, step, stride, pad) in (1..5).flat_map(|t| {
                (1..4)
                    .flat_map(move |d| (1..4).flat_map(move |s| (0..4).map(move |p| (t, d, s, p))))
            }) {
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
