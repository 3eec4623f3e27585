//! The firmware on Arm's MPS2 board with a Cortex-M4F (application note 386), as QEMU emulates it.
//!
//! ```text
//! 0x0000_0000  3 MB   program                     (stands for code flash)
//! 0x0030_0000  1 MB   provisioning page           (the same; nobody here writes it)
//! 0x2000_0000  4 MB   memory
//! 0x2100_0000  16 MB  PSRAM, a file on the host   (stands for NOR flash, see `psram`)
//! UART 0: the line to the gateway.  UART 1: text for a person.
//! ```
#![no_std]
#![no_main]

mod parts;
mod psram;
mod uart;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use fleetway_board::uart::Port;
use fleetway_board::{Parts, Room};
use fleetway_firmware::store::Layout;

use parts::{Dog, Timer};
use psram::Psram;
use uart::Uart;

/// Where the provisioning page lies, and how long it may be.
const PAGE: (usize, usize) = (0x0030_0000, 0x0010_0000);
/// Golden vectors of 64 KiB and models of 512 KiB.
const LAYOUT: Layout = Layout::new(0, psram::BLOCK, 64 * 1024, 512 * 1024);
/// Images of 96 by 96 in three colours.
static ROOM: Room<{ 128 * 1024 }, { 96 * 96 * 3 }, 256> = Room::new();

#[entry]
fn main() -> ! {
    // SAFETY: the stack is at the other end of this board's memory, and there is no heap.
    unsafe { fleetway_board::guard::set() };
    let start = fleetway_board::start();
    if let (Some(core), Some(memory)) = (cortex_m::Peripherals::take(), ROOM.take()) {
        // SAFETY: the page is in memory that nobody writes while this program runs.
        let page = unsafe { core::slice::from_raw_parts(PAGE.0 as *const u8, PAGE.1) };
        let parts = Parts {
            page,
            flash: Psram::new(),
            layout: LAYOUT,
            memory,
            port: Port(Uart::line()),
            watchdog: Dog,
            clock: Timer::new().with_rests(core.SYST),
            text: Port(Uart::text()),
        };
        fleetway_board::run(start, parts);
    }
    parts::halt()
}

/// A panic is a bug of the program or of what it runs: the board starts again, and if a model was
/// on trial it has used up a try.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
