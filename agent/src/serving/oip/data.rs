//! Second pass over a request: the numbers, straight into vectors of the model's types.
//!
//! `data` is a flat list in row-major order, or lists nested exactly as the shape says. A vector
//! never grows past the model's element count, nesting never goes deeper than its rank.

use std::fmt;

use fleetway_engine::tensor::{TensorData, TensorError, element_count};
use fleetway_engine::{Tensor, TensorSpec};
use serde::de::{
    self, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::datatype;
use super::request::RequestError;

/// Reads the tensors that stand in a text whose header fitted `specs`. For each input of the
/// request, in its order, `places` says where its tensor goes; `None` stands elsewhere.
///
/// # Errors
/// [`RequestError::Data`] with line and column of what does not fit.
pub(super) fn read(
    body: &[u8],
    specs: &[TensorSpec],
    places: &[Option<usize>],
    tensors: &mut [Option<Tensor>],
) -> Result<(), RequestError> {
    // A number and its comma are two bytes: more elements than that cannot come.
    let elements_max = body.len() / 2 + 1;
    let inputs = Inputs { specs, places, elements_max, tensors };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Body(inputs).deserialize(&mut deserializer).map_err(RequestError::Data)
}

struct Body<'a>(Inputs<'a>);

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an inference request")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*key {
                "inputs" => map.next_value_seed(&mut self.0)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Inputs<'a> {
    specs: &'a [TensorSpec],
    places: &'a [Option<usize>],
    elements_max: usize,
    tensors: &'a mut [Option<Tensor>],
}

impl<'de> DeserializeSeed<'de> for &mut Inputs<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Inputs<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the list of inputs")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let specs = self.specs;
        for place in self.places {
            let Some((spec, place)) = place.and_then(|at| Some((specs.get(at)?, at))) else {
                list.next_element::<IgnoredAny>()?;
                continue;
            };
            let seed = Input { spec, elements_max: self.elements_max };
            let tensor = list.next_element_seed(seed)?.flatten();
            if let Some(entry) = self.tensors.get_mut(place) {
                *entry = tensor;
            }
        }
        match list.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("more inputs than the model takes")),
        }
    }
}

struct Input<'a> {
    spec: &'a TensorSpec,
    elements_max: usize,
}

impl<'de> DeserializeSeed<'de> for Input<'_> {
    type Value = Option<Tensor>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Input<'_> {
    type Value = Option<Tensor>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an input")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tensor = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == "data" {
                let mut sink = Sink::new(self.spec, self.elements_max).map_err(A::Error::custom)?;
                map.next_value_seed(Axis { sink: &mut sink, level: 0 })?;
                tensor = Some(sink.finish().map_err(A::Error::custom)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(tensor)
    }
}

/// Where the numbers of one input go.
pub(super) struct Sink<'a> {
    spec: &'a TensorSpec,
    want: usize,
    data: TensorData,
    /// At which depth numbers stand: 1 for a flat list, the rank for nested ones.
    depth: Option<usize>,
}

impl<'a> Sink<'a> {
    fn new(spec: &'a TensorSpec, elements_max: usize) -> Result<Self, TensorError> {
        let want = element_count(&spec.shape)?;
        let room = want.min(elements_max);
        let data = TensorData::with_room(spec.dtype, room);
        Ok(Self { spec, want, data, depth: None })
    }

    fn push<E: de::Error>(&mut self, number: Number, depth: usize) -> Result<(), E> {
        let Sink { spec, want, .. } = *self;
        let rank = spec.shape.len();
        let seen = *self.depth.get_or_insert(depth);
        if depth != seen || !(depth == 1 || depth == rank) {
            return Err(E::custom(format_args!(
                "\"data\" of input {:?} is neither flat nor nested as its shape {:?}",
                spec.name, spec.shape
            )));
        }
        if self.data.len() == want {
            return Err(E::custom(format_args!(
                "\"data\" of input {:?} has more than the {want} elements of shape {:?}",
                spec.name, spec.shape
            )));
        }
        put(&mut self.data, number).ok_or_else(|| {
            E::custom(format_args!(
                "\"data\" of input {:?} holds {number}, which is no {}",
                spec.name,
                datatype(spec.dtype)
            ))
        })
    }

