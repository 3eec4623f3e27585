"""Random quantized operators, each with what onnxruntime makes of it.

    qnn_cases.py random OUT COUNT SEED
    qnn_cases.py models OUT HELDOUT_NPZ MODEL...     (each model on every held-out image)
    qnn_cases.py graphs OUT COUNT SEED               (small QDQ graphs, in their literal meaning)
    qnn_cases.py nets OUT MODEL...                   (each model on eight random inputs)
    qnn_cases.py nodes OUT                           (ONNX's own backend tests of quantized operators)

Every case is a whole ONNX model of one operator, its inputs, and its outputs. Before a case is written its
output is held against exact integer arithmetic here (int64 sums, one float32 product, half to even). Where a
processor lacks VNNI onnxruntime's u8 x s8 path saturates, so there it is asked for precision
(session.x64quantprecision turns constant int8 weights into uint8). What OUT holds is described at `write`.
"""

import struct
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

f32 = np.float32
KINDS = ["conv", "grouped", "depthwise", "pointwise", "matmul", "gemm", "add"]


def random_cases(out, count, seed):
    rng = np.random.default_rng(seed)
    with open(out, "wb") as file:
        file.write(struct.pack("<I", count))
        for index in range(count):
            kind = KINDS[index % len(KINDS)]
            name, model, feeds, exact = CASES[kind](rng)
            signed = next(iter(feeds.values())).dtype == np.int8
            session = ort.InferenceSession(model, options(not signed), providers=["CPUExecutionProvider"])
            result = session.run(None, feeds)[0]
            if exact is not None and not np.array_equal(result, exact):
                raise SystemExit(f"case {index}: onnxruntime is not exact: {name}")
            write(file, f"{index} {name}", model, [(list(feeds.values()), [result])])


def graph_cases(out, count, seed):
    import qnn_graphs

    rng = np.random.default_rng(seed)
    with open(out, "wb") as file:
        file.write(struct.pack("<I", count))
        for index in range(count):
            name, (model, inputs, answer, _) = qnn_graphs.graph(rng, index, literal())
            write(file, f"{index} {name}", model, [(inputs, [answer])])


def model_cases(out, heldout, paths):
    """What onnxruntime answers to every held-out image, graph optimisations off: the literal meaning."""
    data = np.load(heldout)
    with open(out, "wb") as file:
        file.write(struct.pack("<I", len(paths)))
        for path in paths:
            model = Path(path).read_bytes()
            session = ort.InferenceSession(model, literal(), providers=["CPUExecutionProvider"])
            name = session.get_inputs()[0].name
            images = data["images"].astype(np.float32)
            answers = [session.run(None, {name: image[None]})[0] for image in images]
            right = sum(int(a.argmax() == label) for a, label in zip(answers, data["labels"]))
            runs = [([image[None]], [answer]) for image, answer in zip(images, answers)]
            write(file, f"{Path(path).stem} {right} of {len(images)}", model, runs)


def net_cases(out, paths):
    """Whole networks on random inputs, graph optimisations off: the literal meaning."""
    rng = np.random.default_rng(11)
    types = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
    with open(out, "wb") as file:
        file.write(struct.pack("<I", len(paths)))
        for path in paths:
            model = Path(path).read_bytes()
            session = ort.InferenceSession(model, literal(), providers=["CPUExecutionProvider"])
            given = session.get_inputs()[0]
            shape = [size if isinstance(size, int) else 1 for size in given.shape]
            runs = []
            for _ in range(8):
                kind = types[given.type]
                x = rng.normal(0, 1, shape).astype(kind) if kind == np.float32 else draw(rng, shape, kind)
                runs.append(([x], [session.run(None, {given.name: x})[0]]))
            write(file, Path(path).stem, model, runs)


