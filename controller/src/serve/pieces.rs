//! Where the bytes of a piece come from: published envelopes, chunk lists, chunks.
//!
//! Every published release can be asked for; which of them the broker holds as well is
//! another matter (`pump`). A chunk list is made, and its blob checked as a whole, when it
//! is first needed, so that starting does not read every model there is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use fleetway_protocol::ids::{Digest, ShortDigest};
use fleetway_protocol::manifest::{Artifact, Manifest};
use fleetway_protocol::topics::Piece;

use super::blobs::{BlobError, BlobStore};

/// A piece, by name.
pub(super) type Name = (ShortDigest, Piece);

#[derive(Debug)]
struct Release {
    envelope: Bytes,
    artifacts: Vec<Artifact>,
}

/// All pieces that can be given out.
#[derive(Debug)]
pub(super) struct Pieces {
    blobs: Arc<BlobStore>,
    releases: BTreeMap<ShortDigest, Release>,
    artifacts: HashMap<ShortDigest, Artifact>,
    lists: HashMap<ShortDigest, Bytes>,
}

/// The artifacts that a manifest names, golden vectors first: they are small.
pub(crate) fn artifacts(manifest: &Manifest) -> Vec<Artifact> {
    let mut all: Vec<Artifact> = Vec::new();
    for variant in &manifest.variants {
        for artifact in [variant.golden, variant.model] {
            if !all.contains(&artifact) {
                all.push(artifact);
            }
        }
    }
    all
}

impl Pieces {
    /// None yet.
    pub(super) fn new(blobs: Arc<BlobStore>) -> Self {
        let (releases, artifacts, lists) = Default::default();
        Self { blobs, releases, artifacts, lists }
    }

    /// Makes a release's pieces available.
    pub(super) fn learn(&mut self, digest: Digest, envelope: Bytes, manifest: &Manifest) {
        let artifacts = artifacts(manifest);
        for artifact in &artifacts {
            self.artifacts.insert(artifact.digest.short(), *artifact);
        }
        self.releases.insert(digest.short(), Release { envelope, artifacts });
    }

    /// All releases.
    pub(super) fn releases(&self) -> impl Iterator<Item = ShortDigest> {
        self.releases.keys().copied()
    }

    /// All pieces of a release, in the order in which a device asks for them.
    pub(super) fn of_release(&self, of: ShortDigest) -> Vec<Name> {
        let Some(release) = self.releases.get(&of) else { return Vec::new() };
        let mut all = vec![(of, Piece::Release)];
        for artifact in &release.artifacts {
            let of = artifact.digest.short();
            all.push((of, Piece::ChunkList));
            all.extend((0..artifact.chunk_count()).map(|n| (of, Piece::Chunk(n))));
        }
        all
    }

    /// The pieces of a release that none of the `others` has: artifacts may be shared.
    pub(super) fn only_of(&self, of: ShortDigest, others: &BTreeSet<ShortDigest>) -> Vec<Name> {
        let shared: BTreeSet<ShortDigest> = others
            .iter()
            .filter(|other| **other != of)
            .filter_map(|other| self.releases.get(other))
            .flat_map(|release| release.artifacts.iter().map(|a| a.digest.short()))
            .collect();
        self.of_release(of).into_iter().filter(|(digest, _)| !shared.contains(digest)).collect()
    }

    /// The bytes of a piece; `None` if there is no such piece.
    pub(super) fn read(&mut self, (of, piece): Name) -> Result<Option<Bytes>, BlobError> {
        if piece == Piece::Release {
            return Ok(self.releases.get(&of).map(|release| release.envelope.clone()));
        }
        let Some(artifact) = self.artifacts.get(&of).copied() else { return Ok(None) };
        let list = match self.lists.get(&of) {
            Some(list) => list.clone(),
            None => {
                let list: Bytes = self.blobs.chunk_list(&artifact)?.into();
                self.lists.insert(of, list.clone());
                list
            }
        };
        match piece {
            Piece::Chunk(index) if index < artifact.chunk_count() => {
                self.blobs.chunk(&artifact, &list, index).map(|chunk| Some(chunk.into()))
            }
            Piece::ChunkList => Ok(Some(list)),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetway_protocol::manifest::{GoldenRule, Variant, VariantKind};

    fn put(blobs: &BlobStore, bytes: &[u8]) -> Artifact {
        let mut writer = blobs.begin(Digest::of(bytes), 1 << 20).unwrap();
        writer.write(bytes).unwrap();
        writer.finish().unwrap();
        let list: Vec<u8> = bytes.chunks(256).flat_map(|c| Digest::of(c).0).collect();
        Artifact {
            digest: Digest::of(bytes),
            bytes: bytes.len() as u32,
            chunk_bytes: 256,
            chunk_list: Digest::of(&list),
        }
    }

    fn manifest(model: Artifact, golden: Artifact) -> Manifest {
        let variant = Variant { kind: VariantKind::Onnx, model, golden };
        Manifest {
            model: "m".parse().unwrap(),
            version: "v".parse().unwrap(),
            counter: 1,
            min_release: 0,
            variants: heapless::Vec::from_slice(&[variant]).unwrap(),
            golden: GoldenRule { abs_err_max: 0.0, same_top1: true },
            golden_mismatch_accepted: None,
            attestations: Default::default(),
            hardware: Default::default(),
            health: Default::default(),
        }
    }

    #[test]
    fn shared_artifacts_stay_for_the_release_that_still_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Arc::new(BlobStore::open(dir.path()).unwrap());
        let (golden, one, two) =
            (put(&blobs, b"golden"), put(&blobs, &[1; 600]), put(&blobs, &[2; 300]));
        let mut pieces = Pieces::new(blobs);
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        pieces.learn(a, Bytes::from_static(b"env-a"), &manifest(one, golden));
        pieces.learn(b, Bytes::from_static(b"env-b"), &manifest(two, golden));

        assert_eq!(pieces.of_release(a.short()).len(), 1 + 2 + 4);
        let only = pieces.only_of(a.short(), &BTreeSet::from([b.short()]));
        assert_eq!(only.len(), 1 + 4, "the golden vectors stay");
        assert_eq!(pieces.only_of(a.short(), &BTreeSet::new()).len(), 7);

        let mut read = |name: Name| pieces.read(name).unwrap().map(|bytes| bytes.len());
        assert_eq!(read((a.short(), Piece::Release)), Some(5));
        assert_eq!(read((one.digest.short(), Piece::ChunkList)), Some(96));
        assert_eq!(read((one.digest.short(), Piece::Chunk(2))), Some(88));
        assert_eq!(read((one.digest.short(), Piece::Chunk(3))), None);
        assert_eq!(read((Digest::of(b"?").short(), Piece::ChunkList)), None);
    }
}
