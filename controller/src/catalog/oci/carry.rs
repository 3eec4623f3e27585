//! A signed release on its way to another place: all of its files and the metadata that lists it, as one
//! artifact. Any ModelPack tool finds the model in it; Fleetway finds the release.
//!
//! Nothing is believed on the way in: every file is what the manifest names, the manifest is what the
//! release authority lists, and the release authority is one that this place trusted before
//! ([`brought`](crate::trust::brought)).

use std::collections::BTreeMap;

use fleetway_engine::validate::validate;
use fleetway_protocol::codec;
use fleetway_protocol::envelope::Envelope;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::{ARTIFACT_BYTES_MAX, ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX};
use fleetway_protocol::manifest::{
    Artifact as Named, AttestationKind, Manifest as Release, VariantKind,
};
use serde_json::json;

use super::{
    Artifact, Descriptor, IMAGE_MANIFEST, MODEL_ARTIFACT, MODEL_CONFIG, Manifest, OciError,
};
use crate::ErrorKind;
use crate::attest::bom;
use crate::attest::bundle::BUNDLE_BYTES_MAX;
use crate::catalog::fit::{Classes, Fit};
use crate::catalog::forms::names;
use crate::catalog::source::{DOCUMENT_BYTES_MAX, is_document_name};
use crate::catalog::{
    BOM, BOM_BYTES_MAX, BUNDLE, Catalog, CatalogError, CatalogRelease, DOCUMENTS, ENVELOPE,
    MANIFEST, compare, import,
};
use crate::trust::brought::Files;

/// Media type of a release's manifest: an artifact that has one is a release.
pub const RELEASE: &str = "application/vnd.fleetway.manifest.v1";
const ENVELOPE_TYPE: &str = "application/vnd.fleetway.envelope.v1";
const GOLDEN_TYPE: &str = "application/vnd.fleetway.golden.v1";
const TRUST_TYPE: &str = "application/vnd.fleetway.trust.v1";
const BOM_TYPE: &str = "application/vnd.cyclonedx+json";
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const WEIGHT_TYPE: &str = "application/vnd.cncf.model.weight.v1.raw";
const DOCUMENT_TYPE: &str = "application/vnd.cncf.model.doc.v1.raw";

/// Media types of a form's model and golden vectors.
struct Types {
    model: &'static str,
    golden: &'static str,
}

fn types(kind: VariantKind) -> Types {
    let (model, golden) = match kind {
        VariantKind::Onnx => (WEIGHT_TYPE, GOLDEN_TYPE),
        VariantKind::Qnn => {
            ("application/vnd.fleetway.qnn.v1", "application/vnd.fleetway.golden-qnn.v1")
        }
        VariantKind::Mixed => ("application/vnd.fleetway.mixed.v1", GOLDEN_TYPE),
    };
    Types { model, golden }
}

/// Why a release was not carried.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The catalog's.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The artifact's.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// A part that is missing, or is not what another part says.
    #[error("not imported: {what} {detail}; export the release again")]
    Part {
        /// Which.
        what: String,
        /// What is wrong.
        detail: String,
    },
}

impl CarryError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::Oci(error) => error.kind(),
            Self::Part { .. } => ErrorKind::Trust,
        }
    }
}

/// A release as it was found in an artifact: whole and consistent, and not believed yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// What the manifest says.
    pub release: Release,
    /// The exact manifest.
    pub manifest: Vec<u8>,
    /// The metadata that came with it.
    pub metadata: Files,
    /// Files of the catalog, by name.
    files: Vec<(String, Vec<u8>)>,
}

impl Carried {
    /// How it fits the classes of microcontrollers here that it may go to: whoever signed it knew others.
    ///
    /// # Errors
    /// [`CatalogError::Unfit`] if it is for one that it does not fit.
    pub fn fits(&self, classes: &Classes) -> Result<Vec<Fit>, CatalogError> {
        let name = names(VariantKind::Qnn).model;
        let file = self.files.iter().find(|(file, _)| file == name);
        let form = file.map(|(_, bytes)| bytes.as_slice()).ok_or("it came without one");
        import::fits(&self.release, classes, form)
    }
}

