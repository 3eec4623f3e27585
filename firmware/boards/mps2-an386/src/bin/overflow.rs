//! A stack that grows too long: what is told of it on the second serial line. The boards' tests run it.
#![no_std]
#![no_main]

#[path = "../parts.rs"]
#[allow(dead_code, reason = "the firmware uses the rest")]
mod parts;
#[path = "../uart.rs"]
#[allow(dead_code, reason = "the firmware uses the rest")]
mod uart;

use core::fmt::Write as _;
use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use fleetway_board::uart::Port;
use fleetway_firmware::hardware::Start;

#[entry]
fn main() -> ! {
    // SAFETY: the stack is at the other end of this board's memory, and there is no heap.
    unsafe { fleetway_board::guard::set() };
    match fleetway_board::start() {
        Start::Power => {
            let _ = writeln!(Port(uart::Uart::text()), "deep {}", deeper(1));
        }
        // What says so lies below the stack: it is as it was.
        Start::Watchdog => {
            let _ = writeln!(Port(uart::Uart::text()), "started again");
        }
    }
    parts::halt()
}

/// As deep as there is memory.
#[inline(never)]
fn deeper(n: u32) -> u32 {
    let frame = black_box([n; 64]);
    if n == 0 { 0 } else { deeper(n + 1) + black_box(frame)[7] }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    parts::halt()
}
