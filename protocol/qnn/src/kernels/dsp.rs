//! Armv7E-M (Cortex-M4, M7): two products of 16 bits in one instruction, `smlad`; four bytes held within
//! their bounds in another four.
//!
//! Bytes are widened in pairs by `uxtb16` and `sxtb16`: bytes 0 and 2 of a word, or 1 and 3. Their
//! intrinsics are not stable yet, hence the assembler. Which target has them is known when it is compiled.
//!
//! Sums stay in registers until they are bytes: an index that is not known when this is compiled would
//! put them into memory, once for each step of the loop over the inputs.

use super::channelwise::{Block, TAPS_MAX, blocks};
use super::{Channelwise, Gemm, portable};
#[cfg(not(target_abi = "eabihf"))]
use crate::arith::{fused, requantize};
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
        for first in (0..of.columns).step_by(LANES) {
            group(of, &ends, first, output);
        }
    }

    pub(super) fn depthwise(self, of: &Channelwise<'_>, output: &mut [u8]) {
        blocks(of, of.channels, output, every_channel);
    }

    pub(super) fn add(self, op: &Add, a: &[u8], b: &[u8], output: &mut [u8]) {
        portable::add_by(op, a, b, output, fused);
    }
}

/// Whether [`Isa::depthwise`] does this; the portable kernel does the rest.
pub(super) fn takes(of: &Channelwise<'_>) -> bool {
    let taps = of.window.kh as usize * of.window.kw as usize;
    of.wzp.is_none() && of.multiplier == 1 && of.channels >= LANES && taps <= TAPS_MAX
}

/// All rows times four channels from `first` on. Two rows at a time would want more registers than there
/// are: 61 instructions for what takes 28 and 28.
fn group(of: &Gemm<'_>, ends: &Ends, first: usize, output: &mut [u8]) {
    let (bias, mult) = (four(of.bias, first), four(of.mult, first));
    // A last group may reach beyond the channels, never beyond the panel: it has 16.
    let panel = &of.weights[first / PANEL * PANEL * of.depth()..][..PANEL * of.depth()];
    let weights = panel[first % PANEL * QUAD..].as_ptr();
    for (row, line) in output.chunks_mut(of.output_stride).take(of.rows).enumerate() {
        let row = of.input[row * of.input_stride..].as_ptr();
        // SAFETY: the entry has checked that all runs of all rows lie in `input`; the panel has
        // `depth` times 16 weights, of which these are four in sixteen.
        let acc = unsafe { sums(of, row, weights, bias.map(|bias| bias as i32)) };
        let bytes = ends.requantize(acc, mult);
        let line = &mut line[first..of.columns];
        match line.first_chunk_mut() {
            Some(word) => *word = bytes,
            None => line.copy_from_slice(&bytes[..line.len()]),
        }
    }
}

/// One row times four channels.
///
/// # Safety
/// `of.run` bytes can be read at `row` and at `of.runs - 1` further places, `of.run_stride` apart, and
/// 16 bytes at `weights` and at further places, a quad of a panel apart: one for each four of those bytes.
#[inline(always)]
unsafe fn sums(
    of: &Gemm<'_>,
    row: *const u8,
    mut weights: *const u8,
    mut acc: [i32; LANES],
) -> [i32; LANES] {
    for run in 0..of.runs {
        let mut input = row.wrapping_add(run * of.run_stride);
        for _ in 0..of.run / QUAD {
            // SAFETY: the caller's promise; behind the last quad only addresses are made.
            let (x, w) = unsafe {
                (
                    input.cast::<u32>().read_unaligned(),
                    weights.cast::<[u32; LANES]>().read_unaligned(),
                )
            };
            let x = unsigned(x);
            for (acc, w) in acc.iter_mut().zip(w) {
                let w = signed(w);
                *acc = smlad(x[1], w[1], smlad(x[0], w[0], *acc));
            }
            input = input.wrapping_add(QUAD);
            weights = weights.wrapping_add(PANEL * QUAD);
        }
    }
    acc
}

