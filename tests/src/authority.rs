//! A release authority in memory, for tests: real keys, real files, no disk.
//!
//! Everything that it says can be changed before [`Authority::publish`] writes it down, right or
//! wrong: the attacks of the tests are honest files with one thing out of place.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey};
use fleetway_protocol::envelope::{self, Authority as Keys, Context, Envelope, PublicKey};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::keyset::Keyset;
use fleetway_protocol::limits::ENVELOPE_BYTES_MAX;
use fleetway_protocol::trust_file::TrustFile;
use fleetway_tuf::client::KEYSET_PATH;
use fleetway_tuf::key::Key;
use fleetway_tuf::roles::{
    DelegatedRole, Delegations, Head, Pin, Pins, RoleKeys, Root, Signature, Signed, TargetFile,
    Targets, file,
};
use serde::Serialize;
use serde_json::json;

/// When the tests take place, Unix seconds.
pub const NOW_S: u64 = 1_800_000_000;
/// One day, seconds.
pub const DAY_S: u64 = 86_400;

/// Signs `payload` for a compact object.
pub fn seal(keys: &[&SigningKey], context: Context, payload: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::new(payload);
    for key in keys {
        envelope.push(envelope::sign(key, context, payload)).expect("room for a signature");
    }
    envelope.encode(&mut [0; ENVELOPE_BYTES_MAX]).expect("fits").to_vec()
}

/// A key from a seed.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn tuf_key(key: &SigningKey) -> Key {
    Key::new(&key.verifying_key().to_bytes())
}

/// What a team lists.
#[derive(Clone)]
pub struct Team {
    /// Its key.
    pub key: SigningKey,
    /// The paths that are delegated to it.
    pub paths: Vec<String>,
    /// What it lists.
    pub targets: BTreeMap<String, TargetFile>,
    /// Version of its file.
    pub version: u64,
}

/// The release authority.
#[derive(Clone)]
pub struct Authority {
    /// Root keys, and how many must sign.
    pub root_keys: Vec<SigningKey>,
    /// How many of them must sign.
    pub root_threshold: u8,
    /// Signs the targets.
    pub targets_key: SigningKey,
    /// Signs the snapshot.
    pub snapshot_key: SigningKey,
    /// Signs the timestamp.
    pub timestamp_key: SigningKey,
    /// Versions of root, timestamp, snapshot, targets.
    pub versions: [u64; 4],
    /// When they expire, Unix seconds, in the same order.
    pub expires_s: [u64; 4],
    /// What is listed.
    pub targets: BTreeMap<String, TargetFile>,
    /// To whom is delegated.
    pub teams: BTreeMap<String, Team>,
    /// What is published, by file name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Default for Authority {
    /// Three root keys of which two sign; good for a year, a day, a week and a quarter.
    fn default() -> Self {
        let days = [365, 1, 7, 90];
        Self {
            root_keys: vec![key(11), key(12), key(13)],
            root_threshold: 2,
            targets_key: key(14),
            snapshot_key: key(15),
            timestamp_key: key(16),
            versions: [1, 1, 1, 1],
            expires_s: days.map(|days| NOW_S + days * DAY_S),
            targets: BTreeMap::new(),
            teams: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }
}

fn sign(role: &impl Serialize, keys: &[&SigningKey]) -> Vec<u8> {
    try_sign(role, keys).expect("whole numbers")
}

/// The same for whatever somebody says.
pub(crate) fn try_sign(
    role: &impl Serialize,
    keys: &[&SigningKey],
) -> Result<Vec<u8>, fleetway_tuf::json::JsonError> {
    let signed = Signed::new(role)?;
    let bytes = signed.bytes();
    let sign = |key: &&SigningKey| Signature {
        keyid: tuf_key(key).id(),
        sig: key.sign(&bytes).to_bytes().iter().map(|b| format!("{b:02x}")).collect(),
    };
    Ok(file(&signed, &keys.iter().map(sign).collect::<Vec<_>>()))
}

impl Authority {
    fn head(&self, role: &str, at: usize) -> Head {
        Head::new(role, self.versions[at], self.expires_s[at]).expect("a time")
    }

    /// The root as a file, signed by `signers`.
    pub fn root(&self, signers: &[&SigningKey]) -> Vec<u8> {
        let roles = [
            ("root", self.root_keys.iter().collect::<Vec<_>>(), self.root_threshold),
            ("targets", vec![&self.targets_key], 1),
            ("snapshot", vec![&self.snapshot_key], 1),
            ("timestamp", vec![&self.timestamp_key], 1),
        ];
        let ids = |keys: &[&SigningKey]| keys.iter().map(|key| tuf_key(key).id()).collect();
        let all = roles.iter().flat_map(|(_, keys, _)| keys).map(|key| tuf_key(key));
        let root = Root {
            head: self.head("root", 0),
            consistent_snapshot: true,
            keys: all.map(|key| (key.id(), key)).collect(),
            roles: roles
                .iter()
                .map(|(name, keys, threshold)| {
                    ((*name).to_owned(), RoleKeys { keyids: ids(keys), threshold: *threshold })
                })
                .collect(),
        };
        sign(&root, signers)
    }

