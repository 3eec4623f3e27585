//! Linear interpolation: each pixel from two rows and two columns, whose shares the compiler worked out.

use crate::arena::{carve, range};
use crate::arith::{clamp, round_even};
use crate::format::Resize;
use crate::kernels::real;
use crate::load::Model;

/// Bytes of what is known of one row or column of the output.
pub(crate) const TAP_BYTES: usize = 16;

/// Two places of one axis, and how much of each.
#[derive(Debug, Clone, Copy)]
struct Taps {
    at: [usize; 2],
    share: [f32; 2],
}

/// What the file says of the `index`-th row or column; no place lies outside of `size`.
fn taps(bytes: &[u8], index: usize, size: u32) -> Taps {
    let words = &bytes[index * TAP_BYTES..][..TAP_BYTES];
    let place = |at: usize| real(words, at).to_bits().min(size - 1) as usize;
    Taps { at: [place(0), place(1)], share: [real(words, 2), real(words, 3)] }
}

pub(crate) fn resize(model: &Model<'_>, arena: &mut [u8], op: &Resize) -> Option<()> {
    let (ih, iw, ic) = (op.ih as usize, op.iw as usize, op.ic as usize);
    let (oh, ow, batch) = (op.oh as usize, op.ow as usize, op.batch as usize);
    let rows = model.data(op.rows, oh * TAP_BYTES)?;
    let columns = model.data(op.columns, ow * TAP_BYTES)?;
    let parts = carve(arena, range(op.output, batch * oh * ow * ic), 0..0)?;
    let input = parts.read(op.input, batch * ih * iw * ic)?;
    let (zx, zy, mult) = (op.zx as i32, op.zy as i32, f32::from_bits(op.mult));
    let (lo, hi) = ((op.lo as i32 - zy) as f32, (op.hi as i32 - zy) as f32);
    let mut pixels = parts.output.chunks_exact_mut(ic);
    for (image, oy) in (0..batch).flat_map(|image| (0..oh).map(move |oy| (image, oy))) {
        let row = taps(rows, oy, op.ih);
        for ox in 0..ow {
            let column = taps(columns, ox, op.iw);
            let pixel = |y: usize, x: usize| {
                &input[((image * ih + row.at[y]) * iw + column.at[x]) * ic..][..ic]
            };
            let of = [pixel(0, 0), pixel(0, 1), pixel(1, 0), pixel(1, 1)];
            let share = |y: usize, x: usize| row.share[y] * column.share[x];
            let shares = [share(0, 0), share(0, 1), share(1, 0), share(1, 1)];
            for (channel, y) in pixels.next()?.iter_mut().enumerate() {
                let part = |at: usize| shares[at] * (i32::from(of[at][channel]) - zx) as f32;
                // In this order, each rounded by itself: the same bits everywhere.
                let sum = part(0) + part(1) + part(2) + part(3);
                *y = (round_even(clamp(sum * mult, lo, hi)) + zy) as u8;
            }
        }
    }
    Some(())
}
