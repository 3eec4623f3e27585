//! What all boards do the same: the order of a start ([`run`]), memory for the model ([`Room`]), why
//! the board started ([`start`]), and a UART that receives by interrupt ([`uart`]). What differs (the
//! flash, the registers, the watchdog, the clock) is in the boards.
#![no_std]

#[cfg(target_arch = "arm")]
pub mod guard;
pub mod ns16550;
pub mod uart;

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::{addr_of, addr_of_mut};
use core::sync::atomic::{AtomicBool, Ordering};

use embedded_io::{Read, ReadReady, Write};
use fleetway_firmware::device::Device;
use fleetway_firmware::drivers::replay::Replay;
use fleetway_firmware::engine::Memory;
use fleetway_firmware::hardware::{Clock, Flash, Start, Watchdog};
use fleetway_firmware::provision::Provision;
use fleetway_firmware::serial::Serial;
use fleetway_firmware::store::{Layout, Store};
use fleetway_firmware::superloop::{self, Board};

/// The line's bits per second. QEMU does not care; a real one would run at this.
pub const BAUD: u32 = 115_200;
/// Room on the line between two turns, in frames.
const WINDOW: u8 = 4;
/// What a run may take: a bound against minutes. What an answer may take the watchdog knows.
const WORK_MAX: u64 = 4_000_000_000;

/// What a board is made of.
pub struct Parts<F, P, W, C, T> {
    /// The provisioning page, and whatever is behind it.
    pub page: &'static [u8],
    /// The flash.
    pub flash: F,
    /// Where what lies on it.
    pub layout: Layout,
    /// For the model.
    pub memory: Memory<'static>,
    /// The line to the gateway.
    pub port: P,
    /// The watchdog.
    pub watchdog: W,
    /// The clock.
    pub clock: C,
    /// Where something is said to a person.
    pub text: T,
}

/// Runs the device. Comes back only if there is nothing to run, and has said why.
pub fn run<F, P, W, C, T>(start: Start, parts: Parts<F, P, W, C, T>)
where
    F: Flash,
    P: Read + ReadReady + Write,
    W: Watchdog,
    C: Clock,
    T: fmt::Write,
{
    let Parts { page, flash, layout, memory, port, mut watchdog, clock, mut text } = parts;
    watchdog.feed(superloop::TURN_MS_MAX);
    let provision = match Provision::read(page) {
        Ok(provision) => provision,
        Err(error) => {
            let _ = writeln!(text, "{error}");
            return;
        }
    };
    let Some(store) = Store::new(flash, layout) else {
        let _ = writeln!(text, "the map does not fit the flash");
        return;
    };
    let shown = provision.factory.as_ref().map_or(&[][..], |factory| factory.golden);
    let mut device = Device::new(provision, store, memory, start);
    device.begin(0);
    let epoch = device.kept().epoch;
    let why = if start == Start::Watchdog { "after a hang" } else { "after power" };
    let _ = writeln!(text, "{} boot {epoch} {why}", device.id());
    let link = Serial::new(port, epoch as u32, BAUD, WINDOW);
    let mut answers = 0u32;
    let sensor = Replay::new(shown, move |output: &[f32]| {
        answers = answers.wrapping_add(1);
        if answers.is_power_of_two() {
            let top = (0..output.len())
                .fold(0, |top, at| if output[at] > output[top] { at } else { top });
            let _ = writeln!(text, "answer {answers}: class {top}");
        }
    });
    superloop::run(&mut device, &mut Board { link, sensor, watchdog, clock })
}

/// For a board on which nothing is said to a person.
pub struct Mute;

impl fmt::Write for Mute {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

/// Memory for the model: an arena of `A` bytes, `I` numbers in, `O` numbers out.
pub struct Room<const A: usize, const I: usize, const O: usize> {
    is_taken: AtomicBool,
    #[allow(clippy::type_complexity, reason = "three arrays in one cell")]
    arrays: UnsafeCell<([u8; A], [f32; I], [f32; O])>,
}

// SAFETY: it is given away once.
unsafe impl<const A: usize, const I: usize, const O: usize> Sync for Room<A, I, O> {}

impl<const A: usize, const I: usize, const O: usize> Room<A, I, O> {
    /// For a static.
    #[expect(clippy::new_without_default, reason = "it is made where nothing runs yet")]
    pub const fn new() -> Self {
        let arrays = UnsafeCell::new(([0; A], [0.0; I], [0.0; O]));
        Self { is_taken: AtomicBool::new(false), arrays }
    }

    /// All of it, once.
    pub fn take(&'static self) -> Option<Memory<'static>> {
        if self.is_taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: only the first caller comes here.
        let (arena, input, output) = unsafe { &mut *self.arrays.get() };
        Some(Memory { arena, input, output, work_max: WORK_MAX })
    }
}

/// Left in memory by whoever runs, for the next start: power would have taken it away.
const WARM: u32 = 0x7761_726d;
#[unsafe(link_section = ".uninit.WAS_ON")]
static mut WAS_ON: MaybeUninit<u32> = MaybeUninit::uninit();

/// Why the board started: by power, or by its watchdog or a panic, after which memory still holds
/// what was there. To be asked once.
pub fn start() -> Start {
    // SAFETY: one word, read and written before anything else runs.
    let was_on = unsafe {
        let was_on = addr_of!(WAS_ON).cast::<u32>().read_volatile();
        addr_of_mut!(WAS_ON).cast::<u32>().write_volatile(WARM);
        was_on
    };
    if was_on == WARM { Start::Watchdog } else { Start::Power }
}
