"""One request down every wire: the same answer, number for number."""

from __future__ import annotations

import base64
import io
import json

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc as pb_grpc
from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving import client, errors
from serving.commands.audit import verified
from serving.security.signing import Signer
from serving.wires.open_inference import datatypes
from serving.wires.open_inference.tensors import ALARM, RECEIPT, TENSORS
from tests.contract.picture_bundle import NAME
from tests.contract.server import SIGNING_KEY
from tests.half_space import LABELS

ROWS = [[[[first, 7], [200, 30]]] for first in (150, 128, 90)]
PREDICT, INFER = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"
ASKED = [
    {},
    {"target_radius": 20.0},
    {"certify": "target", "target_radius": 0.5, "max_draws": 320, "alpha": 0.05},
    {"certify": "best", "max_draws": 640},
    {"certify": "precision", "radius_tolerance": 20.0, "max_draws": 960},
    {"certify": "precision", "radius_tolerance": 1e-3, "max_draws": 320},
    {"certify": "fixed", "draws": 1000},
    {"certify": "off"},
    {"certify": "target", "receipt": True},
    {"certify": "precision", "radius_tolerance": 20, "receipt": True},
    {"certify": "off", "receipt": True},
]


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


def png(row):
    file = io.BytesIO()
    Image.fromarray(np.array(row[0], dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def friendly(server, row, options):
    return client.predict_http(server.http, NAME, png(row), "image/png", options)["predictions"][0]


def instances(server, rows, options, kind="grid"):
    response = httpx.post(server.http + PREDICT, json={"instances": rows, "input": kind, **options})
    return response.raise_for_status().json()["predictions"]


def tensors_of(row):
    """What the tensors have to say where a document says this."""
    largest = float(np.finfo(np.float64).max)
    certificate, ood, mixture = row["certificate"] or {}, row["ood"] or {}, row["mixture"] or {}
    certified = ood.get("certified") or {}

    def number(value, absent):
        return absent if value is None else value

    def index(label):
        return -1 if label is None else LABELS.index(label)

    return {
        "probabilities": row["probabilities"],
        "label": row["class_index"],
        "certificate_label": index(certificate.get("label")),
        "certificate_radius": number(certificate.get("radius"), 0.0),
        "certificate_status": certificate.get("status", "undecided"),
        "p_a_lower": number(certificate.get("p_a_lower"), 0.0),
        "p_b_upper": number(certificate.get("p_b_upper"), 1.0),
        "draws": row["draws"],
        "granted_draws": row.get("granted_draws", 0),
        "ood_score": number(ood.get("score"), largest),
        "ood_p_value": number(ood.get("p_value"), 0.0),
        "ood_in_distribution": ood.get("in_distribution", False),
        "ood_verdict": certified.get("verdict", "undetermined"),
        "ood_certified_lower": number(certified.get("score_lower"), -largest),
        "ood_certified_upper": number(certified.get("score_upper"), largest),
        "ood_certified_radius": number(certified.get("radius"), 0.0),
        "mixture_label": index(mixture.get("label")),
        "mixture_radius": number(mixture.get("radius"), 0.0),
        "mixture_probabilities": np.array(mixture.get("probabilities", [0, 0]), dtype=np.float32).tolist(),
        "receipt": json.dumps(row.get("receipt", ""), sort_keys=True, separators=(",", ":")),
    }


def oip_json(server, tensor, options, head=b"", **parameters):
    document = {
        "inputs": [{"name": "image", **tensor}],
        "parameters": {f"certserve.{name}": value for name, value in options.items()} | parameters,
        "outputs": [{"name": name} for name in wanted(options)],
    }
    text = json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))} if head else {}
    return httpx.post(server.http + INFER, content=text + head, headers=headers).raise_for_status()


