//! QOperator nodes: operators that carry the scales of their inputs and output themselves.
//!
//! Each is the real operator between DequantizeLinear and QuantizeLinear, and is lowered as that.

use super::nodes::whole;
use super::shapes::{axis, groups, window};
use super::{Lower, nodes};
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::tensor::Const;
use crate::value::{Bias, ConvOf, Func, ProductOf, Real, Right, Value};
use std::rc::Rc;

impl Lower {
    pub(super) fn q_linear(&mut self, node: &Node) -> Rule<Value> {
        if node.int("channels_last", 0) != 0 {
            return no("channels_last is not supported");
        }
        match node.op.as_str() {
            "QLinearConv" => self.q_conv(node),
            "QLinearMatMul" => self.q_mat_mul(node),
            "QGemm" => self.q_gemm(node),
            "QLinearAdd" | "QLinearMul" => self.q_pointwise(node),
            "QLinearAveragePool" | "QLinearGlobalAveragePool" => self.q_mean(node),
            "QLinearConcat" => self.q_concat(node),
            "QLinearSoftmax" => {
                let of = self.operand(node, 0, 1, 2)?;
                let softmax = self.q_softmax(node, of)?;
                let quant = self.quant(node, 3, 4)?;
                self.result(softmax, quant)
            }
            _ => {
                let func = match node.op.as_str() {
                    "QLinearSigmoid" => Func::Sigmoid,
                    _ => Func::Leaky(node.real("alpha", 0.01)),
                };
                let of = self.operand(node, 0, 1, 2)?;
                let quant = self.quant(node, 3, 4)?;
                self.result(Real::Map(func, of), quant)
            }
        }
    }

    fn q_softmax(&mut self, node: &Node, of: Rc<Real>) -> Rule<Real> {
        let rank = self.shape(&of)?.len();
        let at = axis(node.int("axis", -1), rank)?;
        if node.int("opset", 13) < 13 && at + 1 != rank {
            return no("before operator set 13 only the last axis is supported");
        }
        Ok(Real::Softmax { of, axis: at })
    }

    fn q_conv(&mut self, node: &Node) -> Rule<Value> {
        let x = self.operand(node, 0, 1, 2)?;
        let (input, quant) = self.stored(&x)?;
        let weights = self.scaled(node, self.given(node, 3)?, [4, 5], 0)?;
        let bias = steps(self.constant(node, 8)?)?;
        let spatial = input.shape.get(2..).unwrap_or_default();
        let kernel = weights.data.shape.get(2..).unwrap_or_default();
        let window = window(node, spatial, kernel)?;
        let groups = groups(node)?;
        let to = self.quant(node, 6, 7)?;
        self.result(Real::Conv(ConvOf { input, quant, weights, bias, window, groups }), to)
    }

    fn q_mat_mul(&mut self, node: &Node) -> Rule<Value> {
        let (a, quant) = self.stored(&*self.operand(node, 0, 1, 2)?)?;
        let b = match self.value(node, 3)? {
            Value::Const(data) => {
                Right::Weights { of: self.scaled(node, data, [4, 5], -1)?, by_rows: false }
            }
            _ => {
                let (b, quant) = self.stored(&*self.operand(node, 3, 4, 5)?)?;
                Right::Stored(b, quant)
            }
        };
        let to = self.quant(node, 6, 7)?;
        self.result(Real::Product(ProductOf { a, quant, b, bias: None }), to)
    }

    fn q_gemm(&mut self, node: &Node) -> Rule<Value> {
        if (node.real("alpha", 1.0), node.int("transA", 0)) != (1.0, 0) {
            return no("alpha and transA are not supported");
        }
        if node.input(7).is_none() {
            return no("a result that is not quantized is not supported");
        }
        let (a, quant) = self.stored(&*self.operand(node, 0, 1, 2)?)?;
        let by_rows = node.int("transB", 0) != 0;
        let of = self.scaled(node, self.given(node, 3)?, [4, 5], i64::from(!by_rows))?;
        let bias = steps(self.constant(node, 6)?)?;
        let to = self.quant(node, 7, 8)?;
        let b = Right::Weights { of, by_rows };
        self.result(Real::Product(ProductOf { a, quant, b, bias }), to)
    }

    fn q_pointwise(&mut self, node: &Node) -> Rule<Value> {
        let a = self.operand(node, 0, 1, 2)?;
        let to = self.quant(node, 6, 7)?;
        if let Value::Const(data) = self.value(node, 3)? {
            let quant = self.quant(node, 4, 5)?;
            let [stored] = data.ints()?[..] else {
                return no("a constant tensor as an operand is not supported");
            };
            let zero = i64::from(quant.zero) - i64::from(quant.flip);
            let number = (stored - zero) as f32 * quant.scale;
            let add = node.op == "QLinearAdd";
            let func = if add { Func::Plus(number) } else { Func::Times(number) };
            return self.result(Real::Map(func, a), to);
        }
        let b = self.operand(node, 3, 4, 5)?;
        let real = match node.op.as_str() {
            "QLinearAdd" => Real::Sum { a, b, minus: false },
            _ => Real::Times { a, b },
        };
        self.result(real, to)
    }

    fn q_mean(&mut self, node: &Node) -> Rule<Value> {
        let of = self.operand(node, 0, 1, 2)?;
        let shape = self.shape(&of)?;
        let window = if node.op == "QLinearGlobalAveragePool" {
            whole(&shape)?
        } else {
            let kernel = nodes::sizes(node.ints("kernel_shape").unwrap_or_default())?;
            window(node, shape.get(2..).unwrap_or_default(), &kernel)?
        };
        let count_pad = node.int("count_include_pad", 0) != 0;
        let to = self.quant(node, 3, 4)?;
        self.result(Real::AvgPool { of, window, count_pad }, to)
    }

    fn q_concat(&mut self, node: &Node) -> Rule<Value> {
        let to = self.quant(node, 0, 1)?;
        let parts = (2..node.inputs.len()).step_by(3);
        let of =
            parts.map(|at| self.operand(node, at, at + 1, at + 2)).collect::<Rule<Vec<_>>>()?;
        let rank = self.shape(of.first().ok_or("it joins nothing")?)?.len();
        let axis = axis(node.int("axis", 0), rank)?;
        self.result(Real::Concat { of, axis }, to)
    }
}

/// A bias in steps of the accumulator.
fn steps(bias: Option<Rc<Const>>) -> Rule<Option<Bias>> {
    bias.map(|bias| Ok(Bias::Steps(bias.ints()?))).transpose()
}
