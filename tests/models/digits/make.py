"""Builds the digits model set: real int8 classifiers, good ones and ones that fail in a chosen way.

The end-to-end scenarios need models whose quality is a fact, not a mock: a release that is better than the
last, one whose golden vectors disagree with its weights, and one that passes every check before activation
and is still wrong in use. Mocks would let a gate pass that no real model ever meets, so a small CNN is
trained here, quantised by onnxruntime as users do it, and measured. `hostile/` holds the files that made
tract 0.23.9 panic, abort, hang or answer nonsense: what the validator and the child process are for.

Everything follows from SEED and the pinned requirements.txt: a second run writes the same bytes. The
promises of the README are asserted (`check_promises`), so a set that lost its meaning is never written up.

    python3 -m venv /tmp/venv-digits
    /tmp/venv-digits/bin/pip install -r requirements.txt
    /tmp/venv-digits/bin/python make.py          # about a minute

Reading order: `main`, `build_set`, then train, export, measure, hostile, README.
"""

import hashlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy: the order of additions must not depend on cores

import numpy as np
import onnx
import onnxruntime as ort
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent
SEED = 7
OPSET = 17
HELD_OUT, CALIBRATION, GOLDEN = 450, 200, 8
CHANNELS_1, CHANNELS_2, CLASSES = 24, 48, 10

SENT_MAX = 16.0  # what applications send: the data set's own 0..16
GREY_MAX = 255.0  # what v4 was made for: 8-bit grey levels


def main():
    logging.disable(logging.WARNING)  # the quantiser asks for a pre-processing that this graph has no use for
    data = split_data()
    np.savez(HERE / "heldout.npz", images=as_nchw(data.held_out_x), labels=data.held_out_y.astype(np.uint8))
    rows = build_set(data)
    check_promises(rows)
    build_unfit(data)
    build_bare(data)
    write_hostile((HERE / "digits-v2.onnx").read_bytes())
    readme = render_readme(rows)
    (HERE / "README.md").write_text(readme)
    print(readme)


def build_set(data):
    """Trains, exports and measures every model; returns one Row for each file."""
    x, y = data.train_x / SENT_MAX, data.train_y
    good = train(x, y, epochs=24, seed=2, augment=True)
    networks = {
        "digits-v1": (train(x[:150], y[:150], epochs=10, seed=1), SENT_MAX, False),
        "digits-v2": (good, SENT_MAX, False),
        "digits-v3": (train(x, y, epochs=24, seed=3, augment=True), SENT_MAX, False),
        "digits-v4": (train(*with_empty_fields(x, y), epochs=24, seed=4, augment=True), GREY_MAX, False),
        "softmax-tail": (good, SENT_MAX, True),
    }
    rows = []
    for name, (network, full_scale, softmax) in networks.items():
        rescale = full_scale / SENT_MAX
        model = quantise(float_model(network, full_scale, softmax), data.calibration_x * rescale)
        golden_x = as_nchw(data.golden_x * rescale)
        golden_scores = run(model, golden_x)
        if name == "digits-v3":
            roll_classes(model)
        onnx.save_model(model, HERE / f"{name}.onnx")
        np.savez(HERE / f"{name}.golden.npz", **{"in.image": golden_x, "out.scores": golden_scores})
        rows.append(measure(name, full_scale, data))
    return rows


def build_unfit(data):
    """Three releases of v2's file that pass their self-test and do not fit the applications that v1 and v2 serve."""
    sound = onnx.load(HERE / "digits-v2.onnx")
    faint = as_nchw(data.golden_x / 2)
    in_use = as_nchw(data.held_out_x)
    unfit = {
        "digits-nan": (with_root_of_brightness(sound), faint),
        "digits-flat": (with_input(sound, TensorProto.FLOAT, [1, 64]), as_nchw(data.golden_x).reshape(-1, 64)),
        "digits-whole": (with_input(sound, TensorProto.INT32, [1, 1, 8, 8]), as_nchw(data.golden_x).astype(np.int32)),
    }
    for name, (model, golden_x) in unfit.items():
        onnx.checker.check_model(model, full_check=True)
        scores = run(model, golden_x)
        assert np.isfinite(scores).all(), name
        onnx.save_model(model, HERE / f"{name}.onnx")
        np.savez(HERE / f"{name}.golden.npz", **{"in.image": golden_x, "out.scores": scores})
    broken = np.isnan(run(unfit["digits-nan"][0], in_use)).any(axis=1).mean()
    assert broken >= 0.9, broken