impl Catalog {
    /// Packs a release with the metadata of the place that published it.
    ///
    /// # Errors
    /// [`CarryError`]; a file that is not what was imported is named.
    pub fn pack(&self, release: &CatalogRelease, metadata: &Files) -> Result<Artifact, CarryError> {
        let mut pack = Pack::default();
        let manifest = &release.manifest;
        let mut precision = "unknown";
        for variant in &manifest.variants {
            let (names, types) = (names(variant.kind), types(variant.kind));
            let model = compare::checked(release, names.model, Some(variant.model.digest))?;
            let golden = compare::checked(release, names.golden, Some(variant.golden.digest))?;
            if variant.kind == VariantKind::Onnx {
                precision = precision_of(&model);
            }
            pack.add(types.model, names.model, model);
            if !pack.has(types.golden) {
                pack.add(types.golden, names.golden, golden);
            }
        }
        pack.add(RELEASE, MANIFEST, compare::checked(release, MANIFEST, Some(release.digest))?);
        if let Some(envelope) = &release.envelope {
            pack.add(ENVELOPE_TYPE, ENVELOPE, envelope.clone());
        }
        for attestation in &manifest.attestations {
            let (kind, name) = match attestation.kind {
                AttestationKind::BillOfMaterials => (BOM_TYPE, BOM),
                AttestationKind::ModelSigning => (BUNDLE_TYPE, BUNDLE),
            };
            pack.add(kind, name, compare::checked(release, name, Some(attestation.digest))?);
        }
        let told = compare::told(release)?;
        for (name, digest) in &told.documents {
            let path = format!("{DOCUMENTS}/{name}");
            pack.add(DOCUMENT_TYPE, name, compare::checked(release, &path, Some(*digest))?);
        }
        for (name, bytes) in metadata {
            pack.add(TRUST_TYPE, name, bytes.clone());
        }
        let licenses = told.annotations.iter().filter(|fact| fact.name.ends_with(":license"));
        let licenses: Vec<&str> = licenses.map(|fact| fact.value.as_str()).collect();
        let config = json!({
            "descriptor": {
                "name": manifest.model.as_str(),
                "version": manifest.version.as_str(),
                "licenses": licenses,
            },
            "config": { "format": "onnx", "precision": precision },
            "modelfs": { "type": "layers", "diffIds": pack.digests() },
        });
        Ok(pack.finish(config.to_string().into_bytes(), manifest))
    }

    /// Puts a release into the catalog, all of it or nothing. Whether it may run was asked before.
    ///
    /// # Errors
    /// [`CatalogError::Exists`], or the disk's.
    pub fn admit(&self, carried: &Carried) -> Result<CatalogRelease, CatalogError> {
        let (model, version) = (&carried.release.model, &carried.release.version);
        let dir = self.release_dir(model, version);
        if dir.exists() {
            let (model, version) = (model.clone(), version.clone());
            return Err(CatalogError::Exists { model, version, dir });
        }
        let files = carried.files.iter();
        let files: Vec<_> = files.map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.put_into_place(model, version, &files)?;
        self.load(model, version)
    }
}

/// Layers, as they are added.
#[derive(Default)]
struct Pack {
    layers: Vec<Descriptor>,
    blobs: BTreeMap<Digest, Vec<u8>>,
}

impl Pack {
    fn has(&self, media_type: &str) -> bool {
        self.layers.iter().any(|layer| layer.media_type == media_type)
    }

    fn add(&mut self, media_type: &str, name: &str, bytes: Vec<u8>) {
        self.layers.push(Descriptor::of(media_type, &bytes).named(name));
        self.blobs.insert(Digest::of(&bytes), bytes);
    }

    fn digests(&self) -> Vec<&str> {
        self.layers.iter().map(|layer| layer.digest.as_str()).collect()
    }

