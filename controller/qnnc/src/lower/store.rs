//! An expression becomes steps, now that it is known how its numbers are to be stored.

use super::Lower;
use super::shapes::{broadcast, image, slid};
use crate::error::{Rule, no};
use crate::ir::Step;
use crate::pack;
use crate::value::{Func, Pool, Quant, Real, Tensor};
use fleetway_qnn::arith;
use fleetway_qnn::format::{Add, AvgPool, Mul, Op, Softmax, Table};
use std::rc::Rc;

/// Bytes within which a result stays: what Relu and Clip become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Within {
    pub(super) lo: u8,
    pub(super) hi: u8,
}

const ALL: Within = Within { lo: 0, hi: 255 };

impl Lower {
    /// Stores an expression.
    pub(super) fn store(&mut self, real: &Rc<Real>, quant: Quant) -> Rule<Tensor> {
        self.store_within(real, quant, ALL)
    }

    fn store_within(&mut self, real: &Rc<Real>, quant: Quant, within: Within) -> Rule<Tensor> {
        match &**real {
            Real::Input(index) => {
                let (tensor, known) = match self.quantized[*index].clone() {
                    Some(found) => found,
                    None => {
                        let shape = self.shapes[*index].clone();
                        let found = (self.program.tensor(&shape, false), quant);
                        self.quantized[*index] = Some(found.clone());
                        found
                    }
                };
                if known != quant {
                    return no("its input is quantized in two ways");
                }
                if within == ALL { Ok(tensor) } else { self.table(&tensor, clamped(within)) }
            }
            Real::Stored(tensor, from) => {
                if within == ALL && (from.scale, from.zero) == (quant.scale, quant.zero) {
                    return Ok(tensor.clone());
                }
                let (tensor, from) = (tensor.clone(), *from);
                self.table(&tensor, mapped(&[], from, quant, within))
            }
            Real::Map(func, of) => {
                if let Some((chain, tensor, from)) = chain(real) {
                    return self.table(&tensor, mapped(&chain, from, quant, within));
                }
                // Rounding is monotone: clamping before it and after it is the same.
                let Func::Clip(lo, hi) = *func else {
                    return no(format!(
                        "its input comes from {func:?} of numbers that are not quantized"
                    ));
                };
                let byte = |real| arith::quantize(real, quant.scale, quant.zero.into());
                let lo = within.lo.max(byte(lo));
                let within = Within { lo, hi: within.hi.min(byte(hi)).max(lo) };
                self.store_within(of, quant, within)
            }
            Real::Move(way, of) => {
                let tensor = self.store_within(of, quant, within)?;
                self.moved(way, &tensor, quant)
            }
            Real::Conv(of) => self.conv(of, quant, within),
            Real::Product(of) => self.product(of, quant, within),
            Real::Sum { a, b, minus } => self.sum(a, b, *minus, quant, within),
            Real::Times { a, b } => self.times(a, b, quant, within),
            Real::AvgPool { of, window, count_pad } => {
                self.avg_pool(of, window, *count_pad, quant, within)
            }
            Real::Fixed(of) => {
                let stored = self.fixed(of, quant)?;
                if within == ALL { Ok(stored) } else { self.table(&stored, clamped(within)) }
            }
            Real::Mean { of, axes, shape } => self.mean((of, shape), *axes, quant, within),
            Real::Resize { of, rows, columns } => {
                self.interpolated(of, [rows, columns], quant, within)
            }
            Real::Spread(of) => self.spread(of, quant, within),
            Real::Softmax { of, axis } => {
                let stored = self.softmax(of, *axis, quant)?;
                if within == ALL { Ok(stored) } else { self.table(&stored, clamped(within)) }
            }
            Real::Concat { of, axis } => {
                let parts = of.iter().map(|part| self.store_within(part, quant, within));
                let parts = parts.collect::<Rule<Vec<_>>>()?;
                self.join(&parts, *axis)
            }
        }
    }

    /// Every byte through a table.
    fn table(&mut self, of: &Tensor, table: [u8; 256]) -> Rule<Tensor> {
        if (0..=255).all(|byte| table[usize::from(byte)] == byte) {
            return Ok(of.clone());
        }
        let output = Tensor { buffer: self.program.buffer(of.elements()), ..of.clone() };
        let op = Op::Table(Table { bytes: of.elements() as u32, ..Table::default() });
        let blobs = vec![self.program.blob(table.to_vec())];
        self.emit(op, &[of], &output, None, blobs);
        Ok(output)
    }

