//! Rollouts over a simple simulated fleet: the real planner with its metric gates, and devices that
//! are nothing but numbers. Thousands of whole rollouts in a minute, each from one seed.
//!
//! Where [`world`](crate::world) asks whether devices survive everything, this asks whether a
//! rollout stops when it should and only then: a release that is no worse (A/A), one that answers
//! wrongly more often without its devices noticing, one that its devices undo, one that is bad on
//! one class of hardware only. Devices differ in traffic, speed, errors and presence, and the
//! requests of one device have more in common than those of two.
//!
//! [`run`] checks at every step, by its own count, that nobody is exposed beyond the bounds.

mod devices;

use std::collections::{BTreeMap, BTreeSet};

use fleetway_controller::planner::HaltScope;
use fleetway_controller::planner::analysis::Evidence;
use fleetway_controller::planner::{
    Input, PhaseSpec, Plan, ReleaseFacts, RolloutFacts, RolloutSpec, RolloutState, Selector, Size,
    Verdict, Wish, apply, plan_and_check, wanted,
};
use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass, ModelName, Version};
use fleetway_protocol::reason::Reason;

use devices::Device;

/// When every story begins, Unix seconds.
const START_S: u64 = 1_000_000;
/// Between two steps, seconds.
const STEP_S: u64 = 30;
/// After this long a story is over, seconds.
const LONG_S: u64 = 12 * 3600;
/// The rollout's number.
const ROLLOUT: u64 = 1;

/// What is wrong with the new release.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Nothing: it is the old one again.
    Nothing,
    /// So many more of a hundred requests fail; no device notices by itself.
    Errors(f64),
    /// The same, on one of two classes of hardware.
    ErrorsOnOneClass(f64),
    /// Every device undoes it in its probation.
    Undone,
    /// Devices of one of two classes of hardware undo it.
    UndoneOnOneClass,
}

impl Fault {
    fn is_on(self, class: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Errors(_) | Self::Undone => true,
            Self::ErrorsOnOneClass(_) | Self::UndoneOnOneClass => class == 0,
        }
    }

    fn is_undone_on(self, class: usize) -> bool {
        matches!(self, Self::Undone | Self::UndoneOnOneClass) && self.is_on(class)
    }

    /// Failed requests beyond the usual, a share.
    fn errors_on(self, class: usize) -> f64 {
        match self {
            Self::Errors(points) | Self::ErrorsOnOneClass(points) if self.is_on(class) => {
                points / 100.0
            }
            _ => 0.0,
        }
    }
}

/// How a story ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The rollout's state.
    pub state: RolloutState,
    /// Devices in all.
    pub devices: usize,
    /// Devices that were ever offered the release.
    pub offered: usize,
    /// Of these, the ones of the class that is at fault, or could be.
    pub offered_of_class: usize,
    /// Classes that the release was found to be bad on.
    pub bad: Vec<HardwareClass>,
    /// Looks at the gates.
    pub looks: u32,
    /// Seconds from start to end.
    pub took_s: u64,
}

/// One whole rollout.
///
/// # Panics
/// If a bound is passed, with the seed.
pub fn run(seed: u64, fault: Fault) -> Ending {
    let mut story = Story::new(seed, fault);
    while story.input.now_s < START_S + LONG_S && story.rollout().state.is_open() {
        story.step();
    }
    story.ending()
}

struct Story {
    seed: u64,
    fault: Fault,
    random: fastrand::Rng,
    devices: BTreeMap<DeviceId, Device>,
    input: Input,
    offered: BTreeSet<DeviceId>,
}

fn digest(n: u8) -> Digest {
    Digest::of(&[n])
}

fn class(n: usize) -> HardwareClass {
    HardwareClass::new(["orin", "pi5"][n % 2]).expect("a class")
}

