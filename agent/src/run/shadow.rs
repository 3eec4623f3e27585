//! Candidates in the shadow: a thread and a fenced child each, at the lowest priority.
//!
//! The child answers copies of requests; its answers are compared here and go nowhere else. If it
//! crashes or hangs, that is a fact about the candidate, and nothing that serves notices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetway_engine::golden::compare;
use fleetway_engine::selftest::WorkerError;
use fleetway_engine::{GoldenRule, Require, SelfTest, SelfTestError, Worker};
use fleetway_protocol::ids::ModelName;
use fleetway_protocol::machine::Token;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::shadow::Compared;
use tokio::sync::mpsc;

use super::jobs::{Answer, reason};
use crate::device::ShadowJob;
use crate::serving::live::Live;
use crate::serving::tap::{Copied, tap};

/// Niceness: the least that there is. Whoever serves goes first.
const NICENESS: i32 = 19;
/// Longest answer of a candidate: as long as an application would wait.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How often an idle thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// The candidates under way, by model.
pub(super) struct Shadows {
    answers: mpsc::Sender<Answer>,
    require: Require,
    stops: BTreeMap<ModelName, Arc<AtomicBool>>,
}

impl Shadows {
    pub(super) fn new(answers: mpsc::Sender<Answer>, require: Require) -> Self {
        Self { answers, require, stops: BTreeMap::new() }
    }

    /// Starts a candidate in the shadow of `live`.
    pub(super) fn start(&mut self, job: ShadowJob, live: Arc<Live>) {
        let stop = Arc::new(AtomicBool::new(false));
        self.stops.insert(job.model.clone(), Arc::clone(&stop));
        let (model, token) = (job.model.clone(), job.token);
        let runner = Runner { live, stop, answers: self.answers.clone(), require: self.require };
        let work = move || {
            let (model, token) = (job.model.clone(), job.token);
            if let Err(reason) = runner.run(job) {
                runner.end(model, token, reason);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("shadow".into()).spawn(work) {
            tracing::error!("no thread for a shadow: {error}");
            let reason = Reason::Environment;
            let _ = self.answers.try_send(Answer::ShadowEnded { model, token, reason });
        }
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
    require: Require,
}

impl Runner {
    /// Until nobody wants it any more, or it is over by itself.
    fn run(&self, job: ShadowJob) -> Result<(), Reason> {
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!("this shadow runs at full priority: {error}");
        }
        let ShadowJob { model, token, manifest, model_bytes, shadow, policy, .. } = job;
        let test = SelfTest {
            deadline: Duration::from_millis(policy.self_test_ms_max.into()),
            memory_bytes: u64::from(policy.self_test_mib_max) << 20,
            require: self.require,
            ..SelfTest::default()
        };
        let version = &manifest.get().version;
        let mut worker = Worker::start(&test, &model_bytes).map_err(|error| {
            tracing::warn!(%model, %version, "shadow: {error}");
            reason(&error)
        })?;
        // The child has them.
        drop(model_bytes);
        let serving = self.live.current().ok_or(Reason::Environment)?;
        let engine = &serving.engine;
        if engine.inputs() != worker.inputs() || engine.outputs() != worker.outputs() {
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
                Some(copied) => vec![answer(&mut worker, copied, rule)?],
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

fn answer(worker: &mut Worker, copied: Copied, rule: GoldenRule) -> Result<Compared, Reason> {
    match worker.run(&copied.inputs, ANSWER_MAX) {
        Ok(answered) => {
            let difference = compare(&copied.outputs, &answered.outputs, rule);
            Ok(Compared::Answered {
                agrees: difference.agrees,
                diff_millionths: millionths(difference.abs_max),
                serving_us: copied.serving_us,
                candidate_us: u32::try_from(answered.cpu_us).unwrap_or(u32::MAX),
            })
        }
        Err(WorkerError::Run(error)) => {
            tracing::debug!("shadow: {error}");
            Ok(Compared::Failed)
        }
        Err(WorkerError::Ended(error)) => {
            tracing::warn!("the candidate in the shadow is over: {error}");
            Err(match error {
                SelfTestError::Environment { .. } | SelfTestError::Forbidden { .. } => {
                    reason(&error)
                }
                _ => Reason::ShadowErrors,
            })
        }
    }
}

/// As large as can be said, where it is larger.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
fn millionths(difference: f32) -> u32 {
    (f64::from(difference) * 1e6) as u32
}
