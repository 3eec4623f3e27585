//! Whose signatures are there, and whose are missing.
//!
//! A staged file leaves as it is (`2.root.json`, `2.keyset`), is signed on whichever machine
//! has the key ([`sign_files`]), and a small file of signatures comes back ([`Repo::add`]).
//! Each signature is checked when it comes in, so that what [`super::publish`] counts holds.

use fleetway_protocol::envelope::{Context, EnvelopeSignature, PublicKey, message};
use fleetway_protocol::ids::{Digest, RoleName};
use fleetway_tuf::key::Key;
use fleetway_tuf::roles::{Root, Targets};
use serde::{Deserialize, Serialize};

use super::TrustError;
use super::meta::{Meta, Role, holds, key_id};
use super::repo::{KeysetFile, NamedKey, Repo, root_keys};
use super::signer::{self, Signer};

/// What a staged file needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its name in `staged/`.
    pub file: String,
    /// Which keys are asked: `root`, `root before`, `targets`, a team.
    pub role: String,
    /// How many of them must sign.
    pub threshold: u8,
    /// Who has signed.
    pub signed: Vec<NamedKey>,
    /// Who has not.
    pub open: Vec<NamedKey>,
}

impl Need {
    fn new(
        file: &str,
        role: &str,
        (keys, threshold): (Vec<NamedKey>, u8),
        has: impl Fn(&PublicKey) -> bool,
    ) -> Self {
        let (signed, open) = keys.into_iter().partition(|named| has(&named.key));
        Self { file: file.to_owned(), role: role.to_owned(), threshold, signed, open }
    }

    /// How many signatures are still missing.
    pub fn missing(&self) -> usize {
        usize::from(self.threshold).saturating_sub(self.signed.len())
    }

    /// The same in a sentence; `None` if nothing is missing.
    pub fn sentence(&self) -> Option<String> {
        let names = |keys: &[NamedKey]| {
            keys.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let Self { file, role, .. } = self;
        match self.missing() {
            0 => None,
            n if n > self.open.len() => Some(format!(
                "{file} needs {n} more by {role}, but only {} can still sign",
                if self.open.is_empty() { "nobody".to_owned() } else { names(&self.open) }
            )),
            n => Some(format!("{file} needs {n} more by {role}: of {}", names(&self.open))),
        }
    }
}

/// Names of what is staged.
fn versioned(version: u64, what: &str) -> String {
    format!("{version}.{what}")
}

impl Repo {
    /// Name in `staged/` of the staged keyset.
    fn keyset_name(file: &KeysetFile) -> String {
        versioned(file.keyset.version, "keyset")
    }

    /// The staged files: name and bytes.
    pub fn staged_files(&self) -> Vec<(String, Vec<u8>)> {
        let staged = &self.staged;
        let mut files = Vec::new();
        let named = |meta: &Meta<Targets>, role: &str| {
            (versioned(meta.version(), &format!("{role}.json")), meta.bytes())
        };
        files.extend(staged.root.iter().map(|m| (versioned(m.version(), "root.json"), m.bytes())));
        files.extend(staged.keyset.iter().map(|k| (Self::keyset_name(k), k.bytes().to_vec())));
        files.extend(staged.targets.iter().map(|meta| named(meta, "targets")));
        files.extend(staged.teams.iter().map(|(team, meta)| named(meta, team.as_str())));
        files
    }

    /// What every staged file needs, in the order in which it is signed.
    ///
    /// # Errors
    /// [`TrustError::None`] before `trust init`.
    pub fn needs(&self) -> Result<Vec<Need>, TrustError> {
        let root = &self.root()?.role;
        let before = self.published.root.as_ref().map(|meta| root_keys(&meta.role, "root"));
        let mut needs = Vec::new();
        let mut by_root = |file: &str, has: &dyn Fn(&PublicKey) -> bool| {
            let now = root_keys(root, "root");
            let changed = before.as_ref().is_some_and(|before| *before != now);
            needs.push(Need::new(file, "root", now, has));
            if let Some(before) = before.clone().filter(|_| changed) {
                needs.push(Need::new(file, "root before", before, has));
            }
        };
        if let Some(meta) = &self.staged.root {
            by_root(&versioned(meta.version(), "root.json"), &|key| meta.is_signed_by(key));
        }
        if let Some(file) = &self.staged.keyset {
            by_root(&Self::keyset_name(file), &|key| file.is_signed_by(key));
        }
        if let Some(meta) = &self.staged.targets {
            let file = versioned(meta.version(), "targets.json");
            let keys = root_keys(root, "targets");
            needs.push(Need::new(&file, "targets", keys, |key| meta.is_signed_by(key)));
        }
        let teams = self.teams();
        for (name, meta) in &self.staged.teams {
            let file = versioned(meta.version(), &format!("{name}.json"));
            let team = teams.iter().find(|team| team.name == *name);
            let keys = team.map_or((Vec::new(), 1), |team| (team.keys.clone(), team.threshold));
            needs.push(Need::new(&file, name.as_str(), keys, |key| meta.is_signed_by(key)));
        }
        Ok(needs)
    }

