//! What must hold of every plan, on random fleets and through random lives.

use std::sync::Arc;

use fleetway_protocol::hold::{Condition, Conditions, Held, Point};
use fleetway_protocol::ids::HardwareClass;
use proptest::prelude::*;

use super::spec::Membership;
use super::*;

fn any_size() -> impl Strategy<Value = Size> {
    prop_oneof![(1u32..8).prop_map(Size::Count), (1u8..=100).prop_map(Size::Percent)]
}

prop_compose! {
    /// How fast, when, how often again, and for whom.
    fn any_pace()(
        rate in prop::option::of((1u32..4, prop::option::of((1001u32..3000, 1u32..4, 0u32..9)))),
        retry in prop::option::of((1u32..4, 1u64..400)),
        kinds in prop::sample::subsequence(RetryOn::ALL.to_vec(), 1..=4),
        budget in (prop_oneof![Just(0u64), 500u64..6000], prop_oneof![Just(0u64), 500u64..9000]),
        times in (prop::option::of(0u64..1500), prop::option::of(0u64..4000)),
        window in prop::option::of(prop::sample::select(vec!["mon 13:00-14:30", "tue 00:00-01:00"])),
        deadline_s in prop_oneof![Just(0u64), 200u64..2000],
        canary in prop::collection::vec(0usize..12, 0..3),
        rest in (any::<bool>(), any::<bool>(), any::<bool>(), -1i16..2),
    ) -> RolloutSpec {
        let (snapshot, keep, approval, priority) = rest;
        let not_before_s = times.0.map(|s| NOW_S - 500 + s);
        let zone = "Europe/Berlin".to_owned();
        RolloutSpec {
            rate: rate.map(|(per_minute, ramp)| Rate {
                per_minute,
                ramp: ramp.map(|(factor_permille, every, more)| Ramp {
                    factor_permille, every, per_minute_max: per_minute + more,
                }),
            }),
            retry: retry.map(|(times, wait_s)| Retry { times, wait_s, on: kinds }),
            budget: Budget { per_day_bytes: budget.0, total_bytes: budget.1 },
            schedule: Schedule {
                not_before_s,
                not_after_s: times.1.map(|s| not_before_s.unwrap_or(NOW_S - 500) + 1 + s),
                windows: window
                    .map(|w| LocalWindow { window: w.parse().unwrap(), zone })
                    .into_iter()
                    .collect(),
            },
            deadline_s,
            canary: canary.into_iter().map(id).collect(),
            membership: if snapshot { Membership::Snapshot } else { Membership::Dynamic },
            on_abort: if keep { OnAbort::Keep } else { OnAbort::Revert },
            approval,
            priority,
            ..spec(1, &[])
        }
    }
}

/// Phases with bounds of their own.
fn any_phase() -> impl Strategy<Value = PhaseSpec> {
    let soak_s = prop_oneof![Just(0u64), 0u64..500];
    let own = (0u32..4, prop::option::of(1u8..=100), prop::option::of(0u32..3), any::<bool>());
    (any_size(), soak_s, own, prop::option::of(any_size())).prop_map(
        |(size, soak_s, (reporters_min, success_percent_min, failures_max, approval), max)| {
            PhaseSpec {
                reporters_min,
                success_percent_min,
                failures_max,
                max_unavailable: max,
                approval,
                ..PhaseSpec::new(size, soak_s)
            }
        },
    )
}

