//! Flash that the processor does not see as memory, such as a serial one on a plain SPI bus: a
//! copy of what is used of it lies in memory that the board lends, and is read anew from the chip
//! after every change. A model then runs from the copy.
//!
//! The copy is the chip's word, not ours: what was meant to be written is never put there, so that
//! whoever reads back what he wrote reads cells.

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

use crate::hardware::Flash;

/// The flash and its copy.
pub struct Mirror<'m, N> {
    nor: N,
    copy: &'m mut [u8],
}

impl<'m, N: NorFlash> Mirror<'m, N> {
    /// The first `copy.len()` bytes of `nor`, read now.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(mut nor: N, copy: &'m mut [u8]) -> Result<Self, N::Error> {
        nor.read(0, copy)?;
        Ok(Self { nor, copy })
    }

    /// Does something to the cells from `from` to `to`, and reads them whatever came of it.
    fn change(
        &mut self,
        from: u32,
        to: u32,
        what: impl FnOnce(&mut N) -> Result<(), N::Error>,
    ) -> Result<(), N::Error> {
        let done = what(&mut self.nor);
        let read = match self.copy.get_mut(from as usize..to as usize) {
            Some(cells) => self.nor.read(from, cells),
            None => Ok(()),
        };
        done.and(read)
    }
}

impl<N: NorFlash> ErrorType for Mirror<'_, N> {
    type Error = N::Error;
}

impl<N: NorFlash> ReadNorFlash for Mirror<'_, N> {
    const READ_SIZE: usize = N::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), N::Error> {
        self.nor.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.copy.len()
    }
}

impl<N: NorFlash> NorFlash for Mirror<'_, N> {
    const WRITE_SIZE: usize = N::WRITE_SIZE;
    const ERASE_SIZE: usize = N::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), N::Error> {
        self.change(from, to, |nor| nor.erase(from, to))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), N::Error> {
        let to = offset.saturating_add(bytes.len() as u32);
        self.change(offset, to, |nor| nor.write(offset, bytes))
    }
}

impl<N: NorFlash> Flash for Mirror<'_, N> {
    fn mapped(&self) -> &[u8] {
        self.copy
    }
}
