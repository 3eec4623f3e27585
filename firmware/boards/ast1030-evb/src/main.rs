//! The firmware on the AST1030 evaluation board (Cortex-M4F), as QEMU emulates it: a real serial NOR
//! flash behind SPI, spoken to command by command.
//!
//! ```text
//! 0x0000_0000  192 KB  program
//! 0x0003_0000  448 KB  memory
//! 0x000a_0000  128 KB  provisioning page       (nobody here writes it)
//! SPI: 4 MB of serial flash, of which the used part is mirrored in memory (see `fmc`)
//! UART 5: the line to the gateway. There is no other, so that nothing is said to a person.
//! ```
#![no_std]
#![no_main]

mod fmc;
mod parts;
mod uart;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use fleetway_board::uart::Port;
use fleetway_board::{Mute, Parts, Room};
use fleetway_firmware::drivers::mirror::Mirror;
use fleetway_firmware::store::Layout;

use parts::{Dog, Timer};

/// Where the provisioning page lies, and how long it may be.
const PAGE: (usize, usize) = (0x000a_0000, 0x0002_0000);
/// Golden vectors of 16 KiB and models of 64 KiB: twice that, and papers, are mirrored.
const LAYOUT: Layout = Layout::new(0, fmc::BLOCK, 16 * 1024, 64 * 1024);
/// Images of 96 by 96.
static ROOM: Room<{ 64 * 1024 }, { 96 * 96 }, 256> = Room::new();

#[entry]
fn main() -> ! {
    // SAFETY: the stack is at the other end of this board's memory, and there is no heap.
    unsafe { fleetway_board::guard::set() };
    let start = fleetway_board::start();
    let mirror =
        cortex_m::singleton!(MIRROR: [u8; LAYOUT.end() as usize] = [0; LAYOUT.end() as usize]);
    let all = (cortex_m::Peripherals::take(), ROOM.take(), mirror);
    if let (Some(core), Some(memory), Some(mirror)) = all
        && let Ok(flash) = Mirror::new(fmc::flash(), mirror)
    {
        // SAFETY: the page is in memory that nobody writes while this program runs.
        let page = unsafe { core::slice::from_raw_parts(PAGE.0 as *const u8, PAGE.1) };
        let parts = Parts {
            page,
            flash,
            layout: LAYOUT,
            memory,
            port: Port(uart::line()),
            watchdog: Dog,
            clock: Timer::new(core.SYST),
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
    cortex_m::peripheral::SCB::sys_reset()
}
