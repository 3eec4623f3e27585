//! The trust directory on the disk. Every file is written whole, what others refer to first;
//! the timestamp comes last, so that a cut leaves the old state or the new one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fleetway_protocol::ids::{Digest, RoleName};
use fleetway_tuf::limits::FILE_BYTES_MAX;
use fleetway_tuf::roles::Pins;

use super::meta::{Meta, Role};
use super::repo::{KeysetFile, Repo};
use super::{KEYSET_TARGET, TrustError};

/// `<data>/trust`.
#[derive(Clone, Debug)]
pub struct TrustDir(PathBuf);

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> TrustError {
    let path = path.to_owned();
    move |source| TrustError::Io { doing, path, source }
}

impl TrustDir {
    /// Of this data directory.
    pub fn new(data: &Path) -> Self {
        Self(data.join("trust"))
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.0.join("metadata").join(name)
    }

    /// Where staged files are.
    pub fn staged(&self) -> PathBuf {
        self.0.join("staged")
    }

    /// Everything.
    ///
    /// # Errors
    /// [`TrustError::None`], or what is damaged.
    pub fn load(&self) -> Result<Repo, TrustError> {
        if !self.exists() {
            return Err(TrustError::None);
        }
        let mut repo = Repo::default();
        let names = list(&self.0.join("metadata"))?;
        let newest = names.iter().filter_map(|name| version_of(name, "root.json")).max();
        if let Some(version) = newest {
            repo.published.root = Some(self.meta(&format!("{version}.root.json"))?);
            for before in 1..version {
                repo.roots.push(read(&self.metadata(&format!("{before}.root.json")))?);
            }
        }
        if names.iter().any(|name| name == "timestamp.json") {
            self.load_chain(&mut repo)?;
        }
        self.load_staged(&mut repo)?;
        Ok(repo)
    }

    fn load_chain(&self, repo: &mut Repo) -> Result<(), TrustError> {
        let timestamp: Meta<Pins> = self.meta("timestamp.json")?;
        let pinned = timestamp.role.meta.get("snapshot.json").map_or(0, |pin| pin.version);
        let snapshot: Meta<Pins> = self.meta(&format!("{pinned}.snapshot.json"))?;
        for (name, pin) in &snapshot.role.meta {
            let file = format!("{}.{name}", pin.version);
            match name.strip_suffix(".json").unwrap_or(name) {
                "targets" => repo.published.targets = Some(self.meta(&file)?),
                team => {
                    let team = RoleName::new(team)
                        .map_err(|error| self.damaged(&file, format!("{team:?} {error}")))?;
                    repo.published.teams.insert(team, self.meta(&file)?);
                }
            }
        }
        let listed =
            repo.published.targets.as_ref().and_then(|t| t.role.targets.get(KEYSET_TARGET));
        if let Some(digest) = listed.and_then(|file| file.hashes.get("sha256")) {
            let path = self.0.join(format!("targets/fleetway/{digest}.keyset"));
            let bytes = read(&path)?;
            let damaged = |detail: String| TrustError::Damaged { path: path.clone(), detail };
            if Digest::of(&bytes).to_string() != *digest {
                return Err(damaged("its digest is another".to_owned()));
            }
            let keyset = KeysetFile::read(&bytes).map_err(damaged)?;
            for before in 1..keyset.keyset.version {
                let path = self.metadata(&format!("{before}.keyset"));
                if path.exists() {
                    repo.keysets.insert(before, read(&path)?);
                }
            }
            repo.published.keyset = Some(keyset);
        }
        (repo.snapshot, repo.timestamp) = (Some(snapshot), Some(timestamp));
        Ok(())
    }

    /// What is staged and newer than what is published: a cut while publishing leaves more.
    fn load_staged(&self, repo: &mut Repo) -> Result<(), TrustError> {
        let dir = self.staged();
        let newer = |version: u64, published: Option<u64>| version > published.unwrap_or(0);
        for name in list(&dir)? {
            let path = dir.join(&name);
            let damaged = |detail: String| TrustError::Damaged { path: path.clone(), detail };
            let Some((version, role)) = name.split_once('.') else { continue };
            let Ok(version) = version.parse::<u64>() else { continue };
            let published = &repo.published;
            match role {
                "keyset" => {
                    let file = KeysetFile::read(&read(&path)?).map_err(damaged)?;
                    if newer(version, published.keyset.as_ref().map(|k| k.keyset.version)) {
                        repo.staged.keyset = Some(file);
                    }
                }
                "root.json" if newer(version, published.root.as_ref().map(Meta::version)) => {
                    repo.staged.root = Some(Meta::read(&read(&path)?).map_err(damaged)?);
                }
                "targets.json" if newer(version, published.targets.as_ref().map(Meta::version)) => {
                    repo.staged.targets = Some(Meta::read(&read(&path)?).map_err(damaged)?);
                }
                "root.json" | "targets.json" => {}
                role => {
                    let team = role.strip_suffix(".json").and_then(|team| RoleName::new(team).ok());
                    let Some(team) = team else { continue };
                    if newer(version, published.teams.get(&team).map(Meta::version)) {
                        let meta = Meta::read(&read(&path)?).map_err(damaged)?;
                        repo.staged.teams.insert(team, meta);
                    }
                }
            }
        }
        Ok(())
    }

    fn meta<T: Role>(&self, name: &str) -> Result<Meta<T>, TrustError> {
        let path = self.metadata(name);
        Meta::read(&read(&path)?).map_err(|detail| TrustError::Damaged { path, detail })
    }

    fn damaged(&self, name: &str, detail: String) -> TrustError {
        TrustError::Damaged { path: self.metadata(name), detail }
    }

