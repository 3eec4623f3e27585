//! Scales and zero points. tract accepts a scale of zero, a NaN, or three scales for four channels
//! without a word and computes nonsense; these rules do not.

use super::scope::{Constant, Scope};
use super::{Refused, ops};
use tract_onnx::pb::NodeProto;

/// Where an operator keeps one pair of scale and zero point, and which tensor it belongs to.
struct Pair {
    scale: usize,
    zero_point: usize,
    of: usize,
    /// Whether one pair for each channel is allowed, and on which axis.
    axis: Option<i64>,
}

/// Checks every scale and zero point of `node`.
pub(super) fn check_node(scope: &Scope, node: &NodeProto) -> Result<(), Refused> {
    for pair in pairs(node) {
        check_pair(scope, node, &pair)?;
    }
    Ok(())
}

fn pairs(node: &NodeProto) -> Vec<Pair> {
    let plain = |of: usize| Pair { scale: of + 1, zero_point: of + 2, of, axis: None };
    match node.op_type.as_str() {
        "QuantizeLinear" | "DequantizeLinear" => {
            vec![Pair { axis: Some(ops::int(node, "axis").unwrap_or(1)), ..plain(0) }]
        }
        // x, x_scale, x_zp, w, w_scale, w_zp, y_scale, y_zp: the output's pair belongs to no input.
        "QLinearConv" => {
            vec![
                plain(0),
                Pair { axis: Some(0), ..plain(3) },
                Pair { scale: 6, zero_point: 7, of: usize::MAX, axis: None },
            ]
        }
        "QLinearMatMul" => {
            vec![
                plain(0),
                Pair { axis: Some(-1), ..plain(3) },
                Pair { scale: 6, zero_point: 7, of: usize::MAX, axis: None },
            ]
        }
        _ => Vec::new(),
    }
}

fn check_pair(scope: &Scope, node: &NodeProto, pair: &Pair) -> Result<(), Refused> {
    let refuse = |detail: String| Refused::Quantization { node: ops::label(node), detail };
    let scale = constant(scope, node, pair.scale)?.ok_or_else(|| ops::arity(node, "a scale"))?;
    let values = scale.floats().ok_or_else(|| refuse("its scale is no f32".to_owned()))?;
    if let Some(value) = values.iter().find(|value| !(value.is_finite() && **value > 0.0)) {
        return Err(refuse(format!("its scale is {value}, which is not a finite number above 0")));
    }
    if let Some(zero_point) = constant(scope, node, pair.zero_point)? {
        let points = zero_point.ints().map(|points| points.len());
        if points != Some(values.len()) && points != Some(1) {
            return Err(refuse(format!(
                "it has {} scales and {points:?} integer zero points",
                values.len()
            )));
        }
    }
    check_channels(scope, node, pair, values.len()).map_err(refuse)
}

/// One scale, or exactly one for each channel of the tensor that they belong to.
fn check_channels(
    scope: &Scope,
    node: &NodeProto,
    pair: &Pair,
    scales: usize,
) -> Result<(), String> {
    let Some(axis) = pair.axis else {
        return if scales == 1 {
            Ok(())
        } else {
            Err(format!("it has {scales} scales for a tensor that takes one"))
        };
    };
    if scales == 0 {
        return Err("it has no scale".to_owned());
    }
    if scales == 1 {
        return Ok(());
    }
    let Some(dims) = node.input.get(pair.of).and_then(|name| scope.dims(name)) else {
        return Ok(());
    };
    let rank = dims.len() as i64;
    let at = if axis < 0 { axis + rank } else { axis };
    match usize::try_from(at).ok().and_then(|at| dims.get(at)) {
        None => Err(format!("its axis {axis} is outside the {rank} axes of its tensor")),
        Some(&channels) if channels as usize != scales => {
            Err(format!("it has {scales} scales for {channels} channels on axis {axis}"))
        }
        Some(_) => Ok(()),
    }
}

/// The constant behind input `at`; `None` if the input is absent.
fn constant<'a>(
    scope: &Scope<'a>,
    node: &NodeProto,
    at: usize,
) -> Result<Option<Constant<'a>>, Refused> {
    match node.input.get(at).filter(|name| !name.is_empty()) {
        None => Ok(None),
        Some(name) => match scope.constant(name) {
            Some(constant) => Ok(Some(constant)),
            None => {
                Err(Refused::NotConstant { node: ops::label(node), what: "scale and zero point" })
            }
        },
    }
}
