"""Graphs of which only parts are int8: what a rewritten one gives, held against the graph as it was.

    qnn_mixed.py QNNC COUNT SEED

Each graph is rewritten by `QNNC mixed`. Its regions are run by `QNNC run`, every other node by onnxruntime with
graph optimisations off, and the outputs are held against the whole graph in onnxruntime. A line for each graph:
its name, its regions, the nodes that stayed, numbers, numbers that differ, and by how much at most: in steps of
the output if that is quantized, else in parts of its largest number.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from qnn_cases import literal
from qnn_graphs import Graph

f32 = np.float32


# --- graphs ---------------------------------------------------------------------------------------------------


class Mixed(Graph):
    """A graph that is quantized in places, by what its tensors hold."""

    def stored(self, name):
        """Quantize and dequantize with the range that a run gives."""
        values = self.run(name, literal())
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        scale = max(high - low, 1e-3) / 255
        self.last = f32(scale)
        return self.quantized(name, scale, int(np.clip(round(self.low - low / scale), self.low, self.high)))

    def conv(self, x, outs):
        channels = self.run(x, literal()).shape[1]
        weights, scales = self.weights([outs, channels, 3, 3], 0)
        bias = self.node("DequantizeLinear", [self.constant(self.rng.integers(-900, 900, outs).astype(np.int32)),
                                              self.constant((scales * f32(0.01)).astype(f32)),
                                              self.constant(np.zeros(outs, np.int32))], axis=0)
        y = self.node("Conv", [x, weights, bias], pads=[1, 1, 1, 1])
        return self.stored(self.node("Relu", [y]) if self.rng.integers(2) else y)

    def float_conv(self, x, outs):
        channels = self.run(x, literal()).shape[1]
        return self.node("Conv", [x, self.constant(self.rng.normal(0, 0.3, [outs, channels, 1, 1]).astype(f32))])

    def add(self, a, b):
        return self.stored(self.node("Add", [a, b]))

    def norm(self, x):
        channels = self.run(x, literal()).shape[1]
        gain, bias = (self.constant(self.rng.uniform(0.5, 1.5, channels).astype(f32)) for _ in range(2))
        return self.node("InstanceNormalization", [x, gain, bias])

    def choice(self, x):
        """A node with graphs inside, which read `x` without having it as an input."""
        def branch(op):
            node = helper.make_node(op, [x], [f"inner_{op}"])
            return helper.make_graph([node], op, [], [helper.make_tensor_value_info(f"inner_{op}", TensorProto.FLOAT, None)])
        return self.node("If", [self.constant(np.array(True))], then_branch=branch("Softsign"), else_branch=branch("Neg"))


def chain(g, x):
    """Two regions with a float operator between them."""
    return g.conv(g.stored(g.node("Softplus", [g.conv(x, 8)])), 5), 2


def around(g, x):
    """A residual around a float operator: the sum must wait for it, the first convolution must not."""
    first = g.conv(x, 8)
    return g.conv(g.add(g.stored(g.norm(first)), first), 4), 2


def first_float(g, x):
    """The int8 part begins behind float convolutions, whose shapes nobody declares."""
    return g.conv(g.stored(g.node("Relu", [g.float_conv(g.float_conv(x, 6), 7)])), 8), 1


def last_float(g, x):
    return g.node("Softplus", [g.float_conv(g.conv(g.conv(x, 8), 8), 3)]), 1


def not_stored(g, x):
    """A convolution whose result goes on in float: it is float, too."""
    x = g.conv(x, 4) if g.rng.integers(2) else x
    weights, _ = g.weights([8, g.run(x, literal()).shape[1], 1, 1], 0)
    y = g.node("Softsign", [g.node("Relu", [g.node("Conv", [x, weights])])])
    return g.conv(g.stored(y), 4), None


def sigmoid_of_sum(g, x):
    """A function of a sum that was not stored in between."""
    a, b = g.conv(x, 6), g.conv(x, 6)
    return g.conv(g.stored(g.node("Sigmoid", [g.node("Add", [a, b])])), 4), 2


def branches(g, x):
    """Two int8 branches and a float one, joined."""
    a, b = g.conv(x, 4), g.conv(g.stored(g.node("Softsign", [x])), 4)
    c = g.stored(g.float_conv(x, 4))
    return g.stored(g.node("Concat", [a, b, c], axis=1)), None


def inner_graph(g, x):
    return g.conv(g.stored(g.choice(g.conv(x, 6))), 4), None


def both(g, x):
    """Bytes that are read inside and outside, and given as they are."""
    first = g.conv(x, 6)
    return g.node("Add", [g.node("Softsign", [first]), g.conv(g.conv(first, 6), 6)]), 1


def wild(g, x):
    """Any of it, in any order, with joins to anything before."""
    known = [x]
    for _ in range(int(g.rng.integers(3, 9))):
        x = known[int(g.rng.integers(max(0, len(known) - 3), len(known)))]
        kind = int(g.rng.integers(8))
        if kind < 3:
            y = g.conv(x, int(g.rng.choice([3, 8])))
        elif kind == 3:
            other = known[int(g.rng.integers(len(known)))]
            fits = g.run(other, literal()).shape == g.run(x, literal()).shape
            y = g.add(x, other) if fits else g.stored(g.node("Concat", [x, other], axis=1))
        elif kind == 4:
            y = g.stored(g.node(str(g.rng.choice(["Softplus", "Softsign", "Tanh"])), [x]))
        elif kind == 5:
            y = g.norm(x)
        elif kind == 6:
            y = g.float_conv(x, 8)
        else:
            y = g.stored(x)
        known.append(y)
    return known[-1], None


FIXED = [chain, around, first_float, last_float, not_stored, sigmoid_of_sum, branches, inner_graph, both]


def graph(rng, index):
    kind = (FIXED + [wild] * len(FIXED))[index % (2 * len(FIXED))]
    g = Mixed(rng)
    size = [1, int(rng.integers(2, 6)), int(rng.integers(3, 7)), int(rng.integers(3, 7))]
    if kind is first_float:
        g.feeds["x0"] = rng.normal(0, 1, size).astype(f32)
        x = "x0"
    else:
        x, *_ = g.input(size)
    g.last = None
    output, regions = kind(g, x)
    last = next((node for node in g.nodes if output in node.output))
    model = g.model(output)
    if rng.integers(2):
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).SerializeToString()
    return kind.__name__, model, g.feeds, regions, g.last if last.op_type == "DequantizeLinear" else None


# --- running a rewritten graph --------------------------------------------------------------------------------


def region(qnnc, node, values, shapes):
    """One region: inputs as bytes one after the other, outputs likewise."""
    (file,) = [attribute.t.raw_data for attribute in node.attribute if attribute.name == "model"]
    with tempfile.NamedTemporaryFile(suffix=".qnn") as model:
        model.write(file)
        model.flush()
        given = b"".join(np.ascontiguousarray(values[name]).tobytes() for name in node.input)
        answer = subprocess.run([qnnc, "run", model.name], input=given, stdout=subprocess.PIPE, check=True).stdout
    for name in node.output:
        shape, kind = shapes[name]
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        values[name] = np.frombuffer(answer[:size], kind).reshape(shape)
        answer = answer[size:]
    assert not answer


def others(model, nodes, values):
    """Some nodes that are as they were, by onnxruntime."""
    made = {name for node in nodes for name in node.output if name}
    inner = [name for node in nodes for a in node.attribute for n in a.g.node for name in n.input]
    read = {name for node in nodes for name in node.input if name} | set(inner)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    known = {tensor.name for tensor in constants}
    feeds = {name: values[name] for name in sorted(read - made - known)}
    infos = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
             for name, value in feeds.items()]
    outputs = [onnx.ValueInfoProto(name=name) for name in sorted(made)]
    graph = helper.make_graph(nodes, "part", infos, outputs, constants)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = ort.InferenceSession(part.SerializeToString(), literal(), providers=["CPUExecutionProvider"])
    values.update(zip(sorted(made), session.run(sorted(made), feeds)))


def run(qnnc, model, feeds, shapes):
    values, waiting = dict(feeds), []
    for node in model.graph.node:
        if node.domain != "fleetway":
            waiting.append(node)
            continue
        if waiting:
            others(model, waiting, values)
        waiting = []
        region(qnnc, node, values, shapes)
    if waiting:
        others(model, waiting, values)
    return values[model.graph.output[0].name]


def every_tensor(model, feeds):
    """Shape and type of every tensor of the graph as it was, and its answer."""
    answer = model.graph.output[0].name
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output if name and name != answer]
    inner.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(inner.SerializeToString(), literal(), providers=["CPUExecutionProvider"])
    names = [answer, *names]
    values = dict(zip(names, session.run(names, feeds)))
    return {name: (value.shape, value.dtype) for name, value in values.items()}, values[answer]


def main(qnnc, count, seed):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as dir:
        old, new = Path(dir) / "old.onnx", Path(dir) / "new.onnx"
        for index in range(count):
            name, model, feeds, expected, step = graph(rng, index)
            old.write_bytes(model)
            said = subprocess.run([qnnc, "mixed", old, new], capture_output=True, text=True)
            if said.returncode and name == "wild" and "no other part" in said.stderr:
                print(index, name, 0, 0, 0, 0, 0.0)
                continue
            if said.returncode:
                raise SystemExit(f"{index} {name}: {said.stderr}")
            rewritten = onnx.load(new)
            regions = sum(node.domain == "fleetway" for node in rewritten.graph.node)
            if expected not in (None, regions):
                raise SystemExit(f"{index} {name}: {regions} regions, not {expected}\n{said.stdout}")
            shapes, answer = every_tensor(onnx.load_from_string(model), feeds)
            found = run(qnnc, rewritten, feeds, shapes)
            apart = np.abs(found.astype(np.float64) - answer) / (step or max(np.abs(answer).max(), 1e-6) / 255)
            left = len(rewritten.graph.node) - regions
            print(index, name, regions, left, apart.size, int((apart > 0.5).sum()), round(float(apart.max()), 3))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
