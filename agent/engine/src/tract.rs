//! The tract engine: any ONNX graph that tract takes, behind our validator.
//!
//! Four fences stand between a file and an answer. [`validate`](crate::validate) refuses what is
//! known to make tract panic, abort, hang or answer nonsense. Shapes are checked once more when
//! tract has derived them. `catch_unwind` turns what still panics into an error (build with
//! `panic=unwind`). And what none of these can stop, an abort or a hang, happens first in the
//! child of [`selftest`](crate::selftest).

use crate::batch;
use crate::engine::{Engine, RunError, append_rows, check_inputs};
use crate::guard::guarded;
use crate::limits::{TENSOR_ELEMENTS_MAX, bounded};
use crate::load::LoadError;
use crate::region;
use crate::softmax;
use crate::tensor::{DType, Tensor, TensorData, TensorSpec};
use crate::validate::{ValidModel, validate};
use std::sync::Arc;
use tract_onnx::Onnx;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceModelExt, IntoRunnable, IntoTValue, TValue, TypedModel,
    TypedRunnableModel,
};
use tract_onnx::tract_core::internal as tract;

/// A model loaded into tract.
pub struct TractEngine {
    /// Layouts by rising number of rows; the first is for one.
    plans: Vec<Plan>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

/// The graph laid out for so many rows.
struct Plan {
    rows: usize,
    plan: Arc<TypedRunnableModel>,
}

impl std::fmt::Debug for TractEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TractEngine")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .finish()
    }
}

/// Makes tract look at the processor now: it does so once, from files, when it is first needed,
/// and the self-test's child has no files then. Without that the child would pick other kernels
/// than the program that serves.
pub(crate) fn look_around() {
    let _ = tract::tract_linalg::isa::native();
    let _ = tract::tract_linalg::cache::cache_info();
    let _ = tract::tract_linalg::cache::last_level_cache();
}

impl TractEngine {
    /// Parses an ONNX file. No proof of where it comes from: [`load`](crate::load::load) asks for one.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let mut onnx = tract_onnx::onnx();
        softmax::register(&mut onnx.op_register);
        region::register(&mut onnx.op_register);
        Self::parse_with(onnx, bytes)
    }

    /// As [`TractEngine::parse`], with a given table of operators (the tests show what tract's
    /// own does).
    pub(crate) fn parse_with(onnx: Onnx, bytes: &[u8]) -> Result<Self, LoadError> {
        let mut model = validate(bytes)?;
        // Shapes noted beside the graph are hints that nothing checks; tract derives its own.
        let onnx = onnx.with_ignore_value_info(true);
        let typed = guarded(|| optimize(&onnx, &model)).map_err(LoadError::Panicked)??;
        let outputs = output_specs(&typed, &model)?;
        let inputs = model.inputs().to_vec();
        let plan = plan(typed, 1)?;
        let mut engine = Self { plans: vec![plan], inputs, outputs };
        if model.is_open() && bytes.len() <= batch::FILE_BYTES_MAX {
            engine.add_batches(&onnx, &mut model);
        }
        Ok(engine)
    }

    /// Lays the graph out for more rows, as far as that changes no answer. What cannot be had is
    /// no fault of the model: it answers row by row.
    fn add_batches(&mut self, onnx: &Onnx, model: &mut ValidModel) {
        for rows in batch::ROWS {
            model.set_rows(rows);
            let laid_out = guarded(|| {
                let typed = optimize(onnx, model)?;
                match activation_elements(&typed) {
                    Some(count) if count <= batch::ACTIVATION_ELEMENTS_MAX => plan(typed, rows),
                    _ => Err(refused("too large a batch".to_owned())),
                }
            });
            let Ok(Ok(plan)) = laid_out else { return };
            let single = |row: &[Tensor]| self.run_on(&self.plans[0], row).ok();
            let many = |all: &[Tensor]| self.run_on(&plan, all).ok();
            if batch::is_exact(&self.inputs, rows, single, many) {
                self.plans.push(plan);
            }
        }
    }

    /// Runs exactly the rows of a plan.
    fn run_on(&self, plan: &Plan, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let values = inputs.iter().map(to_tract).collect::<Result<_, _>>().map_err(run_error)?;
        let values =
            guarded(|| plan.plan.run(values)).map_err(RunError::Panicked)?.map_err(run_error)?;
        let specs = self.outputs.iter().enumerate().zip(&values);
        specs.map(|((at, spec), value)| from_tract(at, spec, plan.rows, value)).collect()
    }

    /// Runs any number of rows: the largest layouts first.
    fn run_rows(&self, inputs: &[Tensor], rows: usize) -> Result<Vec<Tensor>, RunError> {
        let mut outputs: Vec<Tensor> = Vec::new();
        let mut done = 0;
        while done < rows {
            let fits = self.plans.iter().rev().find(|plan| plan.rows <= rows - done);
            let plan = fits.unwrap_or(&self.plans[0]);
            let piece = inputs.iter().map(|tensor| tensor.rows(done..done + plan.rows));
            let piece = piece.collect::<Option<Vec<_>>>();
            let piece = piece.ok_or_else(|| RunError::Failed("rows are missing".to_owned()))?;
            let more = self.run_on(plan, &piece)?;
            done += plan.rows;
            append_rows(&mut outputs, more)?;
        }
        Ok(outputs)
    }
}

