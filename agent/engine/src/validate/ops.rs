//! One rule for each kind of node: attributes in range, axes inside the rank.

use super::scope::Scope;
use super::{Refused, constants, quant, sizes};
use crate::limits::{self, bounded};
use crate::region;
use std::collections::HashSet;
use std::sync::OnceLock;
use tract_onnx::pb::{AttributeProto, NodeProto};

pub(super) type Check = Result<(), Refused>;

/// Operators of the `ai.onnx.ml` domain that tract has.
const ML_OPERATORS: &[&str] = &[
    "ArrayFeatureExtractor",
    "CategoryMapper",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "TreeEnsembleClassifier",
];

/// Operators of the `com.microsoft` domain that tract has under the same meaning. tract itself
/// ignores the domain, so a foreign operator that shares a name would be computed as another one.
const CONTRIB_OPERATORS: &[&str] = &[
    "BiasGelu",
    "DequantizeLinear",
    "FastGelu",
    "GatherBlockQuantized",
    "Gelu",
    "MatMulNBits",
    "QuantizeLinear",
    "QuickGelu",
    "RotaryEmbedding",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// `node` as messages call it.
pub(super) fn label(node: &NodeProto) -> String {
    let name = [&node.name, node.output.first().unwrap_or(&node.name)]
        .into_iter()
        .find(|name| !name.is_empty());
    bounded(format!("node `{}` ({})", name.map_or("", String::as_str), node.op_type))
}

/// Every rule for `node`; what it reads is already in `scope`.
pub(super) fn check_node(scope: &Scope, node: &NodeProto) -> Check {
    check_operator(node)?;
    check_attributes(node)?;
    match node.op_type.as_str() {
        "Conv" | "ConvInteger" | "QLinearConv" | "ConvTranspose" => {
            check_window(node)?;
            check_conv(scope, node)?;
        }
        "MaxPool" | "AveragePool" => {
            let kernel = ints(node, "kernel_shape");
            kernel.ok_or_else(|| {
                attribute(node, "kernel_shape", "is missing: export the model again")
            })?;
            check_window(node)?;
        }
        "Transpose" => check_permutation(scope, node)?,
        "Flatten" => check_axis(scope, node, 1, true)?,
        "Softmax" | "LogSoftmax" | "Hardmax" => {
            let old = scope.opset() < 13;
            check_axis(scope, node, if old { 1 } else { -1 }, old)?;
        }
        "Concat" | "Gather" | "GatherElements" | "ArgMax" | "ArgMin" | "Split" => {
            check_axis(scope, node, 0, false)?
        }
        "DepthToSpace" | "SpaceToDepth" => range(node, "blocksize", 1, 1_024)?,
        "LRN" => range(node, "size", 1, limits::KERNEL_EXTENT_MAX)?,
        "Div" | "Mod" => check_divisor(scope, node)?,
        "Slice" => check_steps(scope, node)?,
        "ConstantOfShape" => sizes::check_shape_input(scope, node, 0)?,
        "Expand" | "Tile" | "Reshape" => sizes::check_shape_input(scope, node, 1)?,
        "Range" => sizes::check_range_op(scope, node)?,
        "OneHot" => sizes::bounded_ints(scope, node, 1, "depth", 1, i64::from(u16::MAX))?,
        "TopK" => sizes::bounded_ints(scope, node, 1, "k", 1, i64::from(u16::MAX))?,
        "Pad" => sizes::check_pad(scope, node)?,
        "Resize" | "Upsample" => sizes::check_resize(scope, node)?,
        "BlackmanWindow" | "HammingWindow" | "HannWindow" => {
            sizes::bounded_ints(scope, node, 0, "size", 1, 1 << 16)?
        }
        "MelWeightMatrix" => {
            sizes::bounded_ints(scope, node, 0, "number of bins", 1, 1 << 13)?;
            sizes::bounded_ints(scope, node, 1, "transform length", 1, 1 << 13)?;
        }
        _ => {}
    }
    quant::check_node(scope, node)
}

fn known_operators() -> &'static HashSet<String> {
    static KNOWN: OnceLock<HashSet<String>> = OnceLock::new();
    KNOWN.get_or_init(|| tract_onnx::onnx().op_register.0.into_keys().collect())
}

