"""Architectures with seeded weights, quantized by onnxruntime: what the inference bench measures.

    qnn_models.py OUT_DIR [NAME...|--all]

MobileNetV2 and the networks of MLPerf Tiny, float weights from a seed, then quantize_static (QDQ, uint8
activations, int8 weights per channel), as users do it. Random weights say nothing about accuracy; shapes,
operators and work are those of the real networks.
"""

import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

SEED = 7


class Net:
    """A float network under construction, one layer after the other."""

    def __init__(self, shape):
        self.rng = np.random.default_rng(SEED)
        self.nodes, self.constants, self.shape = [], [], list(shape)
        self.input, self.at = list(shape), "x"

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op, *others, **attributes):
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.at, *others], [out], **attributes))
        self.at = out
        return self

    def conv(self, outs, kernel, stride=1, group=1, act="Relu", same=True):
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        stride = (stride, stride) if isinstance(stride, int) else stride
        n, c, h, w = self.shape
        own = c // group
        weights = self.rng.normal(0, np.sqrt(2 / (own * kernel[0] * kernel[1])), (outs, own, *kernel))
        bias = self.rng.normal(0, 0.05, outs)
        size = [-(-h // stride[0]), -(-w // stride[1])] if same else [
            (h - kernel[0]) // stride[0] + 1, (w - kernel[1]) // stride[1] + 1]
        pads = [0] * 4
        if same:
            for axis, full in enumerate((h, w)):
                extra = max((size[axis] - 1) * stride[axis] + kernel[axis] - full, 0)
                pads[axis], pads[axis + 2] = extra // 2, extra - extra // 2
        self.node("Conv", self.constant(weights), self.constant(bias), kernel_shape=kernel, strides=stride,
                  pads=pads, group=group)
        self.shape = [n, outs, *size]
        if act == "Relu":
            self.node("Relu")
        if act == "Relu6":
            self.node("Clip", self.constant(np.array(0.0)), self.constant(np.array(6.0)))
        return self

    def depthwise(self, kernel, stride=1, act="Relu"):
        return self.conv(self.shape[1], kernel, stride, self.shape[1], act)

    def dense(self, outs, act=None):
        depth = self.shape[1]
        weights = self.rng.normal(0, np.sqrt(1 / depth), (outs, depth))
        self.node("Gemm", self.constant(weights), self.constant(self.rng.normal(0, 0.05, outs)), transB=1)
        self.shape = [self.shape[0], outs]
        return self.node("Relu") if act else self

    def pool(self):
        self.node("GlobalAveragePool").node("Flatten")
        self.shape = self.shape[:2]
        return self

    def add(self, other, act=None):
        self.node("Add", other)
        return self.node("Relu") if act else self

    def model(self):
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input)],
            [helper.make_tensor_value_info(self.at, TensorProto.FLOAT, self.shape)],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def dscnn():
    net = Net([1, 1, 49, 10]).conv(64, (10, 4), 2)
    for _ in range(4):
        net.depthwise(3).conv(64, 1)
    return net.pool().dense(12)


def resnet8():
    net = Net([1, 3, 32, 32]).conv(16, 3)
    for outs, stride in ((16, 1), (32, 2), (64, 2)):
        start, shape = net.at, net.shape
        net.conv(outs, 3, stride).conv(outs, 3, act=None)
        main, after = net.at, net.shape
        if stride != 1:
            net.at, net.shape = start, shape
            start = net.conv(outs, 1, stride, act=None).at
            net.at, net.shape = main, after
        net.add(start, "Relu")
    return net.pool().dense(10)


def mobilenet_v1():
    net = Net([1, 3, 96, 96]).conv(8, 3, 2)
    plan = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)] + [(128, 1)] * 5 + [(256, 2), (256, 1)]
    for outs, stride in plan:
        net.depthwise(3, stride).conv(outs, 1)
    return net.pool().dense(2)


def autoencoder():
    net = Net([1, 640])
    for outs in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        net.dense(outs, "Relu")
    return net.dense(640)