impl Story {
    fn new(seed: u64, fault: Fault) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let model = ModelName::new("digits").expect("a name");
        let devices: BTreeMap<_, _> = (0..random.usize(40..160))
            .map(|n| {
                let id = DeviceId::new(&format!("cam-{n:03}")).expect("an id");
                (id.clone(), Device::new(id, n % 2, &model, digest(0), &mut random))
            })
            .collect();
        let spec = spec(model, fault, &mut random);
        let releases = (0..2).map(|n| ReleaseFacts {
            digest: digest(n),
            counter: u64::from(n) + 1,
            version: Version::new("v").expect("a version"),
            bytes: 1_000,
        });
        let input = Input {
            now_s: START_S,
            listening_since_s: Some(0),
            releases: releases.collect(),
            rollouts: vec![RolloutFacts {
                id: ROLLOUT,
                spec,
                state: RolloutState::Running { phase: 0 },
                members: None,
                deployments: BTreeMap::new(),
                looks: Default::default(),
                evidence: None,
            }],
            ..Input::default()
        };
        Self { seed, fault, random, devices, input, offered: BTreeSet::new() }
    }

    fn rollout(&self) -> &RolloutFacts {
        &self.input.rollouts[0]
    }

    fn step(&mut self) {
        self.input.now_s += STEP_S;
        let now_s = self.input.now_s;
        for device in self.devices.values_mut() {
            device.live(now_s, &mut self.random);
        }
        self.verdicts();
        self.input.devices = self.devices.values().map(|d| d.facts.clone()).collect();
        if !wanted(&self.input).is_empty() {
            let evidence = self.evidence();
            self.input.rollouts[0].evidence = Some(evidence);
        }
        let plan = plan_and_check(&self.input);
        apply(&mut self.input, &plan);
        self.input.rollouts[0].evidence = None;
        self.carry_out(&plan);
        self.check_exposure(&plan);
    }

    /// Devices that had the release for long enough say what became of it.
    fn verdicts(&mut self) {
        let (fault, now_s) = (self.fault, self.input.now_s);
        for (id, deployment) in &mut self.input.rollouts[0].deployments {
            let Some(device) = self.devices.get_mut(id) else { continue };
            if deployment.verdict.is_none() && device.facts.online && now_s >= device.done_s {
                let undone = fault.is_undone_on(device.class);
                deployment.verdict = Some(match undone {
                    true => Verdict::RolledBack(Reason::HealthErrors),
                    false => Verdict::Confirmed,
                });
                deployment.verdict_s = now_s;
                device.settle(if undone { digest(0) } else { digest(1) });
            }
        }
    }

    /// What both sides counted since the rollout began.
    fn evidence(&mut self) -> Evidence {
        let (mut cohort, mut control) = (BTreeMap::new(), BTreeMap::new());
        let deployments = &self.input.rollouts[0].deployments;
        for (id, device) in &mut self.devices {
            let deployment = deployments.get(id);
            let more = if deployment.is_some() { self.fault.errors_on(device.class) } else { 0.0 };
            let sample =
                device.sample(self.input.now_s, more, deployment, &mut self.random).clone();
            let side = if deployment.is_some() { &mut cohort } else { &mut control };
            side.insert(id.clone(), sample);
        }
        Evidence { since_s: START_S, cohort, control, control_kind: Default::default() }
    }

    fn carry_out(&mut self, plan: &Plan) {
        for order in &plan.orders {
            assert!(matches!(order.wish, Wish::Run(_)), "seed {}: {order:?}", self.seed);
            self.offered.insert(order.device.clone());
            if let Some(device) = self.devices.get_mut(&order.device) {
                device.begin(self.input.now_s, &mut self.random);
            }
        }
    }

    /// By our own count, from the specification alone: nobody beyond the phase, the bound on what is
    /// in flight, or what a release may reach that every device undoes.
    fn check_exposure(&self, plan: &Plan) {
        let (rollout, seed) = (self.rollout(), self.seed);
        let spec = &rollout.spec;
        let all = self.devices.len();
        let of = |size: Size| match size {
            Size::Count(n) => n as usize,
            Size::Percent(p) => (all * usize::from(p)).div_ceil(100),
        };
        if let RolloutState::Running { phase } = rollout.state {
            // A class that is left out is on nobody's account any more.
            let bound = of(spec.phases[phase as usize].size);
            let offered = self.offered.iter().filter(|id| !self.is_barred(id)).count();
            assert!(offered <= bound, "seed {seed}: {offered} offered, {bound} in phase {phase}");
        }
        let open = rollout.deployments.iter().filter(|(_, d)| d.verdict.is_none());
        let in_flight = open.filter(|(id, _)| !self.is_barred(id)).count();
        let bound = of(spec.max_unavailable);
        if !plan.orders.is_empty() {
            assert!(in_flight <= bound, "seed {seed}: {in_flight} in flight, {bound} allowed");
        }
        if self.fault == Fault::Undone {
            let bound = of(spec.phases[0].size);
            assert!(self.offered.len() <= bound, "seed {seed}: a bad release left its canaries");
        }
        for id in plan.orders.iter().map(|order| &order.device) {
            let bad = self.is_barred(id);
            assert!(!bad, "seed {seed}: {id} was offered what is bad on its hardware");
        }
    }

    fn is_barred(&self, id: &DeviceId) -> bool {
        let hardware = self.devices[id].facts.hardware.as_ref();
        self.input.known_bad.iter().any(|bad| Some(&bad.class) == hardware)
    }

    fn ending(self) -> Ending {
        let rollout = &self.input.rollouts[0];
        let of_class = |id: &&DeviceId| self.devices[*id].class == 0;
        Ending {
            state: rollout.state.clone(),
            devices: self.devices.len(),
            offered: self.offered.len(),
            offered_of_class: self.offered.iter().filter(of_class).count(),
            bad: self.input.known_bad.iter().map(|bad| bad.class.clone()).collect(),
            looks: rollout.looks.last.as_ref().map_or(0, |last| last.number),
            took_s: self.input.now_s - START_S,
        }
    }
}

/// What an operator might ask for: some devices first, then more, then all.
fn spec(model: ModelName, fault: Fault, random: &mut fastrand::Rng) -> RolloutSpec {
    let soak_s = random.u64(300..1800);
    let phase = |percent| PhaseSpec::new(Size::Percent(percent), soak_s);
    let phases = match random.u8(0..3) {
        0 => vec![phase(20), phase(50)],
        1 => vec![phase(15), phase(30), phase(60)],
        _ => vec![phase(25)],
    };
    let one_class = matches!(fault, Fault::ErrorsOnOneClass(_) | Fault::UndoneOnOneClass);
    RolloutSpec {
        phases,
        max_unavailable: Size::Percent(random.u8(10..=100)),
        failures_max: random.u32(0..3),
        success_percent_min: 80,
        halt: if one_class { HaltScope::Class } else { HaltScope::Rollout },
        ..RolloutSpec::new(
            model,
            digest(1),
            Version::new("v2").expect("a version"),
            Selector::all(),
        )
    }
    .checked()
    .expect("a specification")
}
