//! What Kotlin, Swift and Python see, by UniFFI: its macros make the exported functions, and
//! `cargo xtask bindings` the other side of them.
//!
//! No UDL file: the types here are the interface. `Agent::stop` is what elsewhere is `close`, because
//! every class that UniFFI makes for Kotlin has a `close` of its own, which frees.
#![allow(unsafe_code, reason = "in code that UniFFI's macros make, none of it written here")]

use std::path::Path;
use std::sync::Arc;

use fleetway_agent::embed::{
    self, Child, CloseError, DType, InferError, NamedTensor, OpenError, Options, SubscribeError,
};
use fleetway_agent::status::Running;

use crate::code::chain;

/// Type of the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum DataType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 8-bit signed.
    I8,
    /// 8-bit unsigned.
    U8,
    /// 16-bit signed.
    I16,
    /// 16-bit unsigned.
    U16,
    /// 32-bit signed.
    I32,
    /// 64-bit signed.
    I64,
    /// One byte, 0 or 1.
    Bool,
}

/// A tensor with its name.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct Tensor {
    /// Name of the input or output.
    pub name: String,
    /// Type of its elements.
    pub datatype: DataType,
    /// Elements on each axis.
    pub shape: Vec<u64>,
    /// The elements, little-endian, in row-major order.
    pub data: Vec<u8>,
}

/// What a model says, and which signed release said it.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct Answer {
    /// The model that was asked.
    pub model: String,
    /// Who answered.
    pub release: Release,
    /// The outputs in the model's order.
    pub outputs: Vec<Tensor>,
}

/// A release that answers.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Release {
    /// Digest of its manifest, hexadecimal.
    pub digest: String,
    /// What people call it.
    pub version: String,
    /// Where its bytes are: `a`, `b` or `factory`.
    pub slot: String,
}

/// Another release answers for a model, or none.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ModelChange {
    /// Which model.
    pub model: String,
    /// What answers now.
    pub running: Option<Release>,
}

/// Why something was not done; the text says it in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, uniffi::Error)]
#[uniffi(flat_error)]
pub enum FleetwayError {
    /// The configuration, or the program for self-tests, is missing or wrong.
    #[error("{0}")]
    Config(String),
    /// Somebody has this device open: this program, or another.
    #[error("{0}")]
    InUse(String),
    /// The agent cannot be opened, for another reason.
    #[error("{0}")]
    Open(String),
    /// The device knows no such model.
    #[error("{0}")]
    UnknownModel(String),
    /// Nothing of the model is loaded yet.
    #[error("{0}")]
    NotReady(String),
    /// The inputs do not fit the model.
    #[error("{0}")]
    Input(String),
    /// Too much at once; ask again later.
    #[error("{0}")]
    Busy(String),
    /// The run did not end within its deadline.
    #[error("{0}")]
    Timeout(String),
    /// The release failed on these inputs.
    #[error("{0}")]
    Failed(String),
    /// The agent has ended.
    #[error("{0}")]
    Closed(String),
    /// There are as many subscriptions as there can be.
    #[error("{0}")]
    TooMany(String),
    /// A bug of fleetway's, which was caught.
    #[error("{0}")]
    Bug(String),
}

impl From<OpenError> for FleetwayError {
    fn from(error: OpenError) -> Self {
        let text = chain(&error);
        match error {
            OpenError::Config(_) | OpenError::Child(_) => Self::Config(text),
            OpenError::OpenHere(_) | OpenError::OpenElsewhere(_) => Self::InUse(text),
            OpenError::Panicked(_) => Self::Bug(text),
            OpenError::Run(_) | OpenError::Threads(_) | OpenError::PanicEnds => Self::Open(text),
        }
    }
}

impl From<InferError> for FleetwayError {
    fn from(error: InferError) -> Self {
        let text = chain(&error);
        match error {
            InferError::UnknownModel { .. } => Self::UnknownModel(text),
            InferError::NotReady(_) => Self::NotReady(text),
            InferError::Input(_) => Self::Input(text),
            InferError::Busy(_) => Self::Busy(text),
            InferError::Timeout(_) => Self::Timeout(text),
            InferError::Failed(_) => Self::Failed(text),
            InferError::Closed(_) => Self::Closed(text),
        }
    }
}

impl From<SubscribeError> for FleetwayError {
    fn from(error: SubscribeError) -> Self {
        let text = chain(&error);
        match error {
            SubscribeError::TooMany => Self::TooMany(text),
            SubscribeError::Closed => Self::Closed(text),
            SubscribeError::Thread(_) => Self::Open(text),
        }
    }
}

impl From<CloseError> for FleetwayError {
    fn from(error: CloseError) -> Self {
        Self::Bug(chain(&error))
    }
}

/// Is told that another release answers for a model. Called on a thread of the library's; what it throws
/// is logged and forgotten.
#[uniffi::export(foreign)]
pub trait ModelListener: Send + Sync {
    /// Another release answers for a model, or none.
    fn on_model_changed(&self, change: ModelChange);
}

/// Somebody is told, until this is cancelled or freed, or the agent stops.
#[derive(Debug, uniffi::Object)]
pub struct Subscription(embed::Subscription);