def node_cases(out):
    """The node tests that the package onnx makes, with every input but the first as a constant, as models have it.

    Their outputs are onnx's reference. A case whose tensors are of other types than ours has no runs.
    """
    from onnx.backend.test.case.node import collect_testcases

    ours = {np.dtype("float32"), np.dtype("uint8"), np.dtype("int8")}
    words = ("quantizelinear", "qlinear", "integer")
    cases = [case for case in collect_testcases(None) if any(word in case.name for word in words)]
    with open(out, "wb") as file:
        file.write(struct.pack("<I", len(cases)))
        for case in cases:
            inputs, outputs = case.data_sets[0]
            graph = case.model.graph
            for value, name in list(zip(inputs, [given.name for given in graph.input]))[1:]:
                if isinstance(value, (np.ndarray, np.generic)):
                    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
            arrays = [inputs[0], *outputs]
            known = all(isinstance(array, np.ndarray) and array.dtype in ours for array in arrays)
            write(file, case.name, case.model.SerializeToString(), [([inputs[0]], outputs)] if known else [])


def options(precise):
    found = ort.SessionOptions()
    found.log_severity_level = 3
    found.intra_op_num_threads = 1
    if precise:
        found.add_session_config_entry("session.x64quantprecision", "1")
    return found


def literal():
    found = options(False)
    found.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return found


def write(file, name, model, runs):
    """Length and bytes of name and model; number of runs; of each the number of inputs, each its type, length and
    bytes, and its outputs likewise."""
    code = {np.dtype("float32"): 0, np.dtype("uint8"): 1, np.dtype("int8"): 2}
    for blob in [name.encode(), model]:
        file.write(struct.pack("<I", len(blob)) + blob)
    file.write(struct.pack("<I", len(runs)))
    for arrays in [arrays for run in runs for arrays in run]:
        file.write(struct.pack("<I", len(arrays)))
        for array in arrays:
            blob = np.ascontiguousarray(array).tobytes()
            file.write(struct.pack("<II", code[array.dtype], len(blob)) + blob)


# --- what numbers are drawn -----------------------------------------------------------------------------------


def byte_type(rng):
    return np.uint8 if rng.integers(2) else np.int8


def bounds(dtype):
    return (0, 255) if dtype == np.uint8 else (-128, 127)


def draw(rng, shape, dtype):
    low, high = bounds(dtype)
    values = rng.integers(low, high + 1, shape)
    if rng.integers(4) == 0:  # often at the ends: saturation, and largest sums
        values = np.where(rng.random(shape) < 0.7, np.where(rng.random(shape) < 0.5, low, high), values)
    return values.astype(dtype)


