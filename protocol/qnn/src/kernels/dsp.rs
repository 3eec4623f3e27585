//! Armv7E-M (Cortex-M4, M7): two products of 16 bits in one instruction, `smlad`; four bytes held within
//! their bounds in another four.
//!
//! Bytes are widened in pairs by `uxtb16` and `sxtb16`: bytes 0 and 2 of a word, or 1 and 3. Their
//! intrinsics are not stable yet, hence the assembler. Which target has them is known when it is compiled.
//!
//! Sums stay in registers until they are bytes: an index that is not known when this is compiled would
//! put them into memory, once for each step of the loop over the inputs.

use super::channelwise::{Block, TAPS_MAX, blocks};
use super::{Channelwise, Gemm, int, portable};
#[cfg(not(target_abi = "eabihf"))]
use crate::arith::requantize;
use crate::format::{Add, PANEL, QUAD};
use core::arch::asm;
use core::ops::Range;

/// Channels that are summed at a time: a word of bytes.
const LANES: usize = 4;

/// The only set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    Dsp,
}

impl Isa {
    pub(super) const ALL: [Self; 1] = [Self::Dsp];

    pub(super) fn name(self) -> &'static str {
        "armv7e-m"
    }

    pub(super) fn is_here(self) -> bool {
        true
    }

    pub(super) fn gemm(self, of: &Gemm<'_>, output: &mut [u8]) {
        let ends = Ends::new(of.zy, of.lo, of.hi);
        let mut row = 0;
        while row + 2 <= of.rows {
            tile::<2>(of, &ends, row, output);
            row += 2;
        }
        if row < of.rows {
            tile::<1>(of, &ends, row, output);
        }
    }

    pub(super) fn depthwise(self, of: &Channelwise<'_>, output: &mut [u8]) {
        blocks(of, of.channels, output, every_channel);
    }

    pub(super) fn add(self, op: &Add, a: &[u8], b: &[u8], output: &mut [u8]) {
        portable::add(op, a, b, output);
    }
}

/// Whether [`Isa::depthwise`] does this; the portable kernel does the rest.
pub(super) fn takes(of: &Channelwise<'_>) -> bool {
    let taps = of.window.kh as usize * of.window.kw as usize;
    of.wzp.is_none() && of.multiplier == 1 && of.channels >= LANES && taps <= TAPS_MAX
}

/// `R` rows from `row` on, times all channels, a word of them at a time.
#[inline(always)]
fn tile<const R: usize>(of: &Gemm<'_>, ends: &Ends, row: usize, output: &mut [u8]) {
    for first in (0..of.columns).step_by(LANES) {
        let mut acc = [core::array::from_fn(|lane| int(of.bias, first + lane)); R];
        // A last group may reach beyond the channels, never beyond the panel: it has 16.
        let panel = &of.weights[first / PANEL * PANEL * of.depth()..][..PANEL * of.depth()];
        for (run, weights) in panel.chunks_exact(PANEL * of.run).enumerate() {
            let input = &of.input[row * of.input_stride + run * of.run_stride..];
            assert!((R - 1) * of.input_stride + of.run <= input.len());
            // SAFETY: `R` rows of `run` bytes, `input_stride` apart, lie in `input` (asserted), and
            // `run` quads of 16 channels in `weights`; four of them from `first % 16` on are read.
            unsafe {
                let weights = weights.as_ptr().add(first % PANEL * QUAD);
                add_run(&mut acc, input.as_ptr(), of.input_stride, weights, of.run / QUAD);
            }
        }
        for (r, acc) in acc.into_iter().enumerate() {
            let bytes = ends.requantize(acc, of.mult, first);
            let line = &mut output[(row + r) * of.output_stride..][..of.columns][first..];
            match line.first_chunk_mut() {
                Some(word) => *word = bytes,
                None => line.copy_from_slice(&bytes[..line.len()]),
            }
        }
    }
}

