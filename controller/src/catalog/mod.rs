//! The catalog: releases on the operator's disk, imported, checked and signed, offline.
//!
//! `<data>/catalog/<model>/<version>/` holds
//! `model.onnx`, `golden.bin` (a golden set of `fleetway-engine`), the same of compiled forms (`forms`),
//! `model.chunks` and `golden.chunks` (the chunk lists: SHA-256 of each chunk),
//! `manifest.bin` (the exact bytes that are signed), `bom.cdx.json` (a CycloneDX bill of materials),
//! `attestation.sigstore.json` and `documents/` where such were given and, once signed, `release.env`.
//! The daemon reads it to seed the broker and to answer `want`; the release key is needed
//! by [`Catalog::sign`] alone, which can run on another machine over the same directory.

pub mod compare;
mod errors;
mod export;
mod files;
pub mod fit;
mod forms;
#[cfg(test)]
mod forms_tests;
mod health;
mod import;
pub mod oci;
pub mod source;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fleetway_protocol::codec;
use fleetway_protocol::envelope::{Context, Envelope};
use fleetway_protocol::ids::{Counter, Digest, HardwareClass, ModelName, Note, Version};
use fleetway_protocol::limits::{CHUNKS_MAX, ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX};
use fleetway_protocol::manifest::{Artifact, GoldenRule, Manifest, VariantKind};

pub use errors::CatalogError;
pub use health::{HealthRequest, WatchName, WatchNameError};

use crate::attest;
use files::{io, read, replace};
use fit::{Classes, Fit};
use source::{Given, Papers};

use crate::trust::signer::{self, Signer};

/// The catalog in one directory.
#[derive(Clone, Debug)]
pub struct Catalog {
    dir: PathBuf,
}

/// What to import, and on which terms.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// Which model it is a release of.
    pub model: ModelName,
    /// What people shall call it.
    pub version: Version,
    /// The ONNX file.
    pub onnx: Given,
    /// What came with it, for the bill of materials.
    pub papers: Papers,
    /// Golden vectors by onnxruntime: an `.npz` with `in.<name>` and `out.<name>`.
    pub golden_npz: Given,
    /// How near the answers must come.
    pub rule: GoldenRule,
    /// Bytes per chunk, `None` for the default.
    pub chunk_bytes: Option<u32>,
    /// Whether the release comes compiled as well, where that can be.
    pub compile: bool,
    /// Its counter, `None` for the highest known of that model + 1.
    pub counter: Option<Counter>,
    /// The floor it brings, `None` for the previous release's counter.
    pub min_release: Option<Counter>,
    /// The hardware that it is for, at most
    /// [`HARDWARE_MAX`](fleetway_protocol::limits::HARDWARE_MAX) classes; empty is any.
    pub hardware: Vec<HardwareClass>,
    /// The classes of microcontrollers that there are. One of them that is named above must have
    /// room for the release; the others are told of.
    pub classes: Classes,
    /// When it is healthy in use.
    pub health: HealthRequest,
    /// Highest counter known to the fleet (published), if the caller knows it; the catalog
    /// adds what it has itself.
    pub highest_published: Option<Counter>,
    /// Take it although the golden vectors do not match, for this reason; it is put into
    /// the manifest for everybody to see.
    pub accept_golden_mismatch: Option<Note>,
    /// A Model Signing bundle that must vouch for the ONNX file, and the public key it must be
    /// signed with.
    pub attestation: Option<AttestationRequest>,
    /// The executable whose `main` serves the self-test's child (`fleetway` itself).
    pub self_test_exe: PathBuf,
    /// Deadline of the self-test, milliseconds.
    pub self_test_ms_max: u32,
    /// Address space of the self-test, MiB.
    pub self_test_mib_max: u32,
}

/// A bundle and the key to verify it with.
#[derive(Clone, Debug)]
pub struct AttestationRequest {
    /// The bundle's file.
    pub bundle: PathBuf,
    /// The file with the public key, PEM.
    pub key: PathBuf,
}

/// What an import did.
#[derive(Clone, Debug)]
pub struct ImportReport {
    /// The release as it stands in the catalog, not signed yet.
    pub release: CatalogRelease,
    /// The golden check in one sentence, with its figures.
    pub golden: String,
    /// Whether the golden vectors agreed.
    pub golden_passed: bool,
    /// What the bundle was found to say, if there was one.
    pub attestation: Option<attest::Verified>,
    /// Median latency of one answer on this machine, microseconds, if measured.
    pub latency_us: Option<u64>,
    /// How it fits each class of microcontrollers that it may go to.
    pub fits: Vec<Fit>,
    /// What else the importer should know, one sentence each.
    pub notes: Vec<String>,
}

