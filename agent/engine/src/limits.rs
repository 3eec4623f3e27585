//! Every bound of this crate in one place: unit in the name, reason beside it.
//!
//! The bounds stop what a size alone can do (memory, time). They are not what makes a model safe:
//! that is the signature first and the child process second. A model that needs more than a bound
//! is refused with a message that names the bound.

/// Bytes of one ONNX file. Edge models are 10 KB to 50 MB; protobuf decoding can grow a hostile
/// file by two orders of magnitude, so the bound also caps what the decoder may allocate.
pub const MODEL_BYTES_MAX: usize = 256 << 20;

/// Nodes of one graph. tract's load time grows faster than linear: 5 000 nodes are fine, a chain
/// of 30 000 takes 25 s (`research/inference.md` section 6).
pub const NODES_MAX: usize = 5_000;

/// Initializers of one graph: a handful for every node.
pub const INITIALIZERS_MAX: usize = 4 * NODES_MAX;

/// Inputs or outputs of one graph.
pub const GRAPH_IO_MAX: usize = 64;

/// Inputs, outputs or attributes of one node. `Concat` of a DenseNet block has about 60 inputs.
pub const NODE_IO_MAX: usize = 1_024;

/// Bytes of one name. Converters chain scope names, so some hundred bytes are common.
pub const NAME_BYTES_MAX: usize = 1_024;

/// Rows that one request may bring: by then a turn costs a fraction of a row, and an answer that waits
/// for seven others is already slow.
pub(crate) const ROWS_MAX: usize = 8;

/// Axes of one tensor. ONNX itself has no bound; nothing real has more than six.
pub const RANK_MAX: usize = 8;

/// Elements of one tensor, activations included (64 Mi elements are 256 MiB of f32). A
/// 960 x 540 x 64 activation, the widest of a full-HD backbone, is half of it.
pub const TENSOR_ELEMENTS_MAX: usize = 64 << 20;

/// Kernel extent, stride or dilation on one axis. The largest in use are 1-D audio front ends (512).
pub const KERNEL_EXTENT_MAX: i64 = 4_096;

/// Padding at one end of one axis. Pads of 2^15 made tract abort and 2^40 made it hang.
pub const PAD_MAX: i64 = 1_024;

/// Groups of one convolution: depthwise nets have as many groups as channels.
pub const GROUPS_MAX: i64 = 65_536;

/// Resize scale on one axis: 64 from a stride-64 feature map back to the image.
pub const RESIZE_SCALE_MAX: f32 = 64.0;

/// Any integer attribute without a rule of its own.
pub const INT_ATTRIBUTE_MAX: i64 = i32::MAX as i64;

/// Lowest and highest version of the default operator set. tract is tested upstream on 9 to 18;
/// 19 to 23 mostly add types that the tensor rules refuse anyway, and golden vectors check the rest.
pub const OPSET_MIN: i64 = 9;
/// See [`OPSET_MIN`].
pub const OPSET_MAX: i64 = 23;

/// Bytes of one encoded golden set: sixteen 3 x 224 x 224 f32 images are 9.6 MB.
pub const GOLDEN_BYTES_MAX: usize = 32 << 20;

/// Vectors of one golden set. Sixteen are usual; a held-out set for a local check has hundreds.
pub const GOLDEN_VECTORS_MAX: usize = 4_096;

/// Bytes of one `.npz` file, and of all its arrays together after inflating. Deflate reaches
/// 1000:1, so the second bound is the one that stops a zip bomb.
pub const NPZ_BYTES_MAX: usize = 64 << 20;

/// Bytes of one file of reference samples, and of its arrays after inflating: five hundred
/// 3 x 224 x 224 f32 images are 300 MB. Read on an operator's machine alone.
pub const SAMPLES_BYTES_MAX: usize = 1 << 30;

/// Samples of one reference: its counters hold no more.
pub const SAMPLES_MAX: usize = u16::MAX as usize;

/// Bytes of samples that one child gets: a quarter of the memory that it has by default.
pub const SAMPLE_BATCH_BYTES_MAX: usize = 64 << 20;

/// Samples that one child gets: what it reads off them fits [`REPORT_BYTES_MAX`].
pub const SAMPLE_BATCH_MAX: usize = 512;

/// Time that a child may take for one sample on top of its deadline.
pub const SAMPLE_TIME_MAX: std::time::Duration = std::time::Duration::from_millis(500);

/// Arrays in one `.npz` file.
pub const NPZ_ARRAYS_MAX: usize = 256;

/// Bytes of one `.npy` header. numpy writes 128; the parser behind it recurses on nesting.
pub const NPY_HEADER_BYTES_MAX: usize = 1_024;

/// Bytes that the self-test's child may write as its answer.
pub const REPORT_BYTES_MAX: usize = 64 << 10;

/// Bytes of one text inside a report or an error: enough for a chain of causes, small enough to
/// travel in telemetry.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// Bytes kept from the end of the child's stderr: a panic message and what led to it.
pub const STDERR_TAIL_BYTES_MAX: usize = 4 << 10;

/// Bytes of one request to, or answer of, a model in a worker: what a body may hold, as numbers.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Open files of the child: three pipes, `/proc/self/status`, what tract reads about the CPU.
pub const CHILD_OPEN_FILES_MAX: u64 = 16;

/// Cuts `text` to [`TEXT_BYTES_MAX`] on a character boundary.
pub(crate) fn bounded(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX - 3).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
