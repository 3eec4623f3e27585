//! Softmax and LogSoftmax for tract's ONNX front-end, built so that tract cannot fold them wrong.
//!
//! tract 0.23.9 rewrites `DequantizeLinear -> f -> QuantizeLinear` into a table of 256 entries
//! whenever `f` says that its axes map one to one. Its own Softmax says so, although it mixes the
//! elements of a row: the table then holds the softmax *over the 256 possible bytes*, and every
//! int8 classifier that ends in `DQ -> Softmax -> Q` answers garbage without any error
//! (`research/inference.md` section 3). The op here computes with tract's own kernel and differs in
//! one thing: it declares the softmax axes as not mapped, which is the truth, so the rewrite stops.
//!
//! The builders also refuse an axis outside the rank, for which tract silently answers all ones.
//! The rank is known only here, when the op is wired into the typed graph.
//!
//! `tests` hold the bug in place: one fails on the day that upstream has fixed it, and then this
//! file can go.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};
use tract_onnx::tract_hir::internal::*;

/// Puts the safe builders in the place of tract's.
pub(crate) fn register(ops: &mut OnnxOpRegister) {
    ops.insert("Softmax", |ctx, node| build(ctx, node, SoftmaxKind::Softmax));
    ops.insert("LogSoftmax", |ctx, node| build(ctx, node, SoftmaxKind::LogSoftmax));
}

fn build(
    ctx: &ParsingContext,
    node: &NodeProto,
    kind: SoftmaxKind,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let axis = node.get_attr_opt::<isize>("axis")?;
    // Up to operator set 12 the default is 1 and everything from the axis on is one row.
    let flattening = ctx.onnx_operator_set_version < 13;
    let axis = axis.unwrap_or(if flattening { 1 } else { -1 });
    Ok((expand(SoftmaxBuilder { axis, flattening, kind }), vec![]))
}

/// The node before its input's rank is known.
#[derive(Debug, Clone)]
struct SoftmaxBuilder {
    axis: isize,
    flattening: bool,
    kind: SoftmaxKind,
}

impl Expansion for SoftmaxBuilder {
    fn name(&self) -> StaticName {
        "RowSoftmax".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?;
        ensure!(
            fact.datum_type.is_float(),
            "softmax of {:?}: only floats are supported",
            fact.datum_type
        );
        let rank = fact.rank() as isize;
        // `axis == rank` is legal only where everything from the axis on is flattened: rows of one.
        let last = if self.flattening { rank } else { rank - 1 };
        ensure!(
            (-rank..=last).contains(&self.axis),
            "softmax axis {} is outside rank {rank}",
            self.axis
        );
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis } as usize;
        let axes = if self.flattening { (axis..rank as usize).collect() } else { tvec!(axis) };
        let op = RowSoftmax(Softmax { axes, quant_output_dt: None, kind: self.kind });
        model.wire_node(prefix, op, inputs)
    }
}

/// tract's softmax with honest axes.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct RowSoftmax(Softmax);

impl Op for RowSoftmax {
    fn name(&self) -> StaticName {
        "RowSoftmax".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.0.info()
    }

    op_as_typed_op!();
}

impl EvalOp for RowSoftmax {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(ctx, inputs)
    }
}

impl TypedOp for RowSoftmax {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    /// Like tract's `Reduce`: an axis that is mixed over is one axis going in and another coming out.
    fn axes_mapping(
        &self,
        inputs: &[&TypedFact],
        outputs: &[&TypedFact],
    ) -> TractResult<AxesMapping> {
        let mut letters = 'a'..;
        let mut axes: TVec<Axis> = tvec!();
        let mut axis =
            || letters.next().map(|letter| Axis::new(letter, inputs.len(), outputs.len()));
        for at in 0..inputs[0].rank() {
            let going_in = axis().context("out of axis names")?.input(0, at);
            if self.0.axes.contains(&at) {
                axes.push(going_in);
                axes.push(axis().context("out of axis names")?.output(0, at));
            } else {
                axes.push(going_in.output(0, at));
            }
        }
        AxesMapping::new(inputs.len(), outputs.len(), axes)
    }

    fn change_axes(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        _io: InOut,
        change: &AxisOp,
    ) -> TractResult<Option<AxisChangeConsequence>> {
        let axes: Option<TVec<usize>> =
            self.0.axes.iter().map(|&axis| change.transform_axis(axis)).collect();
        Ok(axes.map(|axes| {
            let op = RowSoftmax(Softmax { axes, ..self.0.clone() });
            AxisChangeConsequence::new(model, node, Some(Box::new(op)), change)
        }))
    }

    as_op!();
}
