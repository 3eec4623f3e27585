//! Sums and products of two operands, one of which may be a constant.

use super::Lower;
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::pack;
use crate::tensor::{Const, Data};
use crate::value::{
    Bias, ConvOf, Func, Move, ProductOf, Quant, Real, Right, Scaled, SpreadOf, Tensor, Value,
};
use fleetway_qnn::arith;
use fleetway_qnn::format::{Load, Op};
use std::rc::Rc;

impl Lower {
    pub(super) fn sum_node(&mut self, node: &Node) -> Rule<Real> {
        let minus = node.op == "Sub";
        let (a, b) = (self.value(node, 0)?, self.value(node, 1)?);
        if let (Value::Real(a), Value::Real(b)) = (&a, &b) {
            return Ok(Real::Sum { a: a.clone(), b: b.clone(), minus });
        }
        let (real, other, first) = match (a, b) {
            (Value::Real(real), other) => (real, other, false),
            (other, Value::Real(real)) => (real, other, true),
            _ => return no("it computes with a constant in a way that is not supported"),
        };
        if !minus && let Some(biased) = self.with_bias(&real, &other)? {
            return self.ranked(biased, &other);
        }
        if let Some(number) = number(&other)? {
            let by = if minus && !first { -number } else { number };
            let of = if minus && first { Rc::new(Real::Map(Func::Neg, real)) } else { real };
            return self.ranked(Real::Map(Func::Plus(by), of), &other);
        }
        let constant = self.constant_operand(&other)?;
        let (a, b) = if first { (constant, real) } else { (real, constant) };
        Ok(Real::Sum { a, b, minus })
    }

    /// A constant for each channel of a sum of products is its bias.
    fn with_bias(&self, real: &Real, other: &Value) -> Rule<Option<Real>> {
        if !self.per_channel(real, other)? {
            return Ok(None);
        }
        Ok(Some(match real {
            Real::Product(
                of @ ProductOf { b: Right::Weights { of: weights, .. }, bias: None, .. },
            ) => {
                let bias = Some(self.bias_value(other, of.quant, weights)?);
                Real::Product(ProductOf { bias, ..of.clone() })
            }
            Real::Conv(of) if of.bias.is_none() => {
                let bias = Some(self.bias_value(other, of.quant, &of.weights)?);
                Real::Conv(ConvOf { bias, ..of.clone() })
            }
            Real::Spread(of) if of.bias.is_none() => {
                let bias = Some(self.bias_value(other, of.quant, &of.weights)?);
                Real::Spread(SpreadOf { bias, ..of.clone() })
            }
            _ => return Ok(None),
        }))
    }

    pub(super) fn times_node(&mut self, node: &Node) -> Rule<Real> {
        let (a, b) = (self.value(node, 0)?, self.value(node, 1)?);
        let divide = node.op == "Div";
        let (real, other) = match (a, b) {
            (Value::Real(a), Value::Real(b)) if !divide => return Ok(Real::Times { a, b }),
            (Value::Real(real), other) => (real, other),
            (other, Value::Real(real)) if !divide => (real, other),
            (_, Value::Real(_)) => return no("division by what is computed is not supported"),
            _ => return no("it computes with constants only"),
        };
        let by = number(&other)?;
        if let Some(scaled) = self.rescaled(&real, &other, divide)? {
            return Ok(scaled);
        }
        match by {
            Some(by) => {
                let func = if divide { Func::Over(by) } else { Func::Times(by) };
                self.ranked(Real::Map(func, real), &other)
            }
            None if divide => no("division by a constant tensor is not supported"),
            None => Ok(Real::Times { a: real, b: self.constant_operand(&other)? }),
        }
    }

    /// A sum of products times a constant: its weights have another scale.
    fn rescaled(&self, real: &Real, other: &Value, divide: bool) -> Rule<Option<Real>> {
        let (weights, bias, channels) = match real {
            Real::Conv(of) => (&of.weights, &of.bias, of.weights.data.shape.first()),
            Real::Product(ProductOf { b: Right::Weights { of, by_rows }, bias, .. }) => {
                (of, bias, of.data.shape.get(usize::from(!by_rows)))
            }
            _ => return Ok(None),
        };
        let by = match (number(other)?, other) {
            (Some(by), _) => vec![by],
            (None, Value::Const(by)) => by.reals()?.to_vec(),
            _ => return Ok(None),
        };
        let Some(&channels) = channels else { return Ok(None) };
        // A negative scale, or none, is no scale.
        let fits = by.len() == 1 || by.len() == channels;
        if !fits
            || !self.per_channel(real, other)?
            || by.iter().any(|by| !(by.is_finite() && *by > 0.0))
        {
            return Ok(None);
        }
        let by: Vec<f32> = by.iter().map(|&by| if divide { 1.0 / by } else { by }).collect();
        let count = by.len().max(weights.scales.len());
        let each = |of: &[f32], at: usize| of[if of.len() == 1 { 0 } else { at }];
        let scales = (0..count).map(|at| each(&weights.scales, at) * each(&by, at)).collect();
        let zeros = if weights.zeros.len() == count {
            weights.zeros.clone()
        } else {
            vec![weights.zeros[0]; count]
        };
        let bias = match bias {
            Some(Bias::Reals(reals)) => {
                let count = reals.len().max(by.len());
                let real = |at: usize| reals[if reals.len() == 1 { 0 } else { at }];
                let scaled = (0..count).map(|at| real(at) * f64::from(each(&by, at)));
                Some(Bias::Reals(scaled.collect()))
            }
            steps => steps.clone(),
        };
        Ok(Some(match real {
            Real::Conv(of) => {
                let weights =
                    Rc::new(Scaled { data: weights.data.clone(), scales, zeros, axis: 0 });
                Real::Conv(ConvOf { weights, bias, ..of.clone() })
            }
            Real::Product(of @ ProductOf { b: Right::Weights { by_rows, .. }, .. }) => {
                let axis = usize::from(!by_rows);
                let of_b = Rc::new(Scaled { data: weights.data.clone(), scales, zeros, axis });
                let b = Right::Weights { of: of_b, by_rows: *by_rows };
                Real::Product(ProductOf { b, bias, ..of.clone() })
            }
            _ => return Ok(None),
        }))
    }

