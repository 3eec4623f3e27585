//! What is known about the tensors of a graph while its nodes are walked: which names exist, which
//! are constants, and how many axes they have where that is plain without running anything.

use super::{Refused, check_name, constants};
use crate::tensor::TensorSpec;
use std::collections::HashMap;
use tract_onnx::pb::{NodeProto, TensorProto};

/// A tensor whose value stands in the file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Constant<'a> {
    Tensor(&'a TensorProto),
    Ints(&'a [i64]),
    Floats(&'a [f32]),
    /// Something that no rule here needs to read.
    Other,
}

impl Constant<'_> {
    /// The values as integers, if it is an integer tensor.
    pub(super) fn ints(&self) -> Option<Vec<i64>> {
        match self {
            Self::Tensor(tensor) => constants::ints(tensor),
            Self::Ints(values) => Some(values.to_vec()),
            Self::Floats(_) | Self::Other => None,
        }
    }

    /// The values as floats, if it is an f32 or f64 tensor.
    pub(super) fn floats(&self) -> Option<Vec<f32>> {
        match self {
            Self::Tensor(tensor) => constants::floats(tensor),
            Self::Floats(values) => Some(values.to_vec()),
            Self::Ints(_) | Self::Other => None,
        }
    }

    /// Sizes of the axes. A list is taken for a vector, which is what it is used as.
    pub(super) fn dims(&self) -> Option<Vec<i64>> {
        match self {
            Self::Tensor(tensor) => Some(tensor.dims.clone()),
            Self::Ints(values) => Some(vec![values.len() as i64]),
            Self::Floats(values) => Some(vec![values.len() as i64]),
            Self::Other => None,
        }
    }
}

#[derive(Debug, Default)]
struct Known<'a> {
    constant: Option<Constant<'a>>,
    dims: Option<Vec<i64>>,
    rank: Option<usize>,
}

/// Names defined so far.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    opset: i64,
    names: HashMap<&'a str, Known<'a>>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(opset: i64) -> Self {
        Self { opset, names: HashMap::new() }
    }

    /// Version of the default operator set.
    pub(super) fn opset(&self) -> i64 {
        self.opset
    }

    pub(super) fn is_defined(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn constant(&self, name: &str) -> Option<Constant<'a>> {
        self.names.get(name)?.constant
    }

    pub(super) fn dims(&self, name: &str) -> Option<&[i64]> {
        self.names.get(name)?.dims.as_deref()
    }

    pub(super) fn rank(&self, name: &str) -> Option<usize> {
        self.names.get(name)?.rank
    }

    fn define(&mut self, name: &'a str, known: Known<'a>) -> Result<(), Refused> {
        check_name(name)?;
        match self.names.insert(name, known) {
            None => Ok(()),
            Some(_) => Err(Refused::DuplicateName { name: name.to_owned() }),
        }
    }

    pub(super) fn define_input(&mut self, spec: &'a TensorSpec) -> Result<(), Refused> {
        let dims = spec.shape.iter().map(|&dim| dim as i64).collect();
        self.define(
            &spec.name,
            Known { constant: None, dims: Some(dims), rank: Some(spec.shape.len()) },
        )
    }

    pub(super) fn define_constant(
        &mut self,
        name: &'a str,
        constant: Constant<'a>,
    ) -> Result<(), Refused> {
        let dims = constant.dims();
        let rank = dims.as_ref().map(Vec::len);
        self.define(name, Known { constant: Some(constant), dims, rank })
    }

    /// Defines what `node` makes.
    pub(super) fn define_outputs(&mut self, node: &'a NodeProto) -> Result<(), Refused> {
        if node.op_type == "Constant" {
            let value =
                node.attribute.iter().map(attribute_constant).next().unwrap_or(Constant::Other);
            return match node.output.first() {
                Some(name) => self.define_constant(name, value),
                None => Ok(()),
            };
        }
        let rank = self.output_rank(node);
        for (at, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            // Only the first output of the operators below is known to keep the rank.
            let rank = rank.filter(|_| at == 0);
            self.define(name, Known { constant: None, dims: None, rank })?;
        }
        Ok(())
    }

    /// Axes of the first output, for the operators that make up most graphs.
    fn output_rank(&self, node: &NodeProto) -> Option<usize> {
        let input = |at: usize| node.input.get(at).and_then(|name| self.rank(name));
        match node.op_type.as_str() {
            "Relu"
            | "LeakyRelu"
            | "PRelu"
            | "Elu"
            | "Selu"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Tanh"
            | "Clip"
            | "Softmax"
            | "LogSoftmax"
            | "Hardmax"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "Dropout"
            | "Identity"
            | "Cast"
            | "QuantizeLinear"
            | "DequantizeLinear"
            | "DynamicQuantizeLinear"
            | "MaxPool"
            | "AveragePool"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "LRN"
            | "Pad"
            | "Transpose"
            | "Concat"
            | "Resize"
            | "Slice"
            | "Conv"
            | "ConvInteger"
            | "QLinearConv"
            | "ConvTranspose"
            | "Neg"
            | "Abs"
            | "Exp"
            | "Log"
            | "Sqrt"
            | "Erf"
            | "Softplus" => input(0),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" if node.input.len() == 2 => {
                Some(input(0)?.max(input(1)?))
            }
            "Gemm" | "Flatten" => Some(2),
            "MatMul" | "MatMulInteger" => {
                Some(input(0)?.max(input(1)?)).filter(|rank| *rank >= 2 && input(0) == input(1))
            }
            "Reshape" => Some(self.constant(node.input.get(1)?)?.ints()?.len()),
            _ => None,
        }
    }
}

fn attribute_constant(attribute: &tract_onnx::pb::AttributeProto) -> Constant<'_> {
    match (attribute.name.as_str(), &attribute.t) {
        ("value", Some(tensor)) => Constant::Tensor(tensor),
        ("value_ints", _) => Constant::Ints(&attribute.ints),
        ("value_floats", _) => Constant::Floats(&attribute.floats),
        ("value_int", _) => Constant::Ints(std::slice::from_ref(&attribute.i)),
        ("value_float", _) => Constant::Floats(std::slice::from_ref(&attribute.f)),
        _ => Constant::Other,
    }
}
