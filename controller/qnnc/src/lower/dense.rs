//! Convolutions and products of matrices: where the work is.

use super::Lower;
use super::shapes::{image, slid};
use super::store::Within;
use crate::error::{Rule, no};
use crate::pack::{self, Channels, Rows};
use crate::value::{Bias, ConvOf, Pool, ProductOf, Quant, Real, Right, Scaled, Tensor};
use fleetway_qnn::format::{Conv, Depthwise, MatMul, Op, PANEL};
use fleetway_qnn::scratch_bytes;

/// Bytes of input that are copied at a time: with weights beside it stays in a first cache of 32 KiB.
const SCRATCH_BYTES: u64 = 12 << 10;

impl Lower {
    pub(super) fn conv(&mut self, of: &ConvOf, quant: Quant, within: Within) -> Rule<Tensor> {
        let shape = self.shape(&Real::Conv(of.clone()))?;
        let input = self.channels_last(&of.input)?;
        let [n, c, h, w] = image(&input.shape)?;
        let [oh, ow] = slid(&of.window, h, w)?;
        let rows = window_rows(&of.weights, c, of.groups, of.window.kernel)?;
        let Pool { kernel, strides, dilations, pads, .. } = of.window;
        // A column is a line: kernels work along lines.
        let column = (w, ow, kernel[1], pads[1], pads[3]) == (1, 1, 1, 0, 0);
        let turned = |of: [usize; 2]| if column { [of[1], of[0]] } else { of };
        let ([h, w], [oh, ow]) = (turned([h, w]), turned([oh, ow]));
        let (kernel, strides, dilations) = (turned(kernel), turned(strides), turned(dilations));
        let [top, left] = turned([pads[0], pads[1]]);
        let found = pack::channels(&rows, &of.weights, of.bias.as_ref(), of.quant, quant.scale)?;
        let output = self.program.tensor(&shape, true);
        let op = Conv {
            batch: n as u32,
            ih: h as u32,
            iw: w as u32,
            ic: c as u32,
            oh: oh as u32,
            ow: ow as u32,
            oc: rows.channels as u32,
            kh: kernel[0] as u32,
            kw: kernel[1] as u32,
            sh: strides[0] as u32,
            sw: strides[1] as u32,
            dh: dilations[0] as u32,
            dw: dilations[1] as u32,
            pt: top as u32,
            pl: left as u32,
            groups: of.groups as u32,
            zx: of.quant.zero.into(),
            zy: quant.zero.into(),
            lo: within.lo.into(),
            hi: within.hi.into(),
            ..Conv::default()
        };
        if of.groups == c && c > 1 {
            self.depthwise(&op, &rows, &found, &input, &output);
        } else {
            self.dense(op, &rows, &found, &input, &output);
        }
        Ok(output)
    }

    fn dense(&mut self, mut op: Conv, rows: &Rows, found: &Channels, x: &Tensor, y: &Tensor) {
        let groups = op.groups as usize;
        // As the runtime reads it: each row of the window by itself, unless it must be unrolled.
        let unrolled = groups != 1 || op.dw != 1;
        let runs = if unrolled { 1 } else { op.kh as usize };
        let each = rows.channels / groups;
        let (mut weights, mut bias, mut mult, mut zeros) = (vec![], vec![], vec![], vec![]);
        for group in 0..groups {
            let part = group * each..(group + 1) * each;
            let own = Rows {
                channels: each,
                depth: rows.depth,
                weights: rows.weights[part.start * rows.depth..part.end * rows.depth].to_vec(),
                zeros: vec![],
            };
            weights.extend(pack::panels(&own, runs));
            bias.extend(pack::words(&found.bias[part.clone()], PANEL, 0, i32::to_le_bytes));
            mult.extend(pack::words(&found.mult[part.clone()], PANEL, 0.0, f32::to_le_bytes));
            if !found.zeros.is_empty() {
                zeros.extend(pack::words(&found.zeros[part], PANEL, 0, i32::to_le_bytes));
            }
        }
        let blobs = self.blobs([weights, bias, mult, zeros]);
        // As many lines or rows as stay in a first cache, one at least.
        let most = if unrolled { op.oh * op.ow } else { op.oh };
        let fit = (1..=most).take_while(|&rows| scratch_bytes(&op, rows) <= SCRATCH_BYTES);
        let bytes = scratch_bytes(&op, fit.last().unwrap_or(1));
        let scratch = (bytes > 0).then(|| self.program.buffer(bytes as usize));
        op.scratch_bytes = bytes as u32;
        self.emit(Op::Conv(op), &[x], y, scratch, blobs);
    }

