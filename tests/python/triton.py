"""NVIDIA's own client, unmodified, against a device: every way it has to ask, and to be refused.

    triton.py HTTP_ADDR GRPC_ADDR GRPC_SOCKET HELDOUT_NPZ RELEASE

Models on the device: `digits` (one image at a time) and `open` (the same network, any number of
rows up to eight). Prints one JSON object; any difference is an exception.
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from tritonclient.utils import InferenceServerException

http_addr, grpc_addr, grpc_socket, heldout, release = sys.argv[1:]
data = np.load(heldout)
images, labels = data["images"].astype(np.float32), data["labels"]
done = []


def inputs(module, image, model="digits", **how):
    tensor = module.InferInput("image", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image, **how)
    return [tensor]


def refused(status, words, ask, *args, **how):
    try:
        ask(*args, **how)
    except InferenceServerException as error:
        assert str(error.status()) == status, (error.status(), error.message())
        assert words in error.message(), error.message()
        return
    raise AssertionError(f"{ask} was not refused")


def origin(said):
    assert said["release"] == release and said["slot"] in ("a", "b"), said


# The reference that every other way must agree with, bit for bit.
http = httpclient.InferenceServerClient(http_addr)
first = images[0:1]
reference = http.infer("digits", inputs(httpclient, first)).as_numpy("scores")
assert reference.shape == (1, 10) and reference.dtype == np.float32
assert reference.argmax() == labels[0]


def same(result):
    assert result.as_numpy("scores").tobytes() == reference.tobytes()


# HTTP, sync: what it is, and what it has.
assert http.is_server_live() and http.is_server_ready()
assert http.is_model_ready("digits") and http.is_model_ready("digits", "v2")
assert not http.is_model_ready("digits", "v9") and not http.is_model_ready("nothing")
metadata = http.get_server_metadata()
assert metadata["name"] == "fleetway-agent" and "binary_tensor_data" in metadata["extensions"]
metadata = http.get_model_metadata("digits", "v2")
assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8]}]
assert http.get_model_metadata("open")["inputs"][0]["shape"] == [-1, 1, 8, 8]
config = http.get_model_config("open")
assert config["dynamic_batching"]["preferred_batch_size"] == [8], config
index = {entry["name"]: entry for entry in http.get_model_repository_index()}
assert index["digits"]["state"] == index["open"]["state"] == "READY", index
refused("403", "signed orders", http.load_model, "digits")
refused("403", "signed orders", http.unload_model, "digits")
done.append("http management")

# HTTP, sync: JSON and binary tensors in and out, folded both ways.
for binary_in in (True, False):
    for binary_out in (True, False):
        for folded in (None, "gzip", "deflate"):
            result = http.infer(
                "digits",
                inputs(httpclient, first, binary_data=binary_in),
                outputs=[httpclient.InferRequestedOutput("scores", binary_data=binary_out)],
                request_id="7 é",
                model_version="v2",
                request_compression_algorithm=folded,
                response_compression_algorithm=folded,
            )
            said = result.get_response()
            assert said["id"] == "7 é" and said["model_version"] == "v2", said
            assert ("data" in said["outputs"][0]) != binary_out, said
            origin(said["parameters"])
            same(result)
top = [httpclient.InferRequestedOutput("scores", class_count=3)]
classes = http.infer("digits", inputs(httpclient, first), outputs=top).as_numpy("scores")
value, place = classes.flatten()[0].decode().split(":")
assert classes.shape == (1, 3) and int(place) == labels[0]
assert abs(float(value) - reference.max()) < 1e-4
pending = [http.async_infer("digits", inputs(httpclient, first)) for _ in range(8)]
for request in pending:
    same(request.get_result())
done.append("http inference")

# HTTP: refusals come as the client's own exceptions.
refused("404", "there is: digits, open", http.infer, "nothing", inputs(httpclient, first))
refused("404", "does not run", http.infer, "digits", inputs(httpclient, first), model_version="v9")
flat = first.reshape(1, 64)
refused("400", "takes FP32[1, 1, 8, 8]", http.infer, "digits", inputs(httpclient, flat))
wrong = [httpclient.InferRequestedOutput("nothing")]
refused("400", "no output", http.infer, "digits", inputs(httpclient, first), outputs=wrong)
stats = http.get_inference_statistics("digits")["model_stats"][0]
assert stats["inference_count"] == stats["inference_stats"]["success"]["count"] >= 22, stats
assert stats["inference_stats"]["compute_infer"]["ns"] > 0 and stats["last_inference"] > 1.7e12
assert {model["name"] for model in http.get_inference_statistics()["model_stats"]} == {
    "digits",
    "open",
}
done.append("http refusals and statistics")


# gRPC, sync, over TCP and over the unix socket.
def grpc_sync(where):
    grpc = grpcclient.InferenceServerClient(where)
    assert grpc.is_server_live() and grpc.is_server_ready()
    assert grpc.is_model_ready("digits", "v2") and not grpc.is_model_ready("digits", "v9")
    assert grpc.get_server_metadata().name == "fleetway-agent"
    metadata = grpc.get_model_metadata("digits")
    assert list(metadata.inputs[0].shape) == [1, 1, 8, 8] and metadata.versions == ["v2"]
    config = grpc.get_model_config("open").config
    assert config.input[0].data_type == 11 and config.input[0].dims == [-1, 1, 8, 8], config
    assert config.dynamic_batching.preferred_batch_size == [8]
    index = {entry.name: entry.state for entry in grpc.get_model_repository_index().models}
    assert index == {"digits": "READY", "open": "READY"}, index
    for folded in (None, "gzip", "deflate"):
        result = grpc.infer(
            "digits",
            inputs(grpcclient, first),
            request_id="7 é",
            model_version="v2",
            compression_algorithm=folded,
        )
        said = result.get_response()
        assert said.id == "7 é" and said.model_version == "v2"
        origin({name: value.string_param for name, value in said.parameters.items()})
        same(result)
    top = [grpcclient.InferRequestedOutput("scores", class_count=3)]
    classes = grpc.infer("digits", inputs(grpcclient, first), outputs=top).as_numpy("scores")
    assert int(classes.flatten()[0].decode().split(":")[1]) == labels[0]
    refused("StatusCode.PERMISSION_DENIED", "signed orders", grpc.load_model, "digits")
    refused("StatusCode.PERMISSION_DENIED", "signed orders", grpc.unload_model, "digits")
    refused("StatusCode.NOT_FOUND", "there is", grpc.infer, "nothing", inputs(grpcclient, first))
    refused("StatusCode.NOT_FOUND", "no model", grpc.is_model_ready, "nothing")
    refused(
        "StatusCode.INVALID_ARGUMENT", "takes", grpc.infer, "digits", inputs(grpcclient, flat)
    )
    stats = grpc.get_inference_statistics("digits").model_stats[0]
    assert stats.inference_stats.success.count == stats.inference_count > 0
    assert len(grpc.get_inference_statistics().model_stats) == 2
    grpc.close()


grpc_sync(grpc_addr)
done.append("grpc over tcp")
grpc_sync(f"unix://{grpc_socket}")
done.append("grpc over the unix socket")

# Typed contents, which the client has no call for: its own message, by its own stub.
from tritonclient.grpc import service_pb2  # noqa: E402

grpc = grpcclient.InferenceServerClient(f"unix://{grpc_socket}")
message = service_pb2.ModelInferRequest(model_name="digits")
tensor = message.inputs.add(name="image", datatype="FP32", shape=[1, 1, 8, 8])
tensor.contents.fp32_contents.extend(first.flatten().tolist())
answer = grpc._client_stub.ModelInfer(message)
assert answer.raw_output_contents[0] == reference.tobytes()
grpc.close()
done.append("grpc typed contents")


# Both again, asynchronous; and many at once, which may share a run, with the bits of each alone.
async def asynchronous():
    async with httpaio.InferenceServerClient(http_addr) as http:
        assert await http.is_server_ready() and await http.is_model_ready("digits")
        for folded in (None, "gzip", "deflate"):
            result = await http.infer(
                "digits",
                inputs(httpaio, first),
                request_compression_algorithm=folded,
                response_compression_algorithm=folded,
            )
            same(result)
        same(await http.infer("digits", inputs(httpaio, first, binary_data=False)))
        try:
            await http.load_model("digits")
            raise AssertionError("loaded")
        except InferenceServerException as error:
            assert error.status() == "403", error.status()
    async with grpcaio.InferenceServerClient(f"unix://{grpc_socket}") as grpc:
        assert await grpc.is_server_ready()
        same(await grpc.infer("digits", inputs(grpcaio, first)))
        alone = [
            (await grpc.infer("open", inputs(grpcaio, images[at : at + 1]))).as_numpy("scores")
            for at in range(64)
        ]
        assert alone[0].tobytes() == reference.tobytes(), "the open axis changes no bit"
        for _ in range(4):
            together = []
            for start in range(0, 64, 16):
                asked = [
                    grpc.infer("open", inputs(grpcaio, images[at : at + 1]))
                    for at in range(start, start + 16)
                ]
                together += await asyncio.gather(*asked)
            for result, expected in zip(together, alone):
                assert result.as_numpy("scores").tobytes() == expected.tobytes()
        rows = (await grpc.infer("open", inputs(grpcaio, images[:8]))).as_numpy("scores")
        assert rows.tobytes() == b"".join(scores.tobytes() for scores in alone[:8])
        return await grpc.get_inference_statistics("open")


stats = asyncio.run(asynchronous()).model_stats[0]
runs = {batch.batch_size: batch.compute_infer.count for batch in stats.batch_stats}
assert stats.execution_count < stats.inference_count and max(runs) == 8, runs
done.append("asynchronous, and batches")

print(json.dumps({"done": done, "runs_by_rows": runs}))
