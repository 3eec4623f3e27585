//! The bill of materials of a release: CycloneDX 1.6, a machine-learning model as its subject.
//!
//! Made at the import from nothing but the release itself, so that the same release always has the
//! same bytes, and their digest can stand in the manifest. It tells a buyer's tools what is in the
//! box; it protects nothing by itself.

use fleetway_engine::{TensorSpec, tensor::DType};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::manifest::Manifest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bundle::Verified;
use crate::catalog::source::{
    ANNOTATIONS_MAX, Annotation, DOCUMENTS_MAX, Document, Papers, is_document_name,
};

/// The bytes of the bill of materials of a release that `manifest` is about to describe.
pub fn write(
    manifest: &Manifest,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
    bundle: Option<&Verified>,
    papers: &Papers,
) -> Vec<u8> {
    let name = manifest.model.as_str();
    let version = manifest.version.as_str();
    let mut properties = vec![
        property("fleetway:counter", manifest.counter),
        property("fleetway:min-release", manifest.min_release),
        property("fleetway:golden-abs-err-max", manifest.golden.abs_err_max),
    ];
    if let Some(note) = &manifest.golden_mismatch_accepted {
        properties.push(property("fleetway:golden-mismatch-accepted", note));
    }
    properties.extend(papers.annotations.iter().map(|fact| property(&fact.name, &fact.value)));
    let model = manifest.variants.first().map(|variant| variant.model);
    let golden = manifest.variants.first().map(|variant| variant.golden);
    let reference = format!("{name}@{version}");
    let digests = model.into_iter().chain(golden).map(|artifact| artifact.digest);
    let mut subject = json!({
        "type": "machine-learning-model",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "hashes": model.map(|model| vec![hash(&model.digest)]).unwrap_or_default(),
        "modelCard": { "modelParameters": {
            "inputs": inputs.iter().map(shape).collect::<Vec<_>>(),
            "outputs": outputs.iter().map(shape).collect::<Vec<_>>(),
        }},
        "properties": properties,
    });
    let bundle = bundle.map(|bundle| {
        json!({
            "type": "attestation",
            "url": "attestation.sigstore.json",
            "comment": "OpenSSF Model Signing bundle, verified at import",
            "hashes": [hash(&bundle.digest)],
        })
    });
    let references: Vec<_> =
        bundle.into_iter().chain(papers.documents.iter().map(document)).collect();
    if !references.is_empty() {
        subject["externalReferences"] = references.into();
    }
    let vectors = json!({
        "type": "data",
        "bom-ref": format!("{reference}/golden"),
        "name": "golden vectors",
        "hashes": golden.map(|golden| vec![hash(&golden.digest)]).unwrap_or_default(),
        "data": [{ "type": "dataset", "name": "inputs and the answers of a reference runtime" }],
    });
    let bom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial(&reference, digests),
        "version": 1,
        "metadata": {
            "tools": { "components": [{
                "type": "application", "name": "fleetway", "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": subject,
        },
        "components": [vectors],
        "dependencies": [
            { "ref": reference, "dependsOn": [format!("{reference}/golden")] },
        ],
    });
    format!("{bom:#}\n").into_bytes()
}

/// A document of the source: with its digest it is bound to the release, for this file is.
fn document(document: &Document) -> Value {
    let kind = if document.name == "README.md" { "documentation" } else { "configuration" };
    json!({
        "type": kind,
        "url": format!("documents/{}", document.name),
        "comment": "as the source had it",
        "hashes": [hash(&Digest::of(&document.bytes))],
    })
}

/// What a bill of materials says of the release's source: facts, and documents with their digests.
///
/// # Errors
/// What does not read, for whoever finds such a file.
pub fn read(bytes: &[u8]) -> Result<Told, String> {
    let bom: Bom = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let subject = bom.metadata.component;
    let facts = subject.properties.into_iter().filter(|fact| !fact.name.starts_with("fleetway:"));
    let mut told = Told { annotations: facts.collect(), documents: Vec::new() };
    for reference in subject.external_references {
        let Some(name) = reference.url.strip_prefix("documents/") else { continue };
        let digest = reference.hashes.iter().find(|hash| hash.alg == "SHA-256");
        let digest = digest.and_then(|hash| hash.content.parse().ok());
        match digest.filter(|_| is_document_name(name)) {
            Some(digest) => told.documents.push((name.to_owned(), digest)),
            None => return Err(format!("the document {name:?} has no name or digest that can be")),
        }
    }
    match told.annotations.len() <= ANNOTATIONS_MAX && told.documents.len() <= DOCUMENTS_MAX {
        true => Ok(told),
        false => Err("it tells of more documents or facts than an import keeps".to_owned()),
    }
}

/// What [`read`] gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Facts about the source.
    pub annotations: Vec<Annotation>,
    /// Documents in `documents/`, by name.
    pub documents: Vec<(String, Digest)>,
}

#[derive(Deserialize)]
struct Bom {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    component: Subject,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    #[serde(default)]
    properties: Vec<Annotation>,
    #[serde(default)]
    external_references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    url: String,
    #[serde(default)]
    hashes: Vec<Hash>,
}

#[derive(Deserialize)]
struct Hash {
    alg: String,
    content: String,
}

fn property(name: &str, value: impl std::fmt::Display) -> Value {
    json!({ "name": name, "value": value.to_string() })
}

fn hash(digest: &Digest) -> Value {
    json!({ "alg": "SHA-256", "content": digest.to_string() })
}

fn shape(spec: &TensorSpec) -> Value {
    let kind = match spec.dtype {
        DType::F32 => "float32".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    json!({ "format": format!("{}: {kind} {:?}", spec.name, spec.shape) })
}

/// A UUID that follows from what the document is about (the form of version 8: free content).
fn serial(reference: &str, digests: impl Iterator<Item = Digest>) -> String {
    let mut about = reference.as_bytes().to_vec();
    digests.for_each(|digest| about.extend_from_slice(&digest.0));
    let Digest(bytes) = Digest::of(&about);
    let mut id = u128::from_be_bytes(bytes[..16].try_into().unwrap_or_default());
    id = id & !(0xf << 76) | 8 << 76;
    id = id & !(0x3 << 62) | 2 << 62;
    let hex = format!("{id:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("urn:uuid:{}", parts.join("-"))
}