fn check_operator(node: &NodeProto) -> Check {
    let refuse = |why| Err(Refused::RefusedOperator { node: label(node), why });
    match node.op_type.as_str() {
        "If" | "Loop" | "Scan" => {
            return refuse(
                "control flow with inner graphs is not supported: unroll it before export",
            );
        }
        "RandomNormal" | "RandomNormalLike" | "RandomUniform" | "RandomUniformLike"
        | "Multinomial" => {
            return refuse(
                "it draws random numbers, so no golden vector can hold: export for inference",
            );
        }
        _ => {}
    }
    let known = match node.domain.as_str() {
        "" | "ai.onnx" => true,
        "ai.onnx.ml" => ML_OPERATORS.contains(&node.op_type.as_str()),
        "com.microsoft" => CONTRIB_OPERATORS.contains(&node.op_type.as_str()),
        region::DOMAIN if node.op_type == region::OPERATOR => return check_region(node),
        _ => false,
    };
    if !known || !known_operators().contains(&node.op_type) {
        let (op, domain) = (bounded(node.op_type.clone()), bounded(node.domain.clone()));
        return Err(Refused::UnknownOperator { node: label(node), op, domain });
    }
    Ok(())
}

/// A region of a mixed graph: its compiled network must be one, and take what the node is given.
fn check_region(node: &NodeProto) -> Check {
    region::check(node).map_err(|detail| attribute(node, "model", &detail))
}

/// What holds for the inputs, outputs and attributes of any node.
fn check_attributes(node: &NodeProto) -> Check {
    let counts = [
        ("node inputs", node.input.len()),
        ("node outputs", node.output.len()),
        ("attributes", node.attribute.len()),
    ];
    for (what, have) in counts {
        if have > limits::NODE_IO_MAX {
            return Err(Refused::TooMany { what, have, max: limits::NODE_IO_MAX });
        }
    }
    if node.output.iter().all(String::is_empty) {
        return Err(Refused::Feature {
            feature: format!("{} without an output", label(node)),
            mend: "remove the node",
        });
    }
    let mut names = HashSet::new();
    for attr in &node.attribute {
        if !names.insert(attr.name.as_str()) {
            return Err(attribute(node, &attr.name, "is there twice: export the model again"));
        }
        if attr.g.is_some()
            || !attr.graphs.is_empty()
            || attr.sparse_tensor.is_some()
            || !attr.sparse_tensors.is_empty()
        {
            return Err(attribute(
                node,
                &attr.name,
                "holds a graph or a sparse tensor, which is not supported",
            ));
        }
        for tensor in attr.t.iter().chain(&attr.tensors) {
            constants::check_tensor(tensor, &label(node))?;
        }
        check_numbers(node, attr)?;
    }
    Ok(())
}

/// Numbers no rule of their own: small enough that no size can be built from one. Slices and
/// constants are where exporters write "to the end" as the largest i64.
fn check_numbers(node: &NodeProto, attr: &AttributeProto) -> Check {
    let free = matches!(node.op_type.as_str(), "Slice" | "Constant");
    let out_of_range =
        |value: &i64| !free && value.unsigned_abs() > limits::INT_ATTRIBUTE_MAX.unsigned_abs();
    if let Some(value) =
        std::iter::once(&attr.i).chain(&attr.ints).find(|value| out_of_range(value))
    {
        return Err(attribute(node, &attr.name, &format!("is {value}: out of range")));
    }
    if node.op_type != "Constant"
        && std::iter::once(&attr.f).chain(&attr.floats).any(|value| value.is_nan())
    {
        return Err(attribute(node, &attr.name, "is not a number"));
    }
    Ok(())
}

pub(super) fn attribute(node: &NodeProto, name: &str, detail: &str) -> Refused {
    Refused::Attribute {
        node: label(node),
        attribute: bounded(name.to_owned()),
        detail: detail.to_owned(),
    }
}

fn find<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attr| attr.name == name)
}

pub(super) fn int(node: &NodeProto, name: &str) -> Option<i64> {
    find(node, name).map(|attr| attr.i)
}

pub(super) fn ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    find(node, name).map(|attr| attr.ints.as_slice())
}

fn range(node: &NodeProto, name: &str, min: i64, max: i64) -> Check {
    match int(node, name) {
        Some(value) if !(min..=max).contains(&value) => {
            Err(attribute(node, name, &format!("is {value}, allowed are {min} to {max}")))
        }
        _ => Ok(()),
    }
}

