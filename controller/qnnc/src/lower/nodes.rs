//! One rule for each operator of ONNX that is supported.

use super::Lower;
use super::dense::bias_of;
use super::fold::move_constant;
use super::shapes::{self, image, window};
use crate::error::{Rule, no};
use crate::graph::Node;
use crate::tensor::Data;
use crate::value::{Bias, ConvOf, Move, Pool, ProductOf, Quant, Real, Right, Scaled, Value};
use std::rc::Rc;

impl Lower {
    pub(super) fn lower_node(&mut self, node: &Node) -> Rule<Vec<Value>> {
        let real = |real: Real| Ok(vec![Value::Real(Rc::new(real))]);
        if node.opset < 11 && matches!(node.op.as_str(), "Clip" | "Pad" | "Resize" | "Upsample") {
            return no("before operator set 11 this operator had another form");
        }
        if let Some(folded) = self.fold(node)? {
            return Ok(vec![Value::Const(Rc::new(folded))]);
        }
        match node.op.as_str() {
            "Identity" | "Dropout" => Ok(vec![self.value(node, 0)?]),
            "QuantizeLinear" => Ok(vec![self.quantize_linear(node)?]),
            "DequantizeLinear" => Ok(vec![self.dequantize_linear(node)?]),
            "ConvTranspose" => real(self.spread_node(node)?),
            "MatMulInteger" | "ConvInteger" => real(self.integer_node(node)?),
            "Cast" => Ok(vec![self.cast_node(node)?]),
            "Resize" | "Upsample" => Ok(vec![self.resize_node(node)?]),
            "Gather" => Ok(vec![self.gather_node(node)?]),
            "DynamicQuantizeLinear" | "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM" => {
                no("its scales are known only when it runs: quantize the model statically")
            }
            "LSTM" | "GRU" | "RNN" => {
                no("its state is real numbers that nobody quantizes between two steps; \
                 an unrolled one that is quantized is supported")
            }
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
        let (input, quant) = self.stored_input(node, 0)?;
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

    pub(super) fn bias(
        &self,
        node: &Node,
        at: usize,
        x: Quant,
        weights: &Scaled,
    ) -> Rule<Option<Bias>> {
        if node.input(at).is_none() {
            return Ok(None);
        }
        Ok(Some(self.bias_value(&self.value(node, at)?, x, weights)?))
    }

    pub(super) fn bias_value(&self, value: &Value, x: Quant, weights: &Scaled) -> Rule<Bias> {
        match value {
            Value::Scaled(of) => bias_of(of, x, weights),
            Value::Const(of) => Ok(Bias::Reals(match of.reals() {
                Ok(reals) => reals.iter().map(|&real| real.into()).collect(),
                // Integers that are added before the scale is multiplied in.
                Err(_) => of.ints()?.into_iter().map(|step| step as f64).collect(),
            })),
            _ => no("its bias is no constant"),
        }
    }

    fn gemm_node(&mut self, node: &Node) -> Rule<Real> {
        if (node.real("alpha", 1.0), node.int("transA", 0)) != (1.0, 0)
            || (node.input(2).is_some() && node.real("beta", 1.0) != 1.0)
        {
            return no("alpha, beta and transA are not supported");
        }
        let (a, quant) = self.stored_input(node, 0)?;
        let Value::Scaled(weights) = self.value(node, 1)? else {
            return no("its weights are not quantized constants");
        };
        let bias = self.bias(node, 2, quant, &weights)?;
        let b = Right::Weights { of: weights, by_rows: node.int("transB", 0) != 0 };
        Ok(Real::Product(ProductOf { a, quant, b, bias }))
    }

    fn mat_mul_node(&mut self, node: &Node) -> Rule<Real> {
        let (a, quant) = self.stored_input(node, 0)?;
        let b = match self.value(node, 1)? {
            Value::Scaled(of) if of.data.shape.len() > 2 => {
                let constant = self.loaded(&of)?;
                let (tensor, quant) = self.stored(&constant)?;
                Right::Stored(tensor, quant)
            }
            Value::Scaled(of) => Right::Weights { of, by_rows: false },
            Value::Real(real) => {
                let (tensor, quant) = self.stored(&real)?;
                Right::Stored(tensor, quant)
            }
            _ => return no("its second operand is not quantized"),
        };
        Ok(Real::Product(ProductOf { a, quant, b, bias: None }))
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
                Value::Scaled(of) => reals.push(self.loaded(&of)?),
                Value::Const(of) => match of.data {
                    Data::F32(_) => reals.push(Rc::new(Real::Fixed(of))),
                    _ => {
                        let signed = matches!(of.data, Data::S8(_));
                        stored.push((self.load(&of)?, signed));
                    }
                },
            }
        }
        let rank = match (reals.first(), stored.first()) {
            (Some(real), None) => self.shape(real)?.len(),
            (None, Some((tensor, _))) => tensor.shape.len(),
            _ => return no("it joins bytes and real numbers"),
        };
        let axis = shapes::axis(node.int("axis", 0), rank)?;
        if let Some(&(_, signed)) = stored.first() {
            if stored.iter().any(|&(_, other)| other != signed) {
                return no("it joins uint8 and int8");
            }
            let parts: Vec<_> = stored.into_iter().map(|(tensor, _)| tensor).collect();
            return Ok(vec![Value::Stored(self.join(&parts, axis)?, signed)]);
        }
        Ok(vec![Value::Real(Rc::new(Real::Concat { of: reals, axis }))])
    }

    /// Constant indices of one axis.
    fn gather_node(&mut self, node: &Node) -> Rule<Value> {
        let value = self.value(node, 0)?;
        let indices = self.given(node, 1)?;
        let mut shape = self.value_shape(&value)?;
        let axis = shapes::axis(node.int("axis", 0), shape.len())?;
        let size = shape[axis] as i64;
        let index = |at: i64| {
            let at = if at < 0 { at + size } else { at };
            usize::try_from(at).ok().filter(|_| at < size)
        };
        let picks: Option<Vec<usize>> = indices.ints()?.into_iter().map(index).collect();
        let picks = picks.filter(|picks| !picks.is_empty());
        let picks = picks.ok_or("an index is outside of its axis, or there is none")?;
        let picked = self.move_value(value, Move::Pick(axis, picks))?;
        if indices.shape.len() == 1 {
            return Ok(picked);
        }
        shape.splice(axis..=axis, indices.shape.iter().copied());
        self.move_value(picked, Move::Reshape(shape))
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

pub(super) fn sizes(of: &[i64]) -> Rule<Vec<usize>> {
    let sizes = of.iter().map(|&size| usize::try_from(size).ok());
    sizes.collect::<Option<_>>().ok_or_else(|| "a size is negative".to_owned())
}

/// A window over a whole image.
pub(super) fn whole(shape: &[usize]) -> Rule<Pool> {
    let [_, _, h, w] = image(shape)?;
    Ok(Pool { kernel: [h, w], strides: [1, 1], dilations: [1, 1], pads: [0; 4], ceil: false })
}