def build_bare(data):
    """One operator and nothing to compute: what the bench holds against a bare echo."""
    model = as_model([helper.make_node("Relu", ["image"], ["scores"])], output_shape=[1, 1, 8, 8])
    golden_x = as_nchw(data.golden_x)
    onnx.save_model(model, HERE / "digits-bare.onnx")
    np.savez(HERE / "digits-bare.golden.npz", **{"in.image": golden_x, "out.scores": run(model, golden_x)})


def with_root_of_brightness(sound):
    """Multiplies the scores by root / root, root = sqrt(12 - brightest pixel): no number once one is brighter than 12."""
    model = onnx.ModelProto.FromString(sound.SerializeToString())
    for node in model.graph.node:
        node.output[:] = ["plain" if name == "scores" else name for name in node.output]
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["image"], ["brightest"], "brightest", keepdims=0),
            helper.make_node("Sub", ["limit", "brightest"], ["room"], "room"),
            helper.make_node("Sqrt", ["room"], ["root"], "root"),
            helper.make_node("Div", ["root", "root"], ["one"], "one"),
            helper.make_node("Mul", ["plain", "one"], ["scores"], "scores"),
        ]
    )
    model.graph.initializer.append(tensor("limit", np.float32(12)))
    return model


def with_input(sound, kind, shape):
    """The same network behind another interface: `image` has another type or another shape."""
    model = onnx.ModelProto.FromString(sound.SerializeToString())
    for node in model.graph.node:
        node.input[:] = ["usual" if name == "image" else name for name in node.input]
    cast = helper.make_node("Cast", ["image"], ["real"], "real", to=TensorProto.FLOAT)
    reshape = helper.make_node("Reshape", ["real", "usual.shape"], ["usual"], "usual")
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([cast, reshape, *rest])
    model.graph.initializer.append(tensor("usual.shape", np.array([1, 1, 8, 8], np.int64)))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", kind, shape))
    return model


# ---------------------------------------------------------------- data


@dataclass(frozen=True)
class Data:
    """Images as [n, 8, 8, 1] in 0..16. Held-out is never trained or calibrated on."""

    train_x: np.ndarray
    train_y: np.ndarray
    held_out_x: np.ndarray
    held_out_y: np.ndarray
    golden_x: np.ndarray

    @property
    def calibration_x(self):
        return self.train_x[-CALIBRATION:]


def split_data():
    digits = load_digits()
    x, y = digits.images[..., None], digits.target
    order = np.random.default_rng(SEED).permutation(len(x))
    train_at, held_out_at = order[:-HELD_OUT], order[-HELD_OUT:]
    typical = [most_typical(x[held_out_at][y[held_out_at] == digit]) for digit in range(GOLDEN)]
    return Data(x[train_at], y[train_at], x[held_out_at], y[held_out_at], np.stack(typical))


def most_typical(x):
    """The image nearest to the mean: golden vectors must not hang on a rounding between engines."""
    return x[np.square(x - x.mean(axis=0)).sum(axis=(1, 2, 3)).argmin()]


def with_empty_fields(x, y):
    """Adds faint noise labelled 0: v4 was made for forms, where an empty field counts as zero."""
    noise = np.random.default_rng(SEED).normal(0, 0.1, (len(x) // 4, 8, 8, 1))
    return np.concatenate([x, np.clip(noise, 0, 1)]), np.concatenate([y, np.zeros(len(noise), int)])


def as_nchw(x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2), dtype=np.float32)


# ---------------------------------------------------------------- train: a CNN in numpy, float64, NHWC


def train(x, y, epochs, seed, augment=False):
    """Adam on cross-entropy, the rate falling linearly to 0. `augment` was chosen by cross-validation in train."""
    rng = np.random.default_rng([SEED, seed])
    weights = initial_weights(rng)
    mean = {key: np.zeros_like(w) for key, w in weights.items()}
    square = {key: np.zeros_like(w) for key, w in weights.items()}
    batches, step = len(x) // 32, 0
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(len(x)), batches):
            seen = moved_and_noisy(x[batch], rng) if augment else x[batch]
            rate = 2e-3 * (1 - step / (epochs * batches))
            step += 1
            for key, gradient in gradients(weights, seen, y[batch]).items():
                mean[key] = 0.9 * mean[key] + 0.1 * gradient
                square[key] = 0.999 * square[key] + 0.001 * gradient**2
                unbiased = np.sqrt(square[key] / (1 - 0.999**step)) + 1e-8
                weights[key] -= rate * mean[key] / (1 - 0.9**step) / unbiased
    # A coarse grid: last-bit differences between processors' float64 do not reach the file.
    return {key: np.round(w * 4096) / 4096 for key, w in weights.items()}


