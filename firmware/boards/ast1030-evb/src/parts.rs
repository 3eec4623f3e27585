//! Watchdog, timer, and why the board started.

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ptr::{addr_of, addr_of_mut};

use fleetway_firmware::hardware::{Clock, Start, Watchdog};

/// The first watchdog, which counts microseconds down and resets at 0.
const WATCHDOG: usize = 0x7e78_5000;
const RELOAD: usize = 0x04;
const RESTART: usize = 0x08;
const CONTROL: usize = 0x0c;
const RESTART_MAGIC: u32 = 0x4755;
/// Runs, and resets the system; its clock is 1 MHz.
const RUNS_AND_RESETS: u32 = 1 | 1 << 1 | 1 << 4;
/// The first timer, which counts microseconds down.
const TIMER: usize = 0x7e78_2000;
const TIMER_RELOAD: usize = 0x04;
const TIMER_CONTROL: usize = 0x30;
/// Runs, by the clock of 1 MHz.
const TIMER_RUNS: u32 = 1 | 1 << 1;

/// Left in memory by whoever runs, for the next start: power would have taken it away.
const WARM: u32 = 0x7761_726d;
#[unsafe(link_section = ".uninit.WAS_ON")]
static mut WAS_ON: MaybeUninit<u32> = MaybeUninit::uninit();

fn write(base: usize, register: usize, value: u32) {
    // SAFETY: a device register of this board, and nothing else.
    unsafe { ((base + register) as *mut u32).write_volatile(value) }
}

/// Why the board started: by power, or by its watchdog or a panic, after which memory still holds
/// what was there.
pub(crate) fn start() -> Start {
    // SAFETY: one word, read and written before anything else runs.
    let was_on = unsafe {
        let was_on = addr_of!(WAS_ON).cast::<u32>().read_volatile();
        addr_of_mut!(WAS_ON).cast::<u32>().write_volatile(WARM);
        was_on
    };
    if was_on == WARM { Start::Watchdog } else { Start::Power }
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
    us: Cell<u64>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        write(TIMER, TIMER_RELOAD, u32::MAX);
        write(TIMER, 0, u32::MAX);
        write(TIMER, TIMER_CONTROL, TIMER_RUNS);
        Self { last: Cell::new(u32::MAX), us: Cell::new(0) }
    }
}

impl Clock for Timer {
    /// The counter comes round every hour, and is looked at every turn.
    fn now_us(&self) -> u64 {
        // SAFETY: the timer's register.
        let now = unsafe { (TIMER as *const u32).read_volatile() };
        let passed = self.last.replace(now).wrapping_sub(now);
        self.us.set(self.us.get() + u64::from(passed));
        self.us.get()
    }
}

/// There is nothing to run: waits for somebody to do something about it.
pub(crate) fn halt() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}
