//! Memory between the stack and what lies below it that nobody may touch. A stack that grows too long
//! faults there, and the board starts again as after any crash; without that it would write over the
//! program's own statics, and go on. For processors with Arm's memory protection unit (v7-M).

use core::ptr::addr_of;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, exception};

/// Longer than any frame below the main function's: a call cannot step over it.
const BYTES_LOG2: u32 = 13;
const BYTES: usize = 1 << BYTES_LOG2;

/// Of the unit: whether it is on, which region is meant, where that is, and what is allowed.
const CONTROL: *mut u32 = 0xe000_ed94 as *mut u32;
const REGION: *mut u32 = 0xe000_ed98 as *mut u32;
const ADDRESS: *mut u32 = 0xe000_ed9c as *mut u32;
const ATTRIBUTES: *mut u32 = 0xe000_eda0 as *mut u32;
/// On, all other memory as it is without; off in a fault's handler, which has to put something on the
/// stack.
const ON: u32 = 1 << 2 | 1;
/// Nobody reads, writes or runs it.
const NOTHING: u32 = 1 << 28 | (BYTES_LOG2 - 1) << 1 | 1;

unsafe extern "C" {
    /// Where the statics end, by the linker's script of `cortex-m-rt`.
    static __sheap: u8;
}

/// The stack's end is where it faults, from now on.
///
/// # Safety
/// The stack is above, by more than twice [`BYTES`], and nothing else lies between it and the statics.
pub unsafe fn set() {
    let guard = (addr_of!(__sheap) as usize).next_multiple_of(BYTES);
    // SAFETY: the unit's registers, which nobody else writes.
    unsafe {
        REGION.write_volatile(0);
        ADDRESS.write_volatile(guard as u32);
        ATTRIBUTES.write_volatile(NOTHING);
        CONTROL.write_volatile(ON);
    }
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
}

/// A fault is a bug too, of the program or of what it runs: the board starts again.
///
/// # Safety
/// It is the processor's to call.
#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    SCB::sys_reset()
}
