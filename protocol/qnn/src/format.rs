//! The file, word by word.
//!
//! Little-endian 32-bit words, everything at an offset that can be computed from the header:
//!
//! ```text
//! header   16 words   magic, version, sizes, counts
//! io       16 words each, inputs then outputs
//! ops      32 words each, in the order in which they run
//! data     weights, biases, multipliers, tables, names; every block at a multiple of 64 bytes
//! ```
//!
//! Offsets of tensors are bytes in the arena, offsets of data are bytes in the file. Activations
//! are `u8`: what ONNX calls `int8` is stored with its top bit flipped, and its zero point moved by
//! 128. Images are NHWC. Nothing refers to anything by index, so a record is checked by itself.
//!
//! Names of fields: `input`, `output`, `a`, `b`, `scratch` are offsets of tensors; `weights`, `bias`
//! (`i32`), `mult` (`f32`), `wzp`, `table` are offsets of data; `i` and `o` before `h`, `w`, `c`:
//! height, width and channels of input and output; `k`, `s`, `d` before `h`, `w`: window, stride and
//! step inside the window; `z` before an operand: its zero point; `lo`, `hi`: the range of the result.

/// What a file begins with: a name, and line ends that a text transfer would change.
pub const MAGIC: [u8; 8] = *b"FWQNN\r\n\x1a";
/// Of this page. A runtime runs exactly the version that it knows.
pub const VERSION: u32 = 1;
/// Words of the header.
pub const HEADER_WORDS: usize = 16;
/// Words of one input or output.
pub const IO_WORDS: usize = 16;
/// Words of one operator.
pub const OP_WORDS: usize = 32;
/// Bytes that every block of data is aligned to: a cache line, and the widest vector.
pub const ALIGN: usize = 64;
/// Output channels of one panel of packed weights.
pub const PANEL: usize = 16;
/// Weights of one output channel that lie together: what one dot-product instruction takes.
pub const QUAD: usize = 4;

/// The numbers of the header behind magic and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole file.
    pub file_bytes: u32,
    /// Bytes of the arena.
    pub arena_bytes: u32,
    /// Inputs, at most [`crate::limits::IO_MAX`].
    pub inputs: u32,
    /// Outputs, at most [`crate::limits::IO_MAX`].
    pub outputs: u32,
    /// Operators, at most [`crate::limits::OPS_MAX`].
    pub ops: u32,
    /// 1 if the first axis of every input was left open and rows stand alone: several may be asked for,
    /// and each is a run of its own. Else 0.
    pub open: u32,
}

impl Header {
    /// The header as it stands in the file.
    pub fn to_words(&self) -> [u32; HEADER_WORDS] {
        let mut words = [0; HEADER_WORDS];
        words[0] = u32::from_le_bytes([MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3]]);
        words[1] = u32::from_le_bytes([MAGIC[4], MAGIC[5], MAGIC[6], MAGIC[7]]);
        words[2] = VERSION;
        words[3] = self.file_bytes;
        words[4] = self.arena_bytes;
        words[5] = self.inputs;
        words[6] = self.outputs;
        words[7] = self.ops;
        words[8] = self.open;
        words
    }

    /// What the words say; magic, version and reserved words are [`crate::load`]'s to check.
    pub fn from_words(words: &[u32; HEADER_WORDS]) -> Self {
        Self {
            file_bytes: words[3],
            arena_bytes: words[4],
            inputs: words[5],
            outputs: words[6],
            ops: words[7],
            open: words[8],
        }
    }
}

/// How the caller's elements are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Quantized on the way in, dequantized on the way out.
    F32 = 0,
    /// As in the arena.
    U8 = 1,
    /// With the top bit flipped.
    S8 = 2,
}

/// An input or output of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Io {
    /// What the caller hands in or takes.
    pub element: Element,
    /// Axes in use.
    pub rank: u32,
    /// Sizes; 1 behind `rank`.
    pub dims: [u32; 6],
    /// Where the bytes lie in the arena, one for each element.
    pub arena: u32,
    /// Elements, the product of `dims`.
    pub elements: u32,
    /// Step of the quantization; used by `F32` alone, finite and above 0 then.
    pub scale: f32,
    /// Zero point in the arena's `u8`.
    pub zero: u32,
    /// Where its name lies in the file.
    pub name: u32,
    /// Bytes of its name, UTF-8.
    pub name_bytes: u32,
}

impl Io {
    /// The record as it stands in the file.
    pub fn to_words(&self) -> [u32; IO_WORDS] {
        let mut words = [0; IO_WORDS];
        words[0] = self.element as u32;
        words[1] = self.rank;
        words[2..8].copy_from_slice(&self.dims);
        words[8] = self.arena;
        words[9] = self.elements;
        words[10] = self.scale.to_bits();
        words[11] = self.zero;
        words[12] = self.name;
        words[13] = self.name_bytes;
        words
    }

    /// What the words say, or nothing for an element type that does not exist.
    pub fn from_words(words: &[u32; IO_WORDS]) -> Option<Self> {
        let element = match words[0] {
            0 => Element::F32,
            1 => Element::U8,
            2 => Element::S8,
            _ => return None,
        };
        Some(Self {
            element,
            rank: words[1],
            dims: [words[2], words[3], words[4], words[5], words[6], words[7]],
            arena: words[8],
            elements: words[9],
            scale: f32::from_bits(words[10]),
            zero: words[11],
            name: words[12],
            name_bytes: words[13],
        })
    }

    /// The sizes in use.
    pub fn shape(&self) -> &[u32] {
        &self.dims[..(self.rank as usize).min(6)]
    }
}

