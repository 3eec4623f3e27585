//! The firmware on QEMU's RISC-V board (rv32imac): another instruction set and
//! another kind of flash, with blocks of 256 KiB.
//!
//! ```text
//! 0x8000_0000  6 MB   program and memory
//! 0x8060_0000  1 MB   provisioning page          (nobody here writes it)
//! 0x2200_0000  32 MB  CFI parallel NOR flash, a file on the host (see `cfi`)
//! UART 0: the line to the gateway. There is no other, so that nothing is said to a person.
//! ```
#![no_std]
#![no_main]

mod cfi;
mod parts;
mod uart;

use core::panic::PanicInfo;

use fleetway_board::uart::Port;
use fleetway_board::{Mute, Parts, Room};
use fleetway_firmware::store::Layout;
use riscv_rt::entry;

use cfi::Cfi;
use parts::{Dog, Timer};

/// Where the provisioning page lies, and how long it may be.
const PAGE: (usize, usize) = (0x8060_0000, 0x0010_0000);
/// Golden vectors of 256 KiB and models of 512 KiB.
const LAYOUT: Layout = Layout::new(0, cfi::BLOCK, 64 * 1024, 512 * 1024);
/// Images of 96 by 96 in three colours.
static ROOM: Room<{ 128 * 1024 }, { 96 * 96 * 3 }, 256> = Room::new();

#[entry]
fn main() -> ! {
    let start = fleetway_board::start();
    if let Some(memory) = ROOM.take() {
        // SAFETY: the page is in memory that nobody writes while this program runs.
        let page = unsafe { core::slice::from_raw_parts(PAGE.0 as *const u8, PAGE.1) };
        let parts = Parts {
            page,
            flash: Cfi::new(),
            layout: LAYOUT,
            memory,
            port: Port(uart::line()),
            watchdog: Dog::new(),
            clock: Timer,
            text: Mute,
        };
        fleetway_board::run(start, parts);
    }
    parts::halt()
}

/// A panic is a bug of the program or of what it runs: the board starts again, and if a model was
/// on trial it has used up a try.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    parts::reset()
}