/// `quads` quads of `R` rows times four channels.
///
/// # Safety
/// `4 * quads` bytes can be read at `input` and at `R - 1` further places, `stride` apart, and 16
/// bytes at `weights` and at `quads - 1` further places, a quad of a panel apart.
#[inline(always)]
unsafe fn add_run<const R: usize>(
    acc: &mut [[i32; LANES]; R],
    mut input: *const u8,
    stride: usize,
    mut weights: *const u8,
    quads: usize,
) {
    // SAFETY: the caller's promise; behind the last quad only addresses are made.
    unsafe {
        for _ in 0..quads {
            let mut x = [[0; 2]; R];
            for (r, x) in x.iter_mut().enumerate() {
                *x = unsigned(input.add(r * stride).cast::<u32>().read_unaligned());
            }
            for column in 0..LANES {
                let at = weights.add(column * QUAD).cast::<u32>();
                let w = signed(at.read_unaligned());
                for (acc, x) in acc.iter_mut().zip(&x) {
                    acc[column] = smlad(x[0], w[0], acc[column]);
                    acc[column] = smlad(x[1], w[1], acc[column]);
                }
            }
            input = input.wrapping_add(QUAD);
            weights = weights.wrapping_add(PANEL * QUAD);
        }
    }
}

/// Pixel by pixel: all channels meet the places that were found once.
fn every_channel(block: &Block<'_>, lines: Range<u32>, output: &mut [u8]) {
    let (of, window) = (block.of, &block.of.window);
    let taps = (window.kh * window.kw) as usize;
    let ends = Ends::new(of.zy, of.lo, of.hi);
    let mut places = [[of.padding.as_ptr()]; TAPS_MAX];
    for (oy, pixels) in block.lines(lines, output) {
        let rows = window.rows(oy);
        for (ox, output) in pixels.enumerate() {
            let base = (ox as u32 * window.sw) as i32 - window.pl as i32;
            block.see(&mut places, rows, base);
            for from in (0..of.channels).step_by(LANES) {
                // A last word that would reach beyond the channels begins earlier and repeats some.
                let from = from.min(of.channels - LANES);
                // SAFETY: the block has all channels, so they can be read at each place; the entry has
                // checked that every place of the window has weights for them.
                let acc = unsafe { window_sums(of, &places[..taps], from) };
                output[from..][..LANES].copy_from_slice(&ends.requantize(acc, of.mult, from));
            }
        }
    }
}

/// Four channels of one pixel, bias included.
///
/// # Safety
/// From channel `from` on four bytes can be read at each place, and so many weights of each.
#[inline(always)]
unsafe fn window_sums(
    of: &Channelwise<'_>,
    places: &[[*const u8; 1]],
    from: usize,
) -> [i32; LANES] {
    let mut acc = [0, 1, 2, 3].map(|lane| int(of.bias, from + lane));
    let mut weights = of.weights[from..].as_ptr();
    for &[place] in places {
        // SAFETY: the caller's promise.
        let (x, w) = unsafe {
            let x = place.add(from).cast::<u32>().read_unaligned();
            (unsigned(x), signed(weights.cast::<u32>().read_unaligned()))
        };
        acc[0] = smlabb(x[0], w[0], acc[0]);
        acc[1] = smlabb(x[1], w[1], acc[1]);
        acc[2] = smlatt(x[0], w[0], acc[2]);
        acc[3] = smlatt(x[1], w[1], acc[3]);
        weights = weights.wrapping_add(of.channels);
    }
    acc
}

/// Where a result begins and ends, for four bytes at once.
struct Ends {
    zy: i32,
    lo: u32,
    hi: u32,
}

impl Ends {
    fn new(zy: i32, lo: i32, hi: i32) -> Self {
        let four = |byte: i32| u32::from_le_bytes([byte as u8; LANES]);
        Self { zy, lo: four(lo), hi: four(hi) }
    }

    /// [`crate::arith::requantize`] of four channels from `first` on. Bounds after the rounding are
    /// bounds before it, since they are integers; what is beyond 32 bits is the nearest that is not,
    /// and the loader takes no multiplier of which a product could be no number.
    #[inline(always)]
    fn requantize(&self, acc: [i32; LANES], mult: &[u8], first: usize) -> [u8; LANES] {
        let (mult, _) = mult[4 * first..][..4 * LANES].as_chunks();
        let two = |lane: usize| {
            let mult = [lane, lane + 1].map(|lane| u32::from_le_bytes(mult[lane]));
            let [low, high] = saturated([acc[lane], acc[lane + 1]], mult, self.zy);
            low | high << 8
        };
        let y = two(0) | two(2) << 16;
        within(y, self.lo, self.hi).to_le_bytes()
    }
}

