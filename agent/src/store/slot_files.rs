//! The files of one slot: the signed release, the model, its golden vectors, and the chunk
//! lists by which both are checked while they arrive.

use std::io;
use std::path::PathBuf;

use fleetway_engine::ModelBytes;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::{ARTIFACT_BYTES_MAX, CHUNK_BYTES_MAX, ENVELOPE_BYTES_MAX};
use fleetway_protocol::manifest::{Artifact, Manifest, VariantKind};
use fleetway_protocol::transfer::Bitmap;

use crate::fs::{self, Fs};

/// Which artifact of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The golden vectors. Fetched first: they are small, and without them nothing can
    /// be tried.
    Golden,
    /// The model.
    Model,
}

impl Part {
    /// Both, in the order in which they are fetched.
    pub const ALL: [Self; 2] = [Self::Golden, Self::Model];

    /// The artifact that `manifest` names for it.
    pub fn artifact(self, manifest: &Manifest, kind: VariantKind) -> Option<Artifact> {
        let variant = manifest.variant(kind)?;
        Some(match self {
            Self::Golden => variant.golden,
            Self::Model => variant.model,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Golden => "golden",
            Self::Model => "model",
        }
    }
}

/// The files of one place for a model.
#[derive(Debug)]
pub struct SlotFiles<'a, F> {
    fs: &'a F,
    dir: PathBuf,
}

impl<'a, F: Fs> SlotFiles<'a, F> {
    pub(super) fn new(fs: &'a F, dir: PathBuf) -> Self {
        Self { fs, dir }
    }

    fn path(&self, part: Part) -> PathBuf {
        self.dir.join(part.name())
    }

    fn list_path(&self, part: Part) -> PathBuf {
        self.dir.join(format!("{}.chunks", part.name()))
    }

    /// Removes all bytes. Repeatable.
    ///
    /// # Errors
    /// The disk's.
    pub fn erase(&self) -> io::Result<()> {
        self.fs.create_dir(&self.dir)?;
        for name in self.fs.list(&self.dir)? {
            self.fs.remove(&self.dir.join(name))?;
        }
        self.fs.sync_dir(&self.dir)?;
        self.dir.parent().map_or(Ok(()), |model| self.fs.sync_dir(model))
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.fs.list(&self.dir).is_ok_and(|names| names.is_empty())
    }

    /// The signed release, not checked yet.
    pub fn release(&self) -> Option<Vec<u8>> {
        self.fs.read(&self.dir.join("release"), ENVELOPE_BYTES_MAX as u64).ok()
    }

    /// The keyset under which the release was admitted, if it was kept.
    pub fn keyset(&self) -> Option<Vec<u8>> {
        let bytes = self.fs.read(&self.dir.join("keyset"), ENVELOPE_BYTES_MAX as u64).ok()?;
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Makes the signed release durable, after the keyset under which it was admitted.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_release(&self, bytes: &[u8], keyset: &[u8]) -> io::Result<()> {
        self.fs.create_dir(&self.dir)?;
        if keyset.is_empty() {
            self.fs.remove(&self.dir.join("keyset"))?;
        } else {
            fs::replace(self.fs, &self.dir.join("keyset"), keyset)?;
        }
        fs::replace(self.fs, &self.dir.join("release"), bytes)
    }

    /// The chunk list, if it is there and is the signed one.
    pub fn chunk_list(&self, part: Part, artifact: &Artifact) -> Option<Vec<u8>> {
        let bytes = self.fs.read(&self.list_path(part), u64::from(CHUNK_BYTES_MAX)).ok()?;
        (Digest::of(&bytes) == artifact.chunk_list).then_some(bytes)
    }

    /// Keeps a chunk list that was checked. Not durable: it is checked when it is read.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_chunk_list(&self, part: Part, bytes: &[u8]) -> io::Result<()> {
        self.fs.create_dir(&self.dir)?;
        self.fs.write_at(&self.list_path(part), 0, bytes)
    }

    /// Which chunks are there: those whose bytes hash to what the list says.
    pub fn chunks_there(&self, part: Part, artifact: &Artifact, list: &[u8]) -> Bitmap {
        let mut there = Bitmap::default();
        let Ok(bytes) = self.fs.read(&self.path(part), u64::from(ARTIFACT_BYTES_MAX)) else {
            return there;
        };
        let chunks = bytes.chunks(artifact.chunk_bytes as usize);
        for (n, (chunk, expected)) in chunks.zip(list.chunks_exact(32)).enumerate() {
            let n = n as u32;
            let whole = artifact.chunk_len(n) == Some(chunk.len() as u32);
            if whole && Digest::of(chunk).0 == *expected {
                there.set(n);
            }
        }
        there
    }

    /// Writes a chunk that was checked. Not durable yet.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_chunk(
        &self,
        part: Part,
        artifact: &Artifact,
        n: u32,
        bytes: &[u8],
    ) -> io::Result<()> {
        let offset = u64::from(n) * u64::from(artifact.chunk_bytes);
        self.fs.write_at(&self.path(part), offset, bytes)
    }

    /// Makes the artifact's bytes durable.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self, part: Part) -> io::Result<()> {
        self.fs.sync(&self.path(part))?;
        self.fs.sync_dir(&self.dir)?;
        self.dir.parent().map_or(Ok(()), |model| self.fs.sync_dir(model))
    }

    /// The model's bytes, not checked, mapped where the disk can do that.
    ///
    /// # Errors
    /// The disk's.
    pub fn model(&self) -> io::Result<ModelBytes> {
        self.fs.map(&self.path(Part::Model), u64::from(ARTIFACT_BYTES_MAX))
    }

    /// The artifact's bytes, not checked.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(&self, part: Part) -> io::Result<Vec<u8>> {
        self.fs.read(&self.path(part), u64::from(ARTIFACT_BYTES_MAX))
    }
}