impl Engine for TractEngine {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn rows_max(&self) -> usize {
        self.plans.last().map_or(1, |plan| plan.rows)
    }

    /// Every call runs on state of its own. That costs a few small allocations, lets threads run
    /// side by side without a lock, keeps recurrent state from leaking between requests, and
    /// leaves nothing behind that a panic could have broken.
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let rows = check_inputs(&self.inputs, inputs, self.rows_max())?;
        match self.plans.iter().find(|plan| plan.rows == rows) {
            Some(plan) => self.run_on(plan, inputs),
            None => self.run_rows(inputs, rows),
        }
    }

    fn kind(&self) -> &'static str {
        "tract"
    }
}

fn optimize(onnx: &Onnx, model: &ValidModel) -> Result<TypedModel, LoadError> {
    let typed = onnx
        .model_for_proto_model(model.proto())
        .and_then(InferenceModelExt::into_typed)
        .map_err(tract_error)?;
    check_sizes(&typed)?;
    if typed.inputs.len() != model.inputs().len() {
        return Err(refused(format!(
            "it sees {} inputs instead of {}",
            typed.inputs.len(),
            model.inputs().len()
        )));
    }
    fastest(typed).map_err(tract_error)
}

/// tract's best: float convolutions run with channels last, 1.0 to 1.8 times as fast
/// (`research/inference.md`), unless a graph does not take that.
fn fastest(typed: TypedModel) -> tract::TractResult<TypedModel> {
    let plain = typed.into_decluttered()?;
    match tract_onnx::tract_core::transform::get_transform("conv_nhwc")? {
        None => plain.into_optimized(),
        Some(last) => last
            .transform_into(plain.clone())
            .and_then(TypedModel::into_optimized)
            .or_else(|_| plain.into_optimized()),
    }
}

fn plan(typed: TypedModel, rows: usize) -> Result<Plan, LoadError> {
    let plan =
        guarded(|| typed.into_runnable()).map_err(LoadError::Panicked)?.map_err(tract_error)?;
    Ok(Plan { rows, plan })
}

/// Elements of everything that a run makes, if that is known.
fn activation_elements(model: &TypedModel) -> Option<usize> {
    let mut facts = model.nodes().iter().flat_map(|node| &node.outputs);
    facts.try_fold(0usize, |sum, output| {
        let shape = output.fact.shape.as_concrete()?;
        let count = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))?;
        sum.checked_add(count)
    })
}

/// No activation may pass the bound: checked when shapes are known and before anything is computed.
fn check_sizes(model: &TypedModel) -> Result<(), LoadError> {
    for node in model.nodes() {
        for output in &node.outputs {
            let dims = output.fact.shape.iter().map(|dim| dim.as_i64());
            let count =
                dims.flatten().try_fold(1i64, |product, dim| product.checked_mul(dim.max(0)));
            if count.is_none_or(|count| count > TENSOR_ELEMENTS_MAX as i64) {
                let shape = format!("{:?}", output.fact.shape);
                return Err(LoadError::TooLarge {
                    node: bounded(node.name.clone()),
                    shape: bounded(shape),
                });
            }
        }
    }
    Ok(())
}

