//! The way in for the program that the agent lives in: tensors in, tensors out, no socket and no text.
//!
//! It is one more dialect of [`super::infer`], so the same gate, deadline, batches and counters hold
//! as for an application on a socket, and a release on trial is judged by these answers too.

use std::borrow::Cow;
use std::sync::Arc;

use fleetway_engine::Tensor;
use fleetway_engine::limits::GRAPH_IO_MAX;
use hyper::StatusCode;

use super::body::Bodies;
use super::http::Api;
use super::infer::{Dialect, Gate, Job, infer};
use super::limits::Limits;
use super::live::{Loaded, Models};
use super::oip::request::{Input, Source};
use super::oip::{Asked, Header, RequestError, datatype};
use super::refusal::Refusal;

/// A tensor with the name that it has in the model.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Name of the input or output.
    pub name: String,
    /// Type, shape (rows first) and elements.
    pub tensor: Tensor,
}

/// What a model says, and which signed release said it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The model that was asked.
    pub model: String,
    /// What people call the release that answered.
    pub version: String,
    /// Digest of its manifest, hexadecimal.
    pub release: String,
    /// Where its bytes are: `a`, `b` or `factory`.
    pub slot: &'static str,
    /// The model's outputs in its own order.
    pub outputs: Vec<NamedTensor>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// This device knows no such model.
    #[error("no model {model:?} on this device; it knows {known}")]
    UnknownModel {
        /// The name asked for.
        model: String,
        /// What there is.
        known: String,
    },
    /// The model is known and nothing of it is loaded; the status says why.
    #[error("{0}")]
    NotReady(String),
    /// The inputs do not fit the model.
    #[error("{0}")]
    Input(String),
    /// More at once than there is room for; ask again later.
    #[error("{0}")]
    Busy(String),
    /// The run did not end within its deadline of ten seconds.
    #[error("{0}")]
    Timeout(String),
    /// The release failed on these inputs. It counts against it.
    #[error("{0}")]
    Failed(String),
    /// The agent has ended.
    #[error("{0}")]
    Closed(String),
}

impl InferError {
    fn of(refusal: Refusal) -> Self {
        let text = refusal.text;
        match refusal.status {
            StatusCode::BAD_REQUEST => Self::Input(text),
            StatusCode::TOO_MANY_REQUESTS => Self::Busy(text),
            StatusCode::GATEWAY_TIMEOUT => Self::Timeout(text),
            StatusCode::SERVICE_UNAVAILABLE => Self::NotReady(text),
            _ => Self::Failed(text),
        }
    }
}

/// Where the models of a running agent are asked. Clones are the same door.
#[derive(Clone)]
pub(crate) struct Door {
    models: Arc<Models>,
    gate: Arc<Gate>,
    limits: Limits,
}

impl Door {
    /// Beside `api`, which answers from `models`: what runs at once is bounded for both together.
    pub(crate) fn of(api: &Api, models: &Arc<Models>) -> Self {
        Self { models: models.clone(), gate: api.gate.clone(), limits: api.limits }
    }

    /// Asks a model. Must be called on the agent's own runtime.
    pub(crate) async fn infer(
        &self,
        model: &str,
        inputs: Vec<NamedTensor>,
    ) -> Result<Answer, InferError> {
        if inputs.len() > GRAPH_IO_MAX {
            let text = format!("{} inputs; a model has at most {GRAPH_IO_MAX}", inputs.len());
            return Err(InferError::Input(text));
        }
        let live = self.models.get(model).ok_or_else(|| self.unknown(model))?;
        let job = Job { live, version: None, dialect: Direct { inputs } };
        infer(&self.gate, self.limits, job).await.map_err(InferError::of)
    }

    fn unknown(&self, model: &str) -> InferError {
        let names: Vec<_> =
            self.models.list().iter().map(|live| live.model().to_string()).collect();
        let known = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
        InferError::UnknownModel { model: model.chars().take(64).collect(), known }
    }

    /// Lets go of every engine: nobody asks any more.
    pub(crate) fn unload(&self) {
        for live in self.models.list() {
            live.swap(None);
        }
    }
}

