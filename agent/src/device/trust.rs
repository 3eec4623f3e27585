//! What the device believes: the release authority's metadata, and the keyset that it lists.
//!
//! Files come as retained messages. The device stands subscribed to the timestamp and to the
//! root after its own; of the rest it asks for what the client ([`fleetway_tuf::client`]) says
//! it needs, one at a time, and asks again when nothing comes. With nothing new, a refresh is
//! one timestamp.
//!
//! The keyset is in force once it is durable. It decides whose orders and whose releases count;
//! metadata that expired or is missing changes nothing about it: it only stops new installs
//! ([`super::admission`]). A boot needs neither link nor fresh metadata.

use std::io;

use fleetway_protocol::ids::Digest;
use fleetway_protocol::keyset::Keyset;
use fleetway_protocol::topics::Topic;
use fleetway_protocol::trust::{Keyring, Verified};
use fleetway_protocol::trust_file::TrustFile;
use fleetway_tuf::client::{Client, Release, RoleState, Transport, TrustError};
use fleetway_tuf::limits::Limits;

use super::{Device, Now, Output};
use crate::fs::Fs;
use crate::store::Store;

/// First wait for a file until it is asked for again, milliseconds.
pub(super) const ASK_MS: u64 = 5_000;
/// Longest such wait, milliseconds.
pub(super) const ASK_MS_MAX: u64 = 60_000;

/// A file that was asked for.
struct Wanted {
    file: TrustFile,
    ask_at_ms: u64,
    pause_ms: u64,
}

/// What the device believes. See the module page.
pub(super) struct Trust {
    client: Client,
    keyring: Option<Keyring>,
    /// The keyset in force, exact bytes, and its version.
    keyset: Vec<u8>,
    version: Option<u64>,
    wanted: Option<Wanted>,
    /// The standing subscription to the next root.
    next_root: u64,
    pub(super) problem: Option<String>,
}

/// What a person is told about the release authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustStatus {
    /// Version of the keyset in force.
    pub keyset: Option<u64>,
    /// What is known of every role.
    pub roles: Vec<RoleState>,
    /// What is wrong or missing.
    pub problem: Option<String>,
}

impl Trust {
    /// From the pinned `root` and stored state alone.
    pub(super) fn open<F: Fs>(root: &[u8], store: &mut Store<F>) -> io::Result<Self> {
        let shelf = store.trust();
        let client = Client::open(root, &shelf, Limits::DEVICE, Transport::Push);
        let client = client.map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("the pinned root: {error}"))
        })?;
        let mut trust = Self {
            client,
            keyring: None,
            keyset: Vec::new(),
            version: None,
            wanted: None,
            next_root: 0,
            problem: None,
        };
        if let Some((bytes, payload)) = shelf.keyset() {
            match Verified::<Keyset>::recheck(&bytes, &payload) {
                Ok(keyset) => trust.put_in_force(&keyset, bytes),
                Err(error) => trust.problem = Some(format!("the stored keyset: {error}")),
            }
        }
        Ok(trust)
    }

    fn put_in_force(&mut self, keyset: &Verified<Keyset>, bytes: Vec<u8>) {
        self.keyring = Some(Keyring::of(keyset));
        self.version = Some(keyset.get().version);
        self.keyset = bytes;
    }

    /// The authorities in force; `None` until the first keyset has come.
    pub(super) fn keyring(&self) -> Option<&Keyring> {
        self.keyring.as_ref()
    }

    /// The keyset in force, as it is kept with a release that it admits.
    pub(super) fn keyset(&self) -> &[u8] {
        &self.keyset
    }

    /// Whether the release authority lists `release` now.
    pub(super) fn authorize<F: Fs>(
        &mut self,
        store: &mut Store<F>,
        release: &Release<'_>,
        now_s: u64,
    ) -> Result<(), TrustError> {
        self.client.authorize(&mut store.trust(), release, now_s)
    }

    pub(super) fn status(&self) -> TrustStatus {
        TrustStatus {
            keyset: self.version,
            roles: self.client.roles(),
            problem: self.problem.clone(),
        }
    }

    pub(super) fn timeout_ms(&self) -> Option<u64> {
        self.wanted.as_ref().map(|wanted| wanted.ask_at_ms)
    }
}

impl<F: Fs> Device<F> {
    /// The time by which signed things are judged, Unix seconds.
    pub(super) fn now_s(&self, now: Now) -> u64 {
        now.unix_s.max(self.store.device().time_floor_s)
    }

    fn trust_topic(&self, file: &TrustFile) -> String {
        Topic::Trust(file.clone()).text(&self.config.root).as_str().to_owned()
    }

    /// The link is up: the next root is asked for before the timestamp, so that it comes first.
    pub(super) fn trust_up(&mut self, now: Now) {
        self.trust.next_root = self.trust.client.next_root();
        for file in [TrustFile::Root(self.trust.next_root), TrustFile::Timestamp] {
            let topic = self.trust_topic(&file);
            self.out.push_back(Output::Subscribe(topic));
        }
        if let Some(wanted) = &mut self.trust.wanted {
            (wanted.ask_at_ms, wanted.pause_ms) = (now.ms, ASK_MS);
        }
    }

