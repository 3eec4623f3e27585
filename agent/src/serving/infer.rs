//! One inference request: a turn at the gate, a run off the async threads, a deadline.
//!
//! The async threads also carry the link to the broker, so nothing of a request that takes time
//! (parsing megabytes of JSON, the run, writing the answer) holds one of them up. A thread is not
//! changed for that, because a change costs twenty microseconds and most models answer sooner: the
//! thread that has the request in its hands runs it, and gives its other tasks away first
//! ([`tokio::task::block_in_place`]), or not at all where the release has shown that it is quick
//! ([`Gate::seat`], `docs/decisions/0016-serving-protocols.md`). Whoever supervises the run outlives the client:
//! one that hangs up early frees no turn and hides no failure.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::batch;
use super::body::Bodies;
use super::limits::{INLINE_BYTES_MAX, INLINE_RUNS_MAX, Limits, QUEUE_PER_RUNNER};
use super::live::{Live, Loaded};
use super::oip::{Asked, Header, RequestError};
use super::refusal::Refusal;
use super::run::{Run, rows};
use super::standby::Standby;
use super::stats::Spent;
use crate::clock::{Clock, Stopwatch};
use fleetway_engine::{RunError, Tensor};

/// One way to ask and to be answered.
pub(super) trait Dialect: Send + 'static {
    /// What the client is sent.
    type Answer: Send + 'static;

    /// Unfolds what came compressed.
    fn unpack(&mut self, bodies: &Bodies) -> Result<(), Refusal>;

    /// Everything but the numbers.
    fn header(&self) -> Result<Header<'_>, RequestError>;

    /// Bytes of the request as it came.
    fn len_bytes(&self) -> usize;

    /// Drops the request's bytes: its numbers have been read.
    fn forget(&mut self);

    /// Writes the answer.
    fn answer(
        &self,
        loaded: &Loaded,
        asked: &Asked,
        outputs: &[Tensor],
    ) -> Result<Self::Answer, Refusal>;
}

/// Where the requests of one model wait, and how many of them run.
pub(super) struct Lane {
    turns: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    places: usize,
}

impl Lane {
    pub(super) fn new(concurrent_max: usize) -> Self {
        let places = concurrent_max.saturating_mul(QUEUE_PER_RUNNER + 1);
        Self {
            turns: Arc::new(Semaphore::new(concurrent_max)),
            queue: Arc::new(Semaphore::new(places)),
            places,
        }
    }

    /// A place in the queue, or 429 at once.
    fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let full = |_| Refusal::busy("the queue is full");
        self.queue.clone().try_acquire_owned().map_err(full)
    }

    /// Requests in the queue and running.
    pub(super) fn underway(&self) -> usize {
        self.places.saturating_sub(self.queue.available_permits())
    }
}

/// Bounds what runs at once on this device, and what bodies hold.
pub(super) struct Gate {
    runners: Arc<Semaphore>,
    inline: Arc<Semaphore>,
    standby: Standby,
    pub(super) bodies: Bodies,
}

impl Gate {
    pub(super) fn new(concurrent_max: usize) -> Self {
        Self {
            runners: Arc::new(Semaphore::new(concurrent_max)),
            inline: Arc::new(Semaphore::new(INLINE_RUNS_MAX)),
            standby: Standby::default(),
            bodies: Bodies::new(),
        }
    }

    /// Where a run of what is loaded may happen. A run that hangs on an async thread never gives
    /// this back, and then there is no other on one.
    pub(super) fn seat(&self, loaded: Option<&Loaded>, request_bytes: usize) -> Seat {
        let is_quick = loaded.is_some_and(Loaded::is_quick);
        let has_others = Handle::current().metrics().num_workers() > INLINE_RUNS_MAX;
        if is_quick && has_others && request_bytes <= INLINE_BYTES_MAX {
            self.standby.note();
            return Seat(self.inline.clone().try_acquire_owned().ok());
        }
        Seat(None)
    }

    /// The right to run on a lane.
    pub(super) async fn turn(&self, lane: &Lane, wait: Duration) -> Result<Turn, Refusal> {
        if let Ok(own) = lane.turns.clone().try_acquire_owned()
            && let Ok(runner) = self.runners.clone().try_acquire_owned()
        {
            return Ok(Turn { _own: own, _runner: runner });
        }
        let turn = async {
            let own = lane.turns.clone().acquire_owned().await.ok()?;
            let runner = self.runners.clone().acquire_owned().await.ok()?;
            Some(Turn { _own: own, _runner: runner })
        };
        match tokio::time::timeout(wait, turn).await {
            Ok(Some(turn)) => Ok(turn),
            _ => Err(Refusal::busy("no turn in time")),
        }
    }
}

