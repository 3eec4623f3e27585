//! The CMSDK UART, asked and not interrupting: QEMU waits until a byte is taken. A real one would
//! need a ring of [`crate::WINDOW`] frames behind an interrupt.

use core::convert::Infallible;
use core::fmt;

use embedded_io::{ErrorType, Read, ReadReady, Write};

const FIRST: usize = 0x4000_4000;
const DISTANCE: usize = 0x1000;
const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CONTROL: usize = 0x08;
const DIVIDER: usize = 0x10;
const TRANSMIT_FULL: u32 = 1;
const RECEIVE_FULL: u32 = 2;
const BOTH_WAYS: u32 = 3;
/// Ticks of a bit, at 25 MHz; QEMU takes anything from 16 on.
const TICKS_PER_BIT: u32 = 25_000_000 / crate::BAUD;

/// One of them.
pub(crate) struct Uart(usize);

impl Uart {
    pub(crate) fn new(number: usize) -> Self {
        let uart = Self(FIRST + number * DISTANCE);
        uart.set(DIVIDER, TICKS_PER_BIT);
        uart.set(CONTROL, BOTH_WAYS);
        uart
    }

    fn set(&self, register: usize, value: u32) {
        // SAFETY: a register of this UART.
        unsafe { ((self.0 + register) as *mut u32).write_volatile(value) }
    }

    fn get(&self, register: usize) -> u32 {
        // SAFETY: a register of this UART.
        unsafe { ((self.0 + register) as *const u32).read_volatile() }
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.get(STATE) & RECEIVE_FULL != 0)
    }
}

impl Read for Uart {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let mut read = 0;
        while read < bytes.len() && (read == 0 || self.get(STATE) & RECEIVE_FULL != 0) {
            if self.get(STATE) & RECEIVE_FULL != 0 {
                bytes[read] = self.get(DATA) as u8;
                read += 1;
            }
        }
        Ok(read)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for byte in bytes {
            while self.get(STATE) & TRANSMIT_FULL != 0 {}
            self.set(DATA, (*byte).into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
