//! The client of `fleetway-tuf`, rule by rule, over a shelf that can lose what it keeps.

use std::collections::BTreeMap;

use fleetway_protocol::ids::{Digest, ModelName, Version};
use fleetway_protocol::trust_file::TrustFile;
use fleetway_tests::authority::{Authority, DAY_S, NOW_S, Team, key};
use fleetway_tuf::client::{Client, Release, Transport, TrustError};
use fleetway_tuf::limits::Limits;
use fleetway_tuf::memory::Memory;
use fleetway_tuf::roles::{Pin, TargetFile};
use serde_json::json;

const MANIFEST: &[u8] = b"the manifest";

struct Bench {
    authority: Authority,
    pinned: Vec<u8>,
    shelf: Memory,
    client: Client,
}

impl Bench {
    fn new() -> Self {
        Self::of(Authority::default())
    }

    fn of(mut authority: Authority) -> Self {
        let pinned = authority.publish_root(&[]);
        authority.list("digits/v1", MANIFEST, 1);
        authority.publish();
        let shelf = Memory::default();
        let client = open(&pinned, &shelf);
        Self { authority, pinned, shelf, client }
    }

    /// As after a reset.
    fn boot(&mut self) {
        self.client = open(&self.pinned, &self.shelf);
    }

    /// The newest timestamp arrives, and then whatever the client asks for.
    fn refresh(&mut self, now_s: u64) -> Result<(), TrustError> {
        let timestamp = self.authority.files["timestamp.json"].clone();
        self.client.offer("timestamp.json", &timestamp)?;
        self.go_on(now_s)
    }

