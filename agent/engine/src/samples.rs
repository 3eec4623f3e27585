//! Reference samples: what a model shall be fed in use, without anybody's word for the answers.
//! They are run once, at import, in the self-test's child, and only what was read off them stays
//! ([`crate::watch`]).
//!
//! A set may be larger than a child's memory, so it travels in batches.

use crate::engine::{Engine, RunError};
use crate::limits::{
    GRAPH_IO_MAX, SAMPLE_BATCH_BYTES_MAX, SAMPLE_BATCH_MAX, SAMPLES_BYTES_MAX, SAMPLES_MAX,
};
use crate::npz::{NpzError, read_npz_within};
use crate::tensor::{Tensor, TensorSpec};
use crate::watch;
use fleetway_protocol::counters::{Confidence, Scores};
use fleetway_protocol::drift::Watch;
use serde::{Deserialize, Serialize};

/// A set of samples, as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleSet {
    inputs: Vec<(TensorSpec, Tensor)>,
    len: usize,
}

/// Why a set of samples cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are the words of the messages")]
pub enum SamplesError {
    /// Not an `.npz`, or one that is too large.
    #[error("{0}")]
    Npz(String),
    /// No arrays that are inputs.
    #[error("it has no array called `in.<input>`: name each input of the model so")]
    NoInputs,
    /// More inputs than a graph may have.
    #[error("it has {have} inputs, at most {GRAPH_IO_MAX} are allowed")]
    Inputs { have: usize },
    /// Arrays of different lengths.
    #[error("`in.{name}` has {have} samples where others have {want}")]
    Length { name: String, have: usize, want: usize },
    /// None, or too many.
    #[error("it has {have} samples, allowed are 1 to {SAMPLES_MAX}")]
    Count { have: usize },
    /// One sample is larger than a batch.
    #[error("one sample has more than {SAMPLE_BATCH_BYTES_MAX} bytes")]
    TooLarge,
}

impl From<NpzError> for SamplesError {
    fn from(error: NpzError) -> Self {
        Self::Npz(error.to_string())
    }
}

impl SampleSet {
    /// The arrays `in.<name>` of an `.npz`; the first axis counts the samples. Others are ignored.
    pub fn from_npz(bytes: &[u8]) -> Result<Self, SamplesError> {
        let arrays = read_npz_within(bytes, SAMPLES_BYTES_MAX)?;
        let named = |(name, array): (String, Tensor)| {
            let name = name.strip_prefix("in.")?.to_owned();
            let mut shape = array.shape().to_vec();
            *shape.first_mut()? = 1;
            Some((TensorSpec { name, dtype: array.dtype(), shape }, array))
        };
        let inputs: Vec<_> = arrays.into_iter().filter_map(named).collect();
        let len = |array: &Tensor| array.shape().first().copied().unwrap_or(0);
        let want = inputs.first().map(|(_, array)| len(array)).ok_or(SamplesError::NoInputs)?;
        if inputs.len() > GRAPH_IO_MAX {
            return Err(SamplesError::Inputs { have: inputs.len() });
        }
        if let Some((spec, array)) = inputs.iter().find(|(_, array)| len(array) != want) {
            let (name, have) = (spec.name.clone(), len(array));
            return Err(SamplesError::Length { name, have, want });
        }
        if !(1..=SAMPLES_MAX).contains(&want) {
            return Err(SamplesError::Count { have: want });
        }
        Ok(Self { inputs, len: want })
    }

