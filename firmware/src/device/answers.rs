//! The engine that serves: loaded, asked, counted, and judged while it is on trial.

use fleetway_protocol::counters::Counters;
use fleetway_protocol::health::{Answer, Health, HealthWindow, Verdict};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::machine::{Event, Token};
use fleetway_protocol::manifest::Artifact;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::Place;

use super::Device;
use crate::hardware::{Clock, Flash, Sensor};
use crate::store::Part;
use crate::watch;

/// Answers of the release before that say how fast it was.
const BEFORE_ANSWERS_MIN: u64 = 100;

/// What serves.
pub(super) struct Serving {
    pub(super) place: Place,
    pub(super) release: Digest,
    model: Artifact,
    health: Health,
    pub(super) counters: Counters,
}

/// A probation under way.
pub(super) struct Probation {
    token: Token,
    window: HealthWindow,
}

impl<F: Flash> Device<'_, F> {
    /// Serves what was just checked, byte by byte, instead of what served before.
    #[inline(never)]
    pub(super) fn activate(
        &mut self,
        now_ms: u64,
        token: Token,
        place: Place,
        release: Digest,
        model: &Artifact,
    ) {
        let bytes = self.artifact(place, Part::Model, model).unwrap_or_default();
        let fits = self.memory.check(bytes).is_ok();
        let manifest = self.release_at(place, Some(&release)).filter(|_| fits);
        let result = match manifest {
            Some(manifest) => {
                let (model, health) = (*model, Health::from(manifest.get().health));
                let before = self.serving.take();
                self.said.before_p95_us = before.as_ref().and_then(|s| p95_us(&s.counters));
                let counters = Counters::new();
                self.serving = Some(Serving { place, release, model, health, counters });
                self.said.load += 1;
                Ok(release)
            }
            None => Err(Reason::ActivationFailed),
        };
        self.machine.handle(now_ms, Event::Activated(token, result));
    }

    /// Milliseconds that the next answer may take.
    pub fn serves(&self) -> bool {
        self.serving.is_some()
    }

    /// Asks the model about the sensor's next sample, if there is one.
    #[inline(never)]
    pub fn answer(&mut self, sensor: &mut impl Sensor, clock: &impl Clock) {
        let Some(serving) = &mut self.serving else { return };
        let part = match serving.place {
            Place::Slot(slot) => self.store.read(self.store.layout().slot(slot).part(Part::Model)),
            Place::Factory => self.provision.factory.as_ref().map_or(&[][..], |f| f.model),
        };
        let model = part.get(..serving.model.bytes as usize).unwrap_or_default();
        let Ok(sizes) = self.memory.check(model) else { return };
        if !sensor.sample(&mut self.memory.input[..sizes.input]) {
            return;
        }
        let asked_us = clock.now_us();
        let ran = self.memory.run(model);
        let latency_us = u32::try_from(clock.now_us() - asked_us).unwrap_or(u32::MAX);
        let answer = match ran {
            Ok(_) => {
                let input = &self.memory.input[..sizes.input];
                let output = &self.memory.output[..sizes.output];
                sensor.answered(output);
                watch::answer(latency_us, input, output, &serving.health)
            }
            Err(_) => Answer::failed(latency_us),
        };
        serving.counters.record(&answer);
        if let Some(probation) = &mut self.probation {
            probation.window.record(&answer);
        }
    }

    /// Begins the window of a probation that just started, ends one that is over.
    pub(super) fn watch_probation(&mut self, now_ms: u64) {
        let token = self.machine.probation().map(|(token, ..)| token);
        if token != self.probation.as_ref().map(|probation| probation.token) {
            self.probation = token.map(|token| {
                let window = HealthWindow::new(now_ms, self.said.before_p95_us);
                Probation { token, window }
            });
        }
    }

    /// Judges a release on trial by what its manifest says. Unknown is never healthy.
    #[inline(never)]
    pub(super) fn judge(&mut self, now_ms: u64) {
        let Some((token, _, terms)) = self.machine.probation() else { return };
        let (Some(probation), Some(serving)) = (&mut self.probation, &self.serving) else { return };
        let verdict = match probation.window.judge(now_ms, &serving.health, &terms) {
            Verdict::Healthy => Ok(()),
            Verdict::Unhealthy(finding) => Err(finding),
            Verdict::Inconclusive(_) => return,
        };
        self.machine.handle(now_ms, Event::Health(token, verdict));
    }
}

fn p95_us(counters: &Counters) -> Option<u64> {
    let enough = counters.latency.count() >= BEFORE_ANSWERS_MIN;
    enough.then(|| counters.latency.quantile_us(950)).flatten()
}
