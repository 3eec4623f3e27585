//! Where numbers become bytes, and bytes numbers: QuantizeLinear and DequantizeLinear.

use super::Lower;
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::tensor::{Const, Data};
use crate::value::{Quant, Real, Scaled, Value};
use std::rc::Rc;

impl Lower {
    /// Scale and zero point of a tensor, from two inputs of a node.
    pub(super) fn quant(&self, node: &Node, scale: usize, zero: usize) -> Rule<Quant> {
        let scale = self.given(node, scale)?;
        let &[scale] = scale.reals()? else {
            return no("a scale per channel is supported for weights only");
        };
        check_scale(scale)?;
        match self.constant(node, zero)? {
            None => Ok(Quant { scale, zero: 0, flip: 0 }),
            Some(zero) => match &zero.data {
                Data::U8(data) if data.len() == 1 => Ok(Quant { scale, zero: data[0], flip: 0 }),
                Data::S8(data) if data.len() == 1 => {
                    Ok(Quant { scale, zero: data[0] as u8 ^ 0x80, flip: 128 })
                }
                _ => no("its zero point is neither one uint8 nor one int8"),
            },
        }
    }

    /// A constant with scales and zero points from two inputs of a node.
    pub(super) fn scaled(
        &self,
        node: &Node,
        data: Rc<Const>,
        [scale, zero]: [usize; 2],
        axis: i64,
    ) -> Rule<Rc<Scaled>> {
        let scales = self.given(node, scale)?.reals()?.to_vec();
        scales.iter().try_for_each(|&scale| check_scale(scale))?;
        if scales.is_empty() {
            return no("it has no scale");
        }
        let rank = data.shape.len();
        // One scale has no axis.
        let axis = if scales.len() == 1 { 0 } else { super::shapes::axis(axis, rank.max(1))? };
        if scales.len() != 1 && data.shape.get(axis) != Some(&scales.len()) {
            return no(format!(
                "it has {} scales on axis {axis} of {:?}",
                scales.len(),
                data.shape
            ));
        }
        let zeros = match self.constant(node, zero)? {
            None => vec![0; scales.len()],
            Some(zeros) => zeros.ints()?,
        };
        if zeros.len() != scales.len() && zeros.len() != 1 {
            return no("it has another number of zero points than of scales");
        }
        let zeros = if zeros.len() == 1 { vec![zeros[0]; scales.len()] } else { zeros };
        Ok(Rc::new(Scaled { data, scales, zeros, axis }))
    }

    pub(super) fn dequantize_linear(&self, node: &Node) -> Rule<Value> {
        if node.int("block_size", 0) != 0 {
            return no("blocks of scales are not supported");
        }
        match self.value(node, 0)? {
            Value::Const(data) => {
                Ok(Value::Scaled(self.scaled(node, data, [1, 2], node.int("axis", 1))?))
            }
            Value::Stored(tensor, signed) => {
                let mut quant = self.quant(node, 1, 2)?;
                if node.input(2).is_none() && signed {
                    quant = Quant { zero: 128, flip: 128, ..quant };
                }
                if (quant.flip == 128) != signed {
                    return no("its zero point has another type than its input");
                }
                Ok(Value::Real(Rc::new(Real::Stored(tensor, quant))))
            }
            _ => no("its input is not quantized"),
        }
    }

    pub(super) fn quantize_linear(&mut self, node: &Node) -> Rule<Value> {
        if node.int("block_size", 0) != 0 || ![0, 2, 3].contains(&node.int("output_dtype", 0)) {
            return no("it gives neither uint8 nor int8 with one scale");
        }
        let mut quant = self.quant(node, 1, 2)?;
        if node.input(2).is_none() && node.int("output_dtype", 0) == 3 {
            quant = Quant { zero: 128, flip: 128, ..quant };
        }
        let real = match self.value(node, 0)? {
            Value::Real(real) => real,
            // Weights that are quantized in the graph itself.
            Value::Const(data) => return quantize_constant(&data, quant),
            _ => return no("its input is not a real number"),
        };
        let tensor = self.store(&real, quant)?;
        Ok(Value::Stored(tensor, quant.flip == 128))
    }

    /// An input that is stored and dequantized by the node itself, as QOperator nodes do.
    pub(super) fn operand(
        &self,
        node: &Node,
        at: usize,
        scale: usize,
        zero: usize,
    ) -> Rule<Rc<Real>> {
        let quant = self.quant(node, scale, zero)?;
        match self.value(node, at)? {
            Value::Stored(tensor, signed) if signed == (quant.flip == 128) => {
                Ok(Rc::new(Real::Stored(tensor, quant)))
            }
            Value::Stored(..) => no("its zero point has another type than its input"),
            _ => no(format!("its input {at} is not quantized bytes")),
        }
    }

    /// Stores the result of a QOperator node.
    pub(super) fn result(&mut self, real: Real, quant: Quant) -> Rule<Value> {
        let tensor = self.store(&Rc::new(real), quant)?;
        Ok(Value::Stored(tensor, quant.flip == 128))
    }
}

fn check_scale(scale: f32) -> Rule {
    if scale.is_finite() && scale > 0.0 { Ok(()) } else { no(format!("its scale is {scale}")) }
}

fn quantize_constant(data: &Const, quant: Quant) -> Rule<Value> {
    let stored = data.reals()?.iter().map(|&real| {
        fleetway_qnn::arith::quantize(real, quant.scale, quant.zero.into()) ^ quant.flip
    });
    let stored: Vec<u8> = stored.collect();
    let data_of = |bytes: Vec<u8>| match quant.flip {
        0 => Data::U8(bytes),
        _ => Data::S8(bytes.into_iter().map(|byte| byte as i8).collect()),
    };
    Ok(Value::Const(Rc::new(Const { shape: data.shape.clone(), data: data_of(stored) })))
}