/// One release in the catalog.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogRelease {
    /// Its directory.
    pub dir: PathBuf,
    /// Digest of the exact manifest bytes.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The signed envelope, if it was signed.
    pub envelope: Option<Vec<u8>>,
}

/// An artifact of a release: where its bytes are, and its chunk list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactFile {
    /// What the manifest says of it.
    pub artifact: Artifact,
    /// Its bytes.
    pub path: PathBuf,
    /// SHA-256 of each chunk, 32 bytes each.
    pub chunk_list: Vec<u8>,
}

const MANIFEST: &str = "manifest.bin";
const ENVELOPE: &str = "release.env";
const BOM: &str = "bom.cdx.json";
const BUNDLE: &str = "attestation.sigstore.json";
const DOCUMENTS: &str = "documents";
/// Bytes of a bill of materials: some pages of JSON.
const BOM_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a chunk list at most.
const CHUNK_LIST_BYTES_MAX: u64 = CHUNKS_MAX as u64 * 32;

impl Catalog {
    /// The catalog of a data directory. Nothing is made before the first import.
    pub fn open(data: &Path) -> Self {
        Self { dir: data.join("catalog") }
    }

    fn model_dir(&self, model: &ModelName) -> PathBuf {
        self.dir.join(model.as_str())
    }

    /// Where a release is, or would be.
    pub fn release_dir(&self, model: &ModelName, version: &Version) -> PathBuf {
        // A version may be any visible text without `/`: a leading dot would make it hidden,
        // or `..`.
        match version.as_str().strip_prefix('.') {
            Some(rest) => self.model_dir(model).join(format!("%2e{rest}")),
            None => self.model_dir(model).join(version.as_str()),
        }
    }

    /// One release.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], or what is wrong with it.
    pub fn load(
        &self,
        model: &ModelName,
        version: &Version,
    ) -> Result<CatalogRelease, CatalogError> {
        let dir = self.release_dir(model, version);
        if !dir.join(MANIFEST).exists() {
            let (model, version) = (model.clone(), version.clone());
            return Err(CatalogError::NotFound { model, version });
        }
        let release = read_release(dir)?;
        if release.manifest.model == *model && release.manifest.version == *version {
            return Ok(release);
        }
        let path = release.dir.join(MANIFEST);
        let detail = "its manifest is one of another release".to_owned();
        Err(CatalogError::Damaged { path, detail })
    }

    /// Every release, by model and counter.
    ///
    /// # Errors
    /// [`CatalogError`] for the first one that does not read.
    pub fn list(&self) -> Result<Vec<CatalogRelease>, CatalogError> {
        let mut releases = Vec::new();
        for model in entries(&self.dir)? {
            for dir in entries(&model)? {
                if dir.join(MANIFEST).exists() {
                    releases.push(read_release(dir)?);
                }
            }
        }
        releases.sort_by(|a, b| {
            (&a.manifest.model, a.manifest.counter).cmp(&(&b.manifest.model, b.manifest.counter))
        });
        Ok(releases)
    }

