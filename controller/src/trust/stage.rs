//! What changes: keys, teams, releases. Each becomes the next version of the files that say
//! so, without signatures. A staged file that changes again loses the signatures it had.

use std::collections::BTreeMap;

use fleetway_protocol::envelope::{Authority, PublicKey};
use fleetway_protocol::ids::{Counter, Digest, ModelName, RoleName, Version as Label};
use fleetway_protocol::keyset::{Keyset, ReleaseKey, ReleaseKeys, Scope};
use fleetway_tuf::roles::{DelegatedRole, Head, RoleKeys, Root, TargetFile, Targets};
use serde_json::json;

use super::meta::{Meta, Role, key_id, named};
use super::repo::{KeysetFile, NamedKey, Repo, Team, root_keys};
use super::{DAY_S, KEYSET_TARGET, ROOT_DAYS, TARGETS_DAYS, TrustError};

/// The four roles of the root, in the order of their weight.
pub const ROLES: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// Who may do what on the first day.
#[derive(Clone, Debug)]
pub struct Setup {
    /// May change keys.
    pub root: Vec<NamedKey>,
    /// How many of them must agree.
    pub root_threshold: u8,
    /// May release any model.
    pub targets: Vec<NamedKey>,
    /// How many of them must agree; for teams as well.
    pub targets_threshold: u8,
    /// The server's own.
    pub snapshot: NamedKey,
    /// The server's own.
    pub timestamp: NamedKey,
    /// Signs orders.
    pub director: NamedKey,
}

fn setup_error(what: &str, why: impl ToString) -> TrustError {
    TrustError::Setup { what: what.to_owned(), why: why.to_string() }
}

fn role_keys(keys: &[NamedKey], threshold: u8) -> RoleKeys {
    RoleKeys { keyids: keys.iter().map(|named| key_id(&named.key)).collect(), threshold }
}

fn authority(what: &str, keys: &[NamedKey], threshold: u8) -> Result<Authority, TrustError> {
    let keys: Vec<PublicKey> = keys.iter().map(|named| named.key).collect();
    Authority::new(&keys, threshold).map_err(|error| setup_error(what, error))
}

impl Repo {
    /// The first root and the first keyset, staged.
    ///
    /// # Errors
    /// [`TrustError`] for thresholds that nobody or that nothing meets.
    pub fn begin(setup: &Setup, now_s: u64) -> Result<Self, TrustError> {
        let roles = [
            ("root", setup.root.clone(), setup.root_threshold),
            ("targets", setup.targets.clone(), setup.targets_threshold),
            ("snapshot", vec![setup.snapshot.clone()], 1),
            ("timestamp", vec![setup.timestamp.clone()], 1),
        ];
        let mut keys = BTreeMap::new();
        for (_, members, _) in &roles {
            for member in members {
                keys.entry(key_id(&member.key)).or_insert_with(|| named(&member.key, &member.name));
            }
        }
        let role = |(name, members, threshold): &(&str, Vec<NamedKey>, u8)| {
            authority(name, members, *threshold)?;
            Ok(((*name).to_owned(), role_keys(members, *threshold)))
        };
        let root = Root {
            head: Head::new("root", 1, now_s + ROOT_DAYS * DAY_S)?,
            consistent_snapshot: true,
            keys,
            roles: roles.iter().map(role).collect::<Result<_, TrustError>>()?,
        };
        let mut repo = Self::default();
        repo.staged.root = Some(Meta::new(root)?);
        repo.stage_keyset(&[setup.director.key])?;
        Ok(repo)
    }

    /// Stages the next root as `edit` makes it, and the keyset that follows from it.
    ///
    /// # Errors
    /// [`TrustError`], also from `edit`; nothing is staged then.
    pub fn stage_root(
        &mut self,
        now_s: u64,
        edit: impl FnOnce(&mut Root) -> Result<(), TrustError>,
    ) -> Result<(), TrustError> {
        let mut root = self.root()?.role.clone();
        edit(&mut root)?;
        for name in ROLES {
            let (keys, threshold) = root_keys(&root, name);
            authority(name, &keys, threshold)?;
        }
        let used: Vec<String> = root.roles.values().flat_map(|r| r.keyids.clone()).collect();
        root.keys.retain(|id, _| used.contains(id));
        let version = self.published.root.as_ref().map_or(0, Meta::version) + 1;
        root.head = Head::new("root", version, now_s + ROOT_DAYS * DAY_S)?;
        let director: Vec<_> = self.keyset()?.keyset.director.keys().collect();
        let before = self.staged.clone();
        self.staged.root = Some(Meta::new(root)?);
        let done =
            self.stage_keyset(&director).and_then(|()| self.stage_targets(now_s, |_| Ok(())));
        if done.is_err() {
            self.staged = before;
        }
        done
    }

