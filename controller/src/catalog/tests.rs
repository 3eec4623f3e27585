//! What is imported, signed and given out is checked each time it is read: a release that rots
//! on the operator's disk must not reach a device. The last test imports real models with the
//! engine's child: their golden vectors decide, unless the operator gives a reason.

use std::fs;
use std::path::Path;

use ed25519_dalek::SigningKey;
use fleetway_protocol::envelope::{Authority, PublicKey};
use fleetway_protocol::manifest::GoldenRule;

use super::*;
use crate::ErrorKind;
use crate::trust::signer::PlainFile;

pub(super) fn model() -> ModelName {
    ModelName::new("digits").unwrap()
}

pub(super) fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

/// A request for one of the digits models. The self-test's child is this crate's own test
/// binary's neighbour, so these tests run only where it was built.
pub(super) fn request(name: &str, exe: &Path) -> ImportRequest {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/digits");
    ImportRequest {
        attestation: None,
        model: model(),
        version: version(name),
        onnx: given(&dir.join(format!("digits-{name}.onnx"))),
        papers: Papers::default(),
        golden_npz: given(&dir.join(format!("digits-{name}.golden.npz"))),
        rule: GoldenRule { abs_err_max: 0.5, same_top1: true },
        chunk_bytes: Some(4096),
        compile: true,
        counter: None,
        min_release: None,
        hardware: Vec::new(),
        classes: fit::Classes::new(),
        health: HealthRequest::default(),
        highest_published: None,
        accept_golden_mismatch: None,
        self_test_exe: exe.to_owned(),
        self_test_ms_max: 60_000,
        self_test_mib_max: 512,
    }
}

fn given(path: &Path) -> Given {
    Given::read(path, 1 << 20).unwrap()
}

/// `fleetway-engine-child` in the target directory.
pub(super) fn child() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let child = exe.parent().unwrap().parent().unwrap().join("fleetway-engine-child");
    assert!(child.exists(), "build it first, as `cargo xtask test` does: cargo build --workspace");
    child
}

/// A release as an import would leave it, without the engine.
pub(super) fn put(data: &Path, name: &str, counter: Counter) -> Catalog {
    let catalog = Catalog::open(data);
    let bytes = vec![counter as u8; 10_000];
    let (artifact, chunks) = import::artifact_of(&bytes, 4096).unwrap();
    let mut variants = heapless::Vec::new();
    let kind = fleetway_protocol::manifest::VariantKind::Onnx;
    variants
        .push(fleetway_protocol::manifest::Variant { kind, model: artifact, golden: artifact })
        .unwrap();
    let manifest = Manifest {
        model: model(),
        version: version(name),
        counter,
        min_release: 0,
        variants,
        golden: GoldenRule { abs_err_max: 0.5, same_top1: true },
        golden_mismatch_accepted: None,
        attestations: Default::default(),
        hardware: Default::default(),
        health: Default::default(),
    };
    let mut buf = [0; MANIFEST_BYTES_MAX];
    let encoded = codec::encode(&manifest, &mut buf).unwrap();
    let files: [(&str, &[u8]); 5] = [
        ("model.onnx", &bytes),
        ("golden.bin", &bytes),
        ("model.chunks", &chunks),
        ("golden.chunks", &chunks),
        (MANIFEST, encoded),
    ];
    catalog.put_into_place(&model(), &version(name), &files).unwrap();
    catalog
}

#[test]
fn a_release_reads_back_is_signed_and_opens() {
    let data = tempfile::tempdir().unwrap();
    let catalog = put(data.path(), "v1", 1);
    let release = catalog.load(&model(), &version("v1")).unwrap();
    assert_eq!(release.envelope, None);
    let keys = [SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32])];
    for key in &keys {
        catalog.sign(&model(), &version("v1"), &PlainFile::from(key.clone())).unwrap();
    }
    let signed = catalog.load(&model(), &version("v1")).unwrap();
    assert_eq!(signed.digest, release.digest);
    let bytes = signed.envelope.unwrap();
    let envelope = Envelope::decode(&bytes).unwrap();
    let authority = Authority::new(&keys.map(|k| PublicKey::of(&k)), 2).unwrap();
    let payload = envelope.open(&authority, Context::Manifest).unwrap();
    assert_eq!(Digest::of(payload), release.digest);
    assert_eq!(catalog.list().unwrap().len(), 1);
}

