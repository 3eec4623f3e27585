//! AArch64: NEON, which every processor has; dot products (Armv8.2, since Cortex-A55 and A75); and products
//! of small matrices (`i8mm`, Armv8.6).
//!
//! The instructions of the latter two have no stable intrinsics yet, hence the assembler around them.

mod add;
mod depthwise;
mod gemm;
mod mmla;
mod requant;

use super::channelwise::TAPS_MAX;
use super::{Channelwise, Gemm};
use crate::format::Add;

/// Sets of kernels, the fastest last. They differ in products of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    Neon,
    Dot,
    I8mm,
}

impl Isa {
    pub(super) const ALL: [Self; 3] = [Self::Neon, Self::Dot, Self::I8mm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Neon => "neon",
            Self::Dot => "neon-dot",
            Self::I8mm => "neon-i8mm",
        }
    }

    /// Whether the processor has it: asked at run time where there is an operating system.
    pub(super) fn is_here(self) -> bool {
        #[cfg(feature = "std")]
        return match self {
            Self::Neon => true,
            Self::Dot => std::arch::is_aarch64_feature_detected!("dotprod"),
            Self::I8mm => std::arch::is_aarch64_feature_detected!("i8mm"),
        };
        #[cfg(not(feature = "std"))]
        return match self {
            Self::Neon => true,
            Self::Dot => cfg!(target_feature = "dotprod"),
            Self::I8mm => cfg!(target_feature = "i8mm"),
        };
    }

    pub(super) fn gemm(self, of: &Gemm<'_>, output: &mut [u8]) {
        match self {
            Self::Neon => gemm::with::<gemm::Long>(of, output),
            Self::Dot => gemm::with::<gemm::Dot>(of, output),
            Self::I8mm => mmla::gemm(of, output),
        }
    }

    pub(super) fn depthwise(self, of: &Channelwise<'_>, output: &mut [u8]) {
        depthwise::depthwise(of, output);
    }

    pub(super) fn add(self, op: &Add, a: &[u8], b: &[u8], output: &mut [u8]) {
        add::add(op, a, b, output);
    }
}

/// Whether [`Isa::depthwise`] does this; the portable kernel does the rest.
pub(super) fn takes(of: &Channelwise<'_>) -> bool {
    let taps = of.window.kh as usize * of.window.kw as usize;
    of.wzp.is_none() && of.multiplier == 1 && of.channels >= 8 && taps <= TAPS_MAX
}