    fn check_list<E: de::Error>(&self, level: usize, length: usize) -> Result<(), E> {
        let is_nested = self.depth.is_some_and(|depth| depth > 1);
        match self.spec.shape.get(level) {
            Some(dim) if is_nested && *dim != length => Err(E::custom(format_args!(
                "a list of {length} in \"data\" of input {:?}, where its shape {:?} has {dim}",
                self.spec.name, self.spec.shape
            ))),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Tensor, String> {
        let TensorSpec { name, shape, .. } = self.spec;
        let (want, have) = (self.want, self.data.len());
        Tensor::new(shape.clone(), self.data).map_err(|_| {
            format!("\"data\" of input {name:?} has {have} elements, shape {shape:?} needs {want}")
        })
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Big(u64),
    Real(f64),
    Flag(bool),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => n.fmt(f),
            Self::Big(n) => n.fmt(f),
            Self::Real(n) => write!(f, "{n:?}"),
            Self::Flag(n) => n.fmt(f),
        }
    }
}

/// Puts a number where only numbers of its type go; `None` if it is none.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn put(data: &mut TensorData, number: Number) -> Option<()> {
    let real = match number {
        Number::Int(n) => Some(n as f64),
        Number::Big(n) => Some(n as f64),
        Number::Real(n) => Some(n),
        Number::Flag(_) => None,
    };
    let int = match number {
        Number::Int(n) => Some(n),
        _ => None,
    };
    match data {
        TensorData::F32(v) => v.push(real.map(|n| n as f32).filter(|n| n.is_finite())?),
        TensorData::F64(v) => v.push(real?),
        TensorData::I8(v) => v.push(int?.try_into().ok()?),
        TensorData::U8(v) => v.push(int?.try_into().ok()?),
        TensorData::I16(v) => v.push(int?.try_into().ok()?),
        TensorData::U16(v) => v.push(int?.try_into().ok()?),
        TensorData::I32(v) => v.push(int?.try_into().ok()?),
        TensorData::I64(v) => v.push(int?),
        TensorData::Bool(v) => v.push(match number {
            Number::Flag(flag) => flag,
            Number::Int(0) => false,
            Number::Int(1) => true,
            _ => return None,
        }),
    }
    Some(())
}

/// One level of `data`: a list, or a number in one.
struct Axis<'s, 'a> {
    sink: &'s mut Sink<'a>,
    level: usize,
}

impl<'de> DeserializeSeed<'de> for Axis<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Axis<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.level == 0 { "a list of numbers" } else { "a number" };
        let TensorSpec { name, dtype, shape } = self.sink.spec;
        write!(f, "{kind} as \"data\" of input {name:?} ({}{shape:?})", datatype(*dtype))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Axis { sink, level } = self;
        if level >= sink.spec.shape.len().max(1) {
            let TensorSpec { name, shape, .. } = sink.spec;
            return Err(A::Error::custom(format_args!(
                "\"data\" of input {name:?} is nested deeper than its shape {shape:?}"
            )));
        }
        let mut length = 0;
        while list.next_element_seed(Axis { sink, level: level + 1 })?.is_some() {
            length += 1;
        }
        sink.check_list(level, length)
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<(), E> {
        self.number(Number::Int(n))
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<(), E> {
        self.number(i64::try_from(n).map_or(Number::Big(n), Number::Int))
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<(), E> {
        self.number(Number::Real(n))
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<(), E> {
        self.number(Number::Flag(flag))
    }
}

impl Axis<'_, '_> {
    fn number<E: de::Error>(self, number: Number) -> Result<(), E> {
        if self.level == 0 {
            return Err(E::invalid_type(de::Unexpected::Other("a single number"), &self));
        }
        self.sink.push(number, self.level)
    }
}
