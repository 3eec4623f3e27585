//! What the shell asks. Nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet};

use fleetway_protocol::counters::Counters;
use fleetway_protocol::ids::{Counter, DeviceId, Digest, ModelName, RolloutId};
use fleetway_protocol::report::State;
use memchr::memmem;

use super::{
    Answered, Device, DeviceView, Fleet, FleetError, Ignored, ModelState, ModelView, ReleaseView,
    Rollout, RolloutView,
};
use crate::audit::Bounds;
use crate::audit::chain::{Entry, Head, read_line};
use crate::planner::{Plan, survey};
use crate::store::Kind;

/// Digits of a digest that are enough to name a release.
const DIGEST_DIGITS_MIN: usize = 8;

impl Fleet {
    /// Every device, by id.
    pub fn devices(&self) -> Vec<DeviceView> {
        self.devices.iter().map(|(id, device)| device_view(id, device)).collect()
    }

    /// One device.
    pub fn device(&self, id: &DeviceId) -> Option<DeviceView> {
        self.devices.get(id).map(|device| device_view(id, device))
    }

    /// Whether the device is in the fleet.
    pub fn has_device(&self, id: &DeviceId) -> bool {
        self.devices.contains_key(id)
    }

    /// Every label in use, with its values.
    pub fn labels_in_use(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (key, value) in self.devices.values().flat_map(|d| &d.record.labels) {
            labels.entry(key.clone()).or_default().insert(value.clone());
        }
        labels
    }

    /// Every published release, by model and counter.
    pub fn releases(&self) -> Vec<ReleaseView> {
        let mut releases: Vec<_> = self.releases.values().cloned().collect();
        releases.sort_by(|a, b| {
            (&a.manifest.model, a.manifest.counter).cmp(&(&b.manifest.model, b.manifest.counter))
        });
        releases
    }

    /// One published release.
    pub fn release(&self, digest: &Digest) -> Option<&ReleaseView> {
        self.releases.get(digest)
    }

    /// The release of `model` that a person calls `name`: its version, or at least eight
    /// digits of its digest if they fit one alone.
    pub fn find_release(&self, model: &ModelName, name: &str) -> Option<&ReleaseView> {
        let of_model = || self.releases.values().filter(|r| r.manifest.model == *model);
        of_model().find(|r| r.manifest.version.as_str() == name).or_else(|| {
            let fits = |r: &&ReleaseView| r.digest.to_string().starts_with(name);
            let mut found = of_model().filter(fits);
            let first = found.next().filter(|_| name.len() >= DIGEST_DIGITS_MIN);
            first.filter(|_| found.next().is_none())
        })
    }

    /// The exact envelope of a published release.
    pub fn release_envelope(&self, digest: &Digest) -> Option<&[u8]> {
        self.envelopes.get(digest).map(Vec::as_slice)
    }

    /// The next free counter of a model.
    pub fn next_counter(&self, model: &ModelName) -> Counter {
        let of_model = self.releases.values().filter(|r| r.manifest.model == *model);
        of_model.map(|r| r.manifest.counter).max().unwrap_or(0).saturating_add(1)
    }

    /// Every rollout in numbers, oldest first.
    pub fn rollouts(&self, now_s: u64) -> Vec<RolloutView> {
        let survey = survey(&self.input(now_s, |_| true));
        self.rollouts.iter().filter_map(|(id, r)| rollout_view(*id, r, &survey, false)).collect()
    }

    /// One rollout with a line for each of its devices.
    pub fn rollout(&self, id: RolloutId, now_s: u64) -> Option<RolloutView> {
        let rollout = self.rollouts.get(&id)?;
        let wanted = |r: &Rollout| r.record.state.is_open() || std::ptr::eq(r, rollout);
        let survey = survey(&self.input(now_s, wanted));
        rollout_view(id, rollout, &survey, true)
    }

    /// The last entries of the journal, oldest first, about one rollout or device if asked.
    ///
    /// # Errors
    /// [`FleetError`] if the store fails.
    pub fn journal(
        &self,
        last: usize,
        rollout: Option<RolloutId>,
        device: Option<&DeviceId>,
    ) -> Result<Vec<Entry>, FleetError> {
        let about = |entry: &Entry| {
            rollout.is_none_or(|id| entry.rollout == Some(id))
                && device.is_none_or(|id| entry.device.as_ref() == Some(id))
        };
        // From the newest on, and read only where it stands what they are about: of all that is kept,
        // few lines are about one device or rollout.
        let rollout_is = rollout.map(|id| format!("\"rollout\":{id},"));
        let device_is = device.map(|id| format!("\"device\":\"{id}\""));
        let stands: Vec<_> = rollout_is.iter().chain(&device_is).map(memmem::Finder::new).collect();
        let names_it = |line: &[u8]| stands.iter().all(|finder| finder.find(line).is_some());
        let Bounds { floor, head } = self.audit;
        let mut entries = Vec::new();
        for seq in (floor.seq + 1..=head.seq).rev() {
            if entries.len() == last {
                break;
            }
            let line = self.store.get(Kind::Journal, &seq.to_be_bytes())?;
            let entry = line.filter(|line| names_it(line)).and_then(|line| read_line(&line).ok());
            entries.extend(entry.map(|(entry, ..)| entry).filter(about));
        }
        entries.reverse();
        Ok(entries)
    }