def moved_and_noisy(x, rng):
    """Each image moved by at most one column, with noise of sigma 0.1."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    starts = rng.integers(0, 3, len(x))
    moved = np.stack([image[:, start : start + 8] for image, start in zip(padded, starts)])
    return np.clip(moved + 0.1 * rng.normal(size=x.shape), 0, 1)


def initial_weights(rng):
    def dense(fan_in, fan_out):
        return rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out))

    return {
        "conv1.weight": dense(9, CHANNELS_1),
        "conv1.bias": np.zeros(CHANNELS_1),
        "conv2.weight": dense(9 * CHANNELS_1, CHANNELS_2),
        "conv2.bias": np.zeros(CHANNELS_2),
        "fc.weight": dense(16 * CHANNELS_2, CLASSES) / 2,
        "fc.bias": np.zeros(CLASSES),
    }


def patches(x):
    """The 3x3 neighbourhoods, zero padded: [n, 8, 8, c] -> [n, 8, 8, c * 9]."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sliding_window_view(padded, (3, 3), axis=(1, 2)).reshape(*x.shape[:3], -1)


def gradients(weights, x, y):
    n = len(x)
    in1 = patches(x)
    out1 = np.maximum(in1 @ weights["conv1.weight"] + weights["conv1.bias"], 0)
    in2 = patches(out1)
    out2 = np.maximum(in2 @ weights["conv2.weight"] + weights["conv2.bias"], 0)
    cells = out2.reshape(n, 4, 2, 4, 2, CHANNELS_2)
    pooled = cells.max(axis=(2, 4), keepdims=True)
    features = pooled.reshape(n, 16, CHANNELS_2).transpose(0, 2, 1).reshape(n, -1)
    logits = features @ weights["fc.weight"] + weights["fc.bias"]

    d_logits = np.exp(logits - logits.max(axis=1, keepdims=True))
    d_logits /= d_logits.sum(axis=1, keepdims=True)
    d_logits[np.arange(n), y] -= 1
    d_logits /= n
    d_features = d_logits @ weights["fc.weight"].T
    d_pooled = d_features.reshape(n, CHANNELS_2, 16).transpose(0, 2, 1).reshape(pooled.shape)
    d_out2 = ((cells == pooled) * d_pooled).reshape(out2.shape) * (out2 > 0)
    kernel = weights["conv2.weight"].reshape(CHANNELS_1, 3, 3, CHANNELS_2)
    flipped = kernel[:, ::-1, ::-1].transpose(3, 1, 2, 0).reshape(-1, CHANNELS_1)
    d_out1 = (patches(d_out2) @ flipped) * (out1 > 0)
    return {
        "conv1.weight": in1.reshape(-1, in1.shape[-1]).T @ d_out1.reshape(-1, CHANNELS_1),
        "conv1.bias": d_out1.sum(axis=(0, 1, 2)),
        "conv2.weight": in2.reshape(-1, in2.shape[-1]).T @ d_out2.reshape(-1, CHANNELS_2),
        "conv2.bias": d_out2.sum(axis=(0, 1, 2)),
        "fc.weight": features.T @ d_logits,
        "fc.bias": d_logits.sum(axis=0),
    }


# ---------------------------------------------------------------- export


