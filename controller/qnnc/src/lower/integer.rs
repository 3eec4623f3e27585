//! Products and convolutions of integers, whose scales are multiplied in behind them.

use super::Lower;
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::tensor::Data;
use crate::value::{ConvOf, ProductOf, Quant, Real, Right, Scaled, Tensor, Value};
use std::rc::Rc;

impl Lower {
    /// MatMulInteger and ConvInteger: the real operators, with every step 1.
    pub(super) fn integer_node(&mut self, node: &Node) -> Rule<Real> {
        let (a, quant) = self.whole_operand(node, 0, 2)?;
        let b = match self.value(node, 1)? {
            Value::Const(data) => {
                let zeros = match self.constant(node, 3)? {
                    Some(zeros) => zeros.ints()?,
                    None => vec![0],
                };
                let by_columns = node.op == "MatMulInteger";
                let axis = if by_columns { data.shape.len().saturating_sub(1) } else { 0 };
                Rc::new(Scaled { scales: vec![1.0; zeros.len()], data, zeros, axis })
            }
            _ if node.op == "ConvInteger" => return no("its weights are no constants"),
            _ => {
                let (b, qb) = self.whole_operand(node, 1, 3)?;
                let b = Right::Stored(b, qb);
                return Ok(Real::Product(ProductOf { a, quant, b, bias: None }));
            }
        };
        if node.op == "MatMulInteger" {
            let b = Right::Weights { of: b, by_rows: false };
            return Ok(Real::Product(ProductOf { a, quant, b, bias: None }));
        }
        let spatial = a.shape.get(2..).unwrap_or_default();
        let window =
            super::shapes::window(node, spatial, b.data.shape.get(2..).unwrap_or_default())?;
        let groups = super::shapes::groups(node)?;
        Ok(Real::Conv(ConvOf { input: a, quant, weights: b, bias: None, window, groups }))
    }

    /// Bytes as whole numbers from their zero point.
    fn whole_operand(&self, node: &Node, at: usize, zero: usize) -> Rule<(Tensor, Quant)> {
        let Value::Stored(tensor, signed) = self.value(node, at)? else {
            return no("its input is not quantized with scales that are known before it runs");
        };
        let flip = if signed { 128 } else { 0 };
        let zero = match self.constant(node, zero)? {
            None => flip,
            Some(of) => match (&of.data, signed) {
                (Data::U8(zero), false) if zero.len() == 1 => zero[0],
                (Data::S8(zero), true) if zero.len() == 1 => zero[0] as u8 ^ 0x80,
                _ => return no("its zero point is not one number of the type of its input"),
            },
        };
        Ok((tensor, Quant { scale: 1.0, zero, flip }))
    }

    /// Whole numbers as real ones; everything else is another operator.
    pub(super) fn cast_node(&mut self, node: &Node) -> Rule<Value> {
        match self.value(node, 0)? {
            Value::Real(real) if node.int("to", 0) == i64::from(crate::proto::element::FLOAT) => {
                Ok(Value::Real(real))
            }
            _ => no("casts other than to float32 are not supported"),
        }
    }
}
