//! The flash controller. It could show the flash as memory; here it lets the program speak to the
//! flash byte by byte, which is an SPI bus with one device.

use core::convert::Infallible;

use embedded_hal::spi::{ErrorType, Operation, SpiDevice};
use fleetway_firmware::drivers::spi_nor::SpiNor;

/// The controller's registers: what may be written, and how the first chip is spoken to.
const CONFIG: *mut u32 = 0x7e62_0000 as *mut u32;
const CHIP: *mut u32 = 0x7e62_0010 as *mut u32;
/// In the first: the first chip may be written.
const WRITABLE: u32 = 1 << 16;
/// In the second: byte by byte, and that the chip is not selected.
const BY_BYTE: u32 = 3;
const NOT_SELECTED: u32 = 1 << 2;

/// Where the bus is: an access there is a byte on it.
const BUS: *mut u8 = 0x8000_0000 as *mut u8;
const BYTES: u32 = 4 << 20;
/// What one erase clears.
pub(crate) const BLOCK: u32 = 4096;

/// The flash. There is one.
pub(crate) fn flash() -> SpiNor<Bus> {
    // SAFETY: the controller's register.
    unsafe { CONFIG.write_volatile(CONFIG.read_volatile() | WRITABLE) };
    select(false);
    SpiNor::new(Bus(()), BYTES)
}

/// The bus.
pub(crate) struct Bus(());

fn select(on: bool) {
    // SAFETY: the controller's register.
    unsafe { CHIP.write_volatile(BY_BYTE | if on { 0 } else { NOT_SELECTED }) };
}

impl ErrorType for Bus {
    type Error = Infallible;
}

impl SpiDevice for Bus {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
        select(true);
        for operation in operations {
            // SAFETY: in this mode an access to that place is a byte on the bus.
            let (put, get) = unsafe { (|byte| BUS.write_volatile(byte), || BUS.read_volatile()) };
            match operation {
                Operation::Write(bytes) => bytes.iter().for_each(|byte| put(*byte)),
                Operation::Read(bytes) => bytes.iter_mut().for_each(|byte| *byte = get()),
                // The controller knows no others, and `SpiNor` uses none.
                _ => {}
            }
        }
        select(false);
        Ok(())
    }
}
