//! The engine: `fleetway-qnn` over a model that lies in flash, in memory that the board lends.
//!
//! A model is checked in full each time it is about to run ([`fleetway_qnn::Model::load`]): between
//! two runs its flash may have been erased. Models of one input and one output are taken, both numbers
//! to whoever calls, also where the model itself takes or gives bytes: a sensor measures something, and
//! somebody wants to know.

use fleetway_qnn::{Input, Kernels, Model, Output};

/// Memory for runs, as large as the board can spare.
pub struct Memory<'m> {
    /// Where a run's values lie.
    pub arena: &'m mut [u8],
    /// What goes in. A byte of a model that takes bytes is a number from -128 or 0 on.
    pub input: &'m mut [f32],
    /// What comes out.
    pub output: &'m mut [f32],
    /// Most multiply-accumulates, or moved elements, in a run: what the board does in the time
    /// that an answer may take.
    pub work_max: u64,
}

/// Why a model does not run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The file is none, or damaged.
    #[error("{0}")]
    Load(#[from] fleetway_qnn::LoadError),
    /// More than one input or output.
    #[error("this device takes models of one input and one output")]
    Ports,
    /// More of something than there is.
    #[error("its {what} needs {need}, this device has {have}")]
    Room {
        /// Of what.
        what: &'static str,
        /// Needed.
        need: u64,
        /// There.
        have: u64,
    },
    /// A checked model that does not run: a bug.
    #[error("{0}")]
    Run(#[from] fleetway_qnn::RunError),
}

/// Elements that a model takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of the input.
    pub input: usize,
    /// Of the output.
    pub output: usize,
}

impl Memory<'_> {
    /// Whether the model in `file` runs here, and what it takes and gives.
    ///
    /// # Errors
    /// [`EngineError`] says what does not fit, and by how much.
    pub fn check(&self, file: &[u8]) -> Result<Sizes, EngineError> {
        self.load(file).map(|(_, sizes)| sizes)
    }

    /// Runs the model in `file` over the first of [`Memory::input`] into the first of
    /// [`Memory::output`].
    ///
    /// # Errors
    /// [`EngineError`], as for [`Memory::check`].
    pub fn run(&mut self, file: &[u8]) -> Result<Sizes, EngineError> {
        let (model, sizes) = self.load(file)?;
        let input = Input::Numbers(&self.input[..sizes.input]);
        let output = Output::Numbers(&mut self.output[..sizes.output]);
        model.run(Kernels::best(), self.arena, &[input], &mut [output])?;
        Ok(sizes)
    }

    fn load<'f>(&self, file: &'f [u8]) -> Result<(Model<'f>, Sizes), EngineError> {
        let model = Model::load(file)?;
        let (mut inputs, mut outputs) = (model.inputs(), model.outputs());
        let (Some((_, input)), None, Some((_, output)), None) =
            (inputs.next(), inputs.next(), outputs.next(), outputs.next())
        else {
            return Err(EngineError::Ports);
        };
        drop((inputs, outputs));
        let sizes = Sizes { input: input.elements as usize, output: output.elements as usize };
        for (what, need, have) in [
            ("arena in bytes", model.arena_bytes() as u64, self.arena.len() as u64),
            ("input in elements", sizes.input as u64, self.input.len() as u64),
            ("output in elements", sizes.output as u64, self.output.len() as u64),
            ("work in multiply-accumulates", model.work(), self.work_max),
        ] {
            if need > have {
                return Err(EngineError::Room { what, need, have });
            }
        }
        Ok((model, sizes))
    }
}