    /// Publishes the root, signed by the first keys that are enough, and by `others`.
    pub fn publish_root(&mut self, others: &[SigningKey]) -> Vec<u8> {
        let enough = self.root_keys.iter().take(usize::from(self.root_threshold));
        let mut signers: Vec<&SigningKey> = enough.collect();
        signers.extend(
            others.iter().filter(|other| {
                !self.root_keys[..usize::from(self.root_threshold)].contains(other)
            }),
        );
        let bytes = self.root(&signers);
        self.files.insert(TrustFile::Root(self.versions[0]).to_string(), bytes.clone());
        bytes
    }

    /// The next root: `change` it, then both the old and the new keys sign.
    pub fn rotate(&mut self, change: impl FnOnce(&mut Self)) {
        let old: Vec<_> =
            self.root_keys.iter().take(usize::from(self.root_threshold)).cloned().collect();
        change(self);
        self.versions[0] += 1;
        self.publish_root(&old);
    }

    /// Lists a manifest: the exact payload that is signed in its envelope.
    pub fn list(&mut self, path: &str, payload: &[u8], counter: u64) {
        let custom = json!({ "counter": counter });
        let listed = TargetFile::new(Digest::of(payload), payload.len() as u64, Some(custom));
        self.targets.insert(path.to_owned(), listed);
    }

    /// Makes, signs, lists and publishes a keyset; its file.
    pub fn publish_keyset(
        &mut self,
        version: u64,
        release: &[&SigningKey],
        director: &SigningKey,
    ) -> Vec<u8> {
        let public = |key: &SigningKey| PublicKey::of(key);
        let root: Vec<_> = self.root_keys.iter().map(public).collect();
        let release: Vec<_> = release.iter().map(|key| public(key)).collect();
        let authority = |keys: &[PublicKey], n| Keys::new(keys, n).expect("a threshold");
        let keyset = Keyset {
            version,
            root: authority(&root, self.root_threshold),
            release: authority(&release, 1).into(),
            director: authority(&[public(director)], 1),
        };
        let mut buf = [0; ENVELOPE_BYTES_MAX];
        let payload = fleetway_protocol::codec::encode(&keyset, &mut buf).expect("fits").to_vec();
        let signers: Vec<_> =
            self.root_keys.iter().take(usize::from(self.root_threshold)).collect();
        let bytes = seal(&signers, Context::Keyset, &payload);
        let digest = Digest::of(&bytes);
        let listed = TargetFile::new(digest, bytes.len() as u64, None);
        self.targets.insert(KEYSET_PATH.to_owned(), listed);
        self.files.insert(TrustFile::Keyset(digest).to_string(), bytes.clone());
        bytes
    }

    /// Publishes targets, teams, snapshot and timestamp as they stand.
    pub fn publish(&mut self) {
        let mut delegations = Delegations::default();
        let mut pins = BTreeMap::new();
        for (name, team) in &self.teams {
            let key = tuf_key(&team.key);
            let keys = RoleKeys { keyids: vec![key.id()], threshold: 1 };
            let (name, paths) = (name.clone(), team.paths.clone());
            delegations.keys.insert(key.id(), key);
            let role = DelegatedRole { name: name.clone(), keys, terminating: true, paths };
            delegations.roles.push(role);
            let head = Head::new("targets", team.version, self.expires_s[3]).expect("a time");
            let targets = Targets { head, targets: team.targets.clone(), delegations: None };
            let bytes = sign(&targets, &[&team.key]);
            pins.insert(format!("{name}.json"), Pin::of(team.version, &bytes));
            self.files.insert(format!("{}.{name}.json", team.version), bytes);
        }
        let targets = Targets {
            head: self.head("targets", 3),
            targets: self.targets.clone(),
            delegations: (!self.teams.is_empty()).then_some(delegations),
        };
        let targets = sign(&targets, &[&self.targets_key]);
        pins.insert("targets.json".to_owned(), Pin::of(self.versions[3], &targets));
        self.files.insert(TrustFile::Targets(self.versions[3]).to_string(), targets);
        let snapshot = Pins { head: self.head("snapshot", 2), meta: pins };
        let snapshot = sign(&snapshot, &[&self.snapshot_key]);
        let pin = Pin::of(self.versions[2], &snapshot);
        self.files.insert(TrustFile::Snapshot(self.versions[2]).to_string(), snapshot);
        self.publish_timestamp(pin);
    }

    /// Publishes a timestamp that pins `snapshot`.
    pub fn publish_timestamp(&mut self, snapshot: Pin) {
        let meta = [("snapshot.json".to_owned(), snapshot)].into();
        let timestamp = Pins { head: self.head("timestamp", 1), meta };
        let bytes = sign(&timestamp, &[&self.timestamp_key]);
        self.files.insert(TrustFile::Timestamp.to_string(), bytes);
    }

    /// New versions of targets, snapshot and timestamp, published.
    pub fn publish_next(&mut self) {
        for version in &mut self.versions[1..] {
            *version += 1;
        }
        self.publish();
    }

    /// The pin of the newest snapshot.
    pub fn snapshot_pin(&self) -> Pin {
        let name = TrustFile::Snapshot(self.versions[2]).to_string();
        Pin::of(self.versions[2], &self.files[&name])
    }
}