    fn depthwise(&mut self, of: &Conv, rows: &Rows, found: &Channels, x: &Tensor, y: &Tensor) {
        let mut weights = Vec::with_capacity(rows.weights.len());
        for tap in 0..rows.depth {
            weights.extend((0..rows.channels).map(|c| rows.weights[c * rows.depth + tap] as u8));
        }
        let blobs = self.blobs([
            weights,
            pack::words(&found.bias, 1, 0, i32::to_le_bytes),
            pack::words(&found.mult, 1, 0.0, f32::to_le_bytes),
            pack::words(&found.zeros, 1, 0, i32::to_le_bytes),
        ]);
        let &Conv { batch, ih, iw, ic, oh, ow, oc, kh, kw, sh, sw, dh, dw, pt, pl, .. } = of;
        let &Conv { zx, zy, lo, hi, .. } = of;
        let op = Depthwise {
            batch,
            ih,
            iw,
            ic,
            oh,
            ow,
            multiplier: oc / ic,
            kh,
            kw,
            sh,
            sw,
            dh,
            dw,
            pt,
            pl,
            zx,
            zy,
            lo,
            hi,
            ..Depthwise::default()
        };
        let scratch = self.program.buffer(ic as usize);
        self.emit(Op::Depthwise(op), &[x], y, Some(scratch), blobs);
    }

    /// Constants of a step; no zero points is no constant, and stands as address 0.
    fn blobs(&mut self, of: [Vec<u8>; 4]) -> Vec<usize> {
        let given = of.into_iter().filter(|bytes| !bytes.is_empty());
        given.map(|bytes| self.program.blob(bytes)).collect()
    }

    pub(super) fn product(&mut self, of: &ProductOf, quant: Quant, within: Within) -> Rule<Tensor> {
        let shape = self.shape(&Real::Product(of.clone()))?;
        let a = self.in_order(&of.a)?;
        let (Some(&k), rank) = (a.shape.last(), a.shape.len()) else {
            return no("its first operand is a single number");
        };
        let m: usize = a.shape[..rank - 1].iter().product();
        let y = self.program.tensor(&shape, false);
        let (b, by_rows) = match &of.b {
            Right::Weights { of, by_rows } => (of, *by_rows),
            Right::Stored(b, qb) => {
                if of.bias.is_some() {
                    return no("a bias on a product of two computed matrices is not supported");
                }
                self.mat_mul((&a, of.quant), (b, *qb), &y, (quant, within))?;
                return Ok(y);
            }
        };
        let rows = matrix_rows(b, by_rows, k)?;
        let found = pack::channels(&rows, b, of.bias.as_ref(), of.quant, quant.scale)?;
        let op = Conv {
            batch: 1,
            ih: 1,
            iw: m as u32,
            ic: k as u32,
            oh: 1,
            ow: m as u32,
            oc: rows.channels as u32,
            kh: 1,
            kw: 1,
            sh: 1,
            sw: 1,
            dh: 1,
            dw: 1,
            groups: 1,
            zx: of.quant.zero.into(),
            zy: quant.zero.into(),
            lo: within.lo.into(),
            hi: within.hi.into(),
            ..Conv::default()
        };
        self.dense(op, &rows, &found, &a, &y);
        Ok(y)
    }

    fn mat_mul(
        &mut self,
        (a, qa): (&Tensor, Quant),
        (b, qb): (&Tensor, Quant),
        y: &Tensor,
        (quant, within): (Quant, Within),
    ) -> Rule {
        let b = self.in_order(b)?;
        let (ra, rb) = (a.shape.len(), b.shape.len());
        if ra < 2 || rb < 2 || a.shape[ra - 1] != b.shape[rb - 2] {
            return no(format!("{:?} and {:?} do not multiply", a.shape, b.shape));
        }
        let (m, k, n) = (a.shape[ra - 2], a.shape[ra - 1], b.shape[rb - 1]);
        let outer: usize = a.shape[..ra - 2].iter().product();
        let shared = b.shape[..rb - 2].iter().all(|&dim| dim == 1);
        if !shared && a.shape[..ra - 2] != b.shape[..rb - 2] {
            return no("products that broadcast both ways are not supported");
        }
        let op = Op::MatMul(MatMul {
            batch: outer as u32,
            m: m as u32,
            k: k as u32,
            n: n as u32,
            own_b: (!shared).into(),
            za: qa.zero.into(),
            zb: qb.zero.into(),
            zy: quant.zero.into(),
            lo: within.lo.into(),
            hi: within.hi.into(),
            mult: (qa.scale * qb.scale / quant.scale).to_bits(),
            ..MatMul::default()
        });
        self.emit(op, &[a, &b], y, None, vec![]);
        Ok(())
    }
}

