//! The numbered reasons for refusing a model. Each message names the thing and says what to do.

use crate::limits;

/// Why the validator refused a model. [`Refused::number`] is stable: it may travel in reports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are the words of the messages")]
pub enum Refused {
    /// 1
    #[error("the file has {bytes} bytes, at most {max} are allowed: quantize or prune the model", max = limits::MODEL_BYTES_MAX)]
    FileTooLarge { bytes: usize },
    /// 2
    #[error(
        "this is no ONNX file ({detail}): check that it was downloaded and exported completely"
    )]
    NotOnnx { detail: String },
    /// 3
    #[error("the file holds no graph: export the model again")]
    NoGraph,
    /// 4
    #[error(
        "operator set {version} is not supported: export with opset {min} to {max}",
        min = limits::OPSET_MIN,
        max = limits::OPSET_MAX
    )]
    Opset { version: i64 },
    /// 5
    #[error("{have} {what}, at most {max} are allowed: simplify the model")]
    TooMany { what: &'static str, have: usize, max: usize },
    /// 6
    #[error("the file uses {feature}, which is not supported: {mend}")]
    Feature { feature: String, mend: &'static str },
    /// 7
    #[error(
        "tensor `{tensor}` keeps its data outside the file: save the model with all data inside"
    )]
    ExternalData { tensor: String },
    /// 8
    #[error(
        "tensor `{tensor}` has the element type {dtype}, which is not supported: export with f32 or int8"
    )]
    TensorType { tensor: String, dtype: String },
    /// 9
    #[error("tensor `{tensor}` has the shape {dims:?}: {detail}")]
    TensorShape { tensor: String, dims: Vec<i64>, detail: String },
    /// 10
    #[error(
        "tensor `{tensor}` should have {want} {unit} of data and has {have}: the file is damaged, export it again"
    )]
    TensorData { tensor: String, unit: &'static str, want: usize, have: usize },
    /// 11
    #[error("the name `{start}…` has {bytes} bytes, at most {max} are allowed: rename it", max = limits::NAME_BYTES_MAX)]
    LongName { start: String, bytes: usize },
    /// 12
    #[error("`{name}` is defined twice: every tensor, input and output needs a name of its own")]
    DuplicateName { name: String },
    /// 13
    #[error(
        "{node} reads `{name}`, which nothing before it makes (a cycle, a wrong order or a missing tensor): sort the graph or export it again"
    )]
    UnknownName { node: String, name: String },
    /// 14
    #[error("the graph output `{name}` is made by no node: remove it or export the model again")]
    MissingOutput { name: String },
    /// 15
    #[error(
        "graph input `{name}` {detail}: export with fixed input sizes (only the first axis, the batch, may stay open)"
    )]
    GraphInput { name: String, detail: String },
    /// 16
    #[error(
        "{node}: the operator `{op}` of domain `{domain}` is not known to the engine: export with standard ONNX operators"
    )]
    UnknownOperator { node: String, op: String, domain: String },
    /// 17
    #[error("{node}: {why}")]
    RefusedOperator { node: String, why: &'static str },
    /// 18
    #[error("{node}: attribute `{attribute}` {detail}")]
    Attribute { node: String, attribute: String, detail: String },
    /// 19
    #[error(
        "{node}: its {what} must be a constant in the file: fold constants (onnxsim, or onnxruntime's basic optimization) and export again"
    )]
    NotConstant { node: String, what: &'static str },
    /// 20
    #[error("{node}: {detail}: quantize the model again")]
    Quantization { node: String, detail: String },
    /// 21
    #[error("{node}: axis {axis} is outside its input's {rank} axes: correct the axis")]
    Axis { node: String, axis: i64, rank: usize },
    /// 22
    #[error("{node}: {detail}")]
    Size { node: String, detail: String },
    /// 23
    #[error("{node}: has {have} inputs, {op} needs {want}")]
    Arity { node: String, op: String, have: usize, want: &'static str },
    /// 24
    #[error("{node}: divides integers by a constant zero: correct the divisor")]
    DivisionByZero { node: String },
}

impl Refused {
    /// The number of the reason; never reused.
    pub fn number(&self) -> u16 {
        match self {
            Self::FileTooLarge { .. } => 1,
            Self::NotOnnx { .. } => 2,
            Self::NoGraph => 3,
            Self::Opset { .. } => 4,
            Self::TooMany { .. } => 5,
            Self::Feature { .. } => 6,
            Self::ExternalData { .. } => 7,
            Self::TensorType { .. } => 8,
            Self::TensorShape { .. } => 9,
            Self::TensorData { .. } => 10,
            Self::LongName { .. } => 11,
            Self::DuplicateName { .. } => 12,
            Self::UnknownName { .. } => 13,
            Self::MissingOutput { .. } => 14,
            Self::GraphInput { .. } => 15,
            Self::UnknownOperator { .. } => 16,
            Self::RefusedOperator { .. } => 17,
            Self::Attribute { .. } => 18,
            Self::NotConstant { .. } => 19,
            Self::Quantization { .. } => 20,
            Self::Axis { .. } => 21,
            Self::Size { .. } => 22,
            Self::Arity { .. } => 23,
            Self::DivisionByZero { .. } => 24,
        }
    }
}