    /// Keeps what is staged, and nothing else in `staged/`.
    ///
    /// # Errors
    /// The disk's.
    pub fn save_staged(&self, repo: &Repo) -> Result<(), TrustError> {
        let dir = self.staged();
        let files: BTreeMap<String, Vec<u8>> = repo.staged_files().into_iter().collect();
        for (name, bytes) in &files {
            write(&dir.join(name), bytes)?;
        }
        for name in list(&dir)?.into_iter().filter(|name| !files.contains_key(name)) {
            let path = dir.join(name);
            fs::remove_file(&path).map_err(io("remove", &path))?;
        }
        Ok(())
    }

    /// Makes what is published durable, then what is staged.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, repo: &Repo) -> Result<(), TrustError> {
        for (path, bytes) in published_files(repo) {
            let path = self.0.join(path);
            // After a cut there can be a file that nothing refers to: it is replaced.
            if !fs::read(&path).is_ok_and(|there| there == bytes) {
                write(&path, &bytes)?;
            }
        }
        self.save_staged(repo)
    }

    /// Removes metadata older than the version before the current one; gives the names. All
    /// roots stay.
    ///
    /// # Errors
    /// The disk's.
    pub fn prune(&self, repo: &Repo) -> Result<Vec<String>, TrustError> {
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        let published = &repo.published;
        newest.extend(published.targets.iter().map(|m| ("targets.json".into(), m.version())));
        newest.extend(repo.snapshot.iter().map(|m| ("snapshot.json".into(), m.version())));
        let teams = published.teams.iter();
        newest.extend(teams.map(|(team, m)| (format!("{team}.json"), m.version())));
        let mut removed = Vec::new();
        for name in list(&self.0.join("metadata"))? {
            let Some((version, role)) = name.split_once('.') else { continue };
            let Ok(version) = version.parse::<u64>() else { continue };
            if newest.get(role).is_some_and(|newest| version + 1 < *newest) {
                let path = self.metadata(&name);
                fs::remove_file(&path).map_err(io("remove", &path))?;
                removed.push(name);
            }
        }
        Ok(removed)
    }

    /// Keeps the bytes of a release that targets list.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_release(&self, model: &str, version: &str, bytes: &[u8]) -> Result<(), TrustError> {
        let name = format!("targets/{model}/{}.{version}", Digest::of(bytes));
        write(&self.0.join(name), bytes)
    }
}

impl Repo {
    /// All published metadata that a broker shall hold, the timestamp last: file names and
    /// bytes. Every root and keyset is among them, for devices that were away.
    pub fn files_for_devices(&self) -> Vec<(String, Vec<u8>)> {
        let older = self.roots.iter().cloned().zip(1..);
        let mut files: Vec<_> =
            older.map(|(bytes, version)| (format!("{version}.root.json"), bytes)).collect();
        let older = self.keysets.iter();
        files.extend(older.map(|(version, bytes)| (format!("{version}.keyset"), bytes.clone())));
        let base = |path: String| path.rsplit('/').next().unwrap_or_default().to_owned();
        files.extend(published_files(self).into_iter().map(|(path, bytes)| (base(path), bytes)));
        files
    }
}

/// What is published, below `trust/`, in the order in which it is written.
fn published_files(repo: &Repo) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let published = &repo.published;
    if let Some(keyset) = &published.keyset {
        let digest = Digest::of(keyset.bytes());
        files.push((format!("targets/fleetway/{digest}.keyset"), keyset.bytes().to_vec()));
        let version = keyset.keyset.version;
        files.push((format!("metadata/{version}.keyset"), keyset.bytes().to_vec()));
    }
    let mut add = |name: String, bytes: Vec<u8>| files.push((format!("metadata/{name}"), bytes));
    for (team, meta) in &published.teams {
        add(format!("{}.{team}.json", meta.version()), meta.bytes());
    }
    if let Some(meta) = &published.targets {
        add(format!("{}.targets.json", meta.version()), meta.bytes());
    }
    if let Some(meta) = &published.root {
        add(format!("{}.root.json", meta.version()), meta.bytes());
    }
    if let Some(meta) = &repo.snapshot {
        add(format!("{}.snapshot.json", meta.version()), meta.bytes());
    }
    if let Some(meta) = &repo.timestamp {
        add("timestamp.json".to_owned(), meta.bytes());
    }
    files
}

fn version_of(name: &str, role: &str) -> Option<u64> {
    name.split_once('.').filter(|(_, rest)| *rest == role)?.0.parse().ok()
}

/// Names of files, without what is half written; none if there is no directory.
fn list(dir: &Path) -> Result<Vec<String>, TrustError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io("list", dir))?.file_name();
        names.extend(name.into_string().ok().filter(|name| !name.ends_with(".partial")));
    }
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io("open", path))?;
    let max = FILE_BYTES_MAX as u64;
    file.take(max + 1).read_to_end(&mut bytes).map_err(io("read", path))?;
    if bytes.len() as u64 > max {
        let detail = format!("it has more than {max} bytes");
        return Err(TrustError::Damaged { path: path.to_owned(), detail });
    }
    Ok(bytes)
}

/// Writes a file whole: beside, flushed, renamed, its directory flushed.
fn write(path: &Path, bytes: &[u8]) -> Result<(), TrustError> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).map_err(io("make the directory", dir))?;
    let partial = path.with_added_extension("partial");
    let mut file = File::create(&partial).map_err(io("create", &partial))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("write", &partial))?;
    fs::rename(&partial, path).map_err(io("put into place", path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("flush", dir))
}
