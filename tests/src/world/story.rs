//! What happens in a world: a good release for everybody, then one that may be bad, in a
//! storm; then calm, in which all must come right.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use fleetway_controller::fleet::Fleet;
use fleetway_controller::planner::{PhaseSpec, RolloutSpec, RolloutState, Selector, Size};
use fleetway_controller::store::MemStore;
use fleetway_protocol::envelope::Envelope;
use fleetway_protocol::hold::{Condition, Conditions, Hold};
use fleetway_protocol::ids::{DeviceId, Digest, ModelName, RolloutId};
use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use fleetway_protocol::order::Terms;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::shadow::{Otherwise, ShadowPolicy};
use fleetway_protocol::slot::Ending;

use super::broker::{Broker, Faults};
use super::check::Checker;
use super::device::SimDevice;
use super::disk::{Lie, Mood, SimFs};
use super::releases::{Keys, Nature};
use super::{Happening, World};
use crate::authority::{Authority, DAY_S};

/// How long the storm lasts, virtual milliseconds.
const STORM_MS: u64 = 120_000;
/// How long the calm may take until all is right, virtual milliseconds.
const CALM_MS: u64 = 1_800_000;
/// Devices in the first phase of a rollout.
const CANARIES: u32 = 2;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Number of devices.
    pub devices: usize,
    /// A mistake in the disks, for negative controls.
    pub lie: Lie,
}

impl Default for Setting {
    fn default() -> Self {
        Self { devices: 50, lie: Lie::None }
    }
}

/// Runs the world of one seed to its end.
///
/// # Panics
/// With a sentence, when a promise is broken.
pub fn run(seed: u64, setting: Setting) -> Checker {
    let mut world = World::begin(seed, setting);
    let good = world.publish(1, Nature::Good);
    let first = world.start(good, 0, &Terms::default());
    world.storm(&[first], STORM_MS);
    world.calm(&[first], CALM_MS);
    if world.is_interrupted(first, good) {
        // Bad luck, told as such; devices that never had a model are another story.
        world.note_endings();
        return world.checker;
    }
    world.expect(first, good, good);

    let nature = match world.rng.usize(0..=Nature::BAD.len()) {
        0 => Nature::Good,
        n => Nature::BAD[n - 1],
    };
    let next = world.publish(2, nature);
    let terms = world.terms(nature);
    let second = world.start(next, CANARIES, &terms);
    let aborts = world.rng.u8(0..5) == 0;
    world.storm(&[second], STORM_MS);
    if aborts {
        world.abort(second, next);
    }
    world.calm(&[second], CALM_MS);
    world.expect(second, next, good);
    world.note_endings();
    world.checker
}

