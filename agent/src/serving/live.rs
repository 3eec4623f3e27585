//! The engine that answers for a model, and its swap.
//!
//! A request takes an `Arc` of what is loaded and keeps it to its end; a swap changes the pointer
//! for the requests that come after. So no request is dropped, none sees two engines, and the old
//! engine goes when its last request ends. Locks here are held for a pointer copy, never across
//! an await or a run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fleetway_engine::{Engine, Tensor, TensorSpec, Watcher};
use fleetway_protocol::health::{Answer, Health};
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::limits::MODELS_PER_DEVICE_MAX;
use fleetway_protocol::slot::Place;

use super::batch::Batches;
use super::infer::Lane;
use super::limits::{HUNG_RUNS_MAX, INLINE_RUN_US_MAX};
use super::oip::Origin;
use super::recorder::Recorder;
use super::settings::{ModelSettings, Settings};
use super::stats::Stats;
use super::tap::Tap;

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
    /// What is read off its answers.
    pub(super) watcher: Box<Watcher>,
    /// Inputs of the release before, if they were others. See [`Loaded::broke_inputs`].
    inputs_before: Vec<TensorSpec>,
    /// Runs past their deadline that still go on.
    pub(super) hung: AtomicUsize,
    /// Microseconds of the last run that ended; [`u32::MAX`] before the first.
    pub(super) pace_us: AtomicU32,
    /// Requests that wait for a run together.
    pub(super) batches: Box<Batches>,
    stats: Box<Stats>,
    origin: Box<Origin>,
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
        let (batches, stats, watcher) = Default::default();
        let pace_us = AtomicU32::new(u32::MAX);
        let origin = Box::new(Origin::new(&release, place));
        Self {
            engine,
            model,
            version,
            release,
            place,
            loaded_at_ms,
            watcher,
            inputs_before,
            hung,
            pace_us,
            batches,
            stats,
            origin,
        }
    }

    /// The same, and its answers are watched as its manifest says.
    #[must_use]
    pub fn watched(self, health: &Health) -> Self {
        Self { watcher: Box::new(Watcher::new(health)), ..self }
    }

    /// What its answers say of where they come from.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether a run is over before anybody misses the thread that it keeps.
    pub(super) fn is_quick(&self) -> bool {
        self.pace_us.load(Ordering::Relaxed) <= INLINE_RUN_US_MAX && self.hung_runs() == 0
    }

    /// What it did since it was loaded, in the protocol's counts.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Runs past their deadline that still go on. More than none, and a processor is lost until
    /// the process ends.
    pub fn hung_runs(&self) -> usize {
        self.hung.load(Ordering::Relaxed)
    }

    /// Whether it gets no new requests because too many runs hang.
    pub(crate) fn is_stuck(&self) -> bool {
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
    settings: ModelSettings,
    lane: Lane,
    tap: RwLock<Option<Tap>>,
}

impl Live {
    /// Nothing loaded yet.
    pub fn new(model: ModelName, settings: ModelSettings) -> Self {
        let lane = Lane::new(settings.concurrent_max);
        let (current, tap) = (RwLock::new(None), RwLock::new(None));
        Self { model, current, recorder: Recorder::default(), settings, lane, tap }
    }

    /// How much of the device it may take.
    pub fn settings(&self) -> &ModelSettings {
        &self.settings
    }

    /// Where its requests wait.
    pub(super) fn lane(&self) -> &Lane {
        &self.lane
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

    /// Copies of requests and answers go there from now on, or nowhere.
    pub fn set_tap(&self, tap: Option<Tap>) {
        *self.tap.write().unwrap_or_else(PoisonError::into_inner) = tap;
    }

    /// Lets the tap have a request and its answer, if there is one.
    pub(super) fn offer(&self, inputs: &[Tensor], outputs: &[Tensor], rows: usize, us: u32) {
        let tap = self.tap.read().unwrap_or_else(PoisonError::into_inner);
        tap.iter().for_each(|tap| tap.offer(inputs, outputs, rows, us));
    }

    /// Counts an answer of a release.
    pub(super) fn record(&self, loaded: &Loaded, answer: Answer) {
        self.recorder.record(&loaded.release, answer);
    }

    /// Counts a failed answer that needed no run.
    pub(super) fn record_failure(&self, loaded: &Loaded) {
        self.record(loaded, Answer::failed(0));
    }
}

/// More models than a device has room for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for model `{0}`: a device runs at most {MODELS_PER_DEVICE_MAX}; remove one first")]
pub struct TooManyModels(pub ModelName);

/// The models of this device, by name.
#[derive(Default)]
pub struct Models {
    live: RwLock<BTreeMap<ModelName, Arc<Live>>>,
    settings: Settings,
}

impl Models {
    /// None, with the usual bounds.
    pub fn new() -> Self {
        Self::default()
    }

    /// None, with these bounds.
    pub fn with(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The model's place, made when there is none yet.
    ///
    /// # Errors
    /// [`TooManyModels`] when the device is full.
    pub fn add(&self, model: &ModelName) -> Result<Arc<Live>, TooManyModels> {
        let mut models = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = models.get(model) {
            return Ok(live.clone());
        }
        if models.len() >= MODELS_PER_DEVICE_MAX {
            return Err(TooManyModels(model.clone()));
        }
        let live = Arc::new(Live::new(model.clone(), self.settings.of(model)));
        models.insert(model.clone(), live.clone());
        Ok(live)
    }

    /// Forgets the model. Requests under way end.
    pub fn remove(&self, model: &ModelName) -> Option<Arc<Live>> {
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(model)
    }

    /// The place of the model with this name.
    pub fn get(&self, model: &str) -> Option<Arc<Live>> {
        let model = ModelName::new(model).ok()?;
        self.live.read().unwrap_or_else(PoisonError::into_inner).get(&model).cloned()
    }

    /// All, by name.
    pub fn list(&self) -> Vec<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
