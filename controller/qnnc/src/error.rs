//! Why a model does not become a qnn file.

/// Says which node, and what about it, so that a person can mend the export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The protobuf does not decode.
    #[error("this is not an ONNX file: {0}")]
    NotOnnx(String),
    /// Something about the file as a whole.
    #[error("the model {0}")]
    Graph(String),
    /// Something about an input, output or constant.
    #[error("`{name}` {reason}")]
    Value {
        /// Its name in the file.
        name: String,
        /// What is wrong with it, or not supported.
        reason: String,
    },
    /// Something about one operator.
    #[error("{op} `{node}`: {reason}")]
    Node {
        /// Name of the node, or of its first output.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong with it, or not supported.
        reason: String,
    },
    /// The loader does not take what was compiled.
    #[error("the compiled file was refused: {0}")]
    Refused(String),
}

/// A reason, before it is known which node it is about.
pub(crate) type Reason = String;
/// What rules about single nodes give.
pub(crate) type Rule<T = ()> = Result<T, Reason>;

/// A reason as an error.
pub(crate) fn no<T>(reason: impl Into<String>) -> Rule<T> {
    Err(reason.into())
}