/// Kernel, strides, dilations and pads of a convolution or pool: in range, and of one length.
fn check_window(node: &NodeProto) -> Check {
    let mut axes: Option<usize> = None;
    for (name, min, max, ends) in [
        ("kernel_shape", 1, limits::KERNEL_EXTENT_MAX, 1),
        ("strides", 1, limits::KERNEL_EXTENT_MAX, 1),
        ("dilations", 1, limits::KERNEL_EXTENT_MAX, 1),
        ("pads", 0, limits::PAD_MAX, 2),
        ("output_padding", 0, limits::PAD_MAX, 1),
    ] {
        let Some(values) = ints(node, name) else { continue };
        if let Some(value) = values.iter().find(|value| !(min..=max).contains(*value)) {
            return Err(attribute(node, name, &format!("has {value}, allowed are {min} to {max}")));
        }
        let here = values.len() / ends;
        if values.len() % ends != 0 || *axes.get_or_insert(here) != here {
            return Err(attribute(
                node,
                name,
                &format!("has {} numbers, which fits no number of axes", values.len()),
            ));
        }
    }
    Ok(())
}

/// Kernel tensor of a convolution, where it stands in the file.
fn check_conv(scope: &Scope, node: &NodeProto) -> Check {
    range(node, "group", 1, limits::GROUPS_MAX)?;
    let at = if node.op_type == "QLinearConv" { 3 } else { 1 };
    let Some(name) = node.input.get(at) else {
        return Err(arity(node, "at least an input and a kernel"));
    };
    let Some(dims) = scope.dims(name) else { return Ok(()) };
    let groups = int(node, "group").unwrap_or(1);
    if dims.len() < 3 || dims[0] % groups != 0 {
        let detail =
            format!("its kernel {dims:?} does not fit {groups} groups: export the model again");
        return Err(Refused::Size { node: label(node), detail });
    }
    match ints(node, "kernel_shape") {
        Some(kernel) if kernel != &dims[2..] => Err(attribute(
            node,
            "kernel_shape",
            &format!("is {kernel:?}, the kernel tensor is {dims:?}"),
        )),
        _ => Ok(()),
    }
}

pub(super) fn arity(node: &NodeProto, want: &'static str) -> Refused {
    Refused::Arity { node: label(node), op: node.op_type.clone(), have: node.input.len(), want }
}

fn check_permutation(scope: &Scope, node: &NodeProto) -> Check {
    let Some(perm) = ints(node, "perm") else { return Ok(()) };
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    let is_permutation = sorted.iter().copied().eq(0..perm.len() as i64);
    let rank = node.input.first().and_then(|name| scope.rank(name)).unwrap_or(perm.len());
    if !is_permutation || rank != perm.len() {
        return Err(attribute(
            node,
            "perm",
            &format!("is {perm:?}, which does not order {rank} axes"),
        ));
    }
    Ok(())
}

/// Attribute `axis` against the rank of the first input, when that is known. `past_end` allows the
/// axis behind the last one.
fn check_axis(scope: &Scope, node: &NodeProto, default: i64, past_end: bool) -> Check {
    let axis = int(node, "axis").unwrap_or(default);
    let Some(rank) = node.input.first().and_then(|name| scope.rank(name)) else { return Ok(()) };
    let end = rank as i64 + i64::from(past_end);
    if (-(rank as i64)..end).contains(&axis) {
        Ok(())
    } else {
        Err(Refused::Axis { node: label(node), axis, rank })
    }
}

fn check_divisor(scope: &Scope, node: &NodeProto) -> Check {
    let divisor = node
        .input
        .get(1)
        .and_then(|name| scope.constant(name))
        .and_then(|constant| constant.ints());
    match divisor {
        Some(values) if values.contains(&0) => Err(Refused::DivisionByZero { node: label(node) }),
        _ => Ok(()),
    }
}

fn check_steps(scope: &Scope, node: &NodeProto) -> Check {
    let steps = node
        .input
        .get(4)
        .and_then(|name| scope.constant(name))
        .and_then(|constant| constant.ints());
    match steps {
        Some(values) if values.contains(&0) => Err(Refused::Size {
            node: label(node),
            detail: "a step of 0 never ends: correct it".into(),
        }),
        _ => Ok(()),
    }
}
