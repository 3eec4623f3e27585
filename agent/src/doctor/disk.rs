//! The data directory: writable, durable, roomy, and in one hand.
//!
//! Durability is tried with a file that never gets a name (`O_TMPFILE`), so that nothing is left
//! behind, however the try ends.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, StatVfsMountFlags, flock, openat, statfs, statvfs};

use super::Findings;
use super::machine::user_name;
use crate::clock::Clock;
use crate::config::Config;

/// Less room than this, and not even records are safe, bytes.
const FREE_BYTES_MIN: u64 = 4 << 20;
/// An update of a device that has no model yet, bytes: most edge models are smaller.
const UPDATE_BYTES_GUESS: u64 = 16 << 20;
/// One fsync of a page on a card that is well.
const FSYNC_MAX: Duration = Duration::from_secs(1);
/// What `statfs` says of a disk that is memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Files looked at for their owner: a data directory has some dozens per model.
const FILES_MAX: usize = 10_000;

pub(super) fn look(config: &Config, found: &mut Findings) {
    let dir = &config.data_dir;
    if !dir.is_dir() {
        let text = format!("{} is not there", dir.display());
        return found.warn("data", text, "the agent makes it at its first start; check the path");
    }
    look_at_writing(dir, found);
    look_at_room(dir, found);
    look_at_owners(dir, found);
}

fn look_at_writing(dir: &Path, found: &mut Findings) {
    let shown = dir.display();
    let clock = Clock::new(0);
    match try_durable(dir) {
        Ok(true) => {
            let took = Duration::from_millis(clock.monotonic_ms());
            let text = format!("{shown}: writable, a synced page took {} ms", took.as_millis());
            if took > FSYNC_MAX {
                found.warn(
                    "data",
                    text,
                    "the card is slow or worn out; replace it before it fails",
                );
            } else {
                found.ok("data", text);
            }
        }
        Ok(false) => found.ok("data", format!("{shown}: writable; durability was not tried here")),
        Err(error) => found.problem(
            "data",
            format!("{shown} cannot be written: {error}"),
            "mount it writable, and give it to the user that the agent runs as",
        ),
    }
    if statfs(dir).is_ok_and(|stat| stat.f_type as u64 == TMPFS_MAGIC) {
        let mend = "set data_dir to a directory on a disk";
        found.warn("data", format!("{shown} is in memory: models are lost with the power"), mend);
    }
}

/// Writes and syncs a page; `false` where the file system has no nameless files.
fn try_durable(dir: &Path) -> io::Result<bool> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = match openat(rustix::fs::CWD, dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file,
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let writable = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK);
            return writable.map(|()| false).map_err(io::Error::from);
        }
        Err(error) => return Err(error.into()),
    };
    let mut file = File::from(file);
    file.write_all(&[0; 4096])?;
    file.sync_all()?;
    Ok(true)
}

fn look_at_room(dir: &Path, found: &mut Findings) {
    let stat = match statvfs(dir) {
        Ok(stat) => stat,
        Err(error) => {
            let text = format!("{}: {error}", dir.display());
            return found.problem("room", text, "check the disk");
        }
    };
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let text = format!("{} is mounted read-only", dir.display());
        found.problem("room", text, "mount it writable; a card that fails is mounted so by itself");
    }
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // An update fills the spare slot, which is emptied first.
    let slots = slot_bytes(dir);
    let needed = slots.iter().copied().max().unwrap_or(UPDATE_BYTES_GUESS);
    let text = format!("{} free, an update takes about {}", mib(free), mib(needed));
    let mend = "free some space on this file system";
    if free < FREE_BYTES_MIN {
        found.problem("room", text, mend);
    } else if free < needed {
        found.warn("room", text, mend);
    } else {
        found.ok("room", text);
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// Bytes of every slot.
fn slot_bytes(dir: &Path) -> Vec<u64> {
    let dirs = |dir: &Path| entries(dir).filter(|path| path.is_dir()).collect::<Vec<_>>();
    let slots = dirs(&dir.join("models")).into_iter().flat_map(|model| dirs(&model));
    let bytes = |slot: PathBuf| {
        entries(&slot).filter_map(|file| fs::metadata(file).ok()).map(|meta| meta.len()).sum()
    };
    slots.map(bytes).collect()
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok().map(|e| e.path()))
}

/// A file of another user is one that the agent cannot replace: somebody ran it as root once.
fn look_at_owners(dir: &Path, found: &mut Findings) {
    let Ok(owner) = fs::metadata(dir).map(|meta| meta.uid()) else { return };
    let mut waiting = vec![dir.to_path_buf()];
    let mut seen = 0;
    while let Some(dir) = waiting.pop() {
        for path in entries(&dir) {
            seen += 1;
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if meta.uid() != owner {
                let (is, should) = (user_name(meta.uid()), user_name(owner));
                let text = format!("{} belongs to {is}, its directory to {should}", path.display());
                let mend = format!("chown -R {should} {}", dir.display());
                return found.problem("owner", text, mend);
            }
            if meta.is_dir() && seen < FILES_MAX {
                waiting.push(path);
            }
        }
    }
    found.ok("owner", format!("all {seen} files belong to {}", user_name(owner)));
}

/// Whether an agent holds the directory.
pub(super) fn is_locked(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join("lock")) else { return false };
    // Shared, and gone with the file a moment later: an agent that starts now tries again.
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_good_directory_is_good_and_left_as_it_was() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let slot = dir.path().join("models/digits/slot-a");
        fs::create_dir_all(&slot).unwrap();
        fs::write(slot.join("model"), vec![0; 3 << 20]).unwrap();
        assert_eq!(slot_bytes(dir.path()), [3 << 20]);
        let mut found = Findings::default();
        look_at_writing(dir.path(), &mut found);
        look_at_owners(dir.path(), &mut found);
        assert!(found.0.iter().all(|finding| finding.level == Level::Ok), "{found:?}");
        assert_eq!(entries(dir.path()).count(), 1);
        assert!(!is_locked(dir.path()));
        let lock = File::create(dir.path().join("lock")).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(is_locked(dir.path()));
    }

    #[test]
    fn a_file_of_somebody_else_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("order");
        fs::write(&path, "").unwrap();
        if std::os::unix::fs::chown(&path, Some(4_242), None).is_err() {
            return; // only root can make such a file
        }
        let mut found = Findings::default();
        look_at_owners(dir.path(), &mut found);
        assert_eq!(found.0[0].level, Level::Problem);
        assert!(found.0[0].mend.as_ref().unwrap().starts_with("chown -R root "), "{found:?}");
    }
}