    /// Adds a signature to a release. With a threshold above one, sign once with each key.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn sign(
        &self,
        model: &ModelName,
        version: &Version,
        signer: &dyn Signer,
    ) -> Result<CatalogRelease, CatalogError> {
        let mut release = self.load(model, version)?;
        let manifest = read(&release.dir.join(MANIFEST), MANIFEST_BYTES_MAX as u64)?;
        let old = release.envelope.take();
        let mut envelope = match &old {
            // `load` saw that it decodes and holds this manifest.
            Some(old) => Envelope::decode(old).map_err(|e| self.damaged(&release, &e))?,
            None => Envelope::new(&manifest),
        };
        let made = signer::sign_payload(signer, Context::Manifest, &manifest)?;
        envelope.push(made).map_err(|_| {
            let (model, version) = (model.clone(), version.clone());
            CatalogError::TooManySignatures { model, version }
        })?;
        let mut buf = [0; ENVELOPE_BYTES_MAX];
        let encoded = envelope
            .encode(&mut buf)
            .map_err(|e| CatalogError::Encode { what: "the envelope", max: e.max })?;
        replace(&release.dir.join(ENVELOPE), encoded)?;
        release.envelope = Some(encoded.to_vec());
        Ok(release)
    }

    /// How a release fits the classes of microcontrollers that it may go to, by what is stored of it.
    ///
    /// # Errors
    /// [`CatalogError::Unfit`] if it is for one that it does not fit; that its file does not read.
    pub fn fits(
        &self,
        release: &CatalogRelease,
        classes: &Classes,
    ) -> Result<Vec<Fit>, CatalogError> {
        let manifest = &release.manifest;
        if !classes.keys().any(|class| manifest.is_for(Some(class))) {
            return Ok(Vec::new());
        }
        let kind = VariantKind::Qnn;
        let file = match manifest.variant(kind) {
            Some(variant) => {
                let name = forms::names(kind).model;
                compare::checked(release, name, Some(variant.model.digest)).map(Some)?
            }
            None => None,
        };
        let form = file.as_deref().ok_or("the import said why");
        import::fits(manifest, classes, form)
    }

    fn damaged(&self, release: &CatalogRelease, error: &dyn std::fmt::Display) -> CatalogError {
        CatalogError::Damaged { path: release.dir.join(ENVELOPE), detail: error.to_string() }
    }

    /// The models and the golden vectors of a release, with chunk lists that were checked
    /// against the manifest.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`] if a list is not the one that was signed.
    pub fn artifacts(&self, release: &CatalogRelease) -> Result<Vec<ArtifactFile>, CatalogError> {
        let mut files = Vec::new();
        for variant in &release.manifest.variants {
            let names = forms::names(variant.kind);
            let parts = [
                (variant.model, names.model, names.model_chunks),
                (variant.golden, names.golden, names.golden_chunks),
            ];
            for (artifact, name, chunks) in parts {
                let path = release.dir.join(name);
                // Forms may share their golden vectors.
                if files.iter().any(|file: &ArtifactFile| file.path == path) {
                    continue;
                }
                let list_path = release.dir.join(chunks);
                let chunk_list = read(&list_path, CHUNK_LIST_BYTES_MAX)?;
                if Digest::of(&chunk_list) != artifact.chunk_list {
                    let detail = "it is not the list that the manifest names".to_owned();
                    return Err(CatalogError::Damaged { path: list_path, detail });
                }
                files.push(ArtifactFile { artifact, path, chunk_list });
            }
        }
        Ok(files)
    }

    /// One chunk, checked against the chunk list; `None` past the end.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`] if the bytes on the disk rotted: nothing unsigned is sent.
    pub fn read_chunk(file: &ArtifactFile, index: u32) -> Result<Option<Vec<u8>>, CatalogError> {
        let Some(len) = file.artifact.chunk_len(index) else { return Ok(None) };
        let mut bytes = vec![0; len as usize];
        let source = File::open(&file.path).map_err(io("open", &file.path))?;
        let offset = u64::from(index) * u64::from(file.artifact.chunk_bytes);
        source.read_exact_at(&mut bytes, offset).map_err(io("read", &file.path))?;
        let at = index as usize * 32;
        if file.chunk_list.get(at..at + 32) == Some(&Digest::of(&bytes).0[..]) {
            return Ok(Some(bytes));
        }
        let detail = format!("chunk {index} is not what was imported");
        Err(CatalogError::Damaged { path: file.path.clone(), detail })
    }
}

/// Subdirectories without a leading dot; none if there is no such directory.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, CatalogError> {
    let read = match fs::read_dir(dir) {
        Ok(read) => read,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io("read", dir)(e)),
    };
    let mut paths = Vec::new();
    for entry in read {
        let entry = entry.map_err(io("read", dir))?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.path().is_dir() {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

fn read_release(dir: PathBuf) -> Result<CatalogRelease, CatalogError> {
    let path = dir.join(MANIFEST);
    let bytes = read(&path, MANIFEST_BYTES_MAX as u64)?;
    let damaged = |path: PathBuf, detail: String| CatalogError::Damaged { path, detail };
    let manifest: Manifest = codec::decode(&bytes, MANIFEST_BYTES_MAX)
        .map_err(|e| damaged(path.clone(), e.to_string()))?;
    manifest.check().map_err(|e| damaged(path.clone(), e.to_string()))?;
    let envelope_path = dir.join(ENVELOPE);
    let envelope = match read(&envelope_path, ENVELOPE_BYTES_MAX as u64) {
        Ok(envelope) => Some(envelope),
        Err(CatalogError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            None
        }
        Err(error) => return Err(error),
    };
    if let Some(envelope) = &envelope {
        let decoded = Envelope::decode(envelope)
            .map_err(|e| damaged(envelope_path.clone(), e.to_string()))?;
        if decoded.payload_unchecked() != bytes {
            let detail = "it holds another manifest than manifest.bin".to_owned();
            return Err(damaged(envelope_path, detail));
        }
    }
    Ok(CatalogRelease { dir, digest: Digest::of(&bytes), manifest, envelope })
}