    /// Where the audit log begins and ends.
    pub fn audit(&self) -> Bounds {
        self.audit
    }

    /// A line of the audit log and the head after it, while the store still has it.
    ///
    /// # Errors
    /// [`FleetError`] if the store fails.
    pub fn audit_line(&self, seq: u64) -> Result<Option<(String, Head)>, FleetError> {
        let line = self.store.get(Kind::Journal, &seq.to_be_bytes())?;
        Ok(line.and_then(|line| {
            let (.., head) = read_line(&line).ok()?;
            Some((String::from_utf8(line).ok()?, head))
        }))
    }

    /// An entry of the audit log, while the store still has it.
    ///
    /// # Errors
    /// [`FleetError`] if the store fails.
    pub fn audit_entry(&self, seq: u64) -> Result<Option<Entry>, FleetError> {
        let line = self.store.get(Kind::Journal, &seq.to_be_bytes())?;
        Ok(line.and_then(|line| Some(read_line(&line).ok()?.0)))
    }

    /// Open rollouts that have any of these devices.
    pub fn rollouts_of(&self, devices: &BTreeSet<DeviceId>) -> BTreeSet<RolloutId> {
        let open = self.rollouts.iter().filter(|(_, r)| r.record.state.is_open());
        let has = |r: &Rollout| devices.iter().any(|id| r.deployments.contains_key(id));
        open.filter(|(_, r)| has(r)).map(|(id, _)| *id).collect()
    }

    /// The answers of a release, added up over the devices that last reported it, and how many
    /// devices that are.
    pub fn counted(&self, release: &Digest) -> (usize, Counters) {
        let reported = self.devices.values().flat_map(|device| device.live.telemetry.values());
        let (mut devices, mut sum) = (0, Counters::new());
        for (_, telemetry) in reported.filter(|(_, telemetry)| telemetry.release == *release) {
            devices += 1;
            sum.merge(&telemetry.counters);
        }
        (devices, sum)
    }

    /// What each release answered since the start: these only rise.
    pub fn answered(&self) -> impl Iterator<Item = (&ModelName, &Digest, &Answered)> {
        self.answered.all()
    }

    /// Orders sent again since the start because a device that is there did not answer.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// What was ignored since the start.
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }
}

fn rollout_view(
    id: RolloutId,
    rollout: &Rollout,
    survey: &Plan,
    with_devices: bool,
) -> Option<RolloutView> {
    let report = survey.rollouts.iter().find(|r| r.rollout == id)?.clone();
    let mut devices = Vec::new();
    if with_devices {
        devices.extend(survey.report.iter().filter(|d| d.rollout == id).cloned());
        devices.sort_by(|a, b| a.device.cmp(&b.device));
    }
    let record = &rollout.record;
    Some(RolloutView {
        id,
        spec: record.spec.clone(),
        state: record.state.clone(),
        started_s: record.started_s,
        started_by: record.started_by.clone(),
        looked: record.looks.last.clone(),
        report,
        devices,
    })
}

pub(super) fn device_view(id: &DeviceId, device: &Device) -> DeviceView {
    let Device { record, order, live, .. } = device;
    let identity = device.identity_of(id);
    let ordered = order.iter().flat_map(|o| o.order.models.iter().map(|m| &m.model));
    let names = record.states.keys().chain(live.telemetry.keys()).chain(ordered);
    let models = names.cloned().collect::<BTreeSet<_>>().into_iter().map(|name| {
        let desired = device.desired(&name);
        let view = ModelView {
            desired: desired.map(|(_, release)| release),
            rollout: desired.map(|(rollout, _)| rollout),
            state: record.states.get(&name).map(model_state),
            telemetry: live.telemetry.get(&name).map(|(_, view)| view.clone()),
        };
        (name, view)
    });
    let generation = order.as_ref().map_or(0, |o| o.order.generation);
    DeviceView {
        id: id.clone(),
        labels: record.labels.clone(),
        hardware: record.hardware.clone(),
        added_s: record.added_s,
        online: live.online,
        heard_s: live.heard_s,
        agent: live.agent.clone(),
        sandbox: live.sandbox.clone(),
        generation,
        taken: order.is_some() && live.taken == Some(generation),
        refused: live.refused,
        host: live.host.clone(),
        models: models.collect(),
        reports: device.book.totals(),
        identity,
        standing: device.standing(),
    }
}

fn model_state(state: &State) -> ModelState {
    ModelState {
        running: state.running,
        phase: state.phase,
        target: state.target,
        progress: state.progress,
        waiting: state.waiting,
        held: state.held,
        shadow: state.shadow,
        last: state.last,
        floor: state.floor,
        poisoned: state.poisoned,
        generation: state.generation,
    }
}
