"""The bundled model on Ray Serve and in one process: real pictures, both wires, equal answers, wrong inputs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
import zlib
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc
from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving import client
from serving.wires.open_inference.tensors import RECEIPT, TENSORS
from serving.wires.typed import certserve_document
from tests.e2e.conftest import BODY_LIMIT
from tests.e2e.pictures import clothes, digits, png, uniform_noise

pytestmark = pytest.mark.e2e
MODEL = "fashion-mnist"


@pytest.fixture
def ray(shared):
    return shared.running("one")


@pytest.fixture
def local(shared):
    return shared.running("local")


@pytest.fixture(params=["ray", "local"])
def home(request):
    return request.getfixturevalue(request.param)


def over_http(address, picture, **options):
    return client.predict_http(address.http, MODEL, png(picture), "image/png", options)["predictions"][0]


def over_grpc(address, picture, **options):
    return client.predict_grpc(address.grpc, MODEL, png(picture), "image/png", options)["predictions"][0]


def test_twenty_pictures_have_every_field_and_most_are_certified(home, tmp_path):
    pictures = clothes(20)
    answers = [over_http(home, picture) for picture in pictures]
    for answer in answers:
        assert set(answer) >= {
            "label",
            "class_index",
            "probabilities",
            "certificate",
            "ood",
            "mixture",
            "alpha",
            "draws",
        }
        assert set(answer["certificate"]) >= {"status", "label", "radius", "norm", "sigma", "p_a_lower", "p_b_upper"}
        assert set(answer["ood"]) == {"score", "p_value", "in_distribution", "threshold", "certified"}
        assert set(answer["mixture"]) == {"label", "probabilities", "robust_weight", "radius", "reaches_others"}
        assert answer["model"]["digest"].startswith("sha256:")
    certified = [answer["certificate"]["status"] == "certified" for answer in answers]
    print(f"\n{sum(certified)} of {len(certified)} pictures certified at the default target")
    assert sum(certified) > 10
    np.save(tmp_path / "pixels.npy", pictures[:, None])
    command = [sys.executable, Path(__file__).with_name("triton_radii.py"), home.grpc, tmp_path / "pixels.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == str([answer["certificate"]["radius"] for answer in answers])


@pytest.mark.parametrize(
    "options", [{"certify": "target"}, {"certify": "fixed", "draws": 1_000}], ids=["target", "fixed"]
)
def test_asked_twice_answered_alike(ray, local, options):
    picture = clothes(3)[2]
    asks = [over_http, over_grpc]
    answers = [ask(home, picture, **options) for home in (ray, local) for ask in asks for _ in range(2)]
    for home in (ray, local):
        answers += asyncio.run(in_a_crowd(home, picture, options))
    assert len(answers) == 12
    assert answers == [answers[0]] * 12


async def in_a_crowd(home, picture, options):
    """The picture twice among 30 others, all at once."""
    async with httpx.AsyncClient(timeout=120) as crowd:

        async def ask(each, **query):
            url = f"{home.http}/v1/models/{MODEL}:predict"
            answer = await crowd.post(url, params=query, content=png(each), headers={"Content-Type": "image/png"})
            assert answer.status_code == 200, answer.text
            return answer.json()["predictions"][0]

        patient = options | {"deadline_ms": 60_000}  # a crowd alone would shorten it on a slow machine
        # Each draws as long as the picture may in batches beside it, and no longer.
        asked = [ask(each, deadline_ms=60_000, max_draws=1_000) for each in clothes(40)[10:]]
        return (await asyncio.gather(ask(picture, **patient), *asked, ask(picture, **patient)))[:: len(asked) + 1]


@pytest.mark.parametrize("options", [{"certify": "best", "max_draws": 320}, {"max_draws": 96, "target_radius": 0.9}])
def test_equal_draws_give_equal_certificates(ray, local, options):
    picture = clothes(5)[4]
    answers = [ask(home, picture, **options) for home in (ray, local) for ask in (over_http, over_grpc)]
    assert len({str((answer["draws"], answer["certificate"])) for answer in answers}) == 1


TYPES = {"UINT8": "<u1", "INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}
MODES = [{"certify": "off"}, {"certify": "target", "target_radius": 0.5}, {"certify": "best"}, {"certify": "fixed"}, {}]
WRONG = [
    ("model", "nope"),
    ("version", "9"),
    ("version", "new"),
    ("shape", lambda shape: [*shape[:-1], 27]),
    ("shape", lambda shape: shape[1:]),
    ("shape", lambda shape: [-1, *shape[1:]]),
    ("datatype", "INT8"),
    ("datatype", "BF16"),
    ("datatype", "INT322"),
    ("name", "picture"),
    ("outputs", ["probabilities", "colour"]),
    ("outputs", ["label", "label"]),
    ("certserve.colour", 1),
    ("certserve.certify", "maybe"),
    ("certserve.target_radius", -1.0),
    ("certserve.max_draws", 10**9),
    ("certserve.alpha", 0.9),
    ("triton_own", 1),
    ("sequence_start", "x"),
    ("priority", -1),
]
STATUS = {grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.NOT_FOUND: 404}
UNEQUAL = (RECEIPT, "scores", "granted_draws")
"""A receipt names its signer; the model has no scores; what is granted is the load's to say."""


