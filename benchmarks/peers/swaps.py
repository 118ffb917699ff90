"""What the suites of peers take for granted of their own servers, and what stands there for this one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.contract.server import Address

_SECOND = ('"INPUT1"', "'INPUT1'", "inputs[1].", "input1.", "input1 =")
"""Our models have one input: what speaks of a second one is left out."""
_TEXTS = {"OUTPUT0": "probabilities", "OUTPUT1": "label", "OUTPUT": "probabilities", "fc6_1": "probabilities"}
_SUM = "assert abs(float(output0_data.sum()) - 1) < 1e-5"


def of_example(text: str, server: Address) -> str:
    """One of tritonclient's examples: its two inputs are one, their sum and difference a row of probabilities."""
    for old, new in {
        '== "triton"': '== "certserve"',
        'url="localhost:8000"': f'url="127.0.0.1:{server.http_port}"',
        'url="localhost:8001"': f'url="{server.grpc}"',
        # The model answers no copy of its input.
        "(output0_data.dtype != input0_data.dtype)": "(output0_data.shape != (1, 2))",
        "or (output0_data.shape != input0_data.shape)": "",
        "or not (np.array_equal(output0_data, input0_data))": "",
    }.items():
        text = text.replace(old, new)
    tree = _Example().visit(ast.parse(text))
    tree.body.insert(0, ast.parse("import sys").body[0])  # one of them forgets to
    return ast.unparse(ast.fix_missing_locations(tree))


