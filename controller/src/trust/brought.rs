//! Metadata that came with a release from another place, on a stick: believed as a device would.
//!
//! The devices' own client takes it from a root that this place trusted before. One thing differs from a
//! device with a network: the timestamp and the snapshot, which say how fresh the rest is, are short-lived,
//! and a stick is slow. They are judged at the time they were good for; everything that says *what* may run
//! (root, targets, teams) must be good now.

use std::collections::BTreeMap;

use fleetway_protocol::ids::{Digest, RoleName};
use fleetway_tuf::client::Release;
use fleetway_tuf::roles::{Pins, Root, Targets};

use super::meta::{Meta, Role};
use super::rehearse::Device;
use super::repo::{KeysetFile, Repo, Version};
use super::{KEYSET_TARGET, TrustError};

/// Metadata files by name: `1.root.json`, `timestamp.json`, `<digest>.keyset`.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What metadata from elsewhere says, once it was believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Believed {
    /// Until when the word "this is the newest" was good, Unix seconds: before that it was packed.
    pub fresh_until_s: u64,
    /// When what lists the release ends, Unix seconds.
    pub targets_until_s: u64,
}

/// Whether metadata begins with the root that this place began with.
pub fn is_of(own: &Repo, files: &Files) -> bool {
    first_root(own).is_some_and(|root| files.get(FIRST) == Some(&root))
}

/// The root that a place began with.
pub fn first_root(repo: &Repo) -> Option<Vec<u8>> {
    let published = repo.published.root.as_ref();
    repo.roots.first().cloned().or_else(|| published.map(Meta::bytes))
}

const FIRST: &str = "1.root.json";

/// Whether `release` may run, by the word of whoever signed `files`, beginning with the root `pinned`.
///
/// # Errors
/// [`TrustError::Disbelieved`] says what does not hold.
pub fn believe(
    pinned: &[u8],
    files: &Files,
    release: &Release<'_>,
    now_s: u64,
) -> Result<Believed, TrustError> {
    let timestamp: Meta<Pins> = meta(files, "timestamp.json")?;
    let pin = timestamp.role.meta.get("snapshot.json").map_or(0, |pin| pin.version);
    let snapshot: Meta<Pins> = meta(files, &format!("{pin}.snapshot.json"))?;
    let fresh_until_s = timestamp.expires_s().min(snapshot.expires_s());
    let ask = || {
        let mut device = Device::new("a device", pinned)?;
        // A second before the end; the client says whether the files are what they say.
        let then_s = now_s.min(fresh_until_s.saturating_sub(1));
        device.believes(files, then_s)?;
        device.lists(files, release, then_s)?;
        let until_s = device.good_now(now_s)?;
        let targets_until_s = until_s.min(team_until_s(files, &snapshot, release, now_s)?);
        Ok(Believed { fresh_until_s, targets_until_s })
    };
    ask().map_err(|error| match error {
        TrustError::Refused(why) => TrustError::Disbelieved(why),
        error => error,
    })
}

/// When the files of the teams that list a release end; one that has ended says nothing any more.
fn team_until_s(
    files: &Files,
    snapshot: &Meta<Pins>,
    release: &Release<'_>,
    now_s: u64,
) -> Result<u64, TrustError> {
    let path = format!("{}/{}", release.model, release.version);
    let mut until_s = u64::MAX;
    for (name, pin) in snapshot.role.meta.iter().filter(|(name, _)| *name != "targets.json") {
        // One that is missing was not asked for: the client has had what it needs.
        let team: Result<Meta<Targets>, _> = meta(files, &format!("{}.{name}", pin.version));
        let Some(team) = team.ok().filter(|team| team.role.targets.contains_key(&path)) else {
            continue;
        };
        if team.expires_s() <= now_s {
            return refused(format!("{name} {} has expired", pin.version));
        }
        until_s = until_s.min(team.expires_s());
    }
    Ok(until_s)
}

/// What has to be staged here so that this place's devices hear what `files` say: the next versions, with
/// the signatures they came with. `files` were believed from this place's own first root.
///
/// # Errors
/// [`TrustError::Disbelieved`]: older than what is in force here, or too far ahead.
pub fn adopt(own: &Repo, files: &Files) -> Result<Version, TrustError> {
    let published = &own.published;
    let mut staged = Version::default();
    let newest =
        files.keys().filter_map(|name| name.strip_suffix(".root.json")?.parse::<u64>().ok());
    let newest = newest.max().unwrap_or(0);
    let root = published.root.as_ref().map_or(0, Meta::version);
    match newest.checked_sub(root) {
        None => return Err(older("root", newest, root)),
        Some(0) => {}
        Some(1) => staged.root = Some(meta::<Root>(files, &format!("{newest}.root.json"))?),
        Some(_) => {
            return refused(format!(
                "its root is version {newest}, and {root} is in force here; bring the ones between first, one export after each"
            ));
        }
    }
    let snapshot: Meta<Pins> = pinned_snapshot(files)?;
    for (name, pin) in &snapshot.role.meta {
        let file = format!("{}.{name}", pin.version);
        match name.strip_suffix(".json").unwrap_or(name) {
            "targets" => {
                let next: Meta<Targets> = meta(files, &file)?;
                staged.targets = newer(name, next, published.targets.as_ref())?;
            }
            team => {
                let team = RoleName::new(team).map_err(|e| input(&file, e.to_string()))?;
                let next: Meta<Targets> = meta(files, &file)?;
                let here = published.teams.get(&team);
                staged.teams.extend(newer(name, next, here)?.map(|next| (team, next)));
            }
        }
    }
    staged.keyset = keyset(files, &staged, own)?;
    Ok(staged)
}

