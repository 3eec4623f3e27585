//! All files of the release authority together: what is in force, and what is staged.

use std::collections::BTreeMap;

use fleetway_protocol::codec;
use fleetway_protocol::envelope::{Context, Envelope, EnvelopeSignature, PublicKey};
use fleetway_protocol::ids::{Digest, ModelName, RoleName};
use fleetway_protocol::keyset::{Keyset, Scope};
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, KEYSET_BYTES_MAX};
use fleetway_tuf::key::Key;
use fleetway_tuf::roles::{DelegatedRole, Pins, RoleKeys, Root, Targets};

use super::meta::{Meta, name_of};
use super::{KEYSET_TARGET, TrustError};

/// One state of the files that people sign.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Version {
    /// Who may sign for the four roles.
    pub root: Option<Meta<Root>>,
    /// The same for devices without JSON, and for whose orders are obeyed.
    pub keyset: Option<KeysetFile>,
    /// What may run.
    pub targets: Option<Meta<Targets>>,
    /// What teams say may run.
    pub teams: BTreeMap<RoleName, Meta<Targets>>,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Repo {
    /// Every root before the one in force, exact bytes, oldest first: devices that were away
    /// follow them.
    pub roots: Vec<Vec<u8>>,
    /// Every keyset before the one in force, exact bytes, by version: devices without TUF follow
    /// them one by one. A directory of an older build has none.
    pub keysets: BTreeMap<u64, Vec<u8>>,
    /// In force.
    pub published: Version,
    /// Waits for signatures.
    pub staged: Version,
    /// Pins the targets, signed by the server.
    pub snapshot: Option<Meta<Pins>>,
    /// Pins the snapshot, signed by the server.
    pub timestamp: Option<Meta<Pins>>,
}

/// A key with what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey {
    /// What it is called.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

impl Version {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Repo {
    /// The root that will be in force, staged or not.
    ///
    /// # Errors
    /// [`TrustError::None`] before `trust init`.
    pub fn root(&self) -> Result<&Meta<Root>, TrustError> {
        self.staged.root.as_ref().or(self.published.root.as_ref()).ok_or(TrustError::None)
    }

    /// The keyset that will be in force.
    ///
    /// # Errors
    /// [`TrustError::None`] before `trust init`.
    pub fn keyset(&self) -> Result<&KeysetFile, TrustError> {
        self.staged.keyset.as_ref().or(self.published.keyset.as_ref()).ok_or(TrustError::None)
    }

    /// The targets that will be in force, if there are any yet.
    pub fn targets(&self) -> Option<&Meta<Targets>> {
        self.staged.targets.as_ref().or(self.published.targets.as_ref())
    }

    /// A team's targets that will be in force, if there are any yet.
    pub fn team_targets(&self, team: &RoleName) -> Option<&Meta<Targets>> {
        self.staged.teams.get(team).or_else(|| self.published.teams.get(team))
    }

    /// The teams that will be in force.
    pub fn teams(&self) -> Vec<Team> {
        self.targets().map(|targets| teams(&targets.role)).unwrap_or_default()
    }

    /// Whether the targets that will be in force list this keyset.
    pub fn lists(&self, keyset: &KeysetFile) -> bool {
        let listed = self.targets().and_then(|targets| targets.role.targets.get(KEYSET_TARGET));
        listed.and_then(|file| file.hashes.get("sha256"))
            == Some(&Digest::of(keyset.bytes()).to_string())
    }

    /// Every key that the root names, by name: the answer to `key list`.
    pub fn key_named(&self, name: &str) -> Result<NamedKey, TrustError> {
        let root = &self.root()?.role;
        let teams = self.targets().and_then(|t| t.role.delegations.as_ref());
        let mut all = root.keys.values().chain(teams.iter().flat_map(|d| d.keys.values()));
        let found =
            all.find(|key| name_of(key) == name || (name.len() >= 8 && key.id().starts_with(name)));
        let key = found.and_then(|key| key.public().ok());
        key.map(|key| NamedKey { name: name.to_owned(), key })
            .ok_or_else(|| TrustError::NoKey(name.to_owned()))
    }