    /// Whether the keyset that will be in force has all signatures.
    pub(super) fn is_keyset_complete(&self) -> bool {
        let Some(file) = &self.staged.keyset else { return self.published.keyset.is_some() };
        let name = Self::keyset_name(file);
        self.needs().is_ok_and(|n| n.iter().all(|need| need.file != name || need.missing() == 0))
    }

    /// Signs everything staged that asks for this key; gives the names of what was signed.
    /// What becomes due by that (targets, once the keyset is whole) is signed as well.
    ///
    /// # Errors
    /// [`TrustError::NotNeeded`] if nothing asks for it; the signer's.
    pub fn sign(&mut self, signer: &dyn Signer, now_s: u64) -> Result<Vec<String>, TrustError> {
        let key = signer.public();
        let mut done: Vec<String> = Vec::new();
        loop {
            let due = self.needs()?.into_iter().find(|need| {
                need.open.iter().any(|named| named.key == key) && !done.contains(&need.file)
            });
            let Some(need) = due else { break };
            // A whole keyset stays as it is: its digest is what the targets list.
            let whole = need.file.ends_with(".keyset") && self.is_keyset_complete();
            if !whole {
                let raw = signer::sign(signer, &self.message_of(&need.file)?)?;
                self.put(&need.file, &key, &raw)?;
            }
            done.push(need.file);
            self.settle(now_s)?;
        }
        if done.is_empty() {
            return Err(TrustError::NotNeeded(self.name(&key)));
        }
        Ok(done)
    }

    /// Takes signatures in that were made elsewhere. Gives the names of the files signed.
    ///
    /// # Errors
    /// [`TrustError`] for the first one that does not hold or that nobody asked for; nothing
    /// is changed then.
    pub fn add(&mut self, detached: &Detached, now_s: u64) -> Result<Vec<String>, TrustError> {
        let before = self.staged.clone();
        let mut done = Vec::new();
        for made in &detached.signatures {
            let added = self.add_one(made).and_then(|()| self.settle(now_s));
            if let Err(error) = added {
                self.staged = before;
                return Err(error);
            }
            done.push(made.file.clone());
        }
        Ok(done)
    }

    fn add_one(&mut self, made: &DetachedSignature) -> Result<(), TrustError> {
        let file = made.file.clone();
        let key = made.key.public().map_err(|error| TrustError::Input {
            what: format!("the signature on {file}"),
            why: error.to_string(),
        })?;
        let wrong = |why| TrustError::Signature { key: made.name.clone(), file: file.clone(), why };
        let needs = self.needs()?;
        if !needs.iter().any(|need| need.file == file) {
            return Err(wrong("no such file waits for signatures"));
        }
        let asked = |keys: &[NamedKey]| keys.iter().any(|named| named.key == key);
        if !needs.iter().any(|n| n.file == file && (asked(&n.open) || asked(&n.signed))) {
            return Err(wrong("this key is not asked to sign it"));
        }
        let message = self.message_of(&file)?;
        if Digest::of(&message).to_string() != made.sha256 {
            return Err(wrong("it was made over another version of the file"));
        }
        if !holds(&key, &message, &made.sig) {
            return Err(wrong("it was changed, or made with another key"));
        }
        if file.ends_with(".keyset") && self.is_keyset_complete() {
            return Ok(());
        }
        let raw = data_encoding::HEXLOWER.decode(made.sig.as_bytes()).unwrap_or_default();
        let raw = raw.try_into().map_err(|_| wrong("it has not 64 bytes"))?;
        self.put(&file, &key, &raw)
    }

