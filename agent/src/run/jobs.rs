//! What takes long, on threads of its own: the self-test's child process, loading an engine.
//!
//! These threads are nicer than the ones that answer applications: on a box with one or two
//! cores a load must not cost a request its turn. A niceness is for good (only root may take
//! it back), so the threads are not the runtime's, which go on to other work.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use fleetway_engine::{Candidate, GoldenRule, Require, Sandbox, SelfTest, SelfTestError};
use fleetway_protocol::ids::ModelName;
use fleetway_protocol::machine::Token;
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::shadow::Compared;
use fleetway_protocol::trust::VerifiedArtifact;
use tokio::sync::mpsc;

use super::Loader;
use super::check::{self, Place};
use super::shadow::Shadows;
use crate::config::{Check, Config};
use crate::device::{ActivateJob, CheckAnswer, CheckJob, SelfTestJob};
use crate::serving::live::Loaded;
use crate::store::Part;

/// Jobs that may have ended without the loop having looked: two per model and to spare.
const ANSWERS_MAX: usize = 32;
/// Added to the niceness of a job and of the self-test's child: about a tenth of a full share.
const NICENESS: i32 = 10;
/// Why no fence stands where the agent lives in a program that brings no child for self-tests.
const NO_CHILD: &str = "no program to run a self-test in";

/// How a job ended.
pub(super) enum Answer {
    SelfTested {
        model: ModelName,
        token: Token,
        result: Result<Sandbox, Reason>,
    },
    /// How well a self-test would be fenced in; `None` if that could not be found out.
    Probed(Option<Sandbox>),
    Checked(CheckJob, CheckAnswer),
    /// What came of copies for the candidate in the shadow, and how many were not made.
    Compared {
        model: ModelName,
        token: Token,
        compared: Vec<Compared>,
        dropped: u32,
    },
    /// The candidate in the shadow ended by itself.
    ShadowEnded {
        model: ModelName,
        token: Token,
        reason: Reason,
    },
    Loaded {
        model: ModelName,
        token: Token,
        result: Result<Loaded, Reason>,
    },
}

/// Starts jobs; their answers come through the receiver.
pub(super) struct Jobs {
    answers: mpsc::Sender<Answer>,
    /// How well a self-test must be fenced in.
    require: Require,
    /// The program that is the self-test's child, if there is one.
    child: Option<PathBuf>,
    loader: Loader,
    checks: BTreeMap<ModelName, Check>,
    place: Place,
}

impl Jobs {
    pub(super) fn new(
        config: &Config,
        child: Option<PathBuf>,
        loader: Loader,
    ) -> (Self, mpsc::Receiver<Answer>) {
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let (checks, place) = (config.checks.clone(), Place::of(config));
        let require = config.sandbox;
        (Self { answers, require, child, loader, checks, place }, receiver)
    }

    /// Candidates in the shadow, which answer through the same receiver.
    pub(super) fn shadows(&self) -> Shadows {
        Shadows::new(self.answers.clone(), self.test())
    }

    /// How a model is tried, or that it cannot be: a test that nothing contains is none.
    fn test(&self) -> Option<SelfTest> {
        let child = self.child.clone()?;
        Some(SelfTest { require: self.require, ..SelfTest::with_exe(child) })
    }

    /// An answer that needs no thread. The channel has room for two jobs of every model.
    fn answer(&self, answer: Answer) {
        let _ = self.answers.try_send(answer);
    }

    /// Runs `job`, or answers `otherwise` where the system has no thread for it.
    fn spawn(&self, otherwise: Answer, job: impl FnOnce() -> Answer + Send + 'static) {
        let sender = self.answers.clone();
        let work = move || {
            if let Err(error) = rustix::process::nice(NICENESS) {
                tracing::debug!("this job runs at full priority: {error}");
            }
            // Without a receiver the agent has ended.
            let _ = sender.blocking_send(job());
        };
        if let Err(error) = std::thread::Builder::new().name("job".into()).spawn(work) {
            tracing::error!("no thread for a job: {error}");
            self.answer(otherwise);
        }
    }

    pub(super) fn self_test(&self, job: SelfTestJob) {
        let answer = {
            let (model, token) = (job.model.clone(), job.token);
            move |result| Answer::SelfTested { model, token, result }
        };
        let Some(test) = self.test() else {
            tracing::error!(model = %job.model, "not tried: {NO_CHILD}");
            return self.answer(answer(Err(Reason::SandboxTooWeak)));
        };
        let otherwise = answer.clone()(Err(Reason::Environment));
        self.spawn(otherwise, move || answer(self_test(&job, test)));
    }

