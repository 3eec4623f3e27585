//! The CMSDK UART. What comes is taken by its interrupt into a ring; when that is full nothing is
//! taken any more, and QEMU waits. What goes is written byte by byte.

use core::convert::Infallible;
use core::fmt;

use cortex_m_rt::exception;
use embedded_io::{ErrorType, Read, ReadReady, Write};
use fleetway_firmware::drivers::ring::Ring;

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
const TICKS_PER_BIT: u32 = 25_000_000 / crate::BAUD;
/// The interrupt controller: what is let through. The first UART's receiver is number 0.
const LET_THROUGH: *mut u32 = 0xe000_e100 as *mut u32;
const FIRST_RECEIVER: i16 = 0;

/// Room for what comes between two turns: [`crate::WINDOW`] frames, and some more.
static RING: Ring<2048> = Ring::new();

/// One of them. The first one receives.
pub(crate) struct Uart(usize);

impl Uart {
    pub(crate) fn new(number: usize) -> Self {
        let uart = Self(FIRST + number * DISTANCE);
        uart.set(DIVIDER, TICKS_PER_BIT);
        uart.set(CONTROL, BOTH_WAYS | if number == 0 { RECEIVE_INTERRUPTS } else { 0 });
        if number == 0 {
            // SAFETY: the controller's register; the handler below is for that interrupt.
            unsafe { LET_THROUGH.write_volatile(1 << FIRST_RECEIVER) };
        }
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

    /// Into the ring, as long as there is room.
    fn take(&self) {
        while self.get(STATE) & RECEIVE_FULL != 0 {
            if RING.is_full() {
                return self.set(CONTROL, BOTH_WAYS);
            }
            RING.put(self.get(DATA) as u8);
        }
    }
}

/// Every interrupt comes here; only one is let through.
///
/// # Safety
/// It is the processor's to call.
#[exception]
unsafe fn DefaultHandler(number: i16) {
    if number != FIRST_RECEIVER {
        return;
    }
    let uart = Uart(FIRST);
    uart.set(INTERRUPTS, RECEIVED);
    uart.take();
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(RING.waiting() > 0)
    }
}

impl Read for Uart {
    /// What is in the ring; it is asked for only when something is.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let was_full = RING.is_full();
        let read = RING.take(bytes);
        if was_full {
            // What waits in the UART has interrupted already: it is taken here.
            self.set(CONTROL, BOTH_WAYS | RECEIVE_INTERRUPTS);
            cortex_m::interrupt::free(|_| self.take());
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
