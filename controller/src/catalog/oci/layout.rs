//! An OCI image layout: a directory with `oci-layout`, `index.json` and `blobs/sha256/`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use fleetway_protocol::ids::Digest;

use super::{Artifact, Descriptor, IMAGE_INDEX, Index, MANIFEST_BYTES_MAX, Manifest, OciError};

/// The file that makes a directory a layout.
pub const MARK: &str = "oci-layout";
/// The list of what is in it.
pub const INDEX: &str = "index.json";
/// What [`MARK`] says.
pub const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Annotation with the tag of a manifest in an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Manifests that are listed where one has to be chosen.
const LISTED_MAX: usize = 16;

/// Where the bytes of a digest lie in a layout.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{digest}")
}

/// The index of a layout with one artifact in it.
pub fn index_of(manifest: &[u8], tag: &str) -> Vec<u8> {
    let mut descriptor = Descriptor::of(super::IMAGE_MANIFEST, manifest);
    descriptor.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
    let index = Index {
        schema_version: 2,
        media_type: Some(IMAGE_INDEX.to_owned()),
        manifests: vec![descriptor],
    };
    // Texts and numbers alone.
    serde_json::to_vec(&index).unwrap_or_default()
}

/// The one manifest that an index names.
///
/// # Errors
/// [`OciError::Form`] if there is none, or several.
pub fn the_one(index: &[u8]) -> Result<Descriptor, OciError> {
    let form = |detail: String| OciError::Form { what: INDEX.to_owned(), detail };
    let index: Index = serde_json::from_slice(index).map_err(|error| form(error.to_string()))?;
    let names = |manifest: &Descriptor| {
        let tag = manifest.annotations.get(REF_NAME).unwrap_or(&manifest.digest);
        tag.chars().take(80).collect::<String>()
    };
    match index.manifests.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(form("it lists nothing".to_owned())),
        several => {
            let names: Vec<_> = several.iter().take(LISTED_MAX).map(names).collect();
            let names = names.join(", ");
            Err(form(format!("it lists several, copy one of them alone: {names}")))
        }
    }
}

/// Reads the artifact of a layout; what is left out of it, one sentence each.
///
/// # Errors
/// [`OciError`].
pub fn read(dir: &Path) -> Result<(Artifact, Vec<String>), OciError> {
    let named = the_one(&file(&dir.join(INDEX), MANIFEST_BYTES_MAX)?)?;
    let blob = |descriptor: &Descriptor, max: u64| {
        let path = dir.join(blob_path(&descriptor.sha256()?));
        if !path.exists() {
            return Err(OciError::Missing { what: descriptor.what() });
        }
        let bytes = file(&path, descriptor.size.min(max))?;
        descriptor.check(&bytes)?;
        Ok(bytes)
    };
    let manifest = blob(&named, MANIFEST_BYTES_MAX)?;
    let read = Manifest::read(&manifest)?;
    let (wanted, left_out) = read.wanted()?;
    let mut artifact = Artifact { manifest, blobs: Default::default() };
    for descriptor in wanted {
        // `wanted` bounds each, and all together.
        artifact.blobs.insert(descriptor.sha256()?, blob(descriptor, u64::MAX)?);
    }
    Ok((artifact, left_out))
}

/// At most `max` bytes and one more, which its digest will not forgive.
fn file(path: &Path, max: u64) -> Result<Vec<u8>, OciError> {
    let io = |doing| {
        let path = path.to_owned();
        move |source| OciError::Io { doing, path, source }
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io("open"))?;
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(io("read"))?;
    Ok(bytes)
}