/// The next version of a file, if it is one.
fn newer<T: Role + PartialEq>(
    name: &str,
    next: Meta<T>,
    here: Option<&Meta<T>>,
) -> Result<Option<Meta<T>>, TrustError> {
    let version = here.map_or(0, Meta::version);
    match (next.version().checked_sub(version), here) {
        (None, _) => Err(older(name, next.version(), version)),
        (Some(0), Some(here)) if *here == next => Ok(None),
        (Some(0), _) => refused(format!(
            "its {name} is version {version}, as here, and says something else: two places signed it"
        )),
        _ => Ok(Some(next)),
    }
}

/// The keyset that the next targets list, if it is another than here.
fn keyset(files: &Files, staged: &Version, own: &Repo) -> Result<Option<KeysetFile>, TrustError> {
    let targets = staged.targets.as_ref().and_then(|meta| meta.role.targets.get(KEYSET_TARGET));
    let Some(digest) = targets.and_then(|file| file.hashes.get("sha256")) else { return Ok(None) };
    let here = own.published.keyset.as_ref().map(|file| Digest::of(file.bytes()).to_string());
    if here.as_ref() == Some(digest) {
        return Ok(None);
    }
    let name = format!("{digest}.keyset");
    let bytes = files.get(&name).ok_or_else(|| input(&name, "it is not there".to_owned()))?;
    if Digest::of(bytes).to_string() != *digest {
        return Err(input(&name, "its digest is another".to_owned()));
    }
    KeysetFile::read(bytes).map(Some).map_err(|why| input(&name, why))
}

fn pinned_snapshot(files: &Files) -> Result<Meta<Pins>, TrustError> {
    let timestamp: Meta<Pins> = meta(files, "timestamp.json")?;
    let pin = timestamp.role.meta.get("snapshot.json").map_or(0, |pin| pin.version);
    meta(files, &format!("{pin}.snapshot.json"))
}

fn meta<T: Role>(files: &Files, name: &str) -> Result<Meta<T>, TrustError> {
    let bytes = files.get(name).ok_or_else(|| input(name, "it is not there".to_owned()))?;
    Meta::read(bytes).map_err(|why| input(name, why))
}

fn input(name: &str, why: String) -> TrustError {
    TrustError::Input { what: format!("the metadata {name}"), why }
}

fn older(name: &str, theirs: u64, here: u64) -> TrustError {
    TrustError::Disbelieved(format!(
        "its {name} is version {theirs}, older than {here} which is in force here; export the release again"
    ))
}

