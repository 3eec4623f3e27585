//! First pass over a request: everything but the numbers, checked against the model.
//!
//! One [`Header`] for all ways in: JSON, JSON with binary tensors behind it, and gRPC
//! ([`crate::serving::grpc::wire`]). They differ in where the numbers of an input are ([`Source`]).

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use fleetway_engine::limits::{GRAPH_IO_MAX, RANK_MAX};
use fleetway_engine::{Engine, Tensor, TensorSpec};
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de};

pub use super::error::RequestError;
use super::error::{CLASSES_MAX, clip, described, listed};
use super::{data, datatype, typed};

/// What a request says besides its numbers.
#[derive(Debug, Default, Deserialize)]
pub struct Header<'a> {
    /// The caller's own name for the request; comes back in the answer.
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) inputs: Few<Input<'a>, GRAPH_IO_MAX>,
    #[serde(borrow, default)]
    pub(crate) outputs: Few<Wanted<'a>, GRAPH_IO_MAX>,
    #[serde(default)]
    parameters: RequestParameters,
    /// The text that the header stands in, for the second pass.
    #[serde(skip)]
    json: &'a [u8],
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Input<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) datatype: Cow<'a, str>,
    pub(crate) shape: Few<u64, RANK_MAX>,
    data: Option<IgnoredAny>,
    #[serde(borrow, default)]
    parameters: InputParameters<'a>,
    #[serde(skip)]
    pub(crate) source: Source<'a>,
}