fn any_spec() -> impl Strategy<Value = RolloutSpec> {
    let selectors = ["all", "site=a", "site!=a", "cam", "id=cam-03", "hardware=pi4", "release!=v1"];
    let selector = prop::sample::select(selectors.to_vec());
    let phases = prop::collection::vec(any_phase(), 0..3);
    let rest = (1u8..=100, 0u32..4, any_size(), 1u64..400, 0u64..2000, 1u64..1500);
    // Half of them without any of it: what is rarely reached behind a brake is reached there.
    let pace = prop_oneof![Just(spec(1, &[])), any_pace()];
    (0u8..2, 0u8..4, selector, phases, rest, pace).prop_map(
        |(of, release, selector, phases, rest, pace)| {
            let (percent, failures_max, max, offline_after_s, more_s, hold_aside_s) = rest;
            let spec = RolloutSpec {
                model: model(of),
                release: digest(release),
                selector: selector.parse().unwrap(),
                phases,
                success_percent_min: percent,
                failures_max,
                max_unavailable: max,
                offline_after_s,
                device_timeout_s: offline_after_s + more_s,
                hold_aside_s,
                gates: Vec::new(),
                halt: if failures_max % 2 == 0 { HaltScope::Class } else { HaltScope::Rollout },
                ..pace
            };
            let everybody = RolloutSpec { phases: Vec::new(), ..spec.clone() };
            spec.checked().or_else(|_| everybody.checked()).unwrap()
        },
    )
}

fn any_verdict() -> impl Strategy<Value = Option<Verdict>> {
    prop::sample::select(vec![
        None,
        None,
        Some(Verdict::Confirmed),
        Some(Verdict::Confirmed),
        Some(Verdict::Failed(Reason::Golden)),
        Some(Verdict::RolledBack(Reason::HealthErrors)),
        Some(Verdict::Failed(Reason::MetadataMissing)),
        Some(Verdict::Silent),
        Some(Verdict::Late),
        Some(Verdict::Left),
    ])
}

fn any_state() -> impl Strategy<Value = RolloutState> {
    let halted = RolloutState::Halted { why: "x".to_owned(), device: None, reason: None };
    prop_oneof![
        4 => (0u32..2).prop_map(|phase| RolloutState::Running { phase }),
        1 => Just(RolloutState::Paused { phase: 0, by: PausedBy::Operator }),
        1 => Just(halted),
        1 => Just(RolloutState::Aborted),
        1 => Just(RolloutState::Succeeded),
        1 => Just(RolloutState::WaitingForApproval { phase: 0 }),
    ]
}

prop_compose! {
    fn any_device(n: usize)(
        online in prop::bool::weighted(0.8),
        quiet_s in prop::option::weighted(0.9, 0u64..500),
        models in prop::collection::vec(
            (
                0u8..2,
                prop::option::of(0u8..4),
                prop::option::of((1u64..5, 0u8..4)),
                0u64..4,
                any::<bool>(),
                any_held(),
            ),
            0..3,
        ),
    ) -> DeviceFacts {
        let hardware = ["orin", "pi4"].get(n % 3).map(|class| HardwareClass::new(class).unwrap());
        let mut device =
            DeviceFacts { online, hardware, heard_s: quiet_s.map(|s| NOW_S - s), ..device(n) };
        for (of, running, assigned, floor, trial, held) in models {
            let phase = match held {
                Some(_) => Phase::Held,
                None if trial => Phase::Probation,
                None => Phase::Idle,
            };
            let facts = ModelFacts { floor, phase, held, ..facts(running, assigned) };
            Arc::make_mut(&mut device.models).insert(model(of), facts);
        }
        device
    }
}

prop_compose! {
    fn any_rollout(id_of: u64)(
        spec in any_spec(),
        state in any_state(),
        deployments in prop::collection::btree_map(
            0usize..14, (any_verdict(), 0u64..3000, any::<bool>(), 0u32..3), 0..6),
        members in prop::option::of(prop::collection::btree_set(0usize..14, 0..14)),
    ) -> RolloutFacts {
        let phase = match state {
            RolloutState::Running { phase } => phase.min(spec.phases.len() as u32 - 1),
            _ => 0,
        };
        let state = match state {
            RolloutState::Running { .. } => RolloutState::Running { phase },
            other => other,
        };
        let deployments = deployments.into_iter().map(|(n, (verdict, ago_s, reverted, attempts))| {
            (id(n), Deployment {
                release: spec.release,
                ordered_s: NOW_S - ago_s,
                phase: 0,
                previous: [Previous::Unknown, Previous::Nothing, Previous::Release(digest(0))][n % 3],
                verdict,
                verdict_s: NOW_S - ago_s / 2,
                reverted,
                attempts,
            })
        }).collect();
        let members = members.map(|m| Arc::new(m.into_iter().map(id).collect()));
        let (looks, evidence) = Default::default();
        RolloutFacts { id: id_of, spec, state, members, deployments, looks, evidence }
    }
}

