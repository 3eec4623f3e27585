//! What things cost on this board: instructions, counted by QEMU with `-icount shift=0`, where one
//! is one nanosecond and 40 are a tick of the timer; and stack, seen by painting it.
//!
//! `cargo xtask bench firmware` runs it, with a model where the provisioning page would be, and reads
//! what it says: `name=number`, a line each. A layer is what a run takes more with it than without it
//! and what follows: the file's number of operators is lowered for that. Instructions are not cycles: a
//! real Cortex-M4 needs two for a load and up to three for a branch.
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

use core::fmt::{self, Write as _};
use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use fleetway_board::Room;
use fleetway_board::uart::Port;
use fleetway_firmware::device::Device;
use fleetway_firmware::engine::{EngineError, Memory};
use fleetway_firmware::hardware::Clock as _;
use fleetway_firmware::serial::Serial;
use fleetway_protocol::envelope::PublicKey;
use fleetway_protocol::ids::Digest;
use fleetway_qnn::format::Element;
use fleetway_qnn::{Input, Kernels, Model, Output};

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
/// Where the model is: its length, then the file. It lies in memory, and may be changed.
const MODEL: *mut u8 = 0x0030_0000 as *mut u8;
const MODEL_BYTES_MAX: usize = 1 << 20;
/// In the file: the number of operators.
const OPS_AT: usize = 4 * 7;
/// Images of 96 by 96 in three colours; the largest output of the models of MLPerf Tiny.
const INPUTS: usize = 96 * 96 * 3;
const OUTPUTS: usize = 640;
static ROOM: Room<{ 256 * 1024 }, INPUTS, OUTPUTS> = Room::new();

/// The same for models that take and give bytes.
struct Bytes {
    input: [u8; INPUTS],
    signed_input: [i8; INPUTS],
    output: [u8; OUTPUTS],
    signed_output: [i8; OUTPUTS],
}

static mut BYTES: Bytes = Bytes {
    input: [0; INPUTS],
    signed_input: [0; INPUTS],
    output: [0; OUTPUTS],
    signed_output: [0; OUTPUTS],
};

#[entry]
fn main() -> ! {
    let mut text = Port(Uart::text());
    let timer = Timer::new();
    papers(&mut text, &timer);
    for (what, bytes) in [
        ("device_bytes", size_of::<Device<'_, psram::Psram>>()),
        ("link_bytes", size_of::<Serial<Port<Uart>>>()),
    ] {
        let _ = writeln!(text, "{what}={bytes}");
    }
    model(&mut text, &timer);
    let _ = writeln!(text, "done=1");
    // QEMU ends with the program.
    cortex_m_semihosting::debug::exit(cortex_m_semihosting::debug::EXIT_SUCCESS);
    parts::halt()
}

/// What believing something costs.
fn papers(text: &mut impl fmt::Write, timer: &Timer) {
    let key = PublicKey::new(KEY).ok();
    let mut measure = |what: &str, run: &mut dyn FnMut()| {
        let (k_instr, stack) = (timed(timer, run), painted(run));
        let _ = writeln!(text, "{what}_k_instr={k_instr}\n{what}_stack_bytes={stack}");
    };
    measure("verify", &mut || {
        let good = key.is_some_and(|key| key.verifies_raw(black_box(&MESSAGE), &SIGNATURE));
        assert!(good);
    });
    measure("sha256_16k", &mut || {
        black_box(Digest::of(black_box(&HASHED)));
    });
}

/// Runs it as it is, whatever its elements are: the firmware itself takes real numbers alone.
fn answer(room: &mut Memory<'_>, bytes: &mut Bytes, file: &[u8]) -> Result<(), EngineError> {
    let model = Model::load(file)?;
    let (mut inputs, mut outputs) = (model.inputs(), model.outputs());
    let (Some((_, input)), Some((_, output))) = (inputs.next(), outputs.next()) else {
        return Err(EngineError::Ports);
    };
    let (i, o) = (input.elements as usize, output.elements as usize);
    if i > INPUTS || o > OUTPUTS {
        return Err(EngineError::Ports);
    }
    let input = match input.element {
        Element::F32 => Input::F32(&room.input[..i]),
        Element::U8 => Input::U8(&bytes.input[..i]),
        Element::S8 => Input::S8(&bytes.signed_input[..i]),
    };
    let output = match output.element {
        Element::F32 => Output::F32(&mut room.output[..o]),
        Element::U8 => Output::U8(&mut bytes.output[..o]),
        Element::S8 => Output::S8(&mut bytes.signed_output[..o]),
    };
    model.run(Kernels::best(), room.arena, &[input], &mut [output])?;
    Ok(())
}

/// What an answer costs, as a whole and layer by layer.
fn model(text: &mut impl fmt::Write, timer: &Timer) {
    // SAFETY: QEMU has put it there; nobody else names that memory.
    let memory = unsafe { core::slice::from_raw_parts_mut(MODEL, MODEL_BYTES_MAX) };
    let (len, rest) = memory.split_at_mut(4);
    let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
    let (Some(file), Some(mut room)) = (rest.get_mut(..len), ROOM.take()) else { return };
    // SAFETY: `main` runs once, and nobody else names these.
    let bytes = unsafe { &mut *core::ptr::addr_of_mut!(BYTES) };
    let ops = file.get(OPS_AT).map_or(0, |ops| *ops);
    let mut before = 0;
    for n in 0..=ops {
        file[OPS_AT] = n;
        // Once to warm nothing (there is no cache), once to see that it runs.
        if let Err(error) = answer(&mut room, bytes, file) {
            let _ = writeln!(text, "# {error}");
            return;
        }
        let all = timed(timer, &mut || {
            let _ = black_box(answer(&mut room, bytes, file));
        });
        let layer = all.saturating_sub(before);
        let _ = match n {
            0 => writeln!(text, "model_in_and_out_k_instr={all}"),
            n => writeln!(text, "model_layer_{n}_k_instr={layer}"),
        };
        before = all;
    }
    let _ = writeln!(text, "model_k_instr={before}\nmodel_layers={ops}");
    let stack = painted(&mut || {
        let _ = black_box(answer(&mut room, bytes, file));
    });
    let _ = writeln!(text, "model_stack_bytes={stack}");
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
