//! One rule for each operator of ONNX that is supported.

use super::Lower;
use super::dense::bias_of;
use super::shapes::{self, image, moved, window};
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::tensor::{Const, Data};
use crate::value::{Bias, ConvOf, Func, Move, Pool, ProductOf, Quant, Real, Right, Scaled, Value};
use std::rc::Rc;

impl Lower {
    pub(super) fn lower_node(&mut self, node: &Node) -> Rule<Vec<Value>> {
        let real = |real: Real| Ok(vec![Value::Real(Rc::new(real))]);
        if node.opset < 11 && matches!(node.op.as_str(), "Clip" | "Pad" | "Resize" | "Upsample") {
            return no("before operator set 11 this operator had another form");
        }
        match node.op.as_str() {
            "Constant" => Ok(vec![Value::Const(Rc::new(node.tensor("value")?))]),
            "Identity" | "Dropout" => Ok(vec![self.value(node, 0)?]),
            "QuantizeLinear" => Ok(vec![self.quantize_linear(node)?]),
            "DequantizeLinear" => Ok(vec![self.dequantize_linear(node)?]),
            "Conv" => real(self.conv_node(node)?),
            "Gemm" => real(self.gemm_node(node)?),
            "MatMul" => real(self.mat_mul_node(node)?),
            "Add" | "Sub" => real(self.sum_node(node)?),
            "Mul" | "Div" => real(self.times_node(node)?),
            "AveragePool" | "GlobalAveragePool" | "ReduceMean" => real(self.mean_node(node)?),
            "Softmax" => {
                let of = self.real(node, 0)?;
                real(self.softmax_of(node, of)?)
            }
            "Concat" => self.concat_node(node),
            "Split" => self.split_node(node),
            "QLinearConv"
            | "QLinearMatMul"
            | "QGemm"
            | "QLinearAdd"
            | "QLinearMul"
            | "QLinearAveragePool"
            | "QLinearGlobalAveragePool"
            | "QLinearConcat"
            | "QLinearSigmoid"
            | "QLinearLeakyRelu"
            | "QLinearSoftmax" => Ok(vec![self.q_linear(node)?]),
            _ => {
                if let Some(func) = self.func(node)? {
                    let of = self.real(node, 0)?;
                    return real(Real::Map(func, of));
                }
                let value = self.value(node, 0)?;
                match self.way(node, &value)? {
                    Some(way) => Ok(vec![self.move_value(value, way)?]),
                    None => no("this operator is not supported"),
                }
            }
        }
    }

    fn conv_node(&mut self, node: &Node) -> Rule<Real> {
        let (input, quant) = self.stored(&*self.real(node, 0)?)?;
        let Value::Scaled(weights) = self.value(node, 1)? else {
            return no("its weights are not quantized constants");
        };
        let bias = self.bias(node, 2, quant, &weights)?;
        Ok(Real::Conv(self.conv_of(node, (input, quant), weights, bias)?))
    }

    fn conv_of(
        &self,
        node: &Node,
        (input, quant): (crate::value::Tensor, Quant),
        weights: Rc<Scaled>,
        bias: Option<Bias>,
    ) -> Rule<ConvOf> {
        let spatial = input.shape.get(2..).unwrap_or_default();
        let kernel = weights.data.shape.get(2..).unwrap_or_default();
        let window = window(node, spatial, kernel)?;
        let groups = shapes::groups(node)?;
        Ok(ConvOf { input, quant, weights, bias, window, groups })
    }

    fn bias(&self, node: &Node, at: usize, x: Quant, weights: &Scaled) -> Rule<Option<Bias>> {
        if node.input(at).is_none() {
            return Ok(None);
        }
        Ok(Some(self.bias_value(&self.value(node, at)?, x, weights)?))
    }

    fn bias_value(&self, value: &Value, x: Quant, weights: &Scaled) -> Rule<Bias> {
        match value {
            Value::Scaled(of) => bias_of(of, x, weights),
            Value::Const(of) => {
                Ok(Bias::Reals(of.reals()?.iter().map(|&real| real.into()).collect()))
            }
            _ => no("its bias is no constant"),
        }
    }

