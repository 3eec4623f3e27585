//! What lies on the desk during a refresh: files that arrived, and files of earlier refreshes.
//!
//! The library asks for files by name and hands out what it has verified; both ends are this
//! one table. Nothing here waits: a file that is not on the desk is noted and refused, and the
//! library is run again once it has come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Error, Metadata, MetadataStore, Repository, Root};

use crate::floors::Floors;

/// How files come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By themselves, as messages. A newer root that has not come is not there, and until a
    /// newer timestamp comes the last one stands.
    Push,
    /// When asked for. Whoever asks says what is not there ([`crate::client::Client::absent`]).
    Pull,
}

/// Where roots are kept, with their versions: no role's name contains a slash.
pub const ROOTS: &str = "root_history/";

/// A file, and the version that it says it has.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    version: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Held {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        // Only a name for a file that is verified when it is used.
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        Self { version: value["signed"]["version"].as_u64().unwrap_or(0), bytes }
    }
}

#[derive(Debug)]
pub(crate) struct Table {
    transport: Transport,
    /// Verified in earlier refreshes, by name without version; all roots, below [`ROOTS`].
    pub(crate) held: BTreeMap<String, Held>,
    /// Arrived, by full name; `None`: is said not to be there.
    pub(crate) hand: BTreeMap<String, Option<Vec<u8>>>,
    /// What the library has verified in this run, in order.
    pub(crate) verified: Vec<(String, Vec<u8>)>,
    /// The file that it asked for last.
    pub(crate) asked: Option<String>,
    /// The file for want of which it stopped.
    pub(crate) missing: Option<String>,
    pub(crate) floors: Floors,
    /// The newest root that the library believes.
    root: Option<Metadata<Root>>,
}

/// The desk; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Desk(Arc<Mutex<Table>>);

impl Desk {
    pub(crate) fn new(transport: Transport, floors: Floors) -> Self {
        Self(Arc::new(Mutex::new(Table {
            transport,
            held: BTreeMap::new(),
            hand: BTreeMap::new(),
            verified: Vec::new(),
            asked: None,
            missing: None,
            floors,
            root: None,
        })))
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn fetch(&mut self, name: &str, bytes_max: u64) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        self.asked = Some(name.to_owned());
        let root = name.ends_with(".root.json");
        let push = self.transport == Transport::Push;
        let bytes = match self.hand.get(name) {
            Some(None) if root => return Ok(None),
            Some(found) => found.clone(),
            None if root && push => return Ok(None),
            None if !self.lower_roles_stand() => None,
            None if name == "timestamp.json" && push => self.held_as(name, None),
            None => name
                .split_once('.')
                .and_then(|(version, role)| self.held_as(role, Some(version.parse().ok()?))),
        };
        match bytes {
            Some(bytes) if bytes.len() as u64 > bytes_max => {
                Err(Error::Malformed(format!("{name} has more than {bytes_max} bytes")))
            }
            Some(bytes) => Ok(Some(bytes)),
            None => {
                self.missing = Some(name.to_owned());
                Err(Error::transport(format!("{name} is not here")))
            }
        }
    }

    fn held_as(&self, name: &str, version: Option<u64>) -> Option<Vec<u8>> {
        let held = self.held.get(name)?;
        version.is_none_or(|v| v == held.version).then(|| held.bytes.clone())
    }

    /// Whether timestamp, snapshot and targets of earlier refreshes still say anything: not
    /// after their keys were exchanged.
    fn lower_roles_stand(&self) -> bool {
        self.root.as_ref().is_some_and(|root| self.floors.bind(root.signed()))
    }

    fn load(&self, name: &str) -> Option<Vec<u8>> {
        let stands = name.starts_with(ROOTS) || self.lower_roles_stand();
        stands.then(|| self.held_as(name, None))?
    }

    fn keep(&mut self, name: &str, bytes: &[u8]) {
        match name {
            "root.json" => self.root = Metadata::from_slice(bytes).ok(),
            // The snapshot is handed out twice, once with its version.
            name if name.ends_with(".snapshot.json") => {}
            name => self.verified.push((name.to_owned(), bytes.to_vec())),
        }
    }
}

impl Repository for Desk {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        let found = self.table().fetch(name, max_length);
        Box::pin(std::future::ready(found))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, _max_length: u64) -> FetchFuture<'a> {
        let error = Error::transport(format!("{path}: targets are not fetched here"));
        Box::pin(std::future::ready(Err(error)))
    }
}

impl MetadataStore for Desk {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        Ok(self.table().load(name))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        self.table().keep(name, bytes);
        Ok(())
    }
}
