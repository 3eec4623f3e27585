//! Kernels: where the time goes. One portable set, and one for each family of vector units.
//!
//! All sets give the same bits: they sum integers, and round by [`crate::arith`]. Which set runs is
//! decided once, by what the processor says it can do. `unsafe` lives only in the modules of the
//! vector sets, each block argued, behind the checked functions of [`Kernels`].

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", qnn_dsp))]
mod channelwise;
#[cfg(any(test, feature = "check"))]
pub mod check;
pub(crate) mod portable;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code, reason = "vector instructions; every block is argued where it stands")]
#[path = "aarch64/mod.rs"]
mod vector;
#[cfg(qnn_dsp)]
#[allow(unsafe_code, reason = "DSP instructions; every block is argued where it stands")]
#[path = "dsp.rs"]
mod vector;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector instructions; every block is argued where it stands")]
#[path = "x86/mod.rs"]
mod vector;

use crate::conv::Window;
use crate::format::{Add, PANEL, QUAD};
use core::ops::Range;

/// A product of matrices: bytes times packed weights, requantized.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gemm<'a> {
    /// Rows of the input and of the output.
    pub(crate) rows: usize,
    /// Runs of bytes that make up a row.
    pub(crate) runs: usize,
    /// Bytes of a run that meet weights, a multiple of 4.
    pub(crate) run: usize,
    /// Those of them that are inputs; the others meet zeros.
    pub(crate) inputs: usize,
    /// Bytes from one run of a row to the next.
    pub(crate) run_stride: usize,
    /// Output channels; the weights have whole panels of 16.
    pub(crate) columns: usize,
    pub(crate) input: &'a [u8],
    /// Bytes from one row to the next.
    pub(crate) input_stride: usize,
    /// [`crate::format::Conv`] says how they lie.
    pub(crate) weights: &'a [u8],
    /// An `i32` for each channel of the panels; zero points of input and weights are folded in.
    pub(crate) bias: &'a [u8],
    /// An `f32` for each channel of the panels.
    pub(crate) mult: &'a [u8],
    /// An `i32` for each channel of the panels, if weights have zero points.
    pub(crate) wzp: Option<&'a [u8]>,
    pub(crate) zy: i32,
    pub(crate) lo: i32,
    pub(crate) hi: i32,
    /// Bytes from one row to the next.
    pub(crate) output_stride: usize,
}

impl Gemm<'_> {
    /// Weights of one output channel.
    pub(crate) fn depth(&self) -> usize {
        self.runs * self.run
    }

    /// Some of its rows, for the output's part from the first of them on.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Option<Self> {
        let input = self.input.get(rows.start * self.input_stride..)?;
        Some(Self { rows: rows.len(), input, ..*self })
    }

    /// Some of its panels, for the output's part from the first of them on. The `last` part has
    /// the channels beyond whole panels too.
    pub(crate) fn panels(&self, panels: Range<usize>, last: bool) -> Option<Self> {
        let from = panels.start * PANEL;
        let columns = if last { self.columns - from } else { panels.len() * PANEL };
        Some(Self {
            columns,
            weights: self.weights.get(from * self.depth()..)?,
            bias: self.bias.get(from * 4..)?,
            mult: self.mult.get(from * 4..)?,
            wzp: self.wzp.and_then(|wzp| wzp.get(from * 4..)),
            ..*self
        })
    }
}

/// A convolution of each channel by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channelwise<'a> {
    pub(crate) window: Window,
    pub(crate) batch: usize,
    /// Lines of each image's output: the first, and the one behind the last. The output has no others.
    pub(crate) lines: (u32, u32),
    /// Of the input.
    pub(crate) channels: usize,
    /// Output channels for each of them.
    pub(crate) multiplier: usize,
    pub(crate) input: &'a [u8],
    /// A pixel of padding.
    pub(crate) padding: &'a [u8],
    /// For each place in the window, a byte for each output channel.
    pub(crate) weights: &'a [u8],
    pub(crate) bias: &'a [u8],
    pub(crate) mult: &'a [u8],
    pub(crate) wzp: Option<&'a [u8]>,
    pub(crate) zy: i32,
    pub(crate) lo: i32,
    pub(crate) hi: i32,
}

