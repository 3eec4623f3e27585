//! One device that is nothing but numbers. What it counted is drawn when somebody looks.

use std::sync::Arc;

use fleetway_controller::planner::analysis::Sample;
use fleetway_controller::planner::analysis::sample::Install;
use fleetway_controller::planner::{Deployment, DeviceFacts, ModelFacts, Verdict};
use fleetway_protocol::ids::{DeviceId, Digest, ModelName};
use fleetway_protocol::machine::Phase;

use super::class;

/// Latencies drawn at one look: enough for a percentile, few enough for ten thousand rollouts.
const LATENCIES: u32 = 40;

pub(super) struct Device {
    pub(super) facts: DeviceFacts,
    pub(super) class: usize,
    /// When its install is over, Unix seconds.
    pub(super) done_s: u64,
    model: ModelName,
    /// Requests in a second.
    traffic: f64,
    /// Share of failed requests, whatever runs.
    errors: f64,
    /// Median latency, microseconds.
    latency_us: f64,
    /// Mean confidence.
    confidence: f64,
    /// Whether its inputs look other than the reference, whatever runs.
    drifts: bool,
    /// Probability of a crash in an hour, whatever runs.
    crashes: f64,
    counted_s: u64,
    sample: Sample,
}

impl Device {
    pub(super) fn new(
        id: DeviceId,
        of: usize,
        model: &ModelName,
        running: Digest,
        random: &mut fastrand::Rng,
    ) -> Self {
        let models = ModelFacts {
            reported: true,
            running: Some(running),
            floor: 0,
            phase: Phase::Idle,
            waiting: None,
            held: None,
            assigned: None,
        };
        let facts = DeviceFacts {
            id,
            labels: Arc::default(),
            hardware: Some(class(of)),
            online: true,
            heard_s: Some(super::START_S),
            models: Arc::new([(model.clone(), models)].into()),
        };
        Self {
            facts,
            class: of,
            done_s: 0,
            model: model.clone(),
            traffic: 0.3 * normal(random, 1.0).exp(),
            // A few devices fail often, most hardly ever.
            errors: (0.004 * normal(random, 1.2).exp()).min(0.4),
            latency_us: [20_000.0, 60_000.0][of] * normal(random, 0.3).exp(),
            confidence: (0.9 + normal(random, 0.04)).clamp(0.5, 1.0),
            drifts: random.f64() < 0.1,
            crashes: 0.002,
            counted_s: super::START_S,
            sample: Sample { class: Some(class(of)), ..Sample::default() },
        }
    }

    /// Time passes: it comes and goes.
    pub(super) fn live(&mut self, now_s: u64, random: &mut fastrand::Rng) {
        match random.u16(..1000) {
            0..=1 => self.facts.online = false,
            900.. => self.facts.online = true,
            _ => {}
        }
        if self.facts.online {
            self.facts.heard_s = Some(now_s);
        }
    }

    /// It takes the new release up.
    pub(super) fn begin(&mut self, now_s: u64, random: &mut fastrand::Rng) {
        // It fetches and tests the release, serves with it, and confirms it or not.
        self.counted_s = now_s + random.u64(20..300);
        self.done_s = self.counted_s + random.u64(60..600);
        self.sample = Sample { class: self.sample.class.clone(), ..Sample::default() };
    }

    pub(super) fn settle(&mut self, running: Digest) {
        if let Some(model) = Arc::make_mut(&mut self.facts.models).get_mut(&self.model) {
            model.running = Some(running);
        }
    }

    /// What it counted so far, with `more` of its requests failed than usual.
    pub(super) fn sample(
        &mut self,
        now_s: u64,
        more: f64,
        deployment: Option<&Deployment>,
        random: &mut fastrand::Rng,
    ) -> &Sample {
        let time_s = now_s.saturating_sub(self.counted_s);
        if self.facts.online && time_s > 0 {
            self.count(time_s as f64, more, random);
        }
        self.counted_s = self.counted_s.max(now_s);
        self.sample.offline = !self.facts.online;
        self.sample.install = deployment.and_then(|d| d.verdict).map(|verdict| match verdict {
            Verdict::Confirmed => Install::Confirmed,
            Verdict::RolledBack(_) => Install::RolledBack,
            _ => Install::Failed,
        });
        &self.sample
    }

    fn count(&mut self, time_s: f64, more: f64, random: &mut fastrand::Rng) {
        let sample = &mut self.sample;
        let requests = (self.traffic * time_s).round() as u64;
        // The hour has its mood: requests of one device have that in common.
        let share = (self.errors * normal(random, 0.5).exp() + more).min(1.0);
        let mean = requests as f64 * share;
        let errors = (mean + normal(random, (mean * (1.0 - share)).sqrt())).round().max(0.0) as u64;
        sample.requests += requests;
        sample.errors += errors.min(requests);
        for _ in 0..LATENCIES.min(requests as u32) {
            let us = self.latency_us * normal(random, 0.4).exp();
            sample.latency.record(us as u64);
        }
        let answers = requests - errors.min(requests);
        let mean = (self.confidence + normal(random, 0.01)).clamp(0.0, 1.0);
        sample.confidence_count += answers;
        sample.confidence_sum += (answers as f64 * mean * f64::from(u16::MAX)) as u64;
        if sample.requests >= 500 {
            sample.drifted = Some(self.drifts);
        }
        sample.crashed |= random.f64() < self.crashes * time_s / 3600.0;
    }
}

/// A normal variate with mean 0 (Box and Muller, 1958).
fn normal(random: &mut fastrand::Rng, deviation: f64) -> f64 {
    let (u, v) = (1.0 - random.f64(), random.f64());
    deviation * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
