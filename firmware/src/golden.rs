//! The self-test's vectors, read where they lie: inputs, and the outputs that the model's author
//! saw. They are the very bytes that a Linux device decodes (`agent/engine/src/golden/`): postcard
//! of the inputs' and outputs' descriptions, then of the vectors. Here they are walked, not decoded:
//! a set is larger than the memory of a small board.

/// Vectors that a set may have; a Linux device takes no more either.
const VECTORS_MAX: u64 = 4_096;

/// What an element is; the engine of a Linux device knows more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    F32,
    I8,
    U8,
}

impl Element {
    /// By its place among the engine's types.
    fn of(place: u64) -> Result<Self, GoldenError> {
        match place {
            0 => Ok(Self::F32),
            2 => Ok(Self::I8),
            3 => Ok(Self::U8),
            _ => Err(GoldenError),
        }
    }

    fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 1 }
    }
}

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

/// A tensor's numbers where they lie.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'g> {
    element: Element,
    bytes: &'g [u8],
}

impl<'g> Numbers<'g> {
    fn iter(self) -> impl ExactSizeIterator<Item = f32> + 'g {
        let element = self.element;
        let number = move |bytes: &[u8]| match (element, bytes) {
            (Element::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Element::I8, &[byte, ..]) => f32::from(byte as i8),
            (_, &[byte, ..]) => f32::from(byte),
            // A chunk has at least a byte.
            (_, []) => 0.0,
        };
        self.bytes.chunks_exact(element.bytes()).map(number)
    }

    /// Copies the numbers into the first elements of `out`.
    ///
    /// # Errors
    /// [`GoldenError`] if there are not exactly as many.
    pub fn copy_to(self, out: &mut [f32]) -> Result<(), GoldenError> {
        let numbers = self.iter();
        if numbers.len() != out.len() {
            return Err(GoldenError);
        }
        out.iter_mut().zip(numbers).for_each(|(out, number)| *out = number);
        Ok(())
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
) -> Result<(Numbers<'_>, Numbers<'_>, Option<Place>), GoldenError> {
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
pub fn agrees(want: Numbers<'_>, have: &[f32]) -> bool {
    // A NaN on either side agrees with nothing but another one.
    let same = |(want, have): (f32, &f32)| want == *have || want.is_nan() && have.is_nan();
    want.iter().len() == have.len() && want.iter().zip(have).all(same)
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
        Element::of(self.number()?)?;
        self.shape()
    }

    fn shape(&mut self) -> Result<(), GoldenError> {
        for _ in 0..self.number()?.min(u64::from(u16::MAX)) {
            self.number()?;
        }
        Ok(())
    }

    /// A list of one tensor.
    fn only_tensor(&mut self) -> Result<Numbers<'g>, GoldenError> {
        if self.number()? != 1 {
            return Err(GoldenError);
        }
        self.shape()?;
        let element = Element::of(self.number()?)?;
        let bytes = self.number()?.checked_mul(element.bytes() as u64).ok_or(GoldenError)?;
        Ok(Numbers { element, bytes: self.bytes(bytes)? })
    }
}
