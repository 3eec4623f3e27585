//! A 16550 UART, asked and not interrupting: QEMU waits until a byte is taken.

use core::convert::Infallible;

use embedded_io::{ErrorType, Read, ReadReady, Write};

const BASE: usize = 0x1000_0000;
const DATA: usize = 0;
const FIFO_CONTROL: usize = 2;
const LINE_STATUS: usize = 5;
const RECEIVED: u8 = 1;
const TRANSMIT_EMPTY: u8 = 1 << 5;
const FIFOS_ON: u8 = 1;
/// Times that the next byte is looked for before the line counts as quiet: some bytes' time.
const LOOKS: u32 = 2_000;

/// The one that there is.
pub(crate) struct Uart(());

impl Uart {
    pub(crate) fn new() -> Self {
        set(FIFO_CONTROL, FIFOS_ON);
        Self(())
    }
}

fn set(register: usize, value: u8) {
    // SAFETY: a register of the UART.
    unsafe { ((BASE + register) as *mut u8).write_volatile(value) }
}

fn get(register: usize) -> u8 {
    // SAFETY: a register of the UART.
    unsafe { ((BASE + register) as *const u8).read_volatile() }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(get(LINE_STATUS) & RECEIVED != 0)
    }
}

impl Read for Uart {
    /// What comes without a pause.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let mut read = 0;
        while read < bytes.len() && (0..LOOKS).any(|_| get(LINE_STATUS) & RECEIVED != 0) {
            bytes[read] = get(DATA);
            read += 1;
        }
        Ok(read)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for byte in bytes {
            while get(LINE_STATUS) & TRANSMIT_EMPTY == 0 {}
            set(DATA, *byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
