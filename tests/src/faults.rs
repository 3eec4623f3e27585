//! Models that go wrong in use, in ways that an ONNX file cannot: a sound file carries the fault's
//! name in its `doc_string`, and the program `faulty-agent` puts a wrapper with that fault around
//! the real engine. The self-test's child and every other program load the file as the sound model
//! that it is, so the fault is met where it matters: while applications ask.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fleetway_engine::load::{self, LoadError};
use fleetway_engine::{Engine, ModelBytes, RunError, Tensor, TensorSpec};
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::trust::VerifiedArtifact;

use crate::attacks::{find_mark, put_mark};

/// What stands before the fault's name in a model.
const MARK: &str = "fleetway-fault:";
/// What a slow release takes, beside some twenty microseconds.
const SLOW: Duration = Duration::from_millis(2);
/// Bytes that a leaking release keeps of each run.
const LEAK_BYTES: usize = 256 << 10;
/// Bytes that a release that is too big holds.
const BIG_BYTES: usize = 128 << 20;
/// Runs that go well before a release hangs or crashes.
const GOOD_RUNS: u64 = 5;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The engine does not take the bytes, although the self-test did.
    NoLoad,
    /// Answers come more than ten times as late.
    Slow,
    /// A run never comes back.
    Hang,
    /// Every run keeps memory.
    Leak,
    /// It holds a lot of memory from the start.
    Big,
    /// A run takes the process down.
    Crash,
}

impl Fault {
    const ALL: [Self; 6] =
        [Self::NoLoad, Self::Slow, Self::Hang, Self::Leak, Self::Big, Self::Crash];

    /// Its name in a model.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// `model` (an ONNX file) with the fault in it.
    pub fn put_into(self, model: &[u8]) -> Vec<u8> {
        put_mark(model, MARK, &self.name())
    }

    fn find(model: &[u8]) -> Option<Self> {
        let name = find_mark(model, MARK)?;
        Self::ALL.into_iter().find(|fault| fault.name().as_bytes() == name)
    }
}

/// The engine, with the fault that the artifact names around it.
///
/// # Errors
/// The engine's, and that of [`Fault::NoLoad`].
pub fn load(
    kind: VariantKind,
    artifact: &VerifiedArtifact<'_>,
    bytes: ModelBytes,
) -> Result<Arc<dyn Engine>, LoadError> {
    let engine = load::load(kind, artifact, bytes)?;
    match Fault::find(artifact.bytes()) {
        None => Ok(engine),
        Some(Fault::NoLoad) => {
            Err(LoadError::Engine { engine: "tract", detail: "so it was made".into() })
        }
        Some(fault) => {
            let held = if fault == Fault::Big { vec![1; BIG_BYTES] } else { Vec::new() };
            Ok(Arc::new(Faulty { engine, fault, runs: AtomicU64::new(0), held }))
        }
    }
}

struct Faulty {
    engine: Arc<dyn Engine>,
    fault: Fault,
    runs: AtomicU64,
    held: Vec<u8>,
}

impl Engine for Faulty {
    fn inputs(&self) -> &[TensorSpec] {
        self.engine.inputs()
    }

    fn outputs(&self) -> &[TensorSpec] {
        self.engine.outputs()
    }

    fn rows_max(&self) -> usize {
        self.engine.rows_max()
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let is_over = self.runs.fetch_add(1, Relaxed) >= GOOD_RUNS;
        match self.fault {
            Fault::Slow => std::thread::sleep(SLOW),
            // Where a processor goes when nobody stops it.
            Fault::Hang if is_over => loop {
                black_box(());
            },
            Fault::Leak => drop(Box::leak(vec![1u8; LEAK_BYTES].into_boxed_slice())),
            Fault::Crash if is_over => std::process::abort(),
            Fault::Big => drop(black_box(self.held.len())),
            Fault::NoLoad | Fault::Hang | Fault::Crash => {}
        }
        self.engine.run(inputs)
    }

    fn kind(&self) -> &'static str {
        self.engine.kind()
    }
}
