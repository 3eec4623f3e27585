//! x86-64 with AVX2 and FMA.
//!
//! Exact products of `u8` and `i8` there are `vpmaddwd` over bytes widened to 16 bits; the shorter
//! `vpmaddubsw` saturates and is not used. Rounding is the processor's own conversion, which rounds
//! half to even unless somebody changes MXCSR, and nobody in this program does.

mod add;
mod depthwise;
mod gemm;
mod requant;

use super::{Channelwise, Gemm};
use crate::format::Add;
use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// Whether processor and operating system give AVX2 and FMA.
pub(super) fn has_avx2() -> bool {
    const FMA: u32 = 1 << 12;
    const XSAVE: u32 = 1 << 27; // switched on by the operating system
    const AVX: u32 = 1 << 28;
    const AVX2: u32 = 1 << 5;
    const YMM: u64 = 0b110; // it saves both halves of the vectors
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & (FMA | XSAVE | AVX) != FMA | XSAVE | AVX {
        return false;
    }
    // SAFETY: the XSAVE bit above says that this instruction exists.
    let saved = unsafe { _xgetbv(0) };
    saved & YMM == YMM && __cpuid_count(7, 0).ebx & AVX2 != 0
}

pub(super) fn gemm(of: &Gemm<'_>, output: &mut [u8]) {
    // SAFETY: only `Isa::Avx2` calls this, and it exists only where `has_avx2` said yes.
    unsafe { gemm::gemm(of, output) }
}

/// Whether [`depthwise()`] does this; the portable kernel does the rest.
pub(super) fn takes(of: &Channelwise<'_>) -> bool {
    let taps = of.window.kh as usize * of.window.kw as usize;
    of.wzp.is_none() && of.multiplier == 1 && of.channels >= 8 && taps <= depthwise::TAPS_MAX
}

pub(super) fn depthwise(of: &Channelwise<'_>, output: &mut [u8]) {
    // SAFETY: as above.
    unsafe { depthwise::depthwise(of, output) }
}

pub(super) fn add(op: &Add, a: &[u8], b: &[u8], output: &mut [u8]) {
    // SAFETY: as above.
    unsafe { add::add(op, a, b, output) }
}