impl World {
    fn begin(seed: u64, setting: Setting) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let id = |n: usize| DeviceId::new(&format!("d{n:03}")).expect("an id");
        let mut devices: Vec<_> = (0..setting.devices)
            .map(|n| SimDevice::new(id(n), SimFs::lying(setting.lie)))
            .collect();
        for device in &mut devices {
            // Some owners hold what no order asks for.
            device.owner = if rng.u8(0..8) == 0 { held_rule() } else { Hold::default() };
        }
        let mut broker = Broker::default();
        broker.faults = storm_faults(&mut rng);
        let keys = Keys::default();
        let expires_s = [super::EPOCH_S + DAY_S; 4];
        let mut authority = Authority { expires_s, ..Authority::default() };
        let pinned = authority.publish_root(&[]);
        keys.publish(&mut authority);
        authority.publish();
        let mut world = Self {
            seed,
            rng,
            now_ms: 0,
            order: 0,
            queue: BinaryHeap::new(),
            broker,
            keys,
            authority,
            pinned,
            model: ModelName::new("digits").expect("a name"),
            devices,
            releases: BTreeMap::new(),
            seeded: BTreeSet::new(),
            store: Arc::new(MemStore::default()),
            controller: None,
            stormy: true,
            checker: Checker::default(),
        };
        world.controller_boots();
        for n in 0..world.devices.len() {
            let (by, id) = (world.operator(), world.devices[n].id.clone());
            let fleet = world.controller.as_mut().expect("just booted");
            fleet.add_device(by, &id, &BTreeMap::new()).expect("a new device");
            let delay = world.rng.u64(0..2_000);
            world.after(delay, Happening::Boot { device: n });
        }
        world.after(1_000, Happening::ControllerTick);
        world.after(3_000, Happening::Fault);
        world
    }

    /// The controller; booted first if a fault just took it.
    fn fleet(&mut self) -> &mut Fleet {
        if self.controller.is_none() {
            self.controller_boots();
        }
        self.controller.as_mut().expect("booted")
    }

    fn publish(&mut self, counter: u64, nature: Nature) -> Digest {
        let release = self.keys.release(&self.model.clone(), counter, nature, &mut self.rng);
        let (by, envelope) = (self.operator(), release.envelope.clone());
        let digest = self.fleet().publish_release(by, &envelope).expect("published");
        assert_eq!(digest, release.digest);
        let envelope = Envelope::decode(&release.envelope).expect("its own");
        let path = format!("{}/{}", self.model, release.version);
        self.authority.list(&path, envelope.payload_unchecked(), counter);
        self.authority.publish_next();
        self.seed_trust();
        self.releases.insert(digest, release);
        digest
    }

    /// Some rollouts have their candidate run in the shadow, some are held until all is well.
    fn terms(&mut self, nature: Nature) -> Terms {
        let shadow = self.rng.bool() || nature == Nature::Differs;
        let shadow = shadow.then(|| ShadowPolicy {
            answers_min: 40,
            otherwise: Otherwise::Wait,
            interface_differs: Otherwise::Proceed,
            ..ShadowPolicy::default()
        });
        let held = self.rng.bool();
        Terms { shadow, hold: if held { held_rule() } else { Hold::default() }, ..Terms::default() }
    }

    fn start(&mut self, release: Digest, canaries: u32, terms: &Terms) -> RolloutId {
        let version = self.releases[&release].version.clone();
        let mut spec = RolloutSpec::new(self.model.clone(), release, version, Selector::all());
        spec.phases = match canaries {
            0 => Vec::new(),
            n => vec![PhaseSpec::new(Size::Count(n), 5)],
        };
        spec.max_unavailable = Size::Percent(50);
        spec.terms =
            Terms { probation_s: 5, probation_answers: 50, collapse_permille_max: 800, ..*terms };
        // Some operators wait for a device that is held, some go on without it.
        if self.rng.bool() {
            spec.hold_aside_s = 20;
        }
        let by = self.operator();
        let rollout = self.fleet().start_rollout(by, &spec).expect("starts");
        self.checker.rollout_acknowledged(rollout);
        rollout
    }

    fn abort(&mut self, rollout: RolloutId, release: Digest) {
        let (by, now_s) = (self.operator(), self.now_s());
        let open = self.fleet().rollout(rollout, now_s).is_some_and(|r| r.state.is_open());
        if open {
            self.fleet().abort_rollout(by, rollout).expect("aborts");
            self.checker.rollout_aborted(rollout, release);
        }
    }

    fn storm(&mut self, _: &[RolloutId], time_ms: u64) {
        self.stormy = true;
        self.broker.faults = storm_faults(&mut self.rng);
        self.after(1_000, Happening::Fault);
        self.run_until(self.now_ms + time_ms);
    }

    /// Everything works again; time passes until the rollouts ended and the fleet is at
    /// rest, or for `time_ms`.
    fn calm(&mut self, rollouts: &[RolloutId], time_ms: u64) {
        self.stormy = false;
        self.broker.faults = Faults { delay_ms_max: 50, ..Faults::default() };
        for device in &self.devices {
            device.fs.set_mood(Mood::Well);
        }
        let end = self.now_ms + time_ms;
        while self.now_ms < end {
            self.run_until(self.now_ms + 30_000);
            let now_s = self.now_s();
            let over = rollouts
                .iter()
                .all(|id| self.fleet().rollout(*id, now_s).is_some_and(|r| !r.state.is_open()));
            if over && self.at_rest() {
                return;
            }
        }
    }

    fn at_rest(&self) -> bool {
        let now = self.now();
        self.devices.iter().all(|d| {
            let Some(core) = &d.core else { return false };
            let idle = |m: &fleetway_agent::device::ModelStatus| {
                m.phase == fleetway_protocol::machine::Phase::Idle && m.waiting.is_none()
            };
            d.up && core.status(now).iter().all(idle)
        })
    }

    /// The rollout ended as its release deserves, and every device runs what it must.
    fn expect(&mut self, rollout: RolloutId, release: Digest, before: Digest) {
        let (seed, now_s) = (self.seed, self.now_s());
        let nature = self.releases[&release].nature;
        let view = self.fleet().rollout(rollout, now_s).expect("P3: the rollout is there");
        assert!(
            !view.state.is_open(),
            "liveness: seed {seed}: still {:?} in the calm: {view:#?}",
            view.state
        );
        let succeeded = view.state == RolloutState::Succeeded;
        let aborted = view.state == RolloutState::Aborted;
        let bad_luck = nature == Nature::Good && self.is_interrupted(rollout, release);
        assert!(
            succeeded == (nature == Nature::Good) || aborted || bad_luck,
            "P6: seed {seed}: a rollout of a {nature:?} release ended {:?}",
            view.state
        );
        if nature != Nature::Good {
            let exposed = self.checker.exposed(&release);
            assert!(exposed <= CANARIES as usize, "P6: seed {seed}: {exposed} devices served it");
        }
        let now = self.now();
        for device in &self.devices {
            let core = device.core.as_ref().expect("calm: every device is on");
            let status = core.status(now);
            let running = status.first().and_then(|m| m.running).map(|(_, digest)| digest);
            let confirmed = |d: Digest| {
                status
                    .first()
                    .is_some_and(|m| m.table.serving.is_some_and(|s| m.table.slot(s).holds(&d)))
            };
            let right = match running {
                Some(digest) if digest == release => nature == Nature::Good && confirmed(release),
                Some(digest) => digest == before && (!succeeded || before == release),
                None => false,
            };
            assert!(
                right,
                "P1: seed {seed}: {} runs {running:?} after {:?}: {status:#?}",
                device.id, view.state
            );
        }
    }

    /// Whether the rollout halted because a device was cut three times in its trial of this
    /// very release, and really was. The release is given up then, good or not (P5).
    fn is_interrupted(&mut self, rollout: RolloutId, release: Digest) -> bool {
        let now_s = self.now_s();
        let state = self.fleet().rollout(rollout, now_s).map(|r| r.state);
        let Some(RolloutState::Halted { device: Some(device), reason, .. }) = state else {
            return false;
        };
        let device = self.devices.iter().find(|d| d.id == device);
        let ends = device.and_then(|d| d.trial_ends.get(&release)).copied().unwrap_or(0);
        reason == Some(Reason::Interrupted) && ends >= u32::from(TRIAL_TRIES_MAX)
    }

    fn note_endings(&mut self) {
        let now = self.now();
        let endings: Vec<Ending> = self
            .devices
            .iter()
            .filter_map(|d| d.core.as_ref())
            .flat_map(|core| core.status(now))
            .filter_map(|m| Some(m.last?.result))
            .collect();
        endings.into_iter().for_each(|ending| self.checker.ended(ending));
    }

    /// Something breaks. In the calm nothing does.
    pub(super) fn fault(&mut self) {
        if !self.stormy {
            return;
        }
        let device = self.rng.usize(0..self.devices.len());
        match self.rng.u8(0..20) {
            0..6 => self.link_down(device),
            6..10 => self.power_cut(device),
            10..13 => self.kill(device),
            13..15 => {
                let mood = if self.rng.bool() { Mood::Full } else { Mood::Failing };
                self.devices[device].fs.set_mood(mood);
                let delay = self.rng.u64(500..20_000);
                self.after(delay, Happening::DiskWell { device });
            }
            15 => self.broker_dies(),
            16 if self.controller.is_some() => self.controller_dies(),
            17 => self.stop_gracefully(device),
            _ => {}
        }
        let delay = self.rng.u64(200..3_000);
        self.after(delay, Happening::Fault);
    }

    fn stop_gracefully(&mut self, device: usize) {
        let now = self.now();
        if let Some(core) = &mut self.devices[device].core {
            core.handle_stop(now);
        }
        self.drain(device);
    }

    /// The broker loses everything; everybody reconnects, the controller seeds it anew.
    fn broker_dies(&mut self) {
        self.broker.forget();
        for device in 0..self.devices.len() {
            self.link_down(device);
        }
        let now_s = self.now_s();
        if let Some(fleet) = &mut self.controller {
            fleet.handle_link(now_s, false);
            fleet.handle_link(now_s, true);
            fleet.resend_all();
            self.seed_trust();
        }
        self.carry_out();
    }
}

fn held_rule() -> Hold {
    let unlocked = Conditions::NONE.with(Condition::Unlocked);
    Hold {
        download: Conditions::NONE.with(Condition::Mains),
        activation: unlocked.with(Condition::Idle).with(Condition::Mains),
        idle_s: 30,
        ..Hold::default()
    }
}

fn storm_faults(rng: &mut fastrand::Rng) -> Faults {
    Faults {
        lost_permille: rng.u32(0..300),
        lost_acked_permille: rng.u32(0..30),
        twice_permille: rng.u32(0..200),
        flipped_permille: rng.u32(0..50),
        delay_ms_max: rng.u64(5..2_000),
    }
}