def mobilenet_v2():
    net = Net([1, 3, 224, 224]).conv(32, 3, 2, act="Relu6")
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, outs, times, first in plan:
        for index in range(times):
            stride, start, ins = first if index == 0 else 1, net.at, net.shape[1]
            if expand != 1:
                net.conv(ins * expand, 1, act="Relu6")
            net.depthwise(3, stride, act="Relu6").conv(outs, 1, act=None)
            if stride == 1 and ins == outs:
                net.add(start)
    return net.conv(1280, 1, act="Relu6").pool().dense(1000)


NETS = {
    "autoencoder": autoencoder,
    "ds-cnn": dscnn,
    "resnet-8": resnet8,
    "mobilenet-v1-0.25": mobilenet_v1,
    "mobilenet-v2": mobilenet_v2,
}


def unrolled(cell):
    """A recurrent layer as exporters write it without a loop: `cell` makes a step of its gates."""
    steps, ins, size = 6, 12, 16
    net = Net([1, steps, ins])

    def op(kind, *inputs, outputs=1, **attributes):
        names = [f"t{len(net.nodes)}_{index}" for index in range(outputs)]
        net.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def weights(*shape):
        return net.constant(net.rng.normal(0, 1.2 / np.sqrt(shape[0]), shape))

    gates, own = cell(op, weights, ins, size)
    # What the inputs give to the gates is one product for all steps.
    of_x = op("Add", op("MatMul", "x", weights(ins, gates)), weights(gates))
    state = None
    for step in range(steps):
        index = f"step{step}"
        net.constants.append(numpy_helper.from_array(np.array(step, np.int64), index))
        state = own(op("Gather", of_x, index, axis=1), state)
    net.at, net.shape = state[0], [1, size]
    return net.dense(5)


def lstm_cell(op, weights, ins, size):
    recurrent = weights(size, 4 * size)

    def step(gates, state):
        if state:
            gates = op("Add", gates, op("MatMul", state[0], recurrent))
        i, o, f, c = op("Split", gates, outputs=4, axis=1)
        i, o, f, c = op("Sigmoid", i), op("Sigmoid", o), op("Sigmoid", f), op("Tanh", c)
        c = op("Mul", i, c)
        if state:
            c = op("Add", op("Mul", f, state[1]), c)
        return op("Mul", o, op("Tanh", c)), c

    return 4 * size, step


def gru_cell(op, weights, ins, size):
    recurrent = weights(size, 3 * size)

    def step(gates, state):
        z, reset, n = op("Split", gates, outputs=3, axis=1)
        if not state:
            return (op("Mul", op("Sigmoid", z), op("Tanh", n)),)
        of_z, of_reset, of_n = op("Split", op("MatMul", state[0], recurrent), outputs=3, axis=1)
        z, reset = op("Sigmoid", op("Add", z, of_z)), op("Sigmoid", op("Add", reset, of_reset))
        n = op("Tanh", op("Add", n, op("Mul", reset, of_n)))
        return (op("Add", n, op("Mul", z, op("Sub", state[0], n))),)

    return 3 * size, step


# Made only where they are named: nobody times them.
MORE = {"lstm-unrolled": lambda: unrolled(lstm_cell), "gru-unrolled": lambda: unrolled(gru_cell)}


class Samples(CalibrationDataReader):
    def __init__(self, shape):
        rng = np.random.default_rng(SEED + 1)
        self.left = iter([{"x": rng.normal(0, 1, shape).astype(np.float32)} for _ in range(8)])

    def get_next(self):
        return next(self.left, None)


def make(name, out):
    net = {**NETS, **MORE}[name]()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "float.onnx"
        onnx.save(net.model(), path)
        quantize_static(path, out, Samples(net.input), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    named = list(NETS) + list(MORE) if sys.argv[2:] == ["--all"] else sys.argv[2:]
    for name in named or NETS:
        if not (directory / f"{name}.onnx").exists():
            make(name, directory / f"{name}.onnx")
