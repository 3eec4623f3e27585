//! The 16550 UART, and the interrupt controller between it and the hart.

use fleetway_board::uart::{Registers, received};
use riscv_rt::core_interrupt;

const BASE: usize = 0x1000_0000;
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
/// The interrupt controller: the UART's line, its priority, what the first hart lets through, and
/// what it claims.
const LINE: u32 = 10;
const PRIORITY: *mut u32 = (0x0c00_0000 + 4 * LINE as usize) as *mut u32;
const LET_THROUGH: *mut u32 = 0x0c00_2000 as *mut u32;
const CLAIM: *mut u32 = 0x0c20_0004 as *mut u32;

/// The one that there is.
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
        // SAFETY: the controller's registers; the handler below is for that interrupt.
        unsafe {
            PRIORITY.write_volatile(1);
            LET_THROUGH.write_volatile(1 << LINE);
            riscv::register::mie::set_mext();
        }
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

impl Registers for Uart {
    fn take(&self) -> Option<u8> {
        (get(LINE_STATUS) & RECEIVED != 0).then(|| get(DATA))
    }

    fn interrupts(&self, on: bool) {
        set(INTERRUPTS, if on { RECEIVED } else { 0 });
    }

    fn put(&self, byte: u8) {
        while get(LINE_STATUS) & TRANSMIT_EMPTY == 0 {}
        set(DATA, byte);
    }
}

#[core_interrupt(riscv::interrupt::Interrupt::MachineExternal)]
fn external() {
    // SAFETY: what is claimed is the UART's, which alone is let through, and is given back.
    unsafe {
        let line = CLAIM.read_volatile();
        received(&Uart(()));
        CLAIM.write_volatile(line);
    }
}
