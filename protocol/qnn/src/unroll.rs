//! The input unrolled: a row for each output pixel, for windows that [`super::conv`] cannot read in place.

use crate::conv::{SLACK, Window};
use crate::format::Conv;

/// Writes the rows of the unrolled input, one output pixel after the other.
pub(crate) struct Unroll<'a> {
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
    pub(crate) fn new(op: &Conv, input: &'a [u8], from: usize) -> Self {
        let (ic, take) = (op.ic as usize, (op.ic / op.groups) as usize);
        let window = Window::from(op);
        Self { window, input, ic, from, take, zx: op.zx as u8, image: 0, oy: 0, ox: 0 }
    }

    pub(crate) fn rows<'s>(
        &mut self,
        scratch: &'s mut [u8],
        rows: usize,
        depth: usize,
    ) -> &'s [u8] {
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
    } else if len > 0 {
        // Nothing may lie anywhere, also behind the input.
        out[at..at + len].copy_from_slice(&input[from..from + len]);
    }
}
