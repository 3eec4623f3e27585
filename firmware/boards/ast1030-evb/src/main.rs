//! The firmware on the AST1030 evaluation board (Cortex-M4F), as QEMU emulates it: a real serial NOR
//! flash behind SPI, spoken to command by command.
//!
//! ```text
//! 0x0000_0000  256 KB  program
//! 0x0004_0000  384 KB  memory
//! 0x000a_0000  128 KB  provisioning page       (nobody here writes it)
//! 0x8000_0000  4 MB    serial flash, as it reads through its controller (see `fmc`)
//! UART 5: the line to the gateway. There is no other, so that nothing is said to a person.
//! ```
#![no_std]
#![no_main]

mod fmc;
mod parts;
mod uart;

use core::panic::PanicInfo;
use core::ptr::addr_of_mut;

use cortex_m_rt::entry;
use fleetway_firmware::device::Device;
use fleetway_firmware::drivers::replay::Replay;
use fleetway_firmware::engine::Memory;
use fleetway_firmware::hardware::Watchdog as _;
use fleetway_firmware::provision::Provision;
use fleetway_firmware::serial::Serial;
use fleetway_firmware::store::{Layout, Store};
use fleetway_firmware::superloop::{self, Board};

use fmc::SpiFlash;
use parts::{Dog, Timer};
use uart::Uart;

/// Where the provisioning page lies, and how long it may be.
const PAGE: (usize, usize) = (0x000a_0000, 0x0002_0000);
/// What a run may take: a bound against minutes. What an answer may take the watchdog knows.
const WORK_MAX: u64 = 4_000_000_000;
/// The line. QEMU does not care; a real one would run at this.
const BAUD: u32 = 115_200;
/// Room on the line between two turns, in frames.
const WINDOW: u8 = 4;
/// Golden vectors of 64 KiB and models of 512 KiB.
const LAYOUT: Layout = Layout::new(0, 4096, 64 * 1024, 512 * 1024);

const ARENA_BYTES: usize = 128 * 1024;
const INPUT_ELEMENTS: usize = 96 * 96;
const OUTPUT_ELEMENTS: usize = 256;

static mut ARENA: [u8; ARENA_BYTES] = [0; ARENA_BYTES];
static mut INPUT: [f32; INPUT_ELEMENTS] = [0.0; INPUT_ELEMENTS];
static mut OUTPUT: [f32; OUTPUT_ELEMENTS] = [0.0; OUTPUT_ELEMENTS];

#[entry]
fn main() -> ! {
    let start = parts::start();
    let mut watchdog = Dog;
    watchdog.feed(superloop::TURN_MS_MAX);
    let timer = Timer::new();
    // SAFETY: the page is in memory that nobody writes while this program runs.
    let page = unsafe { core::slice::from_raw_parts(PAGE.0 as *const u8, PAGE.1) };
    let (Ok(provision), Some(store)) = (Provision::read(page), Store::new(SpiFlash::new(), LAYOUT))
    else {
        parts::halt();
    };
    // SAFETY: `main` runs once, and nobody else names these.
    let memory = unsafe {
        Memory {
            arena: &mut *addr_of_mut!(ARENA),
            input: &mut *addr_of_mut!(INPUT),
            output: &mut *addr_of_mut!(OUTPUT),
            work_max: WORK_MAX,
        }
    };
    let shown = provision.factory.as_ref().map_or(&[][..], |factory| factory.golden);
    let device = Device::start(provision, store, memory, start, 0);
    let link = Serial::new(Uart::new(), device.kept().epoch as u32, BAUD, WINDOW);
    let sensor = Replay::new(shown, |_: &[f32]| {});
    superloop::run(device, Board { link, sensor, watchdog, clock: timer })
}

/// A panic is a bug of the program or of what it runs: the board starts again, and if a model was
/// on trial it has used up a try.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
