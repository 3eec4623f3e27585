//! What a device believes of the release authority.
//!
//! **Contract.** Hand in files with [`Client::offer`], in any order, then call
//! [`Client::refresh`]: it succeeds, or names the file that it needs next
//! ([`TrustError::Needs`]), or says what is wrong. After a success [`Client::authorize`] and
//! [`Client::keyset`] answer, for as long as nothing expires. Nothing waits, nothing is
//! fetched, time is an argument; what was verified is durable ([`Shelf`]) before it counts.
//!
//! The pinned root is where every run begins: stored files are verified again each time.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fleetway_protocol::ids::{Counter, Digest, ModelName, Version};
use sigstore_tuf::metadata::Role as _;
use sigstore_tuf::{Error, TargetFile, Updater, UpdaterConfig};

use crate::desk::{Desk, Held, Table};
pub use crate::desk::{ROOTS, Transport};
pub use crate::error::TrustError;
use crate::floors::Floors;
use crate::json::check_nesting;
use crate::limits::Limits;

/// The target path of the keyset. No model may be called `fleetway`.
pub const KEYSET_PATH: &str = "fleetway/keyset";

/// Where verified metadata is kept. Files are replaced whole, the floors survive any cut.
pub trait Shelf {
    /// All files, by the names that they were put under ([`ROOTS`] and a version for a root).
    /// What is damaged may be left out; the floors hold all the same.
    fn files(&self) -> Vec<(String, Vec<u8>)>;
    /// The floors that were kept last.
    fn floors(&self) -> Floors;
    /// Makes a file durable.
    ///
    /// # Errors
    /// The disk's; the old file stays then.
    fn put_file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes the floors durable.
    ///
    /// # Errors
    /// The disk's; the old ones stay then.
    fn put_floors(&mut self, floors: &Floors) -> io::Result<()>;
}

/// A release as the director orders it.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// Which model.
    pub model: &'a ModelName,
    /// What people call it.
    pub version: &'a Version,
    /// Its counter.
    pub counter: Counter,
    /// SHA-256 of the manifest file.
    pub digest: Digest,
    /// Length of the manifest file, bytes.
    pub length: u64,
}

/// What is known of one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleState {
    /// `root`, `timestamp`, `snapshot`, `targets`.
    pub role: &'static str,
    /// Its version.
    pub version: u64,
    /// When it expires, Unix seconds.
    pub expires_s: u64,
}

/// The client. See the module page.
#[derive(Debug)]
pub struct Client {
    pinned: Vec<u8>,
    limits: Limits,
    transport: Transport,
    desk: Desk,
    updater: Updater,
    /// The last refresh succeeded.
    complete: bool,
    refused: Vec<TrustError>,
}

impl Client {
    /// A client that believes `pinned` and what `shelf` kept under it.
    ///
    /// # Errors
    /// [`TrustError`] if the pinned root is no root, or not signed by its own keys.
    pub fn open(
        pinned: &[u8],
        shelf: &dyn Shelf,
        limits: Limits,
        transport: Transport,
    ) -> Result<Self, TrustError> {
        crate::provider::install();
        check_file("root.json", pinned, &limits)?;
        let desk = Desk::new(transport, shelf.floors());
        for (name, bytes) in shelf.files() {
            if check_file(&name, &bytes, &limits).is_ok() {
                desk.table().held.insert(name, Held::new(bytes));
            }
        }
        let updater = begin(pinned, &limits, &desk)?;
        let pinned = pinned.to_vec();
        let refused = Vec::new();
        Ok(Self { pinned, limits, transport, desk, updater, complete: false, refused })
    }

    /// A file arrived. Its size and nesting are checked; everything else in [`Self::refresh`].
    ///
    /// # Errors
    /// [`TrustError::Size`].
    pub fn offer(&mut self, name: &str, bytes: &[u8]) -> Result<(), TrustError> {
        check_file(name, bytes, &self.limits)?;
        self.desk.table().hand.insert(name.to_owned(), Some(bytes.to_vec()));
        Ok(())
    }

