//! One inference request: a turn at the gate, a worker off the async threads, a deadline.
//!
//! The async threads also carry the link to the broker, so nothing of a request that takes time
//! (parsing megabytes of JSON, the run, writing the answer) happens there. Whoever supervises the
//! run outlives the client: one that hangs up early frees no turn and hides no failure.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::limits::{BODIES_BYTES_MAX, Limits, QUEUE_PER_RUNNER};
use super::live::{Live, Loaded, Run};
use super::oip::{self, Header, RequestError, data};

/// An answer that is none: what the client is told.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
    pub(super) header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), header: None }
    }

    /// 429: more at once than there is room for.
    pub(super) fn busy(why: &str) -> Self {
        let text = format!("too many requests at once: {why}; ask again later");
        let header = Some((RETRY_AFTER, HeaderValue::from_static("1")));
        Self { header, ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

/// Bounds what runs at once, what waits for it, and what their bodies hold.
pub(super) struct Gate {
    runners: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    pub(super) bodies: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(concurrent_max: usize) -> Self {
        let queued = concurrent_max.saturating_mul(QUEUE_PER_RUNNER + 1);
        Self {
            runners: Arc::new(Semaphore::new(concurrent_max)),
            queue: Arc::new(Semaphore::new(queued)),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX)),
        }
    }

    async fn enter(&self, wait: Duration) -> Result<Turn, Refusal> {
        let full = |_| Refusal::busy("the queue is full");
        let queue = self.queue.clone().try_acquire_owned().map_err(full)?;
        let turn = tokio::time::timeout(wait, self.runners.clone().acquire_owned()).await;
        match turn {
            Ok(Ok(runner)) => Ok(Turn { _runner: runner, _queue: queue }),
            _ => Err(Refusal::busy("no turn in time")),
        }
    }
}

/// The right to run, until it is dropped.
struct Turn {
    _runner: OwnedSemaphorePermit,
    _queue: OwnedSemaphorePermit,
}

/// A complete request body, and its share of the memory for bodies.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) _share: Option<OwnedSemaphorePermit>,
}

/// What to run, for whom.
pub(super) struct Job {
    pub(super) live: Arc<Live>,
    /// The version that the caller insists on.
    pub(super) version: Option<String>,
    pub(super) body: Body,
}

/// Answers one request.
pub(super) async fn infer(gate: &Gate, limits: Limits, job: Job) -> Result<Vec<u8>, Refusal> {
    let turn = gate.enter(limits.queue_wait).await?;
    let run = Arc::new(OnceLock::new());
    let worker = tokio::task::spawn_blocking({
        let run = run.clone();
        move || work(job, &run)
    });
    let supervisor = tokio::spawn(supervise(turn, run, worker, limits.answer));
    supervisor.await.unwrap_or_else(|_| Err(stopping()))
}

async fn supervise(
    turn: Turn,
    run: Arc<OnceLock<Run>>,
    mut worker: JoinHandle<Result<Vec<u8>, Refusal>>,
    deadline: Duration,
) -> Result<Vec<u8>, Refusal> {
    let answer = match tokio::time::timeout(deadline, &mut worker).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(ended)) if ended.is_cancelled() => Err(stopping()),
        Ok(Err(_)) => {
            // The engine's panics are caught in `Run`: this one is ours.
            let text = "the agent failed on this request; its log says more";
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
        Err(_) => {
            if let Some(run) = run.get() {
                run.give_up();
            }
            let text = format!("no answer within {} ms", deadline.as_millis());
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, text))
        }
    };
    // A run that hangs keeps its thread but not its turn; `HUNG_RUNS_MAX` bounds the threads.
    drop(turn);
    answer
}

fn stopping() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping")
}

/// The part off the async threads. The engine is chosen here, after the queue: the newest.
fn work(job: Job, run: &OnceLock<Run>) -> Result<Vec<u8>, Refusal> {
    let Job { live, version, body } = job;
    let loaded = live.current().ok_or_else(|| not_loaded(&live))?;
    check_version(&loaded, version.as_deref())?;
    let header = Header::read(&body.bytes)?;
    let specs = loaded.engine.inputs();
    let places = header.match_inputs(specs).inspect_err(|error| {
        let fitted = |before| error.is_about_inputs() && header.match_inputs(before).is_ok();
        if loaded.inputs_before().is_some_and(fitted) {
            live.record_failure(&loaded);
        }
    })?;
    let selected = header.match_outputs(&*loaded.engine)?;
    let inputs = data::read(&body.bytes, specs, &places)?;
    if loaded.is_stuck() {
        live.record_failure(&loaded);
        let text = format!("earlier runs of version {} hang; not run", loaded.version);
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    let id = header.id.as_deref().map(str::to_owned);
    drop(header);
    drop(body);
    let run = run.get_or_init(|| Run::begin(live, loaded.clone()));
    let outputs = run.run(&inputs).map_err(|error| {
        let caller = error.is_callers();
        let status =
            if caller { StatusCode::BAD_REQUEST } else { StatusCode::INTERNAL_SERVER_ERROR };
        Refusal::new(status, format!("version {}: {error}", loaded.version))
    })?;
    oip::answer(&loaded, id.as_deref(), &selected, &outputs)
        .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// 503: the model is known and nothing of it is loaded.
pub(super) fn not_loaded(live: &Live) -> Refusal {
    let text = format!(
        "nothing is loaded for model {:?}; `fleetway-agent status` on the device says why",
        live.model().as_str()
    );
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
}

/// 404: another version than the caller insists on runs.
pub(super) fn check_version(loaded: &Loaded, version: Option<&str>) -> Result<(), Refusal> {
    match version {
        Some(wanted) if wanted != loaded.version => {
            let text = format!(
                "version {wanted:?} of model {:?} does not run; version {:?} does",
                loaded.model.as_str(),
                loaded.version
            );
            Err(Refusal::new(StatusCode::NOT_FOUND, text))
        }
        _ => Ok(()),
    }
}
