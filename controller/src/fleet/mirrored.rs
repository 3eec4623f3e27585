//! What the fleet tells dashboards ([`crate::mirror`]): whatever it accepted, never what it only heard.
//! Off unless switched on, and then it costs memory, never an answer to anybody.

use fleetway_protocol::ids::{DeviceId, Digest, Generation, ModelName};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::{Host, State, Telemetry};

use super::{Device, Fleet};
use crate::mirror::home_assistant::{self, Facts, HomeAssistant};
use crate::mirror::{self, Event, Message, Mirror, Named, TelemetryFacts};

impl Fleet {
    /// Switches the mirror on or off; off is how a fleet opens.
    pub fn set_mirror(&mut self, on: bool) {
        self.mirror = on.then(Mirror::default);
    }

    /// Has Home Assistant told where the mirror's topics are; nothing without a mirror.
    pub fn set_home_assistant(&mut self, to: Option<HomeAssistant>) {
        self.home_assistant = to;
    }

    /// The next message for dashboards; publish it at most once, when nothing else waits.
    pub fn poll_mirror(&mut self) -> Option<Message> {
        self.mirror.as_mut()?.pop()
    }

    /// Messages for dashboards that were dropped because too many waited.
    pub fn mirror_dropped(&self) -> u64 {
        self.mirror.as_ref().map_or(0, Mirror::dropped)
    }

    /// Gives again what the broker shall hold: after a reconnect it may have forgotten. Of a device
    /// that was not heard of since the start the broker knows more than we do.
    pub fn mirror_all(&mut self, now_s: u64) {
        if self.mirror.is_none() {
            return;
        }
        let mut messages = Vec::new();
        for (id, device) in &mut self.devices {
            if device.live.heard_s.is_some() || device.live.presence.is_some() {
                device.live.mirrored_online = Some(device.live.online);
                device.live.announced = None;
                messages.push(mirror::online(id, device.live.online));
            }
        }
        for (id, device) in &self.devices {
            for (model, state) in &device.record.states {
                messages.push(mirror::state(now_s, id, model, state, |of| self.named(of)));
            }
        }
        messages.into_iter().for_each(|message| self.mirror(message));
        let heard = self.devices.iter().filter(|(_, device)| device.live.mirrored_online.is_some());
        let heard: Vec<_> = heard.map(|(id, _)| id.clone()).collect();
        heard.iter().for_each(|id| self.announce(id));
    }

    /// Tells Home Assistant of a device, if there is news.
    fn announce(&mut self, id: &DeviceId) {
        let (true, Some(to), Some(device)) =
            (self.mirror.is_some(), &self.home_assistant, self.devices.get_mut(id))
        else {
            return;
        };
        let facts = Facts {
            agent: device.live.agent.clone(),
            hardware: device.record.hardware.clone(),
            models: device.record.states.keys().cloned().collect(),
        };
        if device.live.announced.as_ref() != Some(&facts) {
            let message = to.announce(id, &facts);
            device.live.announced = Some(facts);
            self.mirror(message);
        }
    }

    fn mirror(&mut self, message: Message) {
        if let Some(mirror) = &mut self.mirror {
            mirror.push(message);
        }
    }

    fn named(&self, digest: Digest) -> Named<'_> {
        let release = self.releases.get(&digest);
        Named { digest, version: release.map(|release| release.manifest.version.as_str()) }
    }

    /// Whether a device is there, if that is news.
    pub(super) fn mirror_online(&mut self, id: &DeviceId) {
        let (true, Some(device)) = (self.mirror.is_some(), self.devices.get_mut(id)) else {
            return;
        };
        let online = device.live.online;
        if device.live.mirrored_online.replace(online) != Some(online) {
            self.mirror(mirror::online(id, online));
        }
        self.announce(id);
    }

    /// A telemetry report; `is_live` if it is the newest.
    pub(super) fn mirror_telemetry(
        &mut self,
        id: &DeviceId,
        model: &ModelName,
        telemetry: &Telemetry,
        is_live: bool,
    ) {
        let (true, Some(device)) = (self.mirror.is_some(), self.devices.get(id)) else { return };
        let now = Some(device).filter(|_| is_live);
        let release = self.releases.get(&telemetry.release);
        let facts = TelemetryFacts {
            release: self.named(telemetry.release),
            health: release.map(|release| &release.manifest.health),
            late: !is_live,
            answers: now.and_then(|device| device.book.answers(model)),
        };
        let message = mirror::telemetry(id, model, telemetry, &facts);
        self.mirror(message);
        self.mirror_online(id);
    }

    /// A report of the machine; `is_live` if it is the newest.
    pub(super) fn mirror_host(&mut self, id: &DeviceId, host: &Host, is_live: bool) {
        let (true, Some(device)) = (self.mirror.is_some(), self.devices.get(id)) else { return };
        let reports = is_live.then(|| device.book.totals());
        self.mirror(mirror::host(id, host, !is_live, reports));
        self.mirror_online(id);
    }

    /// A model's state, and what happened to bring it about.
    pub(super) fn mirror_state(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        model: &ModelName,
        before: Option<&State>,
        state: &State,
    ) {
        if self.mirror.is_none() {
            return;
        }
        let mut messages = vec![mirror::state(now_s, id, model, state, |of| self.named(of))];
        let works = |state: &State| state.target.filter(|_| takes(state.phase));
        if let Some(target) = works(state)
            && before.is_none_or(|before| works(before) != Some(target))
        {
            let event = Event::Started(model, self.named(target), state.generation);
            messages.push(mirror::event(now_s, id, event));
        }
        // How something ended before the device was known is no news.
        if let (Some(before), Some(last)) = (before, state.last)
            && before.last != Some(last)
        {
            let event = Event::Ended(model, self.named(last.release), last);
            messages.push(mirror::event(now_s, id, event));
        }
        messages.into_iter().for_each(|message| self.mirror(message));
        self.mirror_online(id);
    }

    /// An order that a device does not take.
    pub(super) fn mirror_refused(
        &mut self,
        now_s: u64,
        id: &DeviceId,
        generation: Generation,
        reason: Reason,
    ) {
        self.mirror(mirror::event(now_s, id, Event::Refused(generation, reason)));
    }

    /// Telemetry reports that will never come.
    pub(super) fn mirror_lost(&mut self, now_s: u64, id: &DeviceId, lost: u64) {
        self.mirror(mirror::event(now_s, id, Event::ReportsLost(lost)));
    }

    /// A device left the fleet.
    pub(super) fn mirror_gone(&mut self, id: &DeviceId, device: Option<&Device>) {
        let models = device.into_iter().flat_map(|device| device.record.states.keys());
        mirror::gone(id, models).for_each(|message| self.mirror(message));
        if self.home_assistant.is_some() {
            self.mirror(home_assistant::gone(id));
        }
    }
}

/// Whether a phase brings a release nearer.
fn takes(phase: Phase) -> bool {
    !matches!(phase, Phase::Idle | Phase::Rollback | Phase::Removal)
}
