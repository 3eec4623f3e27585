//! Golden vectors: inputs with the outputs that onnxruntime gave for the same file.
//!
//! They travel with a release, signed. Checked at import on the controller and again on every
//! device, they tell whether *this* engine on *this* processor computes what the model's author
//! saw. tract answers some graphs silently wrong, and no shape or type check notices.

mod verdict;

pub(crate) use verdict::Tally;
pub use verdict::{Difference, GoldenRule, GoldenVerdict, Worst, compare};

use crate::engine::{Engine, RunError};
use crate::limits::{GOLDEN_BYTES_MAX, GOLDEN_VECTORS_MAX, GRAPH_IO_MAX};
use crate::tensor::{Tensor, TensorSpec};
use serde::{Deserialize, Serialize};

/// Tensors of one vector, in the order of [`GoldenSet::inputs`] and [`GoldenSet::outputs`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenVector {
    /// What goes in, batch axis 1 included.
    pub inputs: Vec<Tensor>,
    /// What onnxruntime gave.
    pub outputs: Vec<Tensor>,
}

/// A set of vectors for one model. The specifications are held once; every vector matches them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct GoldenSet {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    vectors: Vec<GoldenVector>,
}

#[derive(Deserialize)]
struct Unchecked {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    vectors: Vec<GoldenVector>,
}

impl TryFrom<Unchecked> for GoldenSet {
    type Error = GoldenError;
    fn try_from(raw: Unchecked) -> Result<Self, GoldenError> {
        Self::new(raw.inputs, raw.outputs, raw.vectors)
    }
}

/// Why a golden set cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are the words of the messages")]
pub enum GoldenError {
    /// More bytes than [`GOLDEN_BYTES_MAX`].
    #[error(
        "the golden set has {bytes} bytes, at most {GOLDEN_BYTES_MAX} are allowed: use fewer vectors"
    )]
    TooLarge { bytes: usize },
    /// Not a golden set.
    #[error("this is no golden set ({0}): make it again")]
    Codec(String),
    /// None, or more than [`GOLDEN_VECTORS_MAX`].
    #[error("{have} vectors, allowed are 1 to {GOLDEN_VECTORS_MAX}")]
    Count { have: usize },
    /// No inputs, no outputs, too many, or one name twice.
    #[error("the golden set's {0}")]
    Names(&'static str),
    /// A vector that does not match the specifications.
    #[error("vector {vector}: {what} does not match {spec}")]
    Vector { vector: usize, what: &'static str, spec: String },
    /// The set is for another model.
    #[error(
        "the model has no {what} that matches {spec} of the golden set: they belong to different models"
    )]
    OtherModel { what: &'static str, spec: String },
    /// The model has an input that the set does not feed.
    #[error(
        "the model takes {model} inputs, the golden set feeds {golden}: they belong to different models"
    )]
    Inputs { model: usize, golden: usize },
    /// A vector could not be run.
    #[error("vector {vector}: {error}")]
    Run { vector: usize, error: RunError },
}

impl GoldenSet {
    /// A set of `vectors` that all match `inputs` and `outputs`.
    pub fn new(
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        vectors: Vec<GoldenVector>,
    ) -> Result<Self, GoldenError> {
        for specs in [&inputs, &outputs] {
            if specs.is_empty() || specs.len() > GRAPH_IO_MAX {
                return Err(GoldenError::Names("inputs or outputs are none or too many"));
            }
            if specs
                .iter()
                .enumerate()
                .any(|(at, spec)| specs[..at].iter().any(|other| other.name == spec.name))
            {
                return Err(GoldenError::Names("inputs or outputs hold one name twice"));
            }
        }
        if vectors.is_empty() || vectors.len() > GOLDEN_VECTORS_MAX {
            return Err(GoldenError::Count { have: vectors.len() });
        }
        for (vector, GoldenVector { inputs: ins, outputs: outs }) in vectors.iter().enumerate() {
            check_match(vector, "an input", &inputs, ins)?;
            check_match(vector, "an output", &outputs, outs)?;
        }
        Ok(Self { inputs, outputs, vectors })
    }

    /// A set from batched arrays, as they come out of an `.npz` file: `in.<name>` and `out.<name>`,
    /// first axis = vector. Every vector keeps that axis as a batch of 1. Other names are ignored.
    pub fn from_arrays(arrays: &[(String, Tensor)]) -> Result<Self, GoldenError> {
        let of = |prefix: &str| -> Vec<(&str, &Tensor)> {
            arrays
                .iter()
                .filter_map(|(name, array)| Some((name.strip_prefix(prefix)?, array)))
                .collect()
        };
        let (ins, outs) = (of("in."), of("out."));
        let count = ins.first().and_then(|(_, array)| array.shape().first().copied()).unwrap_or(0);
        let specs = |arrays: &[(&str, &Tensor)]| {
            arrays.iter().map(|(name, array)| batch_of_one(name, array)).collect()
        };
        let rows = |arrays: &[(&str, &Tensor)], what, vector| -> Result<Vec<Tensor>, GoldenError> {
            let row = |(name, array): &(&str, &Tensor)| {
                let same_length = array.shape().first() == Some(&count);
                let short = || GoldenError::Vector {
                    vector,
                    what,
                    spec: format!("`{name}`, an array of {count} vectors"),
                };
                array.row(vector).filter(|_| same_length).ok_or_else(short)
            };
            arrays.iter().map(row).collect()
        };
        if count > GOLDEN_VECTORS_MAX {
            return Err(GoldenError::Count { have: count });
        }
        let vector = |at| {
            Ok(GoldenVector {
                inputs: rows(&ins, "an input", at)?,
                outputs: rows(&outs, "an output", at)?,
            })
        };
        Self::new(specs(&ins), specs(&outs), (0..count).map(vector).collect::<Result<_, _>>()?)
    }