    fn gemm_node(&mut self, node: &Node) -> Rule<Real> {
        if (node.real("alpha", 1.0), node.int("transA", 0)) != (1.0, 0)
            || (node.input(2).is_some() && node.real("beta", 1.0) != 1.0)
        {
            return no("alpha, beta and transA are not supported");
        }
        let (a, quant) = self.stored(&*self.real(node, 0)?)?;
        let Value::Scaled(weights) = self.value(node, 1)? else {
            return no("its weights are not quantized constants");
        };
        let bias = self.bias(node, 2, quant, &weights)?;
        let b = Right::Weights { of: weights, by_rows: node.int("transB", 0) != 0 };
        Ok(Real::Product(ProductOf { a, quant, b, bias }))
    }

    fn mat_mul_node(&mut self, node: &Node) -> Rule<Real> {
        let (a, quant) = self.stored(&*self.real(node, 0)?)?;
        let b = match self.value(node, 1)? {
            Value::Scaled(of) => Right::Weights { of, by_rows: false },
            Value::Real(real) => {
                let (tensor, quant) = self.stored(&real)?;
                Right::Stored(tensor, quant)
            }
            _ => return no("its second operand is not quantized"),
        };
        Ok(Real::Product(ProductOf { a, quant, b, bias: None }))
    }

    fn sum_node(&mut self, node: &Node) -> Rule<Real> {
        let minus = node.op == "Sub";
        let (a, b) = (self.value(node, 0)?, self.value(node, 1)?);
        if let (Value::Real(a), Value::Real(b)) = (&a, &b) {
            return Ok(Real::Sum { a: a.clone(), b: b.clone(), minus });
        }
        let (real, other) = match (a, b) {
            (Value::Real(real), other) => (real, other),
            (other, Value::Real(real)) if !minus => (real, other),
            _ => return no("it computes with a constant in a way that is not supported"),
        };
        if let Some(number) = number(&other)? {
            return Ok(Real::Map(Func::Plus(if minus { -number } else { number }), real));
        }
        // A constant for each channel of a sum is its bias.
        match &*real {
            Real::Product(
                of @ ProductOf { b: Right::Weights { of: weights, .. }, bias: None, .. },
            ) if !minus => {
                let bias = Some(self.bias_value(&other, of.quant, weights)?);
                Ok(Real::Product(ProductOf { bias, ..of.clone() }))
            }
            Real::Conv(of) if !minus && of.bias.is_none() => {
                let bias = Some(self.bias_value(&other, of.quant, &of.weights)?);
                Ok(Real::Conv(ConvOf { bias, ..of.clone() }))
            }
            _ => no("a constant tensor as an operand is not supported"),
        }
    }

    fn times_node(&mut self, node: &Node) -> Rule<Real> {
        let (a, b) = (self.value(node, 0)?, self.value(node, 1)?);
        let divide = node.op == "Div";
        match (a, b) {
            (Value::Real(a), Value::Real(b)) if !divide => Ok(Real::Times { a, b }),
            (Value::Real(real), other) | (other, Value::Real(real)) => match number(&other)? {
                Some(by) if divide => {
                    // Only `real / number` gets here with a real number first.
                    if !matches!(self.value(node, 0)?, Value::Real(_)) {
                        return no("a number divided by a tensor is not supported");
                    }
                    Ok(Real::Map(Func::Over(by), real))
                }
                Some(by) => Ok(Real::Map(Func::Times(by), real)),
                None => no("a constant tensor as an operand is not supported"),
            },
            _ => no("it computes with constants only"),
        }
    }