#[test]
fn chunks_are_checked_before_they_are_given_out() {
    let data = tempfile::tempdir().unwrap();
    let catalog = put(data.path(), "v1", 1);
    let release = catalog.load(&model(), &version("v1")).unwrap();
    let files = catalog.artifacts(&release).unwrap();
    assert_eq!(files.len(), 2);
    let lens: Vec<_> =
        (0..4).map(|n| Catalog::read_chunk(&files[0], n).unwrap().map(|c| c.len())).collect();
    assert_eq!(lens, [Some(4096), Some(4096), Some(1808), None]);
    let mut bytes = fs::read(&files[0].path).unwrap();
    bytes[5000] ^= 1;
    fs::write(&files[0].path, bytes).unwrap();
    assert!(Catalog::read_chunk(&files[0], 0).unwrap().is_some());
    let error = Catalog::read_chunk(&files[0], 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Trust);
    fs::write(release.dir.join("golden.chunks"), [0; 96]).unwrap();
    assert_eq!(catalog.artifacts(&release).unwrap_err().kind(), ErrorKind::Trust);
}

/// Eight samples tell nothing from chance, and nothing is left of the attempt.
#[test]
fn a_reference_must_be_large_enough() {
    let (data, exe) = (tempfile::tempdir().unwrap(), child());
    let catalog = Catalog::open(data.path());
    let plain = request("v1", &exe);
    let few =
        HealthRequest { reference: Some(plain.golden_npz.path.clone()), ..plain.health.clone() };
    let error = catalog.import(&ImportRequest { health: few, ..plain.clone() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("8 samples, at least 300"), "{error}");
    let watch = Some(vec![WatchName::Mean("image".into())]);
    let nothing = HealthRequest { watch, ..plain.health.clone() };
    let error = catalog.import(&ImportRequest { health: nothing, ..plain.clone() }).unwrap_err();
    assert!(error.to_string().contains("--reference"), "{error}");
    assert!(catalog.list().unwrap().is_empty());
    // Without either: the scores are known from the golden vectors.
    let report = catalog.import(&plain).unwrap();
    let health = report.release.manifest.health;
    assert_eq!(health.scores, Some(fleetway_protocol::counters::Scores::Logits));
    assert!(health.reference.watched.is_empty());
    assert!(report.notes.iter().all(|note| note.starts_with("compiled: ")), "{:?}", report.notes);
}

#[test]
fn what_is_missing_or_damaged_is_told() {
    let data = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(data.path());
    assert_eq!(catalog.list().unwrap(), []);
    assert_eq!(catalog.load(&model(), &version("v1")).unwrap_err().kind(), ErrorKind::NotFound);
    let catalog = put(data.path(), "v1", 1);
    let dir = catalog.release_dir(&model(), &version("v1"));
    fs::write(dir.join(ENVELOPE), b"nonsense").unwrap();
    assert_eq!(catalog.load(&model(), &version("v1")).unwrap_err().kind(), ErrorKind::Trust);
    fs::remove_file(dir.join(ENVELOPE)).unwrap();
    fs::write(dir.join(MANIFEST), b"nonsense").unwrap();
    assert_eq!(catalog.load(&model(), &version("v1")).unwrap_err().kind(), ErrorKind::Trust);
}

#[test]
fn versions_never_leave_the_catalog() {
    let catalog = Catalog::open(Path::new("/data"));
    for text in ["..", ".", ".importing-v1", "v1"] {
        let dir = catalog.release_dir(&model(), &version(text));
        assert!(dir.starts_with("/data/catalog/digits"));
        assert!(!dir.file_name().unwrap().to_string_lossy().starts_with('.'), "{text}");
    }
}

#[test]
fn requests_that_cannot_be_are_refused_before_anything_runs() {
    let data = tempfile::tempdir().unwrap();
    let catalog = put(data.path(), "v1", 4);
    let never = Path::new("/nonexistent");
    let error = catalog.import(&request("v1", never)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("another version"), "{error}");
    let error =
        catalog.import(&ImportRequest { counter: Some(4), ..request("v2", never) }).unwrap_err();
    assert!(error.to_string().contains("use 5"), "{error}");
    let published =
        ImportRequest { counter: Some(7), highest_published: Some(9), ..request("v2", never) };
    assert!(catalog.import(&published).unwrap_err().to_string().contains("use 10"));
    let mut no_golden = request("v2", never);
    no_golden.golden_npz = no_golden.onnx.clone();
    assert_eq!(catalog.import(&no_golden).unwrap_err().kind(), ErrorKind::Usage);
    let chunky = ImportRequest { chunk_bytes: Some(1), ..request("v2", never) };
    assert_eq!(catalog.import(&chunky).unwrap_err().kind(), ErrorKind::Usage);
    let no_child = catalog.import(&request("v2", never)).unwrap_err();
    assert_eq!(no_child.kind(), ErrorKind::Unavailable, "{no_child}");
    assert_eq!(catalog.list().unwrap().len(), 1);
}

#[test]
fn golden_vectors_decide_and_a_reason_overrides_them() {
    let exe = child();
    let data = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(data.path());
    let report = catalog.import(&request("v1", &exe)).unwrap();
    assert!(report.golden_passed, "{}", report.golden);
    assert_eq!((report.release.manifest.counter, report.release.manifest.min_release), (1, 0));
    let report = catalog.import(&request("v2", &exe)).unwrap();
    assert_eq!((report.release.manifest.counter, report.release.manifest.min_release), (2, 1));
    let error = catalog.import(&request("v3", &exe)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Trust);
    assert!(error.to_string().contains("top-1 equal on 0 of 8"), "{error}");
    let reason = Note::new("demo of a bad release").unwrap();
    let accept =
        ImportRequest { accept_golden_mismatch: Some(reason.clone()), ..request("v3", &exe) };
    let report = catalog.import(&accept).unwrap();
    assert!(!report.golden_passed);
    assert_eq!(report.release.manifest.golden_mismatch_accepted, Some(reason));
    let loaded = catalog.load(&model(), &version("v3")).unwrap();
    assert_eq!(loaded, report.release);
    let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/digits/hostile");
    let onnx = given(&hostile.join("dims-huge.onnx"));
    let error = catalog.import(&ImportRequest { onnx, ..request("v4", &exe) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Trust, "{error}");
}

/// What stays with a release: the documents of its source, and its facts in the bill of materials.
#[test]
fn releases_are_compared_with_their_papers() {
    let (data, exe) = (tempfile::tempdir().unwrap(), child());
    let catalog = Catalog::open(data.path());
    let mut first = request("v1", &exe);
    first.papers.note("mlflow:run_id", "abc");
    let card = source::Document { name: "README.md".into(), bytes: b"# A card".to_vec() };
    first.papers.documents.push(card);
    let v1 = catalog.import(&first).unwrap().release;
    let v2 = catalog.import(&request("v2", &exe)).unwrap().release;
    assert_eq!(fs::read(v1.dir.join("documents/README.md")).unwrap(), b"# A card");
    let compare::Comparison { from, to, tensors } = catalog.compare(&v1, &v2).unwrap();
    assert_eq!((&from.inputs, &from.operators), (&to.inputs, &to.operators));
    assert_eq!(from.inputs, ["image: f32 [1, 1, 8, 8]"]);
    assert!(from.precision["int8"] > from.precision["float"], "{:?}", from.precision);
    assert_eq!(from.annotations["mlflow:run_id"], "abc");
    assert_eq!(from.documents["README.md"], Digest::of(b"# A card").to_string());
    assert!(to.annotations.is_empty() && to.documents.is_empty());
    // Two trainings of one network: every weight tensor has other values, and the same shape.
    assert!(tensors.added.is_empty() && tensors.removed.is_empty(), "{tensors:?}");
    assert!(!tensors.changed.is_empty() && tensors.changed_elements <= tensors.elements);
    assert!(tensors.changed_elements * 2 > tensors.elements, "{tensors:?}");
    let itself = catalog.compare(&v1, &v1).unwrap();
    assert_eq!((itself.tensors.changed_elements, itself.tensors.changed.len()), (0, 0));
    assert_eq!(itself.from, itself.to);
    fs::write(v2.dir.join("model.onnx"), b"rotten").unwrap();
    assert_eq!(catalog.compare(&v1, &v2).unwrap_err().kind(), ErrorKind::Trust);
}