    /// Stages the keyset that follows from root, teams and these director's keys, if it says
    /// something new.
    ///
    /// # Errors
    /// [`TrustError::Setup`] for more keys than a keyset holds.
    pub fn stage_keyset(&mut self, director: &[PublicKey]) -> Result<(), TrustError> {
        let root = &self.root()?.role;
        let (root_members, root_threshold) = root_keys(root, "root");
        let (targets_members, threshold) = root_keys(root, "targets");
        let mut release = Vec::new();
        for member in targets_members {
            release.push(ReleaseKey { key: member.key, models: Scope::all() });
        }
        for team in self.teams() {
            for models in &team.models {
                let entry =
                    |member: &NamedKey| ReleaseKey { key: member.key, models: models.clone() };
                release.extend(team.keys.iter().map(entry));
            }
        }
        let published = self.published.keyset.as_ref();
        let keyset = Keyset {
            version: published.map_or(0, |file| file.keyset.version) + 1,
            root: authority("root", &root_members, root_threshold)?,
            release: ReleaseKeys::new(&release, threshold)
                .map_err(|error| setup_error("release keys", error))?,
            director: Authority::new(director, 1)
                .map_err(|error| setup_error("director", error))?,
        };
        let same =
            |file: &KeysetFile| Keyset { version: keyset.version, ..file.keyset.clone() } == keyset;
        if published.is_some_and(same) {
            self.staged.keyset = None;
        } else if !self.staged.keyset.as_ref().is_some_and(same) {
            self.staged.keyset = Some(KeysetFile::new(keyset));
        }
        Ok(())
    }

    /// Stages the next targets as `edit` makes them.
    ///
    /// # Errors
    /// [`TrustError`], also from `edit`.
    pub fn stage_targets(
        &mut self,
        now_s: u64,
        edit: impl FnOnce(&mut Targets) -> Result<(), TrustError>,
    ) -> Result<(), TrustError> {
        // Before the first release there is nothing to sign anew.
        let base = self.targets().map(|meta| meta.role.clone());
        let mut targets = base.map_or_else(|| empty(now_s), Ok)?;
        edit(&mut targets)?;
        let published = self.published.targets.as_ref();
        let staged = next(targets, published, now_s)?;
        keep_or_replace(&mut self.staged.targets, staged);
        Ok(())
    }

