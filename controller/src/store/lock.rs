//! One controller per data directory: `flock` on `<data>/lock`, the process id inside.
//!
//! The lock is the kernel's and dies with the process; the file stays, and what it says is
//! for people.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::StoreError;

/// Holds the data directory until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock, making the directory if need be.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it.
    pub fn acquire(data: &Path) -> Result<Self, StoreError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { doing, path, source }
        };
        fs::create_dir_all(data).map_err(io("create", data))?;
        let path = data.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // What another process wrote; nothing hangs on it.
                let _ = file.take(16).read_to_string(&mut pid);
                let pid = pid.trim();
                let pid = if pid.is_empty() { "?" } else { pid }.to_owned();
                return Err(StoreError::Locked { dir: data.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(io("lock", &path)(source)),
        }
        file.set_len(0).map_err(io("write", &path))?;
        writeln!(file, "{}", std::process::id()).map_err(io("write", &path))?;
        Ok(Self { _file: file })
    }
}
