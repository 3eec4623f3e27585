//! The board's UART, and the interrupt controller between it and the hart.

use fleetway_board::ns16550::Ns16550;
use fleetway_board::uart::received;
use riscv_rt::core_interrupt;

/// The one that there is.
pub(crate) type Uart = Ns16550<0x1000_0000, 1>;

/// The interrupt controller: the UART's line, its priority, what the first hart lets through, and
/// what it claims.
const LINE: u32 = 10;
const PRIORITY: *mut u32 = (0x0c00_0000 + 4 * LINE as usize) as *mut u32;
const LET_THROUGH: *mut u32 = 0x0c00_2000 as *mut u32;
const CLAIM: *mut u32 = 0x0c20_0004 as *mut u32;

/// The line to the gateway.
pub(crate) fn line() -> Uart {
    // SAFETY: the board has it, `main` alone comes here, and the handler below is for its interrupt.
    unsafe {
        let uart = Uart::begun();
        PRIORITY.write_volatile(1);
        LET_THROUGH.write_volatile(1 << LINE);
        riscv::register::mie::set_mext();
        uart
    }
}

#[core_interrupt(riscv::interrupt::Interrupt::MachineExternal)]
fn external() {
    // SAFETY: what is claimed is the UART's, which alone is let through, and is given back.
    unsafe {
        let line = CLAIM.read_volatile();
        received(&Uart::steal());
        CLAIM.write_volatile(line);
    }
}
