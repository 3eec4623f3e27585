//! A release on trial: what is counted of it, and when it is judged. The judgement itself is
//! `fleetway_protocol::health`'s, by what the release's signed manifest says.

use fleetway_protocol::health::{Answer, Health, HealthWindow, Missing, Verdict};
use fleetway_protocol::histogram::Histogram;
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::machine::{Event, Token};
use fleetway_protocol::reason::Reason;

use super::check::Asked;
use super::{CheckJob, Device, Model, Now, Output};
use crate::fs::Fs;

/// How often a release on trial is judged when no answer comes, milliseconds.
const TICK_MS: u64 = 250;
/// Answers of the release before that say how fast it was.
const BEFORE_ANSWERS_MIN: u64 = 100;

/// A probation under way.
pub(super) struct Probation {
    pub(super) token: Token,
    window: HealthWindow,
    missing: Option<Missing>,
    /// What the device's own check said, if there is one.
    pub(super) asked: Asked,
}

/// A probation under way, for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbationStatus {
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Milliseconds that it lasts at least.
    pub needed_ms: u64,
    /// Real answers that count towards what is missing.
    pub answers: u64,
    /// Answers that are needed for that.
    pub answers_needed: u32,
    /// Whether all that is missing is the yes of the device's own check.
    pub checking: bool,
}

/// What the engine has loaded, and how that is to be judged.
pub(super) struct Judged {
    pub(super) release: Digest,
    pub(super) health: Health,
}

/// How fast the release was that served outside of any trial.
#[derive(Default)]
pub(super) struct Steady(Option<(Digest, Histogram)>);

impl Steady {
    fn record(&mut self, release: Digest, answer: &Answer) {
        if !answer.ok {
            return;
        }
        match &mut self.0 {
            Some((of, latency)) if *of == release => latency.record(answer.latency_us.into()),
            other => {
                let mut latency = Histogram::new();
                latency.record(answer.latency_us.into());
                *other = Some((release, latency));
            }
        }
    }

    fn p95_us(&self) -> Option<u64> {
        let (_, latency) = self.0.as_ref()?;
        (latency.count() >= BEFORE_ANSWERS_MIN).then(|| latency.quantile_us(950)).flatten()
    }
}

impl<F: Fs> Device<F> {
    /// An application got an answer from the release with this digest.
    pub fn handle_answer(&mut self, model: &ModelName, release: Digest, answer: &Answer) {
        let Some(model) = self.models.iter_mut().find(|m| m.name == *model) else { return };
        if model.machine.running().is_none_or(|(_, digest)| digest != release) {
            return;
        }
        match &mut model.probation {
            Some(probation) => probation.window.record(answer),
            None => model.steady.record(release, answer),
        }
    }

    /// A run of the release with this digest did not come back by its deadline. One is enough: it
    /// keeps a processor until the process ends.
    pub fn handle_hang(&mut self, now: Now, model: &ModelName, release: Digest) {
        let Some(model) = self.models.iter_mut().find(|m| m.name == *model) else { return };
        if model.machine.running().is_none_or(|(_, digest)| digest != release) {
            return;
        }
        let Some((token, ..)) = model.machine.probation() else { return };
        tracing::warn!(model = %model.name, "a run hangs: going back");
        model.machine.handle(now.ms, Event::Health(token, Err(Reason::HealthHang.into())));
        self.drive(now);
    }

    /// The process has this much memory resident, in bytes. Wanted once a second or so while
    /// [`Device::is_on_trial`].
    pub fn handle_memory(&mut self, resident_bytes: u64) {
        for probation in self.models.iter_mut().filter_map(|m| m.probation.as_mut()) {
            probation.window.note_memory(resident_bytes);
        }
    }

    /// Whether a release is on trial.
    pub fn is_on_trial(&self) -> bool {
        self.models.iter().any(|m| m.probation.is_some())
    }

    /// Begins the window of a probation that just started, ends one that is over.
    pub(super) fn watch_probation(&mut self, at: usize, now: Now) {
        let model = &mut self.models[at];
        let token = model.machine.probation().map(|(token, ..)| token);
        if token != model.probation.as_ref().map(|probation| probation.token) {
            model.probation = token.map(|token| {
                let window = HealthWindow::new(now.ms, model.steady.p95_us());
                Probation { token, window, missing: None, asked: Asked::default() }
            });
        }
    }

    pub(super) fn judge(&mut self, at: usize, now: Now) {
        let model = &mut self.models[at];
        let Some((token, _, terms)) = model.machine.probation() else { return };
        let Some(probation) = model.probation.as_mut().filter(|p| p.token == token) else { return };
        // Activation notes it, and there is no probation without an activation.
        let Some(judged) = model.judged.as_ref() else { return };
        if model.machine.running().is_none_or(|(_, digest)| digest != judged.release) {
            return;
        }
        let rule = self.config.checks.get(&model.name);
        let stands_in = rule.is_some_and(|rule| rule.may_confirm);
        let judgement = probation.window.judge(now.ms, &judged.health, &terms);
        let verdict = match judgement {
            Verdict::Inconclusive(missing @ Missing::Answers { .. }) if stands_in => {
                probation.missing = Some(missing);
                Ok(())
            }
            Verdict::Healthy => {
                probation.missing = None;
                Ok(())
            }
            Verdict::Unhealthy(finding) => {
                let why = finding.evidence.map(|e| e.sentence(finding.reason).to_string());
                let why = why.unwrap_or_default();
                tracing::warn!(model = %model.name, reason = finding.reason.code(), "{why}");
                Err(finding)
            }
            Verdict::Inconclusive(missing) => return probation.missing = Some(missing),
        };
        if verdict.is_ok() && rule.is_some() && !probation.asked.is_yes() {
            if probation.asked.is_due(now) {
                probation.asked = probation.asked.running();
                let job = CheckJob { model: model.name.clone(), token, release: judged.release };
                self.out.push_back(Output::Check(job));
            }
            return;
        }
        model.machine.handle(now.ms, Event::Health(token, verdict));
    }
}

impl Model {
    /// When a release on trial is to be judged again, monotonic milliseconds.
    pub(super) fn probation_due_ms(&self, now: Now) -> Option<u64> {
        self.probation.as_ref().map(|_| now.ms + TICK_MS)
    }

    /// The probation under way, for a person.
    pub(super) fn probation_status(&self, now: Now) -> Option<ProbationStatus> {
        let (_, _, terms) = self.machine.probation()?;
        let (probation, judged) = (self.probation.as_ref()?, self.judged.as_ref()?);
        let policy = judged.health.policy.tightened(&terms);
        let (answers, answers_needed) = match probation.missing {
            Some(Missing::Answers { have, need, .. }) => (have.into(), need),
            _ => (probation.window.total(), policy.samples_min.max(terms.probation_answers)),
        };
        let checking = probation.asked != Asked::default();
        Some(ProbationStatus {
            checking,
            age_ms: probation.window.age_ms(now.ms),
            needed_ms: u64::from(policy.probation_s_min) * 1000,
            answers,
            answers_needed,
        })
    }
}
