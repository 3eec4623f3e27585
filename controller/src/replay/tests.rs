//! What was decided is decided again, and whatever is changed in a file is found.

use fleetway_protocol::ids::{DeviceId, Digest, ModelName, Version};

use super::*;
use crate::planner::{
    DeviceFacts, ReleaseFacts, RolloutFacts, RolloutSpec, RolloutState, Selector, Verdict, apply,
};

fn device(n: usize) -> DeviceFacts {
    DeviceFacts {
        id: DeviceId::new(&format!("cam-{n:02}")).unwrap(),
        labels: Default::default(),
        hardware: None,
        online: true,
        heard_s: Some(1_000),
        models: Default::default(),
    }
}

fn input(devices: usize) -> Input {
    let name = ModelName::new("digits").unwrap();
    let mut spec =
        RolloutSpec::new(name, Digest::of(b"v2"), Version::new("v2").unwrap(), Selector::all());
    // Nobody counts here what gates would look at.
    spec.gates.clear();
    let digest = spec.release;
    let rollout = RolloutFacts {
        id: 7,
        spec: spec.checked().unwrap(),
        state: RolloutState::Running { phase: 0 },
        members: None,
        deployments: Default::default(),
        looks: Default::default(),
        evidence: None,
    };
    Input {
        now_s: 1_000,
        listening_since_s: Some(0),
        devices: (0..devices).map(device).collect(),
        rollouts: vec![rollout],
        releases: vec![ReleaseFacts {
            digest,
            version: Version::new("v2").unwrap(),
            counter: 1,
            bytes: 1_000,
        }],
        known_bad: Vec::new(),
    }
}

/// A rollout from its start to its end, with devices that come and go, written to a directory.
fn story(data: &Path, seed: u64, ticks: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = input(12);
    let mut journal = Journal::open(data).unwrap();
    let mut orders = 0;
    for _ in 0..ticks {
        world.now_s += random.u64(1..200);
        live(&mut world, &mut random);
        let plan = plan(&world);
        orders += plan.orders.len() as u64;
        journal.note(world.clone(), &plan).unwrap();
        apply(&mut world, &plan);
    }
    orders
}

fn live(world: &mut Input, random: &mut fastrand::Rng) {
    let now_s = world.now_s;
    for device in &mut world.devices {
        device.online = random.u8(..10) > 0;
        if device.online {
            device.heard_s = Some(now_s);
        }
    }
    if random.u8(..20) == 0 && !world.devices.is_empty() {
        world.devices.remove(random.usize(..world.devices.len()));
    }
    for deployment in world.rollouts[0].deployments.values_mut().filter(|d| d.verdict.is_none()) {
        if random.bool() {
            (deployment.verdict, deployment.verdict_s) = (Some(Verdict::Confirmed), now_s);
        }
    }
}

#[test]
fn decisions_come_out_the_same_byte_for_byte() {
    for seed in 0..20 {
        let data = tempfile::tempdir().unwrap();
        let mut orders = story(data.path(), seed, 120);
        // Another run of the controller.
        orders += story(data.path(), seed + 1_000, 30);
        let found = replay(&dir(data.path())).unwrap();
        assert_eq!((found.decisions, found.files, found.lost), (150, 2, 0), "seed {seed}");
        assert_eq!(found.orders, orders, "seed {seed}");
        assert!(orders > 5 && found.acted > 3, "seed {seed}: nothing happened");
    }
}

/// Every single byte of a small journal, flipped: found, and named.
#[test]
fn every_flipped_byte_is_found() {
    let data = tempfile::tempdir().unwrap();
    story(data.path(), 1, 12);
    let path = files(&dir(data.path())).unwrap().remove(0);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        let error = replay(&path).expect_err(&format!("byte {at} went unnoticed"));
        assert!(
            matches!(error, ReplayError::Damaged { .. } | ReplayError::Foreign { .. }),
            "{error}"
        );
    }
}

/// Somebody who knows the format changes what was decided, checksums and all.
#[test]
fn a_decision_that_is_not_the_planners_is_named() {
    let data = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(data.path()).unwrap();
    let world = input(12);
    let mut forged = plan(&world);
    journal.note(world.clone(), &forged).unwrap();
    forged.orders[0].device = DeviceId::new("cam-99").unwrap();
    journal.note(world, &forged).unwrap();
    let error = replay(&dir(data.path())).unwrap_err();
    assert!(matches!(error, ReplayError::Differs { number: 2, .. }), "{error}");
    assert!(error.to_string().contains("cam-99"), "{error}");
}

#[test]
fn a_cut_end_is_said_and_no_difference() {
    let data = tempfile::tempdir().unwrap();
    story(data.path(), 1, 12);
    let path = files(&dir(data.path())).unwrap().remove(0);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let found = replay(&path).unwrap();
    assert_eq!(found.decisions, 11);
    assert!(found.torn_bytes > 0);
    std::fs::write(&path, b"something else").unwrap();
    assert!(matches!(replay(&path), Err(ReplayError::Foreign { .. })));
}

/// A disk that fails for a while: counted, told, and the rest replays.
#[test]
fn what_could_not_be_written_is_counted() {
    let data = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(data.path()).unwrap();
    let world = input(5);
    let plan = plan(&world);
    journal.note(world.clone(), &plan).unwrap();
    // The next one needs a new file, and there is no directory for it.
    journal.bytes = u64::MAX;
    std::fs::remove_dir_all(dir(data.path())).unwrap();
    assert!(journal.note(world.clone(), &plan).is_err());
    std::fs::create_dir_all(dir(data.path())).unwrap();
    journal.note(world, &plan).unwrap();
    let found = replay(&dir(data.path())).unwrap();
    assert_eq!((found.decisions, found.lost), (1, 1));
}
