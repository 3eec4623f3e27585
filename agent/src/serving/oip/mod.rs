//! The Open Inference Protocol's JSON, without sockets: bytes and a model's interface in, tensors
//! or a refusal out, and the way back.
//!
//! A request is read in two passes. [`request`] reads everything but the numbers and checks names,
//! types and shapes against the model; [`data`] then reads exactly the numbers that the model
//! takes, into vectors of its types. So nothing is allocated that the model does not ask for,
//! whatever a shape or a list claims, and `data` may stand before `shape` in the text.

pub mod data;
pub mod request;

use fleetway_engine::tensor::TensorData;
use fleetway_engine::{DType, Tensor, TensorSpec};
use serde::{Serialize, Serializer};

use super::live::Loaded;
use crate::device::place_name;

pub use request::{Header, RequestError};

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
#[derive(Debug, Serialize)]
struct Origin {
    release: String,
    slot: &'static str,
}

impl Origin {
    fn of(loaded: &Loaded) -> Self {
        Self { release: loaded.release.to_string(), slot: place_name(loaded.place) }
    }
}

/// `GET /v2`.
#[derive(Debug, Serialize)]
pub struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 1],
}

impl ServerMetadata {
    /// What this server is.
    pub fn new() -> Self {
        Self {
            name: "fleetway-agent",
            version: env!("CARGO_PKG_VERSION"),
            extensions: ["model_repository"],
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
    name: &'a str,
    versions: [&'a str; 1],
    platform: &'a str,
    inputs: Vec<TensorMetadata<'a>>,
    outputs: Vec<TensorMetadata<'a>>,
    parameters: Origin,
}

#[derive(Debug, Serialize)]
struct TensorMetadata<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
}

impl<'a> ModelMetadata<'a> {
    /// What is loaded.
    pub fn of(loaded: &'a Loaded) -> Self {
        let platform = match loaded.engine.kind() {
            "tract" => "tract_onnx",
            kind => kind,
        };
        Self {
            name: loaded.model.as_str(),
            versions: [&loaded.version],
            platform,
            inputs: tensors(loaded.engine.inputs()),
            outputs: tensors(loaded.engine.outputs()),
            parameters: Origin::of(loaded),
        }
    }
}

fn tensors(specs: &[TensorSpec]) -> Vec<TensorMetadata<'_>> {
    specs
        .iter()
        .map(|spec| TensorMetadata {
            name: &spec.name,
            datatype: datatype(spec.dtype),
            shape: &spec.shape,
        })
        .collect()
}

/// One line of the repository index.
#[derive(Debug, Serialize)]
pub struct IndexEntry {
    name: String,
    version: String,
    state: &'static str,
    reason: &'static str,
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

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    parameters: Origin,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    data: Elements<'a>,
}

struct Elements<'a>(&'a TensorData);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            TensorData::F32(v) => v.serialize(serializer),
            TensorData::F64(v) => v.serialize(serializer),
            TensorData::I8(v) => v.serialize(serializer),
            TensorData::U8(v) => v.serialize(serializer),
            TensorData::I16(v) => v.serialize(serializer),
            TensorData::U16(v) => v.serialize(serializer),
            TensorData::I32(v) => v.serialize(serializer),
            TensorData::I64(v) => v.serialize(serializer),
            TensorData::Bool(v) => v.serialize(serializer),
        }
    }
}

/// The answer to a request: the outputs at `selected` positions, in that order.
///
/// # Errors
/// None that a tensor with finite numbers can cause.
pub fn answer(
    loaded: &Loaded,
    id: Option<&str>,
    selected: &[usize],
    tensors: &[Tensor],
) -> Result<Vec<u8>, serde_json::Error> {
    let output = |&at: &usize| {
        let (spec, tensor) = (loaded.engine.outputs().get(at)?, tensors.get(at)?);
        Some(Output {
            name: &spec.name,
            datatype: datatype(tensor.dtype()),
            shape: tensor.shape(),
            data: Elements(tensor.data()),
        })
    };
    serde_json::to_vec(&Answer {
        model_name: loaded.model.as_str(),
        model_version: &loaded.version,
        id,
        parameters: Origin::of(loaded),
        outputs: selected.iter().filter_map(output).collect(),
    })
}
