//! Model bytes on the controller's disk: `<data>/blobs/<digest>`.
//!
//! A blob appears under its name only when every byte of it is on disk and hashes to that
//! name: written beside, fsynced, renamed, the directory fsynced. Whoever reads a piece
//! checks it against the chunk list again, so that rot is noticed here and not sent.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fleetway_protocol::ids::{Digest, Hasher};
use fleetway_protocol::manifest::Artifact;

/// Ending of files that are being written.
const PARTIAL: &str = "partial";

/// The directory of blobs.
#[derive(Debug)]
pub(crate) struct BlobStore {
    dir: PathBuf,
    next: AtomicU64,
}

/// Why a blob cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// The disk.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What came is not what was announced.
    #[error("the bytes hash to {got:.12}, announced was {announced:.12}")]
    Digest {
        /// Hash of the bytes.
        got: Digest,
        /// The name they were to have.
        announced: Digest,
    },
    /// What is stored is not what was signed.
    #[error("the stored blob {digest:.12} does not match what was signed: its disk is failing")]
    Rotten {
        /// The blob.
        digest: Digest,
    },
    /// More bytes than an artifact may have.
    #[error("more than {max} bytes")]
    TooLarge {
        /// The bound.
        max: u64,
    },
}

impl BlobStore {
    /// Opens the directory, making it if need be, and removes what was left half-written.
    pub(crate) fn open(data: &Path) -> Result<Self, BlobError> {
        let dir = data.join("blobs");
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| BlobError::Io { doing, path, source }
        };
        fs::create_dir_all(&dir).map_err(io("make", &dir))?;
        for entry in fs::read_dir(&dir).map_err(io("read", &dir))? {
            let path = entry.map_err(io("read", &dir))?.path();
            if path.extension().is_some_and(|ending| ending == PARTIAL) {
                fs::remove_file(&path).map_err(io("remove", &path))?;
            }
        }
        Ok(Self { dir, next: AtomicU64::new(0) })
    }

    /// Where a blob is or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    /// Its length, if it is there.
    pub(crate) fn len(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|meta| meta.len())
    }

    /// Begins to write a blob of at most `max` bytes.
    pub(crate) fn begin(&self, digest: Digest, max: u64) -> Result<BlobWriter, BlobError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let partial = self.dir.join(format!("{digest}.{number}.{PARTIAL}"));
        let file = File::create(&partial).map_err(|source| BlobError::Io {
            doing: "make",
            path: partial.clone(),
            source,
        })?;
        let target = self.path(&digest);
        Ok(BlobWriter { file, partial, target, digest, hasher: Hasher::new(), left: max })
    }

    /// The chunk list of an artifact, made from its stored bytes and checked against what
    /// was signed.
    pub(crate) fn chunk_list(&self, artifact: &Artifact) -> Result<Vec<u8>, BlobError> {
        let rotten = || BlobError::Rotten { digest: artifact.digest };
        let mut list = Vec::with_capacity(artifact.chunk_list_bytes() as usize);
        let mut whole = Hasher::new();
        for index in 0..artifact.chunk_count() {
            let chunk = self.read(artifact, index)?;
            whole.update(&chunk);
            list.extend_from_slice(&Digest::of(&chunk).0);
        }
        let sound = whole.finish() == artifact.digest && Digest::of(&list) == artifact.chunk_list;
        if sound { Ok(list) } else { Err(rotten()) }
    }

    /// Chunk `index`, checked against the chunk list.
    pub(crate) fn chunk(
        &self,
        artifact: &Artifact,
        list: &[u8],
        index: u32,
    ) -> Result<Vec<u8>, BlobError> {
        let chunk = self.read(artifact, index)?;
        let at = index as usize * 32;
        match list.get(at..at + 32) {
            Some(signed) if signed == Digest::of(&chunk).0 => Ok(chunk),
            _ => Err(BlobError::Rotten { digest: artifact.digest }),
        }
    }

    fn read(&self, artifact: &Artifact, index: u32) -> Result<Vec<u8>, BlobError> {
        let path = self.path(&artifact.digest);
        let len = artifact.chunk_len(index).unwrap_or(0);
        let offset = u64::from(artifact.chunk_bytes) * u64::from(index);
        let mut chunk = vec![0; len as usize];
        File::open(&path)
            .and_then(|file| file.read_exact_at(&mut chunk, offset))
            .map_err(|source| BlobError::Io { doing: "read", path, source })?;
        Ok(chunk)
    }
}

