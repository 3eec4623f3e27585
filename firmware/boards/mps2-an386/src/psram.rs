//! PSRAM that behaves as NOR flash: an erase makes ones, a program only zeros. QEMU keeps it in a
//! file, byte by byte, so that killing QEMU is cutting the power.

use core::convert::Infallible;

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use fleetway_firmware::hardware::Flash;

const BASE: usize = 0x2100_0000;
const BYTES: usize = 16 << 20;
/// What one erase clears, as most serial flashes do.
pub(crate) const BLOCK: u32 = 4096;

/// The flash. There is one.
pub(crate) struct Psram(());

impl Psram {
    pub(crate) fn new() -> Self {
        Self(())
    }

    fn set(&mut self, at: u32, byte: impl Fn(u8) -> u8) {
        assert!((at as usize) < BYTES);
        // SAFETY: within the PSRAM, which only this type names; `&mut self`: nobody reads it now.
        unsafe {
            let cell = (BASE + at as usize) as *mut u8;
            cell.write_volatile(byte(cell.read_volatile()));
        }
    }
}

impl ErrorType for Psram {
    type Error = Infallible;
}

impl ReadNorFlash for Psram {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.mapped()[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        BYTES
    }
}

impl NorFlash for Psram {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = BLOCK as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        (from..to).for_each(|at| self.set(at, |_| 0xff));
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        for (at, byte) in (offset..).zip(bytes) {
            self.set(at, |there| there & byte);
        }
        Ok(())
    }
}

impl Flash for Psram {
    fn mapped(&self) -> &[u8] {
        // SAFETY: all of the PSRAM; whoever changes it borrows `self` alone.
        unsafe { core::slice::from_raw_parts(BASE as *const u8, BYTES) }
    }
}
