//! What things cost on this board: instructions, counted by QEMU with `-icount shift=0`, where one
//! is one nanosecond and 40 are a tick of the timer; and stack, seen by painting it.
//!
//! `cargo xtask bench firmware` runs it. Instructions are not cycles: a real Cortex-M4 needs two
//! for a load and up to three for a branch.
#![no_std]
#![no_main]

#[path = "../parts.rs"]
#[allow(dead_code, reason = "the firmware uses the rest")]
mod parts;
#[path = "../psram.rs"]
#[allow(dead_code, reason = "the firmware uses the rest")]
mod psram;
#[path = "../uart.rs"]
#[allow(dead_code, reason = "the firmware uses the rest")]
mod uart;

use core::fmt::Write as _;
use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use fleetway_board::uart::Port;
use fleetway_firmware::device::Device;
use fleetway_firmware::hardware::Clock as _;
use fleetway_firmware::serial::Serial;
use fleetway_protocol::envelope::PublicKey;
use fleetway_protocol::ids::Digest;

use parts::Timer;
use uart::Uart;

/// RFC 8032, section 7.1, TEST 3: a key, a message, a signature.
const KEY: [u8; 32] = hex(b"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
const MESSAGE: [u8; 2] = [0xaf, 0x82];
const SIGNATURE: [u8; 64] = hex(
    b"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
);
/// What is hashed, bytes: a chunk is four of them to the block.
static HASHED: [u8; 16 * 1024] = [7; 16 * 1024];
/// Bytes of stack that are painted: more than anything here takes.
const PAINTED: usize = 48 * 1024;
const PAINT: u8 = 0xa5;

#[entry]
fn main() -> ! {
    let mut text = Port(Uart::text());
    let timer = Timer::new();
    let key = PublicKey::new(KEY).ok();
    let mut measure = |what: &str, run: &mut dyn FnMut()| {
        let (us, stack) = (timed(&timer, run), painted(run));
        let _ = writeln!(text, "{what:<34} {:>8} k-instr, {stack:>6} bytes of stack", us);
    };
    measure("Ed25519, a strict verification", &mut || {
        let good = key.is_some_and(|key| key.verifies_raw(black_box(&MESSAGE), &SIGNATURE));
        assert!(good);
    });
    measure("SHA-256 of 16 KiB", &mut || {
        black_box(Digest::of(black_box(&HASHED)));
    });
    for (what, bytes) in [
        ("the device", size_of::<Device<'_, psram::Psram>>()),
        ("the link", size_of::<Serial<Port<Uart>>>()),
    ] {
        let _ = writeln!(text, "{what:<34} {bytes:>8} bytes of memory");
    }
    let _ = writeln!(text, "done");
    // QEMU ends with the program.
    cortex_m_semihosting::debug::exit(cortex_m_semihosting::debug::EXIT_SUCCESS);
    parts::halt()
}

/// Thousands of instructions of one run: microseconds of the emulated clock.
fn timed(timer: &Timer, run: &mut dyn FnMut()) -> u64 {
    let before = timer.now_us();
    run();
    timer.now_us() - before
}

/// Bytes of stack below this function that a run touches.
#[inline(never)]
fn painted(run: &mut dyn FnMut()) -> usize {
    let top = cortex_m::register::msp::read() as usize - 64;
    let bottom = top - PAINTED;
    // SAFETY: below the stack's end there is nothing but memory, and nobody interrupts.
    unsafe { core::ptr::write_bytes(bottom as *mut u8, PAINT, PAINTED) };
    run();
    // SAFETY: as above.
    let stack = unsafe { core::slice::from_raw_parts(bottom as *const u8, PAINTED) };
    PAINTED - stack.iter().take_while(|byte| **byte == PAINT).count()
}

const fn hex<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = nibble(text[2 * at]) << 4 | nibble(text[2 * at + 1]);
        at += 1;
    }
    bytes
}

const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit - b'a' + 10,
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Port(Uart::text()), "{info}");
    parts::halt()
}