    /// What a key is called, wherever it stands.
    pub fn name(&self, key: &PublicKey) -> String {
        let id = super::meta::key_id(key);
        let roots = [&self.staged.root, &self.published.root].into_iter().flatten();
        let in_root = roots.filter_map(|root| root.role.keys.get(&id)).next();
        let in_teams = || self.targets()?.role.delegations.as_ref()?.keys.get(&id);
        in_root.or_else(in_teams).map_or_else(|| id.chars().take(12).collect(), name_of)
    }
}

/// A team and its models.
#[derive(Clone, Debug, PartialEq)]
pub struct Team {
    /// Its name.
    pub name: RoleName,
    /// Its keys.
    pub keys: Vec<NamedKey>,
    /// How many of them must sign.
    pub threshold: u8,
    /// Its models.
    pub models: Vec<Scope>,
}

impl Team {
    /// Whether it may release `model`.
    pub fn covers(&self, model: &ModelName) -> bool {
        self.models.iter().any(|scope| scope.covers(model))
    }
}

/// The teams of a targets file; what is not of our making is left out.
fn teams(targets: &Targets) -> Vec<Team> {
    let Some(delegations) = &targets.delegations else { return Vec::new() };
    let team = |role: &DelegatedRole| {
        let scope = |path: &String| path.strip_suffix("/*").and_then(|text| Scope::new(text).ok());
        Some(Team {
            name: RoleName::new(&role.name).ok()?,
            keys: keys_of(&role.keys, &delegations.keys),
            threshold: role.keys.threshold,
            models: role.paths.iter().filter_map(scope).collect(),
        })
    };
    delegations.roles.iter().filter_map(team).collect()
}

/// The keys of a role, with their names.
pub fn keys_of(role: &RoleKeys, keys: &BTreeMap<String, Key>) -> Vec<NamedKey> {
    let named = |id: &String| {
        let key = keys.get(id)?;
        Some(NamedKey { name: name_of(key), key: key.public().ok()? })
    };
    role.keyids.iter().filter_map(named).collect()
}

/// The keys of one of the root's roles.
pub fn root_keys(root: &Root, role: &str) -> (Vec<NamedKey>, u8) {
    let Some(role) = root.roles.get(role) else { return (Vec::new(), 1) };
    (keys_of(role, &root.keys), role.threshold)
}

/// A keyset in its envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct KeysetFile {
    /// What it says.
    pub keyset: Keyset,
    bytes: Vec<u8>,
}

impl KeysetFile {
    /// A keyset without signatures.
    pub fn new(keyset: Keyset) -> Self {
        let mut payload = [0; KEYSET_BYTES_MAX];
        let payload =
            codec::encode(&keyset, &mut payload).expect("the bound is that of a full one");
        let bytes = encode(&Envelope::new(payload));
        Self { keyset, bytes }
    }

    /// Reads a keyset; its signatures are not checked.
    ///
    /// # Errors
    /// The reader's, in words.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let envelope = Envelope::decode(bytes).map_err(|error| error.to_string())?;
        let keyset = codec::decode(envelope.payload_unchecked(), KEYSET_BYTES_MAX)
            .map_err(|error| error.to_string())?;
        Ok(Self { keyset, bytes: bytes.to_vec() })
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope::decode(&self.bytes).expect("it was encoded or decoded before")
    }

    /// The exact bytes that are signed.
    pub fn payload(&self) -> &[u8] {
        self.envelope().payload_unchecked()
    }

    /// Whether `key` signed it.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.envelope().good_signers(Context::Keyset)(key)
    }

    /// Adds a signature that was checked.
    ///
    /// # Errors
    /// If there is no room for more.
    pub fn add(&mut self, signature: EnvelopeSignature) -> Result<(), TrustError> {
        let mut envelope = self.envelope();
        envelope.push(signature).map_err(|_| TrustError::Input {
            what: "the keyset".to_owned(),
            why: "it has eight signatures; no more fit".to_owned(),
        })?;
        let bytes = encode(&envelope);
        self.bytes = bytes;
        Ok(())
    }
}

fn encode(envelope: &Envelope<'_>) -> Vec<u8> {
    let mut buf = [0; ENVELOPE_BYTES_MAX];
    envelope.encode(&mut buf).expect("the bound is that of a full one").to_vec()
}
