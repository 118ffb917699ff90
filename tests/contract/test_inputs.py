"""What every kind of file has to be on every way in: one suite, on pictures and on sound."""

from __future__ import annotations

import base64
import io
import wave
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
from PIL import Image

from export.bundle import InputSpec
from protos.certserve.v1 import certserve_pb2 as pb
from protos.inference import open_inference_pb2 as oip
from serving.commands import audit
from serving.config import Limits
from serving.errors import InvalidInput, UnsupportedMedia
from serving.gateway.resolve import resolve
from serving.inputs import image, registry
from serving.inputs import sound as sound_reader
from serving.messages import Options, PredictRequest
from serving.wires.http.server import build_app
from serving.wires.open_inference import oip_proto
from serving.wires.typed import certserve_proto
from tests.declared import sound_spec, spec
from tests.serving.wires.fake_gateway import FakeGateway, model

RNG = np.random.default_rng(5)


@dataclass
class Kind:
    """A kind of file, a model that takes it, and files with what they hold."""

    reader: object
    content_type: str
    spec: InputSpec
    files: list
    wrong: dict


def picture(values):
    file = io.BytesIO()
    Image.fromarray(values[0].astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def sound(values, width=2, rate=16_000, channels=1):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes((values - 2**15).astype("<i2").tobytes())
    return file.getvalue()


PIXELS, SAMPLES = RNG.integers(0, 256, (2, 1, 6, 9)), RNG.integers(0, 2**16, (2, 40))
KINDS = {
    "picture": Kind(
        image,
        "image/png",
        spec((1, 6, 9), "CHW", name="input"),
        [(picture(values), values) for values in PIXELS],
        {"another size": picture(PIXELS[0][:, :5]), "cut off": picture(PIXELS[0])[:-30], "nothing": b""},
    ),
    "waveform": Kind(
        sound_reader,
        "audio/wav",
        sound_spec((40,), 16_000, name="input"),
        [(sound(values), values) for values in SAMPLES],
        {
            "another size": sound(SAMPLES[0][:30]),
            "cut off": sound(SAMPLES[0])[:-30],
            "of 8 bits": sound(SAMPLES[0], 1),
            "at another rate": sound(SAMPLES[0], rate=8_000),
            "of two channels": sound(SAMPLES[0], channels=2),
            "nothing but a head": sound(SAMPLES[0])[:44],
        },
    ),
}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(registry, "READERS", dict(registry.READERS))
    for kind in KINDS.values():
        registry.register(kind.reader)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def served(kind):
    return model(input=kind.spec)


def over_http(path, **sent):
    """The way of a friendly or an open request: what reaches the gateway, or the refusal."""

    async def ask(kind, files):
        gateway = FakeGateway(served(kind))
        transport = httpx.ASGITransport(build_app(gateway))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            answer = await client.post(path, **{name: make(kind, files) for name, make in sent.items()})
        if answer.status_code == 200:
            return gateway.asked[0].inputs
        raise {400: InvalidInput, 415: UnsupportedMedia}[answer.status_code](answer.json()["error"])

    return ask


async def typed(kind, files):
    message = pb.PredictRequest(image=pb.Image(content=files[0], content_type=kind.content_type))
    return certserve_proto.decode(message, served(kind)).inputs


async def open_grpc(kind, files):
    tensor = oip.ModelInferRequest.InferInputTensor(name="input", datatype="BYTES", shape=[len(files)])
    tensor.contents.bytes_contents.extend(files)
    return oip_proto.decode(oip.ModelInferRequest(inputs=[tensor]), served(kind), Limits(), None).request.inputs


async def replayed(kind, files):
    return audit._lattice(files[0], kind.spec)[None]


def in_base64(kind, files):
    data = [base64.b64encode(each).decode() for each in files]
    parameters = {"content_type": "base64"}
    shape = [len(files)]
    return {"inputs": [{"name": "input", "datatype": "BYTES", "shape": shape, "data": data, "parameters": parameters}]}


PREDICT = "/v1/models/pictures:predict"
ONE = {
    "body": over_http(
        PREDICT, content=lambda kind, files: files[0], headers=lambda kind, _: {"Content-Type": kind.content_type}
    ),
    "form": over_http(PREDICT, files=lambda kind, files: {"file": ("any", files[0], kind.content_type)}),
    "form of unsaid kind": over_http(PREDICT, files=lambda kind, files: {"file": ("any", files[0], "text/plain")}),
    "typed": typed,
    "replay": replayed,
}
MANY = {
    "instances": over_http(
        PREDICT,
        json=lambda kind, files: {"instances": [{"any": {"b64": base64.b64encode(each).decode()}} for each in files]},
    ),
    "open over HTTP": over_http("/v2/models/pictures/infer", json=in_base64),
    "open over gRPC": open_grpc,
}


@pytest.mark.parametrize("way", ONE | MANY)
async def test_a_file_is_the_same_integers_on_every_way(kind, way):
    some = kind.files if way in MANY else kind.files[:1]
    found = await (ONE | MANY)[way](kind, [data for data, _ in some])
    assert found.dtype == np.int32
    assert np.array_equal(found, [values for _, values in some])


@pytest.mark.parametrize("way", ONE | MANY)
async def test_what_is_no_such_file_is_refused_on_every_way_and_its_row_named(kind, way):
    other = next(each for each in KINDS.values() if each is not kind)
    for what, data in (kind.wrong | {"of another kind": other.files[0][0], "of no kind": b"GIF89a"}).items():
        rows = [kind.files[0][0], data] if way in MANY else [data]
        with pytest.raises(InvalidInput) as refused:
            await (ONE | MANY)[way](kind, rows)
        named = {"instances": "instances[1]"}.get(way, "row 1") if way in MANY else ""
        assert refused.value.message.startswith(named), what


async def test_a_content_type_that_nobody_reads_is_unsupported_and_says_what_is_read(kind):
    files = [kind.files[0][0]]
    unread = Kind(None, "image/gif", kind.spec, [], {})
    for way in ("body", "typed"):
        with pytest.raises(UnsupportedMedia, match=f"image/gif.*{kind.content_type}"):
            await ONE[way](unread, files)


def test_a_file_becomes_a_task_of_integers_on_the_grid_and_nothing_was_done_to_it(kind):
    rows = registry.rows([("a", data) for data, _ in kind.files], kind.spec)
    request = PredictRequest(model="pictures", version=None, inputs=rows, options=Options())
    task, notes = resolve(request, served(kind), Limits(), b"s" * 32)
    assert notes == [None, None]
    for row, (_, values) in zip(task.rows, kind.files, strict=True):
        assert row.dtype == np.int32
        assert np.array_equal(row, values)


def test_numbers_in_the_callers_units_are_the_same_task_and_say_how_far_they_were_moved(kind):
    values = np.stack([values for _, values in kind.files])
    moved = (kind.spec.low + values).astype(np.float64)
    moved[1] += 0.25
    request = PredictRequest(model="pictures", version=None, inputs=moved, options=Options(snap=True))
    task, (first, second) = resolve(request, served(kind), Limits(), b"s" * 32)
    assert all(np.array_equal(row, value) for row, value in zip(task.rows, values, strict=True))
    assert first is None
    assert (second.snapped, second.snap_distance) == (True, pytest.approx(0.25 * np.sqrt(values[1].size)))
