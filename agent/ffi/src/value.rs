//! Tensors and answers as C sees them.
#![allow(unsafe_code, reason = "pointers come from C and go there; each use is argued")]

use std::ffi::{CStr, CString, c_char, c_void};

use fleetway_agent::embed::{Answer, DType, NamedTensor, Tensor, TensorData};

use crate::code::{Failure, c_text};

/// Type of the elements of a tensor.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetwayType {
    /// 32-bit float.
    F32 = 1,
    /// 64-bit float.
    F64 = 2,
    /// 8-bit signed.
    I8 = 3,
    /// 8-bit unsigned.
    U8 = 4,
    /// 16-bit signed.
    I16 = 5,
    /// 16-bit unsigned.
    U16 = 6,
    /// 32-bit signed.
    I32 = 7,
    /// 64-bit signed.
    I64 = 8,
    /// One byte, 0 or 1.
    Bool = 9,
}

/// A tensor with its name: elements in row-major order, as they lie in memory (little-endian).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FleetwayTensor {
    /// Name of the input or output.
    pub name: *const c_char,
    /// A `FleetwayType`.
    pub datatype: u32,
    /// Number of axes.
    pub rank: u32,
    /// Elements on each axis.
    pub shape: *const u64,
    /// The elements; need not be aligned where they are an input.
    pub data: *const c_void,
    /// Bytes of `data`.
    pub data_bytes: u64,
}

/// An answer and which signed release gave it. Everything in it is the library's, until
/// `fleetway_answer_free`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FleetwayAnswer {
    /// The model that was asked.
    pub model: *const c_char,
    /// What people call the release.
    pub version: *const c_char,
    /// Digest of its manifest, hexadecimal.
    pub release: *const c_char,
    /// Where its bytes are: `a`, `b` or `factory`.
    pub slot: *const c_char,
    /// The outputs in the model's order.
    pub outputs: *const FleetwayTensor,
    /// How many.
    pub output_count: u32,
}

const TYPES: [(FleetwayType, DType); 9] = [
    (FleetwayType::F32, DType::F32),
    (FleetwayType::F64, DType::F64),
    (FleetwayType::I8, DType::I8),
    (FleetwayType::U8, DType::U8),
    (FleetwayType::I16, DType::I16),
    (FleetwayType::U16, DType::U16),
    (FleetwayType::I32, DType::I32),
    (FleetwayType::I64, DType::I64),
    (FleetwayType::Bool, DType::Bool),
];

fn dtype_of(number: u32) -> Result<DType, Failure> {
    let found = TYPES.iter().find(|(name, _)| *name as u32 == number);
    found
        .map(|(_, dtype)| *dtype)
        .ok_or_else(|| Failure::argument(format!("datatype {number} is no FleetwayType")))
}

fn number_of(dtype: DType) -> u32 {
    TYPES.iter().find(|(_, of)| *of == dtype).map_or(0, |(name, _)| *name as u32)
}

/// A text of the caller's.
///
/// # Safety
/// `text` is null, or a C string that stays as it is while the result lives.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::argument(format!("{what} is NULL")));
    }
    // SAFETY: not null, and by this function's own contract a C string that outlives the result.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::argument(format!("{what} is not UTF-8")))
}

/// A list of the caller's. An empty one may be null.
///
/// # Safety
/// `items` is null, or points to `count` initialized, aligned items that stay as they are while the
/// result lives.
unsafe fn list<'a, T>(items: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if items.is_null() || !items.is_aligned() {
        return Err(Failure::argument(format!("{what} is NULL or not aligned")));
    }
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(Failure::argument(format!("{what} is longer than memory")));
    }
    // SAFETY: not null, aligned and of a possible length by the checks above; initialized and
    // unchanged by this function's own contract.
    Ok(unsafe { std::slice::from_raw_parts(items, count) })
}