struct Direct {
    inputs: Vec<NamedTensor>,
}

impl Dialect for Direct {
    type Answer = Answer;

    fn unpack(&mut self, _: &Bodies) -> Result<(), Refusal> {
        Ok(())
    }

    fn header(&self) -> Result<Header<'_>, RequestError> {
        let mut header = Header::default();
        for NamedTensor { name, tensor } in &self.inputs {
            let mut input = Input::default();
            input.name = Cow::Borrowed(name.as_str());
            input.datatype = Cow::Borrowed(datatype(tensor.dtype()));
            for dim in tensor.shape() {
                // A tensor has no more axes than there is room for.
                input.shape.push(u64::try_from(*dim).unwrap_or(u64::MAX));
            }
            input.source = Source::Tensor(tensor);
            // They were counted.
            header.inputs.push(input);
        }
        Ok(header)
    }

    fn len_bytes(&self) -> usize {
        self.inputs.iter().map(|named| named.tensor.len_bytes()).sum()
    }

    fn forget(&mut self) {
        self.inputs = Vec::new();
    }

    fn answer(
        &self,
        loaded: &Loaded,
        asked: &Asked,
        outputs: &[Tensor],
    ) -> Result<Answer, Refusal> {
        let origin = loaded.origin();
        let named = |wanted: &super::oip::request::Output| {
            let spec = loaded.engine.outputs().get(wanted.at)?;
            let tensor = outputs.get(wanted.at)?.clone();
            Some(NamedTensor { name: spec.name.clone(), tensor })
        };
        Ok(Answer {
            model: loaded.model.to_string(),
            version: loaded.version.clone(),
            release: origin.release.to_string(),
            slot: origin.slot,
            outputs: asked.wanted.iter().filter_map(named).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::testing::{Fake, digest, loaded, model};
    use crate::status::Status;
    use fleetway_engine::tensor::TensorData;

    /// A door with model `m`, which doubles.
    fn door() -> Door {
        let models = Arc::new(Models::new());
        models.add(&model("m")).expect("room").swap(Some(loaded(Fake::times(2.0), 1)));
        let api = Api::new(models.clone(), Arc::new(Status::default), 2);
        Door::of(&api, &models)
    }

    fn input(name: &str, shape: &[usize]) -> NamedTensor {
        let elements = shape.iter().product();
        let tensor = Tensor::from_f32(shape, vec![1.5; elements]).expect("fits");
        NamedTensor { name: name.into(), tensor }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_answer_names_what_answered_and_is_counted() {
        let door = door();
        let answer = door.infer("m", vec![input("x", &[1, 3])]).await.expect("answers");
        assert_eq!((answer.model.as_str(), answer.version.as_str(), answer.slot), ("m", "v1", "a"));
        assert_eq!(answer.release, digest(1).to_string());
        let names: Vec<_> = answer.outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["y", "n"]);
        assert_eq!(answer.outputs[0].tensor.as_f32(), Some(&[3.0; 3][..]));
        assert_eq!(answer.outputs[1].tensor.data(), &TensorData::I64(vec![7]));
        let live = door.models.get("m").expect("there");
        assert_eq!(live.recorder().snapshot().expect("counters").counters.requests, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_does_not_fit_is_refused_in_words() {
        let door = door();
        let error = door.infer("other", vec![]).await.expect_err("unknown");
        assert_eq!(error.to_string(), "no model \"other\" on this device; it knows m");
        for inputs in [
            vec![],
            vec![input("z", &[1, 3])],
            vec![input("x", &[3])],
            vec![input("x", &[1, 3]), input("x", &[1, 3])],
            vec![input("x", &[1, 3]); GRAPH_IO_MAX + 1],
        ] {
            let error = door.infer("m", inputs).await.expect_err("does not fit");
            assert!(matches!(error, InferError::Input(_)), "{error:?}");
        }
        door.unload();
        let error = door.infer("m", vec![input("x", &[1, 3])]).await.expect_err("nothing loaded");
        assert!(matches!(error, InferError::NotReady(_)), "{error:?}");
    }
}