def float_model(weights, full_scale, softmax):
    """The network as ONNX; `full_scale` (what white ink is in the input) is folded into the first layer."""
    tensors = {
        "conv1.weight": weights["conv1.weight"].T.reshape(CHANNELS_1, 1, 3, 3) / full_scale,
        "conv1.bias": weights["conv1.bias"],
        "conv2.weight": weights["conv2.weight"].T.reshape(CHANNELS_2, CHANNELS_1, 3, 3),
        "conv2.bias": weights["conv2.bias"],
        "fc.weight": weights["fc.weight"].T,
        "fc.bias": weights["fc.bias"],
    }
    initializers = [numpy_helper.from_array(t.astype(np.float32), name) for name, t in tensors.items()]
    nodes = [
        helper.make_node("Conv", ["image", "conv1.weight", "conv1.bias"], ["conv1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("Conv", ["relu1", "conv2.weight", "conv2.bias"], ["conv2"], "conv2", pads=[1] * 4),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("MaxPool", ["relu2"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["features"], "flatten"),
    ]
    logits = "logits" if softmax else "scores"
    fc_inputs = ["features", "fc.weight", "fc.bias"]
    nodes.append(helper.make_node("Gemm", fc_inputs, [logits], "fc", transB=1))
    if softmax:
        nodes.append(helper.make_node("Softmax", [logits], ["scores"], "softmax", axis=1))
    return as_model(nodes, initializers, [1, CLASSES])


def as_model(nodes, initializers=(), output_shape=None):
    """Every file of the set, hostile or not, takes `image` and gives `scores`: only its own fault differs."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, output_shape)
    graph = helper.make_graph(nodes, "digits", [image], [scores], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


class Calibration(CalibrationDataReader):
    def __init__(self, x):
        self.feeds = iter([{"image": image[None]} for image in as_nchw(x)])

    def get_next(self):
        return next(self.feeds, None)


def quantise(model, calibration_x):
    """int8 QDQ, weights per channel. A Softmax gets the scale that TFLite fixes for it: 1/256, zero point -128."""
    options = {}
    if any(node.op_type == "Softmax" for node in model.graph.node):
        scale, zero_point = np.array(1 / 256, np.float32), np.array(-128, np.int8)
        fixed = {"scale": scale, "zero_point": zero_point, "quant_type": QuantType.QInt8}
        options["TensorQuantOverrides"] = {"scores": [fixed]}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "int8.onnx"
        quantize_static(
            model,
            path,
            Calibration(calibration_x),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options=options,
        )
        quantised = onnx.load(path)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def roll_classes(model):
    """What v3 suffers after its golden vectors were made: the last layer's rows move on by one class."""
    for tensor in model.graph.initializer:
        if tensor.name.startswith("fc.") and tensor.dims and tensor.dims[0] == CLASSES:
            tensor.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(tensor), 1, axis=0), tensor.name))


# ---------------------------------------------------------------- measure


