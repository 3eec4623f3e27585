//! The release authority's files, by somebody who holds its keys: the client over metadata that
//! is signed and pinned as it must be, and says anything.
//!
//! The first byte chooses a file and how it comes, the rest is what is signed in it. What is no
//! JSON object takes the file's place as it is. Around it stands an honest repository that the
//! client has seen before, so that floors, kept files and rotations are in play.

use std::sync::LazyLock;

use fleetway_protocol::ids::{Digest, ModelName, Version};
use fleetway_protocol::trust_file::TrustFile;
use fleetway_tuf::client::{Client, Release, Transport, TrustError, check_root};
use fleetway_tuf::limits::Limits;
use fleetway_tuf::memory::Memory;
use fleetway_tuf::roles::{Pin, Pins, Root, Targets, read};
use serde_json::Value;

use crate::authority::{Authority, NOW_S, Team, key, try_sign};

const MANIFEST: &[u8] = b"the manifest";
/// Files that a client may ask for until it is done or gives up: every root that it follows, and
/// each of the roles that it visits, with room for asking twice.
const ASKED_MAX: usize =
    2 * (Limits::DEVICE.root_rotations_max + Limits::DEVICE.delegations_max) as usize + 8;

/// An honest repository, and what a device kept of it.
struct Honest {
    authority: Authority,
    pinned: Vec<u8>,
    kept: Memory,
}

static HONEST: LazyLock<Honest> = LazyLock::new(|| {
    let mut authority = Authority::default();
    let pinned = authority.publish_root(&[]);
    authority.list("digits/v1", MANIFEST, 1);
    let team = Team {
        key: key(30),
        paths: vec!["faces/*".to_owned()],
        targets: authority.targets.clone(),
        version: 1,
    };
    authority.teams.insert("vision".to_owned(), team);
    authority.publish();
    let mut kept = Memory::default();
    let mut client = open(&pinned, &kept, Transport::Push);
    drive(&mut client, &mut kept, &authority, |c, s| c.refresh(s, NOW_S)).expect("honest");
    authority.publish_next();
    Honest { authority, pinned, kept }
});

fn open(pinned: &[u8], shelf: &Memory, transport: Transport) -> Client {
    Client::open(pinned, shelf, Limits::DEVICE, transport).expect("an honest root")
}

/// Answers what the client asks for until it is content or gives up; it has to.
fn drive<T>(
    client: &mut Client,
    shelf: &mut Memory,
    authority: &Authority,
    mut ask: impl FnMut(&mut Client, &mut Memory) -> Result<T, TrustError>,
) -> Result<T, TrustError> {
    if let Some(bytes) = authority.files.get("timestamp.json") {
        client.offer("timestamp.json", bytes)?;
    }
    if let Some(bytes) = authority.files.get("2.root.json") {
        client.offer("2.root.json", bytes)?;
    }
    let mut asked = Vec::new();
    loop {
        let name = match ask(client, shelf) {
            Err(TrustError::Needs(name)) => name,
            other => return other,
        };
        assert!(asked.len() < ASKED_MAX, "it never stops asking: {asked:?}");
        match authority.files.get(&name).filter(|_| !asked.contains(&name)) {
            Some(bytes) => client.offer(&name, bytes)?,
            None if asked.contains(&name) => return Err(TrustError::Needs(name)),
            None => client.absent(&name),
        }
        asked.push(name);
    }
}

