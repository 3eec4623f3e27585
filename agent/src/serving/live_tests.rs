//! A swap drops no request, and no answer mixes two releases: fakes first, then the real engine
//! with the real models.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fleetway_engine::load::load;
use fleetway_engine::npz::read_npz;
use fleetway_engine::{Engine, ModelBytes, Tensor};
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{Authority, Context, Envelope, PublicKey, sign};
use fleetway_protocol::ids::{Digest, Version};
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX, MODELS_PER_DEVICE_MAX};
use fleetway_protocol::manifest::{Artifact, GoldenRule, Manifest, Variant, VariantKind};
use fleetway_protocol::trust::{Keyring, Verified, VerifiedArtifact};
use serde_json::{Value, json};

use super::live::{Loaded, Models, TooManyModels};
use super::testing::*;

const SWAPS: usize = 100;
const CLIENTS: usize = 6;

/// The request with this number, and what its answer must be.
type Ask = dyn Fn(usize) -> Value + Send + Sync;
type Check = dyn Fn(usize, &Value) + Send + Sync;

/// Clients ask without pause while the engine is swapped a hundred times; `check` looks at every
/// answer. Returns the number of answers.
async fn swap_under_load(
    site: &Site,
    mut next: impl FnMut(usize) -> Loaded,
    ask: Arc<Ask>,
    check: Arc<Check>,
) -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (mut client, stop, answered) = (site.client().await, stop.clone(), answered.clone());
        let (ask, check) = (ask.clone(), check.clone());
        clients.spawn(async move {
            let mut at = number;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.infer(&ask(at)).await;
                assert_eq!(answer.status, 200, "{}", answer.json);
                check(at, &answer.json);
                answered.fetch_add(1, Ordering::Relaxed);
                at += 1;
            }
        });
    }
    let mut old: Vec<Weak<Loaded>> = Vec::new();
    for swap in 0..SWAPS {
        let before = answered.load(Ordering::Relaxed);
        // At least one answer between two swaps, and swaps in the middle of runs.
        while answered.load(Ordering::Relaxed) == before {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        old.extend(site.live.swap(Some(next(swap))).as_ref().map(Arc::downgrade));
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("no client failed");
    }
    assert_eq!(old.len(), SWAPS);
    let kept = || old.iter().filter(|loaded| loaded.strong_count() > 0).count();
    for _ in 0..100 {
        if kept() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(kept(), 0, "an old engine goes with its last request");
    answered.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_swaps_drop_no_request() {
    let release = |n: u8| {
        let engine = Fake::with_x(move |x| {
            // Long enough to be swapped out in the middle.
            std::thread::sleep(Duration::from_micros(300));
            x.iter().map(|v| v * f32::from(n)).collect()
        });
        loaded(engine, n)
    };
    let site = Site::with(None, super::limits::Limits::default(), 4).await;
    site.live.swap(Some(release(1)));
    let check = |at: usize, answer: &Value| {
        let y = answer["outputs"][0]["data"][0].as_f64().expect("a number");
        let n = (y / (at % 50 + 1) as f64) as u8;
        assert_eq!(answer["model_version"], format!("v{n}"), "{answer}");
        assert_eq!(answer["parameters"]["release"], digest(n).to_string());
        assert_eq!(answer["parameters"]["slot"], if n.is_multiple_of(2) { "b" } else { "a" });
    };
    let ask = |at: usize| x([(at % 50 + 1) as f32; 3]);
    let next = |swap: usize| release((swap % 100 + 2) as u8);
    let answers = swap_under_load(&site, next, Arc::new(ask), Arc::new(check)).await;
    assert!(answers >= SWAPS as u64);
    assert_eq!(site.live.recorder().snapshot().unwrap().counters.errors, 0);
}

/// A manifest over `bytes`, signed and admitted as at a boot.
fn verified(bytes: &[u8], version: &str) -> Verified<Manifest> {
    let artifact = |bytes: &[u8]| Artifact {
        digest: Digest::of(bytes),
        bytes: bytes.len() as u32,
        chunk_bytes: 4096,
        chunk_list: Digest([0; 32]),
    };
    let variant =
        Variant { kind: VariantKind::Onnx, model: artifact(bytes), golden: artifact(b"none") };
    let manifest = Manifest {
        model: model("m"),
        version: Version::new(version).unwrap(),
        counter: 1,
        min_release: 0,
        variants: [variant].into_iter().collect(),
        golden: GoldenRule { abs_err_max: 0.1, same_top1: true },
        golden_mismatch_accepted: None,
        attestations: Default::default(),
        hardware: Default::default(),
        health: Default::default(),
    };
    let (mut payload, mut sealed) = ([0; MANIFEST_BYTES_MAX], [0; ENVELOPE_BYTES_MAX]);
    let payload = codec::encode(&manifest, &mut payload).unwrap();
    let mut envelope = Envelope::new(payload);
    envelope.push(sign(&(&[7; 32]).into(), Context::Manifest, payload)).unwrap();
    let authority = Authority::new(&[PublicKey::of(&(&[7; 32]).into())], 1).unwrap();
    let keyring = Keyring { release: authority.clone().into(), director: authority };
    let sealed = envelope.encode(&mut sealed).unwrap();
    Verified::<Manifest>::recheck(sealed, &keyring, &Digest::of(payload)).unwrap()
}

fn digits(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/digits");
    std::fs::read(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn tract(name: &str) -> (Arc<dyn Engine>, Digest) {
    let bytes = digits(&format!("digits-{name}.onnx"));
    let manifest = verified(&bytes, name);
    let pick = |m: &Manifest| m.variant(VariantKind::Onnx).map(|v| v.model);
    let bytes = ModelBytes::from(bytes);
    let artifact = VerifiedArtifact::check(&bytes, &manifest, pick).unwrap();
    (load(VariantKind::Onnx, &artifact, bytes.clone()).unwrap(), manifest.digest())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_swaps_of_real_models_drop_no_request() {
    const IMAGES: usize = 40;
    let arrays = read_npz(&digits("heldout.npz")).unwrap();
    let (_, images) = arrays.iter().find(|(name, _)| name == "images").unwrap();
    let images: Vec<Tensor> = (0..IMAGES).map(|at| images.row(at).unwrap()).collect();
    let engines = [tract("v1"), tract("v2")];
    let expected: Vec<(String, Vec<Vec<f32>>)> = engines
        .iter()
        .map(|(engine, release)| {
            let run = |image: &Tensor| engine.run(std::slice::from_ref(image)).unwrap();
            let scores = images.iter().map(|image| run(image)[0].as_f32().unwrap().to_vec());
            (release.to_string(), scores.collect())
        })
        .collect();
    assert_ne!(expected[0].1, expected[1].1);
    let next = move |swap: usize| {
        let (engine, release) = engines[swap % 2].clone();
        let version = ["v1", "v2"][swap % 2];
        let place = fleetway_protocol::slot::Place::Factory;
        Loaded::new(engine, model("m"), version, release, place, 0)
    };
    let site = Site::with(None, super::limits::Limits::default(), 2).await;
    site.live.swap(Some(next(1)));
    let pixels: Vec<Value> = images.iter().map(|image| json!(image.as_f32())).collect();
    let ask = move |at: usize| {
        let data = &pixels[at % IMAGES];
        let shape = [1, 1, 8, 8];
        json!({"inputs": [{"name": "image", "datatype": "FP32", "shape": shape, "data": data}]})
    };
    let check = move |at: usize, answer: &Value| {
        let release = answer["parameters"]["release"].as_str().expect("a release");
        let (_, scores) = expected.iter().find(|(r, _)| r == release).expect("one of ours");
        let data = answer["outputs"][0]["data"].as_array().expect("scores");
        let got: Vec<f32> = data.iter().map(|v| v.as_f64().expect("a number") as f32).collect();
        assert_eq!(got, scores[at % IMAGES], "the answer is the named release's");
    };
    swap_under_load(&site, next, Arc::new(ask), Arc::new(check)).await;
    let counts = site.live.recorder().snapshot().unwrap().counters;
    let classes: u32 = counts.classes.iter().sum();
    assert_eq!((counts.errors, u64::from(classes)), (0, counts.requests));
}

#[test]
fn a_device_has_room_for_so_many_models() {
    let models = Models::new();
    for n in 0..MODELS_PER_DEVICE_MAX {
        models.add(&model(&format!("m{n}"))).unwrap();
    }
    let first = models.add(&model("m0")).expect("known");
    assert!(Arc::ptr_eq(&first, &models.get("m0").unwrap()));
    let one_more = model("one-more");
    assert_eq!(models.add(&one_more).err(), Some(TooManyModels(one_more.clone())));
    models.remove(&model("m0"));
    assert!(models.add(&one_more).is_ok() && models.get("../m1").is_none());
    assert_eq!(models.list().len(), MODELS_PER_DEVICE_MAX);
}