def wanted(options):
    """All tensors; without `certify`, those that need a certificate cannot be asked for; the receipt only if it was."""
    needs = ("certificate", "p_", "mixture")
    # The model has probabilities, and declares neither a joint label, nor confidence, nor an alarm.
    further = ("joint", "confidence")
    own = [name for name in TENSORS if name not in ("scores", ALARM) and not name.startswith(further)]
    offered = [name for name in own if options.get("certify") != "off" or not name.startswith(needs)]
    return [name for name in offered if name != RECEIPT or options.get("receipt")]


def parsed(outputs):
    return {each["name"]: np.array(each["data"]).reshape(each["shape"]).tolist() for each in outputs}


@pytest.mark.parametrize("options", ASKED)
def test_pictures_and_rows_give_one_document(server, options):
    by_json = instances(server, ROWS, options)
    for row, document in zip(ROWS, by_json, strict=True):
        assert friendly(server, row, options) == document
        assert client.predict_grpc(server.grpc, NAME, png(row), "image/png", options)["predictions"] == [document]
    body = json.dumps({"instances": ROWS}).encode()
    assert client.predict_grpc(server.grpc, NAME, body, "application/json", options)["predictions"] == by_json
    values = instances(server, np.array(ROWS, dtype=float).tolist(), options, "values")
    assert values == by_json


@pytest.mark.parametrize("options", ASKED)
def test_tensors_say_what_the_document_says(server, channel, options):
    rows = [tensors_of(row) for row in instances(server, ROWS, options)]
    expected = {name: [row[name] for row in rows] for name in wanted(options)}
    array = np.array(ROWS, dtype=np.int32)
    shape = {"shape": list(array.shape), "datatype": "INT32"}
    as_json = oip_json(server, {**shape, "data": array.ravel().tolist()}, options)
    assert parsed(as_json.json()["outputs"]) == expected

    sized = {**shape, "parameters": {"binary_data_size": array.nbytes}}
    raw = oip_json(server, sized, options, array.tobytes(), binary_data_output=True)
    length = int(raw.headers["Inference-Header-Content-Length"])

    message = oip.ModelInferRequest(
        model_name=NAME,
        inputs=[oip.ModelInferRequest.InferInputTensor(name="image", **shape)],
        raw_input_contents=[array.tobytes()],
        parameters={f"certserve.{name}": parameter(value) for name, value in options.items()},
        outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in wanted(options)],
    )
    by_grpc = oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message)
    assert b"".join(by_grpc.raw_output_contents) == raw.content[length:]
    head = json.loads(raw.content[:length])
    assert [each.name for each in by_grpc.outputs] == [each["name"] for each in head["outputs"]] == list(expected)
    probabilities = np.frombuffer(by_grpc.raw_output_contents[0], datatypes.NUMPY["FP32"]).reshape(-1, 2)
    assert probabilities.tolist() == expected["probabilities"]


def parameter(value):
    kinds = {str: "string_param", int: "int64_param", float: "double_param", bool: "bool_param"}
    return oip.InferParameter(**{kinds[type(value)]: value})


def test_a_receipt_comes_where_it_is_asked_for_and_claims_what_the_answer_does(server):
    plain, row = (instances(server, ROWS[:1], {"receipt": asked})[0] for asked in (False, True))
    assert "receipt" not in plain
    assert {name: value for name, value in row.items() if name != "receipt"} == plain
    findings = list(verified(json.dumps(row["receipt"]).encode(), Signer(SIGNING_KEY).public))
    assert all(each.agrees for each in findings)
    claims = row["receipt"]["receipt"]["claims"]
    assert float.fromhex(claims["certificate"]["radius"]) == row["certificate"]["radius"]
    assert float.fromhex(claims["mixture"]["radius"]) == row["mixture"]["radius"]
    assert float.fromhex(claims["ood"]["score_upper"]) == row["ood"]["certified"]["score_upper"]


