//! x86-64 with AVX2 and FMA, with AVX-VNNI, with AVX-512 and VNNI.
//!
//! Exact products of `u8` and `i8` are `vpmaddwd` over bytes widened to 16 bits in AVX2 (the shorter
//! `vpmaddubsw` saturates and is not used), and `vpdpbusd` with VNNI. Rounding is the processor's own
//! conversion, which rounds half to even unless somebody changes MXCSR, and nobody in this program does.
//! What VNNI does not speed up, or has too few channels for its vectors, is AVX2's there, too.

mod add;
mod depthwise;
mod gemm;
mod requant;
mod vnni;

use super::channelwise::TAPS_MAX;
use super::{Channelwise, Gemm};
use crate::format::Add;
use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// Sets of kernels, the fastest last. Those with VNNI need what AVX2 needs, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    Avx2,
    AvxVnni,
    Avx512Vnni,
}

impl Isa {
    pub(super) const ALL: [Self; 3] = [Self::Avx2, Self::AvxVnni, Self::Avx512Vnni];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
        }
    }

    /// Whether processor and operating system give it.
    pub(super) fn is_here(self) -> bool {
        if cfg!(miri) {
            // Miri runs no `cpuid`, but knows the instructions that it was asked for. It lacks some of
            // AVX-512's on floats.
            return match self {
                Self::Avx2 => cfg!(all(target_feature = "avx2", target_feature = "fma")),
                Self::AvxVnni => cfg!(target_feature = "avxvnni"),
                Self::Avx512Vnni => false,
            };
        }
        const FMA: u32 = 1 << 12;
        const XSAVE: u32 = 1 << 27; // switched on by the operating system
        const AVX: u32 = 1 << 28;
        const AVX2: u32 = 1 << 5;
        const AVX512F: u32 = 1 << 16;
        const AVX512_VNNI: u32 = 1 << 11;
        const AVX_VNNI: u32 = 1 << 4;
        const YMM: u64 = 0b110; // it saves both halves of the vectors
        const ZMM: u64 = 0b1110_0110; // and masks, upper halves, upper registers
        if __cpuid(0).eax < 7 || __cpuid(1).ecx & (FMA | XSAVE | AVX) != FMA | XSAVE | AVX {
            return false;
        }
        // SAFETY: the XSAVE bit above says that this instruction exists.
        let saved = unsafe { _xgetbv(0) };
        let leaf = __cpuid_count(7, 0);
        let avx2 = saved & YMM == YMM && leaf.ebx & AVX2 != 0;
        avx2 && match self {
            Self::Avx2 => true,
            Self::AvxVnni => leaf.eax >= 1 && __cpuid_count(7, 1).eax & AVX_VNNI != 0,
            Self::Avx512Vnni => {
                saved & ZMM == ZMM && leaf.ebx & AVX512F != 0 && leaf.ecx & AVX512_VNNI != 0
            }
        }
    }

    pub(super) fn gemm(self, of: &Gemm<'_>, output: &mut [u8]) {
        // SAFETY: an `Isa` of `Kernels` exists only where `is_here` said yes.
        unsafe {
            match self {
                Self::Avx2 => gemm::gemm(of, output),
                Self::AvxVnni => vnni::avx::gemm(of, output),
                Self::Avx512Vnni => vnni::avx512::gemm(of, output),
            }
        }
    }

    pub(super) fn depthwise(self, of: &Channelwise<'_>, output: &mut [u8]) {
        // SAFETY: as above, and each needs what AVX2 needs.
        unsafe {
            match self {
                Self::AvxVnni if vnni::avx::takes(of) => vnni::avx::depthwise(of, output),
                Self::Avx512Vnni if vnni::avx512::takes(of) => vnni::avx512::depthwise(of, output),
                _ => depthwise::depthwise(of, output),
            }
        }
    }

    pub(super) fn add(self, op: &Add, a: &[u8], b: &[u8], output: &mut [u8]) {
        // SAFETY: as above.
        unsafe { add::add(op, a, b, output) }
    }
}

/// Whether [`Isa::depthwise`] does this; the portable kernel does the rest.
pub(super) fn takes(of: &Channelwise<'_>) -> bool {
    let taps = of.window.kh as usize * of.window.kw as usize;
    of.wzp.is_none() && of.multiplier == 1 && of.channels >= 8 && taps <= TAPS_MAX
}