fn refused<T>(why: String) -> Result<T, TrustError> {
    Err(TrustError::Disbelieved(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::repo::NamedKey;
    use crate::trust::signer::Signer as _;
    use crate::trust::tests::{NOW, key, publish, published};
    use crate::trust::{DAY_S, stage};
    use fleetway_protocol::ids::{ModelName, Version as Label};
    use fleetway_protocol::keyset::Scope;

    struct Named(ModelName, Label, u64);

    impl Named {
        fn new(version: &str, counter: u64) -> Self {
            Self(ModelName::new("digits").unwrap(), Label::new(version).unwrap(), counter)
        }

        fn listed(&self) -> Release<'_> {
            let digest = Digest::of(self.1.as_str().as_bytes());
            let Self(model, version, counter) = self;
            Release { model, version, counter: *counter, digest, length: 6 }
        }

        fn publish(&self, repo: &Repo) -> Repo {
            self.publish_at(repo, 10, NOW)
        }

        fn publish_at(&self, repo: &Repo, by: u8, now_s: u64) -> Repo {
            let (mut repo, listed) = (repo.clone(), self.listed());
            let release = stage::Release {
                model: &self.0,
                version: &self.1,
                counter: self.2,
                digest: listed.digest,
                bytes: listed.length,
            };
            repo.stage_release(&key(by).public(), &release, now_s).unwrap();
            repo.sign(&key(by), now_s).unwrap();
            publish(&repo, now_s).unwrap()
        }
    }

    fn files(repo: &Repo) -> Files {
        repo.files_for_devices().into_iter().collect()
    }

    fn doubt(pinned: &[u8], files: &Files, release: &Release<'_>, now_s: u64, says: &str) {
        let error = believe(pinned, files, release, now_s).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Trust, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn a_slow_stick_is_believed_until_the_targets_end() {
        let first = Named::new("v1", 1);
        let home = first.publish(&published());
        let (root, files) = (first_root(&home).unwrap(), files(&home));
        // Timestamp and snapshot are good for a day and a week.
        for days in [0, 2, 30, 89] {
            let believed = believe(&root, &files, &first.listed(), NOW + days * DAY_S).unwrap();
            assert_eq!(believed.fresh_until_s, NOW + DAY_S);
            assert_eq!(believed.targets_until_s, NOW + 90 * DAY_S);
        }
        doubt(&root, &files, &first.listed(), NOW + 91 * DAY_S, "targets 2 has expired");
    }

    /// The team's word ends before that of whoever let the team in.
    #[test]
    fn a_team_whose_file_has_ended_says_nothing() {
        let mut home = published();
        let team = RoleName::new("vision").unwrap();
        let scope = Scope::new("digits").unwrap();
        let member = NamedKey { name: "vic".into(), key: key(30).public() };
        home.stage_team(&team, &[scope], &[member], NOW).unwrap();
        for seed in [10, 1, 2, 10, 30] {
            let _ = home.sign(&key(seed), NOW);
        }
        let home = publish(&home, NOW).unwrap();
        let first = Named::new("v1", 1);
        let home = first.publish_at(&home, 30, NOW);
        let face = Named(ModelName::new("face").unwrap(), Label::new("v1").unwrap(), 1);
        let home = face.publish_at(&home, 10, NOW + 60 * DAY_S);
        let (root, files) = (first_root(&home).unwrap(), files(&home));
        let believed = believe(&root, &files, &first.listed(), NOW + 61 * DAY_S).unwrap();
        assert_eq!(believed.targets_until_s, NOW + 90 * DAY_S);
        believe(&root, &files, &face.listed(), NOW + 100 * DAY_S).unwrap();
        doubt(&root, &files, &first.listed(), NOW + 100 * DAY_S, "vision.json");
    }

    #[test]
    fn what_is_not_listed_or_signed_by_others_is_not_believed() {
        let first = Named::new("v1", 1);
        let home = first.publish(&published());
        let (root, good) = (first_root(&home).unwrap(), files(&home));
        doubt(&root, &good, &Named::new("v2", 2).listed(), NOW, "does not list digits/v2");
        doubt(&root, &good, &Named::new("v1", 2).listed(), NOW, "another counter");
        let other = Release { digest: Digest([7; 32]), ..first.listed() };
        doubt(&root, &good, &other, NOW, "another digest");
        // Another authority's root, under which the same words mean nothing.
        let mal = |seed| NamedKey { name: format!("mal{seed}"), key: key(seed).public() };
        let stranger = stage::Setup {
            root: vec![mal(66)],
            root_threshold: 1,
            targets: vec![mal(66)],
            targets_threshold: 1,
            snapshot: mal(67),
            timestamp: mal(68),
            director: mal(69),
        };
        let mut foreign = Repo::begin(&stranger, NOW).unwrap();
        foreign.sign(&key(66), NOW).unwrap();
        let foreign = foreign.staged.root.unwrap().bytes();
        assert!(believe(&foreign, &good, &first.listed(), NOW).is_err());
        assert!(believe(b"{}", &good, &first.listed(), NOW).is_err());
        // Every file with one byte changed, and every file left out.
        for name in good.keys() {
            if name.ends_with(".keyset") || name == FIRST {
                continue; // the release hangs on neither: the pinned root is the first
            }
            let mut less = good.clone();
            less.remove(name);
            assert!(believe(&root, &less, &first.listed(), NOW).is_err(), "without {name}");
            let mut bent = good.clone();
            let bytes = bent.get_mut(name).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            assert!(believe(&root, &bent, &first.listed(), NOW).is_err(), "{name} bent");
        }
    }

    #[test]
    fn a_site_takes_over_what_home_published_and_nothing_older() {
        let (first, second) = (Named::new("v1", 1), Named::new("v2", 2));
        let site = first.publish(&published());
        let home = second.publish(&site);
        assert!(is_of(&site, &files(&home)));
        let mut next = site.clone();
        next.staged = adopt(&site, &files(&home)).unwrap();
        assert!(next.staged.root.is_none() && next.staged.keyset.is_none());
        // The site's own server signs how fresh it is; the people at home signed the rest.
        let next = publish(&next, NOW).unwrap();
        let root = first_root(&next).unwrap();
        believe(&root, &files(&next), &second.listed(), NOW).unwrap();
        assert!(adopt(&next, &files(&home)).unwrap().is_empty(), "nothing is new any more");
        let old = adopt(&next, &files(&site)).unwrap_err().to_string();
        assert!(old.contains("targets.json is version 2, older than 3"), "{old}");
    }

    #[test]
    fn two_places_that_sign_the_same_version_are_found_out() {
        let site = Named::new("v1", 1).publish(&published());
        let (home, here) = (Named::new("v2", 2).publish(&site), Named::new("v3", 3).publish(&site));
        let error = adopt(&here, &files(&home)).unwrap_err().to_string();
        assert!(error.contains("two places signed it"), "{error}");
    }
}