def test_files_in_tensors_are_the_same_pictures(server):
    files = [base64.b64encode(png(row)).decode() for row in ROWS]
    tensor = {"datatype": "BYTES", "shape": [3], "data": files, "parameters": {"content_type": "base64"}}
    options = {"certify": "target"}
    expected = [tensors_of(row) for row in instances(server, ROWS, options)]
    found = parsed(oip_json(server, tensor, options).json()["outputs"])
    assert found["certificate_radius"] == [row["certificate_radius"] for row in expected]


def test_a_snapped_input_is_said_on_both_wires(server):
    rows = [[[[150.25, 7.0], [200.0, 30.0]]]]
    by_json = instances(server, rows, {"snap": True}, "values")
    body = json.dumps({"instances": rows, "input": "values", "snap": True}).encode()
    assert by_json[0]["input"] == {"snapped": True, "snap_distance": 0.25}
    assert client.predict_grpc(server.grpc, NAME, body, "application/json")["predictions"] == by_json
    assert client.predict_http(server.http, NAME, body, "application/json")["predictions"] == by_json


@pytest.mark.parametrize(("off", "options"), [(0.25, {"snap": True}), (2**-11, {}), (-(2**-40), {"snap": True})])
def test_how_far_a_row_was_moved_is_said_on_every_wire(server, channel, off, options):
    rows = np.array([[[[150.0 + off, 7.0], [200.0, 30.0]]], ROWS[0]])
    body = json.dumps({"instances": rows.tolist(), "input": "values", **options}).encode()
    by_json = client.predict_http(server.http, NAME, body, "application/json")["predictions"]
    assert by_json[0]["input"] == {"snapped": abs(off) > 1e-3, "snap_distance": abs(off)}
    assert "input" not in by_json[1]
    assert client.predict_grpc(server.grpc, NAME, body, "application/json")["predictions"] == by_json
    tensor = {"datatype": "FP64", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    answered = oip_json(server, tensor, options | {"certify": "target"}).json()
    assert json.loads(answered["parameters"]["certserve.snap_distances"]) == [abs(off), 0.0]
    message = oip.ModelInferRequest(
        model_name=NAME,
        inputs=[oip.ModelInferRequest.InferInputTensor(name="image", shape=list(rows.shape), datatype="FP64")],
        raw_input_contents=[rows.tobytes()],
        parameters={f"certserve.{name}": parameter(value) for name, value in options.items()},
    )
    by_grpc = oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message)
    assert json.loads(by_grpc.parameters["certserve.snap_distances"].string_param) == [abs(off), 0.0]
    assert float(by_grpc.parameters["certserve.step"].string_param) == 1.0


def test_parts_can_be_left_out_on_both_wires(server):
    for outputs in (["ood"], ["certificate", "probabilities"], ["mixture"]):
        document = friendly(server, ROWS[0], {"outputs": outputs})
        by_grpc = client.predict_grpc(server.grpc, NAME, png(ROWS[0]), "image/png", {"outputs": outputs})
        assert by_grpc["predictions"] == [document]
        absent = {"probabilities", "certificate", "ood", "mixture"} - set(outputs)
        assert all(document[name] is None for name in absent)