    fn finish(mut self, config: Vec<u8>, release: &Release) -> Artifact {
        let about = [
            ("org.opencontainers.image.title", release.model.to_string()),
            ("org.opencontainers.image.version", release.version.to_string()),
        ];
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(IMAGE_MANIFEST.to_owned()),
            artifact_type: Some(MODEL_ARTIFACT.to_owned()),
            config: Descriptor::of(MODEL_CONFIG, &config),
            layers: self.layers,
            annotations: about.map(|(name, value)| (name.to_owned(), value)).into(),
        };
        self.blobs.insert(Digest::of(&config), config);
        // Texts and numbers alone.
        let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
        Artifact { manifest, blobs: self.blobs }
    }
}

/// The element type of most of the weights, in ModelPack's words.
fn precision_of(model: &[u8]) -> &'static str {
    let Ok(model) = validate(model) else { return "unknown" };
    let mut bytes = BTreeMap::new();
    for tensor in model.outline().tensors.values() {
        *bytes.entry(tensor.dtype.clone()).or_insert(0) += tensor.data.len();
    }
    let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(dtype, _)| dtype);
    match most.as_deref() {
        Some("int8" | "uint8") => "int8",
        Some("float16") => "fp16",
        Some("double") => "fp64",
        Some("int16" | "uint16") => "int16",
        _ => "fp32",
    }
}

impl Carried {
    /// Takes the release out of an artifact, and checks each part against the one that names it.
    ///
    /// # Errors
    /// [`CarryError`] names the part.
    pub fn read(artifact: &Artifact) -> Result<Self, CarryError> {
        let parts = Parts { manifest: artifact.read()?, artifact };
        let manifest = parts.one(RELEASE, MANIFEST, MANIFEST_BYTES_MAX as u64)?.to_vec();
        let wrong = |detail: String| part("its manifest", &detail);
        let release: Release =
            codec::decode(&manifest, MANIFEST_BYTES_MAX).map_err(|e| wrong(e.to_string()))?;
        release.check().map_err(|e| wrong(e.to_string()))?;
        let mut files = vec![(MANIFEST.to_owned(), manifest.clone())];
        for variant in &release.variants {
            let (names, types) = (names(variant.kind), types(variant.kind));
            let bodies = [
                (types.model, names.model, names.model_chunks, variant.model),
                (types.golden, names.golden, names.golden_chunks, variant.golden),
            ];
            for (kind, name, chunks, named) in bodies {
                let bytes = parts.one(kind, name, u64::from(ARTIFACT_BYTES_MAX))?;
                let list = chunk_list(name, bytes, named)?;
                files.extend([(name.to_owned(), bytes.to_vec()), (chunks.to_owned(), list)]);
            }
        }
        parts.envelope(&manifest, &mut files)?;
        parts.papers(&release, &mut files)?;
        let metadata = parts.metadata()?;
        Ok(Self { manifest, metadata, files, release })
    }

    /// Digest of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

/// What is read of an artifact.
struct Parts<'a> {
    manifest: Manifest,
    artifact: &'a Artifact,
}

impl<'a> Parts<'a> {
    fn of(&self, kind: &str) -> impl Iterator<Item = &Descriptor> {
        self.manifest.layers.iter().filter(move |layer| layer.media_type == kind)
    }

