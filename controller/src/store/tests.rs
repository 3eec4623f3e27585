//! The disk may lose, rot or flip what was written, and sled may not say so. Held down: no wrong
//! value is ever given back and nothing is lost without a word; a second controller is kept out;
//! and the store in memory, which other tests trust, does the same as the real one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn batch(ops: &[(Kind, &str, &str)]) -> Batch {
    let mut batch = Batch::new();
    for (kind, key, value) in ops {
        batch.put(*kind, *key, *value);
    }
    batch
}

fn filled(data: &Path) {
    let (store, opened) = SledStore::open(data).unwrap();
    assert_eq!(opened, Opened::New);
    for n in 0..200u32 {
        let mut batch = Batch::new();
        batch.put(Kind::Device, n.to_be_bytes(), vec![n as u8; 100]);
        batch.put(Kind::Meta, "last", n.to_be_bytes());
        store.commit(&batch).unwrap();
    }
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let (store, opened) = SledStore::open(data.path()).unwrap();
    assert_eq!(opened, Opened::Clean);
    assert_eq!(store.list(Kind::Device).unwrap().len(), 200);
    assert_eq!(store.get(Kind::Meta, b"last").unwrap(), Some(199u32.to_be_bytes().to_vec()));
    assert_eq!(store.get(Kind::Order, b"last").unwrap(), None);
    assert_eq!(store.take_events(), []);
}

#[test]
fn a_second_controller_hears_who_has_the_directory() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = SledStore::open(data.path()).unwrap();
    let error = SledStore::open(data.path()).unwrap_err();
    let pid = std::process::id().to_string();
    assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    drop(store);
    assert!(SledStore::open(data.path()).is_ok());
}

#[test]
fn a_rotten_value_counts_as_missing_and_is_reported() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = SledStore::open(data.path()).unwrap();
    store.commit(&batch(&[(Kind::Device, "a", "1"), (Kind::Device, "b", "2")])).unwrap();
    // As if sled had given back something else: a value that belongs to another key.
    let framed = frame(Kind::Device, b"b", b"2");
    store.tree(Kind::Device).insert(b"a", framed).unwrap();
    assert_eq!(store.get(Kind::Device, b"a").unwrap(), None);
    assert_eq!(store.list(Kind::Device).unwrap(), [(b"b".to_vec(), b"2".to_vec())]);
    let rotten = StoreEvent::Rotten { kind: Kind::Device, key: b"a".to_vec() };
    assert_eq!(store.take_events(), [rotten.clone(), rotten]);
    assert_eq!(store.take_events(), []);
}

#[test]
fn a_rotten_snapshot_costs_nothing() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    // sled writes one when it opens what was written since the last.
    drop(SledStore::open(data.path()).unwrap());
    let dir = data.path().join("store");
    let snapshots = || {
        let names = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
        names.filter(|p| p.to_string_lossy().contains("/snap.")).collect::<Vec<_>>()
    };
    assert!(!snapshots().is_empty());
    for path in snapshots() {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let (store, opened) = SledStore::open(data.path()).unwrap();
    assert!(matches!(opened, Opened::WithoutSnapshots { .. }), "{opened:?}");
    assert_eq!(store.list(Kind::Device).unwrap().len(), 200);
}

#[test]
fn a_store_that_does_not_open_is_moved_aside_and_one_is_kept() {
    let data = tempfile::tempdir().unwrap();
    for n in 1..=3 {
        let (store, _) = SledStore::open(data.path()).unwrap();
        store.commit(&batch(&[(Kind::Meta, "a", "1")])).unwrap();
        drop(store);
        fs::write(data.path().join("store/conf"), b"not a configuration").unwrap();
        let (store, opened) = SledStore::open(data.path()).unwrap();
        let kept = data.path().join(format!("store.bad.{n}"));
        assert!(matches!(&opened, Opened::Rebuilt { kept: k, .. } if *k == kept), "{opened:?}");
        assert_eq!(store.list(Kind::Meta).unwrap(), []);
        assert!(kept.join("db").exists());
        assert!(!data.path().join(format!("store.bad.{}", n - 1)).exists());
    }
}

#[test]
fn a_store_that_vanished_is_told() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    fs::remove_dir_all(data.path().join("store")).unwrap();
    let (store, opened) = SledStore::open(data.path()).unwrap();
    assert_eq!(opened, Opened::Rewound { lost_commits: 200 });
    store.commit(&batch(&[(Kind::Meta, "a", "1")])).unwrap();
    drop(store);
    assert_eq!(SledStore::open(data.path()).unwrap().1, Opened::Clean);
}

#[test]
fn what_is_no_rot_is_an_error_and_moves_nothing() {
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("store"), b"a file where the directory should be").unwrap();
    assert!(SledStore::open(data.path()).is_err());
    assert!(data.path().join("store").is_file());
}

#[test]
fn flipped_bits_never_give_wrong_values_and_never_lose_any_without_a_word() {
    let template = tempfile::tempdir().unwrap();
    filled(template.path());
    let db = fs::read(template.path().join("store/db")).unwrap();
    let conf = fs::read(template.path().join("store/conf")).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut rewound = 0;
    for _ in 0..24 {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("store");
        fs::create_dir(&dir).unwrap();
        let mut db = db.clone();
        let at = random.usize(..40_000);
        db[at] ^= 1 << random.u8(..8);
        fs::write(dir.join("db"), db).unwrap();
        fs::write(dir.join("conf"), &conf).unwrap();
        fs::copy(template.path().join("store.commits"), data.path().join("store.commits")).unwrap();
        let (store, opened) = SledStore::open(data.path()).unwrap();
        for (key, value) in store.list(Kind::Device).unwrap() {
            assert_eq!(value, vec![key[3]; 100]);
        }
        // Nothing is lost without a word.
        let there = store.list(Kind::Device).unwrap().len();
        assert!(there == 200 || opened != Opened::Clean, "at {at}: {there}, {opened:?}");
        if let Opened::Rewound { lost_commits } = opened {
            assert!(lost_commits as usize >= 200 - there);
            rewound += 1;
        }
    }
    assert!(rewound > 0, "if sled ever says so itself, the watermark can go");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn both_stores_are_one_map(
        script in prop::collection::vec((0usize..3, 0u8..6, prop::option::of(any::<u8>())), 0..40)
    ) {
        let data = tempfile::tempdir().unwrap();
        let (sled, _) = SledStore::open(data.path()).unwrap();
        let mem = MemStore::new();
        let mut model: BTreeMap<(Kind, Vec<u8>), Vec<u8>> = BTreeMap::new();
        for ops in script.chunks(3) {
            let mut batch = Batch::new();
            for (kind, key, value) in ops {
                let (kind, key) = (Kind::ALL[*kind], vec![*key]);
                match value {
                    Some(value) => {
                        batch.put(kind, key.clone(), vec![*value]);
                        model.insert((kind, key), vec![*value]);
                    }
                    None => {
                        batch.remove(kind, key.clone());
                        model.remove(&(kind, key));
                    }
                }
            }
            sled.commit(&batch).unwrap();
            mem.commit(&batch).unwrap();
        }
        for kind in Kind::ALL {
            let expected: Vec<_> = model.iter().filter(|((k, _), _)| *k == kind)
                .map(|((_, key), value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(sled.list(kind).unwrap(), expected.clone());
            prop_assert_eq!(mem.list(kind).unwrap(), expected);
        }
    }
}