impl Channelwise<'_> {
    /// Some lines of its only image.
    pub(crate) fn lines(&self, lines: Range<usize>) -> Self {
        Self { lines: (lines.start as u32, lines.end as u32), ..*self }
    }

    /// Some of its images.
    pub(crate) fn images(&self, images: Range<usize>) -> Option<Self> {
        let bytes = self.window.ih as usize * self.window.iw as usize * self.channels;
        let input = self.input.get(images.start * bytes..)?;
        Some(Self { batch: images.len(), input, ..*self })
    }
}

/// A set of kernels that this processor can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", qnn_dsp))]
    Vector(vector::Isa),
}

impl Kernels {
    /// The set that runs everywhere, and that all others are held against.
    pub const fn portable() -> Self {
        Self(Set::Portable)
    }

    /// The fastest set that this processor can run.
    pub fn best() -> Self {
        Self::all().last().unwrap_or(Self::portable())
    }

    /// Every set that this processor can run, the portable one first, the fastest last.
    pub fn all() -> impl Iterator<Item = Self> {
        let sets = core::iter::once(Set::Portable);
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", qnn_dsp))]
        let sets =
            sets.chain(vector::Isa::ALL.into_iter().filter(|isa| isa.is_here()).map(Set::Vector));
        sets.map(Self)
    }

    /// As reports and `inspect` show it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", qnn_dsp))]
            Set::Vector(isa) => isa.name(),
        }
    }

    pub(crate) fn gemm(self, of: &Gemm<'_>, output: &mut [u8]) {
        assert!(of.rows > 0 && of.runs > 0 && of.run.is_multiple_of(QUAD) && of.inputs <= of.run);
        let columns = of.columns.next_multiple_of(PANEL);
        let last = (of.rows - 1) * of.input_stride + (of.runs - 1) * of.run_stride;
        assert!(last + of.run <= of.input.len());
        assert!((of.rows - 1) * of.output_stride + of.columns <= output.len());
        assert!(columns * of.depth() <= of.weights.len());
        assert!(columns * 4 <= of.bias.len() && columns * 4 <= of.mult.len());
        match self.0 {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", qnn_dsp))]
            Set::Vector(isa) if of.wzp.is_none() => isa.gemm(of, output),
            _ => portable::gemm(of, output),
        }
    }

    pub(crate) fn depthwise(self, of: &Channelwise<'_>, output: &mut [u8]) {
        let (window, all) = (&of.window, of.channels * of.multiplier);
        let pixels = |h: u32, w: u32| of.batch * h as usize * w as usize;
        assert!(pixels(window.ih, window.iw) * of.channels <= of.input.len());
        assert!(of.lines.0 < of.lines.1 && of.lines.1 <= window.oh);
        assert!(pixels(of.lines.1 - of.lines.0, window.ow) * all <= output.len());
        assert!(of.channels <= of.padding.len());
        assert!(window.kh as usize * window.kw as usize * all <= of.weights.len());
        assert!(all * 4 <= of.bias.len() && all * 4 <= of.mult.len());
        match self.0 {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", qnn_dsp))]
            Set::Vector(isa) if vector::takes(of) => isa.depthwise(of, output),
            _ => portable::depthwise(of, output),
        }
    }

    pub(crate) fn add(self, op: &Add, a: &[u8], b: &[u8], output: &mut [u8]) {
        match self.0 {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", qnn_dsp))]
            // A shorter operand repeats, which vectors have no use for.
            Set::Vector(isa)
                if cfg!(qnn_dsp) || (a.len() == output.len() && b.len() == output.len()) =>
            {
                isa.add(op, a, b, output);
            }
            _ => portable::add(op, a, b, output),
        }
    }
}

/// The `index`-th number of packed bytes.
#[inline(always)]
pub(crate) fn int(bytes: &[u8], index: usize) -> i32 {
    i32::from_le_bytes(bytes.as_chunks::<4>().0[index])
}

/// The `index`-th number of packed bytes.
#[inline(always)]
pub(crate) fn real(bytes: &[u8], index: usize) -> f32 {
    f32::from_le_bytes(bytes.as_chunks::<4>().0[index])
}