/// The right to keep the async thread that one is on, if there is one.
pub(super) struct Seat(Option<OwnedSemaphorePermit>);

/// The right to run, until it is dropped.
pub(super) struct Turn {
    _own: OwnedSemaphorePermit,
    _runner: OwnedSemaphorePermit,
}

/// What to run, for whom.
pub(super) struct Job<D> {
    pub(super) live: Arc<Live>,
    /// The version that the caller insists on.
    pub(super) version: Option<String>,
    pub(super) dialect: D,
}

/// Answers one request.
pub(super) async fn infer<D: Dialect>(
    gate: &Arc<Gate>,
    limits: Limits,
    job: Job<D>,
) -> Result<D::Answer, Refusal> {
    let watch = Clock::stopwatch();
    let place = job.live.lane().enter()?;
    if batch::rows_max(&job.live) > 1 {
        return batched(gate, limits, job, place, watch).await;
    }
    let turn = gate.turn(job.live.lane(), limits.queue_wait).await?;
    let queue_ns = watch.elapsed_ns();
    let seat = gate.seat(job.live.current().as_deref(), job.dialect.len_bytes());
    let run = Arc::new(OnceLock::new());
    let work = {
        let (run, gate) = (run.clone(), gate.clone());
        move || work(&gate, job, queue_ns, &run)
    };
    supervised(limits.answer, run, (turn, place), seat, work).await?
}

/// Reads, joins a batch, writes: only the run is shared.
async fn batched<D: Dialect>(
    gate: &Arc<Gate>,
    limits: Limits,
    job: Job<D>,
    place: OwnedSemaphorePermit,
    watch: Stopwatch,
) -> Result<D::Answer, Refusal> {
    let Job { live, version, mut dialect } = job;
    let loaded = current(&live, version.as_deref())?;
    let is_small = dialect.len_bytes() <= INLINE_BYTES_MAX;
    let read_on = {
        let (live, loaded, gate) = (live.clone(), loaded.clone(), gate.clone());
        move || {
            let asked = read(&gate, &live, &loaded, &mut dialect)?;
            dialect.forget();
            Ok::<_, Refusal>((dialect, asked))
        }
    };
    let (dialect, mut asked) = if is_small { read_on()? } else { off_thread(read_on).await?? };
    let input_ns = watch.elapsed_ns();
    let inputs = std::mem::take(&mut asked.inputs);
    let many = rows(&inputs);
    let given = batch::join(gate, limits, &live, &loaded, inputs, place).await?;
    let outputs = given.outcome.map_err(|error| engine_failed(&loaded, &error))?;
    let output_watch = Clock::stopwatch();
    let is_small = outputs.iter().map(Tensor::len_bytes).sum::<usize>() <= INLINE_BYTES_MAX;
    let write = {
        let loaded = loaded.clone();
        move || dialect.answer(&loaded, &asked, &outputs)
    };
    let answer = if is_small { write()? } else { off_thread(write).await?? };
    loaded.stats().answered(
        many,
        Spent {
            queue_ns: given.queue_ns,
            input_ns,
            infer_ns: given.infer_ns,
            output_ns: output_watch.elapsed_ns(),
        },
    );
    Ok(answer)
}

/// Runs what may block, without holding up what else its thread has to do.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        return Ok(tokio::task::block_in_place(work));
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => Err(Refusal::stopping()),
    }
}

/// Runs `work` on a task of its own and waits for it until the deadline. `held` is given up with
/// the answer, or at the deadline: a run that hangs keeps its thread but not its turn, and
/// `HUNG_RUNS_MAX` bounds the threads. If the waiting is cut short, somebody else goes on with it.
pub(super) async fn supervised<T: Send + 'static, H: Send + 'static>(
    within: Duration,
    run: Arc<OnceLock<Run>>,
    held: H,
    seat: Seat,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let by = Instant::now() + within;
    let worker = Some(tokio::spawn(async move {
        match seat {
            Seat(None) => off_thread(work).await,
            Seat(Some(_seat)) => Ok(work()),
        }
    }));
    Supervisor { worker, run: Some(run), held: Some(held), within, by, orphan: false }.wait().await
}

struct Supervisor<T: Send + 'static, H: Send + 'static> {
    worker: Option<JoinHandle<Result<T, Refusal>>>,
    run: Option<Arc<OnceLock<Run>>>,
    held: Option<H>,
    within: Duration,
    by: Instant,
    /// The client has gone.
    orphan: bool,
}