/// A record is its kind and then its fields, a word each, in the order written here.
macro_rules! records {
    ($($(#[$doc:meta])* $name:ident = $kind:literal { $($(#[$note:meta])* $field:ident),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
            #[allow(missing_docs, reason = "the page above says what the common names are")]
            pub struct $name { $($(#[$note])* pub $field: u32),* }
        )*

        /// One step of a run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Op { $($(#[$doc])* $name($name)),* }

        impl Op {
            /// The record as it stands in the file.
            pub fn to_words(&self) -> [u32; OP_WORDS] {
                let mut words = [0; OP_WORDS];
                match self {
                    $(Op::$name(op) => {
                        words[0] = $kind;
                        let fields = [$(op.$field),*];
                        words[1..=fields.len()].copy_from_slice(&fields);
                    })*
                }
                words
            }

            /// What the words say, or nothing for a kind that does not exist.
            pub fn from_words(words: &[u32; OP_WORDS]) -> Option<Self> {
                let mut next = words[1..].iter().copied();
                match words[0] {
                    $($kind => Some(Op::$name($name { $($field: next.next()?),* })),)*
                    _ => None,
                }
            }

            /// The names of all of them.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Its name, as `inspect` prints it.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$name(_) => stringify!($name)),* }
            }
        }
    };
}

records! {
    /// Dense convolution, and with a 1x1 window on one row of pixels a fully connected layer.
    ///
    /// Weights: for each group, for each panel of 16 output channels, for each 4 inputs in order
    /// (window row, window column, channel), 16 times 4 bytes; zeros where there is no channel or input.
    /// With one group and no step inside a line each row of the window begins a new quad.
    Conv = 1 {
        input, output, batch, ih, iw, ic, oh, ow, oc, kh, kw, sh, sw, dh, dw,
        /// Rows of padding above.
        pt,
        /// Columns of padding to the left. What else the window sees beyond the edge is padding too.
        pl,
        groups, zx, zy, lo, hi, weights, bias, mult,
        /// Where an `i32` for each output channel is the zero point of its weights; 0: they have none.
        wzp,
        /// Where `scratch_bytes` bytes can hold lines or rows of the input: [`crate::scratch_bytes`].
        scratch, scratch_bytes,
    }
    /// Convolution of each channel by itself; output channel `c * multiplier + j` reads channel `c`.
    ///
    /// Weights: for each place in the window, a byte for each output channel.
    Depthwise = 2 {
        input, output, batch, ih, iw, ic, oh, ow, multiplier, kh, kw, sh, sw, dh, dw, pt, pl,
        zx, zy, lo, hi, weights, bias, mult, wzp,
        /// Where `ic` bytes can hold a pixel of padding.
        scratch,
    }
    /// `a * ratio_a + (b * ratio_b + fixed)`; the shorter operand repeats.
    Add = 3 {
        a, a_bytes, b, b_bytes, output, bytes,
        /// Bits of an `f32`.
        ratio_a,
        /// Bits of an `f32`.
        ratio_b,
        /// Bits of an `f32`.
        fixed,
        /// What flips a stored byte into the operand's own type: 0 for `u8`, 128 for `int8`.
        flip_a, flip_b, flip_y, lo, hi,
    }
    /// `(a - za) * (b - zb) * mult`; the shorter operand repeats.
    Mul = 4 { a, a_bytes, b, b_bytes, output, bytes, za, zb, zy, lo, hi, mult }
    /// Every byte through 256 bytes of the file: all functions of one operand.
    Table = 5 { input, output, bytes, table }
    /// Moves bytes: transpose, slice, concat, repeat. Five axes, a stride of each side for each.
    Copy = 6 { input, output, d0, d1, d2, d3, d4, i0, i1, i2, i3, i4, o0, o1, o2, o3, o4 }
    /// Sets bytes to one value.
    Fill = 7 { output, bytes, value }
    /// The largest byte of each window; padding never wins.
    MaxPool = 8 { input, output, batch, ih, iw, ic, oh, ow, kh, kw, sh, sw, dh, dw, pt, pl }
    /// The mean of each window, rescaled.
    AvgPool = 9 {
        input, output, batch, ih, iw, ic, oh, ow, kh, kw, sh, sw, dh, dw, pt, pl,
        /// 1: padding counts as zeros; 0: it does not count.
        count_pad,
        zx, zy, lo, hi,
        /// Bits of an `f32`: the step of the input.
        scale_x,
        /// Bits of an `f32`: the step of the output.
        scale_y,
    }
    /// Softmax over the middle one of three axes.
    Softmax = 10 {
        input, output, outer, axis, inner,
        /// Where 256 `u32` hold `2^23 * exp(-i * scale)`.
        table,
        zy,
        /// Bits of an `f32`: the step of the output.
        scale_y,
    }
    /// Product of two activations, a batch of them; one multiplier.
    MatMul = 11 {
        a, b, output, batch, m, k, n,
        /// 1: every product has its own `b`; 0: all share one.
        own_b,
        za, zb, zy, lo, hi, mult,
    }
    /// Bytes of the file that a step reads as it reads what was computed.
    Load = 12 { output, bytes, data }
    /// Linear interpolation: two rows and two columns make a pixel.
    ///
    /// Rows and columns: for each of the output two `u32`, where it reads, and two `f32`, how much of each.
    Resize = 13 {
        input, output, batch, ih, iw, ic, oh, ow, rows, columns, zx, zy, lo, hi,
        /// Bits of an `f32`: the step of the input by that of the output.
        mult,
    }
}