def zero_point(rng, dtype):
    low, high = bounds(dtype)
    return int(rng.choice([low, high, (low + high + 1) // 2, int(rng.integers(low, high + 1))]))


def weight_type(rng, act):
    # onnxruntime has no kernel for int8 activations with uint8 weights.
    return np.int8 if act == np.int8 or rng.integers(4) else np.uint8


def weight_zero(rng, dtype):
    if dtype == np.int8:
        return 0 if rng.integers(8) else int(rng.integers(-128, 128))
    return 128 if rng.integers(2) else int(rng.integers(0, 256))


def scales(rng, depth, outs, per_channel):
    x_scale = f32(rng.uniform(0.001, 0.2))
    w_scale = rng.uniform(0.0005, 0.05, outs if per_channel else 1).astype(f32)
    # So that results spread over the bytes: sums grow with the root of what they sum over.
    y_scale = f32(x_scale * np.mean(w_scale) * 75 * np.sqrt(depth) * rng.uniform(0.3, 2.0))
    return x_scale, w_scale, y_scale


# --- exact arithmetic -----------------------------------------------------------------------------------------


def requantize(sums, scale, zero, dtype):
    low, high = bounds(dtype)
    assert np.abs(sums).max(initial=0) < 2**31
    real = np.clip(sums.astype(np.int32).astype(f32) * scale, f32(low - zero), f32(high - zero))
    return (np.rint(real).astype(np.int64) + zero).astype(dtype)


def exact_conv(x, xz, w, wz, bias, group, strides, dilations, pads):
    n, c, h, wd = x.shape
    oc, icg, kh, kw = w.shape
    x = np.pad(
        x.astype(np.int64) - xz, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3]))
    )
    w = w.astype(np.int64) - wz
    oh = (x.shape[2] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    ow = (x.shape[3] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    y = np.zeros((n, oc, oh, ow), np.int64)
    for ky in range(kh):
        for kx in range(kw):
            top, left = ky * dilations[0], kx * dilations[1]
            part = x[:, :, top : top + (oh - 1) * strides[0] + 1 : strides[0]]
            part = part[:, :, :, left : left + (ow - 1) * strides[1] + 1 : strides[1]]
            part = part.reshape(n, group, icg, oh * ow)
            taps = w[:, :, ky, kx].reshape(group, oc // group, icg)
            y += np.einsum("ngip,goi->ngop", part, taps).reshape(y.shape)
    return y + bias.reshape(1, -1, 1, 1)


# --- models ---------------------------------------------------------------------------------------------------


def model_of(op, inputs, output, constants, attributes, domain=""):
    """One node; `inputs` are names of feeds or constants in the order of the operator."""
    feeds = {name: array for name, array in inputs if array is not None}
    types = {np.dtype("uint8"): TensorProto.UINT8, np.dtype("int8"): TensorProto.INT8}
    node = helper.make_node(op, [name for name, _ in inputs], ["y"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "case",
        [helper.make_tensor_value_info(n, types[a.dtype], a.shape) for n, a in feeds.items()],
        [helper.make_tensor_value_info("y", types[np.dtype(output)], None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString(), feeds


def conv_case(rng, kind):
    act = byte_type(rng)
    weights = weight_type(rng, act)
    kh, kw = (int(v) for v in rng.integers(1, 5, 2))
    strides = [int(v) for v in rng.integers(1, 4, 2)]
    dilations = [int(v) for v in rng.choice([1, 1, 1, 2, 3], 2)]
    group, own, multiplier = 1, int(rng.integers(1, 40)), 1
    outs = int(rng.integers(1, 70))
    if kind == "pointwise":
        kh = kw = 1
        own = int(rng.choice([4, 8, 12, 16, 24, 32, 64, 100, 160, 256]))
        strides = [1, 1] if rng.integers(4) else strides
        dilations = [1, 1]
    if kind == "grouped":
        group, own = int(rng.integers(2, 5)), int(rng.integers(2, 12))
        outs = group * int(rng.integers(1, 20))
    if kind == "depthwise":
        group, own = int(rng.choice([2, 3, 7, 8, 9, 16, 17, 24, 31, 32, 40, 64])), 1
        multiplier = int(rng.choice([1, 1, 1, 1, 2, 3]))
        outs = group * multiplier
    pads = [int(v) for v in rng.integers(0, 3, 4)] if kind != "pointwise" or rng.integers(3) == 0 else [0] * 4
    shape = [
        int(rng.integers(1, 3)),
        group * own,
        int(rng.integers(1, 9)) + (kh - 1) * dilations[0],
        int(rng.integers(1, 12)) + (kw - 1) * dilations[1],
    ]
    per_channel = bool(rng.integers(2))
    depth = own * kh * kw
    x_scale, w_scale, y_scale = scales(rng, depth, outs, per_channel)
    x, w = draw(rng, shape, act), draw(rng, [outs, own, kh, kw], weights)
    xz, yz, wz = zero_point(rng, act), zero_point(rng, act), weight_zero(rng, weights)
    bias = rng.integers(-20000, 20000, outs).astype(np.int32) if rng.integers(2) else None
    constants = {
        "xs": x_scale,
        "xz": act(xz),
        "w": w,
        "ws": w_scale if per_channel else w_scale[0],
        "wz": np.full(outs, wz, weights) if per_channel else weights(wz),
        "ys": y_scale,
        "yz": act(yz),
    }
    names = ["xs", "xz", "w", "ws", "wz", "ys", "yz"]
    if bias is not None:
        constants["b"] = bias
        names.append("b")
    attributes = {"kernel_shape": [kh, kw], "strides": strides, "dilations": dilations, "pads": pads, "group": group}
    inputs = [("x", x)] + [(name, None) for name in names]
    model, feeds = model_of("QLinearConv", inputs, act, constants, attributes)
    sums = exact_conv(x, xz, w, wz, np.zeros(outs, np.int64) if bias is None else bias.astype(np.int64),
                      group, strides, dilations, pads)
    scale = ((x_scale * w_scale) / y_scale).astype(f32).reshape(1, -1, 1, 1)
    exact = requantize(sums, scale, yz, act)
    name = f"{kind} {act.__name__} x{shape} w{list(w.shape)} {weights.__name__} zero {wz} {attributes}"
    return name, model, feeds, exact


def matmul_case(rng, kind):
    act = byte_type(rng)
    computed = kind == "matmul" and bool(rng.integers(4) == 0)  # the second matrix is an input, too
    weights = act if computed else weight_type(rng, act)
    rows, depth, outs = int(rng.integers(1, 20)), int(rng.integers(1, 300)), int(rng.integers(1, 80))
    per_channel = bool(rng.integers(2))
    x_scale, w_scale, y_scale = scales(rng, depth, outs, per_channel)
    x, w = draw(rng, [rows, depth], act), draw(rng, [depth, outs], weights)
    xz, yz, wz = zero_point(rng, act), zero_point(rng, act), weight_zero(rng, weights)
    if computed:
        per_channel, w_scale = False, w_scale[:1]
    constants = {
        "xs": x_scale,
        "xz": act(xz),
        "ws": w_scale if per_channel else w_scale[0],
        "wz": np.full(outs, wz, weights) if per_channel else weights(wz),
        "ys": y_scale,
        "yz": act(yz),
    }
    sums = (x.astype(np.int64) - xz) @ (w.astype(np.int64) - wz)
    attributes, domain, op = {}, "", "QLinearMatMul"
    names = ["xs", "xz", "w", "ws", "wz", "ys", "yz"]
    if kind == "gemm":
        op, domain = "QGemm", "com.microsoft"
        bias = rng.integers(-20000, 20000, outs).astype(np.int32)
        sums = sums + bias.astype(np.int64)
        constants["b"] = bias
        names = ["xs", "xz", "w", "ws", "wz", "b", "ys", "yz"]
        attributes["transB"] = int(rng.integers(2))
    if not computed:
        constants["w"] = np.ascontiguousarray(w.T) if attributes.get("transB") else w
    inputs = [("x", x)] + [(name, w if name == "w" and computed else None) for name in names]
    model, feeds = model_of(op, inputs, act, constants, attributes, domain)
    scale = ((x_scale * w_scale) / y_scale).astype(f32)
    exact = requantize(sums, scale, yz, act)
    name = f"{kind} {act.__name__} {rows}x{depth}x{outs} {weights.__name__} zero {wz} computed {computed} {attributes}"
    return name, model, feeds, exact


def add_case(rng, _):
    act = byte_type(rng)
    shape = [int(rng.integers(1, 3)), int(rng.integers(1, 20)), int(rng.integers(1, 12)), int(rng.integers(1, 12))]
    a_scale, b_scale = (f32(v) for v in rng.uniform(0.002, 0.2, 2))
    y_scale = f32((a_scale + b_scale) * rng.uniform(0.3, 1.5))
    az, bz, yz = (zero_point(rng, act) for _ in range(3))
    constants = {"as": a_scale, "az": act(az), "bs": b_scale, "bz": act(bz), "ys": y_scale, "yz": act(yz)}
    a, b = draw(rng, shape, act), draw(rng, shape, act)
    inputs = [("a", a), ("as", None), ("az", None), ("b", b), ("bs", None), ("bz", None), ("ys", None), ("yz", None)]
    model, feeds = model_of("QLinearAdd", inputs, act, constants, {}, "com.microsoft")
    # Exact arithmetic would round once; onnxruntime's order of roundings is the runtime's, on purpose.
    return f"add {act.__name__} {shape}", model, feeds, None


CASES = {
    "conv": lambda rng: conv_case(rng, "conv"),
    "grouped": lambda rng: conv_case(rng, "grouped"),
    "depthwise": lambda rng: conv_case(rng, "depthwise"),
    "pointwise": lambda rng: conv_case(rng, "pointwise"),
    "matmul": lambda rng: matmul_case(rng, "matmul"),
    "gemm": lambda rng: matmul_case(rng, "gemm"),
    "add": lambda rng: add_case(rng, "add"),
}

if __name__ == "__main__":
    if sys.argv[1] == "random":
        random_cases(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1] == "graphs":
        graph_cases(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1] == "nets":
        net_cases(sys.argv[2], sys.argv[3:])
    elif sys.argv[1] == "nodes":
        node_cases(sys.argv[2])
    else:
        model_cases(sys.argv[2], sys.argv[3], sys.argv[4:])