impl<T: Send + 'static, H: Send + 'static> Supervisor<T, H> {
    async fn wait(mut self) -> Result<T, Refusal> {
        let Some(worker) = &mut self.worker else { return Err(Refusal::stopping()) };
        let ended = tokio::time::timeout_at(self.by, worker).await;
        self.worker = None;
        match ended {
            Ok(Ok(answer)) => answer,
            Ok(Err(ended)) if ended.is_cancelled() => Err(Refusal::stopping()),
            // The engine's panics are caught in `Run`: this one is ours.
            Ok(Err(_)) => {
                Err(Refusal::failed("the agent failed on this request; its log says more"))
            }
            Err(_) => {
                if let Some(run) = self.run.as_ref().and_then(|run| run.get()) {
                    run.give_up();
                }
                let text = format!("no answer within {} ms", self.within.as_millis());
                Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, text))
            }
        }
    }
}

impl<T: Send + 'static, H: Send + 'static> Drop for Supervisor<T, H> {
    fn drop(&mut self) {
        let Some(worker) = self.worker.take() else { return };
        // A task that a stopping runtime drops must not start another.
        if self.orphan {
            return;
        }
        let rest = Self {
            worker: Some(worker),
            run: self.run.take(),
            held: self.held.take(),
            within: self.within,
            by: self.by,
            orphan: true,
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(rest.wait());
        }
    }
}

/// Everything that takes time. The engine is chosen here, after the queue: the newest.
fn work<D: Dialect>(
    gate: &Gate,
    job: Job<D>,
    queue_ns: u64,
    run: &OnceLock<Run>,
) -> Result<D::Answer, Refusal> {
    let watch = Clock::stopwatch();
    let Job { live, version, mut dialect } = job;
    let loaded = current(&live, version.as_deref())?;
    let asked = read(gate, &live, &loaded, &mut dialect)?;
    dialect.forget();
    let run = run.get_or_init(|| Run::begin(live, loaded.clone(), 1));
    let input_ns = watch.elapsed_ns();
    let outcome = run.run(&asked.inputs);
    let infer_ns = run.elapsed_ns();
    let many = rows(&asked.inputs);
    loaded.stats().ran(many, infer_ns);
    let outputs = outcome.map_err(|error| engine_failed(&loaded, &error))?;
    let answer = dialect.answer(&loaded, &asked, &outputs)?;
    let output_ns = watch.elapsed_ns().saturating_sub(input_ns + infer_ns);
    loaded.stats().answered(many, Spent { queue_ns, input_ns, infer_ns, output_ns });
    Ok(answer)
}

/// The request, checked against what is loaded.
fn read<D: Dialect>(
    gate: &Gate,
    live: &Live,
    loaded: &Loaded,
    dialect: &mut D,
) -> Result<Asked, Refusal> {
    dialect.unpack(&gate.bodies)?;
    let header = dialect.header()?;
    let (specs, rows_max) = (loaded.engine.inputs(), loaded.engine.rows_max());
    let fit = header.match_inputs(specs, rows_max).inspect_err(|error| {
        let fitted = |before| error.is_about_inputs() && header.match_inputs(before, 1).is_ok();
        if loaded.inputs_before().is_some_and(fitted) {
            live.record_failure(loaded);
        }
    })?;
    let wanted = header.match_outputs(&*loaded.engine)?;
    let inputs = header.tensors(specs, &fit)?;
    if loaded.is_stuck() {
        live.record_failure(loaded);
        let text = format!("earlier runs of version {} hang; not run", loaded.version);
        return Err(Refusal::failed(text).said_by(loaded));
    }
    Ok(Asked { id: header.id.as_deref().map(str::to_owned), inputs, wanted })
}

fn engine_failed(loaded: &Loaded, error: &RunError) -> Refusal {
    let text = format!("version {}: {error}", loaded.version);
    let refusal = match error.is_callers() {
        true => Refusal::new(StatusCode::BAD_REQUEST, text),
        false => Refusal::failed(text),
    };
    refusal.said_by(loaded)
}

/// What answers now, if it is the version that the caller insists on.
pub(super) fn current(live: &Live, version: Option<&str>) -> Result<Arc<Loaded>, Refusal> {
    let loaded = live.current().ok_or_else(|| Refusal::not_loaded(live))?;
    match version {
        Some(wanted) if wanted != loaded.version => {
            let wanted: String = wanted.chars().take(64).collect();
            let text = format!(
                "version {wanted:?} of model {:?} does not run; version {:?} does",
                loaded.model.as_str(),
                loaded.version
            );
            Err(Refusal::new(StatusCode::NOT_FOUND, text))
        }
        _ => Ok(loaded),
    }
}