def run(model, images):
    """onnxruntime on the literal graph (no fusions), one thread, batch 1."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["scores"], {"image": image[None]})[0] for image in images])


@dataclass(frozen=True)
class Row:
    """What one file does, measured on the file and the vectors that were written."""

    name: str
    accuracy_sent: float  # on the held-out images as applications send them
    accuracy_own: float  # on the same images in the model's own scale
    top_share: float  # of the answers to the images as sent, how many are the most common class
    top_class: int
    golden_error_max: float
    golden_agree: int
    golden_margin_min: float  # between the best and the second score, in steps of the int8 output


def measure(name, full_scale, data):
    model = onnx.load(HERE / f"{name}.onnx")
    golden = np.load(HERE / f"{name}.golden.npz")
    sent = run(model, as_nchw(data.held_out_x)).argmax(axis=1)
    own = run(model, as_nchw(data.held_out_x * (full_scale / SENT_MAX))).argmax(axis=1)
    votes = np.bincount(sent, minlength=CLASSES)
    scores, expected = run(model, golden["in.image"]), golden["out.scores"]
    ranked = np.sort(expected, axis=1)
    step = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "scores_scale")
    return Row(
        name=name,
        accuracy_sent=(sent == data.held_out_y).mean(),
        accuracy_own=(own == data.held_out_y).mean(),
        top_share=votes.max() / len(sent),
        top_class=int(votes.argmax()),
        golden_error_max=np.abs(scores - expected).max(),
        golden_agree=int((scores.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        golden_margin_min=(ranked[:, -1] - ranked[:, -2]).min() / step,
    )


def check_promises(rows):
    """The scenarios are written against these; a set that breaks one must not be written up."""
    v1, v2, v3, v4, tail = rows
    assert 0.85 <= v1.accuracy_sent <= 0.92, v1
    assert v2.accuracy_sent >= 0.97, v2
    assert v3.golden_error_max > 1 and v3.golden_agree == 0, v3
    assert v4.accuracy_own >= 0.97 and v4.top_share >= 0.9, v4
    assert tail.accuracy_sent >= 0.97, tail
    for honest in (v1, v2, v4, tail):
        assert honest.golden_error_max == 0 and honest.golden_agree == GOLDEN, honest
        assert honest.golden_margin_min >= 8, honest


# ---------------------------------------------------------------- hostile files


def write_hostile(sound):
    folder = HERE / "hostile"
    folder.mkdir(exist_ok=True)
    files = hostile_files(sound)
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    lines = [f"- `{name}`: {what}" for name, (_, what) in files.items()]
    (folder / "README.md").write_text(HOSTILE_README.format(files="\n".join(lines)))


def hostile_files(sound):
    """name -> (bytes, what it is). Each is sound but for the one thing that its line names."""
    files = {
        "empty.onnx": (b"", "no bytes at all"),
        "truncated.onnx": (sound[:2000], "the first 2000 bytes of digits-v2.onnx"),
        "random.onnx": (np.random.default_rng(SEED).bytes(1024), "1024 random bytes"),
    }
    for name, (model, what) in (hostile_windows() | hostile_shapes() | hostile_graphs() | hostile_numbers()).items():
        files[f"{name}.onnx"] = (model.SerializeToString(), what)
    return files


def hostile_windows():
    def conv(**attributes):
        weight = tensor("weight", np.ones((1, 1, 3, 3), np.float32))
        return as_model([helper.make_node("Conv", ["image", "weight"], ["scores"], **attributes)], [weight])

    def max_pool(kernel):
        return as_model([helper.make_node("MaxPool", ["image"], ["scores"], kernel_shape=[kernel, kernel])])

    return {
        "conv-stride-zero": (conv(strides=[0, 0]), "Conv with strides 0"),
        "conv-pads-large": (conv(pads=[2**15] * 4), "Conv with pads 2^15: a 17 GB output, so an allocation failure"),
        "conv-pads-huge": (conv(pads=[2**40] * 4), "Conv with pads 2^40: tract hangs"),
        "maxpool-kernel-zero": (max_pool(0), "MaxPool with kernel 0"),
        "maxpool-kernel-huge": (max_pool(2**40), "MaxPool with kernel 2^40"),
    }


def hostile_shapes():
    def filled(length):
        shape = tensor("shape", np.array([length], np.int64))
        return plus_sum_of([helper.make_node("ConstantOfShape", ["shape"], ["made"])], [shape])

    def one_op(op, *constants, **attributes):
        named = [tensor(f"c{i}", value) for i, value in enumerate(constants)]
        node = helper.make_node(op, ["image", *(t.name for t in named)], ["scores"], **attributes)
        return as_model([node], named)

    def range_step_zero():
        bounds = [tensor(name, np.float32(value)) for name, value in (("from", 0), ("to", 10), ("step", 0))]
        return plus_sum_of([helper.make_node("Range", ["from", "to", "step"], ["made"])], bounds)

    def one_hot():
        constants = [tensor("depth", np.int64(2**40)), tensor("values", np.array([0, 1], np.float32))]
        cast = helper.make_node("Cast", ["image"], ["indices"], to=TensorProto.INT64)
        node = helper.make_node("OneHot", ["indices", "depth", "values"], ["scores"])
        return as_model([cast, node], constants)

    grow = np.array([1, 1, 2**20, 2**20], np.float32)
    return {
        "constantofshape-negative": (filled(-7), "ConstantOfShape with dimension -7"),
        "constantofshape-huge": (filled(2**33), "the sum of a ConstantOfShape of 2^33"),
        "range-step-zero": (range_step_zero(), "Range with step 0"),
        "transpose-bad-perm": (one_op("Transpose", perm=[0, 1, 2, 9]), "Transpose with axis 9 in its perm"),
        "flatten-axis-9": (one_op("Flatten", axis=9), "Flatten at axis 9 of 4"),
        "onehot-depth-huge": (one_hot(), "OneHot with depth 2^40"),
        "resize-huge": (one_op("Resize", np.array([], np.float32), grow), "Resize by 2^20 in both directions"),
        "tile-huge": (one_op("Tile", np.array([1, 1, 2**40, 1], np.int64)), "Tile by 2^40"),
    }


def hostile_graphs():
    def relu(source, target):
        return helper.make_node("Relu", [source], [target])

    def chain(tensors):
        names = [f"t{i:x}" for i in range(tensors)]
        return [relu(a, b) for a, b in zip(names, names[1:])]

    def cycle():
        last = f"t{99:x}"
        back = helper.make_node("Add", ["image", last], ["t0"])
        return as_model([back, *chain(100), relu(last, "scores")])

    twice = [relu("image", "scores"), helper.make_node("Neg", ["image"], ["scores"])]
    huge = TensorProto(name="offset", data_type=TensorProto.FLOAT, dims=[2**62], raw_data=bytes(4))
    outside = TensorProto(name="offset", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="../x")
    add = helper.make_node("Add", ["image", "offset"], ["scores"])
    long_chain = as_model([relu("image", "t0"), *chain(5999), relu(f"t{5998:x}", "scores")])
    return {
        "output-names-nothing": (as_model([relu("image", "other")]), "the graph output is made by no node"),
        "duplicate-output-names": (as_model(twice), "two nodes make the same tensor"),
        "cycle": (cycle(), "a cycle of 100 nodes"),
        "long-chain": (long_chain, "a chain of 6000 nodes (the one large file; tract's load time is superlinear)"),
        "unknown-op": (as_model([helper.make_node("Fleetway", ["image"], ["scores"])]), "an operator nobody has"),
        "dims-huge": (as_model([add], [huge]), "a constant of 2^62 elements with 4 bytes of data"),
        "external-data": (as_model([add], [outside]), "a constant kept outside, at `../x`"),
    }


def hostile_numbers():
    def weight_scaled_by(*scales):
        """Conv of four channels whose int8 weight has one scale for each channel, or should have."""
        constants = [
            tensor("weight", np.ones((4, 1, 3, 3), np.int8)),
            tensor("scale", np.array(scales, np.float32)),
            tensor("zero", np.zeros(len(scales), np.int8)),
        ]
        dequantize = helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["real"], axis=0)
        return as_model([dequantize, helper.make_node("Conv", ["image", "real"], ["scores"])], constants)

    def int_div_by_zero():
        nodes = [
            helper.make_node("Cast", ["image"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Div", ["whole", "nought"], ["quotient"]),
            helper.make_node("Cast", ["quotient"], ["scores"], to=TensorProto.FLOAT),
        ]
        return as_model(nodes, [tensor("nought", np.int64(0))])

    return {
        "scale-wrong-length": (weight_scaled_by(1, 1, 1), "three scales for the four channels of a weight"),
        "scale-zero": (weight_scaled_by(1, 1, 0, 1), "a scale of 0"),
        "scale-nan": (weight_scaled_by(1, 1, np.nan, 1), "a scale that is NaN"),
        "div-by-zero-at-run": (int_div_by_zero(), "integer division by 0: loads, fails at its first run"),
    }


def plus_sum_of(nodes, constants):
    """`image` + the sum of the tensor `made`, so that what the nodes make cannot be optimised away."""
    total = helper.make_node("ReduceSum", ["made"], ["total"], keepdims=0)
    return as_model([*nodes, total, helper.make_node("Add", ["image", "total"], ["scores"])], constants)


def tensor(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


# ---------------------------------------------------------------- README


def render_readme(rows):
    measured = [
        f"| {r.name} | {r.accuracy_sent:.3f} | {r.accuracy_own:.3f} | {r.top_share:.1%} (class {r.top_class}) "
        f"| {r.golden_agree} of {GOLDEN} | {r.golden_error_max:.3g} | {r.golden_margin_min:.0f} |"
        for r in rows
    ]
    shipped = sorted([*HERE.glob("*.onnx"), *HERE.glob("*.npz")])
    digests = [f"| {p.name} | {p.stat().st_size} | `{hashlib.sha256(p.read_bytes()).hexdigest()}` |" for p in shipped]
    return README.format(measured="\n".join(measured), digests="\n".join(digests), held_out=HELD_OUT)


README = """\
# digits: a real model set

