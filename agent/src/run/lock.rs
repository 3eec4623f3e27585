//! One agent per data directory: two would each believe to own the slots.
//!
//! An agent that was killed between the fork and the exec of a self-test leaves a child that
//! holds the lock for another moment, so the next one does not give up at the first try.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// The directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(
        "{path}: another fleetway-agent (pid {pid}) uses this data directory; stop it, or give this one its own data_dir"
    )]
    Taken {
        /// The directory.
        path: PathBuf,
        /// Who.
        pid: String,
    },
    /// It cannot be locked at all.
    #[error("{path}: cannot be locked; check that it is writable")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Holds the lock until it is dropped or the process ends, however it ends.
pub(super) struct Lock {
    _file: File,
}

/// Tries until the directory counts as taken, and the pause between two: 2 s in all, which is
/// long for an exec and short for a person.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the lock of a data directory, which is made if need be.
pub(super) async fn take(data: &Path) -> Result<Lock, LockError> {
    for _ in 1..TRIES {
        match try_take(data) {
            Err(LockError::Taken { .. }) => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
    try_take(data)
}

fn try_take(data: &Path) -> Result<Lock, LockError> {
    let failed = |source| LockError::Io { path: data.into(), source };
    std::fs::create_dir_all(data).map_err(failed)?;
    let path = data.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.take(16).read_to_string(&mut pid);
            return Err(LockError::Taken { path: data.into(), pid: pid.trim().to_owned() });
        }
        Err(error) => return Err(failed(error.into())),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(Lock { _file: file })
}