/// Two sums times their `f32`, half to even, plus `zy`, within 0 and 255.
#[cfg(target_abi = "eabihf")]
#[inline(always)]
fn saturated(acc: [i32; 2], mult: [u32; 2], zy: i32) -> [u32; 2] {
    let (low, high);
    // SAFETY: these instructions touch nothing but their registers, and the target has them. `vcvtr`
    // rounds as additions do, and nobody changes that. Some set the flag Q, which nobody reads.
    unsafe {
        asm!(
            "vmov s0, s1, {a}, {b}",
            "vmov s2, s3, {m}, {n}",
            "vcvt.f32.s32 s0, s0",
            "vcvt.f32.s32 s1, s1",
            "vmul.f32 s0, s0, s2",
            "vmul.f32 s1, s1, s3",
            "vcvtr.s32.f32 s0, s0",
            "vcvtr.s32.f32 s1, s1",
            "vmov {a}, {b}, s0, s1",
            "qadd {a}, {a}, {zy}",
            "qadd {b}, {b}, {zy}",
            "usat {a}, #8, {a}",
            "usat {b}, #8, {b}",
            a = inout(reg) acc[0] => low, b = inout(reg) acc[1] => high,
            m = in(reg) mult[0], n = in(reg) mult[1], zy = in(reg) zy,
            out("s0") _, out("s1") _, out("s2") _, out("s3") _,
            options(pure, nomem, nostack),
        );
    }
    [low, high]
}

/// The same where floats are software's.
#[cfg(not(target_abi = "eabihf"))]
#[inline(always)]
fn saturated(acc: [i32; 2], mult: [u32; 2], zy: i32) -> [u32; 2] {
    core::array::from_fn(|at| {
        requantize(acc[at], f32::from_bits(mult[at]), zy, 0, 255).into()
    })
}

/// Four bytes, each within its bounds.
#[inline(always)]
fn within(mut bytes: u32, lo: u32, hi: u32) -> u32 {
    // SAFETY: as above. A difference that does not borrow sets a byte's flag GE, by which `sel` takes the first.
    unsafe {
        asm!(
            "usub8 {t}, {y}, {lo}",
            "sel {y}, {y}, {lo}",
            "usub8 {t}, {hi}, {y}",
            "sel {y}, {y}, {hi}",
            y = inout(reg) bytes, lo = in(reg) lo, hi = in(reg) hi, t = out(reg) _,
            options(pure, nomem, nostack),
        );
    }
    bytes
}

/// Bytes 0 and 2 of a word, and bytes 1 and 3, as pairs of 16 bits.
#[inline(always)]
fn unsigned(word: u32) -> [u32; 2] {
    let (even, odd);
    // SAFETY: these instructions touch nothing but their registers, and the target has them.
    unsafe {
        asm!("uxtb16 {0}, {1}", lateout(reg) even, in(reg) word, options(pure, nomem, nostack, preserves_flags));
        asm!("uxtb16 {0}, {1}, ror #8", lateout(reg) odd, in(reg) word, options(pure, nomem, nostack, preserves_flags));
    }
    [even, odd]
}

/// The same of signed bytes.
#[inline(always)]
fn signed(word: u32) -> [u32; 2] {
    let (even, odd);
    // SAFETY: as above.
    unsafe {
        asm!("sxtb16 {0}, {1}", lateout(reg) even, in(reg) word, options(pure, nomem, nostack, preserves_flags));
        asm!("sxtb16 {0}, {1}, ror #8", lateout(reg) odd, in(reg) word, options(pure, nomem, nostack, preserves_flags));
    }
    [even, odd]
}

macro_rules! multiplies {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])*
        #[inline(always)]
        fn $name(x: u32, w: u32, mut acc: i32) -> i32 {
            // SAFETY: as above. It sets the flag Q, which nobody reads.
            unsafe {
                asm!($text, acc = inout(reg) acc, x = in(reg) x, w = in(reg) w, options(pure, nomem, nostack));
            }
            acc
        })*
    };
}

multiplies! {
    /// Both pairs of 16 bits, multiplied and added.
    smlad = "smlad {acc}, {x}, {w}, {acc}";
    /// The low halves.
    smlabb = "smlabb {acc}, {x}, {w}, {acc}";
    /// The high halves.
    smlatt = "smlatt {acc}, {x}, {w}, {acc}";
}
