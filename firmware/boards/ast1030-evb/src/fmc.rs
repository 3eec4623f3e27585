//! The flash controller, in its two modes: it shows the flash as memory, or it lets the program speak
//! to the flash byte by byte, which is an SPI bus with one device.

use core::convert::Infallible;

use embedded_hal::spi::{ErrorType as SpiErrorType, Operation, SpiDevice};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use fleetway_firmware::drivers::spi_nor::{SpiNor, SpiNorError};
use fleetway_firmware::hardware::Flash;

/// The controller's registers: what may be written, and how the first chip is spoken to.
const CONFIG: *mut u32 = 0x7e62_0000 as *mut u32;
const CHIP: *mut u32 = 0x7e62_0010 as *mut u32;
/// In the first: the first chip may be written.
const WRITABLE: u32 = 1 << 16;
/// In the second: the mode, and that the chip is not selected.
const MODE: u32 = 3;
const BY_BYTE: u32 = 3;
const AS_MEMORY: u32 = 0;
const NOT_SELECTED: u32 = 1 << 2;

/// Where the flash shows itself, and where its bus is in the other mode.
const WINDOW: *mut u8 = 0x8000_0000 as *mut u8;
const BYTES: u32 = 4 << 20;

/// The bus.
pub(crate) struct Bus(());

fn set_mode(bits: u32) {
    // SAFETY: the controller's register.
    unsafe { CHIP.write_volatile(CHIP.read_volatile() & !(MODE | NOT_SELECTED) | bits) };
}

impl SpiErrorType for Bus {
    type Error = Infallible;
}

impl SpiDevice for Bus {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
        set_mode(BY_BYTE);
        for operation in operations {
            // SAFETY: in this mode an access to the window is a byte on the bus.
            let (put, get) =
                unsafe { (|byte| WINDOW.write_volatile(byte), || WINDOW.read_volatile()) };
            match operation {
                Operation::Write(bytes) => bytes.iter().for_each(|byte| put(*byte)),
                Operation::Read(bytes) => bytes.iter_mut().for_each(|byte| *byte = get()),
                // The controller knows no others, and `SpiNor` uses none.
                _ => {}
            }
        }
        set_mode(BY_BYTE | NOT_SELECTED);
        set_mode(AS_MEMORY);
        Ok(())
    }
}

/// The flash, seen both ways. There is one.
pub(crate) struct SpiFlash(SpiNor<Bus>);

impl SpiFlash {
    pub(crate) fn new() -> Self {
        // SAFETY: the controller's register.
        unsafe { CONFIG.write_volatile(CONFIG.read_volatile() | WRITABLE) };
        set_mode(AS_MEMORY);
        Self(SpiNor::new(Bus(()), BYTES))
    }
}

impl ErrorType for SpiFlash {
    type Error = SpiNorError;
}

impl ReadNorFlash for SpiFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), SpiNorError> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl NorFlash for SpiFlash {
    const WRITE_SIZE: usize = SpiNor::<Bus>::WRITE_SIZE;
    const ERASE_SIZE: usize = SpiNor::<Bus>::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), SpiNorError> {
        self.0.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), SpiNorError> {
        self.0.write(offset, bytes)
    }
}

impl Flash for SpiFlash {
    fn mapped(&self) -> &[u8] {
        // SAFETY: the controller shows the flash as memory whenever nobody borrows `self` alone.
        unsafe { core::slice::from_raw_parts(WINDOW, BYTES as usize) }
    }
}
