//! The engine that serves: loaded, asked, counted, and judged while it is on trial.

use fleetway_protocol::codec;
use fleetway_protocol::counters::Counters;
use fleetway_protocol::envelope::EnvelopeView;
use fleetway_protocol::health::{Answer, Health, HealthWindow, Verdict};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::MANIFEST_BYTES_MAX;
use fleetway_protocol::machine::{Event, Token};
use fleetway_protocol::manifest::{Artifact, ManifestView};
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
        let is_signed = fits && self.release_at(place, Some(&release)).is_some();
        let serves = is_signed && self.serve(place, release, model);
        let result = if serves { Ok(release) } else { Err(Reason::ActivationFailed) };
        self.machine.handle(now_ms, Event::Activated(token, result));
    }

    /// Serves from now on what was found to be signed.
    #[inline(never)]
    fn serve(&mut self, place: Place, release: Digest, model: &Artifact) -> bool {
        let Some(health) = self.health_at(place, &release) else { return false };
        self.said.before_p95_us = self.serving.as_ref().and_then(|s| p95_us(&s.counters));
        let (model, counters) = (*model, Counters::new());
        self.serving = Some(Serving { place, release, model, health, counters });
        self.said.load += 1;
        true
    }

    /// What the manifest with this digest at `place` says of health. Who signed it was looked at
    /// by whoever asks: this is apart from that, because both need a lot of stack.
    fn health_at(&self, place: Place, release: &Digest) -> Option<Health> {
        let envelope = EnvelopeView::decode(self.part(place, Part::Release)?).ok()?;
        let payload = envelope.payload_unchecked();
        let manifest: ManifestView<'_> = codec::decode(payload, MANIFEST_BYTES_MAX).ok()?;
        (Digest::of(payload) == *release).then(|| manifest.health.into())
    }

    /// Whether anything is loaded that could answer.
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
            self.begin_probation(now_ms, token);
        }
    }

    #[inline(never)]
    fn begin_probation(&mut self, now_ms: u64, token: Option<Token>) {
        let window = |token| {
            let window = HealthWindow::new(now_ms, self.said.before_p95_us);
            Probation { token, window }
        };
        self.probation = token.map(window);
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
