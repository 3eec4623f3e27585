//! What was done without the daemon (a key ceremony, an import, a signature), handed over to it.
//!
//! Each note is a small file of its own in `<data>/audit/offline/`; the daemon takes them into the
//! chain within a second, or when it starts. Until then they are as safe as the directory is: on a
//! machine that never runs the daemon they stay there, listed as not chained.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use super::chain::bounded;
use super::file::dir;
use crate::clock;

/// Bytes of one note's file.
const NOTE_BYTES_MAX: u64 = 16 << 10;
/// Notes taken at once; more wait for the next second.
pub const NOTES_MAX: usize = 256;

/// Something that was done offline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// Unix seconds.
    pub time_s: u64,
    /// Who.
    pub who: String,
    /// One stable lower-case word with dots, as in the log.
    pub what: String,
    /// Ids of the keys that signed.
    pub key: Option<String>,
    /// One sentence.
    pub text: String,
}

/// Notes what an offline verb has done in a data directory. Best effort by design: a ceremony on
/// a read-only machine must not fail for want of a log there.
pub fn note(data: &Path, who: &str, what: &str, key: Option<String>, text: &str) {
    let (who, what) = (who.to_owned(), what.to_owned());
    let note = Note { time_s: clock::now_s(), who, what, key, text: bounded(text.to_owned()) };
    if let Err(error) = write(&dir(data).join("offline"), &note) {
        tracing::warn!("not noted in the audit log of {}: {error}", data.display());
    }
}

fn write(dir: &Path, note: &Note) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let bytes = serde_json::to_vec(note).map_err(std::io::Error::other)?;
    // Unique without a lock: time, process, number in the process.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let name = format!("{:020}-{:010}-{number:010}", clock::now_ms(), std::process::id());
    let partial = dir.join(format!("{name}.partial"));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&partial)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&partial, partial.with_extension("json"))?;
    File::open(dir)?.sync_all()
}

/// Notes that wait, oldest first, with their files. One that does not read is left out and its
/// file renamed, so that it is looked at once.
pub fn waiting(data: &Path) -> Vec<(PathBuf, Note)> {
    let Ok(entries) = fs::read_dir(dir(data).join("offline")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    paths.truncate(NOTES_MAX);
    let read = |path: PathBuf| {
        let fits = fs::metadata(&path).is_ok_and(|meta| meta.len() <= NOTE_BYTES_MAX);
        let bytes = if fits { fs::read(&path).ok() } else { None };
        match bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            Some(note) => Some((path, note)),
            None => {
                let _ = fs::rename(&path, path.with_extension("unreadable"));
                None
            }
        }
    };
    paths.into_iter().filter_map(read).collect()
}
