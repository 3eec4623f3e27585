//! The self-test's vectors, read where they lie: inputs, and the outputs that the model's author
//! saw. They are the very bytes that a Linux device decodes (`agent/engine/src/golden/`): postcard
//! of the inputs' and outputs' descriptions, then of the vectors. Here they are walked, not decoded:
//! a set is larger than the memory of a small board.

/// Vectors that a set may have; a Linux device takes no more either.
const VECTORS_MAX: u64 = 4_096;
/// Position of `f32` among the element types.
const F32: u64 = 0;

/// Bytes that are no golden set, or one for another model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no golden set that this device can read, or one for another model")]
pub struct GoldenError;

/// Where in a set the next vector begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    at: usize,
    left: u64,
}

/// A tensor of real numbers where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Reals<'g>(&'g [[u8; 4]]);

impl Reals<'_> {
    /// Copies the numbers into the first elements of `out`.
    ///
    /// # Errors
    /// [`GoldenError`] if there are not exactly as many.
    pub fn copy_to(self, out: &mut [f32]) -> Result<(), GoldenError> {
        if self.0.len() != out.len() {
            return Err(GoldenError);
        }
        for (out, bytes) in out.iter_mut().zip(self.0) {
            *out = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }

    fn get(self, at: usize) -> f32 {
        f32::from_le_bytes(self.0[at])
    }
}

/// The first vector's place in `set`.
///
/// # Errors
/// [`GoldenError`] if it is none, or if it has not exactly one input and one output.
pub fn first(set: &[u8]) -> Result<Place, GoldenError> {
    let mut walk = Walk { set, at: 0 };
    for _ in 0..2 {
        if walk.number()? != 1 {
            return Err(GoldenError);
        }
        walk.description()?;
    }
    let left = walk.number()?;
    match left {
        1..=VECTORS_MAX => Ok(Place { at: walk.at, left }),
        _ => Err(GoldenError),
    }
}

/// The vector at `place`, and where the next one is; `None` for the next of the last.
///
/// # Errors
/// [`GoldenError`] for bytes that are no vector, and for bytes behind the last one.
#[allow(clippy::type_complexity, reason = "an input, an output, a place")]
pub fn vector(
    set: &[u8],
    place: Place,
) -> Result<(Reals<'_>, Reals<'_>, Option<Place>), GoldenError> {
    let mut walk = Walk { set, at: place.at };
    let (input, output) = (walk.only_tensor()?, walk.only_tensor()?);
    let left = place.left - 1;
    if left == 0 && walk.at != set.len() {
        return Err(GoldenError);
    }
    Ok((input, output, (left > 0).then_some(Place { at: walk.at, left })))
}

/// Whether the answer `have` is the one that the vector holds, to the bit: a compiled network's golden
/// vectors are its own answers, and every processor computes the same (`docs/qnn.md`). The
/// manifest's tolerance is for the ONNX file.
pub fn agrees(want: Reals<'_>, have: &[f32]) -> bool {
    let same = |(at, have): (usize, &f32)| {
        let want = want.get(at);
        // A NaN on either side agrees with nothing but another one.
        want == *have || want.is_nan() && have.is_nan()
    };
    want.0.len() == have.len() && have.iter().enumerate().all(same)
}

/// postcard, as far as a golden set needs it.
struct Walk<'g> {
    set: &'g [u8],
    at: usize,
}

impl<'g> Walk<'g> {
    /// An unsigned number: seven bits a byte, the low ones first.
    fn number(&mut self) -> Result<u64, GoldenError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.bytes(1)? else { return Err(GoldenError) };
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(GoldenError)
    }

    fn bytes(&mut self, len: u64) -> Result<&'g [u8], GoldenError> {
        let len = usize::try_from(len).map_err(|_| GoldenError)?;
        let rest = self.set.get(self.at..).ok_or(GoldenError)?;
        let bytes = rest.get(..len).ok_or(GoldenError)?;
        self.at += len;
        Ok(bytes)
    }

    /// Name, element type and shape of a tensor.
    fn description(&mut self) -> Result<(), GoldenError> {
        let name = self.number()?;
        self.bytes(name)?;
        if self.number()? != F32 {
            return Err(GoldenError);
        }
        self.shape()
    }

    fn shape(&mut self) -> Result<(), GoldenError> {
        for _ in 0..self.number()?.min(u64::from(u16::MAX)) {
            self.number()?;
        }
        Ok(())
    }

    /// A list of one tensor.
    fn only_tensor(&mut self) -> Result<Reals<'g>, GoldenError> {
        if self.number()? != 1 {
            return Err(GoldenError);
        }
        self.shape()?;
        if self.number()? != F32 {
            return Err(GoldenError);
        }
        let elements = self.number()?;
        let bytes = self.bytes(elements.checked_mul(4).ok_or(GoldenError)?)?;
        Ok(Reals(bytes.as_chunks::<4>().0))
    }
}
