//! One operator's record against arena and file: what lets the executor index without doubt.

use crate::conv::{Window, padded_depth, scratch_bytes};
use crate::format::{AvgPool, Conv, Copy, Depthwise, MatMul, MaxPool, Op, PANEL, Resize};
use crate::limits::{DEPTH_MAX, DIM_MAX};
use crate::resize::TAP_BYTES;

type Check<T = ()> = Result<T, &'static str>;

/// Sizes that every offset is held against, in bytes.
struct Bounds<'f> {
    arena: u64,
    file: &'f [u8],
}

/// Gives the work of the operator, in multiply-accumulates or moved elements.
pub(crate) fn check(op: &Op, arena: u32, file: &[u8]) -> Check<u64> {
    let bounds = Bounds { arena: arena.into(), file };
    match op {
        Op::Conv(op) => conv(op, &bounds),
        Op::Depthwise(op) => depthwise(op, &bounds),
        Op::Add(op) => {
            let lengths = [op.a_bytes, op.b_bytes, op.bytes];
            operands(&bounds, [op.a, op.b, op.output], lengths)?;
            flips(&[op.flip_a, op.flip_b, op.flip_y])?;
            output_range(0, op.lo, op.hi)?;
            Ok(op.bytes.into())
        }
        Op::Mul(op) => {
            let lengths = [op.a_bytes, op.b_bytes, op.bytes];
            operands(&bounds, [op.a, op.b, op.output], lengths)?;
            zero_points(&[op.za, op.zb])?;
            output_range(op.zy, op.lo, op.hi)?;
            Ok(op.bytes.into())
        }
        Op::Table(op) => {
            let len = u64::from(op.bytes);
            bounds.arena(op.input, len)?;
            bounds.arena(op.output, len)?;
            // In place is fine, halfway is not.
            if op.input != op.output {
                disjoint(op.output, len, op.input, len)?;
            }
            bounds.data(op.table, 256)?;
            Ok(len)
        }
        Op::Copy(op) => copy(op, &bounds),
        Op::Fill(op) => {
            bounds.arena(op.output, op.bytes.into())?;
            zero_points(&[op.value])?;
            Ok(op.bytes.into())
        }
        Op::MaxPool(op) => pool(&Window::from(op), max_pool_ends(op), op.batch, op.ic, &bounds),
        Op::AvgPool(op) => {
            let (of, ends) = (Window::from(op), avg_pool_ends(op));
            let work = pool(&of, ends, op.batch, op.ic, &bounds)?;
            zero_points(&[op.zx])?;
            output_range(op.zy, op.lo, op.hi)?;
            if u64::from(op.kh) * u64::from(op.kw) > DEPTH_MAX || op.count_pad > 1 {
                return Err("its window is too large");
            }
            Ok(work)
        }
        Op::Softmax(op) => {
            sizes(&[op.axis])?;
            let len = product(&[op.outer, op.axis, op.inner])?;
            bounds.arena(op.input, len)?;
            bounds.arena(op.output, len)?;
            disjoint(op.output, len, op.input, len)?;
            bounds.data(op.table, 1024)?;
            zero_points(&[op.zy])?;
            Ok(len)
        }
        Op::MatMul(op) => mat_mul(op, &bounds),
        Op::Load(op) => {
            bounds.arena(op.output, op.bytes.into())?;
            bounds.data(op.data, op.bytes.into())?;
            Ok(op.bytes.into())
        }
        Op::Resize(op) => resize(op, &bounds),
    }
}

impl Bounds<'_> {
    fn arena(&self, at: u32, len: u64) -> Check {
        if u64::from(at) + len > self.arena {
            return Err("it reaches outside the arena");
        }
        Ok(())
    }

    fn data(&self, at: u32, len: u64) -> Check {
        if u64::from(at) + len > self.file.len() as u64 {
            return Err("it reaches outside the file");
        }
        Ok(())
    }

    /// Multipliers: so many `f32`. Times an accumulator, finite as it is, each is a number.
    fn multipliers(&self, at: u32, count: u64) -> Check {
        self.data(at, count * 4)?;
        let (words, _) = self.file[at as usize..][..count as usize * 4].as_chunks();
        match words.iter().all(|word| f32::from_le_bytes(*word).is_finite()) {
            true => Ok(()),
            false => Err("a multiplier is not a finite number"),
        }
    }
}

/// Every size is at least 1 and small enough to be multiplied.
fn sizes(of: &[u32]) -> Check {
    if of.iter().any(|&size| size == 0 || size > DIM_MAX) {
        return Err("a size is 0 or too large");
    }
    Ok(())
}

