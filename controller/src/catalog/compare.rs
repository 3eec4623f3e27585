//! What differs between two releases: what a person looks at before a rollout.
//!
//! Read from the catalog's own files, each checked against its manifest first. The parser is the
//! validator, which both passed when they were imported.

use std::collections::{BTreeMap, BTreeSet};

use fleetway_engine::outline::{Outline, Stored};
use fleetway_engine::validate::{ValidModel, validate};
use fleetway_engine::{GoldenSet, TensorSpec};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::ARTIFACT_BYTES_MAX;
use fleetway_protocol::manifest::{Artifact, AttestationKind, Manifest, Variant, VariantKind};
use serde::Serialize;

use super::files::read;
use super::forms::names;
use super::{BOM, BOM_BYTES_MAX, Catalog, CatalogError, CatalogRelease};
use crate::attest::bom::{self, Told};

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// Its place in the order of releases.
    pub counter: u64,
    /// Digest of the manifest.
    pub digest: String,
    /// Inputs, one text each: `image: f32 [1, 1, 8, 8]`.
    pub inputs: Vec<String>,
    /// Outputs, the same way.
    pub outputs: Vec<String>,
    /// Version of ONNX's default operator set.
    pub opset: i64,
    /// The program that wrote the file, as it says.
    pub producer: String,
    /// How often each operator is used.
    pub operators: BTreeMap<String, usize>,
    /// Bytes of stored tensors by element type.
    pub precision: BTreeMap<String, u64>,
    /// Bytes of the model file.
    pub model_bytes: u64,
    /// Bytes that a device fetches: model, golden vectors, and the lists of their pieces. There are no
    /// deltas: a device always fetches all of it.
    pub download_bytes: u64,
    /// What the source said, from the bill of materials.
    pub annotations: BTreeMap<String, String>,
    /// Digests of documents.
    pub documents: BTreeMap<String, String>,
}

/// How the stored tensors differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tensors {
    /// With equal values on both sides.
    pub same: usize,
    /// Of one name, type and shape, with other values.
    pub changed: Vec<String>,
    /// Only in the second release, or there with another type or shape.
    pub added: Vec<String>,
    /// Only in the first release, or there with another type or shape.
    pub removed: Vec<String>,
    /// Bytes of the tensors that changed.
    pub changed_bytes: u64,
    /// Elements with another value, in the tensors that changed.
    pub changed_elements: u64,
    /// Elements of all tensors of the second release.
    pub elements: u64,
}

/// Two releases beside each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The first.
    pub from: Side,
    /// The second.
    pub to: Side,
    /// Their tensors.
    pub tensors: Tensors,
}

impl Catalog {
    /// Compares two releases of this catalog.
    ///
    /// # Errors
    /// [`CatalogError`]; a file that is not what was imported is named.
    pub fn compare(
        &self,
        from: &CatalogRelease,
        to: &CatalogRelease,
    ) -> Result<Comparison, CatalogError> {
        let [first, second] = [from, to].map(Parts::read);
        let (first, second) = (first?, second?);
        let (a, b) = (first.model.outline(), second.model.outline());
        Ok(Comparison {
            tensors: Tensors::between(&a, &b),
            from: first.side(from, a),
            to: second.side(to, b),
        })
    }
}

/// What is read of a release.
struct Parts {
    model: ValidModel,
    golden: GoldenSet,
    told: Told,
}

impl Parts {
    fn read(release: &CatalogRelease) -> Result<Self, CatalogError> {
        let manifest = &release.manifest;
        // What was compiled follows from it.
        let names = names(VariantKind::Onnx);
        let variant = manifest.variant(VariantKind::Onnx);
        let model = checked(release, names.model, variant.map(|v| v.model.digest))?;
        let golden = checked(release, names.golden, variant.map(|v| v.golden.digest))?;
        let damaged = |name: &str, detail: String| CatalogError::Damaged {
            path: release.dir.join(name),
            detail,
        };
        Ok(Self {
            model: validate(&model).map_err(|e| damaged(names.model, e.to_string()))?,
            golden: GoldenSet::decode(&golden).map_err(|e| damaged(names.golden, e.to_string()))?,
            told: told(release)?,
        })
    }

