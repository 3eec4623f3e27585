"""Int8 inference on one thread, and if asked for on some: qnn beside onnxruntime and LiteRT, interleaved.

    qnn_bench.py --qnnc PROGRAM --agent PROGRAM --work DIR [--models DIR] [--rounds N] [--threads N] [--json FILE] [--only NAME]

Each engine is a process of its own that has loaded the model and waits. A round has each of them run the model
for about as long, in turns whose order is reversed every other round, so that whatever else the machine does
hits all alike. p50 is the median over rounds of a round's median; p99 is over all runs. Peak memory is what the
process had at most beyond what it had before it loaded the model.

`tract` and `qnn in the agent` are the agent's two engines as it calls them; the others are called without anything
around them.

Models: those of qnn_models.py, and every .onnx file in the directory given (a .tflite file of the same name is
what LiteRT runs there; it has no converter of its own).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUND_MS = 60
# A rival's threads go on spinning after its turn, on the processor that the next one wants. Longer than that, seconds.
SPIN_S = 0.2


def main():
    args = parse()
    names = json.loads(args.only) if args.only.startswith("[") else [n for n in args.only.split(",") if n]
    rows = []
    for path in models(args):
        if names and path.stem not in names:
            continue
        rows.append(measure(path, args))
        print(render(rows[-1]), flush=True)
    print("\n" + summary(rows))
    if args.json:
        Path(args.json).write_text(json.dumps({"models": rows}, indent=1) + "\n")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--qnnc", required=True)
    parser.add_argument("--agent", required=True, help="a program that runs a model on the agent's engines")
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--digits", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="measure the agent and onnxruntime with as many, too")
    parser.add_argument("--portable", action="store_true", help="measure the portable kernels, too")
    parser.add_argument("--only", default="")
    parser.add_argument("--json")
    return parser.parse_args()


def models(args):
    here = Path(__file__).resolve().parent
    made = args.work / "models"
    subprocess.run([sys.executable, here / "qnn_models.py", made], check=True)
    found = sorted(made.glob("*.onnx"), key=lambda path: path.stat().st_size)
    if args.digits:
        found.insert(0, args.digits)
    if args.models:
        found += sorted(args.models.glob("*.onnx"))
    return found


class Engine:
    """A process that has a model loaded."""

    def __init__(self, name, command):
        env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        self.name, self.rounds, self.all = name, [], []
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{name} does not take it")
        self.facts = json.loads(line)
        self.each = 1
        self.run(3)
        warm = self.run(5)
        self.each = max(3, int(ROUND_MS * 1e6 / statistics.median(warm)))

    def run(self, times):
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        return [int(ns) for ns in self.process.stdout.readline().split()]

    def round(self):
        times = self.run(self.each)
        self.rounds.append(statistics.median(times))
        self.all += times

    def end(self):
        self.process.stdin.close()
        self.facts.update(json.loads(self.process.stdout.readline()))
        self.process.wait()
        ordered = sorted(self.all)
        return {
            "p50_us": statistics.median(self.rounds) / 1e3,
            "p99_us": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] / 1e3,
            "load_us": self.facts["load_us"],
            "peak_mib": (self.facts["peak_kib"] - self.facts["bare_kib"]) / 1024,
            **({"kernels": self.facts["kernels"]} if "kernels" in self.facts else {}),
        }


def measure(path, args):
    compiled = args.work / f"{path.stem}.qnn"
    begun = time.perf_counter()
    subprocess.run([args.qnnc, "compile", path, compiled], check=True)
    compile_ms = (time.perf_counter() - begun) * 1e3
    me = [sys.executable, Path(__file__).resolve(), "worker"]
    commands = {
        "qnn": [args.qnnc, "worker", compiled, "best"],
        "onnxruntime": [*me, "onnxruntime", path],
        "qnn in the agent": [args.agent, compiled],
        "tract": [args.agent, path],
    }
    if args.portable:
        commands["portable"] = [args.qnnc, "worker", compiled, "portable"]
    if args.threads > 1:
        commands[f"agent, {args.threads} threads"] = [args.agent, compiled, args.threads]
        commands[f"ort, {args.threads} threads"] = [*me, "onnxruntime", path, args.threads]
    if path.with_suffix(".tflite").exists():
        commands["litert"] = [*me, "litert", path.with_suffix(".tflite")]
    engines = [Engine(name, command) for name, command in commands.items()]
    for index in range(args.rounds):
        for engine in engines if index % 2 else engines[::-1]:
            if args.threads > 1:
                time.sleep(SPIN_S)
            engine.round()
    row = {engine.name: engine.end() for engine in engines}
    rivals = [row[name]["p50_us"] for name in ("onnxruntime", "litert") if name in row]
    ratio = row["qnn"]["p50_us"] / min(rivals)
    return {"model": path.stem, "ratio": ratio, "compile_ms": compile_ms, "engines": row}


def render(row):
    parts = [f"{row['model']:<22} ratio {row['ratio']:.2f}"]
    for name, found in row["engines"].items():
        parts.append(
            f"  {name:<16} p50 {found['p50_us']:>9.1f} us  p99 {found['p99_us']:>9.1f} us  "
            f"load {found['load_us'] / 1e3:>7.2f} ms  peak {found['peak_mib']:>6.1f} MiB"
        )
    return "\n".join(parts)


def summary(rows):
    mean = statistics.geometric_mean(row["ratio"] for row in rows)
    worst = max(rows, key=lambda row: row["ratio"])
    return f"p50 against the faster rival: geometric mean {mean:.2f}, worst {worst['ratio']:.2f} ({worst['model']})"


# --- the other side: a rival that waits -----------------------------------------------------------------------


def peak_kib():
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def worker(engine, path, threads=1):
    import numpy as np

    def numbers(shape, dtype):
        count = int(np.prod(shape))
        values = np.arange(count) % 97 / 48.5 - 1 if dtype == np.float32 else np.arange(count) * 37
        return values.astype(dtype).reshape(shape)

    if engine == "onnxruntime":
        import onnxruntime

        bare, begun = peak_kib(), time.perf_counter()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        load = time.perf_counter() - begun
        types = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
        binding = session.io_binding()
        for given in session.get_inputs():
            shape = [size if isinstance(size, int) else 1 for size in given.shape]
            binding.bind_cpu_input(given.name, numbers(shape, types[given.type]))
        for taken in session.get_outputs():
            binding.bind_output(taken.name)
        run = lambda: session.run_with_iobinding(binding)
    else:
        from ai_edge_litert.interpreter import Interpreter

        bare, begun = peak_kib(), time.perf_counter()
        interpreter = Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
        load = time.perf_counter() - begun
        for given in interpreter.get_input_details():
            interpreter.set_tensor(given["index"], numbers(given["shape"], given["dtype"]))
        run = interpreter.invoke
    print(json.dumps({"load_us": load * 1e6}), flush=True)
    clock = time.perf_counter_ns
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            begun = clock()
            run()
            times.append(clock() - begun)
        print(*times, flush=True)
    print(json.dumps({"peak_kib": peak_kib(), "bare_kib": bare}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker(sys.argv[2], sys.argv[3], *map(int, sys.argv[4:]))
    else:
        main()