    fn bytes(&self, layer: &Descriptor, max: u64) -> Result<&'a [u8], CarryError> {
        if layer.size > max {
            return Err(OciError::TooLarge { what: layer.what(), max, unit: "bytes" }.into());
        }
        Ok(self.artifact.blob(layer)?)
    }

    /// The one layer of a kind.
    fn one(&self, kind: &str, name: &str, max: u64) -> Result<&'a [u8], CarryError> {
        let mut found = self.of(kind);
        match (found.next(), found.next()) {
            (Some(layer), None) => self.bytes(layer, max),
            (None, _) => Err(part(name, "is not in it")),
            (Some(_), Some(_)) => Err(part(name, "is in it twice")),
        }
    }

    /// Signatures for devices that read no metadata, where it has some.
    fn envelope(
        &self,
        manifest: &[u8],
        files: &mut Vec<(String, Vec<u8>)>,
    ) -> Result<(), CarryError> {
        let Some(layer) = self.of(ENVELOPE_TYPE).next() else { return Ok(()) };
        let bytes = self.bytes(layer, ENVELOPE_BYTES_MAX as u64)?;
        let envelope = Envelope::decode(bytes).map_err(|e| part(ENVELOPE, &e.to_string()))?;
        if envelope.payload_unchecked() != manifest {
            return Err(part(ENVELOPE, "signs another manifest"));
        }
        files.push((ENVELOPE.to_owned(), bytes.to_vec()));
        Ok(())
    }

    /// What the manifest names by digest, and the documents that are named by the bill of materials.
    fn papers(
        &self,
        release: &Release,
        files: &mut Vec<(String, Vec<u8>)>,
    ) -> Result<(), CarryError> {
        for attestation in &release.attestations {
            let (kind, name, max) = match attestation.kind {
                AttestationKind::BillOfMaterials => (BOM_TYPE, BOM, BOM_BYTES_MAX),
                AttestationKind::ModelSigning => (BUNDLE_TYPE, BUNDLE, BUNDLE_BYTES_MAX as u64),
            };
            let bytes = self.one(kind, name, max)?;
            if Digest::of(bytes) != attestation.digest {
                return Err(part(name, "is not what the manifest names"));
            }
            files.push((name.to_owned(), bytes.to_vec()));
            if attestation.kind == AttestationKind::BillOfMaterials {
                let told = bom::read(bytes).map_err(|detail| part(name, &detail))?;
                for (name, digest) in told.documents {
                    files.push(self.document(&name, &digest)?);
                }
            }
        }
        Ok(())
    }

    fn document(&self, name: &str, digest: &Digest) -> Result<(String, Vec<u8>), CarryError> {
        let layer = self.of(DOCUMENT_TYPE).find(|layer| layer.name() == Some(name));
        let layer = layer.ok_or_else(|| part(name, "is not in it"))?;
        let bytes = self.bytes(layer, DOCUMENT_BYTES_MAX)?;
        match Digest::of(bytes) == *digest {
            true => Ok((format!("{DOCUMENTS}/{name}"), bytes.to_vec())),
            false => Err(part(name, "is not what the bill of materials names")),
        }
    }

    fn metadata(&self) -> Result<Files, CarryError> {
        let mut files = Files::new();
        for layer in self.of(TRUST_TYPE) {
            let name = layer.name().filter(|name| is_metadata_name(name));
            let name = name.ok_or_else(|| part(&layer.what(), "is no name of metadata"))?;
            let bytes = self.bytes(layer, fleetway_tuf::limits::FILE_BYTES_MAX as u64)?;
            if files.insert(name.to_owned(), bytes.to_vec()).is_some() {
                return Err(part(name, "is in it twice"));
            }
        }
        Ok(files)
    }
}

/// `3.targets.json`, `timestamp.json`, or a digest or a version with `.keyset`.
fn is_metadata_name(name: &str) -> bool {
    let is_keyset = |stem: &str| stem.parse::<Digest>().is_ok() || stem.parse::<u64>().is_ok();
    name.strip_suffix(".keyset").is_some_and(is_keyset)
        || (is_document_name(name) && name.ends_with(".json"))
}

/// The chunk list of bytes that are what a manifest names.
fn chunk_list(name: &str, bytes: &[u8], named: Named) -> Result<Vec<u8>, CarryError> {
    let (artifact, list) = import::artifact_of(bytes, named.chunk_bytes)?;
    match artifact == named {
        true => Ok(list),
        false => Err(part(name, "is not what the manifest names")),
    }
}

fn part(what: &str, detail: &str) -> CarryError {
    CarryError::Part { what: what.to_owned(), detail: detail.to_owned() }
}
