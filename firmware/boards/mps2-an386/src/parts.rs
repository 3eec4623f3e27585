//! Watchdog and timers.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use fleetway_firmware::hardware::{Clock, Watchdog};

/// The CMSDK watchdog: a counter that interrupts when it gets to 0, and resets the second time.
const WATCHDOG: usize = 0x4000_8000;
const LOAD: usize = 0x00;
const CONTROL: usize = 0x08;
const CLEAR: usize = 0x0c;
const LOCK: usize = 0xc00;
const UNLOCK: u32 = 0x1acc_e551;
const INTERRUPT_AND_RESET: u32 = 3;
/// The first CMSDK timer, which counts down.
const TIMER: usize = 0x4000_0000;
const VALUE: usize = 0x04;
const RELOAD: usize = 0x08;
/// Ticks of both in a microsecond.
const TICKS_PER_US: u32 = 25;
/// A rest is over after at most this long: at 115,200 baud some tens of bytes come meanwhile.
const REST_US: u32 = 2_000;
/// Whether the system timer has come round since this was looked at.
static RESTED: AtomicBool = AtomicBool::new(false);

fn write(base: usize, register: usize, value: u32) {
    // SAFETY: a device register of this board, and nothing else.
    unsafe { ((base + register) as *mut u32).write_volatile(value) }
}

fn read(base: usize, register: usize) -> u32 {
    // SAFETY: a device register of this board, and nothing else.
    unsafe { ((base + register) as *const u32).read_volatile() }
}

/// The watchdog.
pub(crate) struct Dog;

impl Watchdog for Dog {
    fn feed(&mut self, ms: u32) {
        write(WATCHDOG, LOCK, UNLOCK);
        // It resets the second time that it gets to 0.
        let half = u64::from(ms) * 1000 * u64::from(TICKS_PER_US) / 2;
        write(WATCHDOG, LOAD, u32::try_from(half).unwrap_or(u32::MAX));
        write(WATCHDOG, CONTROL, INTERRUPT_AND_RESET);
        write(WATCHDOG, CLEAR, 1);
    }
}

/// The time since the start.
pub(crate) struct Timer {
    last: Cell<u32>,
    ticks: Cell<u64>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        write(TIMER, RELOAD, u32::MAX);
        write(TIMER, VALUE, u32::MAX);
        write(TIMER, 0, 1);
        Self { last: Cell::new(u32::MAX), ticks: Cell::new(0) }
    }

    /// What ends a rest begins to tick.
    pub(crate) fn with_rests(self, mut timer: SYST) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(REST_US * TICKS_PER_US - 1);
        timer.clear_current();
        timer.enable_counter();
        timer.enable_interrupt();
        self
    }
}

impl Clock for Timer {
    /// The counter comes round every 171 seconds, and is looked at every turn.
    fn now_us(&self) -> u64 {
        let now = read(TIMER, VALUE);
        let passed = self.last.replace(now).wrapping_sub(now);
        self.ticks.set(self.ticks.get() + u64::from(passed));
        self.ticks.get() / u64::from(TICKS_PER_US)
    }

    /// The line's interrupt fills its ring meanwhile.
    fn rest(&self) {
        while !RESTED.swap(false, Ordering::Relaxed) {
            cortex_m::asm::wfi();
        }
    }
}

#[exception]
fn SysTick() {
    RESTED.store(true, Ordering::Relaxed);
}

/// There is nothing to run: waits for somebody to do something about it.
pub(crate) fn halt() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}