    fn side(&self, release: &CatalogRelease, outline: Outline<'_>) -> Side {
        let mut precision = BTreeMap::new();
        for tensor in outline.tensors.values() {
            *precision.entry(tensor.dtype.clone()).or_default() += tensor.data.len() as u64;
        }
        let facts = self.told.annotations.iter().cloned();
        let documents = self.told.documents.iter();
        let model = release.manifest.variant(VariantKind::Onnx).map(|variant| variant.model);
        Side {
            counter: release.manifest.counter,
            digest: release.digest.to_string(),
            inputs: self.golden.inputs().iter().map(shown).collect(),
            outputs: self.golden.outputs().iter().map(shown).collect(),
            opset: outline.opset,
            producer: outline.producer,
            operators: outline.operators,
            precision,
            model_bytes: model.map_or(0, |model| model.bytes.into()),
            download_bytes: download_bytes(&release.manifest),
            annotations: facts.map(|fact| (fact.name, fact.value)).collect(),
            documents: documents.map(|(name, digest)| (name.clone(), digest.to_string())).collect(),
        }
    }
}

impl Tensors {
    /// Compares by name: exporters keep the names of weights from one training run to the next.
    pub fn between(from: &Outline<'_>, to: &Outline<'_>) -> Self {
        let mut tensors = Self::default();
        let names: BTreeSet<&str> = from.tensors.keys().chain(to.tensors.keys()).copied().collect();
        for name in names {
            let sides = (from.tensors.get(name), to.tensors.get(name));
            tensors.elements += sides.1.map_or(0, |tensor| tensor.elements() as u64);
            match sides {
                (Some(a), Some(b)) if a == b => tensors.same += 1,
                (Some(a), Some(b)) if a.dtype == b.dtype && a.dims == b.dims => {
                    tensors.changed.push(name.to_owned());
                    tensors.changed_bytes += b.data.len() as u64;
                    tensors.changed_elements += elements_changed(a, b);
                }
                (a, b) => {
                    tensors.removed.extend(a.map(|_| name.to_owned()));
                    tensors.added.extend(b.map(|_| name.to_owned()));
                }
            }
        }
        tensors
    }
}

fn elements_changed(a: &Stored<'_>, b: &Stored<'_>) -> u64 {
    let size = a.element_bytes.max(1);
    let pairs = a.data.chunks(size).zip(b.data.chunks(size));
    pairs.filter(|(a, b)| a != b).count() as u64
}

/// `image: f32 [1, 1, 8, 8]`.
fn shown(spec: &TensorSpec) -> String {
    format!("{}: {} {:?}", spec.name, spec.dtype, spec.shape)
}

/// What one device fetches of a release at most: the largest of its forms.
fn download_bytes(manifest: &Manifest) -> u64 {
    let file = |file: Artifact| u64::from(file.bytes) + u64::from(file.chunk_list_bytes());
    let form = |variant: &Variant| file(variant.model) + file(variant.golden);
    manifest.variants.iter().map(form).max().unwrap_or(0)
}

/// A file of a release that is what its manifest names.
pub(super) fn checked(
    release: &CatalogRelease,
    name: &str,
    digest: Option<Digest>,
) -> Result<Vec<u8>, CatalogError> {
    let path = release.dir.join(name);
    let bytes = read(&path, u64::from(ARTIFACT_BYTES_MAX))?;
    match digest {
        Some(digest) if Digest::of(&bytes) != digest => {
            let detail = "it is not what the manifest names".to_owned();
            Err(CatalogError::Damaged { path, detail })
        }
        _ => Ok(bytes),
    }
}

/// What the bill of materials says of the source; nothing for a release of an early build, without one.
pub(super) fn told(release: &CatalogRelease) -> Result<Told, CatalogError> {
    let listed = release.manifest.attestations.iter();
    let listed = listed.clone().find(|a| a.kind == AttestationKind::BillOfMaterials);
    let Some(listed) = listed else { return Ok(Told::default()) };
    let path = release.dir.join(BOM);
    let bytes = read(&path, BOM_BYTES_MAX)?;
    let damaged = |detail| CatalogError::Damaged { path: path.clone(), detail };
    if Digest::of(&bytes) != listed.digest {
        return Err(damaged("it is not what the manifest names".to_owned()));
    }
    bom::read(&bytes).map_err(damaged)
}
