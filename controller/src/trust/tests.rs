//! Ceremonies from beginning to end, people and their machines as values.

use ed25519_dalek::SigningKey;
use fleetway_protocol::envelope::PublicKey;
use fleetway_protocol::ids::{Digest, ModelName, RoleName, Version as Label};
use fleetway_protocol::keyset::{Keyset, Scope};
use fleetway_protocol::trust::Verified;

use super::ceremony::{Detached, sign_files};
use super::files::TrustDir;
use super::publish::Online;
use super::repo::NamedKey;
use super::signer::{PlainFile, Signer};
use super::stage::{Release, Setup};
use super::*;

pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn key(seed: u8) -> PlainFile {
    SigningKey::from_bytes(&[seed; 32]).into()
}

fn named(name: &str, seed: u8) -> NamedKey {
    NamedKey { name: name.to_owned(), key: key(seed).public() }
}

/// Root: ada, bob and eve, two of them. Targets: tia. The server has 20, 21 and 22.
fn setup() -> Setup {
    Setup {
        root: vec![named("ada", 1), named("bob", 2), named("eve", 3)],
        root_threshold: 2,
        targets: vec![named("tia", 10)],
        targets_threshold: 1,
        snapshot: named("snapshot", 20),
        timestamp: named("timestamp", 21),
        director: named("director", 22),
    }
}

pub(crate) fn publish(repo: &Repo, now_s: u64) -> Result<Repo, TrustError> {
    repo.publish(&Online { snapshot: &key(20), timestamp: &key(21) }, now_s)
}

/// What a person does away from home: every staged file, signed by one key.
fn elsewhere(repo: &Repo, name: &str, seed: u8) -> Detached {
    let files: Vec<_> = repo
        .staged_files()
        .into_iter()
        .filter(|(file, _)| file.ends_with("root.json") || file.ends_with("keyset"))
        .collect();
    sign_files(&files, &key(seed), name).unwrap()
}

/// The first ceremony, published.
pub(crate) fn published() -> Repo {
    let mut repo = Repo::begin(&setup(), NOW).unwrap();
    for seed in [1, 2, 10] {
        repo.sign(&key(seed), NOW).unwrap();
    }
    publish(&repo, NOW).unwrap()
}

fn release(repo: &mut Repo, by: u8, model: &str) -> Result<(), TrustError> {
    let (model, version) = (ModelName::new(model).unwrap(), Label::new("v1").unwrap());
    let digest = Digest::of(model.as_str().as_bytes());
    let release = Release { model: &model, version: &version, counter: 1, digest, bytes: 6 };
    repo.stage_release(&key(by).public(), &release, NOW)
}

#[test]
fn two_of_three_people_on_their_own_machines() {
    let mut repo = Repo::begin(&setup(), NOW).unwrap();
    assert_eq!(repo.sign(&key(1), NOW).unwrap(), ["1.root.json", "1.keyset"]);
    let refused = publish(&repo, NOW).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("1.root.json needs 1 more by root: of bob, eve"), "{text}");
    assert_eq!(refused.kind(), crate::ErrorKind::Trust);
    assert!(repo.staged.targets.is_none(), "the keyset is not whole yet");

    let bob = elsewhere(&repo, "bob", 2);
    let text = serde_json::to_vec(&bob).unwrap();
    let bob = Detached::read(&text, "bob.json").unwrap();
    assert_eq!(repo.add(&bob, NOW).unwrap().len(), 2);
    // Now the keyset is whole, and the targets that list it wait for their key.
    assert!(publish(&repo, NOW).unwrap_err().to_string().contains("by targets: of tia"));
    repo.sign(&key(10), NOW).unwrap();
    let repo = publish(&repo, NOW).unwrap();
    assert!(repo.staged.is_empty() && repo.published.keyset.is_some());
    assert!(matches!(publish(&repo, NOW), Err(TrustError::Nothing)));
}

