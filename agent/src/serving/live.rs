//! The engine that answers for a model, and its swap.
//!
//! A request takes an `Arc` of what is loaded and keeps it to its end; a swap changes the pointer
//! for the requests that come after. So no request is dropped, none sees two engines, and the old
//! engine goes when its last request ends. Locks here are held for a pointer copy, never across
//! an await or a run.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fleetway_engine::tensor::TensorData;
use fleetway_engine::{Engine, RunError, Tensor, TensorSpec};
use fleetway_protocol::health::Answer;
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::limits::MODELS_PER_DEVICE_MAX;
use fleetway_protocol::slot::Place;

use super::limits::HUNG_RUNS_MAX;
use super::recorder::Recorder;
use crate::clock::{Clock, Stopwatch};

/// One release, loaded.
pub struct Loaded {
    /// Runs it.
    pub engine: Arc<dyn Engine>,
    /// Of which model it is a release.
    pub model: ModelName,
    /// What people call it.
    pub version: String,
    /// Digest of its manifest.
    pub release: Digest,
    /// Where its bytes are.
    pub place: Place,
    /// When it was loaded, monotonic milliseconds.
    pub loaded_at_ms: u64,
    /// Inputs of the release before, if they were others. See [`Loaded::broke_inputs`].
    inputs_before: Vec<TensorSpec>,
    /// Runs past their deadline that still go on.
    hung: AtomicUsize,
}

impl Loaded {
    /// A loaded release, ready for [`Live::swap`].
    pub fn new(
        engine: Arc<dyn Engine>,
        model: ModelName,
        version: &str,
        release: Digest,
        place: Place,
        loaded_at_ms: u64,
    ) -> Self {
        let version = version.to_owned();
        let inputs_before = Vec::new();
        let hung = AtomicUsize::new(0);
        Self { engine, model, version, release, place, loaded_at_ms, inputs_before, hung }
    }

    /// Runs past their deadline that still go on. More than none, and a processor is lost until
    /// the process ends.
    pub fn hung_runs(&self) -> usize {
        self.hung.load(Ordering::Relaxed)
    }

    /// Whether it gets no new requests because too many runs hang.
    pub(super) fn is_stuck(&self) -> bool {
        self.hung_runs() >= HUNG_RUNS_MAX
    }

    /// Inputs of the release before, if this one changed them: a request that fits those and not
    /// these is the release's failure, not the caller's. Without this a release with another
    /// interface would fail every request and still never be judged.
    pub(super) fn inputs_before(&self) -> Option<&[TensorSpec]> {
        (!self.inputs_before.is_empty()).then_some(&self.inputs_before)
    }
}

/// Where one model's requests go.
pub struct Live {
    model: ModelName,
    current: RwLock<Option<Arc<Loaded>>>,
    recorder: Recorder,
}

impl Live {
    /// Nothing loaded yet.
    pub fn new(model: ModelName) -> Self {
        Self { model, current: RwLock::new(None), recorder: Recorder::default() }
    }

    /// Which model.
    pub fn model(&self) -> &ModelName {
        &self.model
    }

    /// What answers now.
    pub fn current(&self) -> Option<Arc<Loaded>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets `next` answer from the next request on, and gives back what answered until now;
    /// requests under way on it still end there.
    pub fn swap(&self, next: Option<Loaded>) -> Option<Arc<Loaded>> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let release = next.as_ref().map(|loaded| loaded.release);
        let next = next.map(|mut loaded| {
            if let Some(before) = current.as_ref()
                && before.engine.inputs() != loaded.engine.inputs()
            {
                loaded.inputs_before = before.engine.inputs().to_vec();
            }
            Arc::new(loaded)
        });
        // Under the lock: no answer of the new engine comes before its counters.
        self.recorder.reset(release);
        std::mem::replace(&mut current, next)
    }

    /// What it answered.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Counts a failed answer that needed no run.
    pub(super) fn record_failure(&self, loaded: &Loaded) {
        self.recorder.record(&loaded.release, Answer { latency_us: 0, ok: false, class: None });
    }
}

/// A run is counted once, by whoever comes first: the worker that ends it, or the deadline.
const RUNNING: u8 = 0;
const SETTLED: u8 = 1;
const HUNG: u8 = 2;

/// One run of an engine for a request.
pub(super) struct Run {
    live: Arc<Live>,
    loaded: Arc<Loaded>,
    watch: Stopwatch,
    state: AtomicU8,
}

impl Run {
    /// Starts the watch.
    pub(super) fn begin(live: Arc<Live>, loaded: Arc<Loaded>) -> Self {
        Self { live, loaded, watch: Clock::stopwatch(), state: AtomicU8::new(RUNNING) }
    }