fn any_input() -> impl Strategy<Value = Input> {
    let devices: Vec<_> = (0..12).map(any_device).collect();
    let rollouts: Vec<_> = (1..5).map(any_rollout).collect();
    let listening = prop_oneof![4 => (0u64..4000).prop_map(|s| Some(NOW_S - s)), 1 => Just(None)];
    let bad = prop::option::of((0u8..4, any::<bool>(), any::<bool>()));
    (devices, rollouts, 0usize..=12, 1usize..=4, listening, bad).prop_map(
        |(mut devices, mut rollouts, n, m, listening_since_s, bad)| {
            devices.truncate(n);
            rollouts.truncate(m);
            let known_bad = bad.map(|(release, orin, lifted)| KnownBad {
                release: digest(release),
                class: HardwareClass::new(if orin { "orin" } else { "pi4" }).unwrap(),
                rollout: 1,
                since_s: NOW_S,
                why: "x".to_owned(),
                lifted_s: lifted.then_some(NOW_S),
            });
            let known_bad = known_bad.into_iter().collect();
            Input { devices, rollouts, listening_since_s, known_bad, ..input(0, vec![]) }
        },
    )
}

/// Without those that are held and set aside, and those whose hardware the release is bad on.
fn in_flight(world: &Input, rollout: &RolloutFacts) -> usize {
    let counts = |(id, deployment): &(&DeviceId, &Deployment)| {
        let device = world.devices.iter().find(|d| d.id == **id);
        deployment.verdict.is_none()
            && !cohort::is_aside(world, rollout, device, deployment)
            && !cohort::is_barred(world, rollout, device)
    };
    rollout.deployments.iter().filter(counts).count()
}

fn open(rollout: &RolloutFacts) -> usize {
    rollout.deployments.values().filter(|d| d.verdict.is_none()).count()
}

fn any_held() -> impl Strategy<Value = Option<Held>> {
    let conditions = Conditions::NONE.with(Condition::Mains);
    let held = move |ago_s| Held { before: Point::Activation, conditions, since_s: NOW_S - ago_s };
    prop::option::of((0u64..3000).prop_map(held))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_plan_is_sane_and_final(world in any_input()) {
        let made = plan(&world);
        prop_assert_eq!(check(&world, &made), Ok(()));
        prop_assert_eq!(&made, &plan(&world), "same input, same plan");
        let mut after = world.clone();
        apply(&mut after, &made);
        let again = plan(&after);
        prop_assert_eq!(&again.orders, &[]);
        prop_assert_eq!(&again.changes, &[]);
        for rollout in &after.rollouts {
            let before = world.rollouts.iter().find(|r| r.id == rollout.id).unwrap();
            let phase = rollout.state.phase().unwrap_or(0) as usize;
            let max = rollout.spec.unavailable_bound(phase, world.devices.len() + 14);
            let offers = |o: &Assignment| o.rollout == rollout.id && matches!(o.wish, Wish::Run(_));
            if made.orders.iter().any(offers) {
                prop_assert!(in_flight(&after, rollout) <= max);
            } else {
                prop_assert!(open(rollout) <= open(before));
            }
            if !matches!(before.state, RolloutState::Running { .. }) {
                prop_assert_eq!(rollout.deployments.len(), before.deployments.len());
            }
        }
    }

    #[test]
    fn the_order_of_devices_and_rollouts_is_irrelevant(world in any_input(), seed in any::<u64>()) {
        let mut shuffled = world.clone();
        let mut random = fastrand::Rng::with_seed(seed);
        random.shuffle(&mut shuffled.devices);
        random.shuffle(&mut shuffled.rollouts);
        random.shuffle(&mut shuffled.releases);
        prop_assert_eq!(plan(&world), plan(&shuffled));
    }

    /// A whole life: devices answer, fall silent and come back, join and leave; whatever
    /// happens, bounds hold and what is over stays over.
    #[test]
    fn a_life_of_rollouts_keeps_every_bound(seed in any::<u64>(), specs in prop::collection::vec(any_spec(), 1..4)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = input(10, Vec::new());
        let mut over: BTreeMap<u64, usize> = BTreeMap::new();
        for tick in 0..60u64 {
            if let Some(spec) = specs.get(tick as usize / 15).filter(|_| tick % 15 == 0) {
                world.rollouts.extend(input(0, vec![(tick + 1, spec.clone())]).rollouts);
            }
            live(&mut world, &mut random);
            let before = world.clone();
            go(&mut world);
            for (rollout, old) in world.rollouts.iter().zip(&before.rollouts) {
                let offered = rollout.deployments.len();
                if !rollout.state.is_open() {
                    prop_assert_eq!(*over.entry(rollout.id).or_insert(offered), offered);
                }
                if offered > old.deployments.len() {
                    let total = world.devices.len() + offered;
                    let phase = |r: &RolloutFacts| r.state.phase().unwrap_or(0) as usize;
                    // A phase may be filled and left at once.
                    let phases = phase(old).min(phase(rollout))..=phase(rollout);
                    let bounds = phases.map(|at| rollout.spec.unavailable_bound(at, total));
                    prop_assert!(in_flight(&world, rollout) <= bounds.max().unwrap_or(0));
                    prop_assert!(before.listening_since_s.is_some());
                    prop_assert_eq!(rollout.spec.schedule.at(world.now_s), Opening::Open);
                }
                prop_assert!(spent(rollout) <= rollout.spec.budget.total_bytes);
                prop_assert!(rollout.deployments.values().all(|d| d.attempts <= tries(rollout)));
            }
        }
    }
}