def calls():
    """Requests of every datatype and mode with some outputs each, seeded, and each way to be wrong once."""
    # The model declares no confidence: with as many names more that it refuses, few calls would be answered.
    some = [each for each in TENSORS if each not in UNEQUAL and not each.startswith("confidence_")]
    chance, names = np.random.default_rng(17), some
    pixels = clothes(44)
    for number in range(40):
        rows, datatype = int(chance.integers(1, 3)), list(TYPES)[number % len(TYPES)]
        scale = 255 if datatype.startswith("FP") else 1
        mode = MODES[int(chance.integers(len(MODES)))]
        draws = {"draws": 1_000} if mode.get("certify") == "fixed" else {"max_draws": 96}
        options = mode | (draws if mode.get("certify", "off") != "off" else {}) | {"deadline_ms": 60_000}
        call = {
            "model": MODEL,
            "version": "",
            "name": "image",
            "datatype": datatype,
            "shape": [rows, 1, 28, 28],
            "data": (pixels[number : number + rows] / scale).astype(TYPES[datatype]).tobytes(),
            "outputs": [str(each) for each in chance.choice(names, size=4, replace=False)],
        } | {f"certserve.{name}": value for name, value in options.items()}
        if number % 2:
            field, value = WRONG[number // 2]
            call[field] = value(call[field]) if callable(value) else value
        yield call


def parameters_of(call):
    return {
        name: value
        for name, value in call.items()
        if "." in name or name in ("triton_own", "sequence_start", "priority")
    }


def tensors_over_http(home, session, call):
    """The bytes of every output by its name, or why there are none."""
    tensor = {each: call[each] for each in ("name", "datatype", "shape")}
    document = {
        "inputs": [tensor | {"parameters": {"binary_data_size": len(call["data"])}}],
        "outputs": [{"name": name} for name in call["outputs"]],
        "parameters": parameters_of(call) | {"binary_data_output": True},
    }
    head, version = json.dumps(document).encode(), f"/versions/{call['version']}" if call["version"] else ""
    answer = session.post(
        f"{home.http}/v2/models/{call['model']}{version}/infer",
        content=head + call["data"],
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    if answer.status_code != 200:
        return answer.status_code, answer.json()["error"]
    size = int(answer.headers["Inference-Header-Content-Length"])
    found, at = {}, size
    for each in json.loads(answer.content[:size])["outputs"]:
        found[each["name"]] = answer.content[at : at + each["parameters"]["binary_data_size"]]
        at += len(found[each["name"]])
    return found


def tensors_over_grpc(channel, call):
    """The same by the other wire."""
    fields = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    request = oip.ModelInferRequest(
        model_name=call["model"],
        model_version=call["version"],
        inputs=[{each: call[each] for each in ("name", "datatype", "shape")}],
        outputs=[{"name": name} for name in call["outputs"]],
        parameters={name: oip.InferParameter(**{fields[type(v)]: v}) for name, v in parameters_of(call).items()},
        raw_input_contents=[call["data"]],
    )
    try:
        answer = oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=120)
    except grpc.RpcError as error:
        return STATUS[error.code()], error.details()
    return dict(zip((each.name for each in answer.outputs), answer.raw_output_contents, strict=True))


def test_both_wires_and_both_homes_give_the_same_bytes_or_the_same_reason(ray, local):
    refused, homes = 0, (ray, local)
    with contextlib.ExitStack() as opened:
        session = opened.enter_context(httpx.Client(timeout=120))
        channels = [opened.enter_context(grpc.insecure_channel(home.grpc)) for home in homes]
        for call in calls():
            answers = [tensors_over_http(home, session, call) for home in homes]
            answers += [tensors_over_grpc(channel, call) for channel in channels]
            about = {name: value for name, value in call.items() if name != "data"}
            assert answers == [answers[0]] * 4, about
            refused += isinstance(answers[0], tuple)
    assert len(WRONG) <= refused <= 35


@pytest.mark.parametrize(("name", "pictures"), [("digits", digits), ("uniform noise", lambda: uniform_noise(200))])
def test_what_is_no_clothing_is_flagged(local, name, pictures):
    with httpx.Client(timeout=120) as session:
        body = {"instances": pictures()[:, None].tolist()}
        answer = session.post(f"{local.http}/v1/models/{MODEL}:predict", params={"certify": "off"}, json=body)
    rows = answer.json()["predictions"]
    flagged = [not row["ood"]["in_distribution"] for row in rows]
    print(f"\n{sum(flagged)} of {len(flagged)} pictures of {name} flagged out of distribution")
    assert np.mean(flagged) >= 0.9


def _huge_png() -> bytes:
    """A valid PNG of 20,000 x 20,000 grey pixels, 400 million bytes when decoded, from few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (20_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    packer, rows, piece = zlib.compressobj(), b"", bytes(20_001 * 100)
    for _ in range(200):
        rows += packer.compress(piece)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows + packer.flush()) + chunk(b"IEND", b"")


GOOD = png(clothes(1)[0])
PREDICT, INFER = f"/v1/models/{MODEL}:predict", f"/v2/models/{MODEL}/infer"
NAN = b'{"inputs":[{"name":"image","shape":[1,1,28,28],"datatype":"FP32","data":[NaN]}]}'
BAD = [
    ("a truncated PNG", PREDICT, GOOD[:-20], "image/png", 400, "truncated|cut short|incomplete|damaged"),
    ("a huge PNG", PREDICT, _huge_png, "image/png", 400, "28"),
    ("another size", PREDICT, png(np.zeros((29, 28), np.uint8)), "image/png", 400, "28"),
    ("another mode", PREDICT, png(np.zeros((28, 28, 3), np.uint8)), "image/png", 400, "grey|greyscale|gray"),
    ("the wrong shape", PREDICT, b'{"instances":[[1,2,3]]}', "application/json", 400, "shape|28"),
    ("NaN", INFER, NAN, "application/json", 400, "NaN|number"),
    ("an unknown model", "/v1/models/nope:predict", GOOD, "image/png", 404, "unknown model: 'nope'"),
    ("an unknown parameter", PREDICT + "?colour=red", GOOD, "image/png", 400, "colour"),
    ("a negative radius", PREDICT + "?target_radius=-1", GOOD, "image/png", 400, "target_radius: expected 0 to"),
    ("an empty body", PREDICT, b"", "image/png", 400, "empty"),
    ("a body over the limit", PREDICT, b"x" * (BODY_LIMIT + 1), "image/png", 413, str(BODY_LIMIT)),
    ("no picture", PREDICT, b"hello", "image/png", 400, "PNG"),
    ("a receipt of nothing", PREDICT + "?receipt=true&outputs=", GOOD, "image/png", 400, "nothing is drawn"),
    ("another type", PREDICT, GOOD, "text/plain", 415, "image/png"),
]


@pytest.mark.parametrize(("name", "path", "body", "kind", "status", "said"), BAD, ids=[each[0] for each in BAD])
def test_bad_input_is_refused_with_what_was_expected(ray, name, path, body, kind, status, said):
    body = body() if callable(body) else body
    with httpx.Client(timeout=30) as session:
        answer = session.post(ray.http + path, content=body, headers={"Content-Type": kind})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
        print(f"\n{name}: {answer.status_code} {answer.json()['error']}")
        import re

        assert re.search(said, answer.json()["error"], re.IGNORECASE)
        good = session.post(ray.http + PREDICT, content=GOOD, headers={"Content-Type": "image/png"})
        assert good.status_code == 200


def events_over_http(home, picture, **options):
    """Name and data of each server-sent event, as it comes."""
    url = f"{home.http}/v1/models/{MODEL}:stream"
    about = {"params": options, "content": png(picture), "headers": {"Content-Type": "image/png"}, "timeout": 120}
    with httpx.stream("POST", url, **about) as answer:
        lines = (line.split(": ", 1) for line in answer.iter_lines() if line and not line.startswith(":"))
        kind = ""
        for name, value in lines:
            kind = value if name == "event" else kind
            if name == "data":
                yield kind, json.loads(value)


def events_over_grpc(home, picture, **options):
    """The same of the typed service's messages; whoever closes it cancels the call."""
    chosen = pb.Options(certify=pb.CERTIFY_MODE_BEST, max_draws=options["max_draws"], deadline=Duration(seconds=60))
    request = pb.PredictRequest(
        model=MODEL, image=pb.Image(content=png(picture), content_type="image/png"), options=chosen
    )
    with grpc.insecure_channel(home.grpc) as channel:
        call = certserve_pb2_grpc.CertificationServiceStub(channel).StreamCertificate(
            pb.StreamCertificateRequest(request=request)
        )
        for each in call:
            whole = pb.PredictResponse(predictions=[each.prediction], model=each.model)
            (row,) = certserve_document.document(whole)["predictions"]
            kind = pb.StreamCertificateResponse.Event.Name(each.event).removeprefix("EVENT_").lower()
            yield kind, {"row": each.row, "rows": each.rows, "prediction": row}


@pytest.mark.parametrize("watch", [events_over_http, events_over_grpc])
def test_a_stream_ends_with_the_unary_answer_and_whoever_leaves_it_takes_its_draws_away(home, watch):
    picture, best = clothes(6)[5], {"certify": "best", "deadline_ms": 60_000}
    alone = over_http(home, picture, max_draws=2_000, **best)
    found = list(watch(home, picture, max_draws=2_000, **best))
    assert [kind for kind, _ in found[:1] + found[-1:]] == ["base", "final"]
    assert found[-1][1] == {"row": 0, "rows": 1, "prediction": alone}
    leaving = watch(home, picture, max_draws=100_000, **best)
    assert [next(leaving)[0], next(leaving)[0]] == ["base", "certificate"]
    leaving.close()
    until = time.monotonic() + 20
    while counted(home, "certserve_draws_pending") and time.monotonic() < until:
        time.sleep(0.1)
    drawn = counted(home, "certserve_draws_total")
    time.sleep(0.5)
    assert counted(home, "certserve_draws_pending") == 0
    assert counted(home, "certserve_draws_total") == drawn


def counted(home, name):
    lines = httpx.get(home.metrics).text.splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} "))


def test_metrics_cover_gateway_and_engine(home):
    over_http(home, clothes(1)[0])
    text = httpx.get(home.metrics).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert float(values["certserve_draws_total"]) >= 32
    assert float(values["certserve_models_loaded"]) == 2
    assert any(name.startswith('certserve_requests_total{code="OK",protocol="http"}') for name in values)
    assert float(values["certserve_draws_pending"]) == 0