    /// A file that was asked for is not there.
    pub fn absent(&mut self, name: &str) {
        self.desk.table().hand.insert(name.to_owned(), None);
    }

    /// The version that a newer root would have.
    pub fn next_root(&self) -> u64 {
        self.updater.trusted().root().version.saturating_add(1)
    }

    /// Verifies all that is here, and keeps what is new.
    ///
    /// With [`Transport::Push`] a file that does not verify is dropped, noted
    /// ([`Self::take_refused`]), and the rest is looked at again: who can put a bad file in the
    /// way could as well have withheld the good one.
    ///
    /// # Errors
    /// [`TrustError`]: what is missing, or what is wrong.
    pub fn refresh(&mut self, shelf: &mut dyn Shelf, now_s: u64) -> Result<(), TrustError> {
        let now = timestamp(now_s);
        if self.nothing_new(now_s) {
            return Ok(());
        }
        self.complete = false;
        loop {
            self.updater = begin(&self.pinned, &self.limits, &self.desk)?;
            let result = ready(self.updater.refresh(now));
            match self.settle(shelf, result) {
                Ok(()) => {
                    self.complete = true;
                    // A team's file may have come already, for the question that comes next.
                    self.desk.table().hand.retain(|name, _| is_of_a_team(name));
                    return Ok(());
                }
                Err(error) if self.drop_culprit(&error) => {
                    if self.transport == Transport::Pull {
                        return Err(error);
                    }
                    self.refused.push(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the last refresh still says everything: brokers repeat the timestamp at every
    /// connection, and five signatures are not free.
    fn nothing_new(&self, now_s: u64) -> bool {
        let mut table = self.desk.table();
        let Table { hand, held, .. } = &mut *table;
        let known = |name: &str, bytes: &Option<Vec<u8>>| {
            let held = held.get(name).map(|held| &held.bytes);
            name == "timestamp.json" && bytes.is_some() && held == bytes.as_ref()
        };
        if !self.complete || !hand.iter().all(|(name, bytes)| known(name, bytes)) {
            return false;
        }
        hand.clear();
        self.roles().iter().all(|role| now_s <= role.expires_s)
    }

    /// Files that were dropped since the last call, and why.
    pub fn take_refused(&mut self) -> Vec<TrustError> {
        std::mem::take(&mut self.refused)
    }

    /// What a run of the library came to: floors, durable files, and the answer.
    fn settle(
        &mut self,
        shelf: &mut dyn Shelf,
        result: sigstore_tuf::Result<()>,
    ) -> Result<(), TrustError> {
        let trusted = self.updater.trusted();
        let mut table = self.desk.table();
        let verified = std::mem::take(&mut table.verified);
        let missing = table.missing.take();
        let mut floors = table.floors.clone();
        // Roots that the disk lost: newer files may be signed by keys that are not known yet.
        if trusted.root().version < floors.root {
            return Err(TrustError::Needs(format!("{}.root.json", trusted.root().version + 1)));
        }
        if !floors.bind(trusted.root()) {
            table.held.retain(|name, _| name.starts_with(ROOTS));
        }
        floors.see_root(trusted.root());
        let seen = see(&mut floors, trusted);
        if floors != table.floors {
            shelf.put_floors(&floors)?;
            table.floors = floors;
        }
        for (name, bytes) in verified {
            if seen.is_err() && !name.starts_with(ROOTS) {
                continue; // what is below a floor is not kept, nor what came with it
            }
            if table.held.get(&name).is_none_or(|held| held.bytes != bytes) {
                shelf.put_file(&name, &bytes)?;
                table.held.insert(name, Held::new(bytes));
            }
        }
        let asked = table.asked.clone();
        drop(table);
        seen?;
        match (result, missing) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(file)) => Err(TrustError::Needs(file)),
            (Err(error), None) => Err(TrustError::of(asked.as_deref(), error)),
        }
    }

    /// Drops the file that `error` is about; `false` if there is nothing to drop.
    fn drop_culprit(&mut self, error: &TrustError) -> bool {
        let mut table = self.desk.table();
        let Some(asked) = table.asked.take() else { return false };
        match error {
            TrustError::Needs(_) | TrustError::Disk(_) => false,
            // A floor that is broken names a role, not the file that was asked for last.
            TrustError::Version(_) => {
                let before = table.hand.len();
                table.hand.retain(|_, bytes| bytes.is_none());
                table.hand.len() < before
            }
            // A file with a version in its name will not get any better.
            TrustError::Expired { .. } => {
                asked == "timestamp.json" && table.hand.remove(&asked).is_some()
            }
            _ => {
                let role = asked.split_once('.').map_or(asked.as_str(), |(_, role)| role);
                let name = if asked == "timestamp.json" { asked.as_str() } else { role };
                let arrived = matches!(table.hand.remove(&asked), Some(Some(_)));
                arrived || table.held.remove(name).is_some()
            }
        }
    }

    /// What the release authority says about the file `path`.
    ///
    /// # Errors
    /// [`TrustError`]: not listed, expired, or a delegated file is missing or wrong.
    pub fn target(
        &mut self,
        shelf: &mut dyn Shelf,
        path: &str,
        now_s: u64,
    ) -> Result<TargetFile, TrustError> {
        if !self.complete {
            self.refresh(shelf, now_s)?;
        }
        let found = ready(self.updater.get_target_info(path, timestamp(now_s)));
        let (found, result) = match found {
            Ok(found) => (found, Ok(())),
            Err(error) => (None, Err(error)),
        };
        if let Err(error) = self.settle(shelf, result) {
            self.drop_culprit(&error);
            return Err(error);
        }
        self.desk.table().hand.clear();
        found.ok_or_else(|| {
            TrustError::NotATarget(format!("the release authority does not list {path}"))
        })
    }

    /// Whether the release authority lists exactly this release.
    ///
    /// # Errors
    /// [`TrustError`] says why not.
    pub fn authorize(
        &mut self,
        shelf: &mut dyn Shelf,
        release: &Release<'_>,
        now_s: u64,
    ) -> Result<(), TrustError> {
        let path = format!("{}/{}", release.model, release.version);
        let listed = self.target(shelf, &path, now_s)?;
        let not = |what: &str| {
            Err(TrustError::NotATarget(format!("{path} is listed with another {what}")))
        };
        if listed.length != release.length {
            return not("length");
        }
        if listed.hashes.get("sha256") != Some(&release.digest.to_string()) {
            return not("digest");
        }
        let counter = listed.custom.as_ref().and_then(|custom| custom.get("counter")?.as_u64());
        if counter != Some(release.counter) {
            return not("counter");
        }
        Ok(())
    }

    /// Digest and length of the keyset file. Only the top-level targets may name it: no team
    /// says who the director is.
    ///
    /// # Errors
    /// [`TrustError`] as for a release.
    pub fn keyset(
        &mut self,
        shelf: &mut dyn Shelf,
        now_s: u64,
    ) -> Result<(Digest, u64), TrustError> {
        let listed = self.target(shelf, KEYSET_PATH, now_s)?;
        let top = self.updater.trusted().targets_role("targets");
        if top.and_then(|top| top.target(KEYSET_PATH)) != Some(&listed) {
            return Err(TrustError::NotATarget(format!("{KEYSET_PATH} is listed by a team")));
        }
        let digest = listed.hashes.get("sha256").and_then(|text| text.parse().ok());
        let digest = digest.ok_or_else(|| {
            TrustError::Content(format!("{KEYSET_PATH} is listed without a SHA-256"))
        })?;
        Ok((digest, listed.length))
    }

    /// What is known of every role, from the root down.
    pub fn roles(&self) -> Vec<RoleState> {
        let trusted = self.updater.trusted();
        let state = |role, version, expires: jiff::Timestamp| RoleState {
            role,
            version,
            expires_s: expires.as_second().try_into().unwrap_or(0),
        };
        let root = trusted.root();
        let mut roles = vec![state("root", root.version, root.expires)];
        roles.extend(trusted.timestamp().map(|t| state("timestamp", t.version, t.expires())));
        roles.extend(trusted.snapshot().map(|s| state("snapshot", s.version, s.expires())));
        let targets = trusted.targets_role("targets");
        roles.extend(targets.map(|t| state("targets", t.version, t.expires())));
        roles
    }
}

/// Whether `bytes` are a root that a device can begin with.
///
/// # Errors
/// [`TrustError`] says why not.
pub fn check_root(bytes: &[u8]) -> Result<(), TrustError> {
    crate::provider::install();
    check_file("root.json", bytes, &Limits::DEVICE)?;
    let set = sigstore_tuf::TrustedMetadataSet::from_root(bytes);
    set.map(drop).map_err(|error| TrustError::of(None, error))
}

fn see(floors: &mut Floors, trusted: &sigstore_tuf::TrustedMetadataSet) -> Result<(), TrustError> {
    if let Some(timestamp) = trusted.timestamp() {
        floors.see_timestamp(trusted.root(), timestamp)?;
        if let Some(snapshot) = trusted.snapshot()
            && timestamp.snapshot_meta().is_some_and(|pin| pin.version == snapshot.version)
        {
            floors.see_snapshot(snapshot)?;
        }
    }
    Ok(())
}

/// The library at its start: the pinned root, and every kept root that follows from it.
fn begin(pinned: &[u8], limits: &Limits, desk: &Desk) -> Result<Updater, TrustError> {
    let mut config = UpdaterConfig::default();
    config.root_max_length = limits.root_bytes_max as u64;
    config.timestamp_max_length = limits.timestamp_bytes_max as u64;
    config.snapshot_max_length = limits.snapshot_bytes_max as u64;
    config.targets_max_length = limits.targets_bytes_max as u64;
    config.target_max_length = 0; // no target comes this way
    config.max_root_rotations = limits.root_rotations_max;
    config.max_delegations = limits.delegations_max;
    let updater = Updater::new(desk.clone(), pinned).map_err(|e| TrustError::of(None, e))?;
    Ok(updater.with_config(config).with_store(desk.clone()))
}

fn timestamp(unix_s: u64) -> jiff::Timestamp {
    let time = i64::try_from(unix_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.unwrap_or(jiff::Timestamp::MAX)
}

/// The size and the nesting of a file, before anything is built of it.
fn check_file(name: &str, bytes: &[u8], limits: &Limits) -> Result<(), TrustError> {
    let is = |role: &str| name == role || name.strip_suffix(role).is_some_and(|v| v.ends_with('.'));
    let max = match name {
        "timestamp.json" => limits.timestamp_bytes_max,
        _ if is("root.json") => limits.root_bytes_max,
        _ if is("snapshot.json") => limits.snapshot_bytes_max,
        _ => limits.targets_bytes_max,
    };
    if bytes.len() > max {
        let got = bytes.len();
        return Err(TrustError::Size(format!("{name} has {got} bytes, at most {max} are taken")));
    }
    check_nesting(bytes, limits.nesting_max)
        .map_err(|error| TrustError::Size(format!("{name} is {error}")))
}

/// Whether the file is one of a delegated role.
fn is_of_a_team(name: &str) -> bool {
    let tops = [".root.json", ".snapshot.json", ".targets.json"];
    name != "timestamp.json" && !tops.iter().any(|top| name.ends_with(top))
}

/// The answer of a future that has nothing to wait for.
fn ready<T>(future: impl Future<Output = sigstore_tuf::Result<T>>) -> sigstore_tuf::Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::transport("a file on the desk had to be waited for")),
    }
}