#[test]
fn a_signature_that_was_changed_or_is_not_asked_for_stays_outside() {
    let mut repo = Repo::begin(&setup(), NOW).unwrap();
    repo.sign(&key(1), NOW).unwrap();
    let good = elsewhere(&repo, "bob", 2);
    let stranger = elsewhere(&repo, "mal", 66);
    let mut refuse = |change: &dyn Fn(&mut Detached), expected: &str| {
        let (mut wrong, before) = (good.clone(), repo.clone());
        change(&mut wrong);
        let error = repo.add(&wrong, NOW).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(repo, before, "{expected}");
    };
    let flip = |text: &mut String| {
        let first = if text.starts_with('0') { "1" } else { "0" };
        text.replace_range(..1, first);
    };
    refuse(&|d| flip(&mut d.signatures[0].sig), "was changed");
    refuse(&|d| flip(&mut d.signatures[1].sig), "was changed");
    refuse(&|d| flip(&mut d.signatures[0].sha256), "another version of the file");
    refuse(&|d| d.signatures[0].file = "2.root.json".into(), "no such file waits");
    refuse(&|d| d.signatures[0].sig.clear(), "was changed");
    refuse(&|d| *d = stranger.clone(), "not asked to sign");
    assert!(matches!(repo.sign(&key(66), NOW), Err(TrustError::NotNeeded(_))));
    assert!(Detached::read(b"{}", "x").is_err());
    repo.add(&good, NOW).unwrap();
}

#[test]
fn a_root_key_is_rotated_by_the_old_and_the_new_people() {
    let mut repo = published();
    let eve = repo.key_named("eve").unwrap().key;
    repo.stage_replace(&eve, Some(&named("eva", 4)), NOW).unwrap();
    repo.sign(&key(4), NOW).unwrap();
    // Eva is new: by the people before, nobody has signed.
    let needs = repo.needs().unwrap();
    let before = needs.iter().find(|need| need.role == "root before").unwrap();
    assert_eq!((before.missing(), before.signed.len()), (2, 0));
    repo.sign(&key(1), NOW).unwrap();
    let text = publish(&repo, NOW).unwrap_err().to_string();
    assert!(text.contains("2.root.json needs 1 more by root before: of bob, eve"), "{text}");
    repo.sign(&key(2), NOW).unwrap();
    repo.sign(&key(10), NOW).unwrap();
    let first = repo.published.keyset.clone().unwrap();
    let repo = publish(&repo, NOW).unwrap();
    assert_eq!(repo.published.root.as_ref().unwrap().version(), 2);
    let pinned = Digest::of(first.payload());
    let genesis = Verified::<Keyset>::genesis(first.bytes(), &pinned).unwrap();
    let second = repo.published.keyset.as_ref().unwrap();
    assert_eq!(genesis.advance(second.bytes()).unwrap().get().version, 2);
    // One that has no TUF asks for the next by its version; from the directory, too.
    let data = tempfile::tempdir().unwrap();
    TrustDir::new(data.path()).save(&published()).unwrap();
    TrustDir::new(data.path()).save(&repo).unwrap();
    let files = TrustDir::new(data.path()).load().unwrap().files_for_devices();
    for (version, keyset) in [(1, &first), (2, second)] {
        let name = format!("{version}.keyset");
        let found = files.iter().find(|(file, _)| *file == name);
        assert_eq!(found.map(|(_, bytes)| bytes.as_slice()), Some(keyset.bytes()), "{name}");
    }
    assert!(repo.key_named("eve").is_err());
}

#[test]
fn a_lost_root_key_below_the_threshold_is_survived_and_two_are_named() {
    let mut repo = published();
    // Ada's is lost: bob and eve replace it.
    let ada = repo.key_named("ada").unwrap().key;
    repo.stage_replace(&ada, Some(&named("ann", 5)), NOW).unwrap();
    for seed in [2, 3, 10] {
        repo.sign(&key(seed), NOW).unwrap();
    }
    assert!(publish(&repo, NOW).is_ok());

    let mut repo = published();
    let refused = repo.stage_replace(&ada, None, NOW).and_then(|()| {
        let bob = repo.key_named("bob")?.key;
        repo.stage_replace(&bob, None, NOW)
    });
    assert!(refused.unwrap_err().to_string().contains("threshold 2 of 1"));
}

#[test]
fn a_stolen_targets_key_is_revoked_and_its_releases_are_signed_anew() {
    let setup = Setup { targets: vec![named("tia", 10), named("tom", 11)], ..setup() };
    let mut repo = Repo::begin(&setup, NOW).unwrap();
    for seed in [1, 2, 10] {
        repo.sign(&key(seed), NOW).unwrap();
    }
    let mut repo = publish(&repo, NOW).unwrap();
    repo.stage_replace(&key(10).public(), None, NOW).unwrap();
    assert!(repo.staged.root.is_some() && repo.staged.targets.is_some());
    assert!(matches!(repo.sign(&key(10), NOW), Err(TrustError::NotNeeded(_))));
    for seed in [1, 2] {
        repo.sign(&key(seed), NOW).unwrap();
    }
    assert!(publish(&repo, NOW).unwrap_err().to_string().contains("by targets: of tom"));
    repo.sign(&key(11), NOW).unwrap();
    let repo = publish(&repo, NOW).unwrap();
    let release = &repo.published.keyset.as_ref().unwrap().keyset.release;
    let keys: Vec<_> = release.keys().map(|entry| entry.key).collect();
    assert_eq!(keys, [key(11).public()]);
}