fn output_specs(typed: &TypedModel, model: &ValidModel) -> Result<Vec<TensorSpec>, LoadError> {
    let names = model.outputs();
    let spec = |(at, name): (usize, &String)| {
        let interface =
            |detail: String| LoadError::Interface { name: name.clone(), detail: bounded(detail) };
        let fact = typed.output_fact(at).map_err(tract_error)?;
        let dtype = dtype_of(fact.datum_type)
            .ok_or_else(|| interface(format!("of type {:?}", fact.datum_type)))?;
        let shape = fact
            .shape
            .as_concrete()
            .ok_or_else(|| interface(format!("of shape {:?}", fact.shape)))?;
        Ok(TensorSpec { name: name.clone(), dtype, shape: shape.to_vec() })
    };
    names.iter().enumerate().map(spec).collect()
}

pub(crate) fn datum_of(dtype: DType) -> DatumType {
    match dtype {
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::I8 => DatumType::I8,
        DType::U8 => DatumType::U8,
        DType::I16 => DatumType::I16,
        DType::U16 => DatumType::U16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::Bool => DatumType::Bool,
    }
}

fn dtype_of(datum: DatumType) -> Option<DType> {
    Some(match datum {
        DatumType::F32 => DType::F32,
        DatumType::F64 => DType::F64,
        DatumType::I8 => DType::I8,
        DatumType::U8 => DType::U8,
        DatumType::I16 => DType::I16,
        DatumType::U16 => DType::U16,
        DatumType::I32 => DType::I32,
        // `Shape` gives tract's symbolic integers; with fixed sizes they are plain numbers.
        DatumType::I64 | DatumType::TDim => DType::I64,
        DatumType::Bool => DType::Bool,
        _ => return None,
    })
}

pub(crate) fn to_tract(tensor: &Tensor) -> tract::TractResult<TValue> {
    let shape = tensor.shape();
    let made = match tensor.data() {
        TensorData::F32(v) => tract::Tensor::from_shape(shape, v),
        TensorData::F64(v) => tract::Tensor::from_shape(shape, v),
        TensorData::I8(v) => tract::Tensor::from_shape(shape, v),
        TensorData::U8(v) => tract::Tensor::from_shape(shape, v),
        TensorData::I16(v) => tract::Tensor::from_shape(shape, v),
        TensorData::U16(v) => tract::Tensor::from_shape(shape, v),
        TensorData::I32(v) => tract::Tensor::from_shape(shape, v),
        TensorData::I64(v) => tract::Tensor::from_shape(shape, v),
        TensorData::Bool(v) => tract::Tensor::from_shape(shape, v),
    };
    Ok(made?.into_tvalue())
}

pub(crate) fn from_tract(
    index: usize,
    spec: &TensorSpec,
    rows: usize,
    value: &TValue,
) -> Result<Tensor, RunError> {
    let bad = |detail: String| RunError::Output { index, detail: bounded(detail) };
    let shape = value.shape();
    let fits = match rows {
        1 => shape == spec.shape,
        _ => shape.first() == Some(&rows) && shape.get(1..) == spec.shape.get(1..),
    };
    if !fits || dtype_of(value.datum_type()) != Some(spec.dtype) {
        return Err(bad(format!("{spec} came out as {:?}{:?}", value.datum_type(), value.shape())));
    }
    macro_rules! elements {
        ($t:ty, $wrap:expr) => {{
            let value = value.cast_to::<$t>().map_err(|e| bad(format!("{e:#}")))?;
            let view = value.to_plain_array_view::<$t>().map_err(|e| bad(format!("{e:#}")))?;
            $wrap(view.iter().copied().collect())
        }};
    }
    let data = match spec.dtype {
        DType::F32 => elements!(f32, TensorData::F32),
        DType::F64 => elements!(f64, TensorData::F64),
        DType::I8 => elements!(i8, TensorData::I8),
        DType::U8 => elements!(u8, TensorData::U8),
        DType::I16 => elements!(i16, TensorData::I16),
        DType::U16 => elements!(u16, TensorData::U16),
        DType::I32 => elements!(i32, TensorData::I32),
        DType::I64 => elements!(i64, TensorData::I64),
        DType::Bool => elements!(bool, TensorData::Bool),
    };
    Tensor::new(value.shape().to_vec(), data).map_err(|e| bad(e.to_string()))
}

fn refused(detail: String) -> LoadError {
    LoadError::Engine { engine: "tract", detail: bounded(detail) }
}

fn tract_error(error: tract::TractError) -> LoadError {
    refused(format!("{error:#}"))
}

fn run_error(error: tract::TractError) -> RunError {
    RunError::Failed(bounded(format!("{error:#}")))
}

#[cfg(test)]
#[path = "tract_tests.rs"]
mod tests;
