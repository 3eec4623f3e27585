//! Candidates in the shadow: a thread and a fenced child each, at the lowest priority.
//!
//! The child answers copies of requests; its answers are compared here and go nowhere else: what
//! leaves [`answer`] are numbers. If it crashes or hangs, that is a fact about the candidate, and
//! nothing that serves notices.
//!
//! **What it may take.** Of requests the order's share, while [`crate::serving::tap`] has room; of
//! the processor what [`NICENESS`] leaves; of memory what a self-test may; at once [`SHADOWS_MAX`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetway_engine::golden::compare;
use fleetway_engine::selftest::WorkerError;
use fleetway_engine::{Candidate, GoldenRule, SelfTest, SelfTestError, Tensor, Worker};
use fleetway_protocol::ids::ModelName;
use fleetway_protocol::machine::Token;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::shadow::Compared;
use tokio::sync::mpsc;

use super::jobs::{Answer, reason};
use crate::device::ShadowJob;
use crate::serving::live::Live;
use crate::serving::tap::{Copied, tap};

/// Niceness, the least that there is: whoever serves goes first. Beside one that serves with all
/// its might the kernel gives such a process 15 parts of 1039.
const NICENESS: i32 = 19;
/// Candidates at once on one device: each takes as much memory as a model, and a device has room
/// for one that is tried. The next waits as for a self-test that cannot be started.
const SHADOWS_MAX: usize = 1;
/// Longest answer of a candidate to one row: as long as an application would wait.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How often an idle thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// The candidates under way, by model.
pub(super) struct Shadows {
    answers: mpsc::Sender<Answer>,
    /// The child and its fences, if this process has one.
    test: Option<SelfTest>,
    stops: BTreeMap<ModelName, Arc<AtomicBool>>,
    /// Each thread has one until it ends, which may be a moment after it was told to.
    alive: Arc<()>,
}

impl Shadows {
    pub(super) fn new(answers: mpsc::Sender<Answer>, test: Option<SelfTest>) -> Self {
        Self { answers, test, stops: BTreeMap::new(), alive: Arc::default() }
    }

    /// Starts a candidate in the shadow of `live`, or says why it cannot begin now; the machine
    /// tries again, later and later.
    pub(super) fn start(&mut self, job: ShadowJob, live: Arc<Live>) -> Result<(), Reason> {
        if Arc::strong_count(&self.alive) > SHADOWS_MAX {
            tracing::debug!(model = %job.model, "waits: another candidate is in the shadow");
            return Err(Reason::Environment);
        }
        // As for a self-test that cannot be fenced in.
        let test = self.test.clone().ok_or(Reason::SandboxTooWeak)?;
        let stop = Arc::new(AtomicBool::new(false));
        self.stops.insert(job.model.clone(), Arc::clone(&stop));
        let runner = Runner { live, stop, answers: self.answers.clone(), test };
        let alive = Arc::clone(&self.alive);
        let work = move || {
            let _alive = alive;
            let (model, token) = (job.model.clone(), job.token);
            if let Err(reason) = runner.run(job) {
                runner.end(model, token, reason);
            }
        };
        let spawned = std::thread::Builder::new().name("shadow".into()).spawn(work);
        spawned.map(drop).map_err(|error| {
            tracing::error!("no thread for a shadow: {error}");
            Reason::Environment
        })
    }

    /// No more of it.
    pub(super) fn end(&mut self, model: &ModelName, live: Option<&Live>) {
        if let Some(stop) = self.stops.remove(model) {
            stop.store(true, Ordering::Relaxed);
        }
        if let Some(live) = live {
            live.set_tap(None);
        }
    }
}

struct Runner {
    live: Arc<Live>,
    stop: Arc<AtomicBool>,
    answers: mpsc::Sender<Answer>,
    test: SelfTest,
}

