//! What import makes of int8 models, run by the real child and the real engine.

use std::path::Path;

use ed25519_dalek::SigningKey;
use fleetway_engine::load::{FORMS, LoadError, load};
use fleetway_engine::selftest::{Candidate, SelfTest, SelfTestError};
use fleetway_engine::{GoldenRule, GoldenSet, ModelBytes};
use fleetway_protocol::envelope::{Authority, PublicKey};
use fleetway_protocol::ids::HardwareClass;
use fleetway_protocol::manifest::{Manifest, VariantKind};
use fleetway_protocol::trust::{Keyring, Verified, VerifiedArtifact};

use super::fit::{Classes, Room, tests::PLENTY};
use super::forms::names;
use super::oci::carry::Carried;
use super::tests::{child, model, request, version};
use super::{Catalog, CatalogError, CatalogRelease, ImportReport, ImportRequest};
use crate::trust::brought::Files;
use crate::trust::signer::PlainFile;

fn imported(data: &Path, name: &str, compile: bool) -> ImportReport {
    let request = ImportRequest { compile, ..request(name, &child()) };
    Catalog::open(data).import(&request).unwrap()
}

fn kinds(release: &CatalogRelease) -> Vec<VariantKind> {
    release.manifest.variants.iter().map(|variant| variant.kind).collect()
}

fn read(release: &CatalogRelease, name: &str) -> Vec<u8> {
    std::fs::read(release.dir.join(name)).unwrap()
}

/// The release as a device has it: signed, admitted.
fn admitted(data: &Path) -> Verified<Manifest> {
    let key = SigningKey::from_bytes(&[1; 32]);
    let signer = PlainFile::from(key.clone());
    let signed = Catalog::open(data).sign(&model(), &version("v2"), &signer).unwrap();
    let authority = Authority::new(&[PublicKey::of(&key)], 1).unwrap();
    let keyring = Keyring { release: authority.clone().into(), director: authority };
    Verified::<Manifest>::recheck(&signed.envelope.unwrap(), &keyring, &signed.digest).unwrap()
}

#[test]
fn an_int8_model_comes_compiled_and_is_held_to_the_bit() {
    let data = tempfile::tempdir().unwrap();
    let report = imported(data.path(), "v2", true);
    assert_eq!(kinds(&report.release), [VariantKind::Onnx, VariantKind::Qnn]);
    assert!(report.notes[0].starts_with("compiled: "), "{:?}", report.notes);
    let names = names(VariantKind::Qnn);
    let (model, golden) = (read(&report.release, names.model), read(&report.release, names.golden));
    let test = SelfTest::with_exe(child());
    let exact = GoldenRule::of(&report.release.manifest, VariantKind::Qnn);
    let candidate = |bytes| Candidate { kind: VariantKind::Qnn, bytes };
    let passed = test.run(candidate(&model), &golden, exact).unwrap();
    assert_eq!((passed.engine.as_str(), passed.golden.worst_abs_err), ("qnn", 0.0));
    // The last bit of the last answer.
    let mut other = golden.clone();
    *other.iter_mut().rev().nth(3).unwrap() ^= 1;
    assert_ne!(GoldenSet::decode(&other).unwrap(), GoldenSet::decode(&golden).unwrap());
    let error = test.run(candidate(&model), &other, exact).unwrap_err();
    assert!(matches!(error, SelfTestError::Golden { .. }), "{error}");
    let error = test.run(candidate(&model[..model.len() - 1]), &golden, exact).unwrap_err();
    assert!(matches!(error, SelfTestError::Load { .. }), "{error}");
    // An ONNX file under the other name is no compiled network, and the other way round.
    let onnx = read(&report.release, "model.onnx");
    assert!(test.run(candidate(&onnx), &golden, exact).is_err());
    assert!(test.run(Candidate::onnx(&model), &golden, exact).is_err());
}

#[test]
fn an_engine_takes_the_bytes_that_were_verified_and_answers_from_many_threads() {
    let data = tempfile::tempdir().unwrap();
    let release = imported(data.path(), "v2", true).release;
    let manifest = admitted(data.path());
    let kind = manifest.get().best(FORMS).unwrap();
    assert_eq!(kind, VariantKind::Qnn);
    let path = release.dir.join(names(kind).model);
    let mapped = ModelBytes::map(&std::fs::File::open(&path).unwrap()).unwrap();
    let pick = |m: &Manifest| m.variant(kind).map(|variant| variant.model);
    let proof = VerifiedArtifact::check(&mapped, &manifest, pick).unwrap();
    let copy = ModelBytes::from(mapped.to_vec());
    assert_eq!(load(kind, &proof, copy).map(drop), Err(LoadError::OtherBytes));
    let engine = load(kind, &proof, mapped.clone()).unwrap();
    let golden = GoldenSet::decode(&read(&release, names(kind).golden)).unwrap();
    std::thread::scope(|scope| {
        for from in 0..6 {
            let (engine, golden) = (&engine, &golden);
            scope.spawn(move || {
                for at in (0..golden.vectors().len()).cycle().skip(from).take(200) {
                    let vector = &golden.vectors()[at];
                    assert_eq!(engine.run(&vector.inputs).unwrap(), vector.outputs);
                }
            });
        }
    });
    let error = engine.run(&[]).unwrap_err();
    assert!(error.is_callers(), "{error}");
}