/// Four words of a list, from the one with this number on.
#[inline(always)]
fn four(words: &[u8], first: usize) -> [u32; LANES] {
    let (words, _) = words[4 * first..][..4 * LANES].as_chunks();
    core::array::from_fn(|lane| u32::from_le_bytes(words[lane]))
}

/// Pixel by pixel: all channels meet the places that were found once.
fn every_channel(block: &Block<'_>, lines: Range<u32>, output: &mut [u8]) {
    let (of, window) = (block.of, &block.of.window);
    let taps = (window.kh * window.kw) as usize;
    let ends = Ends::new(of.zy, of.lo, of.hi);
    let mut places = [[of.padding.as_ptr()]; TAPS_MAX];
    for (oy, pixels) in block.lines(lines, output) {
        let rows = window.rows(oy);
        let mut was_inside = false;
        for (ox, output) in pixels.enumerate() {
            let base = (ox as u32 * window.sw) as i32 - window.pl as i32;
            let is_inside = base >= 0 && base as u32 + (window.kw - 1) * window.dw < window.iw;
            match is_inside && was_inside {
                true => block.step(&mut places, rows),
                false => block.see(&mut places, rows, base),
            }
            was_inside = is_inside;
            for from in (0..of.channels).step_by(LANES) {
                // A last word that would reach beyond the channels begins earlier and repeats some.
                let from = from.min(of.channels - LANES);
                // SAFETY: the block has all channels, so they can be read at each place; the entry has
                // checked that all channels have a bias and a multiplier, and weights for every place.
                let bytes = unsafe { window_bytes(of, &ends, &places[..taps], from) };
                output[from..][..LANES].copy_from_slice(&bytes);
            }
        }
    }
}

/// Four channels of one pixel.
///
/// # Safety
/// From channel `from` on four bytes can be read at each place, so many weights of each, and so many
/// biases and multipliers.
#[inline(always)]
unsafe fn window_bytes(
    of: &Channelwise<'_>,
    ends: &Ends,
    places: &[[*const u8; 1]],
    from: usize,
) -> [u8; LANES] {
    // SAFETY: the caller's promise.
    let four = |words: &[u8]| unsafe {
        words.as_ptr().add(4 * from).cast::<[u32; LANES]>().read_unaligned()
    };
    let mut acc = four(of.bias).map(|bias| bias as i32);
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
    ends.requantize(acc, four(of.mult))
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

    /// [`crate::arith::requantize`] of four channels. Bounds after the rounding are
    /// bounds before it, since they are integers; what is beyond 32 bits is the nearest that is not,
    /// and the loader takes no multiplier of which a product could be no number.
    #[inline(always)]
    fn requantize(&self, acc: [i32; LANES], mult: [u32; LANES]) -> [u8; LANES] {
        let [a, b] = saturated([acc[0], acc[1]], [mult[0], mult[1]], self.zy);
        let [c, d] = saturated([acc[2], acc[3]], [mult[2], mult[3]], self.zy);
        within(a | b << 8 | c << 16 | d << 24, self.lo, self.hi).to_le_bytes()
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
    core::array::from_fn(|at| requantize(acc[at], f32::from_bits(mult[at]), zy, 0, 255).into())
}

/// `x * y + z`, rounded once.
#[cfg(target_abi = "eabihf")]
#[inline(always)]
pub(super) fn fused(x: f32, y: f32, z: f32) -> f32 {
    let bits;
    // SAFETY: as above. A library that knows no such instruction takes some 350 for it.
    unsafe {
        asm!(
            "vmov s0, s1, {x}, {y}",
            "vmov s2, {z}",
            "vfma.f32 s2, s0, s1",
            "vmov {z}, s2",
            x = in(reg) x.to_bits(), y = in(reg) y.to_bits(), z = inout(reg) z.to_bits() => bits,
            out("s0") _, out("s1") _, out("s2") _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    f32::from_bits(bits)
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