/// Puts what the fuzzer says into one file, and signs and pins it like the real one.
fn put(authority: &mut Authority, which: u8, said: &[u8]) {
    let object = serde_json::from_slice::<Value>(said).ok().filter(Value::is_object);
    let file = |keys: &[_]| match &object {
        // A number with a fraction cannot be signed; the bytes then stand as they are.
        Some(object) => try_sign(object, keys).unwrap_or_else(|_| said.to_vec()),
        None => said.to_vec(),
    };
    let version = object.as_ref().and_then(|object| object["version"].as_u64()).unwrap_or(2);
    let pin = |authority: &mut Authority, name: &str, bytes: &[u8]| {
        let snapshot = TrustFile::Snapshot(authority.versions[2]).to_string();
        let (mut pins, ..) = read::<Pins>(&authority.files[&snapshot]).expect("honest");
        pins.meta.insert(name.to_owned(), Pin::of(version, bytes));
        let bytes = try_sign(&pins, &[&authority.snapshot_key]).expect("honest");
        let pin = Pin::of(authority.versions[2], &bytes);
        authority.files.insert(snapshot, bytes);
        authority.publish_timestamp(pin);
    };
    match which % 5 {
        0 => {
            let roots: Vec<_> = authority.root_keys.iter().collect();
            let bytes = file(&roots);
            authority.files.insert("2.root.json".to_owned(), bytes);
        }
        1 => {
            let bytes = file(&[&authority.timestamp_key]);
            authority.files.insert("timestamp.json".to_owned(), bytes);
        }
        2 => {
            let bytes = file(&[&authority.snapshot_key]);
            authority.versions[2] = version;
            authority.publish_timestamp(Pin::of(version, &bytes));
            authority.files.insert(format!("{version}.snapshot.json"), bytes);
        }
        3 => {
            let bytes = file(&[&authority.targets_key]);
            pin(authority, "targets.json", &bytes);
            authority.files.insert(format!("{version}.targets.json"), bytes);
        }
        _ => {
            let bytes = file(&[&authority.teams["vision"].key]);
            pin(authority, "vision.json", &bytes);
            authority.files.insert(format!("{version}.vision.json"), bytes);
        }
    }
}

/// The client, with a past and without one. It ends within its bounds, versions never fall, and
/// nothing is authorised that nobody signed.
pub(super) fn client(bytes: &[u8]) -> bool {
    let Some((&head, said)) = bytes.split_first() else { return false };
    let honest = &*HONEST;
    let mut authority = honest.authority.clone();
    put(&mut authority, head, said);
    let transport = if head & 0x80 == 0 { Transport::Push } else { Transport::Pull };
    let (before, mut shelf) = match head & 0x40 {
        0 => (Some(honest.kept.floors.clone()), honest.kept.clone()),
        _ => (None, Memory::default()),
    };
    let mut client = open(&honest.pinned, &shelf, transport);
    let refreshed = drive(&mut client, &mut shelf, &authority, |c, s| c.refresh(s, NOW_S));
    if let Some(before) = before {
        let after = &shelf.floors;
        assert!(after.root >= before.root);
        let same_keys = after.root == before.root;
        assert!(!same_keys || after.timestamp >= before.timestamp);
        assert!(!same_keys || after.snapshot >= before.snapshot);
    }
    for model in ["digits", "faces"] {
        let (model, version) = (ModelName::new(model).expect("a name"), Version::new("v1"));
        let version = version.expect("a version");
        let digest = Digest::of(b"nobody signs this");
        let release = Release { model: &model, version: &version, counter: 1, digest, length: 12 };
        let forged =
            drive(&mut client, &mut shelf, &authority, |c, s| c.authorize(s, &release, NOW_S));
        // Who holds the key of a list may list it; nobody else can.
        assert!(forged.is_err() || head % 5 >= 3, "{forged:?}");
    }
    let _ = drive(&mut client, &mut shelf, &authority, |c, s| c.keyset(s, NOW_S));
    refreshed.is_ok()
}

pub(super) fn client_samples() -> Vec<Vec<u8>> {
    let mut authority = HONEST.authority.clone();
    authority.rotate(|a| a.root_keys.rotate_left(1));
    let signed = |name: &str| {
        let file: Value = serde_json::from_slice(&authority.files[name]).expect("honest");
        file["signed"].to_string().into_bytes()
    };
    let names =
        ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json", "1.vision.json"];
    let mut samples = Vec::new();
    for (which, name) in (0u8..).zip(names) {
        for how in [0, 0x40, 0x80] {
            // Every bit that says how keeps the remainder that says which.
            let head = (0..0x40).map(|low| how | low).find(|head| head % 5 == which);
            samples.push([&[head.expect("five of 64")][..], &signed(name)].concat());
        }
    }
    samples
}

/// A file as its author reads it again.
pub(super) fn file(bytes: &[u8]) -> bool {
    let (root, targets) = (read::<Root>(bytes).is_ok(), read::<Targets>(bytes).is_ok());
    let _ = check_root(bytes);
    root || targets || read::<Pins>(bytes).is_ok()
}
