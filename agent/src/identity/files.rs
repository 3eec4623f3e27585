//! Small files that are there whole or not at all, with their permissions from the first
//! moment: a key that was readable for a millisecond has been read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
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
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

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