    /// Finds out how well a self-test would be fenced in here, before there is one.
    pub(super) fn probe(&self) {
        let Some(test) = self.test() else {
            return self.answer(Answer::Probed(Some(Sandbox::absent(NO_CHILD))));
        };
        self.spawn(Answer::Probed(None), move || match test.probe() {
            Ok(sandbox) => Answer::Probed(Some(sandbox)),
            Err(error) => {
                tracing::warn!("how self-tests are fenced in is not known: {error}");
                Answer::Probed(None)
            }
        });
    }

    pub(super) fn activate(&self, job: ActivateJob, now_ms: u64) {
        let answer = {
            let (model, token) = (job.model.clone(), job.token);
            move |result| Answer::Loaded { model, token, result }
        };
        let otherwise = answer.clone()(Err(Reason::Environment));
        let loader = self.loader;
        self.spawn(otherwise, move || answer(activate(&job, now_ms, loader)));
    }

    /// Asks the device's own check of a release.
    pub(super) fn check(&self, job: CheckJob) {
        let otherwise = Answer::Checked(job.clone(), CheckAnswer::NotYet);
        let Some(check) = self.checks.get(&job.model).cloned() else { return };
        let place = self.place.clone();
        self.spawn(otherwise, move || {
            let answer = check::ask(&check, &place, &job.model, &job.release);
            Answer::Checked(job, answer)
        });
    }
}

fn self_test(job: &SelfTestJob, test: SelfTest) -> Result<Sandbox, Reason> {
    let manifest = job.manifest.get();
    let rule = GoldenRule::of(manifest, job.variant);
    let test = SelfTest {
        deadline: Duration::from_millis(job.terms.self_test_ms_max.into()),
        memory_bytes: u64::from(job.terms.self_test_mib_max) << 20,
        ..test
    };
    let candidate = Candidate { kind: job.variant, bytes: &job.model_bytes };
    match test.run(candidate, &job.golden_bytes, rule) {
        Ok(report) => {
            tracing::info!(
                model = %job.model, version = %manifest.version,
                load_us = report.load_us, run_us_p50 = report.run_us_p50,
                sandbox = %report.sandbox,
                "self-test passed"
            );
            Ok(report.sandbox)
        }
        Err(error) => {
            tracing::warn!(model = %job.model, version = %manifest.version, "self-test: {error}");
            Err(reason(&error))
        }
    }
}

pub(super) fn reason(error: &SelfTestError) -> Reason {
    match error {
        SelfTestError::Golden { .. } => Reason::Golden,
        SelfTestError::Refused { .. } | SelfTestError::Load { .. } | SelfTestError::Run { .. } => {
            Reason::LoadFailed
        }
        SelfTestError::Crashed { .. } => Reason::SelfTestCrashed,
        SelfTestError::TimedOut { .. } => Reason::SelfTestTimeout,
        SelfTestError::OutOfMemory { .. } => Reason::SelfTestMemory,
        SelfTestError::Environment { .. } => Reason::Environment,
        SelfTestError::Forbidden { .. } => Reason::SelfTestForbidden,
        SelfTestError::Unconfined { .. } => Reason::SandboxTooWeak,
    }
}

fn activate(job: &ActivateJob, now_ms: u64, loader: Loader) -> Result<Loaded, Reason> {
    let manifest = job.manifest.get();
    let pick = |m: &Manifest| Part::Model.artifact(m, job.variant);
    let artifact = VerifiedArtifact::check(&job.model_bytes, &job.manifest, pick)
        .map_err(|error| refused(job, &error, Reason::Corrupt))?;
    let engine = loader(job.variant, &artifact, job.model_bytes.clone())
        .map_err(|error| refused(job, &error, Reason::ActivationFailed))?;
    tracing::info!(
        model = %job.model, version = %manifest.version, engine = engine.kind(), "loaded"
    );
    let release = job.manifest.digest();
    let (model, version) = (job.model.clone(), manifest.version.as_str());
    let health = &manifest.health;
    Ok(Loaded::new(engine, model, version, release, job.place, now_ms).watched(health))
}

fn refused(job: &ActivateJob, error: &dyn std::error::Error, reason: Reason) -> Reason {
    let version = &job.manifest.get().version;
    tracing::error!(model = %job.model, %version, "cannot be served: {error}");
    reason
}