fn product(of: &[u32]) -> Check<u64> {
    of.iter().try_fold(1_u64, |product, &size| {
        let product = product.checked_mul(size.into()).filter(|&product| product <= 1 << 32);
        product.filter(|&product| product > 0).ok_or("its sizes multiply to 0 or to too much")
    })
}

fn zero_points(of: &[u32]) -> Check {
    if of.iter().any(|&value| value > 255) {
        return Err("a zero point or value is no byte");
    }
    Ok(())
}

fn flips(of: &[u32]) -> Check {
    if of.iter().any(|&value| value != 0 && value != 128) {
        return Err("a sign is neither that of u8 nor that of int8");
    }
    Ok(())
}

fn output_range(zy: u32, lo: u32, hi: u32) -> Check {
    if zy > 255 || hi > 255 || lo > hi {
        return Err("its range is no range of bytes");
    }
    Ok(())
}

fn disjoint(a: u32, a_len: u64, b: u32, b_len: u64) -> Check {
    let (a, b) = (u64::from(a), u64::from(b));
    if a < b + b_len && b < a + a_len {
        return Err("it writes what it reads");
    }
    Ok(())
}

fn operands(bounds: &Bounds<'_>, at: [u32; 3], bytes: [u32; 3]) -> Check {
    let [a, b, output] = bytes.map(u64::from);
    if a == 0 || b == 0 || a > output || b > output {
        return Err("an operand is empty or longer than the result");
    }
    bounds.arena(at[0], a)?;
    bounds.arena(at[1], b)?;
    bounds.arena(at[2], output)?;
    disjoint(at[2], output, at[0], a)?;
    disjoint(at[2], output, at[1], b)
}

/// Sizes of a window, and that no coordinate of it leaves an `i32`.
fn window(of: &Window) -> Check {
    sizes(&[of.ih, of.iw, of.oh, of.ow, of.kh, of.kw, of.sh, of.sw, of.dh, of.dw])?;
    let reach = |out: u32, stride: u32, taps: u32, step: u32| {
        u64::from(out) * u64::from(stride) + u64::from(taps) * u64::from(step)
    };
    let far = reach(of.oh, of.sh, of.kh, of.dh).max(reach(of.ow, of.sw, of.kw, of.dw));
    if far > 1 << 30 || of.pt > DIM_MAX || of.pl > DIM_MAX {
        return Err("its window reaches too far");
    }
    Ok(())
}

fn conv(op: &Conv, bounds: &Bounds<'_>) -> Check<u64> {
    let of = Window::from(op);
    window(&of)?;
    sizes(&[op.batch, op.ic, op.oc, op.groups])?;
    if !op.ic.is_multiple_of(op.groups) || !op.oc.is_multiple_of(op.groups) {
        return Err("its channels do not divide into its groups");
    }
    if product(&[op.kh, op.kw, op.ic / op.groups])? > DEPTH_MAX {
        return Err("it sums over too much");
    }
    let depth = padded_depth(op) as u64;
    let panels = u64::from((op.oc / op.groups).div_ceil(PANEL as u32)) * PANEL as u64;
    let columns = panels * u64::from(op.groups);
    let input = product(&[op.batch, op.ih, op.iw, op.ic])?;
    let output = product(&[op.batch, op.oh, op.ow, op.oc])?;
    bounds.arena(op.input, input)?;
    bounds.arena(op.output, output)?;
    disjoint(op.output, output, op.input, input)?;
    bounds.data(op.weights, columns * depth)?;
    bounds.data(op.bias, columns * 4)?;
    bounds.multipliers(op.mult, columns)?;
    bounds.data(op.wzp, if op.wzp == 0 { 0 } else { columns * 4 })?;
    let needed = scratch_bytes(op, 1);
    if needed > 0 {
        let scratch = u64::from(op.scratch_bytes);
        if scratch < needed {
            return Err("its scratch holds no row");
        }
        bounds.arena(op.scratch, scratch)?;
        disjoint(op.scratch, scratch, op.input, input)?;
        disjoint(op.scratch, scratch, op.output, output)?;
    }
    zero_points(&[op.zx])?;
    output_range(op.zy, op.lo, op.hi)?;
    product(&[op.batch, op.oh, op.ow])?.checked_mul(columns * depth).ok_or("it is too much work")
}