    fn go_on(&mut self, now_s: u64) -> Result<(), TrustError> {
        let mut asked = Vec::new();
        loop {
            let next = TrustFile::Root(self.client.next_root()).to_string();
            if let Some(root) = self.authority.files.get(&next).filter(|_| !asked.contains(&next)) {
                self.client.offer(&next, root)?;
                asked.push(next);
            }
            let error = match self.client.refresh(&mut self.shelf, now_s) {
                Ok(()) => {
                    let next = TrustFile::Root(self.client.next_root()).to_string();
                    if self.authority.files.contains_key(&next) && !asked.contains(&next) {
                        continue;
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            match (&error, needed(&error).and_then(|name| self.authority.files.get(name))) {
                (TrustError::Needs(name), Some(bytes)) if !asked.contains(name) => {
                    self.client.offer(name, bytes)?;
                    asked.push(name.clone());
                }
                _ => return Err(error),
            }
        }
    }

    fn authorize(&mut self, path: &str, counter: u64, now_s: u64) -> Result<(), TrustError> {
        let (model, version) = path.split_once('/').expect("model/version");
        let (model, version) = (ModelName::new(model).unwrap(), Version::new(version).unwrap());
        let (digest, length) = (Digest::of(MANIFEST), MANIFEST.len() as u64);
        let release = Release { model: &model, version: &version, counter, digest, length };
        self.client.authorize(&mut self.shelf, &release, now_s)
    }
}

fn open(pinned: &[u8], shelf: &Memory) -> Client {
    Client::open(pinned, shelf, Limits::DEVICE, Transport::Push).expect("a root")
}

fn needed(error: &TrustError) -> Option<&str> {
    match error {
        TrustError::Needs(name) => Some(name),
        _ => None,
    }
}

fn check(result: Result<(), TrustError>, expected: &str) {
    match result {
        Ok(()) => panic!("passed, {expected:?} was expected"),
        Err(error) => assert_eq!(error.check(), expected, "{error}"),
    }
}

#[test]
fn files_are_asked_for_one_by_one_and_then_a_release_may_run() {
    let mut bench = Bench::new();
    let first = bench.client.refresh(&mut bench.shelf, NOW_S);
    assert_eq!(first.as_ref().err().and_then(needed), Some("timestamp.json"), "{first:?}");
    bench.refresh(NOW_S).expect("all is there");
    bench.authorize("digits/v1", 1, NOW_S).expect("listed");
    check(bench.authorize("digits/v1", 2, NOW_S), "not a target");
    check(bench.authorize("digits/v2", 1, NOW_S), "not a target");
    let roles: Vec<_> = bench.client.roles().iter().map(|r| (r.role, r.version)).collect();
    assert_eq!(roles, [("root", 1), ("timestamp", 1), ("snapshot", 1), ("targets", 1)]);
    // After a reset, without a message.
    bench.boot();
    bench.authorize("digits/v1", 1, NOW_S).expect("still listed");
}

#[test]
fn other_bytes_under_a_listed_name_are_no_release() {
    let mut bench = Bench::new();
    bench.refresh(NOW_S).unwrap();
    let (model, version) = (ModelName::new("digits").unwrap(), Version::new("v1").unwrap());
    for (digest, length) in [(Digest::of(b"other"), 12), (Digest::of(MANIFEST), 13)] {
        let release = Release { model: &model, version: &version, counter: 1, digest, length };
        let refused = bench.client.authorize(&mut bench.shelf, &release, NOW_S);
        check(refused, "not a target");
    }
}

#[test]
fn what_expired_says_nothing_any_more() {
    for (at, days) in [(0, 365), (1, 1), (2, 7), (3, 90)] {
        let mut bench = Bench::new();
        bench.authority.expires_s = [NOW_S + 400 * DAY_S; 4];
        bench.authority.expires_s[at] = NOW_S + days * DAY_S;
        let pinned = bench.authority.publish_root(&[]);
        bench.authority.publish();
        bench.pinned = pinned;
        bench.boot();
        bench.refresh(NOW_S).expect("fresh");
        let late = NOW_S + days * DAY_S + 1;
        bench.authorize("digits/v1", 1, late - 2).expect("in time");
        check(bench.authorize("digits/v1", 1, late), "trust expired");
        check(bench.refresh(late), "trust expired");
        bench.boot();
        check(bench.authorize("digits/v1", 1, late), "trust expired");
        bench.authorize("digits/v1", 1, NOW_S).expect("a clock that was ahead bricks nothing");
    }
}

#[test]
fn versions_never_fall_even_when_the_files_are_lost() {
    for lost in [false, true] {
        let mut bench = Bench::new();
        let old = bench.authority.files.clone();
        bench.refresh(NOW_S).unwrap();
        bench.authority.publish_next();
        bench.refresh(NOW_S).unwrap();
        if lost {
            bench.shelf.files.retain(|_, bytes| {
                bytes.truncate(bytes.len() / 2);
                true
            });
        }
        bench.boot();
        bench.authority.files = old;
        let refreshed = bench.refresh(NOW_S);
        let refused: Vec<_> = bench.client.take_refused().iter().map(|e| e.check()).collect();
        assert_eq!(refused[0], "trust version", "lost: {lost}, {refused:?}");
        match lost {
            false => refreshed.expect("the newer ones are still there"),
            true => check(refreshed, "trust missing"),
        }
    }
}

#[test]
fn no_list_may_fall_or_vanish_within_a_newer_snapshot() {
    let team = Team {
        key: key(30),
        paths: vec!["team-*/*".to_owned()],
        targets: BTreeMap::new(),
        version: 2,
    };
    for (lost, vanish) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut authority = Authority::default();
        authority.teams.insert(
            "team".into(),
            Team {
                targets: BTreeMap::new(),
                paths: team.paths.clone(),
                key: team.key.clone(),
                version: 2,
            },
        );
        let mut bench = Bench::of(authority);
        bench.refresh(NOW_S).unwrap();
        if lost {
            bench.shelf.files.clear();
            bench.boot();
        }
        match vanish {
            true => bench.authority.teams.clear(),
            false => bench.authority.teams.get_mut("team").unwrap().version = 1,
        }
        bench.authority.publish_next();
        assert!(bench.refresh(NOW_S).is_err());
        let refused = bench.client.take_refused();
        assert!(
            refused.iter().any(|e| matches!(e.check(), "trust version" | "trust content")),
            "lost {lost}, vanish {vanish}: {refused:?}"
        );
        check(bench.authorize("digits/v1", 1, NOW_S), "trust missing");
    }
}

#[test]
fn a_root_chain_is_followed_and_only_by_both_thresholds() {
    let mut bench = Bench::new();
    for step in 0..5 {
        bench.authority.rotate(|a| a.root_keys.rotate_left(1 + step % 2));
    }
    bench.refresh(NOW_S).expect("all roots are there");
    assert_eq!(bench.client.next_root(), 7);
    bench.boot();
    assert_eq!(bench.client.next_root(), 7, "stored roots count");

    // Root 7 by the new keys alone, then with one of the old: the old threshold is two.
    let old = bench.authority.root_keys.clone();
    bench.authority.root_keys = vec![key(40), key(41), key(42)];
    bench.authority.versions[0] += 1;
    for signers in [vec![], vec![old[0].clone()]] {
        bench.authority.publish_root(&signers);
        bench.refresh(NOW_S).expect("what was believed still is");
        let refused: Vec<_> = bench.client.take_refused().iter().map(|e| e.check()).collect();
        assert_eq!((refused.as_slice(), bench.client.next_root()), (&["trust signature"][..], 7));
    }
    bench.authority.publish_root(&old[..2]);
    bench.refresh(NOW_S).expect("signed by both");
    assert_eq!(bench.client.next_root(), 8);
    // Roots that the disk lost are asked for again; until then nothing is authorized.
    bench.shelf.files.clear();
    bench.boot();
    let error = bench.client.refresh(&mut bench.shelf, NOW_S).unwrap_err();
    assert_eq!(needed(&error), Some("2.root.json"), "{error}");
    bench.refresh(NOW_S).expect("they come again");
}

#[test]
fn exchanged_keys_of_the_timestamp_end_a_fast_forward() {
    let mut bench = Bench::new();
    bench.authority.versions[1..].fill(1 << 60);
    bench.authority.publish();
    bench.refresh(NOW_S).expect("a thief signed it, and he has the keys");
    bench.authority.versions[1..].fill(2);
    bench.authority.publish();
    bench.refresh(NOW_S).expect("the thief's stays");
    assert_eq!(bench.client.take_refused()[0].check(), "trust version");
    bench.authority.rotate(|a| (a.timestamp_key, a.snapshot_key) = (key(50), key(51)));
    bench.authority.publish();
    bench.refresh(NOW_S).expect("versions begin anew");
    assert_eq!(bench.client.roles()[1].version, 2);
    bench.boot();
    bench.authorize("digits/v1", 1, NOW_S).expect("listed");
}

#[test]
fn a_team_lists_its_own_models_and_nothing_else() {
    let mut authority = Authority::default();
    let listed = |counter: u64| {
        let custom = json!({ "counter": counter });
        TargetFile::new(Digest::of(MANIFEST), MANIFEST.len() as u64, Some(custom))
    };
    let paths = ["vision-a/v1", "speech/v1", "fleetway/keyset"];
    let targets = paths.iter().map(|path| ((*path).to_owned(), listed(1))).collect();
    let paths = vec!["vision-*/*".to_owned(), "fleetway/*".to_owned()];
    let team = Team { key: key(60), paths, targets, version: 1 };
    authority.teams.insert("vision".to_owned(), team);
    let mut bench = Bench::of(authority);
    bench.refresh(NOW_S).unwrap();
    let missing = bench.authorize("vision-a/v1", 1, NOW_S).unwrap_err();
    assert_eq!(needed(&missing), Some("1.vision.json"), "{missing}");
    let file = bench.authority.files["1.vision.json"].clone();
    bench.client.offer("1.vision.json", &file).unwrap();
    bench.authorize("vision-a/v1", 1, NOW_S).expect("its own model");
    check(bench.authorize("speech/v1", 1, NOW_S), "not a target");
    let keyset = bench.client.keyset(&mut bench.shelf, NOW_S).map(drop);
    check(keyset, "not a target");
    bench.boot();
    bench.authorize("vision-a/v1", 1, NOW_S).expect("kept");

    // The same file by another key.
    let mut forged = Authority::default();
    let team = bench.authority.teams.remove("vision").unwrap();
    forged.teams.insert("vision".to_owned(), Team { key: key(61), ..team });
    forged.publish();
    bench.shelf.files.remove("vision.json");
    bench.boot();
    bench.client.offer("1.vision.json", &forged.files["1.vision.json"]).unwrap();
    check(bench.authorize("vision-a/v1", 1, NOW_S), "trust content");
    check(bench.authorize("vision-a/v1", 1, NOW_S), "trust missing");
}

#[test]
fn sizes_are_checked_before_anything_is_parsed() {
    let mut bench = Bench::new();
    let sizes = [
        ("timestamp.json", Limits::DEVICE.timestamp_bytes_max),
        ("2.root.json", Limits::DEVICE.root_bytes_max),
        ("2.snapshot.json", Limits::DEVICE.snapshot_bytes_max),
        ("2.targets.json", Limits::DEVICE.targets_bytes_max),
        ("2.foo-root.json", Limits::DEVICE.targets_bytes_max),
    ];
    for (name, max) in sizes {
        check(bench.client.offer(name, &vec![b' '; max + 1]), "trust size");
        bench.client.offer(name, &vec![b' '; max]).expect(name);
    }
    let deep = [vec![b'['; 13], vec![b']'; 13]].concat();
    check(bench.client.offer("timestamp.json", &deep), "trust size");
}

#[test]
fn a_bad_file_is_dropped_and_the_good_one_still_counts() {
    let mut bench = Bench::new();
    bench.refresh(NOW_S).unwrap();
    let good = bench.authority.files["timestamp.json"].clone();
    let mut bits = good.clone();
    let at = bits.len() / 2;
    bits[at] ^= 1;
    for bad in [&b"not json"[..], b"{}", &bits, &bench.authority.files["1.targets.json"].clone()] {
        bench.client.offer("timestamp.json", bad).unwrap();
        bench.client.refresh(&mut bench.shelf, NOW_S).expect("the stored one stands");
        assert_eq!(bench.client.take_refused().len(), 1);
    }
    bench.authority.publish_next();
    bench.client.offer("timestamp.json", &bench.authority.files["timestamp.json"]).unwrap();
    let error = bench.client.refresh(&mut bench.shelf, NOW_S).unwrap_err();
    assert_eq!(needed(&error), Some("2.snapshot.json"), "{error}");
    bench.client.offer("2.snapshot.json", &bench.authority.files["1.snapshot.json"]).unwrap();
    let error = bench.client.refresh(&mut bench.shelf, NOW_S).unwrap_err();
    assert_eq!(needed(&error), Some("2.snapshot.json"), "{error}");
    assert_eq!(bench.client.take_refused()[0].check(), "trust content");
    bench.go_on(NOW_S).expect("the right one");
}

#[test]
fn a_timestamp_for_a_missing_snapshot_authorizes_nothing() {
    let mut bench = Bench::new();
    bench.refresh(NOW_S).unwrap();
    bench.authority.versions[1] = 2;
    bench.authority.publish_timestamp(Pin { version: 9, length: None, hashes: None });
    let error = bench.refresh(NOW_S).unwrap_err();
    assert_eq!(needed(&error), Some("9.snapshot.json"), "{error}");
    check(bench.authorize("digits/v1", 1, NOW_S), "trust missing");
}

#[test]
fn a_pin_that_is_no_root_is_named() {
    let mut authority = Authority::default();
    let first = authority.root_keys[0].clone();
    let unsigned = authority.root(&[&first]);
    let shelf = Memory::default();
    for pinned in [&b"{}"[..], b"", &unsigned] {
        assert!(Client::open(pinned, &shelf, Limits::DEVICE, Transport::Push).is_err());
    }
    assert!(fleetway_tuf::client::check_root(&authority.publish_root(&[])).is_ok());
}
