//! Every bound of the runtime, with its unit and its reason.
//!
//! Files are signed, and checked all the same: a bound here is what makes a hostile file cost a
//! refusal and not a hang. All are far above what an edge model has.

/// Bytes of a file: `agent/engine` takes no larger model either.
pub const FILE_BYTES_MAX: usize = 256 << 20;
/// Bytes of the arena, the only memory that a run needs. MobileNetV2 at 224 pixels has 2.4 MB.
pub const ARENA_BYTES_MAX: usize = 256 << 20;
/// Operators in a file: the front end of `agent/engine` takes 5,000 nodes.
pub const OPS_MAX: usize = 5_000;
/// Inputs and outputs, each.
pub const IO_MAX: usize = 32;
/// Axes of an input or output.
pub const RANK_MAX: usize = 6;
/// Size of one axis, stride, pad or window: keeps products of four of them inside 64 bits.
pub const DIM_MAX: u32 = 1 << 16;
/// Elements that one output sums over: `255 * 128 * 65,536` still fits an `i32`.
pub const DEPTH_MAX: u64 = 1 << 16;
/// Multiply-accumulates, or elements moved, in a whole run: some ten minutes of the slowest kernel.
pub const WORK_MAX: u64 = 1 << 38;
/// Bytes of a name of an input or output.
pub const NAME_BYTES_MAX: usize = 256;