    /// A file of the release authority arrived.
    pub(super) fn handle_trust(&mut self, now: Now, file: &TrustFile, bytes: &[u8]) {
        let client = &mut self.trust.client;
        let is_wanted = self.trust.wanted.as_ref().is_some_and(|wanted| wanted.file == *file);
        let standing = match file {
            TrustFile::Timestamp => true,
            TrustFile::Root(version) => *version == client.next_root(),
            _ => false,
        };
        if bytes.is_empty() || !(is_wanted || standing) {
            return; // not there any more, or never asked for
        }
        if let TrustFile::Keyset(digest) = file {
            return self.take_keyset(now, digest, bytes);
        }
        match client.offer(&file.to_string(), bytes) {
            // A team's list is looked at when a release asks for it.
            Ok(()) if matches!(file, TrustFile::Delegated(..)) => {
                self.want_trust(now, None);
                self.try_admissions(now);
            }
            Ok(()) => self.refresh_trust(now),
            Err(error) => {
                self.refused.count(error.check());
                self.trust.problem = Some(error.to_string());
            }
        }
    }

    /// Verifies what is here, and asks for what is missing.
    pub(super) fn refresh_trust(&mut self, now: Now) {
        let now_s = self.now_s(now);
        let client = &mut self.trust.client;
        let mut shelf = self.store.trust();
        let refreshed = client.refresh(&mut shelf, now_s);
        let listed = refreshed.and_then(|()| client.keyset(&mut shelf, now_s));
        let in_force = shelf.keyset_file();
        for error in client.take_refused() {
            self.refused.count(error.check());
            tracing::warn!("{error}");
        }
        let next_root = client.next_root();
        match listed {
            Ok((digest, _)) if in_force == Some(digest) && self.trust.keyring.is_some() => {
                self.trust.problem = None;
                self.want_trust(now, None);
            }
            Ok((digest, _)) => {
                self.trust.problem = Some("the new keyset has not arrived".to_owned());
                self.want_trust(now, Some(TrustFile::Keyset(digest)));
            }
            Err(error) => {
                self.trust.problem = Some(error.to_string());
                self.want_trust(now, needed(&error));
            }
        }
        if next_root != self.trust.next_root && self.up {
            let old = self.trust_topic(&TrustFile::Root(self.trust.next_root));
            let new = self.trust_topic(&TrustFile::Root(next_root));
            self.trust.next_root = next_root;
            self.out.push_back(Output::Unsubscribe(old));
            self.out.push_back(Output::Subscribe(new));
        }
        self.try_admissions(now);
    }

    /// Asks for `file`, or for nothing.
    pub(super) fn want_trust(&mut self, now: Now, file: Option<TrustFile>) {
        if self.trust.wanted.as_ref().map(|wanted| &wanted.file) == file.as_ref() {
            return;
        }
        if let Some(Wanted { file: old, .. }) = self.trust.wanted.take() {
            let standing = [TrustFile::Timestamp, TrustFile::Root(self.trust.next_root)];
            if !standing.contains(&old) {
                let topic = self.trust_topic(&old);
                self.out.push_back(Output::Unsubscribe(topic));
            }
        }
        self.trust.wanted = file.map(|file| Wanted { file, ask_at_ms: now.ms, pause_ms: ASK_MS });
        self.ask_for_trust(now);
    }

    /// Asks (again) for the wanted file when it is due: a new subscription brings what the
    /// broker keeps, also when it was lost on the way.
    pub(super) fn ask_for_trust(&mut self, now: Now) {
        let Some(wanted) = self.trust.wanted.as_mut().filter(|w| self.up && now.ms >= w.ask_at_ms)
        else {
            return;
        };
        // The first pause is not over before it was asked for once.
        self.late.add("trust file", u64::from(wanted.pause_ms > ASK_MS));
        wanted.ask_at_ms = now.ms + wanted.pause_ms;
        wanted.pause_ms = (wanted.pause_ms * 2).min(ASK_MS_MAX);
        let file = wanted.file.clone();
        let topic = self.trust_topic(&file);
        self.out.push_back(Output::Subscribe(topic));
    }

    /// The keyset that the release authority lists: durable first, then in force.
    fn take_keyset(&mut self, now: Now, digest: &Digest, bytes: &[u8]) {
        let in_force = self.trust.version.unwrap_or(0);
        let keyset = match Verified::<Keyset>::authorised(bytes, digest, in_force) {
            Ok(keyset) => keyset,
            Err(error) => {
                self.refused.count("keyset");
                self.trust.problem = Some(error.to_string());
                return;
            }
        };
        if let Err(error) = self.store.trust().put_keyset(bytes, keyset.digest()) {
            self.trust.problem = Some(format!("the keyset could not be stored: {error}"));
            return;
        }
        tracing::info!(version = keyset.get().version, "a new keyset is in force");
        self.trust.put_in_force(&keyset, bytes.to_vec());
        self.refresh_trust(now);
        self.retry_order(now);
    }

    /// Asks for the timestamp again: the newest one may have been lost on the way.
    pub(super) fn ask_for_timestamp(&mut self) {
        let topic = self.trust_topic(&TrustFile::Timestamp);
        self.out.push_back(Output::Subscribe(topic));
    }

    /// What a person is told about the release authority.
    pub fn trust_status(&self) -> TrustStatus {
        self.trust.status()
    }
}

/// The file that would help.
pub(super) fn needed(error: &TrustError) -> Option<TrustFile> {
    match error {
        TrustError::Needs(name) => TrustFile::parse(name),
        // A full or failing disk: the timestamp comes again, and with it the next try.
        TrustError::Disk(_) => Some(TrustFile::Timestamp),
        _ => None,
    }
}