class _Example(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and node.value in _TEXTS:
            return ast.Constant(_TEXTS[node.value])
        if node.value == "preprocess_inception_ensemble":
            return ast.Constant("densenet_onnx")
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if _speaks_of_a_second_input(node) else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if _speaks_of_a_second_input(node) else self.generic_visit(node)

    def visit_List(self, node: ast.List) -> ast.AST:
        if ast.unparse(node) == "[input0, input1]":
            return ast.parse("[input0]", mode="eval").body
        if ast.unparse(node) == "[3, 224, 224]":
            return ast.parse("[1, 3, 16, 16]", mode="eval").body
        if ast.unparse(node) == "[bytes(602112 * 'a', 'utf-8')]":
            return ast.parse("[bytes(3072)]", mode="eval").body
        return self.generic_visit(node)

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        text = ast.unparse(node)
        if "input1.contents" in text:
            return []
        if "incorrect sum" in text:
            if "get_result" in text:  # the loop over requests around it
                return self.generic_visit(node)
            return ast.parse(_SUM).body if "output0_data" in text else []
        return self.generic_visit(node)


def _speaks_of_a_second_input(node: ast.stmt) -> bool:
    text = ast.unparse(node)
    return "\n" not in text and any(each in text for each in _SECOND)


_MLSERVER_CONFTEST = '''
import importlib.abc, importlib.machinery, json, sys
from types import SimpleNamespace
from unittest.mock import MagicMock
import pytest

class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """What MLServer imports for tracing and metrics is in no case here."""
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("opentelemetry", "py_grpc_prometheus", "starlette_exporter", "aiokafka", "aiofiles"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__ = []
        return module
    def exec_module(self, module):
        pass

sys.meta_path.append(Absent())
sys.path.insert(0, {root!r})
from mlserver import types

cases = SimpleNamespace(fixture=pytest.fixture, fixture_ref=lambda given: given)
cases.parametrize = lambda *arguments: lambda test: test  # what it chooses is one server's inside
sys.modules["pytest_cases"] = cases
fixture = pytest.fixture

@pytest.fixture
async def rest_client():
    from httpx import AsyncClient
    async with AsyncClient(base_url={http!r}) as client:
        yield client

@pytest.fixture
async def inference_service_stub():
    from grpc import aio
    from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
    async with aio.insecure_channel({grpc!r}) as channel:
        yield GRPCInferenceServiceStub(channel)

@pytest.fixture
def sum_model_settings():
    tensor = SimpleNamespace(name="input-0", datatype="UINT8", shape=[-1, 3], parameters=None)
    return SimpleNamespace(
        name="sum-model", platform="certserve", versions=["1"], parameters=SimpleNamespace(version="1"),
        inputs=[types.MetadataTensor(name="input-0", datatype="UINT8", shape=[-1, 3])])

@pytest.fixture
def sum_model():
    return SimpleNamespace(name="sum-model", version="1")

@fixture
def settings(): return None
@fixture
def settings_stream(): return None
@fixture
def text_model(): return SimpleNamespace(name="text-model", version="1")
@fixture
def text_stream_model(): return SimpleNamespace(name="text-stream-model", version="1")
@fixture
def text_stream_model_settings(): return None
@pytest.fixture
def datatype_error_message(): return "not asked"
@pytest.fixture
def repository_index_request(): return types.RepositoryIndexRequest(ready=None)

def data(name): return json.loads(open({root!r} + "/tests/testdata/" + name).read())

@pytest.fixture
def inference_request(): return types.InferenceRequest.model_validate(data("inference-request.json"))
@pytest.fixture
def generate_request(): return types.InferenceRequest.model_validate(data("generate-request.json"))
@pytest.fixture
def inference_request_invalid_datatype(): return data("inference-request-invalid-datatype.json")

def message(name, kind):
    from google.protobuf import json_format
    return json_format.ParseDict(data("grpc/" + name), kind())

@pytest.fixture
def model_infer_request():
    from mlserver.grpc import dataplane_pb2 as pb
    found = message("model-infer-request.json", pb.ModelInferRequest)
    found.model_version = "1"
    found.parameters["binary_data_output"].bool_param = False  # asks for typed contents, as MLServer always answers
    return found
@pytest.fixture
def model_generate_request():
    from mlserver.grpc import dataplane_pb2 as pb
    return message("model-generate-request.json", pb.ModelInferRequest)
@pytest.fixture
def model_infer_request_invalid_datatype():
    from mlserver.grpc import dataplane_pb2 as pb
    return message("model-infer-request-invalid-datatype.json", pb.ModelInferRequest)
@pytest.fixture
def grpc_repository_index_request():
    from mlserver.grpc import dataplane_pb2 as pb
    return pb.RepositoryIndexRequest(ready=None)
'''
_MLSERVER = {
    "from ..conftest import": "from conftest import",
    "from ..fixtures import SumModel": "SumModel = object",
    '"v1.2.3"': '"1"',
    '== "mlserver"': '== "certserve"',
    "== __version__": "!= ''",
    "extensions == []": "extensions != []",
    "len(models) == 1": "len(models) == 6",
    "len(index.models) == 1": "len(index.models) == 6",
    # Three small numbers are below the half-space.
    "prediction.outputs[0].data == TensorData(root=[6])": "prediction.outputs[0].data.root[0] > 0.99",
    "int64_contents=[6]": "fp32_contents=[1, 0]",
    "contents == expected": "contents.fp32_contents[0] > 0.99 and expected",
    '"/v2/docs"': '"/docs"',
    '"/v2/docs/dataplane.json"': '"/openapi.json"',
    'response.json()["error"] == "Model my-model with version v0 not found"': '"my-model" in response.json()["error"]',
    'response.json()["error"] == "Model my-model not found"': '"my-model" in response.json()["error"]',
    'details() == "Model my-model with version v1.2.3 not found"': 'details().count("my-model")',
    'details() == "Model my-model not found"': 'details().count("my-model")',
}


def mlserver_rest(root: Path, server: Address, target: Path) -> None:
    """MLServer's endpoint tests, behind a client of this server."""
    _mlserver(root / "tests" / "rest" / "test_endpoints.py", root, server, target)


def mlserver_grpc(root: Path, server: Address, target: Path) -> None:
    """MLServer's tests of its servicers, behind a stub of this server."""
    _mlserver(root / "tests" / "grpc" / "test_servicers.py", root, server, target)


def _mlserver(source: Path, root: Path, server: Address, target: Path) -> None:
    text = _MLSERVER_CONFTEST.replace("{root!r}", repr(str(root.resolve())))
    text = text.replace("{http!r}", repr(server.http)).replace("{grpc!r}", repr(server.grpc))
    (target / "conftest.py").write_text(text)
    (target / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (target / source.name).write_text(_swapped(source.read_text(), _MLSERVER))


_KSERVE = {
    "[[1.1, 2.22], [3.345, 4.34343]]": "[[1, 2], [3, 4]]",
    'name="fp16_data"': 'name="input-0"',
    "input_data.inputs[1].set": "input_data.inputs[0].set",
    "from kserve.model_server import app as kserve_app\n": "",
    "from test.test_server import DummyModel\n": "",
    "transport=httpx.ASGITransport(app=app), ": "",
    "async def app(self, server):": "async def app(self):\n        yield None\n\n    async def unused(self, server):",
    '{"instances": [1, 2]}': '{"instances": [[1, 2], [3, 4]]}',
    '{"inputs": [1, 2]}': '{"instances": [[1, 2], [3, 4]]}',
    "res.outputs[0].data == [1, 2, 3, 4]": "len(res.outputs[0].data) == 4",
    'res["predictions"] == [1, 2]': 'len(res["predictions"]) == 2',
    'name="output-0"': 'name="probabilities"',
    "@pytest.mark.asyncio\nclass": '@pytest.mark.asyncio(loop_scope="class")\nclass',
    '@pytest_asyncio.fixture(scope="class")': '@pytest_asyncio.fixture(scope="class", loop_scope="class")',
}


_FIRST_OF_TWO = r'InferInput\([^()]*\),\s*(?=InferInput\([^()]*"fp16_data")'


def kserve(root: Path, server: Address, target: Path) -> None:
    """KServe's tests of its REST client, which asks this server."""
    source = root / "python" / "kserve" / "test" / "test_inference_client.py"
    text = re.sub(_FIRST_OF_TWO, "", source.read_text(), flags=re.DOTALL)
    text = _swapped(text, _KSERVE)
    text = text.replace('"http://test-server/"', f'"{server.http}/"').replace(
        '"http://test-server"', f'"{server.http}"'
    )
    (target / source.name).write_text(text)


def _swapped(text: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        text = text.replace(old, new)
    return text