/// `[oc, ic / groups, kh, kw]` as a row for each output channel, channels of a place together.
fn window_rows(of: &Scaled, ic: usize, groups: usize, kernel: [usize; 2]) -> Rule<Rows> {
    let shape = &of.data.shape;
    let [oc, own, kh, kw] = image(shape)?;
    if [kh, kw] != kernel || groups == 0 || own * groups != ic || oc % groups != 0 || oc == 0 {
        return no(format!("its weights are {shape:?} for {ic} channels in {groups} groups"));
    }
    if of.scales.len() > 1 && of.axis != 0 {
        return no("the scales of its weights are not on the axis of output channels");
    }
    let (bytes, moved) = pack::bytes(&of.data)?;
    let mut weights = Vec::with_capacity(bytes.len());
    for channel in 0..oc {
        for place in 0..kh * kw {
            weights.extend((0..own).map(|c| bytes[(channel * own + c) * kh * kw + place]));
        }
    }
    Ok(Rows { channels: oc, depth: own * kh * kw, weights, zeros: zeros(of, oc, moved)? })
}

/// A matrix as a row for each output.
fn matrix_rows(of: &Scaled, by_rows: bool, k: usize) -> Rule<Rows> {
    let &[d0, d1] = &of.data.shape[..] else {
        return no(format!("its weights have shape {:?}, which is no matrix", of.data.shape));
    };
    let (n, depth) = if by_rows { (d0, d1) } else { (d1, d0) };
    if depth != k || n == 0 || k == 0 {
        return no(format!("its weights are {:?} for {k} inputs", of.data.shape));
    }
    if of.scales.len() > 1 && of.axis != usize::from(!by_rows) {
        return no("the scales of its weights are not on the axis of outputs");
    }
    let (bytes, moved) = pack::bytes(&of.data)?;
    let at = |row: usize, input: usize| if by_rows { row * k + input } else { input * n + row };
    let weights = (0..n).flat_map(|row| (0..k).map(move |input| at(row, input)));
    let weights = weights.map(|at| bytes[at]).collect();
    Ok(Rows { channels: n, depth: k, weights, zeros: zeros(of, n, moved)? })
}

fn zeros(of: &Scaled, channels: usize, moved: i32) -> Rule<Vec<i32>> {
    let zeros = pack::spread(&of.zeros, channels, "zero points")?;
    let range = if moved == 0 { -128..=127 } else { 0..=255 };
    if zeros.iter().any(|zero| !range.contains(zero)) {
        return no("a zero point of its weights has another type than they have");
    }
    Ok(zeros.into_iter().map(|zero| zero as i32 - moved).collect())
}

/// A bias that was added in real numbers, or as integers with a scale of their own.
pub(super) fn bias_of(of: &Scaled, x: Quant, weights: &Scaled) -> Rule<Bias> {
    if of.zeros.iter().any(|&zero| zero != 0) {
        return no("its bias has a zero point");
    }
    let steps = of.data.ints()?;
    let scale = |list: &[f32], at: usize| list[if list.len() == 1 { 0 } else { at }];
    let mut reals = Vec::new();
    let mut same = true;
    for (at, &step) in steps.iter().enumerate() {
        let own = f64::from(scale(&of.scales, at.min(of.scales.len() - 1)));
        let product = f64::from(x.scale)
            * f64::from(scale(&weights.scales, at.min(weights.scales.len() - 1)));
        // Exporters compute this product in single precision, or copy it through text.
        same &= (own / product - 1.0).abs() < 1e-5;
        reals.push(step as f64 * own);
    }
    Ok(if same { Bias::Steps(steps) } else { Bias::Reals(reals) })
}
