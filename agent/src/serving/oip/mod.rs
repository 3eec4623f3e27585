//! The Open Inference Protocol's JSON, without sockets: bytes and a model's interface in, tensors
//! or a refusal out, and the way back.
//!
//! A request is read in two passes. [`request`] reads everything but the numbers and checks names,
//! types and shapes against the model; then exactly the numbers that the model takes are read into
//! vectors of its types, wherever they are: `data` in the text, bytes behind it, or `typed` lists
//! of gRPC. So nothing is allocated that the model does not ask for, whatever a shape or a list
//! claims, and `data` may stand before `shape` in the text. [`answer`] is the way back.

pub mod answer;
pub mod config;
mod data;
mod error;
pub mod request;
mod typed;

use fleetway_engine::{DType, TensorSpec};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::slot::Place;
use serde::{Serialize, Serializer};
use std::sync::Arc;

use super::live::Loaded;
use crate::device::place_name;

pub use request::{Asked, Header, RequestError};

/// The protocol's name of an element type.
pub fn datatype(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "FP32",
        DType::F64 => "FP64",
        DType::I8 => "INT8",
        DType::U8 => "UINT8",
        DType::I16 => "INT16",
        DType::U16 => "UINT16",
        DType::I32 => "INT32",
        DType::I64 => "INT64",
        DType::Bool => "BOOL",
    }
}

/// Which signed release gave an answer: in every answer, so that an application can log it.
#[derive(Clone, Debug, Serialize)]
pub struct Origin {
    /// Digest of its manifest; written out once, for it stands in every answer.
    #[serde(serialize_with = "shared_text")]
    pub release: Arc<str>,
    /// Where its bytes are.
    pub slot: &'static str,
}

impl Origin {
    /// That of a release and its place.
    pub fn new(release: &Digest, place: Place) -> Self {
        Self { release: release.to_string().into(), slot: place_name(place) }
    }

    /// That of what is loaded.
    pub fn of(loaded: &Loaded) -> Self {
        loaded.origin().clone()
    }
}

fn shared_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// `GET /v2`.
#[derive(Debug, Serialize)]
pub struct ServerMetadata {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) extensions: [&'static str; 5],
}

impl ServerMetadata {
    /// What this server is.
    pub fn new() -> Self {
        Self {
            name: "fleetway-agent",
            version: env!("CARGO_PKG_VERSION"),
            extensions: [
                "classification",
                "model_repository",
                "model_configuration",
                "statistics",
                "binary_tensor_data",
            ],
        }
    }
}

impl Default for ServerMetadata {
    fn default() -> Self {
        Self::new()
    }
}

/// `GET /v2/models/{m}`.
#[derive(Debug, Serialize)]
pub struct ModelMetadata<'a> {
    pub(super) name: &'a str,
    pub(super) versions: [&'a str; 1],
    pub(super) platform: &'a str,
    pub(super) inputs: Vec<TensorMetadata<'a>>,
    pub(super) outputs: Vec<TensorMetadata<'a>>,
    parameters: Origin,
}

/// One input or output.
#[derive(Debug, Serialize)]
pub struct TensorMetadata<'a> {
    pub(super) name: &'a str,
    pub(super) datatype: &'static str,
    pub(super) shape: Vec<i64>,
}

impl<'a> ModelMetadata<'a> {
    /// What is loaded.
    pub fn of(loaded: &'a Loaded) -> Self {
        let rows_max = loaded.engine.rows_max();
        Self {
            name: loaded.model.as_str(),
            versions: [&loaded.version],
            platform: platform(loaded),
            inputs: tensors(loaded.engine.inputs(), rows_max),
            outputs: tensors(loaded.engine.outputs(), rows_max),
            parameters: Origin::of(loaded),
        }
    }
}

fn platform(loaded: &Loaded) -> &'static str {
    match loaded.engine.kind() {
        "tract" => "tract_onnx",
        kind => kind,
    }
}

fn tensors(specs: &[TensorSpec], rows_max: usize) -> Vec<TensorMetadata<'_>> {
    specs
        .iter()
        .map(|spec| TensorMetadata {
            name: &spec.name,
            datatype: datatype(spec.dtype),
            shape: dims(&spec.shape, rows_max),
        })
        .collect()
}

/// The sizes of the axes; -1 is one of any length.
fn dims(shape: &[usize], rows_max: usize) -> Vec<i64> {
    let dim = |dim: &usize| i64::try_from(*dim).unwrap_or(i64::MAX);
    let mut dims: Vec<i64> = shape.iter().map(dim).collect();
    if let (Some(first), true) = (dims.first_mut(), rows_max > 1) {
        *first = -1;
    }
    dims
}

/// One line of the repository index.
#[derive(Debug, Serialize)]
pub struct IndexEntry {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) state: &'static str,
    pub(super) reason: &'static str,
}

impl IndexEntry {
    /// The state of one model.
    pub fn of(name: &str, loaded: Option<&Loaded>) -> Self {
        let name = name.to_owned();
        match loaded {
            Some(loaded) => {
                Self { name, version: loaded.version.clone(), state: "READY", reason: "" }
            }
            None => Self {
                name,
                version: String::new(),
                state: "UNAVAILABLE",
                reason: "nothing is loaded",
            },
        }
    }

    /// Whether it can be asked.
    pub fn is_ready(&self) -> bool {
        self.state == "READY"
    }
}