/// Bytes fetched for a rollout with a budget, 1000 for each try; 0 without one.
fn spent(rollout: &RolloutFacts) -> u64 {
    let tries = rollout.deployments.values().map(|d| u64::from(d.attempts) + 1).sum::<u64>();
    if rollout.spec.budget.total_bytes == 0 { 0 } else { tries * 1000 }
}

fn tries(rollout: &RolloutFacts) -> u32 {
    rollout.spec.retry.as_ref().map_or(0, |retry| retry.times)
}

/// One step of random life.
fn live(world: &mut Input, random: &mut fastrand::Rng) {
    world.now_s += random.u64(0..300);
    let now_s = world.now_s;
    if random.u8(..10) == 0 {
        world.listening_since_s = if random.bool() { Some(now_s) } else { None };
    }
    for device in &mut world.devices {
        match random.u8(..12) {
            0 => device.online = false,
            1..=3 => device.online = true,
            _ => {}
        }
        if device.online {
            device.heard_s = Some(now_s);
        }
    }
    for rollout in &mut world.rollouts {
        for (id, deployment) in &mut rollout.deployments {
            let Some(device) = world.devices.iter_mut().find(|d| d.id == *id) else { continue };
            if !device.online || deployment.verdict.is_some() || random.bool() {
                continue;
            }
            let facts = Arc::make_mut(&mut device.models).get_mut(&rollout.spec.model).unwrap();
            // Held for a while, some of them.
            let held = random.u8(..3) == 0;
            let since_s = facts.held.map_or(now_s, |held| held.since_s);
            let conditions = Conditions::NONE.with(Condition::Mains);
            facts.held = held.then_some(Held { before: Point::Activation, conditions, since_s });
            facts.phase = if held { Phase::Held } else { Phase::Idle };
            if held {
                continue;
            }
            let good = random.u8(..8) > 0;
            let bad = [Reason::LoadFailed, Reason::MetadataMissing][random.usize(..2)];
            deployment.verdict = Some(if good { Verdict::Confirmed } else { Verdict::Failed(bad) });
            deployment.verdict_s = now_s;
            facts.reported = true;
            facts.running = if good { Some(deployment.release) } else { facts.running };
        }
        match random.u8(..40) {
            0 if rollout.state.is_open() => rollout.state = RolloutState::Aborted,
            1..=20 => {
                if let RolloutState::WaitingForApproval { phase } = rollout.state {
                    rollout.state = RolloutState::Running { phase };
                }
            }
            _ => {}
        }
    }
}
