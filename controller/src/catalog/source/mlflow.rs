//! An MLflow model: a directory with `MLmodel`, the YAML that says which file is the model and which
//! run made it. Taken is the `onnx` flavor; nothing of it is run.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{
    Candidate, DOCUMENT_BYTES_MAX, Given, Papers, SourceError, golden, inside, model, yaml,
};

/// The file that makes a directory an MLflow model.
pub const FILE: &str = "MLmodel";
/// Documents beside it that are kept.
const DOCUMENTS: [&str; 3] = ["MLmodel", "README.md", "LICENSE"];

/// What is read of an `MLmodel`. MLflow adds keys with most releases: what is not named here is let be.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct MlModel {
    flavors: Flavors,
    signature: Option<Signature>,
    run_id: Option<String>,
    model_uuid: Option<String>,
    model_id: Option<String>,
    mlflow_version: Option<String>,
    utc_time_created: Option<String>,
    artifact_path: Option<String>,
    metadata: Option<BTreeMap<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Flavors {
    onnx: Option<Onnx>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Onnx {
    data: Option<String>,
    onnx_version: Option<String>,
}

/// JSON in strings, as MLflow writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Signature {
    inputs: Option<String>,
    outputs: Option<String>,
}

/// Opens an MLflow model.
///
/// # Errors
/// [`SourceError`].
pub fn open(dir: &Path, chosen: Option<&str>) -> Result<Candidate, SourceError> {
    let path = dir.join(FILE);
    let text = Given::read(&path, DOCUMENT_BYTES_MAX)?;
    let read = read(&text.bytes).map_err(|detail| {
        let detail = format!("it is no MLmodel that can be read: {detail}");
        SourceError::Unreadable { path: path.clone(), detail }
    })?;
    let data = match (read.data(), chosen) {
        (Ok(data), None) => data,
        (Ok(data), Some(chosen)) if chosen == data => data,
        (Ok(data), Some(chosen)) => {
            let (path, found) = (dir.to_owned(), vec![data.to_owned()]);
            return Err(SourceError::NotThere { path, chosen: chosen.to_owned(), found });
        }
        (Err(detail), _) => return Err(SourceError::Unreadable { path, detail }),
    };
    let mut notes = Vec::new();
    let onnx = model(&inside(dir, &path, data)?, &mut notes)?;
    let mut papers = Papers { annotations: Vec::new(), documents: Vec::new() };
    read.annotate(&mut papers);
    for name in DOCUMENTS {
        papers.keep(dir, name, &mut notes);
    }
    let golden = golden(&onnx.path)?;
    Ok(Candidate { kind: "an MLflow model", onnx, golden, papers, notes })
}

/// Reads an `MLmodel`.
///
/// # Errors
/// The parser's sentence.
pub fn read(bytes: &[u8]) -> Result<MlModel, String> {
    yaml(bytes)
}

impl MlModel {
    /// The path of the ONNX file, as the `onnx` flavor names it.
    ///
    /// # Errors
    /// What there is instead.
    pub fn data(&self) -> Result<&str, String> {
        let Some(onnx) = &self.flavors.onnx else {
            let others: Vec<&str> = self.flavors.others.keys().map(String::as_str).collect();
            return Err(format!(
                "it has no onnx flavor, only {}; log the model with mlflow.onnx",
                if others.is_empty() { "none".to_owned() } else { others.join(", ") }
            ));
        };
        onnx.data.as_deref().ok_or_else(|| "its onnx flavor names no `data` file".to_owned())
    }

    /// Adds what it says of the model's origin.
    pub fn annotate(&self, papers: &mut Papers) {
        let onnx = self.flavors.onnx.as_ref();
        let signature = self.signature.as_ref();
        let facts = [
            ("run_id", &self.run_id),
            ("model_uuid", &self.model_uuid),
            ("model_id", &self.model_id),
            ("version", &self.mlflow_version),
            ("created", &self.utc_time_created),
            ("artifact_path", &self.artifact_path),
            ("onnx_version", &onnx.and_then(|onnx| onnx.onnx_version.clone())),
            ("signature_inputs", &signature.and_then(|s| s.inputs.clone())),
            ("signature_outputs", &signature.and_then(|s| s.outputs.clone())),
        ];
        for (name, value) in facts {
            papers.note(&format!("mlflow:{name}"), value.as_deref().unwrap_or_default());
        }
        for (name, value) in self.metadata.iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            papers.note(&format!("mlflow:metadata:{name}"), &text);
        }
    }
}