#[test]
fn a_graph_that_is_int8_in_parts_comes_with_its_parts_compiled() {
    let data = tempfile::tempdir().unwrap();
    let report = imported(data.path(), "whole", true);
    assert_eq!(kinds(&report.release), [VariantKind::Onnx, VariantKind::Mixed]);
    assert!(report.notes[0].starts_with("compiled in part: "), "{:?}", report.notes);
    let manifest = &report.release.manifest;
    assert_eq!(manifest.variants[0].golden, manifest.variants[1].golden);
    let mixed = read(&report.release, names(VariantKind::Mixed).model);
    let golden = read(&report.release, "golden.bin");
    let candidate = Candidate { kind: VariantKind::Mixed, bytes: &mixed };
    let rule = GoldenRule::of(manifest, VariantKind::Mixed);
    let passed = SelfTest::with_exe(child()).run(candidate, &golden, rule).unwrap();
    assert_eq!(passed.engine, "tract");
    // A byte of the network inside: refused before tract sees it.
    let at = mixed.windows(8).position(|bytes| bytes == &fleetway_qnn::format::MAGIC[..]).unwrap();
    let mut spoiled = mixed.clone();
    spoiled[at + 12] ^= 0x80;
    let candidate = Candidate { kind: VariantKind::Mixed, bytes: &spoiled };
    let error = SelfTest::with_exe(child()).run(candidate, &golden, rule).unwrap_err();
    assert!(matches!(error, SelfTestError::Refused { .. }), "{error}");
}

/// Digits v2 takes 64 numbers and gives 10; a class with room for 9 of them is named, or not.
#[test]
fn what_a_class_has_no_room_for_is_not_made_for_it_nor_signed() {
    let data = tempfile::tempdir().unwrap();
    let room = |output_values| Room { output_values, ..PLENTY };
    let class = |name: &str| HardwareClass::new(name).unwrap();
    let classes = |output_values| {
        Classes::from([(class("small"), room(output_values)), (class("large"), PLENTY)])
    };
    let plain = ImportRequest { classes: classes(9), ..request("v2", &child()) };
    let named = |name: &str, compile| {
        let hardware = vec![class(name)];
        Catalog::open(data.path()).import(&ImportRequest { hardware, compile, ..plain.clone() })
    };
    let refused = |name: &str, compile, expected: &str| {
        let error = named(name, compile).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(matches!(error, CatalogError::Unfit { .. }), "{error}");
    };
    refused(
        "small",
        true,
        "digits v2 does not fit small: output 10 of 9 numbers (1 too many); make",
    );
    refused(
        "large",
        false,
        "digits v2 does not fit large: it has no qnn form, and microcontrollers",
    );
    // A machine that nothing was written of has room; and a release for any is told of.
    let pi5 = named("pi5", false).unwrap();
    assert_eq!(pi5.fits, []);
    assert!(pi5.notes.iter().any(|note| note.contains("[hardware.pi5]")), "{:?}", pi5.notes);
    let catalog = Catalog::open(data.path());
    let report = catalog.import(&ImportRequest { version: version("any"), ..plain.clone() });
    let fits: Vec<_> =
        report.unwrap().fits.iter().map(|fit| (fit.class.clone(), fit.fits)).collect();
    assert_eq!(fits, [("large".into(), true), ("small".into(), false)]);
    // The class turns out to have less than when it was imported.
    let (version, hardware) = (version("late"), vec![class("small")]);
    let request = ImportRequest { classes: classes(10), version, hardware, ..plain };
    let release = catalog.import(&request).unwrap().release;
    assert!(catalog.fits(&release, &classes(10)).unwrap()[0].fits);
    let error = catalog.fits(&release, &classes(9)).unwrap_err();
    assert!(matches!(error, CatalogError::Unfit { .. }), "{error}");
    // Or another place released it, which knew other boards.
    let carried = Carried::read(&catalog.pack(&release, &Files::new()).unwrap()).unwrap();
    assert!(carried.fits(&classes(10)).unwrap()[0].fits);
    let error = carried.fits(&classes(9)).unwrap_err();
    assert!(error.to_string().contains("output 10 of 9 numbers (1 too many)"), "{error}");
}

#[test]
fn who_wants_the_onnx_file_alone_gets_it_alone() {
    let data = tempfile::tempdir().unwrap();
    let report = imported(data.path(), "v2", false);
    assert_eq!(kinds(&report.release), [VariantKind::Onnx]);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}