/// Where the numbers of an input are.
#[derive(Clone, Copy, Debug, Default)]
pub enum Source<'a> {
    /// Nowhere.
    #[default]
    None,
    /// In the text, as `data`.
    Json,
    /// Little-endian bytes in row-major order.
    Raw(&'a [u8]),
    /// An `InferTensorContents` of gRPC.
    Typed(&'a [u8]),
    /// A tensor of the program that the agent lives in.
    Tensor(&'a Tensor),
}

#[derive(Debug, Default, Deserialize)]
struct InputParameters<'a> {
    binary_data_size: Option<usize>,
    #[serde(borrow)]
    shared_memory_region: Option<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
struct RequestParameters {
    #[serde(default)]
    binary_data_output: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(default)]
    pub(crate) parameters: OutputParameters,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct OutputParameters {
    binary_data: Option<bool>,
    #[serde(default)]
    pub(crate) classification: usize,
}

/// A request that fits the model.
#[derive(Debug, PartialEq)]
pub struct Asked {
    /// The caller's own name for it.
    pub id: Option<String>,
    /// The inputs in the model's order.
    pub inputs: Vec<Tensor>,
    /// The outputs that it wants, in its order.
    pub wanted: Vec<Output>,
}

/// An output that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its position in the model.
    pub at: usize,
    /// As bytes behind the text, not as numbers in it.
    pub binary: bool,
    /// So many of the largest elements with their places, not all elements; 0 is all elements.
    pub classes: usize,
}

/// How the inputs of a request lie on the model's.
#[derive(Debug, PartialEq, Eq)]
pub struct Fit {
    /// For each input of the request, in its order, the position among the model's.
    places: Vec<usize>,
    /// Rows on the first axis; 1 for a model without batches.
    rows: usize,
}

/// A list of at most `N`, so that a body cannot make us hold millions of small things.
#[derive(Debug)]
pub(crate) struct Few<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Few<T, N> {
    /// Adds one, if there is room.
    pub(crate) fn push(&mut self, item: T) -> bool {
        let room = self.0.len() < N;
        if room {
            self.0.push(item);
        }
        room
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }
}

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

impl<'a> Header<'a> {
    /// Reads a body of JSON up to its numbers.
    ///
    /// # Errors
    /// [`RequestError::Json`] with line and column.
    pub fn read(body: &'a [u8]) -> Result<Self, RequestError> {
        Self::read_with(body, &[])
    }

    /// Reads a body whose first `json_bytes` are JSON and whose rest is binary tensors.
    ///
    /// # Errors
    /// [`RequestError`] names what does not fit.
    pub fn read_binary(body: &'a [u8], json_bytes: usize) -> Result<Self, RequestError> {
        let wrong =
            || RequestError::HeaderLength { said: json_bytes.to_string(), have: body.len() };
        let (json, raw) = body.split_at_checked(json_bytes).ok_or_else(wrong)?;
        Self::read_with(json, raw)
    }

    fn read_with(json: &'a [u8], mut raw: &'a [u8]) -> Result<Self, RequestError> {
        let mut header: Self = serde_json::from_slice(json)?;
        header.json = json;
        let have = raw.len();
        let mut announced = 0usize;
        for input in &mut header.inputs.0 {
            input.source = match (input.data.is_some(), input.parameters.binary_data_size) {
                (true, Some(_)) => return Err(RequestError::TwiceTheData(clip(&input.name))),
                (true, None) => Source::Json,
                (false, Some(bytes)) => {
                    announced = announced.saturating_add(bytes);
                    let short = RequestError::BinaryLength { announced, have };
                    let (tensor, rest) = raw.split_at_checked(bytes).ok_or(short)?;
                    raw = rest;
                    Source::Raw(tensor)
                }
                (false, None) => Source::None,
            };
        }
        match raw {
            [] => Ok(header),
            _ => Err(RequestError::BinaryLength { announced, have }),
        }
    }

    /// Checks names, types and shapes of the inputs against `specs`, of which an engine takes up
    /// to `rows_max` rows at once.
    ///
    /// # Errors
    /// [`RequestError`] names the first input that does not fit.
    pub fn match_inputs(&self, specs: &[TensorSpec], rows_max: usize) -> Result<Fit, RequestError> {
        let rows = self.rows(rows_max);
        let mut places = Vec::with_capacity(self.inputs.0.len());
        for input in &self.inputs.0 {
            let place = specs.iter().position(|spec| spec.name == input.name).ok_or_else(|| {
                RequestError::UnknownInput { name: clip(&input.name), takes: listed(specs) }
            })?;
            if places.contains(&place) {
                return Err(RequestError::TwiceTheInput(clip(&input.name)));
            }
            let spec = &specs[place];
            if input.datatype != datatype(spec.dtype) || !input.has_shape(spec, rows) {
                let rows =
                    if rows_max > 1 { format!(", up to {rows_max} rows") } else { "".into() };
                return Err(RequestError::Interface {
                    name: spec.name.clone(),
                    got: format!("{}{:?}", clip(&input.datatype), input.shape.0),
                    takes: described(spec) + &rows,
                });
            }
            if input.parameters.shared_memory_region.is_some() {
                return Err(RequestError::SharedMemory(spec.name.clone()));
            }
            if matches!(input.source, Source::None) {
                return Err(RequestError::NoData(spec.name.clone()));
            }
            places.push(place);
        }
        match (0..specs.len()).find(|place| !places.contains(place)) {
            None => Ok(Fit { places, rows }),
            Some(place) => Err(RequestError::MissingInput {
                missing: listed(&specs[place..=place]),
                takes: listed(specs),
            }),
        }
    }

    /// Rows of the first input, as far as the engine takes more than one.
    fn rows(&self, rows_max: usize) -> usize {
        let first = self.inputs.0.first().and_then(|input| input.shape.0.first());
        let rows = first.and_then(|rows| usize::try_from(*rows).ok());
        rows.filter(|rows| (1..=rows_max).contains(rows)).unwrap_or(1)
    }

    /// Reads the numbers of inputs that were found to fit `specs`, in the model's order.
    ///
    /// # Errors
    /// [`RequestError`] says what does not fit.
    pub fn tensors(&self, specs: &[TensorSpec], fit: &Fit) -> Result<Vec<Tensor>, RequestError> {
        let mut scaled = Cow::Borrowed(specs);
        if fit.rows > 1 {
            scaled = specs.iter().map(|spec| spec.with_rows(fit.rows)).collect();
        }
        let mut tensors: Vec<Option<Tensor>> = specs.iter().map(|_| None).collect();
        let mut in_text = Vec::with_capacity(fit.places.len());
        for (input, &place) in self.inputs.0.iter().zip(&fit.places) {
            let (Some(spec), Some(tensor)) = (scaled.get(place), tensors.get_mut(place)) else {
                continue;
            };
            in_text.push(matches!(input.source, Source::Json).then_some(place));
            *tensor = match input.source {
                Source::Raw(bytes) => {
                    let made = Tensor::from_le_bytes(spec.dtype, &spec.shape, bytes);
                    let wrong = |source| RequestError::Binary { name: spec.name.clone(), source };
                    Some(made.map_err(wrong)?)
                }
                Source::Typed(contents) => Some(typed::read(contents, spec)?),
                // Its type and shape were found to fit, and it holds what its shape says.
                Source::Tensor(tensor) => Some(tensor.clone()),
                Source::Json | Source::None => None,
            };
        }
        if in_text.iter().any(Option::is_some) {
            data::read(self.json, &scaled, &in_text, &mut tensors)?;
        }
        let missing = || RequestError::Data(de::Error::custom("an input is missing"));
        tensors.into_iter().map(|tensor| tensor.ok_or_else(missing)).collect()
    }

    /// The outputs that the caller wants, in its order; all if it does not say.
    ///
    /// # Errors
    /// [`RequestError::UnknownOutput`].
    pub fn match_outputs(&self, engine: &dyn Engine) -> Result<Vec<Output>, RequestError> {
        let specs = engine.outputs();
        let binary = self.parameters.binary_data_output;
        if self.outputs.0.is_empty() {
            return Ok((0..specs.len()).map(|at| Output { at, binary, classes: 0 }).collect());
        }
        let find = |wanted: &Wanted<'_>| {
            let at = specs.iter().position(|spec| spec.name == wanted.name).ok_or_else(|| {
                RequestError::UnknownOutput { name: clip(&wanted.name), gives: listed(specs) }
            })?;
            let OutputParameters { binary_data, classification } = wanted.parameters;
            let rows = match specs[at].shape.as_slice() {
                [rows, _, ..] => *rows,
                _ => 1,
            };
            if rows.saturating_mul(classification) > CLASSES_MAX {
                return Err(RequestError::Classes(specs[at].name.clone()));
            }
            Ok(Output { at, binary: binary_data.unwrap_or(binary), classes: classification })
        };
        self.outputs.0.iter().map(find).collect()
    }
}

impl Input<'_> {
    fn has_shape(&self, spec: &TensorSpec, rows: usize) -> bool {
        let shape = spec.shape.iter().enumerate().map(|(axis, dim)| {
            // What an engine with batches has on its first axis is one row.
            if axis == 0 && rows > 1 { (dim * rows) as u64 } else { *dim as u64 }
        });
        shape.eq(self.shape.0.iter().copied())
    }
}