/// A blob that is being written. Dropping it leaves nothing.
pub(crate) struct BlobWriter {
    file: File,
    partial: PathBuf,
    target: PathBuf,
    digest: Digest,
    hasher: Hasher,
    left: u64,
}

impl BlobWriter {
    /// Takes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let max = self.left;
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(BlobError::TooLarge { max })?;
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|source| self.io("write", source))
    }

    /// Makes the blob durable under its name, if it is what was announced.
    pub(crate) fn finish(self) -> Result<(), BlobError> {
        let got = self.hasher.clone().finish();
        if got != self.digest {
            return Err(BlobError::Digest { got, announced: self.digest });
        }
        self.file.sync_all().map_err(|source| self.io("sync", source))?;
        fs::rename(&self.partial, &self.target).map_err(|source| self.io("rename", source))?;
        self.target
            .parent()
            .map_or(Ok(()), |dir| File::open(dir).and_then(|dir| dir.sync_all()))
            .map_err(|source| self.io("sync the directory of", source))
    }

    fn io(&self, doing: &'static str, source: io::Error) -> BlobError {
        BlobError::Io { doing, path: self.target.clone(), source }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // After `finish` it is gone already; else the next start would remove it.
        let _ = fs::remove_file(&self.partial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(bytes: &[u8], chunk_bytes: u32) -> Artifact {
        let list: Vec<u8> =
            bytes.chunks(chunk_bytes as usize).flat_map(|c| Digest::of(c).0).collect();
        Artifact {
            digest: Digest::of(bytes),
            bytes: bytes.len() as u32,
            chunk_bytes,
            chunk_list: Digest::of(&list),
        }
    }

    fn stored(bytes: &[u8]) -> (tempfile::TempDir, BlobStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let mut writer = store.begin(Digest::of(bytes), 1 << 20).unwrap();
        bytes.chunks(100).for_each(|part| writer.write(part).unwrap());
        writer.finish().unwrap();
        (dir, store)
    }

    #[test]
    fn pieces_come_back_and_rot_does_not() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        let (_dir, store) = stored(&bytes);
        let artifact = artifact(&bytes, 300);
        let list = store.chunk_list(&artifact).unwrap();
        let all: Vec<u8> = (0..artifact.chunk_count())
            .flat_map(|n| store.chunk(&artifact, &list, n).unwrap())
            .collect();
        assert_eq!(all, bytes);

        let mut rotten = bytes.clone();
        rotten[350] ^= 1;
        fs::write(store.path(&artifact.digest), rotten).unwrap();
        assert!(store.chunk(&artifact, &list, 0).is_ok());
        assert!(matches!(store.chunk(&artifact, &list, 1), Err(BlobError::Rotten { .. })));
        assert!(matches!(store.chunk_list(&artifact), Err(BlobError::Rotten { .. })));
        fs::write(store.path(&artifact.digest), b"short").unwrap();
        assert!(matches!(store.chunk(&artifact, &list, 1), Err(BlobError::Io { .. })));
    }

    #[test]
    fn what_is_not_what_it_says_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let digest = Digest::of(b"announced");
        let mut writer = store.begin(digest, 100).unwrap();
        writer.write(b"something else").unwrap();
        assert!(matches!(writer.finish(), Err(BlobError::Digest { .. })));
        let mut writer = store.begin(digest, 4).unwrap();
        assert!(matches!(writer.write(b"announced"), Err(BlobError::TooLarge { max: 4 })));
        drop(writer);
        assert_eq!(store.len(&digest), None);
        assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
    }

    #[test]
    fn leftovers_go_at_the_next_start() {
        let (dir, store) = stored(b"kept");
        fs::write(dir.path().join("blobs/x.0.partial"), b"half").unwrap();
        drop(store);
        let store = BlobStore::open(dir.path()).unwrap();
        assert_eq!(store.len(&Digest::of(b"kept")), Some(4));
        assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 1);
    }
}
