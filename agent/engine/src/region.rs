//! An int8 region of a mixed graph, as one operator of tract: a compiled network in an attribute of
//! the node (`docs/qnn.md`, "Graphs of which only parts are int8").
//!
//! tract sees types and shapes and nothing of the inside, so it can neither split nor fold it.

use crate::bytes::ModelBytes;
use crate::engine::Engine;
use crate::limits::bounded;
use crate::qnn::QnnEngine;
use crate::tensor::TensorSpec;
use crate::tract::{datum_of, from_tract, to_tract};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// The operator's name; its domain is `fleetway`.
pub(crate) const OPERATOR: &str = "FleetwayQnn";
/// The operator's domain.
pub(crate) const DOMAIN: &str = "fleetway";
const ATTRIBUTE: &str = "model";

/// Teaches tract the operator.
pub(crate) fn register(ops: &mut OnnxOpRegister) {
    ops.insert(OPERATOR, build);
}

fn build(
    _ctx: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let attribute = node.attribute.iter().find(|attribute| attribute.name == ATTRIBUTE);
    let tensor = attribute.and_then(|attribute| attribute.t.as_ref());
    let file = tensor.context("a region without its compiled network")?.raw_data.clone();
    let engine = QnnEngine::parse(ModelBytes::from(file))?;
    Ok((expand(Region(Arc::new(engine))), vec![]))
}

/// The region's engine. Equal only to itself.
#[derive(Debug, Clone)]
struct Region(Arc<QnnEngine>);

impl PartialEq for Region {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Region {}

impl Hash for Region {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

fn shape(spec: &TensorSpec) -> TVec<TDim> {
    spec.shape.iter().map(|&size| size.to_dim()).collect()
}

impl Expansion for Region {
    fn name(&self) -> StaticName {
        OPERATOR.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0.outputs().len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.0.inputs().len())?;
        check_output_arity(outputs, self.0.outputs().len())?;
        let sides = [(inputs, self.0.inputs()), (outputs, self.0.outputs())];
        for (proxies, specs) in sides {
            for (proxy, spec) in proxies.iter().zip(specs) {
                s.equals(&proxy.datum_type, datum_of(spec.dtype))?;
                s.equals(&proxy.shape, shape(spec))?;
            }
        }
        Ok(())
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        for (&input, spec) in inputs.iter().zip(self.0.inputs()) {
            let fact = model.outlet_fact(input)?;
            let fits = fact.datum_type == datum_of(spec.dtype)
                && fact.shape.as_concrete() == Some(&spec.shape);
            ensure!(fits, "the region's input {spec} gets {fact:?}");
        }
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Region {
    fn name(&self) -> StaticName {
        OPERATOR.into()
    }

    op_as_typed_op!();
}

impl EvalOp for Region {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let specs = self.0.inputs().iter().zip(&inputs).enumerate();
        let given = specs.map(|(at, (spec, value))| from_tract(at, spec, 1, value));
        let given = given.collect::<Result<Vec<_>, _>>()?;
        let made = self.0.run(&given)?;
        made.iter().map(to_tract).collect()
    }
}

impl TypedOp for Region {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.0.outputs().iter().map(|spec| datum_of(spec.dtype).fact(shape(spec))).collect())
    }

    as_op!();
}

/// What is wrong with the compiled network in a node, if anything is: asked before tract sees it.
pub(crate) fn check(node: &NodeProto) -> Result<(), String> {
    let attribute = node.attribute.iter().find(|attribute| attribute.name == ATTRIBUTE);
    let tensor = attribute.and_then(|attribute| attribute.t.as_ref());
    let file = tensor.map(|tensor| tensor.raw_data.as_slice()).unwrap_or_default();
    let model = fleetway_qnn::Model::load(file).map_err(|e| bounded(e.to_string()))?;
    let arity = (model.inputs().count(), model.outputs().count());
    if arity == (node.input.len(), node.output.len()) {
        return Ok(());
    }
    Err(format!("holds a network of {} inputs and {} outputs", arity.0, arity.1))
}
