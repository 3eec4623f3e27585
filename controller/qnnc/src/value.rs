//! What a name of the graph stands for while it is lowered.
//!
//! A quantized graph is written in real numbers: what is between DequantizeLinear and QuantizeLinear
//! is not stored anywhere. So a real number stays an expression until QuantizeLinear says how it is
//! to be stored; then the whole expression becomes one step. What only moves numbers, or takes the
//! largest of some, commutes with that and is done on the bytes.

use crate::tensor::Const;
use std::rc::Rc;

/// Bytes in the arena.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    /// Which buffer of the program.
    pub(crate) buffer: usize,
    /// As ONNX sees it.
    pub(crate) shape: Vec<usize>,
    /// Whether axis 1 lies last in memory.
    pub(crate) channels_last: bool,
}

impl Tensor {
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes from one index to the next, for each axis as ONNX sees it.
    pub(crate) fn strides(&self) -> Vec<usize> {
        let rank = self.shape.len();
        let order: Vec<usize> = match self.channels_last && rank > 1 {
            true => std::iter::once(0).chain(2..rank).chain([1]).collect(),
            false => (0..rank).collect(),
        };
        let mut strides = vec![1; rank];
        let mut step = 1;
        for &axis in order.iter().rev() {
            strides[axis] = step;
            step *= self.shape[axis];
        }
        strides
    }

    /// Whether both ways to lie in memory are the same.
    pub(crate) fn either_way(&self) -> bool {
        self.shape.len() < 3 || self.shape[1] == 1 || self.shape[2..].iter().all(|&dim| dim == 1)
    }
}

/// How bytes stand for real numbers; `zero` is of the arena's `u8`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quant {
    pub(crate) scale: f32,
    pub(crate) zero: u8,
    /// 128 where ONNX says `int8`, else 0: what it takes to get ONNX's own number.
    pub(crate) flip: u8,
}

/// A constant with its scales: one, or one for each index of `axis`.
#[derive(Debug, Clone)]
pub(crate) struct Scaled {
    pub(crate) data: Rc<Const>,
    pub(crate) scales: Vec<f32>,
    pub(crate) zeros: Vec<i64>,
    pub(crate) axis: usize,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Known now.
    Const(Rc<Const>),
    /// Known now, dequantized.
    Scaled(Rc<Scaled>),
    /// Bytes, and whether ONNX calls them `int8`.
    Stored(Tensor, bool),
    /// A real number that is not stored.
    Real(Rc<Real>),
}

/// Real numbers, as an expression over stored bytes.
#[derive(Debug)]
pub(crate) enum Real {
    /// An input of the graph, by index.
    Input(usize),
    /// Stored bytes.
    Stored(Tensor, Quant),
    /// A function of each number.
    Map(Func, Rc<Real>),
    /// Numbers at other places, or some of them.
    Move(Move, Rc<Real>),
    Conv(ConvOf),
    Product(ProductOf),
    Sum {
        a: Rc<Real>,
        b: Rc<Real>,
        minus: bool,
    },
    Times {
        a: Rc<Real>,
        b: Rc<Real>,
    },
    AvgPool {
        of: Rc<Real>,
        window: Pool,
        count_pad: bool,
    },
    Softmax {
        of: Rc<Real>,
        axis: usize,
    },
    Concat {
        of: Vec<Rc<Real>>,
        axis: usize,
    },
    /// Known now; stored as whatever it is put beside.
    Fixed(Rc<Const>),
    /// The mean over the middle one of three axes; `shape` is that of the result.
    Mean {
        of: Rc<Real>,
        axes: [usize; 3],
        shape: Vec<usize>,
    },
    /// Linear interpolation along the axes of an image.
    Resize {
        of: Rc<Real>,
        rows: Vec<Taps>,
        columns: Vec<Taps>,
    },
    Spread(SpreadOf),
}

/// Two places of one axis, and how much of each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Taps {
    pub(crate) at: [u32; 2],
    pub(crate) share: [f32; 2],
}

