//! Operators that move, pool or map bytes: plain loops, which the compiler turns into vectors.

use crate::arena::{carve, range};
use crate::arith::{self, requantize};
use crate::conv::Window;
use crate::format::{AvgPool, Copy, MatMul, MaxPool, Mul, Softmax, Table};
use crate::load::Model;

/// Channels that are summed or compared at a time: their accumulators stay in registers.
const LANES: usize = 32;

pub(crate) fn mul(op: &Mul, a: &[u8], b: &[u8], output: &mut [u8]) {
    let (za, zb, zy) = (op.za as i32, op.zb as i32, op.zy as i32);
    let (mult, lo, hi) = (f32::from_bits(op.mult), op.lo as i32, op.hi as i32);
    for ((y, &a), &b) in output.iter_mut().zip(a.iter().cycle()).zip(b.iter().cycle()) {
        *y = requantize((i32::from(a) - za) * (i32::from(b) - zb), mult, zy, lo, hi);
    }
}

pub(crate) fn table(model: &Model<'_>, arena: &mut [u8], op: &Table) -> Option<()> {
    let table: &[u8; 256] = model.data(op.table, 256)?.try_into().ok()?;
    let len = op.bytes as usize;
    if op.input == op.output {
        for byte in arena.get_mut(range(op.output, len))? {
            *byte = table[usize::from(*byte)];
        }
        return Some(());
    }
    let parts = carve(arena, range(op.output, len), 0..0)?;
    let input = parts.read(op.input, len)?;
    for (y, &x) in parts.output.iter_mut().zip(input) {
        *y = table[usize::from(x)];
    }
    Some(())
}

pub(crate) fn copy(arena: &mut [u8], op: &Copy) -> Option<()> {
    let dims = [op.d0, op.d1, op.d2, op.d3, op.d4].map(|dim| dim as usize);
    let from = [op.i0, op.i1, op.i2, op.i3, op.i4].map(|stride| stride as usize);
    let to = [op.o0, op.o1, op.o2, op.o3, op.o4].map(|stride| stride as usize);
    let extent = |strides: [usize; 5]| -> usize {
        dims.iter().zip(strides).map(|(dim, stride)| (dim - 1) * stride).sum::<usize>() + 1
    };
    let parts = carve(arena, range(op.output, extent(to)), 0..0)?;
    let input = parts.read(op.input, extent(from))?;
    let [d0, d1, d2, d3, d4] = dims;
    for i0 in 0..d0 {
        for i1 in 0..d1 {
            for i2 in 0..d2 {
                for i3 in 0..d3 {
                    let at = |s: [usize; 5]| i0 * s[0] + i1 * s[1] + i2 * s[2] + i3 * s[3];
                    let (read, write) = (at(from), at(to));
                    if from[4] == 1 && to[4] == 1 {
                        let bytes = input.get(read..read + d4)?;
                        parts.output.get_mut(write..write + d4)?.copy_from_slice(bytes);
                        continue;
                    }
                    let output = parts.output.get_mut(write..)?.iter_mut();
                    let output = output.step_by(to[4].max(1)).take(d4);
                    // A stride of 0 repeats one byte.
                    let bytes = input.get(read..)?.iter().step_by(from[4].max(1));
                    let repeated = core::iter::repeat(input.get(read)?);
                    if from[4] == 0 {
                        output.zip(repeated).for_each(|(y, x)| *y = *x);
                    } else {
                        output.zip(bytes).for_each(|(y, x)| *y = *x);
                    }
                }
            }
        }
    }
    Some(())
}

/// Calls for every output pixel and block of channels with the offsets of what its window sees.
fn windows(
    of: &Window,
    batch: u32,
    channels: usize,
    mut each: impl FnMut(usize, core::ops::Range<usize>, &mut dyn Iterator<Item = usize>),
) {
    let (iw, ow) = (of.iw as usize, of.ow as usize);
    for image in 0..batch as usize {
        for oy in 0..of.oh {
            let rows = of.rows(oy);
            for ox in 0..of.ow {
                let columns = of.columns(ox);
                let pixel = (image * of.oh as usize + oy as usize) * ow + ox as usize;
                for from in (0..channels).step_by(LANES) {
                    let lanes = from..channels.min(from + LANES);
                    let mut places = (rows.from..rows.to).flat_map(|ky| {
                        let iy = (rows.base + (ky * of.dh) as i32) as usize;
                        let line = (image * of.ih as usize + iy) * iw;
                        (columns.from..columns.to).map(move |kx| {
                            (line + (columns.base + (kx * of.dw) as i32) as usize) * channels + from
                        })
                    });
                    each(pixel * channels + from, lanes, &mut places);
                }
            }
        }
    }
}