    fn mean_node(&mut self, node: &Node) -> Rule<Real> {
        let of = self.real(node, 0)?;
        let shape = self.shape(&of)?;
        let spatial = shape.get(2..).unwrap_or_default().to_vec();
        if node.op == "AveragePool" {
            let kernel = sizes(node.ints("kernel_shape").unwrap_or_default())?;
            let window = window(node, &spatial, &kernel)?;
            return Ok(Real::AvgPool {
                of,
                window,
                count_pad: node.int("count_include_pad", 0) != 0,
            });
        }
        if node.op == "ReduceMean" {
            let axes = self.axes(node, 1)?.unwrap_or_default();
            let axes: Vec<usize> =
                axes.iter().map(|&at| shapes::axis(at, shape.len())).collect::<Rule<_>>()?;
            let mut sorted = axes.clone();
            sorted.sort_unstable();
            if sorted != (2..shape.len()).collect::<Vec<_>>() {
                return no("means over other axes than those of an image are not supported");
            }
        }
        let window = whole(&shape)?;
        let mean = Real::AvgPool { of, window, count_pad: false };
        if node.op == "ReduceMean" && node.int("keepdims", 1) == 0 {
            return Ok(Real::Move(Move::Reshape(shape[..2].to_vec()), Rc::new(mean)));
        }
        Ok(mean)
    }

    pub(super) fn softmax_of(&mut self, node: &Node, of: Rc<Real>) -> Rule<Real> {
        let shape = self.shape(&of)?;
        let old = node.opset < 13;
        let axis = shapes::axis(node.int("axis", if old { 1 } else { -1 }), shape.len())?;
        if old && axis + 1 != shape.len() {
            return no("before operator set 13 only the last axis is supported");
        }
        Ok(Real::Softmax { of, axis })
    }

    fn concat_node(&mut self, node: &Node) -> Rule<Vec<Value>> {
        let values = (0..node.inputs.len()).map(|at| self.value(node, at));
        let values = values.collect::<Rule<Vec<_>>>()?;
        let (mut reals, mut stored) = (Vec::new(), Vec::new());
        for value in values {
            match value {
                Value::Real(real) => reals.push(real),
                Value::Stored(tensor, signed) => stored.push((tensor, signed)),
                _ => return no("a constant as a part is not supported"),
            }
        }
        let rank = match (reals.first(), stored.first()) {
            (Some(real), None) => self.shape(real)?.len(),
            (None, Some((tensor, _))) => tensor.shape.len(),
            _ => return no("it joins bytes and real numbers"),
        };
        let axis = shapes::axis(node.int("axis", 0), rank)?;
        if let Some(&(_, signed)) = stored.first() {
            let parts: Vec<_> = stored.into_iter().map(|(tensor, _)| tensor).collect();
            return Ok(vec![Value::Stored(self.join(&parts, axis)?, signed)]);
        }
        Ok(vec![Value::Real(Rc::new(Real::Concat { of: reals, axis }))])
    }

    fn split_node(&mut self, node: &Node) -> Rule<Vec<Value>> {
        let value = self.value(node, 0)?;
        let shape = self.value_shape(&value)?;
        let axis = shapes::axis(node.int("axis", 0), shape.len())?;
        let sizes = match (self.constant(node, 1)?, node.ints("split")) {
            (Some(given), _) => sizes(&given.ints()?)?,
            (None, Some(given)) => sizes(given)?,
            (None, None) => {
                let each = shape[axis].div_ceil(node.outputs.len().max(1));
                let mut left = shape[axis];
                let part = |_| {
                    let part = each.min(left);
                    left -= part;
                    part
                };
                node.outputs.iter().map(part).collect()
            }
        };
        if sizes.iter().sum::<usize>() != shape[axis] || sizes.contains(&0) {
            return no(format!("its parts are {sizes:?} of {}", shape[axis]));
        }
        let (mut parts, mut at) = (Vec::new(), 0);
        for size in sizes {
            let mut axes: Vec<_> = shape.iter().map(|&dim| (0, dim, 1)).collect();
            axes[axis] = (at, size, 1);
            at += size;
            parts.push(self.move_value(value.clone(), Move::Slice(axes))?);
        }
        Ok(parts)
    }

