//! Export: a release with its papers in a directory, for whoever is not on this fleet: a buyer, an
//! auditor, another fleet.

use std::fs;
use std::path::{Path, PathBuf};

use fleetway_protocol::ids::{Digest, ModelName, Version};
use fleetway_protocol::limits::{ARTIFACT_BYTES_MAX, ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX};
use fleetway_protocol::manifest::AttestationKind;

use super::files::{create_dir, io, read, sync_dir, write};
use super::forms::names;
use super::{BOM, BOM_BYTES_MAX, BUNDLE, Catalog, CatalogError, ENVELOPE, MANIFEST};
use crate::attest::bundle::BUNDLE_BYTES_MAX;

impl Catalog {
    /// Writes a release into `dir`, which must be new or empty: model, golden vectors, manifest,
    /// signatures where there are some, bill of materials, and the bundle it was imported with.
    /// Every file is checked against the manifest on its way. Gives their paths.
    ///
    /// # Errors
    /// [`CatalogError`]; a file that is not what was imported is named.
    pub fn export(
        &self,
        model: &ModelName,
        version: &Version,
        dir: &Path,
    ) -> Result<Vec<PathBuf>, CatalogError> {
        let release = self.load(model, version)?;
        if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(CatalogError::NotEmpty { dir: dir.to_owned() });
        }
        let manifest = &release.manifest;
        let named = |kind| manifest.attestations.iter().find(|a| a.kind == kind).map(|a| a.digest);
        let mut parts = vec![(MANIFEST, MANIFEST_BYTES_MAX as u64, Some(release.digest))];
        for variant in &manifest.variants {
            let max = u64::from(ARTIFACT_BYTES_MAX);
            let names = names(variant.kind);
            for (name, artifact) in [(names.model, variant.model), (names.golden, variant.golden)] {
                // Forms may share their golden vectors.
                if !parts.iter().any(|(other, ..)| *other == name) {
                    parts.push((name, max, Some(artifact.digest)));
                }
            }
        }
        let papers = [
            (BOM, BOM_BYTES_MAX, AttestationKind::BillOfMaterials),
            (BUNDLE, BUNDLE_BYTES_MAX as u64, AttestationKind::ModelSigning),
        ];
        let papers = papers.into_iter().filter_map(|(name, max, kind)| {
            let digest = named(kind)?;
            Some((name, max, Some(digest)))
        });
        parts.extend(papers);
        if release.envelope.is_some() {
            // `load` saw that it holds this manifest.
            parts.push((ENVELOPE, ENVELOPE_BYTES_MAX as u64, None));
        }
        create_dir(dir)?;
        let mut written = Vec::new();
        for (name, max, digest) in parts {
            let path = release.dir.join(name);
            let bytes = read(&path, max)?;
            if digest.is_some_and(|digest| Digest::of(&bytes) != digest) {
                let detail = "it is not what the manifest names".to_owned();
                return Err(CatalogError::Damaged { path, detail });
            }
            let to = dir.join(name);
            if to.exists() {
                return Err(io("create", &to)(std::io::ErrorKind::AlreadyExists.into()));
            }
            write(&to, &bytes)?;
            written.push(to);
        }
        sync_dir(dir)?;
        Ok(written)
    }
}