@pytest.mark.parametrize(
    ("model", "body", "content_type", "options", "kind", "said"),
    [
        ("nope", png(ROWS[0]), "image/png", {}, errors.NotFound, "unknown model: 'nope'"),
        (NAME, png(ROWS[0])[:40], "image/png", {}, errors.InvalidInput, "image/png file"),
        (NAME, b"", "image/png", {}, errors.InvalidInput, "the body is empty"),
        (NAME, png(ROWS[0]), "image/tiff", {}, errors.UnsupportedMedia, "image/tiff"),
        (NAME, png(ROWS[0]), "image/png", {"target_radius": -1}, errors.InvalidInput, "target_radius: expected 0 to"),
        (NAME, png(ROWS[0]), "image/png", {"certify": "precision"}, errors.InvalidInput, "precision needs it"),
        (NAME, png(ROWS[0]), "image/png", {"radius_tolerance": 1.0}, errors.InvalidInput, "only certify=precision"),
        (
            NAME,
            png(ROWS[0]),
            "image/png",
            {"certify": "precision", "radius_tolerance": -1},
            errors.InvalidInput,
            "radius_tolerance: expected a number above 0",
        ),
        (NAME, png(ROWS[0]), "image/png", {"alpha": 2}, errors.InvalidInput, "alpha: expected"),
        (NAME, png(ROWS[0]), "image/png", {"certify": "fixed", "draws": 5}, errors.InvalidInput, "draws: expected one"),
        (
            NAME,
            png(ROWS[0]),
            "image/png",
            {"receipt": True, "outputs": ["probabilities"]},
            errors.InvalidInput,
            "nothing is drawn",
        ),
        (NAME, png(ROWS[0]), "image/png", {"max_draws": 10**9}, errors.InvalidInput, "max_draws: expected 1 to"),
        (
            NAME,
            b'{"instances": [[[[256, 0], [0, 0]]]]}',
            "application/json",
            {},
            errors.InvalidInput,
            "row 0: grid int",
        ),
        (
            NAME,
            b'{"instances": [[[[0.5, 0], [0, 0]]]], "input": "values"}',
            "application/json",
            {},
            errors.InvalidInput,
            "grid",
        ),
    ],
)
def test_both_wires_refuse_alike(server, model, body, content_type, options, kind, said):
    with pytest.raises(kind, match=said) as http:
        client.predict_http(server.http, model, body, content_type, options)
    with pytest.raises(kind, match=said) as by_grpc:
        client.predict_grpc(server.grpc, model, body, content_type, options)
    # Only HTTP has a header to name where the type is wrong.
    assert http.value.message == by_grpc.value.message or kind is errors.UnsupportedMedia
    assert friendly(server, ROWS[0], {"certify": "off"})["label"] == "above"


def test_values_that_are_not_finite_are_refused_where_they_can_be_sent(server, channel):
    with pytest.raises(grpc.RpcError) as refused:
        pb_grpc.CertificationServiceStub(channel).Predict(
            pb.PredictRequest(model=NAME, values=pb.ValueTensor(shape=[1, 1, 2, 2], data=[float("nan"), 0, 0, 0]))
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "finite" in refused.value.details()
    array = np.array([np.inf, 0, 0, 0], dtype=np.float32)
    head = {"shape": [1, 1, 2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    body = json.dumps({"inputs": [{"name": "image", **head}]}).encode()
    response = httpx.post(
        server.http + INFER,
        content=body + array.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(body))},
    )
    assert response.status_code == 400
    assert "finite" in response.json()["error"]


def test_a_server_that_is_not_there_is_unavailable():
    with pytest.raises(errors.Unavailable, match="is the server up"):
        client.predict_http("http://127.0.0.1:9", NAME, b"x", "image/png")
    with pytest.raises(errors.Unavailable, match="is the server up"):
        client.predict_grpc("127.0.0.1:9", NAME, b"x", "image/png")


def _in_time(stub, request):
    """The reply to a call whose time does not suffice for all its draws. Where other programs run, the way back takes longer
    than is kept for it, and the draws, too: the call is then made with more time.
    """
    for seconds in (0.75, 1.5, 3.0):
        try:
            return stub.Predict(request, timeout=seconds)
        except grpc.RpcError as error:
            late = error
            assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    raise late


def test_a_call_that_runs_out_of_time_gets_what_was_proven(channel):
    options = pb.Options(certify=pb.CERTIFY_MODE_BEST, max_draws=100_000)
    request = pb.PredictRequest(
        model=NAME, grid=pb.GridTensor(shape=[8, 1, 2, 2], data=[140, 7, 200, 30] * 8), options=options
    )
    response = _in_time(pb_grpc.CertificationServiceStub(channel), request)
    assert len(response.predictions) == 8
    assert min(row.draws for row in response.predictions) < 100_000
    assert all(row.label == "above" and row.HasField("certificate") for row in response.predictions)
