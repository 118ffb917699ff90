"""The stubs are what the sources say, and the open protocol's numbers are those of the published one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from protos import generate
from protos.certserve.v1 import certserve_pb2
from protos.inference import open_inference_pb2 as oip

NUMBERS = {
    "ModelInferRequest": {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "inputs": 5,
        "outputs": 6,
        "raw_input_contents": 7,
    },
    "ModelInferRequest.InferInputTensor": {"name": 1, "datatype": 2, "shape": 3, "parameters": 4, "contents": 5},
    "ModelInferRequest.InferRequestedOutputTensor": {"name": 1, "parameters": 2},
    "ModelInferResponse": {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "outputs": 5,
        "raw_output_contents": 6,
    },
    "ModelInferResponse.InferOutputTensor": {"name": 1, "datatype": 2, "shape": 3, "parameters": 4, "contents": 5},
    "InferParameter": {
        "bool_param": 1,
        "int64_param": 2,
        "string_param": 3,
        "double_param": 4,
        "uint64_param": 5,
    },
    "InferTensorContents": {
        "bool_contents": 1,
        "int_contents": 2,
        "int64_contents": 3,
        "uint_contents": 4,
        "uint64_contents": 5,
        "fp32_contents": 6,
        "fp64_contents": 7,
        "bytes_contents": 8,
    },
    "ModelStreamInferResponse": {"error_message": 1, "infer_response": 2},
    "ModelMetadataResponse": {"name": 1, "versions": 2, "platform": 3, "inputs": 4, "outputs": 5},
    "RepositoryModelLoadRequest": {"repository_name": 1, "model_name": 2, "parameters": 3},
    "RepositoryModelUnloadRequest": {"repository_name": 1, "model_name": 2, "parameters": 3},
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_those_of_the_protocol(name):
    message = oip
    for part in name.split("."):
        message = getattr(message, part)
    assert {field.name: field.number for field in message.DESCRIPTOR.fields} == NUMBERS[name]


def test_kserves_load_request_names_the_model_where_we_look_for_it():
    # KServe's own message has model_name = 1.
    assert oip.RepositoryModelLoadRequest.FromString(b"\x0a\x01m").repository_name == "m"


def test_packages_are_named_as_clients_expect():
    assert oip.DESCRIPTOR.package == "inference"
    assert list(oip.DESCRIPTOR.services_by_name) == ["GRPCInferenceService"]
    assert certserve_pb2.DESCRIPTOR.package == "certserve.v1"
    assert list(certserve_pb2.DESCRIPTOR.services_by_name) == ["CertificationService"]


def _generator():
    try:
        return version("grpcio-tools")
    except PackageNotFoundError:
        return None


@pytest.mark.skipif(_generator() != generate.GENERATOR, reason=f"needs grpcio-tools {generate.GENERATOR}")
def test_stubs_are_as_generated():
    assert generate.stale() == []


BUF, PROTOS = str(Path(sys.executable).with_name("buf")), Path(generate.__file__).parent


def buf(*arguments):
    done = subprocess.run([BUF, *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout


def test_our_sources_keep_the_rules_of_buf():
    assert buf("lint", str(PROTOS)) == (0, "")


def test_buf_finds_a_change_that_would_break_clients(tmp_path):
    changed = tmp_path / "protos"
    shutil.copytree(PROTOS, changed, ignore=shutil.ignore_patterns("*.py*", "__pycache__"))
    against = ("breaking", str(changed), "--against", str(PROTOS))
    assert buf(*against) == (0, "")
    source = changed / "certserve" / "v1" / "certserve.proto"
    source.write_text(source.read_text().replace("optional bool two_sided = 12;", "optional bool two_sided = 13;"))
    code, said = buf(*against)
    assert code != 0
    assert "two_sided" in said


def test_the_client_never_imports_the_open_protocols_stubs():
    code = "import sys, serving.client; sys.exit('protos.inference' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
