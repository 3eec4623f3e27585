//! What callers see of an inference engine, whichever it is: serving, shadow runs, the self-test
//! and golden vectors go through [`Engine`] alone.

use crate::tensor::{DType, Tensor, TensorError, TensorSpec};

/// A loaded model that can be run.
///
/// `run` takes `&self` and may be called from several threads at once. An engine keeps no state
/// from one call to the next: the same inputs give the same outputs, whatever ran before.
pub trait Engine: Send + Sync {
    /// Inputs in the order that [`Engine::run`] takes them.
    fn inputs(&self) -> &[TensorSpec];

    /// Outputs in the order that [`Engine::run`] gives them.
    fn outputs(&self) -> &[TensorSpec];

    /// Rows that one run takes: how long the first axis of every input may be. 1 is a model
    /// whose batch is fixed, or that cannot be trusted with more ([`crate::batch`]).
    fn rows_max(&self) -> usize {
        1
    }

    /// Runs the model once.
    ///
    /// Inputs must match [`Engine::inputs`] in number, type and exact shape (batch axis included),
    /// but that up to [`Engine::rows_max`] rows may stand where the specification has one; that is
    /// checked before the engine sees them. The outputs match [`Engine::outputs`] and have as many
    /// rows, each with the very bits that it has when it is asked for alone.
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError>;

    /// Short name of the engine for reports: `qnn`, `tract`.
    fn kind(&self) -> &'static str;
}

/// Why one inference gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Wrong number of inputs: the caller's mistake.
    #[error("the model takes {want} inputs, got {have}")]
    InputCount {
        /// Inputs of the model.
        want: usize,
        /// Inputs that came.
        have: usize,
    },
    /// Wrong type or shape: the caller's mistake.
    #[error("input `{name}` must be {want_dtype}{want_shape:?}, got {have_dtype}{have_shape:?}")]
    Input {
        /// Name of the input.
        name: String,
        /// Type that the model takes.
        want_dtype: DType,
        /// Shape that the model takes.
        want_shape: Vec<usize>,
        /// Type that came.
        have_dtype: DType,
        /// Shape that came.
        have_shape: Vec<usize>,
    },
    /// The engine reported an error while computing.
    #[error("the engine failed: {0}")]
    Failed(String),
    /// The engine panicked while computing. The next run starts from fresh state.
    #[error("the engine panicked: {0}")]
    Panicked(String),
    /// An output is not what the loaded model declares.
    #[error("output {index} does not match its specification: {detail}")]
    Output {
        /// Position of the output.
        index: usize,
        /// What is wrong.
        detail: String,
    },
}

impl RunError {
    /// Whether the caller's input is at fault, not the model.
    pub fn is_callers(&self) -> bool {
        matches!(self, Self::InputCount { .. } | Self::Input { .. })
    }
}

/// Checks `inputs` against `specs` in number, type and shape, and gives their rows: 1, or what
/// stands on the first axis of all of them when the engine takes up to `rows_max`.
pub fn check_inputs(
    specs: &[TensorSpec],
    inputs: &[Tensor],
    rows_max: usize,
) -> Result<usize, RunError> {
    if specs.len() != inputs.len() {
        return Err(RunError::InputCount { want: specs.len(), have: inputs.len() });
    }
    let first = inputs.first().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(1);
    let rows = if (2..=rows_max).contains(&first) { first } else { 1 };
    match specs.iter().zip(inputs).find(|(spec, tensor)| !spec.matches_rows(tensor, rows)) {
        None => Ok(rows),
        Some((spec, tensor)) => Err(RunError::Input {
            name: spec.name.clone(),
            want_dtype: spec.dtype,
            want_shape: spec.shape.clone(),
            have_dtype: tensor.dtype(),
            have_shape: tensor.shape().to_vec(),
        }),
    }
}

/// Adds the rows of one run to those of the runs before it, which may have been none.
pub(crate) fn append_rows(outputs: &mut Vec<Tensor>, more: Vec<Tensor>) -> Result<(), RunError> {
    if outputs.is_empty() {
        *outputs = more;
        return Ok(());
    }
    for (index, (output, more)) in outputs.iter_mut().zip(&more).enumerate() {
        let bad = |e: TensorError| RunError::Output { index, detail: e.to_string() };
        output.append(more).map_err(bad)?;
    }
    Ok(())
}