/// A transposed convolution: every input adds a window of weights to the output.
#[derive(Debug, Clone)]
pub(crate) struct SpreadOf {
    pub(crate) input: Tensor,
    pub(crate) quant: Quant,
    /// `[ic, oc / groups, kh, kw]`, without steps inside.
    pub(crate) weights: Rc<Scaled>,
    pub(crate) bias: Option<Bias>,
    pub(crate) strides: [usize; 2],
    /// What the output lacks above and to the left.
    pub(crate) cut: [usize; 2],
    pub(crate) groups: usize,
    /// Of the result.
    pub(crate) shape: Vec<usize>,
}

/// A convolution with constant weights.
#[derive(Debug, Clone)]
pub(crate) struct ConvOf {
    pub(crate) input: Tensor,
    pub(crate) quant: Quant,
    pub(crate) weights: Rc<Scaled>,
    pub(crate) bias: Option<Bias>,
    pub(crate) window: Pool,
    pub(crate) groups: usize,
}

/// A product of matrices.
#[derive(Debug, Clone)]
pub(crate) struct ProductOf {
    pub(crate) a: Tensor,
    pub(crate) quant: Quant,
    pub(crate) b: Right,
    pub(crate) bias: Option<Bias>,
}

/// The right side of a product.
#[derive(Debug, Clone)]
pub(crate) enum Right {
    /// `[n, k]` if `by_rows`, else `[k, n]`.
    Weights {
        of: Rc<Scaled>,
        by_rows: bool,
    },
    Stored(Tensor, Quant),
}

/// What is added to every sum of a channel.
#[derive(Debug, Clone)]
pub(crate) enum Bias {
    /// In steps of the accumulator already.
    Steps(Vec<i64>),
    /// Real numbers: one, or one for each channel.
    Reals(Vec<f64>),
}

/// A window over two axes; one-dimensional ones have height 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pool {
    pub(crate) kernel: [usize; 2],
    pub(crate) strides: [usize; 2],
    pub(crate) dilations: [usize; 2],
    /// Above, left, below, right.
    pub(crate) pads: [usize; 4],
    pub(crate) ceil: bool,
}

/// What moves numbers without changing them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Move {
    Reshape(Vec<usize>),
    Transpose(Vec<usize>),
    /// First index, count and step for each axis.
    Slice(Vec<(usize, usize, usize)>),
    /// Before and behind each axis, and what is put there.
    Pad(Vec<(usize, usize)>, f32),
    /// Repeats axes of size 1.
    Expand(Vec<usize>),
    /// Repeats each index of an axis.
    Repeat(Vec<usize>),
    /// These indices of one axis.
    Pick(usize, Vec<usize>),
    MaxPool(Pool),
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Func {
    Clip(f32, f32),
    Leaky(f32),
    Elu(f32),
    Sigmoid,
    Tanh,
    HardSigmoid(f32, f32),
    HardSwish,
    Exp,
    Sqrt,
    Erf,
    Abs,
    Neg,
    Times(f32),
    Over(f32),
    Plus(f32),
}

impl Func {
    /// As onnxruntime's float operator has it, from software functions: the same bits everywhere.
    pub(crate) fn apply(self, x: f32) -> f32 {
        match self {
            Self::Clip(lo, hi) => x.max(lo).min(hi),
            Self::Leaky(slope) => {
                if x >= 0.0 {
                    x
                } else {
                    x * slope
                }
            }
            Self::Elu(alpha) => {
                if x >= 0.0 {
                    x
                } else {
                    alpha * libm::expm1f(x)
                }
            }
            Self::Sigmoid => 1.0 / (1.0 + libm::expf(-x)),
            Self::Tanh => libm::tanhf(x),
            Self::HardSigmoid(alpha, beta) => (alpha * x + beta).clamp(0.0, 1.0),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::Exp => libm::expf(x),
            Self::Sqrt => libm::sqrtf(x),
            Self::Erf => libm::erff(x),
            Self::Abs => x.abs(),
            Self::Neg => -x,
            Self::Times(factor) => x * factor,
            Self::Over(divisor) => x / divisor,
            Self::Plus(term) => x + term,
        }
    }
}
