//! A release that travels, and what an attacker does to it on its way. (Whether it may run is asked in
//! `trust/brought.rs`; here it is whether the bytes are what was sent.)

use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::ErrorKind;
use crate::catalog::Catalog;
use crate::catalog::source::{self, Document, Papers};
use crate::catalog::tests::{child, model, put, request, version};
use crate::trust::brought::Files;
use crate::trust::signer::PlainFile;
use crate::trust::tests::{key, published};
use carry::{Carried, CarryError};

fn metadata() -> Files {
    published().files_for_devices().into_iter().collect()
}

/// A signed release as it would be exported, without the engine, and the file of it.
fn sent(data: &Path) -> (Artifact, Vec<u8>) {
    let catalog = put(data, "v1", 1);
    let signer: PlainFile = key(10);
    let release = catalog.sign(&model(), &version("v1"), &signer).unwrap();
    let artifact = catalog.pack(&release, &metadata()).unwrap();
    let mut file = Vec::new();
    archive::write(&artifact, "v1", &mut file).unwrap();
    (artifact, file)
}

fn take(file: &[u8]) -> Result<Carried, CarryError> {
    let (artifact, left_out) = archive::read(file)?;
    assert!(left_out.is_empty());
    Carried::read(&artifact)
}

#[test]
fn a_release_arrives_as_it_left() {
    let (home, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (artifact, file) = sent(home.path());
    let mut again = Vec::new();
    archive::write(&artifact, "v1", &mut again).unwrap();
    assert_eq!(file, again, "the same release is the same file");
    assert!(archive::is_archive(&file) && !archive::is_archive(b"ONNX"));
    let carried = take(&file).unwrap();
    assert_eq!(carried.metadata, metadata());
    let arrived = Catalog::open(site.path()).admit(&carried).unwrap();
    let left = Catalog::open(home.path()).load(&model(), &version("v1")).unwrap();
    assert_eq!((arrived.digest, &arrived.envelope), (left.digest, &left.envelope));
    for entry in fs::read_dir(&left.dir).unwrap() {
        let name = entry.unwrap().file_name();
        let [a, b] = [&left.dir, &arrived.dir].map(|dir| fs::read(dir.join(&name)).unwrap());
        assert!(a == b, "{}", name.display());
    }
    let twice = Catalog::open(site.path()).admit(&carried).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Conflict);
}

/// Papers travel too, and are held to what the manifest names.
#[test]
fn documents_arrive_and_none_is_exchanged() {
    let (home, exe) = (tempfile::tempdir().unwrap(), child());
    let mut request = request("v1", &exe);
    let card = Document { name: "README.md".into(), bytes: b"# A card".to_vec() };
    request.papers = Papers { documents: vec![card], annotations: Vec::new() };
    request.papers.note("huggingface:license", "apache-2.0");
    let catalog = Catalog::open(home.path());
    let release = catalog.import(&request).unwrap().release;
    let good = catalog.pack(&release, &metadata()).unwrap();
    let carried = Carried::read(&good).unwrap();
    let site = tempfile::tempdir().unwrap();
    let arrived = Catalog::open(site.path()).admit(&carried).unwrap();
    assert_eq!(fs::read(arrived.dir.join("documents/README.md")).unwrap(), b"# A card");
    let manifest = good.read().unwrap();
    let config = unpack::read_config(good.blob(&manifest.config).unwrap()).unwrap();
    let fact = |name| config.iter().find(|(known, _)| *known == name).unwrap().1.clone().unwrap();
    assert_eq!(
        [fact("licenses"), fact("precision"), fact("format")],
        ["apache-2.0", "int8", "onnx"]
    );
    // Consistent as an artifact, and not what was signed.
    let exchange = |name: &str, bytes: &[u8]| {
        let (mut manifest, mut blobs) = (good.read().unwrap(), good.blobs.clone());
        let layer = manifest.layers.iter_mut().find(|layer| layer.name() == Some(name)).unwrap();
        *layer = Descriptor::of(&layer.media_type, bytes).named(name);
        blobs.insert(Digest::of(bytes), bytes.to_vec());
        let manifest = serde_json::to_vec(&manifest).unwrap();
        Carried::read(&Artifact { manifest, blobs }).unwrap_err()
    };
    for name in ["README.md", "bom.cdx.json", "model.onnx", "golden.bin", "manifest.bin"] {
        let error = exchange(name, b"something else");
        assert!(matches!(error.kind(), ErrorKind::Trust | ErrorKind::Usage), "{name}: {error}");
    }
    let error = exchange("README.md", b"# Another card").to_string();
    assert!(error.contains("README.md is not what the bill of materials names"), "{error}");
}

