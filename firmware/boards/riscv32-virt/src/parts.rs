//! The hart's timer, as clock and as watchdog, and the reset.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use fleetway_firmware::hardware::{Clock, Watchdog};
use riscv_rt::core_interrupt;

/// The core-local interruptor: when to interrupt, and what time it is.
const COMPARE: *mut u32 = 0x0200_4000 as *mut u32;
const TIME: *const u32 = 0x0200_bff8 as *const u32;
/// Ticks of the timer in a microsecond.
const TICKS_PER_US: u64 = 10;
/// A rest is over after this long: at 115,200 baud some tens of bytes come meanwhile.
const REST_US: u64 = 2_000;
/// QEMU's test device: this word resets the board.
const TEST: *mut u32 = 0x0010_0000 as *mut u32;
const RESET: u32 = 0x7777;

fn ticks() -> u64 {
    loop {
        // SAFETY: both halves of a register that only counts; read again if it carried over.
        let (high, low, again) = unsafe {
            let high = TIME.add(1).read_volatile();
            (high, TIME.read_volatile(), TIME.add(1).read_volatile())
        };
        if high == again {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}

/// When the watchdog bites, in ticks. One word after the other is written, and read by this hart
/// alone.
static BITES_AT: [AtomicU32; 2] = [const { AtomicU32::new(u32::MAX) }; 2];
/// Whether a rest is over.
static RESTED: AtomicBool = AtomicBool::new(false);

/// The board has no watchdog: the timer's interrupt resets it, whatever the program is doing.
pub(crate) struct Dog(());

impl Dog {
    pub(crate) fn new() -> Self {
        set_compare(u64::MAX);
        // SAFETY: the handler below is for this interrupt.
        unsafe {
            riscv::register::mie::set_mtimer();
            riscv::interrupt::enable();
        }
        Self(())
    }
}

impl Watchdog for Dog {
    fn feed(&mut self, ms: u32) {
        let bites_at = ticks() + u64::from(ms) * 1000 * TICKS_PER_US;
        BITES_AT[0].store(bites_at as u32, Ordering::Relaxed);
        BITES_AT[1].store((bites_at >> 32) as u32, Ordering::Relaxed);
        set_compare(bites_at);
    }
}

fn set_compare(at: u64) {
    // SAFETY: the register, the high half first out of reach, so that nothing in between counts.
    unsafe {
        COMPARE.add(1).write_volatile(u32::MAX);
        COMPARE.write_volatile(at as u32);
        COMPARE.add(1).write_volatile((at >> 32) as u32);
    }
}

#[core_interrupt(riscv::interrupt::Interrupt::MachineTimer)]
fn is_due() {
    let bites_at = bites_at();
    if ticks() >= bites_at {
        reset();
    }
    set_compare(bites_at);
    RESTED.store(true, Ordering::Relaxed);
}

fn bites_at() -> u64 {
    let [low, high] = [0, 1].map(|at| u64::from(BITES_AT[at].load(Ordering::Relaxed)));
    high << 32 | low
}

/// The time since the start.
pub(crate) struct Timer;

impl Clock for Timer {
    fn now_us(&self) -> u64 {
        ticks() / TICKS_PER_US
    }

    /// There is one timer, and the watchdog has it. The line's interrupt fills its ring meanwhile.
    fn rest(&self) {
        set_compare(bites_at().min(ticks() + REST_US * TICKS_PER_US));
        while !RESTED.swap(false, Ordering::Relaxed) {
            riscv::asm::wfi();
        }
    }
}

/// Starts the board again.
pub(crate) fn reset() -> ! {
    // SAFETY: the test device's register.
    unsafe { TEST.write_volatile(RESET) };
    halt()
}

/// There is nothing to run: waits for somebody to do something about it.
pub(crate) fn halt() -> ! {
    loop {
        riscv::asm::wfi();
    }
}
