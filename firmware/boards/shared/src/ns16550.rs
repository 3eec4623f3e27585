//! The 16550 UART, which boards have at other places and with their registers closer or farther apart.

use crate::uart::Registers;

const DATA: usize = 0;
const INTERRUPTS: usize = 1;
const FIFO_CONTROL: usize = 2;
const LINE_CONTROL: usize = 3;
const LINE_STATUS: usize = 5;
/// In the line's control: the first two registers are the divider; and eight bits to a byte.
const DIVIDER: u8 = 0x80;
const EIGHT_BITS: u8 = 0x03;
const RECEIVED: u8 = 1;
const TRANSMIT_EMPTY: u8 = 1 << 5;
/// Both are on, and the receiver interrupts at 14 bytes, or when no more come.
const FIFOS_ON: u8 = 0xc1;

/// The one at `BASE`, its registers `APART` bytes apart.
pub struct Ns16550<const BASE: usize, const APART: usize>(());

impl<const BASE: usize, const APART: usize> Ns16550<BASE, APART> {
    /// The line to the gateway, from now on.
    ///
    /// # Safety
    /// It is there, and nobody else has it.
    pub unsafe fn begun() -> Self {
        let uart = Self(());
        // As quick as it goes: how long "no more come" is depends on it.
        uart.set(LINE_CONTROL, DIVIDER | EIGHT_BITS);
        uart.set(DATA, 1);
        uart.set(INTERRUPTS, 0);
        uart.set(LINE_CONTROL, EIGHT_BITS);
        uart.set(FIFO_CONTROL, FIFOS_ON);
        uart.set(INTERRUPTS, RECEIVED);
        uart
    }

    /// The same once it has begun, for its interrupt.
    ///
    /// # Safety
    /// It has.
    pub const unsafe fn steal() -> Self {
        Self(())
    }

    fn set(&self, register: usize, value: u8) {
        // SAFETY: a register of the UART; whoever made this knows that it is there.
        unsafe { ((BASE + APART * register) as *mut u8).write_volatile(value) }
    }

    fn get(&self, register: usize) -> u8 {
        // SAFETY: as above.
        unsafe { ((BASE + APART * register) as *const u8).read_volatile() }
    }
}

impl<const BASE: usize, const APART: usize> Registers for Ns16550<BASE, APART> {
    fn take(&self) -> Option<u8> {
        (self.get(LINE_STATUS) & RECEIVED != 0).then(|| self.get(DATA))
    }

    fn interrupts(&self, on: bool) {
        self.set(INTERRUPTS, if on { RECEIVED } else { 0 });
    }

    fn put(&self, byte: u8) {
        while self.get(LINE_STATUS) & TRANSMIT_EMPTY == 0 {}
        self.set(DATA, byte);
    }
}
