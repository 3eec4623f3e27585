//! The qnn engine: a compiled int8 network, run by our own kernels where its bytes lie.
//!
//! The file is checked once, when it is loaded; a run copies inputs into an arena and outputs out of
//! it. Its answers are the same bits on every processor (`docs/qnn.md`), so golden vectors must
//! match exactly.

use crate::bytes::ModelBytes;
use crate::crew::on_best;
use crate::engine::{Engine, RunError, append_rows, check_inputs};
use crate::guard::guarded;
use crate::limits::ROWS_MAX;
use crate::load::LoadError;
use crate::tensor::{DType, Tensor, TensorData, TensorSpec};
use fleetway_qnn::format::{Element, Io};
use fleetway_qnn::team::Team;
use fleetway_qnn::{Input, Kernels, Model, Output};
use self_cell::self_cell;
use std::sync::{Mutex, PoisonError};

/// Arenas that are kept for the next runs: one for each that ran at the same time, up to this many.
/// A device has few cores, and an arena is up to some megabytes.
const ARENAS_KEPT_MAX: usize = 4;

self_cell!(
    /// A checked file beside its bytes.
    struct Loaded {
        owner: ModelBytes,
        #[covariant]
        dependent: Model,
    }
);

/// A compiled model, loaded.
pub struct QnnEngine {
    loaded: Loaded,
    kernels: Kernels,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    arenas: Mutex<Vec<Box<[u8]>>>,
}

impl std::fmt::Debug for QnnEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QnnEngine")
            .field("kernels", &self.kernels.name())
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .finish()
    }
}

impl QnnEngine {
    /// Checks a compiled file. No proof of where it comes from: [`load`](crate::load::load) asks for
    /// one.
    pub(crate) fn parse(bytes: ModelBytes) -> Result<Self, LoadError> {
        let wrong =
            |e: fleetway_qnn::LoadError| LoadError::Engine { engine: "qnn", detail: e.to_string() };
        let loaded = Loaded::try_new(bytes, |bytes| Model::load(bytes)).map_err(wrong)?;
        let model = loaded.borrow_dependent();
        let inputs = model.inputs().map(spec).collect();
        let outputs = model.outputs().map(spec).collect();
        let arenas = Mutex::new(Vec::new());
        Ok(Self { kernels: Kernels::best(), inputs, outputs, arenas, loaded })
    }

    fn run_in(&self, arena: &mut [u8], inputs: &[Tensor]) -> Result<Vec<TensorData>, RunError> {
        let failed = |text: String| RunError::Failed(text);
        let given: Option<Vec<_>> = inputs.iter().map(|tensor| given(tensor.data())).collect();
        let given = given.ok_or_else(|| failed("an input of another type".to_owned()))?;
        let mut made: Vec<_> = self.outputs.iter().map(room).collect();
        let mut taken: Vec<_> = made.iter_mut().filter_map(taken).collect();
        let model = self.loaded.borrow_dependent();
        let mut run =
            |team: &dyn Team| model.run_with(self.kernels, team, arena, &given, &mut taken);
        guarded(|| on_best(model.work(), &mut run))
            .map_err(RunError::Panicked)?
            .map_err(|e| failed(e.to_string()))?;
        Ok(made)
    }
}

impl Engine for QnnEngine {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn rows_max(&self) -> usize {
        if self.loaded.borrow_dependent().is_open() { ROWS_MAX } else { 1 }
    }

    /// Threads run side by side, each in an arena of its own. Rows run one after the other: a batch
    /// has nothing to share that a run of our own kernels pays for.
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let rows = check_inputs(&self.inputs, inputs, self.rows_max())?;
        if rows == 1 {
            return self.run_row(inputs);
        }
        let row =
            |at: usize| inputs.iter().map(|tensor| tensor.row(at)).collect::<Option<Vec<_>>>();
        let mut outputs: Vec<Tensor> = Vec::new();
        for at in 0..rows {
            let row = row(at).ok_or_else(|| RunError::Failed("rows are missing".to_owned()))?;
            let more = self.run_row(&row)?;
            append_rows(&mut outputs, more)?;
        }
        Ok(outputs)
    }

    fn kind(&self) -> &'static str {
        "qnn"
    }
}

impl QnnEngine {
    /// What a run leaves in its arena is overwritten by the next before it is read.
    fn run_row(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let arenas = || self.arenas.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = arenas().pop();
        let bytes = self.loaded.borrow_dependent().arena_bytes();
        let mut arena = kept.unwrap_or_else(|| vec![0; bytes].into_boxed_slice());
        let made = self.run_in(&mut arena, inputs)?;
        let mut kept = arenas();
        if kept.len() < ARENAS_KEPT_MAX {
            kept.push(arena);
        }
        drop(kept);
        let tensors = self.outputs.iter().zip(made).enumerate();
        tensors
            .map(|(index, (spec, data))| {
                Tensor::new(spec.shape.clone(), data)
                    .map_err(|e| RunError::Output { index, detail: e.to_string() })
            })
            .collect()
    }
}

fn spec((name, io): (&str, Io)) -> TensorSpec {
    let dtype = match io.element {
        Element::F32 => DType::F32,
        Element::U8 => DType::U8,
        Element::S8 => DType::I8,
    };
    let shape = io.shape().iter().map(|&size| size as usize).collect();
    TensorSpec { name: name.to_owned(), dtype, shape }
}

fn given(data: &TensorData) -> Option<Input<'_>> {
    Some(match data {
        TensorData::F32(values) => Input::F32(values),
        TensorData::U8(values) => Input::U8(values),
        TensorData::I8(values) => Input::S8(values),
        _ => return None,
    })
}

/// Zeros in the place of an output.
fn room(spec: &TensorSpec) -> TensorData {
    let elements = spec.shape.iter().product();
    match spec.dtype {
        DType::U8 => TensorData::U8(vec![0; elements]),
        DType::I8 => TensorData::I8(vec![0; elements]),
        // `spec` above names no other type.
        _ => TensorData::F32(vec![0.0; elements]),
    }
}

fn taken(data: &mut TensorData) -> Option<Output<'_>> {
    Some(match data {
        TensorData::F32(values) => Output::F32(values),
        TensorData::U8(values) => Output::U8(values),
        TensorData::I8(values) => Output::S8(values),
        _ => return None,
    })
}
