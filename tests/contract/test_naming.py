"""Every wire names the bundle and the runtime that made an answer; a server of another runtime answers on none."""

from __future__ import annotations

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from export.bundle import load
from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc as pb_grpc
from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving.runtimes.onnx_runtime import OnnxRuntime
from tests.contract.picture_bundle import NAME, write_pixels
from tests.contract.server import served

ROW = [[[150, 7], [200, 30]]]
PREDICT, INFER = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"
TENSOR = {"name": "image", "shape": [1, 1, 2, 2], "datatype": "INT32"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_pixels(folder, tmp_path_factory.mktemp("scratch"))
    return folder


def asked_everywhere(address):
    """By each wire, its answer's HTTP status or gRPC code, and its body."""
    instances = httpx.post(address.http + PREDICT, json={"instances": [ROW]})
    infer = httpx.post(address.http + INFER, json={"inputs": [{**TENSOR, "data": [150, 7, 200, 30]}]})
    grid = pb.PredictRequest(model=NAME, grid=pb.GridTensor(shape=[1, 1, 2, 2], data=[150, 7, 200, 30]))
    tensor = oip.ModelInferRequest(
        model_name=NAME,
        inputs=[oip.ModelInferRequest.InferInputTensor(**TENSOR)],
        raw_input_contents=[np.array(ROW, np.int32).tobytes()],
    )
    with grpc.insecure_channel(address.grpc) as channel:
        calls = {
            "typed": (pb_grpc.CertificationServiceStub(channel).Predict, grid),
            "oip_grpc": (oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer, tensor),
        }
        found = {name: outcome(*call) for name, call in calls.items()}
    json = {"friendly": instances, "oip_http": infer}
    return {**found, **{name: (each.status_code, each.json()) for name, each in json.items()}}


def outcome(call, message):
    try:
        return grpc.StatusCode.OK, call(message)
    except grpc.RpcError as error:
        return error.code(), error.details()


def test_every_wire_names_the_bundle_and_the_runtime(repository):
    bundle = load(repository / NAME / "1")
    with served(repository) as address:
        found = {name: answer for name, (_, answer) in asked_everywhere(address).items()}
    named = {
        "friendly": tuple(found["friendly"]["predictions"][0]["model"][name] for name in ("digest", "runtime")),
        "typed": (found["typed"].model.digest, found["typed"].model.runtime),
        "oip_http": parameters(found["oip_http"]["parameters"]),
        "oip_grpc": parameters({name: each.string_param for name, each in found["oip_grpc"].parameters.items()}),
    }
    assert named == dict.fromkeys(named, (bundle.digest, OnnxRuntime(bundle).description))


def parameters(found):
    return found["certserve.model_digest"], found["certserve.model_runtime"]


def test_a_server_of_another_runtime_than_its_deployments_stays_unready_and_says_what_differs(repository):
    """It lives, so that its health can be read, and answers nothing, not even a plain prediction."""
    own = OnnxRuntime(load(repository / NAME / "1")).description
    with served(repository, runtime=own + " of_tomorrow") as address:
        health = httpx.get(address.http + "/v2/health/ready")
        assert (health.status_code, health.json()["ready"]) == (503, False)
        assert "lacks of_tomorrow" in health.json()["error"]
        assert httpx.get(address.http + "/v2/health/live").status_code == 200
        with grpc.insecure_channel(address.grpc) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert check.status == health_pb2.HealthCheckResponse.NOT_SERVING
        for code, said in asked_everywhere(address).values():
            assert code in (503, grpc.StatusCode.UNAVAILABLE)
            assert "lacks of_tomorrow" in str(said)
    with served(repository, runtime=own) as address:
        assert httpx.get(address.http + "/v2/health/ready").status_code == 200
        assert {code for code, _ in asked_everywhere(address).values()} == {200, grpc.StatusCode.OK}
