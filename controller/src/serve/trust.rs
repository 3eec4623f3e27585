//! The release authority's files on the broker: published, published again, signed anew.
//!
//! Every file is retained; the timestamp goes last, so that a device that hears of something
//! new finds it there. The server's keys sign what grows old, and nothing else.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fleetway_controller::clock;
use fleetway_controller::trust::files::TrustDir;
use fleetway_controller::trust::online::ServerKeys;
use fleetway_controller::trust::{Repo, TrustError};
use fleetway_link::{Link as _, LinkHandle, Outgoing};
use fleetway_protocol::keyset::ReleaseKeys;
use fleetway_protocol::topics::Topic;
use fleetway_protocol::trust_file::TrustFile;
use tracing::{error, info, warn};

use super::core::Director;
use crate::api::failure::{Failure, chain};
use crate::api::types::{ExpiryView, TrustPublished};
use crate::api::view::failed;

/// Between two looks at what grows old or did not go out.
const LOOK: Duration = Duration::from_secs(5);

/// See the module page.
#[derive(Clone)]
pub(crate) struct Trust {
    dir: TrustDir,
    keys: PathBuf,
    root: String,
    link: LinkHandle,
    director: Director,
    state: Arc<Mutex<State>>,
}

/// What was put into force.
pub(super) struct InForce {
    pub(super) published: TrustPublished,
    /// Who may sign releases from now on.
    pub(super) release_keys: ReleaseKeys,
    /// Ids of the server's keys that signed it.
    pub(super) signers: String,
}

struct State {
    release_keys: ReleaseKeys,
    /// What the broker shall hold has changed, or the broker has.
    unsent: bool,
    /// Topics of files that nobody needs any more.
    gone: Vec<String>,
    last_error: String,
}

impl Trust {
    /// For the fleet of a data directory.
    pub(super) fn new(
        dir: TrustDir,
        keys: PathBuf,
        root: String,
        link: LinkHandle,
        director: Director,
        release_keys: ReleaseKeys,
    ) -> Self {
        let (gone, last_error) = Default::default();
        let state = State { release_keys, unsent: true, gone, last_error };
        Self { dir, keys, root, link, director, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may sign releases.
    pub(crate) fn release_keys(&self) -> ReleaseKeys {
        self.state().release_keys.clone()
    }

    /// Id of the key that signs orders.
    pub(super) fn director(&self) -> String {
        self.director.id()
    }

    /// What devices ask of the release authority before they take a release, and until when it is
    /// good; nothing without a release authority, or while its files cannot be read.
    pub(crate) fn expiries(&self) -> Vec<ExpiryView> {
        let Ok(repo) = self.dir.load() else { return Vec::new() };
        let (published, teams) = (&repo.published, repo.published.teams.iter());
        let fixed = [
            ("root", published.root.as_ref().map(|meta| meta.expires_s())),
            ("targets", published.targets.as_ref().map(|meta| meta.expires_s())),
            ("snapshot", repo.snapshot.as_ref().map(|meta| meta.expires_s())),
            ("timestamp", repo.timestamp.as_ref().map(|meta| meta.expires_s())),
        ];
        let fixed = fixed.into_iter().filter_map(|(what, at_s)| Some((what.to_owned(), at_s?)));
        let teams = teams.map(|(name, meta)| (name.to_string(), meta.expires_s()));
        fixed.chain(teams).map(|(what, expires_s)| ExpiryView { what, expires_s }).collect()
    }

    /// Puts what is staged into force.
    pub(super) fn publish(&self) -> Result<InForce, Failure> {
        let refused = |error: TrustError| failed(error.kind(), &error);
        let repo = self.dir.load().map_err(refused)?;
        let files = repo.staged_files().into_iter().map(|(name, _)| name).collect();
        let server = ServerKeys::find(&self.keys, &repo).map_err(refused)?;
        let signers = server.online().ids();
        let next = repo.publish(&server.online(), clock::now_s()).map_err(refused)?;
        self.dir.save(&next).map_err(refused)?;
        self.director.set(server.director);
        let release_keys = next.keyset().map_err(refused)?.keyset.release.clone();
        let mut state = self.state();
        state.release_keys = release_keys.clone();
        state.unsent = true;
        drop(state);
        self.look();
        let expires_s = next.timestamp.map_or(0, |meta| meta.expires_s());
        Ok(InForce { published: TrustPublished { files, expires_s }, release_keys, signers })
    }

    /// The broker may have forgotten everything.
    pub(super) fn up(&self) {
        self.state().unsent = true;
    }

    /// Signs and sends until the controller ends.
    pub(super) async fn run(self) {
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            tokio::task::block_in_place(|| self.look());
        }
    }

    /// Signs what grows old, sends what is not sent. An error that repeats is told once.
    fn look(&self) {
        if !self.dir.exists() {
            return;
        }
        let done = self.renew().and_then(|repo| self.send(&repo));
        let text = done.err().map(|error| chain(&error)).unwrap_or_default();
        let mut state = self.state();
        if text != state.last_error {
            if !text.is_empty() {
                error!("the release authority's files: {text}");
            }
            state.last_error = text;
        }
    }

    fn renew(&self) -> Result<Repo, TrustError> {
        let mut repo = self.dir.load()?;
        if repo.timestamp.is_none() {
            return Ok(repo);
        }
        let in_force = Repo { staged: Default::default(), ..repo.clone() };
        let server = ServerKeys::find(&self.keys, &in_force)?;
        let Some(next) = repo.renew(&server.online(), clock::now_s())? else { return Ok(repo) };
        self.dir.save(&next)?;
        let gone = self.dir.prune(&next)?;
        info!("signed the timestamp anew");
        let mut state = self.state();
        state.unsent = true;
        state.gone.extend(gone);
        repo = next;
        Ok(repo)
    }

    fn send(&self, repo: &Repo) -> Result<(), TrustError> {
        if !self.state().unsent || self.link.stats().version.is_none() {
            return Ok(());
        }
        let gone = std::mem::take(&mut self.state().gone);
        let files = repo.files_for_devices().into_iter();
        for (name, bytes) in gone.into_iter().map(|name| (name, Vec::new())).chain(files) {
            let Some(file) = TrustFile::parse(&name) else {
                warn!(%name, "is no file of the release authority; left out");
                continue;
            };
            let topic = Topic::Trust(file).text(&self.root).to_string();
            let message = Outgoing::new(topic, Bytes::from(bytes)).retained();
            if self.link.publish(message).is_err() {
                // The outbox is full: all of it again at the next look.
                return Ok(());
            }
        }
        self.state().unsent = false;
        Ok(())
    }
}
