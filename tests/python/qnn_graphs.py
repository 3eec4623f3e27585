"""Random small graphs in QDQ form, one for each kind of operator, for `qnn_cases.py graphs`.

Everything between the DequantizeLinear of the inputs and the QuantizeLinear of the output is float in the
literal meaning. Scale and zero point of the output are taken from what the graph gives, as a calibration does.
"""

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

f32 = np.float32


class Graph:
    """Nodes between quantized inputs and one quantized output."""

    def __init__(self, rng, options=None):
        self.options = options
        self.rng, self.nodes, self.constants, self.feeds = rng, [], [], {}
        self.dtype = np.uint8 if rng.integers(2) else np.int8
        self.low, self.high = (0, 255) if self.dtype == np.uint8 else (-128, 127)

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, outputs=1, **attributes):
        names = [f"t{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def quantized(self, name, scale, zero):
        scale, zero = self.constant(f32(scale)), self.constant(self.dtype(zero))
        stored = self.node("QuantizeLinear", [name, scale, zero])
        return self.node("DequantizeLinear", [stored, scale, zero])

    def input(self, shape, scale=None):
        name = f"x{len(self.feeds)}"
        scale = scale or self.rng.uniform(0.01, 0.1)
        zero = int(self.rng.integers(self.low, self.high + 1))
        values = self.rng.uniform(self.low - zero, self.high - zero, shape) * scale
        self.feeds[name] = values.astype(f32)
        return self.quantized(name, scale, zero), scale, zero

    def weights(self, shape, axis):
        scales = self.rng.uniform(0.001, 0.02, shape[axis]).astype(f32)
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        inputs = [self.constant(values), self.constant(scales), self.constant(np.zeros(shape[axis], np.int8))]
        return self.node("DequantizeLinear", inputs, axis=axis), scales

    def bias(self, x_scale, scales):
        values = self.rng.integers(-5000, 5000, len(scales)).astype(np.int32)
        both = (f32(x_scale) * scales).astype(f32)
        inputs = [self.constant(values), self.constant(both), self.constant(np.zeros(len(scales), np.int32))]
        return self.node("DequantizeLinear", inputs, axis=0)

    def model(self, output):
        graph = helper.make_graph(
            self.nodes, "case",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in self.feeds.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.constants)
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()

    def finish(self, output, options, same=None):
        """The model, its inputs, its literal answer, and the step of its output."""
        if same is None:
            result = self.run(output, options)
            low, high = min(0.0, float(result.min())), max(0.0, float(result.max()))
            scale = max(high - low, 1e-3) / 255 * self.rng.uniform(0.7, 1.2)
            zero = int(np.clip(round(self.low - low / scale), self.low, self.high))
        else:
            scale, zero = same
        output = self.quantized(output, scale, zero)
        return self.model(output), list(self.feeds.values()), self.run(output, options), f32(scale)

    def run(self, output, options):
        session = ort.InferenceSession(self.model(output), options or self.options, providers=["CPUExecutionProvider"])
        return session.run([output], self.feeds)[0]


def shape(rng, rank=4):
    return [int(rng.integers(1, 3))] + [int(rng.integers(1, 9)) for _ in range(rank - 1)]


def image(rng):
    return [int(rng.integers(1, 3)), int(rng.integers(1, 40)), int(rng.integers(4, 10)), int(rng.integers(4, 10))]


FUNCTIONS = {
    "Relu": {}, "LeakyRelu": {"alpha": 0.1}, "Elu": {}, "Sigmoid": {}, "Tanh": {}, "HardSigmoid": {}, "HardSwish": {},
    "Exp": {}, "Erf": {}, "Abs": {}, "Neg": {},
}


def function(g, op):
    x, scale, zero = g.input(shape(g.rng), 0.03)
    return g.node(op, [x], **FUNCTIONS[op]), None


def clip(g):
    x, *_ = g.input(shape(g.rng))
    return g.node("Clip", [x, g.constant(f32(-0.5)), g.constant(f32(1.5))]), None


def with_number(g):
    x, *_ = g.input(shape(g.rng))
    op = str(g.rng.choice(["Add", "Sub", "Mul", "Div"]))
    return g.node(op, [x, g.constant(f32(g.rng.uniform(0.5, 2.0)))]), None


def two(g):
    size = image(g.rng)
    other = [size, [1, size[1], 1, 1], [1, 1, 1, 1], size[2:], [1, 1, size[2], 1]][int(g.rng.integers(5))]
    (a, *_), (b, *_) = g.input(size), g.input(other)
    op = str(g.rng.choice(["Add", "Sub", "Mul"]))
    y = g.node(op, [a, b] if op == "Sub" or g.rng.integers(2) else [b, a])
    return (g.node("Relu", [y]) if g.rng.integers(2) else y), None


def pool(g):
    x, scale, zero = g.input(image(g.rng))
    op = str(g.rng.choice(["MaxPool", "AveragePool"]))
    kernel = [int(v) for v in g.rng.integers(1, 4, 2)]
    attributes = {"kernel_shape": kernel, "strides": [int(v) for v in g.rng.integers(1, 3, 2)],
                  "pads": [int(g.rng.integers(0, size)) for size in kernel * 2]}
    if op == "MaxPool":
        attributes["ceil_mode"] = int(g.rng.integers(2))
        return g.node(op, [x], **attributes), (scale, zero)
    attributes["count_include_pad"] = int(g.rng.integers(2))
    return g.node(op, [x], **attributes), None


def mean(g):
    x, *_ = g.input(image(g.rng))
    if g.rng.integers(2):
        return g.node("GlobalAveragePool", [x]), None
    return g.node("ReduceMean", [x], axes=[2, 3], keepdims=int(g.rng.integers(2))), None


def softmax(g):
    x, *_ = g.input(shape(g.rng, int(g.rng.integers(2, 5))))
    return g.node("Softmax", [x], axis=-1 if g.rng.integers(2) else 1), None


def join(g):
    size = shape(g.rng)
    axis = int(g.rng.integers(1, 4))
    parts = []
    for _ in range(int(g.rng.integers(2, 4))):
        own = list(size)
        own[axis] = int(g.rng.integers(1, 6))
        parts.append(g.input(own)[0])
    return g.node("Concat", parts, axis=axis), None


def move(g):
    size = image(g.rng)
    x, scale, zero = g.input(size)
    n, c, h, w = size
    kind = int(g.rng.integers(9))
    if g.rng.integers(2):  # so that the bytes lie channels last
        x = g.node("MaxPool", [x], kernel_shape=[1, 1])
    if kind == 0:
        y = g.node("Transpose", [x], perm=[int(v) for v in g.rng.permutation(4)])
    elif kind == 1:
        y = g.node("Reshape", [x, g.constant(np.array([n, h, -1], np.int64))])
    elif kind == 2:
        y = g.node("Flatten", [x], axis=int(g.rng.integers(0, 4)))
    elif kind == 3:
        bounds = [g.constant(np.array(v, np.int64)) for v in ([1, 0], [h, -1], [2, 3], [2, 1])]
        y = g.node("Slice", [x, *bounds])
    elif kind == 4:
        pads = [0, *(int(v) for v in g.rng.integers(0, 3, 3))] * 2
        y = g.node("Pad", [x, g.constant(np.array(pads, np.int64))])
    elif kind == 5:
        inputs = [x, g.constant(np.array([], f32)), g.constant(np.array([1, 1, 2, 3], f32))]
        y = g.node("Resize", inputs, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    elif kind == 6:
        y = g.node("Split", [x], 2, axis=2) if h % 2 == 0 else [x]
        y = y[-1]
    elif kind == 7:
        y = g.node("Expand", [g.node("Unsqueeze", [x, g.constant(np.array([1], np.int64))]),
                              g.constant(np.array([n, 3, c, h, w], np.int64))])
    else:
        y = g.node("Squeeze", [g.node("Unsqueeze", [x, g.constant(np.array([0, 3], np.int64))]),
                               g.constant(np.array([0], np.int64))])
    return y, (scale, zero)


def conv(g):
    n, c, h, w = image(g.rng)
    x, scale, _ = g.input([n, c, h, w])
    outs = int(g.rng.integers(1, 30))
    depthwise = c > 1 and g.rng.integers(3) == 0
    weights, scales = g.weights([c if depthwise else outs, 1 if depthwise else c, 3, 3], 0)
    inputs = [x, weights] + ([g.bias(scale, scales)] if g.rng.integers(2) else [])
    y = g.node("Conv", inputs, pads=[1, 1, 1, 1], group=c if depthwise else 1)
    tail = int(g.rng.integers(4))
    if tail & 1:
        y = g.node("Relu", [y])
    if tail & 2:  # commutes with what is between
        y = g.node("MaxPool", [y], kernel_shape=[2, 2], strides=[2, 2])
    return y, None


def dense(g):
    rows, depth, outs = (int(v) for v in g.rng.integers(1, 40, 3))
    x, scale, _ = g.input([rows, depth])
    if g.rng.integers(2):
        weights, scales = g.weights([outs, depth], 0)
        return g.node("Gemm", [x, weights, g.bias(scale, scales)], transB=1), None
    weights, scales = g.weights([depth, outs], 1)
    y = g.node("MatMul", [x, weights])
    return (g.node("Add", [y, g.bias(scale, scales)]) if g.rng.integers(2) else y), None


def transposed(g):
    n, c, h, w = image(g.rng)
    line = g.rng.integers(4) == 0
    x, scale, _ = g.input([n, c, w] if line else [n, c, h, w])
    group = int(g.rng.choice([1, 1, 1, c]))
    each = int(g.rng.integers(1, 20)) if group == 1 else int(g.rng.integers(1, 3))
    axes = 1 if line else 2
    kernel = [int(v) for v in g.rng.integers(1, 6, axes)]
    strides = [int(v) for v in g.rng.integers(1, 4, axes)]
    dilations = [int(v) for v in g.rng.choice([1, 1, 1, 2], axes)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    pads = [int(g.rng.integers(0, r)) // 2 for r in reach * 2]
    extra = [int(g.rng.integers(0, s)) for s in strides]
    per_channel = group == 1 and g.rng.integers(2)
    scales = g.rng.uniform(0.001, 0.02, each if per_channel else 1).astype(f32)
    zero = 0 if g.rng.integers(4) else int(g.rng.integers(-20, 20))
    values = g.constant(g.rng.integers(-127, 128, [c, each, *kernel]).astype(np.int8))
    if per_channel:
        weights = g.node("DequantizeLinear", [values, g.constant(scales), g.constant(np.zeros(each, np.int8))], axis=1)
    else:
        weights = g.node("DequantizeLinear", [values, g.constant(scales[0]), g.constant(np.int8(zero))])
    inputs = [x, weights]
    if g.rng.integers(2):
        inputs.append(g.bias(scale, np.broadcast_to(scales, each * group)))
    y = g.node("ConvTranspose", inputs, strides=strides, pads=pads, dilations=dilations, group=group,
               output_padding=extra)
    return (g.node("Relu", [y]) if g.rng.integers(2) else y), None


def gather(g):
    size = image(g.rng)
    x, scale, zero = g.input(size)
    if g.rng.integers(2):
        x = g.node("MaxPool", [x], kernel_shape=[1, 1])
    axis = int(g.rng.integers(0, 4))
    kind = int(g.rng.integers(3))
    indices = [np.array(int(g.rng.integers(size[axis]))), np.arange(size[axis])[::-1],
               g.rng.integers(-size[axis], size[axis], [2, 3])][kind]
    return g.node("Gather", [x, g.constant(indices.astype(np.int64))], axis=axis), (scale, zero)


def resize(g):
    n, c, h, w = image(g.rng)
    line = g.rng.integers(4) == 0
    x, scale, zero = g.input([n, c, w] if line else [n, c, h, w])
    linear = bool(g.rng.integers(3))
    place = str(g.rng.choice(["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]))
    sizes = [n, c] + [int(g.rng.integers(1, 3 * d)) for d in ([w] if line else [h, w])]
    inputs = [x, g.constant(np.array([], f32))]
    if g.rng.integers(2):
        inputs += [g.constant(np.array([], f32)), g.constant(np.array(sizes, np.int64))]
    else:
        inputs.append(g.constant(np.array([1, 1] + [float(v) for v in g.rng.choice([0.5, 1.5, 2, 3], len(sizes) - 2)], f32)))
    y = g.node("Resize", inputs, mode="linear" if linear else "nearest", coordinate_transformation_mode=place,
               nearest_mode=str(g.rng.choice(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])))
    return y, None if linear else (scale, zero)


def join_constant(g):
    size = shape(g.rng)
    x, scale, zero = g.input(size)
    values = g.rng.uniform(-1, 1, size).astype(f32)
    other = g.constant(values)
    if g.rng.integers(2):
        stored = g.constant(g.rng.integers(g.low, g.high, size).astype(g.dtype))
        other = g.node("DequantizeLinear", [stored, g.constant(f32(0.02)), g.constant(g.dtype(3))])
    return g.node("Concat", [other, x] if g.rng.integers(2) else [x, other], axis=int(g.rng.integers(1, 4))), None


def with_constant(g):
    size = image(g.rng)
    x, *_ = g.input(size)
    other = [size, [1, size[1], 1, 1], [size[1], 1, 1], size[2:]][int(g.rng.integers(4))]
    stored = g.constant(g.rng.integers(g.low, g.high, other).astype(g.dtype))
    other = g.node("DequantizeLinear", [stored, g.constant(f32(0.03)), g.constant(g.dtype(5))])
    op = str(g.rng.choice(["Add", "Sub", "Mul"]))
    return g.node(op, [x, other] if g.rng.integers(2) else [other, x]), None


def mean_over(g):
    size = shape(g.rng, int(g.rng.integers(2, 5)))
    x, *_ = g.input(size)
    count = int(g.rng.integers(1, len(size) + 1))
    axes = sorted(int(v) for v in g.rng.choice(len(size), count, replace=False))
    return g.node("ReduceMean", [x], axes=axes, keepdims=int(g.rng.integers(2))), None


def batched(g):
    batch, m, k, n = (int(v) for v in g.rng.integers(1, 12, 4))
    x, *_ = g.input([batch, m, k])
    stored = g.constant(g.rng.integers(-127, 128, [batch, k, n]).astype(np.int8))
    other = g.node("DequantizeLinear", [stored, g.constant(f32(0.01)), g.constant(np.int8(0))])
    return g.node("MatMul", [x, other]), None


def rescaled(g):
    """A convolution or product times a number for each channel, and a number added."""
    y, _ = conv(g) if g.rng.integers(2) else dense(g)
    if g.nodes[-1].op_type not in ("Conv", "Gemm", "MatMul"):
        return y, None
    shape = g.run(y, None).shape
    size = [shape[1], 1, 1] if len(shape) == 4 else [shape[1]]
    size = size if g.rng.integers(2) else []
    y = g.node("Mul", [y, g.constant(g.rng.uniform(0.2, 3, size).astype(f32))])
    return (g.node("Relu", [y]) if g.rng.integers(2) else y), None


def integer(g):
    """Integers multiplied, and their scales behind them.

    Weights are small: without VNNI onnxruntime saturates sums of two products here, too.
    """
    rows, depth, outs = (int(v) for v in g.rng.integers(1, 40, 3))
    image_of = g.rng.integers(2)
    x, scale, zero = g.input(image(g.rng) if image_of else [rows, depth])
    stored = g.nodes[-1].input[0]
    zeros = [g.constant(g.dtype(zero)), g.constant(np.int8(0 if g.rng.integers(2) else 3))]
    g.nodes.pop()
    if image_of:
        channels = g.feeds["x0"].shape[1]
        weights = g.constant(g.rng.integers(-60, 60, [outs, channels, 3, 3]).astype(np.int8))
        y = g.node("ConvInteger", [stored, weights, *zeros], pads=[1, 1, 1, 1])
    else:
        weights = g.constant(g.rng.integers(-60, 60, [depth, outs]).astype(np.int8))
        y = g.node("MatMulInteger", [stored, weights, *zeros])
    y = g.node("Cast", [y], to=TensorProto.FLOAT)
    y = g.node("Mul", [y, g.constant(f32(scale * 0.01))])
    if g.rng.integers(2):
        bias = g.rng.uniform(-1, 1, [outs, 1, 1] if image_of else [outs]).astype(f32)
        y = g.node("Add", [y, g.constant(bias)])
    return y, None


def exported(g):
    """A reshape as exporters write it: to what they read off shapes, and compute."""
    n, c, h, w = size = image(g.rng)
    x, scale, zero = g.input(size)
    ints = lambda *values: g.constant(np.array(values, np.int64))
    shape_of = g.node("Shape", [x])
    dim = lambda at: g.node("Gather", [shape_of, g.constant(np.array(at, np.int64))], axis=0)
    one = lambda of: g.node("Unsqueeze", [of, ints(0)])
    kind = int(g.rng.integers(4))
    if kind == 0:
        wanted = g.node("Concat", [one(dim(0)), ints(-1)], axis=0)
    elif kind == 1:
        area = g.node("Mul", [dim(2), dim(3)])
        wanted = g.node("Concat", [one(dim(0)), one(dim(1)), one(area)], axis=0)
    elif kind == 2:
        wanted = g.node("Concat", [g.node("Slice", [shape_of, ints(0), ints(2)]), ints(-1)], axis=0)
    else:
        like = g.node("ConstantOfShape", [ints(5)], value=numpy_helper.from_array(np.array([1], np.int64)))
        given = g.node("Concat", [ints(1), g.node("Cast", [shape_of], to=TensorProto.INT64)], axis=0)
        wanted = g.node("Where", [g.node("Equal", [given, ints(-1)]), like, given])
        return g.node("Expand", [x, wanted]), (scale, zero)
    return g.node("Reshape", [x, wanted]), (scale, zero)


KINDS = [lambda g, op=op: function(g, op) for op in FUNCTIONS]
KINDS += [clip, with_number, two, two, pool, pool, mean, softmax, join, move, move, move, conv, conv, dense]
KINDS += [transposed, transposed, gather, resize, resize, join_constant, with_constant, mean_over, batched, rescaled]
KINDS += [integer, exported]


def graph(rng, index, options):
    """A name, and what `Graph.finish` gives."""
    g = Graph(rng, options)
    output, same = KINDS[index % len(KINDS)](g)
    name = " ".join(node.op_type for node in g.nodes if "quantize" not in node.op_type.lower() and node.op_type[-6:] != "Linear")
    return f"{name} {g.dtype.__name__} {[list(v.shape) for v in g.feeds.values()]}", g.finish(output, options, same)