    pub(super) fn emit(
        &mut self,
        op: Op,
        inputs: &[&Tensor],
        output: &Tensor,
        scratch: Option<usize>,
        blobs: Vec<usize>,
    ) {
        let inputs = inputs.iter().map(|&input| input.into()).collect();
        self.program.steps.push(Step { op, inputs, output: output.into(), scratch, blobs });
    }

    /// Two operands in one order in memory, one of them perhaps shorter: then it repeats.
    fn operands(&mut self, a: &Tensor, b: &Tensor) -> Rule<(Tensor, Tensor, Tensor)> {
        let shape = broadcast(&a.shape, &b.shape)?;
        let channels_last = a.channels_last || b.channels_last;
        let fit = |lower: &mut Self, of: &Tensor| -> Rule<Tensor> {
            if of.elements() == 1 {
                return Ok(of.clone());
            }
            let mut padded = vec![1; shape.len() - of.shape.len()];
            padded.extend(&of.shape);
            let of = match padded == of.shape {
                true => of.clone(),
                false => Tensor { shape: padded, ..lower.in_order(of)? },
            };
            // A byte for each channel repeats over pixels whose channels lie last.
            let channels = of.elements() == shape.get(1).copied().unwrap_or(0);
            if channels_last && channels && of.shape.get(1) == Some(&of.elements()) {
                return Ok(of);
            }
            let of = lower.expanded(&of, &shape)?;
            if channels_last { lower.channels_last(&of) } else { Ok(of) }
        };
        let (a, b) = (fit(self, a)?, fit(self, b)?);
        let mut y = self.program.tensor(&shape, channels_last);
        // Neither may be shorter than the result on both sides at once.
        if a.elements() < y.elements() && b.elements() < y.elements() {
            y.channels_last = false;
            let (a, b) = (self.expanded(&a, &shape)?, self.expanded(&b, &shape)?);
            return Ok((self.in_order(&a)?, self.in_order(&b)?, y));
        }
        Ok((a, b, y))
    }

    fn sum(
        &mut self,
        a: &Rc<Real>,
        b: &Rc<Real>,
        minus: bool,
        quant: Quant,
        within: Within,
    ) -> Rule<Tensor> {
        let ((a, qa), (b, qb)) = (self.stored(a)?, self.stored(b)?);
        let (a, b, y) = self.operands(&a, &b)?;
        let (ratio_a, ratio_b) = (qa.scale / quant.scale, qb.scale / quant.scale);
        let ratio_b = if minus { -ratio_b } else { ratio_b };
        // Zero points in ONNX's own types, in the order in which onnxruntime folds them.
        let own = |quant: Quant| (i32::from(quant.zero) - i32::from(quant.flip)) as f32;
        let fixed = own(quant) - arith::fused(ratio_a, own(qa), ratio_b * own(qb));
        let op = Op::Add(Add {
            a_bytes: a.elements() as u32,
            b_bytes: b.elements() as u32,
            bytes: y.elements() as u32,
            ratio_a: ratio_a.to_bits(),
            ratio_b: ratio_b.to_bits(),
            fixed: fixed.to_bits(),
            flip_a: qa.flip.into(),
            flip_b: qb.flip.into(),
            flip_y: quant.flip.into(),
            lo: within.lo.into(),
            hi: within.hi.into(),
            ..Add::default()
        });
        self.emit(op, &[&a, &b], &y, None, vec![]);
        Ok(y)
    }

    fn times(&mut self, a: &Rc<Real>, b: &Rc<Real>, quant: Quant, within: Within) -> Rule<Tensor> {
        let ((a, qa), (b, qb)) = (self.stored(a)?, self.stored(b)?);
        let (a, b, y) = self.operands(&a, &b)?;
        let op = Op::Mul(Mul {
            a_bytes: a.elements() as u32,
            b_bytes: b.elements() as u32,
            bytes: y.elements() as u32,
            za: qa.zero.into(),
            zb: qb.zero.into(),
            zy: quant.zero.into(),
            lo: within.lo.into(),
            hi: within.hi.into(),
            mult: (qa.scale * qb.scale / quant.scale).to_bits(),
            ..Mul::default()
        });
        self.emit(op, &[&a, &b], &y, None, vec![]);
        Ok(y)
    }

