//! The CMSDK UARTs: the first is the line, the second is for a person.

use cortex_m_rt::exception;
use fleetway_board::BAUD;
use fleetway_board::uart::{Registers, received};

const FIRST: usize = 0x4000_4000;
const DISTANCE: usize = 0x1000;
const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CONTROL: usize = 0x08;
const INTERRUPTS: usize = 0x0c;
const DIVIDER: usize = 0x10;
const TRANSMIT_FULL: u32 = 1;
const RECEIVE_FULL: u32 = 2;
const BOTH_WAYS: u32 = 3;
const RECEIVE_INTERRUPTS: u32 = 1 << 3;
const RECEIVED: u32 = 2;
/// Ticks of a bit, at 25 MHz; QEMU takes anything from 16 on.
const TICKS_PER_BIT: u32 = 25_000_000 / BAUD;
/// The interrupt controller: what is let through. The first UART's receiver is number 0.
const LET_THROUGH: *mut u32 = 0xe000_e100 as *mut u32;
const FIRST_RECEIVER: i16 = 0;

/// One of them.
pub(crate) struct Uart(usize);

impl Uart {
    /// The line to the gateway.
    pub(crate) fn line() -> Self {
        let uart = Self::begun(0);
        uart.interrupts(true);
        // SAFETY: the controller's register; the handler below is for that interrupt.
        unsafe { LET_THROUGH.write_volatile(1 << FIRST_RECEIVER) };
        uart
    }

    /// Text for a person.
    pub(crate) fn text() -> Self {
        Self::begun(1)
    }

    fn begun(number: usize) -> Self {
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

impl Registers for Uart {
    fn take(&self) -> Option<u8> {
        (self.get(STATE) & RECEIVE_FULL != 0).then(|| self.get(DATA) as u8)
    }

    fn interrupts(&self, on: bool) {
        self.set(CONTROL, BOTH_WAYS | if on { RECEIVE_INTERRUPTS } else { 0 });
    }

    fn put(&self, byte: u8) {
        while self.get(STATE) & TRANSMIT_FULL != 0 {}
        self.set(DATA, byte.into());
    }
}

/// Every interrupt comes here; only one is let through.
///
/// # Safety
/// It is the processor's to call.
#[exception]
unsafe fn DefaultHandler(number: i16) {
    if number == FIRST_RECEIVER {
        let uart = Uart(FIRST);
        uart.set(INTERRUPTS, RECEIVED);
        received(&uart);
    }
}
