"""Unmodified clients against a running server: `python official_clients.py CLIENT HTTP_PORT GRPC_PORT MODEL`.

Each runs in a process of its own, without our stubs of the Open Inference Protocol: a process can hold one package
`inference` only. The model takes four grey pixels, of which the first decides. What was checked is printed, one line
each; a failure is a traceback and a status.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid

import numpy as np

ROWS = np.array([[[[150, 7], [200, 30]]], [[[90, 7], [200, 30]]]])
CERTIFIED = ["probabilities", "certificate_label", "certificate_radius", "certificate_status", "draws"]


def check(name, good):
    if not good:
        raise SystemExit(f"failed: {name}")
    print(name)


def check_answer(name, found):
    check(f"{name}: labels", found["certificate_label"].tolist() == [1, 0])
    check(
        f"{name}: radii", found["certificate_radius"].dtype == np.float64 and (found["certificate_radius"] >= 8).all()
    )
    check(f"{name}: status", [_text(s) for s in found["certificate_status"]] == ["certified"] * 2)
    check(f"{name}: probabilities", found["probabilities"].shape == (2, 2) and found["draws"].dtype == np.int64)


def _text(element):
    return element.decode() if isinstance(element, bytes) else element


def triton_http(http_port, grpc_port, model):
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException, np_to_triton_dtype

    client = triton.InferenceServerClient(f"127.0.0.1:{http_port}")
    check("live", client.is_server_live())
    check("ready", client.is_server_ready())
    check("model ready", client.is_model_ready(model) and client.is_model_ready(model, "1"))
    check("unknown model is not ready", not client.is_model_ready("nope"))
    check("server metadata", client.get_server_metadata()["name"] == "certserve")
    check("model metadata", client.get_model_metadata(model)["outputs"][0]["name"] == "probabilities")
    check("config", client.get_model_config(model)["output"][0]["name"] == "probabilities")

    def infer(datatype, binary_in, binary_out, **settings):
        tensor = triton.InferInput("image", ROWS.shape, np_to_triton_dtype(datatype))
        tensor.set_data_from_numpy(ROWS.astype(datatype), binary_data=binary_in)
        outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in CERTIFIED]
        return client.infer(model, [tensor], outputs=outputs, **settings)

    for datatype in (np.uint8, np.int32, np.int64, np.float16, np.float32, np.float64):
        for binary_in, binary_out in ((True, True), (False, False), (True, False)):
            result = infer(datatype, binary_in, binary_out, request_id="me")
            name = f"infer {np.dtype(datatype).name}, binary {binary_in}/{binary_out}"
            check_answer(name, {each: result.as_numpy(each) for each in CERTIFIED})
            check(f"{name}: id", result.get_response()["id"] == "me")
    for algorithm in ("gzip", "deflate"):
        result = infer(
            np.uint8, True, True, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
        )
        check_answer(algorithm, {each: result.as_numpy(each) for each in CERTIFIED})
    result = infer(
        np.uint8, True, True, parameters={"certserve.target_radius": 4.0, "certserve.max_draws": 320}, timeout=10**7
    )
    check("parameters", (result.as_numpy("certificate_radius") >= 4).all())
    plain = client.infer(model, [_triton_input(triton)])
    check("plain infer", [each["name"] for each in plain.get_response()["outputs"]] == ["probabilities"])
    best = client.infer(
        model, [_triton_input(triton)], outputs=[triton.InferRequestedOutput("probabilities", class_count=1)]
    )
    check("classification", best.as_numpy("probabilities")[0][0].decode().endswith(":1:above"))
    (counted,) = client.get_inference_statistics(model)["model_stats"]
    check("statistics", counted["version"] == "1" and counted["inference_stats"]["success"]["count"] > 10)
    check("statistics of all models", client.get_inference_statistics()["model_stats"])
    asynchronous = client.async_infer(model, [_triton_input(triton)]).get_result()
    check("asynchronous infer", asynchronous.as_numpy("probabilities").shape == (2, 2))
    for name, call in {
        "unknown model": lambda: client.infer("nope", [_triton_input(triton)]),
        "wrong shape": lambda: client.infer(model, [_triton_input(triton, ROWS[:, 0])]),
        "unknown parameter": lambda: infer(np.uint8, True, True, parameters={"certserve.colour": 1}),
        "an unknown version": lambda: client.get_inference_statistics(model, "9"),
        "loading a model": lambda: client.load_model(model),
    }.items():
        try:
            call()
        except InferenceServerException as error:
            check(f"{name} is refused: {error.status()}: {error.message()[:60]}", bool(error.message()))
        else:
            check(f"{name} is refused", False)
    client.close()


def _triton_input(triton, rows=ROWS, binary=None):
    tensor = triton.InferInput("image", rows.shape, "UINT8")
    tensor.set_data_from_numpy(rows.astype(np.uint8), *([] if binary is None else [binary]))
    return tensor


def triton_http_aio(http_port, grpc_port, model):
    import tritonclient.http.aio as triton
    from tritonclient.utils import InferenceServerException

    async def main():
        client = triton.InferenceServerClient(f"127.0.0.1:{http_port}")
        check("live and ready", await client.is_server_live() and await client.is_server_ready())
        check("metadata", (await client.get_model_metadata(model))["name"] == model)
        check("config", (await client.get_model_config(model))["name"] == model)
        for binary in (True, False):
            outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in CERTIFIED]
            result = await client.infer(model, [_triton_input(triton, binary=binary)], outputs=outputs)
            check_answer(f"infer, binary {binary}", {each: result.as_numpy(each) for each in CERTIFIED})
        everything = await client.infer(model, [_triton_input(triton)], parameters={"certify": "target"})
        check("a large answer", len(everything.get_response()["outputs"]) == 19)
        for name, call in {
            "unknown model": client.infer("nope", [_triton_input(triton)]),
            "metadata of an unknown model": client.get_model_metadata("nope"),
            "a long error": client.infer(model, [_triton_input(triton)], parameters={"certserve." + "x" * 5000: 1}),
        }.items():
            try:
                await call
            except InferenceServerException as error:
                check(f"{name} is refused: {error.status()}: {error.message()[:60]}", bool(error.message()))
            else:
                check(f"{name} is refused", False)
        await client.close()

    asyncio.run(main())


def triton_grpc(http_port, grpc_port, model):
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    import serving.client  # both fit in one process

    client = triton.InferenceServerClient(f"127.0.0.1:{grpc_port}")
    check("live", client.is_server_live())
    check("ready", client.is_server_ready())
    check("model ready", client.is_model_ready(model) and client.is_model_ready(model, "1"))
    check("server metadata", client.get_server_metadata().name == "certserve")
    check("model metadata", client.get_model_metadata(model).outputs[0].name == "probabilities")
    check("config", client.get_model_config(model).config.output[0].name == "probabilities")
    outputs = [triton.InferRequestedOutput(name) for name in CERTIFIED]
    parameters = {"certserve.target_radius": 4.0, "certserve.alpha": "0.01", "certserve.max_draws": 320}
    result = client.infer(
        model, [_triton_input(triton)], outputs=outputs, request_id="me", client_timeout=20, priority=1
    )
    check_answer("infer", {each: result.as_numpy(each) for each in CERTIFIED})
    check("id", result.get_response().id == "me")
    result = client.infer(model, [_triton_input(triton)], outputs=outputs, parameters=parameters, timeout=10**7)
    check("parameters", (result.as_numpy("certificate_radius") >= 4).all())
    check("plain infer", client.infer(model, [_triton_input(triton)]).as_numpy("probabilities").shape == (2, 2))
    compressed = client.infer(model, [_triton_input(triton)], compression_algorithm="gzip")
    check("gzip", compressed.as_numpy("probabilities").shape == (2, 2))
    best = client.infer(
        model, [_triton_input(triton)], outputs=[triton.InferRequestedOutput("probabilities", class_count=1)]
    )
    check("classification", best.as_numpy("probabilities")[0][0].decode().endswith(":1:above"))
    document = serving.client.predict_grpc(
        f"127.0.0.1:{grpc_port}", model, json.dumps({"instances": ROWS.tolist()}).encode(), "application/json"
    )
    radii = [each["certificate"]["radius"] for each in document["predictions"]]
    (counted,) = client.get_inference_statistics(model).model_stats
    check("statistics", counted.version == "1" and counted.inference_stats.success.count > 3)
    check("statistics as JSON", client.get_inference_statistics(as_json=True)["model_stats"])
    result = client.infer(model, [_triton_input(triton)], outputs=outputs)
    check("our client beside it gives the same radii", result.as_numpy("certificate_radius").tolist() == radii)
    for name, call in {
        "unknown model": lambda: client.infer("nope", [_triton_input(triton)]),
        "wrong shape": lambda: client.infer(model, [_triton_input(triton, ROWS[:, 0])]),
        "unknown parameter": lambda: client.infer(model, [_triton_input(triton)], parameters={"certserve.colour": 1.5}),
        "an unknown version": lambda: client.get_inference_statistics(model, "9"),
        "loading a model": lambda: client.load_model(model),
    }.items():
        try:
            call()
        except InferenceServerException as error:
            check(f"{name} is refused: {error.status()}: {error.message()[:60]}", bool(error.message()))
        else:
            check(f"{name} is refused", False)
    client.close()


def triton_grpc_aio(http_port, grpc_port, model):
    import tritonclient.grpc.aio as triton
    from tritonclient.utils import InferenceServerException

    async def main():
        client = triton.InferenceServerClient(f"127.0.0.1:{grpc_port}")
        check("live and ready", await client.is_server_live() and await client.is_server_ready())
        check("metadata", (await client.get_model_metadata(model)).name == model)
        outputs = [triton.InferRequestedOutput(name) for name in CERTIFIED]
        result = await client.infer(model, [_triton_input(triton)], outputs=outputs)
        check_answer("infer", {each: result.as_numpy(each) for each in CERTIFIED})
        try:
            await client.infer("nope", [_triton_input(triton)])
        except InferenceServerException as error:
            check(f"unknown model is refused: {error.status()}", "NOT_FOUND" in error.status())
        await client.close()

    asyncio.run(main())


def _kserve_request(kserve, model, binary, **settings):
    from kserve.protocol.infer_type import RequestedOutput

    tensor = kserve.InferInput("image", list(ROWS.shape), "INT32")
    tensor.set_data_from_numpy(ROWS.astype(np.int32), binary_data=binary)
    outputs = [RequestedOutput(name, {"binary_data": True} if binary else None) for name in CERTIFIED]
    return kserve.InferRequest(model, [tensor], request_outputs=outputs, **settings)


def _kserve_answer(response):
    return {output.name: output.as_numpy() for output in response.outputs}


def kserve_rest(http_port, grpc_port, model):
    import kserve
    from kserve import InferenceRESTClient, RESTConfig

    async def main():
        base = f"http://127.0.0.1:{http_port}"
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        check("live", await client.is_server_live(base))
        check("ready", await client.is_server_ready(base))
        check("model ready", await client.is_model_ready(base, model))
        for binary in (True, False):
            response = await client.infer(base, _kserve_request(kserve, model, binary), model_name=model)
            found = _kserve_answer(response)
            check_answer(f"infer, binary {binary}", found)
            check(f"infer, binary {binary}: id", bool(uuid.UUID(response.id)))
        settings = {"parameters": {"certserve.target_radius": "4.0", "certserve.max_draws": 320}}
        response = await client.infer(base, _kserve_request(kserve, model, True, **settings), model_name=model)
        check("parameters", (_kserve_answer(response)["certificate_radius"] >= 4).all())
        try:
            await client.infer(base, _kserve_request(kserve, "nope", True), model_name="nope")
        except Exception as error:
            check(f"unknown model is refused: {error}"[:100], "404" in str(error))
        else:
            check("unknown model is refused", False)
        first = InferenceRESTClient(RESTConfig(protocol="v1"))
        document = await first.infer(base, {"instances": ROWS.tolist()}, model_name=model)
        check("V1 predict", [each["certificate"]["label"] for each in document["predictions"]] == ["above", "below"])
        check("V1 ready", await first.is_model_ready(base, model))

    asyncio.run(main())


def kserve_grpc(http_port, grpc_port, model):
    import grpc
    import kserve
    from kserve import InferenceGRPCClient

    async def main():
        client = InferenceGRPCClient(f"127.0.0.1:{grpc_port}")
        check("live", await client.is_server_live())
        check("ready", await client.is_server_ready())
        check("model ready", await client.is_model_ready(model))
        for binary in (True, False):
            response = await client.infer(_kserve_request(kserve, model, binary))
            found = _kserve_answer(response)
            check_answer(f"infer, raw {binary}", found)
        settings = {"parameters": {"certserve.target_radius": "4.0", "certserve.max_draws": 320}}
        response = await client.infer(_kserve_request(kserve, model, True, **settings))
        check("parameters", (_kserve_answer(response)["certificate_radius"] >= 4).all())
        try:
            await client.infer(_kserve_request(kserve, "nope", True))
        except grpc.RpcError as error:
            check(f"unknown model is refused: {error.details()}", error.code() is grpc.StatusCode.NOT_FOUND)
        else:
            check("unknown model is refused", False)

    asyncio.run(main())


CLIENTS = {
    run.__name__: run for run in (triton_http, triton_http_aio, triton_grpc, triton_grpc_aio, kserve_rest, kserve_grpc)
}

if __name__ == "__main__":
    CLIENTS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    # Neither our stubs nor anything of the server was needed.
    check("our stubs were not imported", "protos.inference" not in sys.modules)
