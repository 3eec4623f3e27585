//! First pass over a request: everything but the numbers, checked against the model.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use fleetway_engine::limits::{GRAPH_IO_MAX, RANK_MAX};
use fleetway_engine::{Engine, TensorSpec};
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de};

use super::datatype;

/// What a request says besides its numbers.
#[derive(Debug, Deserialize)]
pub struct Header<'a> {
    /// The caller's own name for the request; comes back in the answer.
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    inputs: Few<Input<'a>, GRAPH_IO_MAX>,
    #[serde(borrow, default)]
    outputs: Few<Wanted<'a>, GRAPH_IO_MAX>,
}

#[derive(Debug, Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    shape: Few<u64, RANK_MAX>,
    data: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Wanted<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// A list of at most `N`, so that a body cannot make us hold millions of small things.
#[derive(Debug)]
struct Few<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Few<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for List<T, N> {
            type Value = Few<T, N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {N}")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T, N>, A::Error> {
                let mut few = Vec::new();
                while let Some(item) = list.next_element()? {
                    if few.len() == N {
                        return Err(de::Error::invalid_length(N + 1, &self));
                    }
                    few.push(item);
                }
                Ok(Few(few))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

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
    #[error("input {0:?} has no \"data\"; binary tensors are not supported, send numbers as JSON")]
    NoData(String),
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
fn clip(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn described(spec: &TensorSpec) -> String {
    format!("{}{:?}", datatype(spec.dtype), spec.shape)
}

fn listed(specs: &[TensorSpec]) -> String {
    let one = |spec: &TensorSpec| format!("{:?} {}", spec.name, described(spec));
    specs.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl<'a> Header<'a> {
    /// Reads a body up to its numbers.
    ///
    /// # Errors
    /// [`RequestError::Json`] with line and column.
    pub fn read(body: &'a [u8]) -> Result<Self, RequestError> {
        Ok(serde_json::from_slice(body)?)
    }

    /// For each input of the request, in its order, the position among `specs`.
    ///
    /// # Errors
    /// [`RequestError`] names the first input that does not fit.
    pub fn match_inputs(&self, specs: &[TensorSpec]) -> Result<Vec<usize>, RequestError> {
        let mut places = Vec::with_capacity(self.inputs.0.len());
        for input in &self.inputs.0 {
            let place = specs.iter().position(|spec| spec.name == input.name).ok_or_else(|| {
                RequestError::UnknownInput { name: clip(&input.name), takes: listed(specs) }
            })?;
            if places.contains(&place) {
                return Err(RequestError::TwiceTheInput(clip(&input.name)));
            }
            let spec = &specs[place];
            let shape = spec.shape.iter().map(|dim| *dim as u64);
            if input.datatype != datatype(spec.dtype) || !shape.eq(input.shape.0.iter().copied()) {
                return Err(RequestError::Interface {
                    name: spec.name.clone(),
                    got: format!("{}{:?}", clip(&input.datatype), input.shape.0),
                    takes: described(spec),
                });
            }
            if input.data.is_none() {
                return Err(RequestError::NoData(spec.name.clone()));
            }
            places.push(place);
        }
        match (0..specs.len()).find(|place| !places.contains(place)) {
            None => Ok(places),
            Some(place) => Err(RequestError::MissingInput {
                missing: listed(&specs[place..=place]),
                takes: listed(specs),
            }),
        }
    }

    /// Positions of the outputs that the caller wants, in its order; all if it does not say.
    ///
    /// # Errors
    /// [`RequestError::UnknownOutput`].
    pub fn match_outputs(&self, engine: &dyn Engine) -> Result<Vec<usize>, RequestError> {
        let specs = engine.outputs();
        if self.outputs.0.is_empty() {
            return Ok((0..specs.len()).collect());
        }
        let place = |wanted: &Wanted<'_>| {
            specs.iter().position(|spec| spec.name == wanted.name).ok_or_else(|| {
                RequestError::UnknownOutput { name: clip(&wanted.name), gives: listed(specs) }
            })
        };
        self.outputs.0.iter().map(place).collect()
    }
}
