//! What the device keeps of the release authority:
//!
//! ```text
//! <data>/trust/<N>.root.json        every root after the pinned one
//! <data>/trust/{timestamp,snapshot,targets,<role>}.json
//! <data>/trust/<sha256>.keyset      the keyset in force
//! <data>/trust/record.{0,1}         floors, and which keyset is in force  (two-copy record)
//! ```
//! Every file is verified again when it is read, so a torn one is a missing one. What must not
//! be forgotten with a file (versions that were seen) is in the record.

use std::io;
use std::path::{Path, PathBuf};

use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::ENVELOPE_BYTES_MAX;
use fleetway_protocol::trust_file::TrustFile;
use fleetway_tuf::client::{ROOTS, Shelf};
use fleetway_tuf::floors::Floors;
use fleetway_tuf::limits::FILE_BYTES_MAX;
use serde::{Deserialize, Serialize};

use super::RecordFile;
use crate::fs::{self, Fs};

/// Longest record, bytes: floors name what a snapshot names, in fewer bytes than it does.
const RECORD_BYTES_MAX: usize = FILE_BYTES_MAX + 1024;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    floors: Floors,
    /// Digest of the keyset file in force, and of what is signed in it.
    keyset: Option<(Digest, Digest)>,
}

/// The files of the release authority.
pub(super) struct TrustFiles {
    dir: PathBuf,
    record: RecordFile<Record>,
}

impl TrustFiles {
    pub(super) fn open(fs: &impl Fs, data: &Path) -> io::Result<Self> {
        let dir = data.join("trust");
        fs.create_dir(&dir)?;
        fs.sync_dir(data)?;
        let record = RecordFile::open(fs, &dir, "record", RECORD_BYTES_MAX)?;
        Ok(Self { dir, record })
    }

    fn record(&self) -> Record {
        self.record.value().cloned().unwrap_or_default()
    }
}

/// The files of the release authority, with the disk that they are on.
pub struct TrustShelf<'a, F> {
    pub(super) fs: &'a F,
    pub(super) files: &'a mut TrustFiles,
}

impl<F: Fs> TrustShelf<'_, F> {
    /// The keyset in force: its exact bytes, not checked, and the digest of what is signed.
    pub fn keyset(&self) -> Option<(Vec<u8>, Digest)> {
        let (file, payload) = self.files.record().keyset?;
        Some((self.read_keyset(&file)?, payload))
    }

    /// Digest of the keyset file in force.
    pub fn keyset_file(&self) -> Option<Digest> {
        self.files.record().keyset.map(|(file, _)| file)
    }

    fn read_keyset(&self, file: &Digest) -> Option<Vec<u8>> {
        let path = self.files.dir.join(TrustFile::Keyset(*file).to_string());
        self.fs.read(&path, ENVELOPE_BYTES_MAX as u64).ok()
    }

    /// Puts a keyset in force: the file first, then the record that names it, then the end of
    /// the old file. A cut leaves one of the two in force.
    ///
    /// # Errors
    /// The disk's; the old one stays in force then.
    pub fn put_keyset(&mut self, bytes: &[u8], payload: Digest) -> io::Result<()> {
        let file = Digest::of(bytes);
        let name = TrustFile::Keyset(file).to_string();
        fs::replace(self.fs, &self.files.dir.join(&name), bytes)?;
        let record = Record { keyset: Some((file, payload)), ..self.files.record() };
        self.files.record.put(self.fs, record)?;
        for old in self.fs.list(&self.files.dir).unwrap_or_default() {
            if old.ends_with(".keyset") && old != name {
                self.fs.remove(&self.files.dir.join(old))?;
            }
        }
        Ok(())
    }
}

impl<F: Fs> Shelf for TrustShelf<'_, F> {
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let names = self.fs.list(&self.files.dir).unwrap_or_default();
        let json = names.into_iter().filter(|name| name.ends_with(".json"));
        let read = json.filter_map(|name| {
            let bytes = self.fs.read(&self.files.dir.join(&name), FILE_BYTES_MAX as u64).ok()?;
            let is_root = matches!(TrustFile::parse(&name), Some(TrustFile::Root(_)));
            Some((if is_root { format!("{ROOTS}{name}") } else { name }, bytes))
        });
        read.collect()
    }

    fn floors(&self) -> Floors {
        self.files.record().floors
    }

    fn put_file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let name = name.strip_prefix(ROOTS).unwrap_or(name);
        if name.contains(['/', '\0']) {
            let text = format!("{name:?} is no file name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        fs::replace(self.fs, &self.files.dir.join(name), bytes)
    }

    fn put_floors(&mut self, floors: &Floors) -> io::Result<()> {
        let record = Record { floors: floors.clone(), ..self.files.record() };
        self.files.record.put(self.fs, record)
    }
}
