//! A `ModelInferRequest` as it comes: read in place and bounded, because it is the one large
//! message that a stranger sends.
//!
//! A derived decoder would hold a struct of some hundred bytes for each empty submessage of two,
//! and a copy of each tensor. Here lists stop at what a model can have, tensors stay where they
//! are in the body, and the result is the same [`Header`] that JSON gives.

use std::borrow::Cow;

use fleetway_engine::limits::GRAPH_IO_MAX;

use crate::serving::oip::request::{Header, Input, RequestError, Source, Wanted};

/// A field's value, not yet looked into.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message, in the order of its bytes.
pub(crate) struct Fields<'a>(&'a [u8]);

const CUT: &str = "it ends inside a field";

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<(u32, Value<'a>), &'static str> {
        let (key, rest) = varint(self.0).ok_or(CUT)?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or("a field has no number")?;
        let (value, rest) = match key & 7 {
            0 => varint(rest).map(|(value, rest)| (Value::Varint(value), rest)),
            1 => rest
                .split_first_chunk()
                .map(|(word, rest)| (Value::Fixed64(u64::from_le_bytes(*word)), rest)),
            2 => varint(rest).and_then(|(length, rest)| {
                let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                Some((Value::Bytes(bytes), rest))
            }),
            5 => rest
                .split_first_chunk()
                .map(|(word, rest)| (Value::Fixed32(u32::from_le_bytes(*word)), rest)),
            _ => return Err("a field has no type of protobuf 3"),
        }
        .ok_or(CUT)?;
        self.0 = rest;
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// A number and what follows it.
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        // The tenth byte has the last bit alone.
        if at == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

/// Fields of one request: its inputs, outputs and tensors, and as many parameters.
const FIELDS_MAX: usize = 4 * GRAPH_IO_MAX + 8;

/// The fields of a request, as many as one can have.
fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u32, Value<'_>), RequestError>> {
    Fields::of(message).enumerate().map(|(at, field)| match field {
        _ if at >= FIELDS_MAX => Err(fail("more fields than a request can have")),
        field => field.map_err(fail),
    })
}

fn fail(text: &'static str) -> RequestError {
    RequestError::Message(text)
}

fn bytes<'a>(value: Value<'a>) -> Result<&'a [u8], RequestError> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(fail("a number stands where a text or a message belongs")),
    }
}

fn text<'a>(value: Value<'a>) -> Result<Cow<'a, str>, RequestError> {
    let text = std::str::from_utf8(bytes(value)?).map_err(|_| fail("a text is no UTF-8"))?;
    Ok(Cow::Borrowed(text))
}

/// What a request says of itself, and its tensors where they are.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// Which model.
    pub model: Cow<'a, str>,
    /// Which version the caller insists on; empty is any.
    pub version: Cow<'a, str>,
    /// The rest.
    pub header: Header<'a>,
}

/// Which model a request is for, without looking at the rest.
///
/// # Errors
/// [`RequestError::Message`].
pub fn target(message: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), RequestError> {
    let (mut model, mut version) = Default::default();
    for field in fields(message) {
        match field? {
            (1, value) => model = text(value)?,
            (2, value) => version = text(value)?,
            _ => {}
        }
    }
    Ok((model, version))
}

/// Reads a request in place.
///
/// # Errors
/// [`RequestError`], before anything was held that a model cannot have.
pub fn read(message: &[u8]) -> Result<Request<'_>, RequestError> {
    let mut request = Request::default();
    let mut raw = Vec::new();
    for field in fields(message) {
        let header = &mut request.header;
        match field? {
            (1, value) => request.model = text(value)?,
            (2, value) => request.version = text(value)?,
            (3, value) => header.id = Some(text(value)?).filter(|id| !id.is_empty()),
            (5, value) => {
                let fits = header.inputs.push(input(bytes(value)?)?);
                fits.then_some(()).ok_or(fail("more inputs than a model can have"))?;
            }
            (6, value) => {
                let fits = header.outputs.push(wanted(bytes(value)?)?);
                fits.then_some(()).ok_or(fail("more outputs than a model can have"))?;
            }
            (7, value) => {
                if raw.len() == GRAPH_IO_MAX {
                    return Err(fail("more raw_input_contents than a model can have inputs"));
                }
                raw.push(bytes(value)?);
            }
            _ => {}
        }
    }
    attach(&mut request.header, &raw)?;
    Ok(request)
}

/// All raw or all typed, as the protocol has it.
fn attach<'a>(header: &mut Header<'a>, raw: &[&'a [u8]]) -> Result<(), RequestError> {
    if raw.is_empty() {
        return Ok(());
    }
    let mut raw = raw.iter();
    for input in header.inputs.iter_mut() {
        if matches!(input.source, Source::Typed(_)) {
            return Err(fail("contents and raw_input_contents; send one of them"));
        }
        let bytes = raw.next().ok_or(fail("fewer raw_input_contents than inputs"))?;
        input.source = Source::Raw(bytes);
    }
    match raw.next() {
        None => Ok(()),
        Some(_) => Err(fail("more raw_input_contents than inputs")),
    }
}

fn input<'a>(message: &'a [u8]) -> Result<Input<'a>, RequestError> {
    let mut input = Input::default();
    for field in Fields::of(message) {
        match field.map_err(fail)? {
            (1, value) => input.name = text(value)?,
            (2, value) => input.datatype = text(value)?,
            (3, value) => dims(&mut input, value)?,
            (4, value) if parameter(bytes(value)?)?.0 == b"shared_memory_region" => {
                return Err(RequestError::SharedMemory(input.name.chars().take(64).collect()));
            }
            (5, value) => input.source = Source::Typed(bytes(value)?),
            _ => {}
        }
    }
    Ok(input)
}

/// One axis, or a packed list of them.
fn dims(input: &mut Input<'_>, value: Value<'_>) -> Result<(), RequestError> {
    let mut push = |dim| {
        let fits = input.shape.push(dim);
        if fits { Ok(()) } else { Err(fail("more axes than a tensor can have")) }
    };
    match value {
        Value::Varint(dim) => push(dim),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                let (dim, rest) = varint(packed).ok_or(fail(CUT))?;
                push(dim)?;
                packed = rest;
            }
            Ok(())
        }
        _ => Err(fail("a shape is no list of whole numbers")),
    }
}

fn wanted<'a>(message: &'a [u8]) -> Result<Wanted<'a>, RequestError> {
    let mut wanted = Wanted::default();
    for field in Fields::of(message) {
        match field.map_err(fail)? {
            (1, value) => wanted.name = text(value)?,
            (2, value) => {
                let (name, number) = parameter(bytes(value)?)?;
                if name == b"classification" {
                    let number = number.and_then(|number| usize::try_from(number).ok());
                    wanted.parameters.classification =
                        number.ok_or(fail("classification is no count"))?;
                }
            }
            _ => {}
        }
    }
    Ok(wanted)
}

/// Name and whole number of a parameter.
fn parameter(entry: &[u8]) -> Result<(&[u8], Option<u64>), RequestError> {
    let (mut name, mut number) = (&[][..], None);
    for field in Fields::of(entry) {
        match field.map_err(fail)? {
            (1, value) => name = bytes(value)?,
            (2, value) => {
                for choice in Fields::of(bytes(value)?) {
                    // int64_param and uint64_param
                    if let (2 | 5, Value::Varint(value)) = choice.map_err(fail)? {
                        number = Some(value);
                    }
                }
            }
            _ => {}
        }
    }
    Ok((name, number))
}
