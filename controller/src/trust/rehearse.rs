//! What would be published, through the very client that devices run, before anybody sees it.
//!
//! Two devices are asked: a new one, which pins the first root and has to follow every later
//! one, and one that has everything as it is published now. Each has to arrive at every new
//! file, at the keyset, and at every release that is listed. A fault that the author overlooks
//! is so found by the code that would otherwise find it in the field.

use std::collections::{BTreeMap, BTreeSet};

use fleetway_protocol::ids::{Digest, ModelName, Version as Label};
use fleetway_protocol::keyset::Keyset;
use fleetway_protocol::trust::Verified;
use fleetway_tuf::client::{Client, Release, Transport, TrustError as Refusal};
use fleetway_tuf::limits::Limits;
use fleetway_tuf::memory::Memory;
use fleetway_tuf::roles::TargetFile;

use super::meta::Meta;
use super::repo::Repo;
use super::{KEYSET_TARGET, TrustError};

/// What a broker would hold, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Has devices take `next` in place of `before`.
///
/// # Errors
/// [`TrustError::Refused`] says which device would refuse what, and why.
pub(super) fn check(before: &Repo, next: &Repo, now_s: u64) -> Result<(), TrustError> {
    let files: Files = next.files_for_devices().into_iter().collect();
    let first = files.get("1.root.json").ok_or(TrustError::None)?;
    Device::new("a new device", first)?.takes(next, &files, now_s)?;
    if let Some(root) = &before.published.root {
        let mut device = Device::new("a device that is up to date", &root.bytes())?;
        device.is_up_to_date(before, now_s);
        device.takes(next, &files, now_s)?;
    }
    Ok(())
}

/// A device that takes metadata as it comes.
pub(super) struct Device {
    who: &'static str,
    client: Client,
    shelf: Memory,
    /// Digest of the keyset in force and its version.
    keyset: Option<(Digest, u64)>,
}

impl Device {
    /// One that believes this root, and nothing else yet.
    pub(super) fn new(who: &'static str, pinned: &[u8]) -> Result<Self, TrustError> {
        let shelf = Memory::default();
        let client = Client::open(pinned, &shelf, Limits::DEVICE, Transport::Push)
            .map_err(|error| refused(who, &error.to_string()))?;
        Ok(Self { who, client, shelf, keyset: None })
    }

    /// Gives it what is published now, at a time when all of that was good. What is in force may
    /// be broken (a cut while publishing, a damaged file): then it has as much as it could take.
    fn is_up_to_date(&mut self, before: &Repo, now_s: u64) {
        let published = &before.published;
        let ends = [
            published.root.as_ref().map(Meta::expires_s),
            published.targets.as_ref().map(Meta::expires_s),
            before.snapshot.as_ref().map(Meta::expires_s),
            before.timestamp.as_ref().map(Meta::expires_s),
        ];
        let then_s = ends.into_iter().flatten().fold(now_s, u64::min);
        let files = before.files_for_devices().into_iter().collect();
        let _ = self.refresh(&files, then_s);
        let keyset = published.keyset.as_ref();
        self.keyset = keyset.map(|file| (Digest::of(file.bytes()), file.keyset.version));
    }

    fn takes(&mut self, next: &Repo, files: &Files, now_s: u64) -> Result<(), TrustError> {
        let who = self.who;
        self.refresh(files, now_s).map_err(|error| refused(who, &error.to_string()))?;
        self.has_all(next)?;
        self.takes_keyset(next, files, now_s)?;
        let published = &next.published;
        let top = published.targets.iter().map(|meta| (None, meta));
        let teams = published.teams.iter().map(|(team, meta)| (Some(team.as_str()), meta));
        for (team, meta) in top.chain(teams) {
            for (path, file) in &meta.role.targets {
                if path != KEYSET_TARGET || team.is_some() {
                    self.finds(next, team, (path, file), files, now_s)?;
                }
            }
        }
        self.asks_every_team(next, files, now_s)
    }

    /// Takes what the broker holds, as a device does: the roots after its own and the timestamp
    /// come by themselves, the rest when it is asked for.
    fn refresh(&mut self, files: &Files, now_s: u64) -> Result<(), Refusal> {
        loop {
            let next_root = self.client.next_root();
            let root = |version: u64| files.get_key_value(&format!("{version}.root.json"));
            for (name, bytes) in (next_root..).map_while(root) {
                self.client.offer(name, bytes)?;
            }
            if let Some(bytes) = files.get("timestamp.json") {
                self.client.offer("timestamp.json", bytes)?;
            }
            let done = self.ask(files, |client, shelf| client.refresh(shelf, now_s));
            // A file that was dropped is why something is missing afterwards.
            if let Some(error) = self.client.take_refused().into_iter().next() {
                return Err(error);
            }
            done?;
            // So many roots are followed at once and no more; the next refresh goes on.
            if self.client.next_root() == next_root || root(self.client.next_root()).is_none() {
                return Ok(());
            }
        }
    }

    /// [`Self::refresh`], for who has one set of files and no other way to better ones.
    pub(super) fn believes(&mut self, files: &Files, now_s: u64) -> Result<(), TrustError> {
        let who = self.who;
        self.refresh(files, now_s).map_err(|error| refused(who, &error.to_string()))
    }