#[test]
fn a_team_releases_its_models_and_no_others() {
    let mut repo = published();
    let team = RoleName::new("vision").unwrap();
    let scope = Scope::new("digit*").unwrap();
    repo.stage_team(&team, std::slice::from_ref(&scope), &[named("vic", 30)], NOW).unwrap();
    for seed in [10, 1, 2, 10, 30] {
        // Tia may be asked twice: for the team, and for the keyset once that is whole.
        let _ = repo.sign(&key(seed), NOW);
    }
    let mut repo = publish(&repo, NOW).unwrap();
    let release_keys = &repo.published.keyset.as_ref().unwrap().keyset.release;
    let entry = release_keys.keys().find(|entry| entry.key == key(30).public()).unwrap();
    assert_eq!(entry.models, scope);

    release(&mut repo, 30, "digits").unwrap();
    let refused = release(&mut repo, 30, "faces").unwrap_err();
    assert!(
        matches!(&refused, TrustError::Foreign { key, scope, .. } if key == "vic" && scope == "digit*")
    );
    assert_eq!(release(&mut repo, 66, "digits").unwrap_err().kind(), crate::ErrorKind::Trust);
    assert!(publish(&repo, NOW).unwrap_err().to_string().contains("by vision: of vic"));
    repo.sign(&key(30), NOW).unwrap();
    let repo = publish(&repo, NOW).unwrap();
    assert!(repo.published.teams[&team].role.targets.contains_key("digits/v1"));
    assert!(repo.snapshot.unwrap().role.meta.contains_key("vision.json"));
}

/// Every key signs whatever asks for it, until nothing does.
fn signed_by(mut repo: Repo, seeds: &[u8]) -> Repo {
    for seed in seeds.iter().chain(seeds) {
        let _ = repo.sign(&key(*seed), NOW);
    }
    repo
}

/// What is staged has every signature; only a device knows better.
fn a_device_refuses(repo: &Repo, expected: [&str; 2]) {
    let missing: Vec<_> = repo.needs().unwrap().iter().filter_map(|n| n.sentence()).collect();
    assert_eq!(missing, Vec::<String>::new());
    let error = publish(repo, NOW).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, TrustError::Refused(_)) && expected.iter().all(|e| text.contains(e)));
}

fn with_team(repo: Repo, name: &str, scope: &str, seed: u8) -> Repo {
    let mut repo = repo;
    let (team, scope) = (RoleName::new(name).unwrap(), Scope::new(scope).unwrap());
    repo.stage_team(&team, &[scope], &[named(name, seed)], NOW).unwrap();
    publish(&signed_by(repo, &[1, 2, 10, seed]), NOW).unwrap()
}

#[test]
fn a_release_that_another_team_hides_is_found_before_it_is_published() {
    let repo = with_team(with_team(published(), "faces", "face-*", 30), "europe", "face-eu", 31);
    let mut hidden = repo.clone();
    release(&mut hidden, 31, "face-eu").unwrap();
    let hidden = signed_by(hidden, &[31]);
    a_device_refuses(&hidden, ["a new device says: team europe", "team faces is asked first"]);
    let mut seen = repo;
    release(&mut seen, 30, "face-eu").unwrap();
    publish(&signed_by(seen, &[30]), NOW).unwrap();
}