#[uniffi::export]
impl Subscription {
    /// Ends it. No call is under way any more when this returns, unless one of its own does it.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

/// An agent in this process. May be used from any number of threads; freed, it stops.
#[derive(Debug, uniffi::Object)]
pub struct Agent(embed::Agent);

#[uniffi::export]
impl Agent {
    /// Opens the device whose configuration is the file `at`, or `agent.toml` in the directory `at`.
    ///
    /// `child` is the program in which new models are tried, such as `fleetway-agent` of the same version;
    /// without one it is looked for beside this program and where packages put it, and where there is
    /// none nothing new is installed. `sockets` opens those of the configuration, for other applications.
    ///
    /// # Errors
    /// [`FleetwayError`] says what to mend.
    #[uniffi::constructor(default(child = None, sockets = false))]
    pub fn open(
        at: String,
        child: Option<String>,
        sockets: bool,
    ) -> Result<Arc<Self>, FleetwayError> {
        let child = child.map_or(Child::Find, |path| Child::Program(path.into()));
        let agent = embed::Agent::open_with(Path::new(&at), Options { child, sockets })?;
        Ok(Arc::new(Self(agent)))
    }

    /// Asks a model and waits for its answer: at most one second for a turn and ten for the run.
    ///
    /// # Errors
    /// [`FleetwayError`] tells the caller's mistakes from the release's failures.
    pub fn infer(&self, model: String, inputs: Vec<Tensor>) -> Result<Answer, FleetwayError> {
        let inputs = inputs.into_iter().map(named).collect::<Result<_, _>>()?;
        let answer = self.0.infer(&model, inputs)?;
        Ok(Answer {
            model: answer.model,
            release: Release {
                digest: answer.release,
                version: answer.version,
                slot: answer.slot.to_owned(),
            },
            outputs: answer.outputs.into_iter().map(shown).collect(),
        })
    }

    /// What runs, why, and what is wrong: the JSON of `fleetway-agent status -o json`.
    ///
    /// # Errors
    /// None that was ever seen.
    pub fn status(&self) -> Result<String, FleetwayError> {
        serde_json::to_string(&self.0.status()).map_err(|error| FleetwayError::Bug(chain(&error)))
    }

    /// Tells `listener` every model that answers now, and from then on whenever another release, or none,
    /// answers for one.
    ///
    /// # Errors
    /// [`FleetwayError`]: too many, or no agent any more.
    pub fn on_model_changed(
        &self,
        listener: Arc<dyn ModelListener>,
    ) -> Result<Arc<Subscription>, FleetwayError> {
        let told = self.0.on_model_changed(move |change| {
            let release = |running: &Running| Release {
                digest: running.release.clone(),
                version: running.version.clone(),
                slot: running.slot.clone(),
            };
            let running = change.running.as_ref().map(release);
            listener.on_model_changed(ModelChange { model: change.model.clone(), running });
        })?;
        Ok(Arc::new(Subscription(told)))
    }

    /// Ends the agent gracefully, within ten seconds and when callbacks that run have returned.
    ///
    /// # Errors
    /// [`FleetwayError`], when there was nothing left to end.
    pub fn stop(&self) -> Result<(), FleetwayError> {
        Ok(self.0.close()?)
    }
}

/// The version of this library. It must be the version of the program that tries models.
#[uniffi::export]
pub fn library_version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

const TYPES: [(DataType, DType); 9] = [
    (DataType::F32, DType::F32),
    (DataType::F64, DType::F64),
    (DataType::I8, DType::I8),
    (DataType::U8, DType::U8),
    (DataType::I16, DType::I16),
    (DataType::U16, DType::U16),
    (DataType::I32, DType::I32),
    (DataType::I64, DType::I64),
    (DataType::Bool, DType::Bool),
];

fn named(tensor: Tensor) -> Result<NamedTensor, FleetwayError> {
    let Tensor { name, datatype, shape, data } = tensor;
    let wrong =
        |error: &dyn std::fmt::Display| FleetwayError::Input(format!("input {name:?}: {error}"));
    let shape: Vec<usize> = shape
        .into_iter()
        .map(usize::try_from)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&error))?;
    let dtype = TYPES.iter().find(|(name, _)| *name == datatype).map_or(DType::F32, |(_, of)| *of);
    let tensor = embed::Tensor::from_le_bytes(dtype, &shape, &data).map_err(|e| wrong(&e))?;
    Ok(NamedTensor { name, tensor })
}

fn shown(named: NamedTensor) -> Tensor {
    let NamedTensor { name, tensor } = named;
    let dtype = tensor.dtype();
    Tensor {
        name,
        datatype: TYPES.iter().find(|(_, of)| *of == dtype).map_or(DataType::F32, |(n, _)| *n),
        shape: tensor.shape().iter().map(|dim| *dim as u64).collect(),
        data: tensor.to_le_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back_the_same_and_what_does_not_fit_is_refused() {
        for (datatype, dtype) in TYPES {
            let data = vec![1; 2 * dtype.size_bytes()];
            let tensor = Tensor { name: "x".into(), datatype, shape: vec![1, 2], data };
            let inner = named(tensor.clone()).expect("fits");
            assert_eq!(inner.tensor.dtype(), dtype);
            assert_eq!(shown(inner), tensor);
            let short = Tensor { data: vec![1; 2 * dtype.size_bytes() - 1], ..tensor };
            assert!(matches!(named(short), Err(FleetwayError::Input(_))));
        }
        let huge = Tensor {
            name: "x".into(),
            datatype: DataType::F32,
            shape: vec![u64::MAX, u64::MAX],
            data: vec![],
        };
        assert!(matches!(named(huge), Err(FleetwayError::Input(_))));
    }
}
