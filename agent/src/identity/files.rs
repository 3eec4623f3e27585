//! Small files that are there whole or not at all, with their permissions from the first
//! moment: a key that was readable for a millisecond has been read.
//!
//! What root makes in somebody's directory is given to the directory's owner: a device that was
//! joined with `sudo` must be able to read its own key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Readable by its owner alone.
pub(super) const SECRET: u32 = 0o600;
/// Readable by everybody.
pub(super) const PUBLIC: u32 = 0o644;

/// Writes a file: beside, synced, renamed, the directory synced.
pub(super) fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_added_extension("partial");
    let written = write_partial(&partial, mode, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .and_then(|()| path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()));
    if written.is_err() {
        // Nobody reads it under this name.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write_partial(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    give_to_owner(&file, path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a directory, and those above it, if they are not there.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    fs::DirBuilder::new().mode(0o755).create(path)?;
    give_to_owner(&File::open(path)?, path)
}

/// Gives what root has just made to the owner of the directory that it is in.
fn give_to_owner(file: &File, path: &Path) -> io::Result<()> {
    let Some(dir) = path.parent() else { return Ok(()) };
    let (dir, own) = (fs::metadata(dir)?, file.metadata()?);
    if own.uid() != 0 || dir.uid() == 0 {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(dir.uid()), Some(dir.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    #[test]
    fn what_root_makes_in_a_users_directory_is_the_users() {
        const USER: u32 = 4_242;
        let dir = tempfile::tempdir().unwrap();
        if chown(dir.path(), Some(USER), Some(USER)).is_err() {
            return; // only root can give anything away, and only root has to
        }
        let inner = dir.path().join("identity");
        make_dir(&inner).unwrap();
        write(&inner.join("device.key"), SECRET, b"key").unwrap();
        for path in [&inner, &inner.join("device.key")] {
            let meta = fs::metadata(path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (USER, USER), "{}", path.display());
        }
    }

    #[test]
    fn a_file_is_whole_and_has_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        fs::write(path.with_added_extension("partial"), "left by a cut").unwrap();
        write(&path, SECRET, b"one").unwrap();
        write(&path, SECRET, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
