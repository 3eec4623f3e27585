//! A list that stays where it was read: it was checked once, element by element, and is walked
//! whenever somebody asks. It takes a pointer and two numbers of memory, however long it is.

use core::fmt;
use core::marker::PhantomData;

use crate::codec::{Decode, Malformed, Reader};

/// A list in the bytes of a message.
pub struct List<'a, T> {
    bytes: &'a [u8],
    len: usize,
    of: PhantomData<fn() -> T>,
}

impl<'a, T: Decode<'a>> List<'a, T> {
    /// Reads a list of at most `max` elements, all of which `is_sane` takes.
    pub(crate) fn read(
        reader: &mut Reader<'a>,
        max: usize,
        is_sane: impl Fn(&T) -> bool,
    ) -> Result<Self, Malformed> {
        let len = reader.length(max)?;
        let before = reader.0;
        for _ in 0..len {
            if !is_sane(&reader.take()?) {
                return Err(Malformed);
            }
        }
        let bytes = before.get(..before.len() - reader.0.len()).unwrap_or_default();
        Ok(Self { bytes, len, of: PhantomData })
    }

    /// Its elements.
    pub fn iter(&self) -> Elements<'a, T> {
        Elements { reader: Reader(self.bytes), left: self.len, of: PhantomData }
    }
}

impl<T> List<'_, T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        Self { bytes: &[], len: 0, of: PhantomData }
    }
}

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<'_, T> {}

impl<'a, T: Decode<'a> + fmt::Debug> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Walks a [`List`].
pub struct Elements<'a, T> {
    reader: Reader<'a>,
    left: usize,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Elements<'_, T> {
    fn clone(&self) -> Self {
        Self { of: PhantomData, ..*self }
    }
}

impl<'a, T: Decode<'a>> Iterator for Elements<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        // It was read before.
        self.reader.take().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'a, T: Decode<'a>> ExactSizeIterator for Elements<'a, T> {}
