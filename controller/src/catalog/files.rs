//! Files that are there whole or not at all: written under another name, flushed, renamed,
//! and the directory flushed.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::CatalogError;

pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CatalogError {
    let path = path.to_owned();
    move |source| CatalogError::Io { doing, path, source }
}

/// Reads a file of at most `max` bytes; whatever its size claims, no more is held.
pub(super) fn read(path: &Path, max: u64) -> Result<Vec<u8>, CatalogError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io("open", path))?;
    file.take(max + 1).read_to_end(&mut bytes).map_err(io("read", path))?;
    if bytes.len() as u64 > max {
        let bytes = fs::metadata(path).map_or(bytes.len() as u64, |m| m.len());
        return Err(CatalogError::TooLarge { path: path.to_owned(), bytes, max });
    }
    Ok(bytes)
}

/// Writes a file in a directory that nobody reads yet; durable once the directory is.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), CatalogError> {
    let mut file = File::create(path).map_err(io("create", path))?;
    file.write_all(bytes).map_err(io("write", path))?;
    file.sync_all().map_err(io("flush", path))
}

/// Puts a file into place, over an older one if there is one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), CatalogError> {
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".tmp");
    let tmp = Path::new(&tmp);
    write(tmp, bytes)?;
    fs::rename(tmp, path).map_err(io("move into place", path))?;
    path.parent().map_or(Ok(()), sync_dir)
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), CatalogError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io("flush", dir))
}

/// Makes a directory, and every one above it that is missing, durable.
pub(super) fn create_dir(dir: &Path) -> Result<(), CatalogError> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_dir(parent)?;
    }
    match fs::create_dir(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(io("create", dir)(e));
        }
        _ => {}
    }
    dir.parent().map_or(Ok(()), sync_dir)
}