    /// Lists the keyset among the targets once its signatures are complete.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn settle(&mut self, now_s: u64) -> Result<(), TrustError> {
        let keyset = self.keyset()?.clone();
        if self.lists(&keyset) || !self.is_keyset_complete() {
            return Ok(());
        }
        let file = TargetFile::new(Digest::of(keyset.bytes()), keyset.bytes().len() as u64, None);
        self.stage_targets(now_s, |targets| {
            targets.targets.insert(KEYSET_TARGET.to_owned(), file);
            Ok(())
        })
    }

    /// Lists a release: in the targets if `by` may release everything, else in its team's.
    ///
    /// # Errors
    /// [`TrustError::Foreign`] if `by` may not release this model.
    pub fn stage_release(
        &mut self,
        by: &PublicKey,
        release: &Release<'_>,
        now_s: u64,
    ) -> Result<(), TrustError> {
        let custom = json!({ "counter": release.counter });
        let file = TargetFile::new(release.digest, release.bytes, Some(custom));
        let name = format!("{}/{}", release.model, release.version);
        let insert = |targets: &mut Targets| {
            targets.targets.insert(name, file);
            Ok(())
        };
        let (everything, _) = root_keys(&self.root()?.role, "targets");
        if everything.iter().any(|member| member.key == *by) {
            return self.stage_targets(now_s, insert);
        }
        let teams = self.teams();
        let is_member = |team: &&Team| team.keys.iter().any(|member| member.key == *by);
        let Some(team) = teams.iter().filter(is_member).find(|team| team.covers(release.model))
        else {
            let own: Vec<_> =
                teams.iter().filter(is_member).flat_map(|team| &team.models).collect();
            let scope = match &own[..] {
                [] => "no model".to_owned(),
                own => own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            };
            let (key, what) = (self.name(by), format!("releases of {}", release.model));
            return Err(TrustError::Foreign { key, what, scope });
        };
        let base = self.team_targets(&team.name).map(|meta| meta.role.clone());
        let mut targets = base.map_or_else(|| empty(now_s), Ok)?;
        insert(&mut targets)?;
        let staged = next(targets, self.published.teams.get(&team.name), now_s)?;
        let mut slot = self.staged.teams.remove(&team.name);
        keep_or_replace(&mut slot, staged);
        self.staged.teams.extend(slot.map(|meta| (team.name.clone(), meta)));
        Ok(())
    }

    /// Lets a team release some models, in place of what it might before.
    ///
    /// # Errors
    /// [`TrustError::Setup`].
    pub fn stage_team(
        &mut self,
        name: &RoleName,
        models: &[Scope],
        members: &[NamedKey],
        now_s: u64,
    ) -> Result<(), TrustError> {
        let (_, threshold) = root_keys(&self.root()?.role, "targets");
        authority(name.as_str(), members, threshold)?;
        let before = self.staged.clone();
        let role = DelegatedRole {
            name: name.to_string(),
            keys: role_keys(members, threshold),
            terminating: true,
            paths: models.iter().map(|scope| format!("{scope}/*")).collect(),
        };
        let edited = self.stage_targets(now_s, |targets| {
            let delegations = targets.delegations.get_or_insert_default();
            delegations.roles.retain(|old| old.name != role.name);
            delegations.roles.push(role);
            for member in members {
                let key = named(&member.key, &member.name);
                delegations.keys.insert(key_id(&member.key), key);
            }
            let used: Vec<_> =
                delegations.roles.iter().flat_map(|role| role.keys.keyids.clone()).collect();
            delegations.keys.retain(|id, _| used.contains(id));
            Ok(())
        });
        let director: Vec<_> = self.keyset()?.keyset.director.keys().collect();
        let done = edited.and_then(|()| self.stage_keyset(&director)).and_then(|()| {
            if self.team_targets(name).is_some() {
                return Ok(());
            }
            // A team without a file would make devices ask for one that is not there.
            let first = Meta::new(empty(now_s)?)?;
            self.staged.teams.insert(name.clone(), first);
            Ok(())
        });
        if done.is_err() {
            self.staged = before;
        }
        done
    }

    /// Takes a key out of everything, or puts another in its place.
    ///
    /// # Errors
    /// [`TrustError::Setup`] if too few keys would be left for a threshold.
    pub fn stage_replace(
        &mut self,
        old: &PublicKey,
        new: Option<&NamedKey>,
        now_s: u64,
    ) -> Result<(), TrustError> {
        let (id, new_id) = (key_id(old), new.map(|new| key_id(&new.key)));
        let swap = |ids: &mut Vec<String>| {
            let had = ids.contains(&id);
            ids.retain(|other| *other != id);
            ids.extend(new_id.clone().filter(|_| had));
        };
        let before = self.staged.clone();
        let in_root = self.root()?.role.roles.values().any(|role| role.keyids.contains(&id));
        let edited = if !in_root {
            Ok(())
        } else {
            self.stage_root(now_s, |root| {
                root.roles.values_mut().for_each(|role| swap(&mut role.keyids));
                if let (Some(new), Some(new_id)) = (new, &new_id) {
                    root.keys.insert(new_id.clone(), named(&new.key, &new.name));
                }
                Ok(())
            })
        };
        let done = edited.and_then(|()| {
            self.stage_targets(now_s, |targets| {
                let Some(delegations) = &mut targets.delegations else { return Ok(()) };
                for role in &mut delegations.roles {
                    swap(&mut role.keys.keyids);
                    if usize::from(role.keys.threshold) > role.keys.keyids.len() {
                        let why = "too few keys would be left; delegate anew with other keys";
                        return Err(setup_error(&role.name, why));
                    }
                }
                delegations.keys.remove(&id);
                let in_use = |id: &String| {
                    delegations.roles.iter().any(|role| role.keys.keyids.contains(id))
                };
                if let (Some(new), Some(new_id)) = (new, &new_id)
                    && in_use(new_id)
                {
                    delegations.keys.insert(new_id.clone(), named(&new.key, &new.name));
                }
                Ok(())
            })?;
            let mut director: Vec<_> = self.keyset()?.keyset.director.keys().collect();
            let had = director.contains(old);
            director.retain(|key| key != old);
            director.extend(new.map(|new| new.key).filter(|_| had));
            self.stage_keyset(&director)
        });
        if done.is_err() {
            self.staged = before;
        }
        done
    }
}

/// A release to be listed.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// Of which model.
    pub model: &'a ModelName,
    /// What people call it.
    pub version: &'a Label,
    /// Its place in the order of releases.
    pub counter: Counter,
    /// Digest of the exact manifest bytes.
    pub digest: Digest,
    /// Their length.
    pub bytes: u64,
}

fn empty(now_s: u64) -> Result<Targets, TrustError> {
    let head = Head::new("targets", 1, now_s + TARGETS_DAYS * DAY_S)?;
    Ok(Targets { head, targets: BTreeMap::new(), delegations: None })
}

fn next<T: Role>(
    mut role: T,
    published: Option<&Meta<T>>,
    now_s: u64,
) -> Result<Meta<T>, TrustError> {
    let version = published.map_or(0, Meta::version) + 1;
    *role.head_mut() = Head::new("targets", version, now_s + TARGETS_DAYS * DAY_S)?;
    Meta::new(role)
}

/// What says the same keeps its signatures.
fn keep_or_replace(slot: &mut Option<Meta<Targets>>, staged: Meta<Targets>) {
    let same = slot.as_ref().is_some_and(|old| {
        old.role.targets == staged.role.targets && old.role.delegations == staged.role.delegations
    });
    if !same {
        *slot = Some(staged);
    }
}