    fn avg_pool(
        &mut self,
        of: &Rc<Real>,
        window: &Pool,
        count_pad: bool,
        quant: Quant,
        within: Within,
    ) -> Rule<Tensor> {
        let (x, qx) = self.stored(of)?;
        let shape =
            self.shape(&Real::AvgPool { of: of.clone(), window: window.clone(), count_pad })?;
        let x = self.channels_last(&x)?;
        let [n, c, h, w] = image(&x.shape)?.map(|size| size as u32);
        let [oh, ow] = slid(window, h as usize, w as usize)?.map(|size| size as u32);
        if window.ceil && count_pad {
            return no("ceil_mode together with count_include_pad is not supported");
        }
        let y = self.program.tensor(&shape, true);
        let [kh, kw] = window.kernel.map(|size| size as u32);
        let op = Op::AvgPool(AvgPool {
            batch: n,
            ih: h,
            iw: w,
            ic: c,
            oh,
            ow,
            kh,
            kw,
            sh: window.strides[0] as u32,
            sw: window.strides[1] as u32,
            dh: window.dilations[0] as u32,
            dw: window.dilations[1] as u32,
            pt: window.pads[0] as u32,
            pl: window.pads[1] as u32,
            count_pad: count_pad.into(),
            zx: qx.zero.into(),
            zy: quant.zero.into(),
            lo: within.lo.into(),
            hi: within.hi.into(),
            scale_x: qx.scale.to_bits(),
            scale_y: quant.scale.to_bits(),
            ..AvgPool::default()
        });
        self.emit(op, &[&x], &y, None, vec![]);
        Ok(y)
    }

    fn softmax(&mut self, of: &Rc<Real>, axis: usize, quant: Quant) -> Rule<Tensor> {
        let (x, qx) = self.stored(of)?;
        let x = self.in_order(&x)?;
        let entry = |distance: u16| {
            let weight = libm::exp(-f64::from(distance) * f64::from(qx.scale));
            libm::rint(weight * f64::from(arith::SOFTMAX_ONE)) as u32
        };
        let entries: Vec<u32> = (0..256).map(entry).collect();
        let product = |of: &[usize]| of.iter().product::<usize>() as u32;
        let op = Op::Softmax(Softmax {
            outer: product(&x.shape[..axis]),
            axis: x.shape[axis] as u32,
            inner: product(&x.shape[axis + 1..]),
            zy: quant.zero.into(),
            scale_y: quant.scale.to_bits(),
            ..Softmax::default()
        });
        let y = self.program.tensor(&x.shape, false);
        let blob = self.program.blob(pack::words(&entries, 1, 0, u32::to_le_bytes));
        self.emit(op, &[&x], &y, None, vec![blob]);
        Ok(y)
    }
}

/// The functions between an expression and stored bytes, innermost first, if there is nothing else.
fn chain(real: &Rc<Real>) -> Option<(Vec<Func>, Tensor, Quant)> {
    let (mut chain, mut at) = (Vec::new(), real);
    loop {
        match &**at {
            Real::Map(func, of) => {
                chain.push(*func);
                at = of;
            }
            Real::Stored(tensor, quant) => {
                chain.reverse();
                return Some((chain, tensor.clone(), *quant));
            }
            _ => return None,
        }
    }
}

/// What each byte becomes: dequantized, through all functions, quantized, within bounds.
fn mapped(chain: &[Func], from: Quant, to: Quant, within: Within) -> [u8; 256] {
    std::array::from_fn(|byte| {
        let real = arith::dequantize(byte as u8, from.scale, from.zero.into());
        let real = chain.iter().fold(real, |real, func| func.apply(real));
        arith::quantize(real, to.scale, to.zero.into()).clamp(within.lo, within.hi)
    })
}

fn clamped(within: Within) -> [u8; 256] {
    std::array::from_fn(|byte| (byte as u8).clamp(within.lo, within.hi))
}
