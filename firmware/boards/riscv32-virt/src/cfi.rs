//! Parallel NOR flash with Intel's command set, two chips of 16 bits side by side, as QEMU's `virt`
//! board has it. QEMU's chips write ones as well; real ones do not, and so neither does this.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use fleetway_firmware::hardware::Flash;

const BASE: usize = 0x2200_0000;
const BYTES: usize = 32 << 20;
/// What one erase clears.
pub(crate) const BLOCK: u32 = 256 * 1024;

/// Commands, the same to both chips.
const PROGRAM: u32 = 0x0040_0040;
const ERASE: u32 = 0x0020_0020;
const CONFIRM: u32 = 0x00d0_00d0;
const CLEAR_STATUS: u32 = 0x0050_0050;
const READ_ARRAY: u32 = 0x00ff_00ff;
/// In the status: done; and every bit that says that it failed.
const READY: u32 = 0x0080_0080;
const FAILED: u32 = 0x003a_003a;
/// Times that the status is read until the flash counts as dead.
const LOOKS_MAX: u32 = 10_000_000;

/// The flash says that it failed, or says nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

impl NorFlashError for Failed {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

/// The flash. There is one.
pub(crate) struct Cfi(());

impl Cfi {
    pub(crate) fn new() -> Self {
        Self(())
    }

    fn word(at: u32) -> *mut u32 {
        assert!((at as usize) < BYTES);
        (BASE + (at as usize & !3)) as *mut u32
    }

    /// Two commands to the chips at `at`; then they show their cells again.
    fn command(&mut self, at: u32, first: u32, second: u32) -> Result<(), Failed> {
        let word = Self::word(at);
        // SAFETY: within the flash; `&mut self`: nobody reads it while it shows its status.
        unsafe {
            word.write_volatile(first);
            word.write_volatile(second);
            let status =
                (0..LOOKS_MAX).map(|_| word.read_volatile()).find(|status| status & READY == READY);
            word.write_volatile(CLEAR_STATUS);
            word.write_volatile(READ_ARRAY);
            match status {
                Some(status) if status & FAILED == 0 => Ok(()),
                _ => Err(Failed),
            }
        }
    }
}

impl ErrorType for Cfi {
    type Error = Failed;
}

impl ReadNorFlash for Cfi {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Failed> {
        bytes.copy_from_slice(&self.mapped()[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        BYTES
    }
}

impl NorFlash for Cfi {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = BLOCK as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Failed> {
        (from..to).step_by(Self::ERASE_SIZE).try_for_each(|at| self.command(at, ERASE, CONFIRM))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Failed> {
        for (at, word) in (offset..).step_by(4).zip(bytes.as_chunks::<4>().0) {
            // SAFETY: within the flash, which shows its cells now.
            let there = unsafe { Self::word(at).read_volatile() };
            self.command(at, PROGRAM, there & u32::from_le_bytes(*word))?;
        }
        Ok(())
    }
}

impl Flash for Cfi {
    fn mapped(&self) -> &[u8] {
        // SAFETY: all of the flash; whoever changes it borrows `self` alone.
        unsafe { core::slice::from_raw_parts(BASE as *const u8, BYTES) }
    }
}
