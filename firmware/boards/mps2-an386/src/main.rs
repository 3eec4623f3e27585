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

use core::fmt::Write as _;
use core::panic::PanicInfo;
use core::ptr::addr_of_mut;

use cortex_m_rt::entry;
use fleetway_firmware::device::Device;
use fleetway_firmware::drivers::replay::Replay;
use fleetway_firmware::engine::Memory;
use fleetway_firmware::hardware::Start;
use fleetway_firmware::provision::Provision;
use fleetway_firmware::serial::Serial;
use fleetway_firmware::store::{Layout, Store};
use fleetway_firmware::superloop::{self, Board};

use parts::{Dog, Timer};
use psram::Psram;
use uart::Uart;

/// Where the provisioning page lies, and how long it may be.
const PAGE: (usize, usize) = (0x0030_0000, 0x0010_0000);
/// What a run may take: a bound against minutes. What an answer may take the watchdog knows.
const WORK_MAX: u64 = 4_000_000_000;
/// The line. QEMU does not care; a real one would run at this.
const BAUD: u32 = 115_200;
/// Room on the line between two turns, in frames.
const WINDOW: u8 = 4;
/// Golden vectors of 64 KiB and models of 512 KiB.
const LAYOUT: Layout = Layout::new(0, psram::BLOCK, 64 * 1024, 512 * 1024);

const ARENA_BYTES: usize = 128 * 1024;
const INPUT_ELEMENTS: usize = 96 * 96 * 3;
const OUTPUT_ELEMENTS: usize = 256;

static mut ARENA: [u8; ARENA_BYTES] = [0; ARENA_BYTES];
static mut INPUT: [f32; INPUT_ELEMENTS] = [0.0; INPUT_ELEMENTS];
static mut OUTPUT: [f32; OUTPUT_ELEMENTS] = [0.0; OUTPUT_ELEMENTS];

#[entry]
fn main() -> ! {
    let start = parts::start();
    let timer = match cortex_m::Peripherals::take() {
        Some(core) => Timer::new().with_rests(core.SYST),
        None => parts::halt(),
    };
    let mut console = Uart::new(1);
    // SAFETY: the page is in memory that nobody writes while this program runs.
    let page = unsafe { core::slice::from_raw_parts(PAGE.0 as *const u8, PAGE.1) };
    let provision = match Provision::read(page) {
        Ok(provision) => provision,
        Err(error) => {
            let _ = writeln!(console, "{error}");
            parts::halt();
        }
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
    let Some(store) = Store::new(Psram::new(), LAYOUT) else {
        let _ = writeln!(console, "the map does not fit the flash");
        parts::halt();
    };
    let shown = provision.factory.as_ref().map_or(&[][..], |factory| factory.golden);
    let mut watchdog = Dog;
    fleetway_firmware::hardware::Watchdog::feed(&mut watchdog, superloop::TURN_MS_MAX);
    let device = Device::start(provision, store, memory, start, 0);
    let kept = device.kept();
    let why = if start == Start::Watchdog { "after a hang" } else { "after power" };
    let _ = writeln!(console, "{} boot {} {why}", device.id(), kept.epoch);
    let link = Serial::new(Uart::new(0), kept.epoch as u32, BAUD, WINDOW);
    let mut answers = 0u32;
    let sensor = Replay::new(shown, move |output: &[f32]| {
        answers += 1;
        if answers.is_power_of_two() {
            let top = (0..output.len())
                .fold(0, |top, at| if output[at] > output[top] { at } else { top });
            let _ = writeln!(console, "answer {answers}: class {top}");
        }
    });
    superloop::run(device, Board { link, sensor, watchdog, clock: timer })
}

/// A panic is a bug of the program or of what it runs: the board starts again, and if a model was
/// on trial it has used up a try.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
