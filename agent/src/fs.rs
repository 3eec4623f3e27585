//! The few file effects that the agent needs, behind one trait, so that a test can cut
//! them: the simulated disk of the `tests` crate loses whatever was not synced.
//!
//! The rules of storage are kept by the callers in [`crate::store`]: sync the file, sync
//! the directory, then say it is durable; never rewrite a pointer in place.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fleetway_engine::ModelBytes;

/// File effects. Paths are absolute or relative to the process; nothing follows links
/// out on purpose.
pub trait Fs {
    /// The whole file, refused if it is longer than `bytes_max`.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;
    /// The same for a file that is not written to any more, without a copy of it where that can be.
    fn map(&self, path: &Path, bytes_max: u64) -> io::Result<ModelBytes> {
        Ok(self.read(path, bytes_max)?.into())
    }
    /// Writes at `offset` into a file that is created if need be. Not durable yet.
    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or extends the file. Not durable yet.
    fn set_len(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Puts `from` in the place of `to`. The new name is durable after [`Fs::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is not there is no error.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and those above it.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory; none if it is not there.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
}

/// The real disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        use std::io::Read as _;
        let (file, len) = open_within(path, bytes_max)?;
        let mut bytes = Vec::with_capacity(len as usize);
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn map(&self, path: &Path, bytes_max: u64) -> io::Result<ModelBytes> {
        let (file, _) = open_within(path, bytes_max)?;
        ModelBytes::map(&file)
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.write_all_at(bytes, offset)
    }

    fn set_len(&self, path: &Path, bytes: u64) -> io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(false).open(path)?.set_len(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}

/// A file and its length, at most `bytes_max`.
fn open_within(path: &Path, bytes_max: u64) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    if len > bytes_max {
        let text = format!("{} has {len} bytes, at most {bytes_max}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok((file, len))
}

/// Writes a whole file so that a cut leaves either the old one or the new one: under
/// another name, synced, renamed, directory synced.
///
/// # Errors
/// The first effect that fails; the old file is untouched then.
pub fn replace(fs: &impl Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".new");
    let tmp = PathBuf::from(tmp);
    fs.set_len(&tmp, 0)?;
    fs.write_at(&tmp, 0, bytes)?;
    fs.sync(&tmp)?;
    fs.rename(&tmp, path)?;
    fs.sync_dir(&dir)
}