    /// Whether a constant has its numbers along the axis of the channels.
    fn per_channel(&self, real: &Real, other: &Value) -> Rule<bool> {
        let (of, rank) = (self.value_shape(other)?, self.shape(real)?.len());
        let axis = match real {
            Real::Conv(_) | Real::Spread(_) => 1,
            Real::Product(_) => rank.saturating_sub(1),
            _ => return Ok(false),
        };
        let mut padded = vec![1; rank.saturating_sub(of.len())];
        padded.extend(&of);
        if padded.iter().all(|&dim| dim == 1) {
            return Ok(true);
        }
        Ok(padded.len() == rank && padded.iter().enumerate().all(|(at, &d)| d == 1 || at == axis))
    }

    /// One number does not change a shape, unless it is written with more axes.
    fn ranked(&self, real: Real, other: &Value) -> Rule<Real> {
        let (rank, shape) = (self.value_shape(other)?.len(), self.shape(&real)?);
        let Some(missing @ 1..) = rank.checked_sub(shape.len()) else { return Ok(real) };
        let mut padded = vec![1; missing];
        padded.extend(shape);
        Ok(Real::Move(Move::Reshape(padded), Rc::new(real)))
    }

    /// A quantized constant as an operand like any other.
    fn constant_operand(&mut self, of: &Value) -> Rule<Rc<Real>> {
        match of {
            Value::Scaled(of) => self.loaded(of),
            _ => no("a constant tensor that is not quantized is not supported as an operand"),
        }
    }

    /// A quantized constant, brought into the arena.
    pub(super) fn loaded(&mut self, of: &Scaled) -> Rule<Rc<Real>> {
        let (&[scale], &[zero]) = (&of.scales[..], &of.zeros[..]) else {
            return no("a constant operand with more than one scale is not supported");
        };
        let flip = if matches!(of.data.data, Data::S8(_)) { 128 } else { 0 };
        let zero = u8::try_from(zero + i64::from(flip));
        let zero = zero.map_err(|_| "a zero point of its constant has another type than it has")?;
        let tensor = self.load(&of.data)?;
        Ok(Rc::new(Real::Stored(tensor, Quant { scale, zero, flip })))
    }

    /// Constant bytes, brought into the arena.
    pub(super) fn load(&mut self, of: &Const) -> Rule<Tensor> {
        let (bytes, moved) = pack::bytes(of)?;
        // Weights are signed, what is computed is not.
        debug_assert!(moved == 0 || moved == 128);
        Ok(self.load_bytes(&of.shape, bytes.into_iter().map(|b| b as u8 ^ 0x80).collect()))
    }

    /// A constant of real numbers, as what it is put beside is stored.
    pub(super) fn fixed(&mut self, of: &Const, quant: Quant) -> Rule<Tensor> {
        let byte = |&real: &f32| arith::quantize(real, quant.scale, quant.zero.into());
        let bytes = of.reals()?.iter().map(byte).collect();
        Ok(self.load_bytes(&of.shape, bytes))
    }

    fn load_bytes(&mut self, shape: &[usize], bytes: Vec<u8>) -> Tensor {
        let tensor = self.program.tensor(shape, false);
        let op = Op::Load(Load { bytes: bytes.len() as u32, ..Load::default() });
        let blob = self.program.blob(bytes);
        self.emit(op, &[], &tensor, None, vec![blob]);
        tensor
    }
}

/// A constant that is one number.
fn number(value: &Value) -> Rule<Option<f32>> {
    Ok(match value {
        Value::Const(of) if of.len() == 1 => Some(of.reals()?[0]),
        Value::Scaled(of) if of.data.len() == 1 && of.scales.len() == 1 => {
            Some((of.data.ints()?[0] - of.zeros[0]) as f32 * of.scales[0])
        }
        _ => None,
    })
}
