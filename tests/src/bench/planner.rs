//! How long the planner thinks about a fleet, on one core: the plan and the check of it that the
//! controller makes before anything becomes an order.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use fleetway_controller::planner::{
    DeviceFacts, Input, ModelFacts, PhaseSpec, ReleaseFacts, RolloutFacts, RolloutSpec,
    RolloutState, Size, Verdict, apply, plan_and_check,
};
use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass, ModelName, Version};
use fleetway_protocol::machine::Phase;
use tokio::time::Instant;

use super::figures::Figures;

/// Devices, what is aimed at in milliseconds, and the names of the three figures.
const FLEETS: [(usize, f64, [&str; 3]); 2] = [
    (10_000, 50.0, ["plan_10k_first_ms", "plan_10k_everybody_ms", "plan_10k_middle_ms"]),
    (100_000, 1000.0, ["plan_100k_first_ms", "plan_100k_everybody_ms", "plan_100k_middle_ms"]),
];
/// Times that each is measured; the slowest counts.
const TIMES: usize = 5;
const NOW_S: u64 = 1_000_000;

/// The slowest of: the first order of a rollout, everybody at once, and a tick with nothing to do
/// in the middle of one.
pub(super) fn plans(figures: &mut Figures) -> Result<()> {
    for (devices, aim_ms, names) in FLEETS {
        let first = fleet(devices, Size::Percent(10))?;
        let everybody = fleet(devices, Size::Percent(100))?;
        let mut middle = fleet(devices, Size::Percent(50))?;
        let begun = plan_and_check(&middle);
        apply(&mut middle, &begun);
        for deployment in middle.rollouts[0].deployments.values_mut().step_by(2) {
            (deployment.verdict, deployment.verdict_s) = (Some(Verdict::Confirmed), NOW_S);
        }
        middle.rollouts[0].spec.max_unavailable = Size::Percent(25);
        let cases = [(&first, devices / 10), (&everybody, devices), (&middle, 0)];
        for (name, (input, orders)) in names.into_iter().zip(cases) {
            let ms = slowest_ms(input, orders).context(name)?;
            let how =
                format!("plan and check of {devices} devices, {orders} orders, slowest of {TIMES}");
            figures.add(name, ms, Some(aim_ms), how);
        }
    }
    Ok(())
}

fn slowest_ms(input: &Input, orders: usize) -> Result<f64> {
    let mut slowest = 0.0_f64;
    for _ in 0..TIMES {
        let since = Instant::now();
        let plan = black_box(plan_and_check(black_box(input)));
        slowest = slowest.max(since.elapsed().as_secs_f64() * 1000.0);
        ensure!(plan.orders.len() == orders, "{} orders, not {orders}", plan.orders.len());
        ensure!(plan.report.len() == input.devices.len(), "somebody has no reason");
    }
    Ok(slowest)
}

/// Devices with three labels that run the release before, and a rollout in one phase.
fn fleet(devices: usize, max_unavailable: Size) -> Result<Input> {
    let model = ModelName::new("digits")?;
    let (old, new) = (Digest([1; 32]), Digest([2; 32]));
    let spec = RolloutSpec {
        phases: vec![PhaseSpec::new(Size::Percent(100), 0)],
        max_unavailable,
        ..RolloutSpec::new(model.clone(), new, Version::new("v2")?, "site!=lab,role=cam".parse()?)
    };
    let device = |n: usize| -> Result<DeviceFacts> {
        let facts = ModelFacts {
            reported: true,
            running: Some(old),
            floor: 1,
            phase: Phase::Idle,
            waiting: None,
            held: None,
            assigned: None,
        };
        let labels =
            [("site", format!("s{}", n % 50)), ("role", "cam".into()), ("rack", n.to_string())];
        Ok(DeviceFacts {
            id: DeviceId::new(&format!("cam-{n:06}"))?,
            labels: Arc::new(labels.map(|(key, value)| (key.to_owned(), value)).into()),
            hardware: Some(HardwareClass::new("pi4")?),
            online: true,
            heard_s: Some(NOW_S),
            models: Arc::new([(model.clone(), facts)].into()),
        })
    };
    let devices = (0..devices).map(device).collect::<Result<Vec<_>>>()?;
    let members: BTreeSet<_> = devices.iter().map(|device| device.id.clone()).collect();
    let release = |digest, version: &str, counter| -> Result<ReleaseFacts> {
        Ok(ReleaseFacts { digest, version: Version::new(version)?, counter, bytes: 5 << 20 })
    };
    Ok(Input {
        now_s: NOW_S,
        listening_since_s: Some(0),
        devices,
        rollouts: vec![RolloutFacts {
            id: 1,
            spec: spec.checked()?,
            state: RolloutState::Running { phase: 0 },
            members: Some(Arc::new(members)),
            deployments: BTreeMap::new(),
            looks: Default::default(),
            evidence: None,
        }],
        releases: vec![release(old, "v1", 1)?, release(new, "v2", 2)?],
        known_bad: Vec::new(),
    })
}