#[test]
fn what_only_a_device_with_a_past_refuses_is_found() {
    // A team that is gone from the snapshot: devices that saw it take that for a rollback.
    let mut repo = with_team(published(), "faces", "face-*", 30);
    repo.stage_targets(NOW, |targets| {
        targets.delegations = None;
        Ok(())
    })
    .unwrap();
    repo.stage_keyset(&[key(22).public()]).unwrap();
    let gone = signed_by(repo, &[1, 2, 10]);
    a_device_refuses(&gone, ["a device that is up to date says", "faces.json 0 is older than 1"]);

    // An old root that rotted on the server's disk: who is up to date does not need it.
    let mut repo = published();
    repo.stage_replace(&key(3).public(), Some(&named("eva", 4)), NOW).unwrap();
    let mut repo = publish(&signed_by(repo, &[1, 2, 10]), NOW).unwrap();
    repo.stage_replace(&key(4).public(), Some(&named("eve", 3)), NOW).unwrap();
    let repo = signed_by(repo, &[1, 2, 10]);
    publish(&repo, NOW).unwrap();
    let mut rotten = repo.clone();
    let root = String::from_utf8(rotten.roots[0].clone()).unwrap();
    rotten.roots[0] = root.replace("\"version\":1", "\"version\":7").into_bytes();
    a_device_refuses(&rotten, ["a new device says", "signature"]);
}

#[test]
fn a_team_whose_key_is_gone_is_asked_for_a_signature_by_devices() {
    let mut repo = with_team(published(), "faces", "face-*", 30);
    repo.stage_replace(&key(30).public(), Some(&named("fay", 32)), NOW).unwrap();
    let repo = signed_by(repo, &[1, 2, 10, 32]);
    a_device_refuses(&repo, ["1.faces.json", "signature"]);
}

#[test]
fn what_waited_too_long_is_not_published() {
    let mut repo = published();
    release(&mut repo, 10, "digits").unwrap();
    repo.sign(&key(10), NOW).unwrap();
    let late = NOW + TARGETS_DAYS * DAY_S;
    assert!(
        matches!(publish(&repo, late), Err(TrustError::Expired { file }) if file == "2.targets.json")
    );
    assert!(publish(&repo, late - 1).is_ok());
}

#[test]
fn the_server_signs_anew_in_time_and_only_with_its_own_keys() {
    let repo = published();
    let (snapshot_key, timestamp_key) = (key(20), key(21));
    let online = Online { snapshot: &snapshot_key, timestamp: &timestamp_key };
    assert_eq!(repo.renew(&online, NOW + RESIGN_S - 1).unwrap(), None);
    let six = repo.renew(&online, NOW + RESIGN_S).unwrap().unwrap();
    assert_eq!(six.timestamp.as_ref().unwrap().version(), 2);
    assert_eq!(six.timestamp.as_ref().unwrap().expires_s(), NOW + RESIGN_S + TIMESTAMP_S);
    assert_eq!(six.snapshot, repo.snapshot);
    let half = repo.renew(&online, NOW + SNAPSHOT_S / 2).unwrap().unwrap();
    assert_eq!(half.snapshot.as_ref().unwrap().version(), 2);
    let swapped = Online { snapshot: &timestamp_key, timestamp: &snapshot_key };
    assert!(matches!(repo.renew(&swapped, NOW + RESIGN_S), Err(TrustError::Foreign { .. })));
}

#[test]
fn the_directory_reads_back_and_a_cut_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let dir = TrustDir::new(data.path());
    assert!(matches!(dir.load(), Err(TrustError::None)));
    let mut repo = Repo::begin(&setup(), NOW).unwrap();
    dir.save_staged(&repo).unwrap();
    assert_eq!(dir.load().unwrap(), repo);
    for seed in [1, 2, 10] {
        repo.sign(&key(seed), NOW).unwrap();
    }
    dir.save_staged(&repo).unwrap();
    let staged = repo.clone();
    let repo = publish(&repo, NOW).unwrap();
    dir.save(&repo).unwrap();
    assert_eq!(dir.load().unwrap(), repo);
    let names: Vec<_> = repo.files_for_devices().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.last().map(String::as_str), Some("timestamp.json"));
    assert!(names.iter().all(|n| fleetway_protocol::trust_file::TrustFile::parse(n).is_some()));

    // Everything but the timestamp was written, and the staged files are still there.
    std::fs::remove_file(data.path().join("trust/metadata/timestamp.json")).unwrap();
    dir.save_staged(&staged).unwrap();
    let cut = dir.load().unwrap();
    assert_eq!(cut.staged.targets, staged.staged.targets);
    let again = publish(&cut, NOW + 5).unwrap();
    dir.save(&again).unwrap();
    assert_eq!(dir.load().unwrap(), again);
}

/// python-tuf and every other client finds keys by id; a name in the key does not change it.
#[test]
fn a_name_is_not_part_of_the_key() {
    let public: PublicKey = key(1).public();
    assert_eq!(meta::named(&public, "ada").id(), meta::key_id(&public));
}
