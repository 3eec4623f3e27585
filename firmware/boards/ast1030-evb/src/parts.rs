//! Watchdog and timer.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use fleetway_firmware::hardware::{Clock, Watchdog};

/// The first watchdog, which counts microseconds down and resets at 0.
const WATCHDOG: usize = 0x7e78_5000;
const RELOAD: usize = 0x04;
const RESTART: usize = 0x08;
const CONTROL: usize = 0x0c;
const RESTART_MAGIC: u32 = 0x4755;
/// Runs, and resets the system; its clock is 1 MHz.
const RUNS_AND_RESETS: u32 = 1 | 1 << 1 | 1 << 4;
/// Ticks of the system timer in a microsecond.
const TICKS_PER_US: u32 = 200;
/// The system timer comes round this often, and a rest is over then: at 115,200 baud some tens of
/// bytes come meanwhile.
const ROUND_US: u32 = 2_000;
/// Rounds since the start.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

fn write(base: usize, register: usize, value: u32) {
    // SAFETY: a device register of this board, and nothing else.
    unsafe { ((base + register) as *mut u32).write_volatile(value) }
}

/// The watchdog.
pub(crate) struct Dog;

impl Watchdog for Dog {
    fn feed(&mut self, ms: u32) {
        write(WATCHDOG, RELOAD, ms.saturating_mul(1000));
        write(WATCHDOG, RESTART, RESTART_MAGIC);
        write(WATCHDOG, CONTROL, RUNS_AND_RESETS);
    }
}

/// The time since the start.
pub(crate) struct Timer {
    last: Cell<u32>,
    rounds: Cell<u64>,
    /// Never falls.
    now: Cell<u64>,
}

impl Timer {
    pub(crate) fn new(mut timer: SYST) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(ROUND_US * TICKS_PER_US - 1);
        timer.clear_current();
        timer.enable_counter();
        timer.enable_interrupt();
        Self { last: Cell::new(0), rounds: Cell::new(0), now: Cell::new(0) }
    }
}

impl Clock for Timer {
    /// The rounds come round every hundred days, and are looked at every turn.
    fn now_us(&self) -> u64 {
        let (rounds, ticks) = loop {
            let (before, left) = (ROUNDS.load(Ordering::Relaxed), SYST::get_current());
            if ROUNDS.load(Ordering::Relaxed) == before {
                break (before, (ROUND_US * TICKS_PER_US).saturating_sub(left));
            }
        };
        let passed = rounds.wrapping_sub(self.last.replace(rounds));
        self.rounds.set(self.rounds.get() + u64::from(passed));
        let now = self.rounds.get() * u64::from(ROUND_US) + u64::from(ticks / TICKS_PER_US);
        // It may have come round and not have interrupted yet.
        self.now.set(self.now.get().max(now));
        self.now.get()
    }

    /// The line's interrupt fills its ring meanwhile.
    fn rest(&self) {
        let before = ROUNDS.load(Ordering::Relaxed);
        while ROUNDS.load(Ordering::Relaxed) == before {
            cortex_m::asm::wfi();
        }
    }
}

#[exception]
fn SysTick() {
    ROUNDS.fetch_add(1, Ordering::Relaxed);
}

/// There is nothing to run: waits for somebody to do something about it.
pub(crate) fn halt() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}