/// The caller's tensors, copied.
///
/// # Safety
/// `tensors` is null, or points to `count` tensors whose pointers are null or point to what their fields
/// say, and nobody writes there meanwhile.
pub(crate) unsafe fn tensors(
    tensors: *const FleetwayTensor,
    count: u32,
) -> Result<Vec<NamedTensor>, Failure> {
    // SAFETY: handed through from this function's own contract.
    let tensors = unsafe { list(tensors, count as usize, "inputs") }?;
    // SAFETY: as above, for each of them.
    tensors.iter().map(|tensor| unsafe { named(tensor) }).collect()
}

/// One of them.
///
/// # Safety
/// As for [`tensors`].
unsafe fn named(tensor: &FleetwayTensor) -> Result<NamedTensor, Failure> {
    // SAFETY: `name` is a C string or null, by this function's own contract.
    let name = unsafe { text(tensor.name, "the name of an input") }?.to_owned();
    let too_long = || Failure::argument(format!("input {name:?} is longer than memory"));
    // SAFETY: `shape` has `rank` numbers, by this function's own contract.
    let shape = unsafe { list(tensor.shape, tensor.rank as usize, "the shape of an input") }?;
    let shape = shape.iter().map(|dim| usize::try_from(*dim));
    let shape: Vec<usize> = shape.collect::<Result<_, _>>().map_err(|_| too_long())?;
    let bytes = usize::try_from(tensor.data_bytes).map_err(|_| too_long())?;
    // SAFETY: `data` has `data_bytes` bytes, by this function's own contract; bytes need no alignment.
    let data = unsafe { list(tensor.data.cast::<u8>(), bytes, "the data of an input") }?;
    let made = Tensor::from_le_bytes(dtype_of(tensor.datatype)?, &shape, data);
    let tensor = made.map_err(|error| {
        Failure::new(crate::code::FleetwayCode::Input, format!("input {name:?}: {error}"))
    })?;
    Ok(NamedTensor { name, tensor })
}

/// An answer, and everything that its pointers point to. The face is first, so that its address is
/// the whole's.
#[repr(C)]
struct Owned {
    face: FleetwayAnswer,
    texts: [CString; 4],
    names: Vec<CString>,
    shapes: Vec<Vec<u64>>,
    tensors: Vec<FleetwayTensor>,
    answer: Answer,
}

/// An answer for C, to be given back to [`free`].
pub(crate) fn give(answer: Answer) -> *mut FleetwayAnswer {
    let texts = [&answer.model, &answer.version, &answer.release].map(|text| c_text(text));
    let [model, version, release] = texts;
    let slot = c_text(answer.slot);
    let names: Vec<_> = answer.outputs.iter().map(|output| c_text(&output.name)).collect();
    let shape =
        |output: &NamedTensor| output.tensor.shape().iter().map(|dim| *dim as u64).collect();
    let shapes: Vec<Vec<u64>> = answer.outputs.iter().map(shape).collect();
    let tensor = |at: usize, output: &NamedTensor| FleetwayTensor {
        name: names[at].as_ptr(),
        datatype: number_of(output.tensor.dtype()),
        rank: u32::try_from(shapes[at].len()).unwrap_or(0),
        shape: shapes[at].as_ptr(),
        data: address(output.tensor.data()),
        data_bytes: output.tensor.len_bytes() as u64,
    };
    let tensors: Vec<_> = answer.outputs.iter().enumerate().map(|(at, o)| tensor(at, o)).collect();
    // What is pointed to is on the heap, each part in its own place, and does not move with the parts.
    let face = FleetwayAnswer {
        model: model.as_ptr(),
        version: version.as_ptr(),
        release: release.as_ptr(),
        slot: slot.as_ptr(),
        outputs: tensors.as_ptr(),
        output_count: u32::try_from(tensors.len()).unwrap_or(0),
    };
    let texts = [model, version, release, slot];
    Box::into_raw(Box::new(Owned { face, texts, names, shapes, tensors, answer })).cast()
}

