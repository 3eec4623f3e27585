//! What takes long, on the blocking pool: the self-test's child process, loading an engine.

use std::sync::Arc;
use std::time::Duration;

use fleetway_engine::{GoldenRule, SelfTest, SelfTestError};
use fleetway_protocol::ids::ModelName;
use fleetway_protocol::machine::Token;
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::trust::VerifiedArtifact;
use tokio::sync::mpsc;

use crate::device::{ActivateJob, SelfTestJob};
use crate::serving::live::Loaded;
use crate::store::Part;

/// Jobs that may have ended without the loop having looked: two per model and to spare.
const ANSWERS_MAX: usize = 32;

/// How a job ended.
pub(super) enum Answer {
    SelfTested { model: ModelName, token: Token, result: Result<(), Reason> },
    Loaded { model: ModelName, token: Token, result: Result<Loaded, Reason> },
}

/// Starts jobs; their answers come through the receiver.
pub(super) struct Jobs(mpsc::Sender<Answer>);

impl Jobs {
    pub(super) fn new() -> (Self, mpsc::Receiver<Answer>) {
        let (sender, receiver) = mpsc::channel(ANSWERS_MAX);
        (Self(sender), receiver)
    }

    fn spawn(&self, job: impl FnOnce() -> Answer + Send + 'static) {
        let sender = self.0.clone();
        tokio::task::spawn_blocking(move || {
            // Without a receiver the agent has ended.
            let _ = sender.blocking_send(job());
        });
    }

    pub(super) fn self_test(&self, job: SelfTestJob) {
        self.spawn(move || {
            let result = self_test(&job);
            Answer::SelfTested { model: job.model, token: job.token, result }
        });
    }

    pub(super) fn activate(&self, job: ActivateJob, now_ms: u64) {
        self.spawn(move || {
            let result = activate(&job, now_ms);
            Answer::Loaded { model: job.model, token: job.token, result }
        });
    }
}

fn self_test(job: &SelfTestJob) -> Result<(), Reason> {
    let manifest = job.manifest.get();
    let rule = GoldenRule {
        max_abs_err: manifest.golden.abs_err_max,
        require_same_top1: manifest.golden.same_top1,
    };
    let test = SelfTest {
        deadline: Duration::from_millis(job.policy.self_test_ms_max.into()),
        memory_bytes: u64::from(job.policy.self_test_mib_max) << 20,
        ..SelfTest::default()
    };
    match test.run(&job.model_bytes, &job.golden_bytes, rule) {
        Ok(report) => {
            tracing::info!(
                model = %job.model, version = %manifest.version,
                load_us = report.load_us, run_us_p50 = report.run_us_p50,
                "self-test passed"
            );
            Ok(())
        }
        Err(error) => {
            tracing::warn!(model = %job.model, version = %manifest.version, "self-test: {error}");
            Err(reason(&error))
        }
    }
}

fn reason(error: &SelfTestError) -> Reason {
    match error {
        SelfTestError::Golden { .. } => Reason::Golden,
        SelfTestError::Refused { .. } | SelfTestError::Load { .. } | SelfTestError::Run { .. } => {
            Reason::LoadFailed
        }
        SelfTestError::Crashed { .. } => Reason::SelfTestCrashed,
        SelfTestError::TimedOut { .. } => Reason::SelfTestTimeout,
        SelfTestError::OutOfMemory { .. } => Reason::SelfTestMemory,
        SelfTestError::Environment { .. } => Reason::Environment,
    }
}

fn activate(job: &ActivateJob, now_ms: u64) -> Result<Loaded, Reason> {
    let manifest = job.manifest.get();
    let pick = |m: &Manifest| Part::Model.artifact(m, job.variant);
    let artifact = VerifiedArtifact::check(&job.model_bytes, &job.manifest, pick)
        .map_err(|error| refused(job, &error, Reason::Corrupt))?;
    let engine =
        super::load(&artifact).map_err(|error| refused(job, &error, Reason::ActivationFailed))?;
    tracing::info!(model = %job.model, version = %manifest.version, "loaded");
    let release = job.manifest.digest();
    let (model, version) = (job.model.clone(), manifest.version.as_str());
    Ok(Loaded::new(Arc::new(engine), model, version, release, job.place, now_ms))
}

fn refused(job: &ActivateJob, error: &dyn std::error::Error, reason: Reason) -> Reason {
    let version = &job.manifest.get().version;
    tracing::error!(model = %job.model, %version, "cannot be served: {error}");
    reason
}
