//! Ten thousand devices: every view is cut into pages. How long one takes: `cargo xtask bench pages`.

use std::sync::Arc;

use askama::Template;
use ed25519_dalek::SigningKey;
use fleetway_controller::fleet::{By, Fleet};
use fleetway_controller::planner::{Labels, RolloutSpec, Selector};
use fleetway_controller::store::MemStore;
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{Authority, Context, Envelope, PublicKey, sign};
use fleetway_protocol::ids::{DeviceId, Digest, ModelName, RolloutId, Version};
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::manifest::{Artifact, GoldenRule, Manifest, Variant, VariantKind};
use fleetway_protocol::report::{Progress, Stamp, State};

use super::page::Page;
use super::{devices, overview, rollout};

const DEVICES: usize = 10_000;
const NOW_S: u64 = 1_800_000_000;
fn manifest() -> Manifest {
    let (digest, chunk_list) = (Digest::of(b"v1"), Digest([1; 32]));
    let artifact = Artifact { digest, bytes: 1000, chunk_bytes: 256, chunk_list };
    let mut variants = heapless::Vec::new();
    variants.push(Variant { kind: VariantKind::Onnx, model: artifact, golden: artifact }).unwrap();
    Manifest {
        model: ModelName::new("digits").unwrap(),
        version: Version::new("v1").unwrap(),
        counter: 1,
        min_release: 0,
        variants,
        golden: GoldenRule { abs_err_max: 0.1, same_top1: true },
        golden_mismatch_accepted: None,
        attestations: Default::default(),
        hardware: Default::default(),
        health: Default::default(),
    }
}

fn publish(fleet: &mut Fleet, key: &SigningKey) -> Digest {
    let mut buf = [0; MANIFEST_BYTES_MAX];
    let payload = codec::encode(&manifest(), &mut buf).unwrap();
    let mut envelope = Envelope::new(payload);
    envelope.push(sign(key, Context::Manifest, payload)).unwrap();
    let envelope = envelope.encode(&mut [0; ENVELOPE_BYTES_MAX]).unwrap().to_vec();
    fleet.publish_release(By { who: "ann", now_s: NOW_S }, &envelope).unwrap()
}

fn state(running: Digest) -> State {
    State {
        stamp: Stamp { epoch: 1, seq: 1 },
        generation: 0,
        running: Some(running),
        phase: Phase::Idle,
        target: None,
        progress: Progress::default(),
        waiting: None,
        held: None,
        shadow: None,
        last: None,
        floor: 0,
        poisoned: 0,
        poison_dropped: 0,
    }
}

/// A fleet with a rollout under way.
fn fleet() -> (Fleet, RolloutId) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let authority = Authority::new(&[PublicKey::of(&key)], 1).unwrap();
    let mut fleet = Fleet::open(Arc::new(MemStore::new()), authority, NOW_S).unwrap();
    let by = By { who: "ann", now_s: NOW_S };
    let release = publish(&mut fleet, &key);
    let model = ModelName::new("digits").unwrap();
    for n in 0..DEVICES {
        let id = DeviceId::new(&format!("cam-{n:05}")).unwrap();
        let labels = Labels::from([("site".to_owned(), format!("s{}", n % 40))]);
        fleet.add_device(by, &id, &labels).unwrap();
        if n % 10 != 0 {
            fleet.handle_state(NOW_S, &id, &model, &state(release)).unwrap();
        }
    }
    let all = Selector::all();
    let spec = RolloutSpec::new(model, release, Version::new("v1").unwrap(), all);
    let id = fleet.start_rollout(by, &spec).unwrap();
    fleet.tick(NOW_S).unwrap();
    (fleet, id)
}

#[test]
fn ten_thousand_devices_stay_usable() {
    let (fleet, id) = fleet();
    let page = || Page::of_test(NOW_S);
    let link = Default::default();
    let text = overview::view(&fleet, NOW_S, page(), &link, 0, None).render().unwrap();
    assert!(text.contains("0 of 10\u{202f}000 devices online"), "{text}");
    let list = |q: &str, at| {
        let filter = devices::Filter { q: q.to_owned(), page: at, ..devices::Filter::default() };
        devices::view(&fleet, page(), filter).render().unwrap()
    };
    let text = list("", 1);
    assert!(text.contains("cam-00049") && !text.contains("cam-00050"));
    assert!(text.contains("Page 1 of 200"));
    assert!(list("", 200).contains("cam-09999"));
    assert!(list("site=s7", 2).contains("Page 2 of 5"));
    let shown = rollout::shown(&fleet, NOW_S, id, page(), rollout::Filter::default());
    let text = shown.unwrap().render().unwrap();
    assert!(text.contains("<code>ALREADY_RUNS</code>") || text.contains("confirmed"), "{text}");
}

/// Whatever the class attribute or the text: what others wrote is text.
#[test]
fn a_selector_cannot_become_markup() {
    let (fleet, hostile) = (fleet().0, "\"><script>alert(1)</script>");
    let filter = devices::Filter { q: hostile.to_owned(), ..devices::Filter::default() };
    let text = devices::view(&fleet, Page::of_test(NOW_S), filter).render().unwrap();
    assert!(text.contains("&#60;script&#62;") && !text.contains("<script>alert"), "{text}");
}
