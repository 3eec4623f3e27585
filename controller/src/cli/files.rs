//! Small files that are there whole or not at all, with the permissions they need from
//! the first moment. Also the names of what lies in a data directory.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::api::failure::Failure;

/// Readable by its owner alone: keys, and configurations that name them.
pub(crate) const SECRET: u32 = 0o600;
/// Readable by everybody: certificates and public keys.
pub(crate) const PUBLIC: u32 = 0o644;

/// Where things are in a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout(PathBuf);

impl Layout {
    /// Of this data directory.
    pub(crate) fn new(data: &Path) -> Self {
        Self(data.to_owned())
    }

    /// The release authority's key. In production it lies elsewhere.
    pub(crate) fn release_key(&self) -> PathBuf {
        self.0.join("keys/release.key")
    }

    /// Keys that are files on this machine.
    pub(crate) fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// One of them: development keys and the server's own.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.keys().join(format!("{name}.key"))
    }

    /// The director's key: signs orders.
    pub(crate) fn director_key(&self) -> PathBuf {
        self.0.join("keys/director.key")
    }

    /// A certificate of the fleet's own authority: `ca`, `server`, `controller`.
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.0.join(format!("pki/{name}.pem"))
    }

    /// The key that belongs to it.
    pub(crate) fn certificate_key(&self, name: &str) -> PathBuf {
        self.0.join(format!("pki/{name}.key"))
    }

    /// The TUF root that devices pin.
    pub(crate) fn pinned_root(&self) -> PathBuf {
        self.0.join("trust/metadata/1.root.json")
    }

    /// Where `device add` writes, unless told otherwise.
    pub(crate) fn devices(&self) -> PathBuf {
        self.0.join("devices")
    }

    /// Where a running controller says where it is.
    pub(crate) fn run_file(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The data directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.0
    }
}

/// Makes a directory and its parents, for the owner alone.
pub(crate) fn make_dir(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::file("make the directory", path, &error))
}

/// Writes a file whole: beside, fsynced, renamed, the directory fsynced.
pub(crate) fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    let partial = path.with_added_extension("partial");
    let written = write_partial(&partial, mode, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .and_then(|()| path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()));
    written.map_err(|error| {
        // Nobody reads it under this name.
        let _ = fs::remove_file(&partial);
        Failure::file("write", path, &error)
    })
}

fn write_partial(path: &Path, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_are_whole_and_have_their_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.key");
        make_dir(path.parent().unwrap()).unwrap();
        write(&path, SECRET, b"one").unwrap();
        write(&path, SECRET, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(read(&dir.path().join("none")).unwrap_err().message.contains("none"));
    }
}
