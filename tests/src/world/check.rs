//! What must be true in the world, whatever happens: the promises of the design, by number.

use std::collections::{BTreeMap, BTreeSet};

use fleetway_agent::device::ModelStatus;
use fleetway_controller::fleet::Fleet;
use fleetway_protocol::codec;
use fleetway_protocol::ids::{DeviceId, Digest, RolloutId};
use fleetway_protocol::limits::{ORDER_BYTES_MAX, TRIAL_TRIES_MAX};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::order::{Action, Order};
use fleetway_protocol::slot::Ending;

use super::releases::Nature;

#[derive(Debug, Default)]
struct Seen {
    ever_confirmed: bool,
    floor: u64,
    generation: u64,
    orders: BTreeMap<u64, Vec<u8>>,
    deaths: BTreeMap<Digest, u32>,
    tried_bad: BTreeSet<Digest>,
}

/// Watches a world. Panics with a sentence when a promise is broken.
#[derive(Debug, Default)]
pub struct Checker {
    devices: BTreeMap<DeviceId, Seen>,
    aborted: BTreeMap<RolloutId, Digest>,
    acknowledged: BTreeSet<RolloutId>,
    /// How often each phase of an update was seen, for the histogram.
    pub phases: BTreeMap<&'static str, u64>,
    /// How often each ending was seen.
    pub endings: BTreeMap<String, u64>,
}

impl Checker {
    fn of(&mut self, id: &DeviceId) -> &mut Seen {
        self.devices.entry(id.clone()).or_default()
    }

    /// P3: what was acknowledged is still there after the controller's death.
    pub fn controller_booted(&self, fleet: &Fleet, now_s: u64) {
        let there: BTreeSet<RolloutId> = fleet.rollouts(now_s).iter().map(|r| r.id).collect();
        let lost: Vec<_> = self.acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "P3: acknowledged rollouts {lost:?} are gone after a restart");
    }

    /// The operator was told that this rollout has begun.
    pub fn rollout_acknowledged(&mut self, rollout: RolloutId) {
        self.acknowledged.insert(rollout);
    }

    /// The operator was told that this rollout is aborted.
    pub fn rollout_aborted(&mut self, rollout: RolloutId, release: Digest) {
        self.aborted.insert(rollout, release);
    }

    /// Generations only rise, one generation is one payload (P3), aborted stays aborted (P7).
    pub fn order_sent(&mut self, device: &DeviceId, generation: u64, payload: &[u8]) {
        let order: Order = codec::decode(payload, ORDER_BYTES_MAX).expect("our own order");
        assert_eq!(&order.device, device, "an order for another device");
        let aborted = self.aborted.clone();
        let seen = self.of(device);
        let earlier = seen.orders.entry(generation).or_insert_with(|| payload.to_vec());
        assert_eq!(earlier, payload, "{device}: two different orders of generation {generation}");
        let is_new = generation > seen.generation;
        seen.generation = seen.generation.max(generation);
        for wish in order.models.iter().filter(|_| is_new) {
            let is_aborted = aborted.get(&wish.rollout) == Some(&wish.release);
            assert!(
                !(is_aborted && wish.action == Action::Run),
                "P7: {device} is told to run a release by rollout {} after its abort",
                wish.rollout
            );
        }
    }

    /// P6 counts the devices that ever served something bad.
    pub fn serves(&mut self, device: &DeviceId, release: Digest, nature: Option<Nature>) {
        let nature = nature.expect("P2: a device serves something that was never published");
        if nature != Nature::Good {
            self.of(device).tried_bad.insert(release);
        }
    }

    /// P5: a release that kills the device gets so many tries and no more.
    pub fn died_of(&mut self, device: &DeviceId, release: Digest) {
        let deaths = self.of(device).deaths.entry(release).or_default();
        *deaths += 1;
        let deaths = *deaths;
        assert!(
            deaths <= u32::from(TRIAL_TRIES_MAX),
            "P5: {device} tried {release:?} again after {deaths} deaths"
        );
    }

    /// Devices that ever served this release.
    pub fn exposed(&self, release: &Digest) -> usize {
        self.devices.values().filter(|seen| seen.tried_bad.contains(release)).count()
    }

    /// P1, the floor, the table's sanity.
    pub fn device_seen(&mut self, device: &DeviceId, model: &ModelStatus, settled: bool) {
        *self.phases.entry(phase_name(model.phase)).or_default() += 1;
        let table = &model.table;
        assert!(table.is_sane(), "{device}: insane table {table:?}");
        let seen = self.of(device);
        assert!(table.version_floor >= seen.floor, "{device}: the floor fell");
        seen.floor = table.version_floor;
        // A boot is settled once something is loaded or nothing ever was.
        seen.ever_confirmed |= table.serving.is_some();
        let serves = model.running.is_some();
        assert!(
            !settled
                || serves
                || !seen.ever_confirmed
                || model.phase == Phase::Idle && model.running.is_some(),
            "P1: {device} had a working model and serves nothing: {model:?}"
        );
        if seen.ever_confirmed {
            assert!(
                table.fallback().is_some(),
                "P1: {device} has nothing to go back to: {table:?}"
            );
        }
    }

    /// Notes how a device's last order ended.
    pub fn ended(&mut self, ending: Ending) {
        let name = match ending {
            Ending::Confirmed => "confirmed".to_owned(),
            Ending::Failed(reason) => format!("failed {}", reason.code()),
            Ending::RolledBack(reason) => format!("rolled back {}", reason.code()),
            Ending::Removed => "removed".to_owned(),
        };
        *self.endings.entry(name).or_default() += 1;
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "idle",
        Phase::Eligibility => "eligibility",
        Phase::Download => "download",
        Phase::Verification => "verification",
        Phase::SelfTest => "self-test",
        Phase::Activation => "activation",
        Phase::Probation => "probation",
        Phase::Rollback => "rollback",
        Phase::Removal => "removal",
        Phase::Shadow => "shadow",
        Phase::Held => "held",
    }
}