    /// Axes as an input of the node or as its attribute, as versions of the operator set differ.
    pub(super) fn axes(&self, node: &Node, input: usize) -> Rule<Option<Vec<i64>>> {
        match self.constant(node, input)? {
            Some(axes) => Ok(Some(axes.ints()?)),
            None => Ok(node.ints("axes").map(<[i64]>::to_vec)),
        }
    }

    pub(super) fn value_shape(&self, value: &Value) -> Rule<Vec<usize>> {
        match value {
            Value::Const(of) => Ok(of.shape.clone()),
            Value::Scaled(of) => Ok(of.data.shape.clone()),
            Value::Stored(of, _) => Ok(of.shape.clone()),
            Value::Real(of) => self.shape(of),
        }
    }

    /// Moves bytes at once; what is not stored yet is moved once it is.
    pub(super) fn move_value(&mut self, value: Value, way: Move) -> Rule<Value> {
        match value {
            Value::Stored(of, signed) => {
                let flip = if signed { 128 } else { 0 };
                let quant = Quant { scale: 1.0, zero: flip, flip };
                Ok(Value::Stored(self.moved(&way, &of, quant)?, signed))
            }
            Value::Real(real) => Ok(Value::Real(Rc::new(match &*real {
                Real::Stored(of, quant) => Real::Stored(self.moved(&way, of, *quant)?, *quant),
                _ => Real::Move(way, real),
            }))),
            Value::Const(of) => Ok(Value::Const(Rc::new(move_constant(&of, &way)?))),
            Value::Scaled(of) => {
                let data = Rc::new(move_constant(&of.data, &way)?);
                let axis = match &way {
                    Move::Transpose(order) => order.iter().position(|&a| a == of.axis).unwrap_or(0),
                    _ if of.scales.len() == 1 => 0,
                    _ => return no("weights with a scale per channel are reshaped"),
                };
                Ok(Value::Scaled(Rc::new(Scaled { data, axis, ..(*of).clone() })))
            }
        }
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

pub(super) fn sizes(of: &[i64]) -> Rule<Vec<usize>> {
    let sizes = of.iter().map(|&size| usize::try_from(size).ok());
    sizes.collect::<Option<_>>().ok_or_else(|| "a size is negative".to_owned())
}

/// A window over a whole image.
pub(super) fn whole(shape: &[usize]) -> Rule<Pool> {
    let [_, _, h, w] = image(shape)?;
    Ok(Pool { kernel: [h, w], strides: [1, 1], dilations: [1, 1], pads: [0; 4], ceil: false })
}

/// Weights that are transposed or reshaped in the graph.
fn move_constant(of: &Const, way: &Move) -> Rule<Const> {
    let shape = moved(way, &of.shape)?;
    match way {
        Move::Reshape(_) if shape.iter().product::<usize>() == of.len() => {
            Ok(Const { shape, data: of.data.clone() })
        }
        Move::Transpose(order) => {
            let old =
                crate::value::Tensor { buffer: 0, shape: of.shape.clone(), channels_last: false };
            let old = old.strides();
            let place = |mut index: usize| {
                let mut at = 0;
                for (&axis, &size) in order.iter().zip(&shape).rev() {
                    at += index % size * old[axis];
                    index /= size;
                }
                at
            };
            let places: Vec<usize> = (0..of.len()).map(place).collect();
            let data = match &of.data {
                Data::F32(data) => Data::F32(places.iter().map(|&at| data[at]).collect()),
                Data::I64(data) => Data::I64(places.iter().map(|&at| data[at]).collect()),
                Data::I32(data) => Data::I32(places.iter().map(|&at| data[at]).collect()),
                Data::U8(data) => Data::U8(places.iter().map(|&at| data[at]).collect()),
                Data::S8(data) => Data::S8(places.iter().map(|&at| data[at]).collect()),
            };
            Ok(Const { shape, data })
        }
        _ => no("a constant is moved in a way that is not supported"),
    }
}
