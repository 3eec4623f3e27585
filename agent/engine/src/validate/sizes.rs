//! Nodes whose output is as large as one of their inputs says: that input must be a constant in the
//! file, and bounded. A size that is computed can be built from any number of harmless parts.

use super::ops::{Check, arity, ints, label};
use super::scope::{Constant, Scope};
use super::{Refused, limits};
use tract_onnx::pb::NodeProto;

/// The constant behind input `at`, which sets the size of the output.
fn constant<'a>(
    scope: &Scope<'a>,
    node: &NodeProto,
    at: usize,
    what: &'static str,
) -> Result<Constant<'a>, Refused> {
    let name = node
        .input
        .get(at)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| arity(node, "the one that sets its size"))?;
    scope.constant(name).ok_or_else(|| Refused::NotConstant { node: label(node), what })
}

fn constant_ints(
    scope: &Scope,
    node: &NodeProto,
    at: usize,
    what: &'static str,
) -> Result<Vec<i64>, Refused> {
    constant(scope, node, at, what)?
        .ints()
        .ok_or_else(|| Refused::NotConstant { node: label(node), what })
}

pub(super) fn bounded_ints(
    scope: &Scope,
    node: &NodeProto,
    at: usize,
    what: &'static str,
    min: i64,
    max: i64,
) -> Check {
    match constant_ints(scope, node, at, what)?
        .into_iter()
        .find(|value| !(min..=max).contains(value))
    {
        None => Ok(()),
        Some(value) => Err(Refused::Size {
            node: label(node),
            detail: format!("its {what} is {value}, allowed are {min} to {max}"),
        }),
    }
}

/// A shape or a list of repeats. Zero copies an axis and -1 fills one, in `Reshape` alone.
pub(super) fn check_shape_input(scope: &Scope, node: &NodeProto, at: usize) -> Check {
    let reshape = node.op_type == "Reshape";
    if reshape && scope.opset() < 5 {
        return Ok(());
    }
    let shape = constant_ints(scope, node, at, "shape")?;
    let min = if reshape { -1 } else { 1 };
    let product = shape.iter().try_fold(1i64, |product, &dim| product.checked_mul(dim.max(1)));
    let fits = product.is_some_and(|product| product <= limits::TENSOR_ELEMENTS_MAX as i64);
    let holes = shape.iter().filter(|&&dim| dim == -1).count();
    if !fits || shape.len() > limits::RANK_MAX || shape.iter().any(|&dim| dim < min) || holes > 1 {
        let shown: Vec<i64> = shape.into_iter().take(16).collect();
        let detail = format!(
            "the shape {shown:?} is no size or more than {} elements: correct it",
            limits::TENSOR_ELEMENTS_MAX
        );
        return Err(Refused::Size { node: label(node), detail });
    }
    Ok(())
}

pub(super) fn check_range_op(scope: &Scope, node: &NodeProto) -> Check {
    let value = |at: usize, what: &'static str| {
        let constant = constant(scope, node, at, what)?;
        let first = constant.floats().and_then(|v| v.first().map(|&x| f64::from(x)));
        #[allow(clippy::cast_precision_loss)]
        let first = first.or_else(|| constant.ints().and_then(|v| v.first().map(|&x| x as f64)));
        first.ok_or_else(|| Refused::NotConstant { node: label(node), what })
    };
    let count = (value(1, "limit")? - value(0, "start")?) / value(2, "step")?;
    if !count.is_finite() || count > f64::from(1 << 20) {
        let detail = format!(
            "it counts {count} numbers, at most {} are allowed: correct start, limit and step",
            1 << 20
        );
        return Err(Refused::Size { node: label(node), detail });
    }
    Ok(())
}

pub(super) fn check_pad(scope: &Scope, node: &NodeProto) -> Check {
    let pads = match ints(node, "pads") {
        Some(pads) => pads.to_vec(),
        None => constant_ints(scope, node, 1, "pads")?,
    };
    match pads.iter().find(|pad| pad.unsigned_abs() > limits::PAD_MAX.unsigned_abs()) {
        None => Ok(()),
        Some(pad) => {
            let detail =
                format!("pads by {pad}, at most {} are allowed: correct the pads", limits::PAD_MAX);
            Err(Refused::Size { node: label(node), detail })
        }
    }
}

/// Scales or sizes of a resize; which of them is given depends on the version of the operator.
pub(super) fn check_resize(scope: &Scope, node: &NodeProto) -> Check {
    let scales_at = if node.op_type == "Upsample" || scope.opset() < 11 { 1 } else { 2 };
    let given = |at: usize| node.input.get(at).is_some_and(|name| !name.is_empty());
    if given(3) {
        return check_shape_input(scope, node, 3);
    }
    let scales = constant(scope, node, scales_at, "scales")?.floats();
    let scales =
        scales.ok_or_else(|| Refused::NotConstant { node: label(node), what: "scales" })?;
    match scales
        .iter()
        .find(|scale| !(scale.is_finite() && **scale > 0.0 && **scale <= limits::RESIZE_SCALE_MAX))
    {
        None => Ok(()),
        Some(scale) => {
            let detail = format!(
                "scales by {scale}, allowed is more than 0 up to {}: correct it",
                limits::RESIZE_SCALE_MAX
            );
            Err(Refused::Size { node: label(node), detail })
        }
    }
}