/// Where the elements lie.
fn address(data: &TensorData) -> *const c_void {
    match data {
        TensorData::F32(v) => v.as_ptr().cast(),
        TensorData::F64(v) => v.as_ptr().cast(),
        TensorData::I8(v) => v.as_ptr().cast(),
        TensorData::U8(v) => v.as_ptr().cast(),
        TensorData::I16(v) => v.as_ptr().cast(),
        TensorData::U16(v) => v.as_ptr().cast(),
        TensorData::I32(v) => v.as_ptr().cast(),
        TensorData::I64(v) => v.as_ptr().cast(),
        TensorData::Bool(v) => v.as_ptr().cast(),
    }
}

/// Takes an answer back.
///
/// # Safety
/// `answer` is null, or came from [`give`] and was not given back before.
pub(crate) unsafe fn free(answer: *mut FleetwayAnswer) {
    if !answer.is_null() {
        // SAFETY: it came from `give`, which boxed an `Owned` and cast its address, and nobody
        // has freed it, by this function's own contract.
        let owned = unsafe { Box::from_raw(answer.cast::<Owned>()) };
        let Owned { face: _, texts, names, shapes, tensors, answer } = *owned;
        drop((texts, names, shapes, tensors, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let tensor = |shape: &[usize], data| Tensor::new(shape.to_vec(), data).expect("fits");
        let named = |name: &str, tensor| NamedTensor { name: name.into(), tensor };
        Answer {
            model: "digits".into(),
            version: "v2".into(),
            release: "1a".repeat(32),
            slot: "b",
            outputs: vec![
                named("scores", tensor(&[1, 2], TensorData::F32(vec![0.5, -2.0]))),
                named("n", tensor(&[], TensorData::I64(vec![7]))),
                named("none", tensor(&[0, 4], TensorData::Bool(vec![]))),
            ],
        }
    }

    #[test]
    fn what_goes_out_comes_back_the_same() {
        let given = answer();
        let out = give(given.clone());
        // SAFETY: `give` made it, and it is freed below.
        let face = unsafe { &*out };
        // SAFETY: the outputs of an answer that lives.
        let back = unsafe { tensors(face.outputs, face.output_count) }.expect("tensors");
        assert_eq!(back, given.outputs);
        // SAFETY: a text of an answer that lives.
        assert_eq!(unsafe { text(face.release, "release") }.expect("text"), given.release);
        // SAFETY: as above.
        assert_eq!(unsafe { text(face.slot, "slot") }.expect("text"), "b");
        // SAFETY: `give` made it, and nobody freed it.
        unsafe { free(out) };
        // SAFETY: null is allowed.
        unsafe { free(std::ptr::null_mut()) };
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let name = c"x";
        let (shape, data) = ([2u64], [1.0f32, 2.0]);
        let good = FleetwayTensor {
            name: name.as_ptr(),
            datatype: FleetwayType::F32 as u32,
            rank: 1,
            shape: shape.as_ptr(),
            data: data.as_ptr().cast(),
            data_bytes: 8,
        };
        let read = |tensor: FleetwayTensor| {
            // SAFETY: its pointers are null, or those of `good`, whose places outlive the call, and
            // no length is larger than there.
            unsafe { tensors(&tensor, 1) }.map_err(|failure| failure.text)
        };
        assert!(read(good).is_ok());
        let null: *const c_void = std::ptr::null();
        assert!(read(FleetwayTensor { name: null.cast(), ..good }).is_err());
        assert!(read(FleetwayTensor { shape: null.cast(), ..good }).is_err());
        assert!(read(FleetwayTensor { data: null, ..good }).is_err());
        for datatype in [0, 10, u32::MAX] {
            let error = read(FleetwayTensor { datatype, ..good }).expect_err("no type");
            assert!(error.contains("no FleetwayType"), "{error}");
        }
        let error = read(FleetwayTensor { data_bytes: 7, ..good }).expect_err("short");
        assert!(error.contains("8 bytes"), "{error}");
        assert!(read(FleetwayTensor { data_bytes: u64::MAX, ..good }).is_err());
        // SAFETY: null with a count is checked before it is looked at.
        assert!(unsafe { tensors(std::ptr::null(), 1) }.is_err());
        // SAFETY: nothing is read.
        assert!(unsafe { tensors(std::ptr::null(), 0) }.expect("none").is_empty());
    }
}