fn pool_parts<'a>(
    arena: &'a mut [u8],
    ends: [u32; 2],
    of: &Window,
    pixel: usize,
) -> Option<(&'a mut [u8], &'a [u8])> {
    let parts = carve(arena, range(ends[1], of.oh as usize * of.ow as usize * pixel), 0..0)?;
    let input = parts.read(ends[0], of.ih as usize * of.iw as usize * pixel)?;
    Some((parts.output, input))
}

pub(crate) fn max_pool(arena: &mut [u8], op: &MaxPool) -> Option<()> {
    let (of, channels) = (Window::from(op), op.ic as usize);
    let pixel = op.batch as usize * channels;
    let (output, input) = pool_parts(arena, [op.input, op.output], &of, pixel)?;
    windows(&of, op.batch, channels, |at, lanes, places| {
        let output = &mut output[at..at + lanes.len()];
        output.fill(0);
        for place in places {
            for (y, &x) in output.iter_mut().zip(&input[place..place + lanes.len()]) {
                *y = x.max(*y);
            }
        }
    });
    Some(())
}

pub(crate) fn avg_pool(arena: &mut [u8], op: &AvgPool) -> Option<()> {
    let (of, channels) = (Window::from(op), op.ic as usize);
    let (zx, zy, lo, hi) = (op.zx as i32, op.zy as i32, op.lo as i32, op.hi as i32);
    let (scale_x, scale_y) = (f32::from_bits(op.scale_x), f32::from_bits(op.scale_y));
    let pixel = op.batch as usize * channels;
    let (output, input) = pool_parts(arena, [op.input, op.output], &of, pixel)?;
    windows(&of, op.batch, channels, |at, lanes, places| {
        let mut sums = [0_i32; LANES];
        let mut seen = 0;
        for place in places {
            seen += 1;
            for (sum, &x) in sums.iter_mut().zip(&input[place..place + lanes.len()]) {
                *sum += i32::from(x);
            }
        }
        let count = if op.count_pad == 1 { (of.kh * of.kw) as i32 } else { seen };
        let mult = scale_x / (scale_y * count as f32);
        for (y, sum) in output[at..at + lanes.len()].iter_mut().zip(sums) {
            *y = requantize(sum - seen * zx, mult, zy, lo, hi);
        }
    });
    Some(())
}

pub(crate) fn softmax(model: &Model<'_>, arena: &mut [u8], op: &Softmax) -> Option<()> {
    let (axis, inner) = (op.axis as usize, op.inner as usize);
    let len = op.outer as usize * axis * inner;
    let (words, _) = model.data(op.table, 1024)?.as_chunks::<4>();
    let weight =
        |distance: u8| words.get(usize::from(distance)).map_or(0, |w| u32::from_le_bytes(*w));
    let (scale, zero) = (f32::from_bits(op.scale_y), op.zy as i32);
    let parts = carve(arena, range(op.output, len), 0..0)?;
    let input = parts.read(op.input, len)?;
    for outer in 0..op.outer as usize {
        for lane in 0..inner {
            let at = |i: usize| (outer * axis + i) * inner + lane;
            let top = (0..axis).map(|i| input[at(i)]).max().unwrap_or(0);
            // Whole numbers: the order of additions changes nothing.
            let sum: u64 = (0..axis).map(|i| u64::from(weight(top - input[at(i)]))).sum();
            for i in 0..axis {
                let part = weight(top - input[at(i)]) as f32 / sum as f32;
                parts.output[at(i)] = arith::quantize(part, scale, zero);
            }
        }
    }
    Some(())
}

pub(crate) fn mat_mul(arena: &mut [u8], op: &MatMul) -> Option<()> {
    let (batch, m, k, n) = (op.batch as usize, op.m as usize, op.k as usize, op.n as usize);
    let (za, zb, zy) = (op.za as i32, op.zb as i32, op.zy as i32);
    let (mult, lo, hi) = (f32::from_bits(op.mult), op.lo as i32, op.hi as i32);
    let own_b = op.own_b as usize;
    let parts = carve(arena, range(op.output, batch * m * n), 0..0)?;
    let a = parts.read(op.a, batch * m * k)?;
    let b = parts.read(op.b, (1 + own_b * (batch - 1)) * k * n)?;
    for image in 0..batch {
        let b = &b[own_b * image * k * n..][..k * n];
        for row in 0..m {
            let a = &a[(image * m + row) * k..][..k];
            let output = &mut parts.output[(image * m + row) * n..][..n];
            for (from, output) in output.chunks_mut(LANES).enumerate() {
                let mut sums = [0_i32; LANES];
                for (&x, b) in a.iter().zip(b.chunks_exact(n)) {
                    let x = i32::from(x) - za;
                    for (sum, &w) in sums.iter_mut().zip(&b[from * LANES..][..output.len()]) {
                        *sum = sum.wrapping_add(x * (i32::from(w) - zb));
                    }
                }
                for (y, sum) in output.iter_mut().zip(sums) {
                    *y = requantize(sum, mult, zy, lo, hi);
                }
            }
        }
    }
    Some(())
}
