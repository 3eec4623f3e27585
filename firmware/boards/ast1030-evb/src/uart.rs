//! UART 5, and the processor's interrupt controller behind it.

use cortex_m_rt::exception;
use fleetway_board::ns16550::Ns16550;
use fleetway_board::uart::received;

/// The fifth.
pub(crate) type Uart = Ns16550<0x7e78_4000, 4>;

/// The interrupt controller: what is let through, and which one is the UART's.
const LET_THROUGH: *mut u32 = 0xe000_e100 as *mut u32;
const LINE: i16 = 8;

/// The line to the gateway.
pub(crate) fn line() -> Uart {
    // SAFETY: the board has it, `main` alone comes here, and the handler below is for its interrupt.
    unsafe {
        let uart = Uart::begun();
        LET_THROUGH.write_volatile(1 << LINE);
        uart
    }
}

/// Every interrupt comes here; only one is let through.
///
/// # Safety
/// It is the processor's to call.
#[exception]
unsafe fn DefaultHandler(number: i16) {
    if number == LINE {
        // SAFETY: only what has begun interrupts.
        let uart = unsafe { Uart::steal() };
        received(&uart);
    }
}
