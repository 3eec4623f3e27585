//! The way back: tensors as JSON, as JSON with bytes behind it, or as the largest classes alone.

use fleetway_engine::Tensor;
use fleetway_engine::tensor::TensorData;
use serde::{Serialize, Serializer};

use super::request::{Asked, Output};
use super::{Origin, datatype};
use crate::serving::live::Loaded;

/// A body, and how much of it is JSON when bytes follow.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The body.
    pub body: Vec<u8>,
    /// Bytes of its JSON, if tensors stand behind it.
    pub json_bytes: Option<usize>,
}

#[derive(Serialize)]
struct Head<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    parameters: Origin,
    outputs: Vec<Part<'a>>,
}

#[derive(Serialize)]
struct Part<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Binary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

#[derive(Serialize)]
struct Binary {
    binary_data_size: usize,
}

/// What an output is given as.
pub(crate) enum Shown<'a> {
    /// All of its elements.
    Tensor(&'a Tensor),
    /// `value:index` of the largest elements of each row, as BYTES.
    Classes {
        /// Rows and classes.
        shape: Vec<usize>,
        /// Row by row, the largest first.
        texts: Vec<String>,
    },
}

impl<'a> Shown<'a> {
    /// An output as the caller wants it.
    pub(crate) fn of(tensor: &'a Tensor, wanted: Output) -> Self {
        match wanted.classes {
            0 => Self::Tensor(tensor),
            count => classes(tensor, count),
        }
    }

    pub(crate) fn datatype(&self) -> &'static str {
        match self {
            Self::Tensor(tensor) => datatype(tensor.dtype()),
            Self::Classes { .. } => "BYTES",
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Tensor(tensor) => tensor.shape(),
            Self::Classes { shape, .. } => shape,
        }
    }

    /// Bytes that [`Shown::put`] adds.
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Self::Tensor(tensor) => tensor.len_bytes(),
            Self::Classes { texts, .. } => texts.iter().map(|text| 4 + text.len()).sum(),
        }
    }

    /// The protocol's bytes: little-endian elements; texts with their length before them.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Tensor(tensor) => tensor.put_le_bytes(out),
            Self::Classes { texts, .. } => {
                for text in texts {
                    // A number and an index: never near 4 GiB.
                    let length = u32::try_from(text.len()).unwrap_or(0);
                    out.extend_from_slice(&length.to_le_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    }

    fn elements(&self) -> Elements<'_> {
        match self {
            Self::Tensor(tensor) => Elements::Numbers(tensor.data()),
            Self::Classes { texts, .. } => Elements::Texts(texts),
        }
    }
}

/// The first axis is rows where there are two axes or more, as in every classifier.
fn classes(tensor: &Tensor, count: usize) -> Shown<'static> {
    let data = tensor.data();
    let rows = match tensor.shape() {
        [rows, _, ..] => Some(*rows),
        _ => None,
    };
    let width = data.len().checked_div(rows.unwrap_or(1)).unwrap_or(0);
    let count = count.min(width);
    let value = |at: usize| data.get_f64(at).unwrap_or(f64::NEG_INFINITY);
    let mut texts = Vec::with_capacity(rows.unwrap_or(1) * count);
    for row in 0..rows.unwrap_or(1) {
        let mut order: Vec<usize> = (0..width).collect();
        // The first of equals comes first.
        order.sort_by(|a, b| value(row * width + b).total_cmp(&value(row * width + a)));
        let is_real = matches!(data, TensorData::F32(_) | TensorData::F64(_));
        texts.extend(order.iter().take(count).map(|&at| {
            let value = value(row * width + at);
            if is_real { format!("{value:.6}:{at}") } else { format!("{value}:{at}") }
        }));
    }
    let shape = rows.into_iter().chain([count]).collect();
    Shown::Classes { shape, texts }
}