    fn message_of(&self, file: &str) -> Result<Vec<u8>, TrustError> {
        let found = self.staged_files().into_iter().find(|(name, _)| name == file);
        let (name, bytes) = found.ok_or(TrustError::Nothing)?;
        message_to_sign(&name, &bytes)
    }

    fn put(&mut self, file: &str, key: &PublicKey, raw: &[u8; 64]) -> Result<(), TrustError> {
        let staged = &mut self.staged;
        match file.split_once('.').map(|(_, role)| role) {
            Some("keyset") => {
                let made = EnvelopeSignature::new(key, raw);
                staged.keyset.as_mut().map_or(Ok(()), |file| file.add(made))?;
            }
            Some("root.json") => staged.root.iter_mut().for_each(|meta| meta.add(key, raw)),
            Some("targets.json") => staged.targets.iter_mut().for_each(|meta| meta.add(key, raw)),
            Some(team) => {
                let team = team.strip_suffix(".json").and_then(|name| RoleName::new(name).ok());
                let meta = team.and_then(|team| staged.teams.get_mut(&team));
                meta.into_iter().for_each(|meta| meta.add(key, raw));
            }
            None => {}
        }
        Ok(())
    }
}

/// Signatures that travel without their files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detached {
    /// The format: 1.
    pub fleetway_signatures: u8,
    /// The signatures.
    pub signatures: Vec<DetachedSignature>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetachedSignature {
    /// The staged file.
    pub file: String,
    /// SHA-256 of what was signed.
    pub sha256: String,
    /// Whose, for people.
    pub name: String,
    /// The key.
    pub key: Key,
    /// 64 bytes in hexadecimal.
    pub sig: String,
}

/// Bytes of a file of signatures at most: a hundred of them.
pub const DETACHED_BYTES_MAX: u64 = 64 * 1024;

impl Detached {
    /// Reads what another machine wrote.
    ///
    /// # Errors
    /// [`TrustError::Input`].
    pub fn read(bytes: &[u8], what: &str) -> Result<Self, TrustError> {
        let wrong = |why: String| TrustError::Input { what: what.to_owned(), why };
        let read: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        match read.fleetway_signatures {
            1 => Ok(read),
            n => Err(wrong(format!("it has format {n}; this build reads 1"))),
        }
    }
}

/// Signs files away from home: nothing but the files and a key is there.
///
/// # Errors
/// [`TrustError::Input`] for a file that is none of ours, or that expired; the signer's.
pub fn sign_files(
    files: &[(String, Vec<u8>)],
    signer: &dyn Signer,
    name: &str,
) -> Result<Detached, TrustError> {
    let public = signer.public();
    let mut signatures = Vec::new();
    for (file, bytes) in files {
        let message = message_to_sign(file, bytes)?;
        let raw = signer::sign(signer, &message)?;
        signatures.push(DetachedSignature {
            file: file.clone(),
            sha256: Digest::of(&message).to_string(),
            name: name.to_owned(),
            key: super::meta::named(&public, name),
            sig: data_encoding::HEXLOWER.encode(&raw),
        });
    }
    Ok(Detached { fleetway_signatures: 1, signatures })
}

/// The bytes that a signature over this file covers, after a look at the file.
fn message_to_sign(name: &str, bytes: &[u8]) -> Result<Vec<u8>, TrustError> {
    let wrong = |why: String| TrustError::Input { what: name.to_owned(), why };
    if name.ends_with(".keyset") {
        let file = KeysetFile::read(bytes).map_err(wrong)?;
        return Ok(message(Context::Keyset, file.payload()).to_vec());
    }
    if name.ends_with(".root.json") {
        return checked::<Root>(bytes, "root").map_err(wrong);
    }
    checked::<Targets>(bytes, "targets").map_err(wrong)
}

fn checked<T: Role>(bytes: &[u8], kind: &str) -> Result<Vec<u8>, String> {
    let meta = Meta::<T>::read(bytes)?;
    match meta.role.head().kind.as_str() {
        found if found == kind => Ok(meta.message()),
        found => Err(format!("it is called {kind} and says it is {found}")),
    }
}

/// The id of a signer's key, as TUF has it.
pub fn id_of(signer: &dyn Signer) -> String {
    key_id(&signer.public())
}