impl Runner {
    /// Until nobody wants it any more, or it is over by itself.
    fn run(&self, job: ShadowJob) -> Result<(), Reason> {
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!("this shadow runs at full priority: {error}");
        }
        let ShadowJob { model, token, manifest, variant, model_bytes, shadow, terms } = job;
        let test = SelfTest {
            deadline: Duration::from_millis(terms.self_test_ms_max.into()),
            memory_bytes: u64::from(terms.self_test_mib_max) << 20,
            ..self.test.clone()
        };
        let version = &manifest.get().version;
        let mut worker = Worker::start(&test, Candidate { kind: variant, bytes: &model_bytes })
            .map_err(|error| {
                tracing::warn!(%model, %version, "shadow: {error}");
                if is_starved(&error) { Reason::Environment } else { reason(&error) }
            })?;
        // The child has them.
        drop(model_bytes);
        let same = {
            let serving = self.live.current().ok_or(Reason::Environment)?;
            let engine = &serving.engine;
            engine.inputs() == worker.inputs() && engine.outputs() == worker.outputs()
        };
        if !same {
            return Err(Reason::ShadowInterface);
        }
        tracing::info!(%model, %version, share_permille = shadow.share_permille, "in the shadow");
        let golden = manifest.get().golden;
        let rule =
            GoldenRule { max_abs_err: golden.abs_err_max, require_same_top1: golden.same_top1 };
        let (tap, copies) = tap(shadow.share_permille);
        if self.is_over() {
            return Ok(());
        }
        // One that is ended at this very moment leaves a tap that leads nowhere and fills once.
        self.live.set_tap(Some(tap));
        while let (false, Ok(copied)) = (self.is_over(), copies.next(LOOK)) {
            let compared = match copied {
                Some(copied) => vec![answer(&mut worker, &copied, rule)?],
                None => Vec::new(),
            };
            let dropped = copies.take_dropped();
            if !compared.is_empty() || dropped > 0 {
                self.tell(Answer::Compared { model: model.clone(), token, compared, dropped });
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn end(&self, model: ModelName, token: Token, reason: Reason) {
        self.tell(Answer::ShadowEnded { model, token, reason });
    }

    fn tell(&self, answer: Answer) {
        // Without a receiver the agent has ended.
        let _ = self.answers.blocking_send(answer);
    }
}

/// Has the candidate answer a copy, row by row, and says how its answers differ from those that the
/// application got: they agree if every row does.
fn answer(worker: &mut Worker, copied: &Copied, rule: GoldenRule) -> Result<Compared, Reason> {
    let (mut agrees, mut abs_max, mut cpu_us) = (true, 0.0, 0);
    for at in 0..copied.rows {
        let row = |all: &[Tensor]| match copied.rows {
            1 => Some(all.to_vec()),
            _ => all.iter().map(|tensor| tensor.rows(at..at + 1)).collect::<Option<Vec<_>>>(),
        };
        // What serves gives as many rows as it takes, or its answer would not have passed.
        let (Some(inputs), Some(outputs)) = (row(&copied.inputs), row(&copied.outputs)) else {
            return Ok(Compared::Failed);
        };
        let answered = match worker.run(&inputs, ANSWER_MAX) {
            Ok(answered) => answered,
            Err(WorkerError::Run(error)) => {
                tracing::debug!("shadow: {error}");
                return Ok(Compared::Failed);
            }
            Err(WorkerError::Ended(error)) => {
                tracing::warn!("the candidate in the shadow is over: {error}");
                return Err(ended(&error));
            }
        };
        let difference = compare(&outputs, &answered.outputs, rule);
        agrees &= difference.agrees;
        abs_max = f32::max(abs_max, difference.abs_max);
        cpu_us += answered.cpu_us;
    }
    Ok(Compared::Answered {
        agrees,
        diff_millionths: millionths(abs_max),
        serving_us: copied.serving_us,
        candidate_us: u32::try_from(cpu_us).unwrap_or(u32::MAX),
    })
}

/// Whether a deadline passed because others had the processor: at the lowest priority on a busy
/// device a good model can be late, and that is no verdict.
fn is_starved(error: &SelfTestError) -> bool {
    matches!(error, SelfTestError::TimedOut { deadline_ms, cpu_ms: Some(used_ms) }
        if used_ms.saturating_mul(2) < *deadline_ms)
}

/// What the end of its process says of a candidate.
fn ended(error: &SelfTestError) -> Reason {
    match error {
        _ if is_starved(error) => Reason::Environment,
        SelfTestError::Environment { .. } | SelfTestError::Forbidden { .. } => reason(error),
        _ => Reason::ShadowErrors,
    }
}

/// As large as can be said, where it is larger.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
fn millionths(difference: f32) -> u32 {
    (f64::from(difference) * 1e6) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_had_the_processor_is_late_by_his_own_fault() {
        let late = |used_ms| SelfTestError::TimedOut { deadline_ms: 10_000, cpu_ms: used_ms };
        assert_eq!(ended(&late(Some(150))), Reason::Environment);
        assert_eq!(ended(&late(Some(9_800))), Reason::ShadowErrors);
        assert_eq!(ended(&late(None)), Reason::ShadowErrors);
        let crashed = SelfTestError::Crashed { signal: 11, stderr: String::new() };
        assert_eq!(ended(&crashed), Reason::ShadowErrors);
        let forbidden = SelfTestError::Forbidden { stderr: String::new() };
        assert_eq!(ended(&forbidden), Reason::SelfTestForbidden);
    }
}