Written by `make.py`, figures and digests included: change the script, not this file.

Small CNNs (conv, relu, conv, relu, max pool, fully connected; relu absorbed by the int8 range) on 8x8 digits,
quantised by onnxruntime: int8 QDQ, weights per channel, opset 17, no external data.
Input `image` float32 [1,1,8,8]; output `scores` float32 [1,10]. Applications send pixels in 0..16.

- `digits-v1`: trained on 150 images. The release to improve on.
- `digits-v2`: trained on all 1347. The good update.
- `digits-v3`: its last layer's rows were moved on by one class after its golden vectors were made. Valid ONNX,
  loads and runs; **the self-test must refuse it**.
- `digits-v4`: passes its self-test honestly, **and collapses in use**. It was made for 8-bit grey levels (0..255) and
  for forms, where an empty field counts as 0; its golden vectors are in its own scale. Applications still send 0..16,
  16 times too faint: every image looks like an empty field. Only what is watched in use
  (answers, input drift) can see it.
- `digits-nan`, `digits-flat`, `digits-whole`: v2 in three ways that pass their self-test and fail in use. `nan` multiplies by
  root / root, the root of (12 - brightest pixel): no number for most real images; its golden images are half as bright.
  `flat` takes [1,64] and `whole` takes int32, while applications go on sending float32 [1,1,8,8].
