"""Confidence, of a bundle that claims it, is said alike on every wire, live and at the end; its receipt proves it."""

from __future__ import annotations

import json

import grpc
import httpx
import numpy as np
import pytest

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc as pb_grpc
from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving import client
from serving.client.answers import Predicted
from serving.commands.audit import verified
from serving.security.signing import Signer
from serving.wires.typed import certserve_document
from tests.contract.picture_bundle import CONFIDENT, NAME
from tests.contract.server import SIGNING_KEY
from tests.half_space import LABELS

ROWS = [[[[first, 7], [200, 30]]] for first in (145, 127, 90, 200)]
TENSORS = ("confidence_label", "confidence_lower", "confidence_lower_at_input", "confidence_radius")
ARRAY = np.array(ROWS, dtype=np.int32)
TENSOR = {"name": "image", "shape": list(ARRAY.shape), "datatype": "INT32"}


def predicted(server, name=CONFIDENT, **options):
    response = httpx.post(f"{server.http}/v1/models/{name}:predict", json={"instances": ROWS, **options})
    return response.raise_for_status().json()["predictions"]


@pytest.mark.parametrize(
    "options",
    [{"certify": "best", "max_draws": 640}, {}, {"outputs": ["confidence"]}, {"certify": "off"}, {"certify": "fixed"}],
    ids=["best", "target", "confidence alone", "off", "fixed"],
)
def test_every_wire_says_the_same(server, options):
    rows = predicted(server, **options)
    body = json.dumps({"instances": ROWS, **options}).encode()
    assert client.predict_grpc(server.grpc, CONFIDENT, body, "application/json")["predictions"] == rows
    there = options.get("certify") not in ("off", "fixed")
    assert ["confidence" in row for row in rows] == [there] * 4
    share = None if options.get("certify") == "fixed" else 0.1
    assert [row["alpha_split"].get("confidence") for row in rows] == [share] * 4
    for row in rows if there else ():
        said = row["confidence"]
        assert list(said) == ["label", "lower", "lower_at_input", "radius", "reaches_others", "norm"]
        assert (said["label"] is None) == (said["lower"] is None) == (said["radius"] == 0)
        if certificate := row["certificate"]:
            assert all(said[name] == certificate[name] for name in ("label", "radius", "reaches_others", "norm"))
        assert said["lower"] is None or 0 <= said["lower"] <= said["lower_at_input"] < 1
        assert str(Predicted.of(row).confidence).startswith("nothing" if said["label"] is None else "at least 0.")
    if options.get("outputs"):
        assert [row["certificate"] for row in rows] == [None] * 4
        assert min(row["draws"] for row in rows) >= 32


def test_tensors_say_what_the_document_says(server):
    options = {"certify": "best", "max_draws": 640}
    said = [row["confidence"] for row in predicted(server, **options)]
    expected = {
        "confidence_label": [-1 if each["label"] is None else LABELS.index(each["label"]) for each in said],
        "confidence_lower": [each["lower"] or 0.0 for each in said],
        "confidence_lower_at_input": [each["lower_at_input"] or 0.0 for each in said],
        "confidence_radius": [each["radius"] for each in said],
    }
    assert {-1} < set(expected["confidence_label"])
    document = {
        "inputs": [{**TENSOR, "data": ARRAY.ravel().tolist()}],
        "parameters": options,
        "outputs": [{"name": name} for name in TENSORS],
    }
    found = httpx.post(f"{server.http}/v2/models/{CONFIDENT}/infer", json=document).raise_for_status().json()["outputs"]
    assert {each["name"]: each["data"] for each in found} == expected
    message = oip.ModelInferRequest(
        model_name=CONFIDENT,
        inputs=[oip.ModelInferRequest.InferInputTensor(**TENSOR)],
        raw_input_contents=[ARRAY.tobytes()],
        parameters={
            "certify": oip.InferParameter(string_param="best"),
            "max_draws": oip.InferParameter(int64_param=640),
        },
        outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in TENSORS],
    )
    with grpc.insecure_channel(server.grpc) as channel:
        raw = oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message).raw_output_contents
    assert np.frombuffer(raw[0], np.int64).tolist() == expected["confidence_label"]
    assert [np.frombuffer(each, np.float64).tolist() for each in raw[1:]] == [*expected.values()][1:]


def test_live_events_say_it_and_the_last_is_the_answer(server):
    options = {"certify": "best", "max_draws": 6_400}
    rows = predicted(server, **options)
    request = pb.PredictRequest(
        model=CONFIDENT,
        grid=pb.GridTensor(shape=ARRAY.shape, data=ARRAY.ravel().tolist()),
        options=pb.Options(certify=pb.CERTIFY_MODE_BEST, max_draws=6_400),
    )
    with grpc.insecure_channel(server.grpc) as channel:
        stub = pb_grpc.CertificationServiceStub(channel)
        events = list(stub.StreamCertificate(pb.StreamCertificateRequest(request=request)))
    assert not any(each.prediction.HasField("confidence") for each in events if each.event == each.EVENT_BASE)
    assert all(each.prediction.HasField("confidence") for each in events if each.event != each.EVENT_BASE)
    last = {each.row: each for each in events if each.event == each.EVENT_FINAL}
    for number, row in enumerate(rows):
        said = pb.PredictResponse(predictions=[last[number].prediction], model=last[number].model)
        assert certserve_document.document(said)["predictions"] == [row]


def test_a_receipt_proves_it(server):
    for row in predicted(server, receipt=True, certify="best", max_draws=640):
        findings = list(verified(json.dumps(row["receipt"]).encode(), Signer(SIGNING_KEY).public))
        assert all(each.agrees for each in findings)
        claim = row["receipt"]["receipt"]["claims"]["confidence"]
        lower = claim["lower"] and float.fromhex(claim["lower"])
        assert (lower, float.fromhex(claim["radius"])) == (row["confidence"]["lower"], row["confidence"]["radius"])
        assert "claims.confidence.lower" in [each.field for each in findings]


def test_a_model_that_does_not_claim_it_says_nothing_of_it(server):
    (row,) = httpx.post(f"{server.http}/v1/models/{NAME}:predict", json={"instances": ROWS[:1]}).json()["predictions"]
    assert "confidence" not in row
    assert "confidence" not in row["alpha_split"]
    alone = predicted(server, NAME, outputs=["confidence"])
    assert {row["draws"] for row in alone} == {0}
    document = {"inputs": [{**TENSOR, "data": ARRAY.ravel().tolist()}], "outputs": [{"name": "confidence_lower"}]}
    refused = httpx.post(f"{server.http}/v2/models/{NAME}/infer", json=document)
    assert (refused.status_code, "unknown output 'confidence_lower'" in refused.json()["error"]) == (400, True)
