//! An artifact in one file: an OCI image layout in a tar, for a stick or a mail. Other tools call this an
//! `oci-archive`.
//!
//! The reader takes plain files of the names that a layout has, each once, and nothing else that a tar
//! can hold; the file cannot name a place to write to.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use fleetway_protocol::ids::Digest;

use super::layout::{self, INDEX, MARK, blob_path};
use super::{Artifact, Descriptor, FETCHED_BYTES_MAX, Manifest, OciError};

/// Bytes of such a file: what is fetched of an artifact, and room for headers.
pub const FILE_BYTES_MAX: u64 = FETCHED_BYTES_MAX + (4 << 20);
/// Entries of the tar: layers, directories, and the three files of a layout.
const ENTRIES_MAX: usize = 2 * super::LAYERS_MAX;
/// Where a tar says that it is one.
const MAGIC: (usize, &[u8]) = (257, b"ustar");

/// Whether a file begins like a tar.
pub fn is_archive(head: &[u8]) -> bool {
    head.get(MAGIC.0..).is_some_and(|rest| rest.starts_with(MAGIC.1))
}

/// Writes an artifact under a tag: the same artifact always gives the same bytes.
///
/// # Errors
/// The writer's.
pub fn write(artifact: &Artifact, tag: &str, out: impl Write) -> std::io::Result<()> {
    let mut tar = tar::Builder::new(out);
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes)
    };
    add(MARK, layout::VERSION.as_bytes())?;
    add(INDEX, &layout::index_of(&artifact.manifest, tag))?;
    add(&blob_path(&artifact.digest()), &artifact.manifest)?;
    for (digest, bytes) in &artifact.blobs {
        add(&blob_path(digest), bytes)?;
    }
    let mut out = tar.into_inner()?;
    out.flush()
}

/// Writes an artifact into a new file, whole or not at all; how many bytes it has.
///
/// # Errors
/// [`OciError::Io`], also for a file that is there.
pub fn save(artifact: &Artifact, tag: &str, path: &Path) -> Result<u64, OciError> {
    let io = |doing| move |source| OciError::Io { doing, path: path.to_owned(), source };
    if path.exists() {
        return Err(io("create")(std::io::ErrorKind::AlreadyExists.into()));
    }
    let partial = path.with_added_extension("partial");
    let mut file = File::create(&partial).map_err(io("create"))?;
    write(artifact, tag, &mut file).and_then(|()| file.sync_all()).map_err(io("write"))?;
    fs::rename(&partial, path).map_err(io("move into place"))?;
    fs::metadata(path).map(|about| about.len()).map_err(io("look at"))
}

/// Reads such a file; what is left out of it, one sentence each.
///
/// # Errors
/// [`OciError`]: what is wrong with it, in a sentence that says which part.
pub fn read(file: impl Read) -> Result<(Artifact, Vec<String>), OciError> {
    let mut parts = entries(file)?;
    let missing = |what: &str| OciError::Missing { what: what.to_owned() };
    parts.remove(MARK).ok_or_else(|| missing(MARK))?;
    let index = parts.remove(INDEX).ok_or_else(|| missing(INDEX))?;
    let named = layout::the_one(&index)?;
    let mut take = |descriptor: &Descriptor| {
        let path = blob_path(&descriptor.sha256()?);
        let bytes = parts.remove(&path).ok_or_else(|| missing(&descriptor.what()))?;
        descriptor.check(&bytes)?;
        Ok::<_, OciError>(bytes)
    };
    let manifest = take(&named)?;
    let read = Manifest::read(&manifest)?;
    let (wanted, left_out) = read.wanted()?;
    let mut blobs = BTreeMap::new();
    for descriptor in wanted {
        // Two layers may have the same bytes.
        if let Entry::Vacant(place) = blobs.entry(descriptor.sha256()?) {
            place.insert(take(descriptor)?);
        }
    }
    Ok((Artifact { manifest, blobs }, left_out))
}

/// Every file of the tar, by its name.
fn entries(file: impl Read) -> Result<BTreeMap<String, Vec<u8>>, OciError> {
    let what = || "the file".to_owned();
    let broken = |error: std::io::Error| OciError::Form {
        what: what(),
        detail: format!("the tar is cut or damaged ({error})"),
    };
    // Raw: no extension of the format is followed, so that no header makes another one longer.
    let mut tar = tar::Archive::new(file.take(FILE_BYTES_MAX));
    let mut parts = BTreeMap::new();
    for (at, entry) in tar.entries().map_err(broken)?.raw(true).enumerate() {
        let mut entry = entry.map_err(broken)?;
        if at >= ENTRIES_MAX {
            let max = ENTRIES_MAX as u64;
            return Err(OciError::TooLarge { what: what(), max, unit: "entries" });
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.header().entry_type() {
            tar::EntryType::Directory => continue,
            tar::EntryType::Regular if is_of_a_layout(&name) => {}
            _ => {
                let named = name.chars().take(200).collect();
                return Err(OciError::Outside { what: what(), named });
            }
        }
        let size = entry.header().size().map_err(broken)?;
        if size > FETCHED_BYTES_MAX {
            return Err(OciError::TooLarge { what: name, max: FETCHED_BYTES_MAX, unit: "bytes" });
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(broken)?;
        if bytes.len() as u64 != size || parts.insert(name, bytes).is_some() {
            let detail = "the tar is cut, or has a file twice".to_owned();
            return Err(OciError::Form { what: what(), detail });
        }
    }
    Ok(parts)
}

/// `oci-layout`, `index.json`, or `blobs/sha256/` and a digest.
fn is_of_a_layout(name: &str) -> bool {
    let digits = name.strip_prefix("blobs/sha256/").map(str::parse::<Digest>);
    name == MARK || name == INDEX || digits.is_some_and(|digest| digest.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_layout_and_no_others() {
        assert!(is_of_a_layout(&blob_path(&Digest([7; 32]))));
        for name in ["../index.json", "/index.json", "blobs/sha256/..", "blobs/sha256/", "index"] {
            assert!(!is_of_a_layout(name), "{name}");
        }
    }
}