/// A flipped byte anywhere, and an end anywhere: either it is refused, or nothing of it mattered.
#[test]
fn a_file_that_was_changed_or_cut_gives_the_same_release_or_none() {
    const STRIDE: usize = 61; // no multiple of a tar's block: every place of a header comes by
    let home = tempfile::tempdir().unwrap();
    let (_, file) = sent(home.path());
    let good = take(&file).unwrap();
    let mut refused = 0;
    for at in (0..file.len()).step_by(STRIDE) {
        let mut bent = file.clone();
        bent[at] ^= 0x41;
        match take(&bent) {
            Ok(carried) => assert_eq!(carried, good, "byte {at}"),
            Err(_) => refused += 1,
        }
        match take(&file[..at]) {
            Ok(carried) => assert_eq!(carried, good, "cut at {at}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let tried = file.len() / STRIDE;
    assert!(refused * 3 > tried, "{refused} of {tried}: content is most of the file");
    assert!(take(&[]).is_err() && take(&file[..1024]).is_err());
}

/// A tar with one entry before the good ones.
fn with_entry(file: &[u8], change: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o644);
    change(&mut header);
    header.set_cksum();
    [header.as_bytes().as_slice(), file].concat()
}

fn named(header: &mut tar::Header, name: &str) {
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
}

#[test]
fn files_that_would_leave_the_place_or_never_end_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let (_, file) = sent(home.path());
    let refused = |file: Vec<u8>, says: &str| {
        let error = take(&file).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(matches!(error.kind(), ErrorKind::Trust | ErrorKind::Usage), "{error}");
    };
    for name in ["../../etc/cron.d/x", "/etc/passwd", "blobs/sha256/../../x", "index.json/x"] {
        refused(with_entry(&file, |header| named(header, name)), "no plain file inside of it");
    }
    let kinds = [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Char,
        tar::EntryType::GNULongName,
        tar::EntryType::GNUSparse,
        tar::EntryType::XHeader,
    ];
    for kind in kinds {
        let entry = with_entry(&file, |header| {
            named(header, "index.json");
            header.set_entry_type(kind);
        });
        refused(entry, "no plain file");
    }
    let huge = |size| {
        with_entry(&file, |header| {
            named(header, "index.json");
            header.set_size(size);
        })
    };
    refused(huge(1 << 40), "bytes, which is all that is taken");
    refused(huge(FETCHED_BYTES_MAX), "cut");
    refused(with_entry(&file, |header| named(header, "index.json")), "twice");
    let many: Vec<u8> = (0..2 * LAYERS_MAX + 1)
        .flat_map(|_| {
            with_entry(&[], |header| {
                named(header, "blobs/");
                header.set_entry_type(tar::EntryType::Directory);
            })
        })
        .collect();
    refused([many, file.clone()].concat(), "256 entries");
    refused(vec![0; 4096], "named and not there");
}

#[test]
fn manifests_are_bounded_and_ours() {
    let descriptor = |size: u64| json!({ "mediaType": "x", "digest": format!("sha256:{}", "ab".repeat(32)), "size": size });
    let manifest = |layers: Vec<serde_json::Value>| {
        json!({ "schemaVersion": 2, "config": descriptor(2), "layers": layers }).to_string()
    };
    let refused = |text: &str, says: &str| {
        let error = Manifest::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    refused("{}", "missing field");
    refused(&manifest(vec![descriptor(1); LAYERS_MAX + 1]), "more than 128 layers");
    refused(
        &manifest(vec![json!({ "mediaType": "x", "digest": "md5:1", "size": 1 })]),
        "no SHA-256",
    );
    refused(r#"{"schemaVersion":1,"config":0,"layers":[]}"#, "invalid type");
    refused(r#"{"schemaVersion":2,"manifests":[]}"#, "index of several");
    refused(&" ".repeat(MANIFEST_BYTES_MAX as usize + 1), "bytes");
    let large = u64::from(ARTIFACT_BYTES_MAX);
    let read =
        Manifest::read(manifest(vec![descriptor(large + 1), descriptor(5)]).as_bytes()).unwrap();
    let (wanted, left_out) = read.wanted().unwrap();
    assert_eq!((wanted.len(), left_out.len()), (2, 1), "{left_out:?}");
    let read = Manifest::read(manifest(vec![descriptor(large); 3]).as_bytes()).unwrap();
    assert!(read.wanted().is_err());
    let read = Manifest::read(manifest(vec![descriptor(u64::MAX); 3]).as_bytes()).unwrap();
    assert_eq!(read.wanted().unwrap().1.len(), 3);
}

/// An artifact of another tool: layers by their media type.
fn foreign(layers: &[(&str, Option<&str>, Vec<u8>)]) -> Artifact {
    let config = br#"{"descriptor":{"name":"d","licenses":["MIT"]},"config":{"format":"onnx"}}"#;
    let mut blobs = BTreeMap::from([(Digest::of(config), config.to_vec())]);
    let described = layers.iter().map(|(kind, name, bytes)| {
        blobs.insert(Digest::of(bytes), bytes.clone());
        let layer = Descriptor::of(&format!("application/vnd.cncf.model.{kind}"), bytes);
        name.map_or(layer.clone(), |name| layer.named(name))
    });
    let manifest = Manifest {
        schema_version: 2,
        media_type: None,
        artifact_type: Some(MODEL_ARTIFACT.into()),
        layers: described.collect(),
        config: Descriptor::of(MODEL_CONFIG, config),
        annotations: [("org.opencontainers.image.source".to_owned(), "https://x".to_owned())]
            .into(),
    };
    Artifact { manifest: serde_json::to_vec(&manifest).unwrap(), blobs }
}

fn tar_of(name: &str, bytes: &[u8], kind: tar::EntryType) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_entry_type(kind);
    named(&mut header, name);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.extend_from_slice(bytes);
    tar.resize(tar.len().div_ceil(512) * 512 + 1024, 0);
    tar
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_artifact_of_another_tool_becomes_files() {
    let file = tar::EntryType::Regular;
    let artifact = foreign(&[
        ("weight.v1.raw", Some("onnx/model.onnx"), b"not really".to_vec()),
        ("doc.v1.tar", None, tar_of("./README.md", b"# Card", file)),
        ("weight.config.v1.tar+gzip", None, gzip(&tar_of("config.json", b"{}", file))),
        ("code.v1.tar+zstd", Some("code"), b"zstd".to_vec()),
        ("doc.v1.raw", None, b"nameless".to_vec()),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let notes = unpack::unpack(&artifact, dir.path()).unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    let found = source::open(dir.path(), None).unwrap();
    assert_eq!(found.onnx.bytes, b"not really");
    assert_eq!(found.papers.documents.len(), 2);
    let mut papers = Papers::default();
    assert_eq!(unpack::annotate(&artifact, &artifact.read().unwrap(), &mut papers), None);
    let facts: Vec<_> = papers.annotations.iter().map(|fact| fact.value.as_str()).collect();
    assert!(facts.contains(&"https://x") && facts.contains(&"MIT"), "{facts:?}");
    assert!(!artifact.read().unwrap().is_release());
}

#[test]
fn layers_that_would_leave_the_directory_are_refused() {
    let file = tar::EntryType::Regular;
    let cases: [(&str, Option<&str>, Vec<u8>); 6] = [
        ("weight.v1.raw", Some("../x.onnx"), b"x".to_vec()),
        ("weight.v1.raw", Some("/tmp/x.onnx"), b"x".to_vec()),
        ("weight.v1.tar", None, tar_of("../x.onnx", b"x", file)),
        ("weight.v1.tar", None, tar_of("/x.onnx", b"x", file)),
        ("weight.v1.tar", None, tar_of("x.onnx", b"", tar::EntryType::Symlink)),
        ("weight.v1.tar+gzip", None, gzip(&tar_of("a/../../x", b"x", file))),
    ];
    for case in cases {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let what = format!("{:?} {:?}", case.0, case.1);
        let error = unpack::unpack(&foreign(&[case]), &inside).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Trust, "{what}: {error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{what}");
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0, "{what}");
    }
    // A gzip that inflates without end: 128 MiB of nothing in less than one.
    let bomb = gzip(&tar_of("bomb", &vec![0; 128 << 20], file));
    assert!(bomb.len() < 2 << 20, "{}", bomb.len());
    let dir = tempfile::tempdir().unwrap();
    let error = unpack::unpack(&foreign(&[("weight.v1.tar+gzip", None, bomb)]), dir.path());
    assert!(error.unwrap_err().to_string().contains("all that is taken"));
}