    /// Names of the inputs, in the order in which [`Watch`] counts them for [`SampleBatch`].
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|(spec, _)| spec.name.as_str())
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a set without samples is refused.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The set in batches, each to be watched by the same numbers.
    ///
    /// # Errors
    /// [`SamplesError::TooLarge`] if one sample fills more than a batch.
    pub fn batches(&self, watch: &[Watch]) -> Result<Vec<SampleBatch>, SamplesError> {
        let bytes = |(spec, _): &(TensorSpec, Tensor)| {
            spec.shape.iter().product::<usize>() * spec.dtype.size_bytes()
        };
        let each: usize = self.inputs.iter().map(bytes).sum();
        let many = (SAMPLE_BATCH_BYTES_MAX / each.max(1)).min(SAMPLE_BATCH_MAX);
        if many == 0 {
            return Err(SamplesError::TooLarge);
        }
        let sample = |at| self.inputs.iter().filter_map(|(_, array)| array.row(at)).collect();
        let batch = |from: usize| SampleBatch {
            watch: watch.to_vec(),
            inputs: self.inputs.iter().map(|(spec, _)| spec.clone()).collect(),
            samples: (from..(from + many).min(self.len)).map(sample).collect(),
        };
        Ok((0..self.len).step_by(many).map(batch).collect())
    }
}

/// Samples for one child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleBatch {
    /// Numbers to read off; inputs are counted as they stand here.
    pub watch: Vec<Watch>,
    /// What every sample holds.
    pub inputs: Vec<TensorSpec>,
    /// The samples, batch axis 1 included.
    pub samples: Vec<Vec<Tensor>>,
}

/// What was read off one sample and the answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The watched numbers in the order asked for; `None` for the confidence, and for an element
    /// that is not there.
    pub numbers: Vec<Option<f32>>,
    /// Its class, if it has one.
    pub class: Option<u16>,
    /// Whether its scores could be shares of a whole.
    pub shares: bool,
    /// How sure it is, if its scores are probabilities.
    pub as_probabilities: Confidence,
    /// How sure it is, if they are logits.
    pub as_logits: Confidence,
}

/// What a child read off a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// The watched numbers, with inputs counted as the engine does.
    pub watch: Vec<Watch>,
    /// One for each sample, in order.
    pub samples: Vec<Sample>,
}

impl SampleBatch {
    /// Runs every sample.
    pub(crate) fn run(&self, engine: &dyn Engine) -> Result<Sampled, String> {
        let place = |spec: &TensorSpec| {
            let found = self.inputs.iter().position(|other| other == spec);
            found.ok_or_else(|| format!("the reference has no input that matches {spec}"))
        };
        let places: Vec<usize> =
            engine.inputs().iter().map(place).collect::<Result<_, String>>()?;
        let own = |watch: &Watch| {
            let find = |input: u8| {
                let found = places.iter().position(|place| *place == usize::from(input));
                let found = found.and_then(|at| u8::try_from(at).ok());
                found.ok_or_else(|| format!("{watch}: the model does not take it"))
            };
            Ok(match *watch {
                Watch::Mean { input } => Watch::Mean { input: find(input)? },
                Watch::Spread { input } => Watch::Spread { input: find(input)? },
                Watch::Element { input, at } => Watch::Element { input: find(input)?, at },
                Watch::Confidence => Watch::Confidence,
            })
        };
        let watch: Vec<Watch> = self.watch.iter().map(own).collect::<Result<_, String>>()?;
        let run = |sample: &Vec<Tensor>| -> Result<Sample, String> {
            let pick = |place: &usize| sample.get(*place).cloned().ok_or("a sample lacks an input");
            let inputs: Vec<Tensor> = places.iter().map(pick).collect::<Result<_, _>>()?;
            let outputs = engine.run(&inputs).map_err(|e: RunError| e.to_string())?;
            Ok(look(&watch, &inputs, &outputs))
        };
        let samples = self.samples.iter().map(run).collect::<Result<_, String>>()?;
        Ok(Sampled { watch, samples })
    }
}

fn look(watch: &[Watch], inputs: &[Tensor], outputs: &[Tensor]) -> Sample {
    let output = outputs.first();
    let class = output.and_then(|output| watch::top_class(output, 1));
    let confidence = |scores| match (output, class) {
        (Some(output), Some(class)) => watch::confidence(scores, output, 1, class),
        _ => Confidence(0),
    };
    Sample {
        numbers: watch.iter().map(|what| watch::number(*what, inputs, 1)).collect(),
        class,
        shares: output.is_some_and(watch::are_shares),
        as_probabilities: confidence(Scores::Probabilities),
        as_logits: confidence(Scores::Logits),
    }
}