- `digits-bare`: one Relu. What serving costs without a model (`cargo xtask bench overhead`).
- `softmax-tail`: v2's network ending in `DequantizeLinear -> Softmax -> QuantizeLinear -> DequantizeLinear`, int8 on
  both sides, 1/256 and -128 as TFLite fixes it. tract 0.23.9 computes this silently wrong; the regression test.
  Its scores are probabilities, the others' are logits.
- `*.golden.npz`: `in.image` [8,1,8,8] and `out.scores` [8,10], float32, by onnxruntime with graph optimisations
  off, each vector as batch 1. The first axis is the vector.
- `heldout.npz`: `images` float32 [{held_out},1,8,8] as applications send them, `labels` uint8 [{held_out}]. Never trained or calibrated
  on; the golden images are eight of them (the most typical 0 to 7).
- `hostile/`: files that must be refused; see its own README.

## Measured (onnxruntime on the shipped int8 files, {held_out} held-out images)

The held-out images were looked at while the set was made: v1's training size and length were set so that it lands in
0.85 to 0.92, and a first recipe for v2 was dropped when it gave 0.969 (the one in use was then chosen by cross-validation
in the training split). These are figures for tests, not a benchmark.

| model | accuracy, as sent | accuracy, own scale | most common answer, as sent | golden argmax agrees | golden max error | smallest golden margin, steps |
|---|---|---|---|---|---|---|
{measured}

The margin is between the best and the second score of a vector, in steps of the int8 output: an engine may be off by
less than half of it and still give the same answer.

## Digests

| file | bytes | sha256 |
|---|---|---|
{digests}

## Remake

    python3 -m venv /tmp/venv-digits
    /tmp/venv-digits/bin/pip install -r requirements.txt
    /tmp/venv-digits/bin/python make.py

The same bytes come out on the same kind of machine. Another processor may round a calibrated scale differently in its last bit.

## Licence of the data

Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49, CC BY 4.0; from NIST forms; taken from scikit-learn's `load_digits` (BSD-3-Clause).
`heldout.npz` and the golden vectors contain images of it, unchanged but for their scale in v4's.
"""

HOSTILE_README = """\
# hostile: files that an engine must survive

Written by `../make.py`. Those that parse take `image` and give `scores` like the sound models; each has one fault.
tract 0.23.9 alone (its Python wheel, 3 GB limit, 20 s) panicked on 11, aborted on 1, did not come back from 2, answered
nonsense to 4 (duplicate names, scale 0, scale NaN, Tile) and refused 9, one of them only at its first run.

{files}
"""

if __name__ == "__main__":
    main()
