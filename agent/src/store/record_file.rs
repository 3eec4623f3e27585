//! A durable value as two files, written in turn. The pure part is
//! [`fleetway_protocol::record`]; this is its thin shell over [`Fs`].

use std::io;
use std::path::{Path, PathBuf};

use fleetway_protocol::record;
use serde::{Serialize, de::DeserializeOwned};

use crate::fs::Fs;

/// One durable value.
#[derive(Debug)]
pub struct RecordFile<T> {
    paths: [PathBuf; 2],
    dir: PathBuf,
    bytes_max: usize,
    newest: Option<(u64, T)>,
    /// Where the next copy goes.
    next: usize,
    /// The copies' names are durable, so that a put syncs the file alone.
    named: [bool; 2],
    /// How many of the two copies could not be read although they were there.
    damaged: u8,
}

impl<T: Serialize + DeserializeOwned + Clone> RecordFile<T> {
    /// Reads both copies; the newest valid one counts.
    ///
    /// # Errors
    /// Only if a copy is there and cannot be read at all; a torn copy is no error.
    pub fn open(fs: &impl Fs, dir: &Path, name: &str, bytes_max: usize) -> io::Result<Self> {
        let paths = [0, 1].map(|n| dir.join(format!("{name}.{n}")));
        let mut damaged = 0;
        let mut load = |path: &Path| match fs.read(path, bytes_max as u64) {
            Ok(bytes) => {
                let copy = record::read::<T>(&bytes);
                damaged += u8::from(copy.is_none());
                Ok(copy)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let copies = [load(&paths[0])?, load(&paths[1])?];
        let (newest, next) = record::newest(copies);
        let dir = dir.to_path_buf();
        Ok(Self { paths, dir, bytes_max, newest, next, named: [false; 2], damaged })
    }

    /// The value, `None` if it was never written.
    pub fn value(&self) -> Option<&T> {
        self.newest.as_ref().map(|(_, value)| value)
    }

    /// Copies that were there and could not be read.
    pub fn damaged(&self) -> u8 {
        self.damaged
    }

    /// Writes the older copy anew, and returns when it is durable.
    ///
    /// # Errors
    /// The disk's. The newer copy is untouched, and stays the one that counts.
    pub fn put(&mut self, fs: &impl Fs, value: T) -> io::Result<()> {
        let seq = self.newest.as_ref().map_or(1, |(seq, _)| seq + 1);
        let mut buf = vec![0; self.bytes_max];
        let bytes = record::write(seq, &value, &mut buf)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let path = &self.paths[self.next];
        fs.write_at(path, 0, bytes)?;
        fs.sync(path)?;
        if !self.named[self.next] {
            fs.sync_dir(&self.dir)?;
            self.named[self.next] = true;
        }
        self.newest = Some((seq, value));
        self.next = 1 - self.next;
        Ok(())
    }
}
