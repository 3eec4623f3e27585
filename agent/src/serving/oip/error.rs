//! Why a request is refused, in words that its author can mend it by.

use fleetway_engine::TensorSpec;
use fleetway_engine::tensor::TensorError;

use super::datatype;

/// Classes of one output: ImageNet has a thousand. Each is a text of some twenty bytes.
pub(super) const CLASSES_MAX: usize = 16_384;

/// Why a request is refused. All are the caller's to mend, and say what was expected.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not JSON, or JSON of another form.
    #[error(
        "not an inference request: {0}; send {{\"inputs\": [{{\"name\", \"datatype\", \"shape\", \"data\"}}]}}"
    )]
    Json(#[from] serde_json::Error),
    /// A name that no input of the model has.
    #[error("no input {name:?}; the model takes {takes}")]
    UnknownInput {
        /// The name.
        name: String,
        /// Its inputs.
        takes: String,
    },
    /// An input given twice.
    #[error("input {0:?} is given twice; give each once")]
    TwiceTheInput(String),
    /// An input left out.
    #[error("input {missing} is missing; the model takes {takes}")]
    MissingInput {
        /// What is missing.
        missing: String,
        /// Its inputs.
        takes: String,
    },
    /// Another type or shape than the model takes.
    #[error("input {name:?} is {got}; the model takes {takes}")]
    Interface {
        /// The input.
        name: String,
        /// Type and shape given.
        got: String,
        /// Type and shape taken.
        takes: String,
    },
    /// An input without numbers.
    #[error("input {0:?} has no \"data\" and no \"binary_data_size\"; send numbers as one of them")]
    NoData(String),
    /// The same input as numbers and as bytes.
    #[error("input {0:?} has \"data\" and \"binary_data_size\"; send numbers as one of them")]
    TwiceTheData(String),
    /// A region of memory instead of numbers.
    #[error("input {0:?} names a region of shared memory, which there is not; send its numbers")]
    SharedMemory(String),
    /// The length of the JSON part passes the body.
    #[error("Inference-Header-Content-Length is {said}, the body has {have} bytes")]
    HeaderLength {
        /// What the header field says.
        said: String,
        /// Bytes of the body.
        have: usize,
    },
    /// The bytes behind the JSON part are not those that it announces.
    #[error("the inputs announce {announced} bytes of binary data, {have} came behind the header")]
    BinaryLength {
        /// Sum of the sizes, as far as they could be added.
        announced: usize,
        /// Bytes that came.
        have: usize,
    },
    /// Bytes that do not fill the input.
    #[error("input {name:?}: {source}")]
    Binary {
        /// The input.
        name: String,
        /// What is wrong.
        source: TensorError,
    },
    /// More classes than are of use.
    #[error(
        "classification of output {0:?} wants more than {CLASSES_MAX} classes; ask for all of its numbers"
    )]
    Classes(String),
    /// Not a message of the protocol.
    #[error("not a ModelInferRequest: {0}")]
    Message(&'static str),
    /// Typed contents that do not fit.
    #[error("contents of input {name:?}: {detail}")]
    Typed {
        /// The input.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// Numbers that do not fit the input's type or shape.
    #[error("{0}")]
    Data(serde_json::Error),
    /// A name that no output of the model has.
    #[error("no output {name:?}; the model gives {gives}")]
    UnknownOutput {
        /// The name.
        name: String,
        /// Its outputs.
        gives: String,
    },
}

impl RequestError {
    /// Whether a model with other inputs might have taken the request.
    pub fn is_about_inputs(&self) -> bool {
        matches!(
            self,
            Self::UnknownInput { .. } | Self::MissingInput { .. } | Self::Interface { .. }
        )
    }
}

/// What the caller wrote, short enough for an error.
pub(super) fn clip(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

pub(super) fn described(spec: &TensorSpec) -> String {
    format!("{}{:?}", datatype(spec.dtype), spec.shape)
}

pub(super) fn listed(specs: &[TensorSpec]) -> String {
    let one = |spec: &TensorSpec| format!("{:?} {}", spec.name, described(spec));
    specs.iter().map(one).collect::<Vec<_>>().join(", ")
}
