"""An application in Python with the agent inside, through the bindings that UniFFI makes.

    library.py MODULE_DIR CONFIG CHILD GOLDEN_NPZ

Waits for a model, asks until a line comes on stdin, holds the answers against the golden vectors, and
stops. Prints one word for each step and one JSON object in the end; any difference is an exception.
"""

import json
import queue
import select
import sys

import numpy as np

module_dir, config, child, golden = sys.argv[1:]
sys.path.insert(0, module_dir)
import fleetway_device as fleetway  # noqa: E402

vectors = np.load(golden)
images = vectors["in.image"].astype("<f4")
scores = vectors["out.scores"].astype("<f4")
# One step of the scores, which are eight bits: another processor may round one of them otherwise.
ERR_MAX = 0.16


def step(word):
    print(word, flush=True)


def refused(kind, words, call, *args, **more):
    try:
        call(*args, **more)
    except kind as error:
        assert words in str(error), str(error)
        return
    raise AssertionError(f"{call} was not refused")


class News(fleetway.ModelListener):
    def __init__(self):
        self.queue = queue.Queue()

    def on_model_changed(self, change):
        self.queue.put(change)
        # What a listener throws must not reach anybody.
        raise RuntimeError("a listener with a bug")


def tensor(data, name="image"):
    shape = [1, 1, 8, 8]
    return fleetway.Tensor(name=name, datatype=fleetway.DataType.F32, shape=shape, data=data)


Error = fleetway.FleetwayError
refused(Error.Config, "cannot be read", fleetway.Agent.open, "/nowhere")
agent = fleetway.Agent.open(config, child=child)
refused(Error.InUse, "open in this program", fleetway.Agent.open, config, child=child)
step("opened")

news = News()
subscription = agent.on_model_changed(news)
change = news.queue.get(timeout=90)
assert change.model == "digits" and change.running.version == "v2", change
step("changed")

# Real requests: the release is on probation, and confirmed by their answers.
at = 0
while not select.select([sys.stdin], [], [], 0.01)[0]:
    agent.infer("digits", [tensor(images[at % len(images)].tobytes())])
    at += 1

worst = 0.0
for image, want in zip(images, scores):
    answer = agent.infer("digits", [tensor(image.tobytes())])
    assert answer.model == "digits" and answer.release == change.running, answer
    (output,) = answer.outputs
    assert output.name == "scores" and output.datatype == fleetway.DataType.F32, output
    got = np.frombuffer(output.data, "<f4").reshape(output.shape)
    assert got.shape == (1, 10) and got.argmax() == want.argmax(), (got, want)
    worst = max(worst, float(np.abs(got - want).max()))
assert worst <= ERR_MAX, worst
step("golden")

refused(Error.Input, "picture", agent.infer, "digits", [tensor(images[0].tobytes(), "picture")])
refused(Error.Input, "image", agent.infer, "digits", [tensor(b"\0" * 3)])
refused(Error.UnknownModel, "digits", agent.infer, "letters", [])
status = json.loads(agent.status())
(model,) = status["models"]
assert model["running"]["release"] == change.running.digest and model["phase"] == "idle", model
assert status["sandbox"]["met"] and status["sandbox"]["state"] == "full", status["sandbox"]

subscription.cancel()
agent.stop()
refused(Error.Closed, "closed", agent.infer, "digits", [tensor(images[0].tobytes())])
assert "the agent was closed" in json.loads(agent.status())["problems"]
fleetway.Agent.open(config, child=child).stop()
step("closed")
print(json.dumps({"release": change.running.digest, "asked": at, "worst": worst}))