    /// Runs the engine and counts the answer. A panic in it is an error here.
    pub(super) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let ran = catch_unwind(AssertUnwindSafe(|| self.loaded.engine.run(inputs)))
            .unwrap_or_else(|panic| Err(RunError::Panicked(panic_text(&*panic))))
            .and_then(|outputs| check_numbers(self.loaded.engine.outputs(), outputs));
        match &ran {
            Ok(outputs) => self.settle(Some((true, outputs.first().and_then(top_class)))),
            // Not the release's failure, so not its answer.
            Err(error) if error.is_callers() => self.settle(None),
            Err(_) => self.settle(Some((false, None))),
        }
        ran
    }

    fn settle(&self, outcome: Option<(bool, Option<u16>)>) {
        let latency_us = self.watch.elapsed_us();
        if !self.leave_running(SETTLED) {
            // Slow after all, not hung.
            self.loaded.hung.fetch_sub(1, Ordering::Relaxed);
        } else if let Some((ok, class)) = outcome {
            self.live.recorder.record(&self.loaded.release, Answer { latency_us, ok, class });
        }
    }

    /// Whether this call was the first to say how the run ended.
    fn leave_running(&self, state: u8) -> bool {
        let (ok, err) = (Ordering::AcqRel, Ordering::Acquire);
        self.state.compare_exchange(RUNNING, state, ok, err).is_ok()
    }

    /// The deadline passed: counts a failed answer unless the run has just ended.
    pub(super) fn give_up(&self) {
        // Before the state, so that the worker never takes off what is not yet added.
        self.loaded.hung.fetch_add(1, Ordering::Relaxed);
        if self.leave_running(HUNG) {
            let answer = Answer { latency_us: self.watch.elapsed_us(), ok: false, class: None };
            self.live.recorder.record(&self.loaded.release, answer);
        } else {
            self.loaded.hung.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .to_owned()
}

/// JSON has no NaN and no infinity, and an application has no use for them: a failed answer.
fn check_numbers(specs: &[TensorSpec], outputs: Vec<Tensor>) -> Result<Vec<Tensor>, RunError> {
    let finite = |tensor: &Tensor| match tensor.data() {
        TensorData::F32(v) => v.iter().all(|x| x.is_finite()),
        TensorData::F64(v) => v.iter().all(|x| x.is_finite()),
        _ => true,
    };
    match outputs.iter().position(|tensor| !finite(tensor)) {
        None => Ok(outputs),
        Some(index) => {
            let name = specs.get(index).map_or("?", |spec| spec.name.as_str());
            Err(RunError::Failed(format!("output `{name}` holds a value that is no finite number")))
        }
    }
}

/// Index of the largest element, the first of equals, if the tensor is one vector of classes.
fn top_class(output: &Tensor) -> Option<u16> {
    let length = output.data().len();
    let is_vector = length >= 2 && output.shape().contains(&length);
    if !is_vector {
        return None;
    }
    let value = |at: usize| output.data().get_f64(at).unwrap_or(f64::NEG_INFINITY);
    let top = (1..length).fold(0, |top, at| if value(at) > value(top) { at } else { top });
    u16::try_from(top).ok()
}

/// More models than a device has room for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for model `{0}`: a device runs at most {MODELS_PER_DEVICE_MAX}; remove one first")]
pub struct TooManyModels(pub ModelName);

/// The models of this device, by name.
#[derive(Default)]
pub struct Models(RwLock<BTreeMap<ModelName, Arc<Live>>>);

impl Models {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The model's place, made when there is none yet.
    ///
    /// # Errors
    /// [`TooManyModels`] when the device is full.
    pub fn add(&self, model: &ModelName) -> Result<Arc<Live>, TooManyModels> {
        let mut models = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = models.get(model) {
            return Ok(live.clone());
        }
        if models.len() >= MODELS_PER_DEVICE_MAX {
            return Err(TooManyModels(model.clone()));
        }
        let live = Arc::new(Live::new(model.clone()));
        models.insert(model.clone(), live.clone());
        Ok(live)
    }

    /// Forgets the model. Requests under way end.
    pub fn remove(&self, model: &ModelName) -> Option<Arc<Live>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(model)
    }

    /// The place of the model with this name.
    pub fn get(&self, model: &str) -> Option<Arc<Live>> {
        let model = ModelName::new(model).ok()?;
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&model).cloned()
    }

    /// All, by name.
    pub fn list(&self) -> Vec<Arc<Live>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
