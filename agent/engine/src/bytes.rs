//! A model's bytes, shared and never changed: in memory, or mapped from the file that was verified.
//!
//! A mapped file costs no copy: weights are read where they lie, and pages that nobody reads need
//! no memory. What a mapping must not become is a way around the digest, so it is locked in memory
//! where the system allows that (`RLIMIT_MEMLOCK`): pages that were checked are then not read again
//! from a disk that may have rotted since. Where it does not, the next boot's check finds rot, as
//! for all other files.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use memmap2::Mmap;

/// See the module page. A clone is the same bytes.
#[derive(Clone)]
pub struct ModelBytes(Arc<Held>);

enum Held {
    Memory(Vec<u8>),
    File(Mmap),
}

impl ModelBytes {
    /// Maps a whole file.
    ///
    /// The file must be one that nobody writes to while it is mapped: a slot's file is written
    /// before it is verified, and removed, never rewritten, afterwards.
    ///
    /// # Errors
    /// The system's; an empty file cannot be mapped.
    pub fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the caller's promise above is that of the agent's store, which alone writes below
        // its data directory and holds a lock on it. Were it broken by somebody with its rights, the
        // bytes would change or the process die (SIGBUS) as it could by a debugger in the same hands:
        // engines check every offset as they read.
        #[allow(unsafe_code, reason = "no safe way to map a file; argued above")]
        let mapped = unsafe { Mmap::map(file) }?;
        // A bound on locked memory, or none of it for this user: slower to fail, not wrong.
        let _ = mapped.lock();
        Ok(Self(Arc::new(Held::File(mapped))))
    }
}

impl From<Vec<u8>> for ModelBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Held::Memory(bytes)))
    }
}

impl Deref for ModelBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Held::Memory(bytes) => bytes,
            Held::File(mapped) => mapped,
        }
    }
}

impl fmt::Debug for ModelBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_mapped_file_outlives_its_name() {
        let path = std::env::temp_dir().join(format!("fleetway-map-{}", std::process::id()));
        File::create(&path).unwrap().write_all(b"weights").unwrap();
        let mapped = ModelBytes::map(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*mapped, b"weights");
        assert_eq!(&*mapped.clone(), &*ModelBytes::from(b"weights".to_vec()));
    }
}
