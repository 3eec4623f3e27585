//! The kernels of a Cortex-M4 against exact sums, without an operating system and without a harness:
//! `cargo xtask emulated` runs it on the board `mps2-an386` of `qemu-system-arm`.
//!
//! What it says goes out by semihosting; a panic ends it with an error.
#![no_std]
#![no_main]
#![allow(
    unsafe_code,
    reason = "the first instructions, the heap and the debugger; each block is argued"
)]

extern crate alloc;

use alloc::string::String;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::fmt::Write as _;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};
use fleetway_qnn::Kernels;
use fleetway_qnn::kernels::check;

/// Shapes of each kind.
const CASES: u64 = 150;
/// The only set beside the portable one.
const SETS: &str = "portable,armv7e-m";
/// The board's second memory, which nothing else uses.
const HEAP: core::ops::Range<usize> = 0x2010_0000..0x2040_0000;

// Where the processor begins: the stack's end and the first instruction. The unit for floats is off
// until somebody switches it on (CPACR, Armv7-M manual B3.2.20).
global_asm!(
    ".section .vectors, \"a\"",
    ".word 0x20100000",
    ".word start",
    ".text",
    ".thumb_func",
    "start:",
    "ldr r0, =0xE000ED88",
    "ldr r1, [r0]",
    "orr r1, r1, #0xF00000",
    "str r1, [r0]",
    "dsb",
    "isb",
    "bl main",
);

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let here: alloc::vec::Vec<&str> = Kernels::all().map(Kernels::name).collect();
    assert_eq!(here.join(","), SETS);
    for (name, one) in [
        ("products of matrices", check::products as fn(u64)),
        ("convolutions by channel", check::channels),
        ("sums of tensors", check::sums),
        ("fused products", check::fused),
    ] {
        for seed in 0..CASES {
            HEAP_USED.store(0, Ordering::Relaxed);
            one(seed);
        }
        say(&alloc::format!("{name}: {CASES} shapes are exact on {SETS}\n\0"));
    }
    exit(true)
}

/// Bytes of the heap that are taken; all are given back between shapes.
static HEAP_USED: AtomicUsize = AtomicUsize::new(0);

struct Bump;

// SAFETY: every part is handed out once, aligned, and lies within the heap; one thread, no interrupts.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let at = (HEAP.start + HEAP_USED.load(Ordering::Relaxed)).next_multiple_of(layout.align());
        if at + layout.size() > HEAP.end {
            return core::ptr::null_mut();
        }
        HEAP_USED.store(at + layout.size() - HEAP.start, Ordering::Relaxed);
        at as *mut u8
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump;

/// Semihosting, `SYS_WRITE0`: text that ends with a zero.
fn say(text: &str) {
    semihost(0x04, text.as_ptr() as usize);
}

/// Semihosting, `SYS_EXIT`: `ADP_Stopped_ApplicationExit`, or a run-time error.
fn exit(good: bool) -> ! {
    semihost(0x18, if good { 0x2_0026 } else { 0x2_0023 });
    loop {}
}

fn semihost(operation: usize, argument: usize) {
    // SAFETY: the debugger, here qemu, reads what the argument points to and changes `r0` alone.
    unsafe { asm!("bkpt 0xAB", inout("r0") operation => _, in("r1") argument) };
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    HEAP_USED.store(0, Ordering::Relaxed);
    let mut text = String::new();
    let _ = write!(text, "{info}\n\0");
    say(&text);
    exit(false)
}