fn depthwise(op: &Depthwise, bounds: &Bounds<'_>) -> Check<u64> {
    let of = Window::from(op);
    window(&of)?;
    sizes(&[op.batch, op.ic, op.multiplier])?;
    let channels = product(&[op.ic, op.multiplier])?;
    let taps = product(&[op.kh, op.kw])?;
    if taps > DEPTH_MAX || channels > u64::from(DIM_MAX) {
        return Err("it sums over too much");
    }
    let input = product(&[op.batch, op.ih, op.iw, op.ic])?;
    let output = product(&[op.batch, op.oh, op.ow, op.ic, op.multiplier])?;
    bounds.arena(op.input, input)?;
    bounds.arena(op.output, output)?;
    bounds.arena(op.scratch, op.ic.into())?;
    disjoint(op.output, output, op.input, input)?;
    disjoint(op.scratch, op.ic.into(), op.input, input)?;
    disjoint(op.scratch, op.ic.into(), op.output, output)?;
    bounds.data(op.weights, taps * channels)?;
    bounds.data(op.bias, channels * 4)?;
    bounds.multipliers(op.mult, channels)?;
    bounds.data(op.wzp, if op.wzp == 0 { 0 } else { channels * 4 })?;
    zero_points(&[op.zx])?;
    output_range(op.zy, op.lo, op.hi)?;
    output.checked_mul(taps).ok_or("it is too much work")
}

fn max_pool_ends(op: &MaxPool) -> [u32; 2] {
    [op.input, op.output]
}

fn avg_pool_ends(op: &AvgPool) -> [u32; 2] {
    [op.input, op.output]
}

fn pool(of: &Window, ends: [u32; 2], batch: u32, channels: u32, bounds: &Bounds<'_>) -> Check<u64> {
    window(of)?;
    sizes(&[batch, channels])?;
    let input = product(&[batch, of.ih, of.iw, channels])?;
    let output = product(&[batch, of.oh, of.ow, channels])?;
    bounds.arena(ends[0], input)?;
    bounds.arena(ends[1], output)?;
    disjoint(ends[1], output, ends[0], input)?;
    output.checked_mul(product(&[of.kh, of.kw])?).ok_or("it is too much work")
}

fn copy(op: &Copy, bounds: &Bounds<'_>) -> Check<u64> {
    let dims = [op.d0, op.d1, op.d2, op.d3, op.d4];
    let elements = product(&dims)?;
    // Largest index: five products of two 32-bit numbers fit.
    let extent = |strides: [u32; 5]| {
        let mut far = dims.iter().zip(strides);
        far.try_fold(1_u64, |sum, (&dim, stride)| {
            sum.checked_add(u64::from(dim - 1) * u64::from(stride))
        })
        .ok_or("it reaches outside the arena")
    };
    let input = extent([op.i0, op.i1, op.i2, op.i3, op.i4])?;
    let output = extent([op.o0, op.o1, op.o2, op.o3, op.o4])?;
    if input > bounds.arena || output > bounds.arena {
        return Err("it reaches outside the arena");
    }
    bounds.arena(op.input, input)?;
    bounds.arena(op.output, output)?;
    disjoint(op.output, output, op.input, input)?;
    Ok(elements)
}

fn mat_mul(op: &MatMul, bounds: &Bounds<'_>) -> Check<u64> {
    sizes(&[op.batch, op.m, op.k, op.n])?;
    if op.own_b > 1 {
        return Err("its second operand is neither shared nor its own");
    }
    let a = product(&[op.batch, op.m, op.k])?;
    let b = product(&[if op.own_b == 1 { op.batch } else { 1 }, op.k, op.n])?;
    let output = product(&[op.batch, op.m, op.n])?;
    bounds.arena(op.a, a)?;
    bounds.arena(op.b, b)?;
    bounds.arena(op.output, output)?;
    disjoint(op.output, output, op.a, a)?;
    disjoint(op.output, output, op.b, b)?;
    zero_points(&[op.za, op.zb])?;
    output_range(op.zy, op.lo, op.hi)?;
    output.checked_mul(op.k.into()).ok_or("it is too much work")
}

fn resize(op: &Resize, bounds: &Bounds<'_>) -> Check<u64> {
    sizes(&[op.batch, op.ih, op.iw, op.ic, op.oh, op.ow])?;
    let input = product(&[op.batch, op.ih, op.iw, op.ic])?;
    let output = product(&[op.batch, op.oh, op.ow, op.ic])?;
    bounds.arena(op.input, input)?;
    bounds.arena(op.output, output)?;
    disjoint(op.output, output, op.input, input)?;
    // Where they point to is bounded when it is read.
    bounds.data(op.rows, u64::from(op.oh) * TAP_BYTES as u64)?;
    bounds.data(op.columns, u64::from(op.ow) * TAP_BYTES as u64)?;
    zero_points(&[op.zx])?;
    output_range(op.zy, op.lo, op.hi)?;
    Ok(output * 4)
}