    /// Decodes what [`GoldenSet::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, GoldenError> {
        if bytes.len() > GOLDEN_BYTES_MAX {
            return Err(GoldenError::TooLarge { bytes: bytes.len() });
        }
        let (set, rest) =
            postcard::take_from_bytes(bytes).map_err(|e| GoldenError::Codec(e.to_string()))?;
        if rest.is_empty() {
            Ok(set)
        } else {
            Err(GoldenError::Codec(format!("{} bytes too many", rest.len())))
        }
    }

    /// The bytes that are signed with a release and handed to the self-test.
    pub fn encode(&self) -> Result<Vec<u8>, GoldenError> {
        let bytes = postcard::to_allocvec(self).map_err(|e| GoldenError::Codec(e.to_string()))?;
        if bytes.len() > GOLDEN_BYTES_MAX {
            Err(GoldenError::TooLarge { bytes: bytes.len() })
        } else {
            Ok(bytes)
        }
    }

    /// Inputs that every vector feeds.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// Outputs that every vector holds.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// The vectors.
    pub fn vectors(&self) -> &[GoldenVector] {
        &self.vectors
    }

    /// Pairs this set with a model by name: the inputs of each vector in the engine's order, and for
    /// each golden output its position among the engine's outputs.
    pub fn bind(&self, engine: &dyn Engine) -> Result<BoundGolden<'_>, GoldenError> {
        if engine.inputs().len() != self.inputs.len() {
            return Err(GoldenError::Inputs {
                model: engine.inputs().len(),
                golden: self.inputs.len(),
            });
        }
        let position = |specs: &[TensorSpec], what, spec: &TensorSpec| {
            let found = specs.iter().position(|other| other == spec);
            found.ok_or_else(|| GoldenError::OtherModel { what, spec: spec.to_string() })
        };
        let ins = engine
            .inputs()
            .iter()
            .map(|spec| position(&self.inputs, "input", spec))
            .collect::<Result<_, _>>()?;
        let outs = self
            .outputs
            .iter()
            .map(|spec| position(engine.outputs(), "output", spec))
            .collect::<Result<_, _>>()?;
        Ok(BoundGolden { set: self, ins, outs })
    }

    /// Runs every vector through `engine` and compares.
    pub fn check(
        &self,
        engine: &dyn Engine,
        rule: GoldenRule,
    ) -> Result<GoldenVerdict, GoldenError> {
        let bound = self.bind(engine)?;
        let mut tally = Tally::new(rule);
        for vector in 0..self.vectors.len() {
            let have = engine
                .run(&bound.inputs(vector))
                .map_err(|error| GoldenError::Run { vector, error })?;
            tally.add(&bound, vector, &have);
        }
        Ok(tally.verdict())
    }
}

fn batch_of_one(name: &str, array: &Tensor) -> TensorSpec {
    let mut shape = array.shape().to_vec();
    if let Some(first) = shape.first_mut() {
        *first = 1;
    }
    TensorSpec { name: name.to_owned(), dtype: array.dtype(), shape }
}

fn check_match(
    vector: usize,
    what: &'static str,
    specs: &[TensorSpec],
    tensors: &[Tensor],
) -> Result<(), GoldenError> {
    if specs.len() != tensors.len() {
        return Err(GoldenError::Vector {
            vector,
            what,
            spec: format!("the number of names, {}", specs.len()),
        });
    }
    match specs.iter().zip(tensors).find(|(spec, tensor)| !spec.matches(tensor)) {
        None => Ok(()),
        Some((spec, _)) => Err(GoldenError::Vector { vector, what, spec: spec.to_string() }),
    }
}

/// A set paired with the inputs and outputs of one engine.
#[derive(Debug)]
pub struct BoundGolden<'a> {
    set: &'a GoldenSet,
    ins: Vec<usize>,
    outs: Vec<usize>,
}

impl BoundGolden<'_> {
    /// Inputs of one vector in the engine's order. Panics if there is no such vector.
    pub fn inputs(&self, vector: usize) -> Vec<Tensor> {
        let tensors = &self.set.vectors[vector].inputs;
        self.ins.iter().map(|&at| tensors[at].clone()).collect()
    }
}

#[cfg(test)]
mod tests;