    /// Whether what says what may run is good at this time; when the first of it ends, Unix seconds.
    pub(super) fn good_now(&self, now_s: u64) -> Result<u64, TrustError> {
        let roles = self.client.roles();
        let mut lasting = roles.iter().filter(|state| matches!(state.role, "root" | "targets"));
        match lasting.clone().find(|state| state.expires_s <= now_s) {
            Some(state) => {
                let why = format!("{} {} has expired", state.role, state.version);
                Err(refused(self.who, &why))
            }
            None => Ok(lasting.by_ref().map(|state| state.expires_s).min().unwrap_or(0)),
        }
    }

    /// Whether exactly this release is listed.
    pub(super) fn lists(
        &mut self,
        files: &Files,
        release: &Release<'_>,
        now_s: u64,
    ) -> Result<(), TrustError> {
        let who = self.who;
        let answer = self.ask(files, |client, shelf| client.authorize(shelf, release, now_s));
        answer.map_err(|error| refused(who, &error.to_string()))
    }

    /// Hands in what the client asks for, each file once.
    fn ask<T>(
        &mut self,
        files: &Files,
        mut question: impl FnMut(&mut Client, &mut Memory) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut asked = BTreeSet::new();
        loop {
            let error = match question(&mut self.client, &mut self.shelf) {
                Err(error) => error,
                answer => return answer,
            };
            match &error {
                Refusal::Needs(name) if asked.insert(name.clone()) => match files.get(name) {
                    Some(bytes) => self.client.offer(name, bytes)?,
                    None => return Err(error),
                },
                _ => return Err(error),
            }
        }
    }

    /// A client goes on with what it has where something newer is wrong: that is no success here.
    fn has_all(&self, next: &Repo) -> Result<(), TrustError> {
        let published = &next.published;
        let expected = [
            ("root", published.root.as_ref().map(Meta::version)),
            ("timestamp", next.timestamp.as_ref().map(Meta::version)),
            ("snapshot", next.snapshot.as_ref().map(Meta::version)),
            ("targets", published.targets.as_ref().map(Meta::version)),
        ];
        let roles = self.client.roles();
        for (role, version) in expected {
            let has = roles.iter().find(|state| state.role == role).map(|state| state.version);
            if has != version {
                let [has, version] = [has, version].map(|v| v.unwrap_or(0));
                let why = format!("it stays at {role} {has} and does not come to {version}");
                return Err(refused(self.who, &why));
            }
        }
        Ok(())
    }

    fn takes_keyset(&mut self, next: &Repo, files: &Files, now_s: u64) -> Result<(), TrustError> {
        let who = self.who;
        let listed = self.ask(files, |client, shelf| client.keyset(shelf, now_s));
        let (digest, _) = listed.map_err(|error| refused(who, &error.to_string()))?;
        let in_force = next.published.keyset.as_ref().map(|file| Digest::of(file.bytes()));
        if in_force != Some(digest) {
            return Err(refused(who, "the targets do not list the keyset in force"));
        }
        if self.keyset.is_some_and(|(has, _)| has == digest) {
            return Ok(());
        }
        let Some(bytes) = files.get(&format!("{digest}.keyset")) else {
            return Err(refused(who, "the keyset that is listed is not here"));
        };
        let seen = self.keyset.map_or(0, |(_, version)| version);
        Verified::<Keyset>::authorised(bytes, &digest, seen)?;
        Ok(())
    }

    /// Asks for a release as an order does.
    fn finds(
        &mut self,
        next: &Repo,
        team: Option<&str>,
        (path, file): (&String, &TargetFile),
        files: &Files,
        now_s: u64,
    ) -> Result<(), TrustError> {
        let who = self.who;
        let Some((model, version, digest, counter)) = release(path, file) else {
            let why = format!("{path} is listed, and is no release: MODEL/VERSION with a counter");
            return Err(refused(who, &why));
        };
        let (model, version) = (&model, &version);
        let release = Release { model, version, counter, digest, length: file.length };
        let answer = self.ask(files, |client, shelf| client.authorize(shelf, &release, now_s));
        answer.map_err(|error| {
            let first = next.teams().into_iter().find(|team| team.covers(model));
            match (team, first) {
                (Some(team), Some(first)) if first.name.as_str() != team => refused(
                    who,
                    &format!(
                        "team {team} lists {path}, but team {} is asked first for {model}; \
                         drop it with `fleetway trust unstage` and delegate so that no model \
                         has two teams",
                        first.name
                    ),
                ),
                _ => refused(who, &error.to_string()),
            }
        })
    }

    /// Every team's file is looked at, also one that lists nothing yet: a device that is asked
    /// for a release of the team's would get no answer else.
    fn asks_every_team(
        &mut self,
        next: &Repo,
        files: &Files,
        now_s: u64,
    ) -> Result<(), TrustError> {
        for team in next.teams() {
            for models in &team.models {
                let path = format!("{models}/*").replace('*', "x");
                match self.ask(files, |client, shelf| client.target(shelf, &path, now_s)) {
                    Ok(_) | Err(Refusal::NotATarget(_)) => {}
                    Err(error) => return Err(refused(self.who, &error.to_string())),
                }
            }
        }
        Ok(())
    }
}

fn release(path: &str, file: &TargetFile) -> Option<(ModelName, Label, Digest, u64)> {
    let (model, version) = path.split_once('/')?;
    let digest = file.hashes.get("sha256")?.parse().ok()?;
    let counter = file.custom.as_ref()?.get("counter")?.as_u64()?;
    Some((ModelName::new(model).ok()?, Label::new(version).ok()?, digest, counter))
}

fn refused(who: &str, why: &str) -> TrustError {
    TrustError::Refused(format!("{who} says: {why}"))
}