enum Elements<'a> {
    Numbers(&'a TensorData),
    Texts(&'a [String]),
}

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Texts(texts) => texts.serialize(serializer),
            Self::Numbers(data) => match data {
                TensorData::F32(v) => v.serialize(serializer),
                TensorData::F64(v) => v.serialize(serializer),
                TensorData::I8(v) => v.serialize(serializer),
                TensorData::U8(v) => v.serialize(serializer),
                TensorData::I16(v) => v.serialize(serializer),
                TensorData::U16(v) => v.serialize(serializer),
                TensorData::I32(v) => v.serialize(serializer),
                TensorData::I64(v) => v.serialize(serializer),
                TensorData::Bool(v) => v.serialize(serializer),
            },
        }
    }
}

/// The outputs that were asked for, in that order, with their names.
pub(crate) fn shown<'a>(
    loaded: &'a Loaded,
    asked: &'a Asked,
    outputs: &'a [Tensor],
) -> impl Iterator<Item = (&'a str, Output, Shown<'a>)> {
    asked.wanted.iter().filter_map(|&wanted| {
        let (spec, tensor) = (loaded.engine.outputs().get(wanted.at)?, outputs.get(wanted.at)?);
        Some((spec.name.as_str(), wanted, Shown::of(tensor, wanted)))
    })
}

fn part<'a>(name: &'a str, wanted: Output, shown: &'a Shown<'_>) -> Part<'a> {
    let size = || Binary { binary_data_size: shown.len_bytes() };
    Part {
        name,
        datatype: shown.datatype(),
        shape: shown.shape(),
        parameters: wanted.binary.then(size),
        data: (!wanted.binary).then(|| shown.elements()),
    }
}

/// The answer to a request.
///
/// # Errors
/// None that a tensor with finite numbers can cause.
pub fn answer(
    loaded: &Loaded,
    asked: &Asked,
    outputs: &[Tensor],
) -> Result<Answer, serde_json::Error> {
    let shown: Vec<_> = shown(loaded, asked, outputs).collect();
    let head = Head {
        model_name: loaded.model.as_str(),
        model_version: &loaded.version,
        id: asked.id.as_deref(),
        parameters: Origin::of(loaded),
        outputs: shown.iter().map(|(name, wanted, shown)| part(name, *wanted, shown)).collect(),
    };
    let binary = || shown.iter().filter(|(_, wanted, _)| wanted.binary);
    let raw_bytes: usize = binary().map(|(_, _, shown)| shown.len_bytes()).sum();
    // Head, then tensors: about 256 bytes of names and sizes for each output.
    let mut body = Vec::with_capacity(raw_bytes + 256 * (1 + shown.len()));
    serde_json::to_writer(&mut body, &head)?;
    if binary().next().is_none() {
        return Ok(Answer { body, json_bytes: None });
    }
    let json_bytes = Some(body.len());
    binary().for_each(|(_, _, shown)| shown.put(&mut body));
    Ok(Answer { body, json_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(tensor: &Tensor, classes: usize) -> (Vec<usize>, Vec<String>) {
        match Shown::of(tensor, Output { at: 0, binary: false, classes }) {
            Shown::Classes { shape, texts } => (shape, texts),
            Shown::Tensor(_) => panic!("classes"),
        }
    }

    #[test]
    fn classes_are_the_largest_of_each_row() {
        let scores = Tensor::from_f32(&[2, 3], vec![0.5, 2.0, 2.0, -1.0, -3.5, 0.0]).unwrap();
        let (shape, said) = texts(&scores, 2);
        assert_eq!(shape, [2, 2]);
        assert_eq!(said, ["2.000000:1", "2.000000:2", "0.000000:2", "-1.000000:0"]);
        let counts = Tensor::new(vec![3], TensorData::U8(vec![7, 9, 8])).unwrap();
        assert_eq!(texts(&counts, 9), (vec![3], vec!["9:1".into(), "8:2".into(), "7:0".into()]));
    }

    #[test]
    fn texts_have_their_length_before_them() {
        let counts = Tensor::new(vec![2], TensorData::U8(vec![7, 9])).unwrap();
        let shown = Shown::of(&counts, Output { at: 0, binary: true, classes: 1 });
        let mut bytes = Vec::new();
        shown.put(&mut bytes);
        assert_eq!(bytes, *b"\x03\0\0\x009:1");
        assert_eq!(bytes.len(), shown.len_bytes());
    }
}
