//! UART 5, a 16550 with registers four bytes apart.

use cortex_m_rt::exception;
use fleetway_board::uart::{Registers, received};

const BASE: usize = 0x7e78_4000;
const DATA: usize = 0;
const INTERRUPTS: usize = 4;
const FIFO_CONTROL: usize = 2 * 4;
const LINE_CONTROL: usize = 3 * 4;
const LINE_STATUS: usize = 5 * 4;
/// In the line's control: the first two registers are the divider; and eight bits to a byte.
const DIVIDER: u32 = 0x80;
const EIGHT_BITS: u32 = 0x03;
const RECEIVED: u32 = 1;
const TRANSMIT_EMPTY: u32 = 1 << 5;
/// Both are on, and the receiver interrupts at 14 bytes, or when no more come.
const FIFOS_ON: u32 = 0xc1;
/// The processor's interrupt controller: what is let through, and which one is the UART's.
const LET_THROUGH: *mut u32 = 0xe000_e100 as *mut u32;
const LINE: i16 = 8;

/// The line to the gateway.
pub(crate) struct Uart(());

impl Uart {
    pub(crate) fn line() -> Self {
        // As quick as it goes: how long "no more come" is depends on it.
        set(LINE_CONTROL, DIVIDER | EIGHT_BITS);
        set(DATA, 1);
        set(INTERRUPTS, 0);
        set(LINE_CONTROL, EIGHT_BITS);
        set(FIFO_CONTROL, FIFOS_ON);
        set(INTERRUPTS, RECEIVED);
        // SAFETY: the controller's register; the handler below is for that interrupt.
        unsafe { LET_THROUGH.write_volatile(1 << LINE) };
        Self(())
    }
}

fn set(register: usize, value: u32) {
    // SAFETY: a register of the UART.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) }
}

fn get(register: usize) -> u32 {
    // SAFETY: a register of the UART.
    unsafe { ((BASE + register) as *const u32).read_volatile() }
}

impl Registers for Uart {
    fn take(&self) -> Option<u8> {
        (get(LINE_STATUS) & RECEIVED != 0).then(|| get(DATA) as u8)
    }

    fn interrupts(&self, on: bool) {
        set(INTERRUPTS, if on { RECEIVED } else { 0 });
    }

    fn put(&self, byte: u8) {
        while get(LINE_STATUS) & TRANSMIT_EMPTY == 0 {}
        set(DATA, byte.into());
    }
}

/// Every interrupt comes here; only one is let through.
///
/// # Safety
/// It is the processor's to call.
#[exception]
unsafe fn DefaultHandler(number: i16) {
    if number == LINE {
        received(&Uart(()));
    }
}
