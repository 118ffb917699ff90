"""The suites of other servers, run against this one: `python -m benchmarks.peers.suites FOLDER`.

FOLDER holds what is to be had elsewhere and is not copied here: `client` (of Triton's client repository
src/python/examples), `mlserver` (tests/rest, tests/grpc and the package), `kserve` (python/kserve/test) and `pytriton` (the
package). Nothing is fetched; what is absent is left out, and said. It prints a table of cases.

What a suite takes for granted of its own server, names, inputs and expected numbers, is swapped by the tables below, and
nothing else of a case. Each runs in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.half_spaces import write_all
from benchmarks.peers.swaps import kserve, mlserver_grpc, mlserver_rest, of_example
from tests.contract.server import Address, served

HERE = Path(__file__).parent
NOT_OFFERED = {
    "shm": "shared memory with clients is refused",
    "reuse_infer_objects": "shared memory with clients is refused",
    "sequence": "models keep no state: a sequence's running sum cannot be given",
    "model_control": "models are changed by their folder, not by requests",
    "custom_repeat": "a model of three inputs, which repeats one of them",
    "string": "a model of texts, which answers its input",
    "byte_content": "a model of texts, which answers its input",
}
ATTRDICT = """
class AttrDict(dict):
    def __init__(self, pairs):
        super().__init__({name: made(value) for name, value in pairs.items()})
        self.__dict__ = self
def made(value):
    return AttrDict(value) if isinstance(value, dict) else [*map(made, value)] if isinstance(value, list) else value
"""
"""The image clients need a package that no Python of today can import."""
PICTURE = ["-s", "NONE"]
IMAGE = [[], ["-b", "2"], ["-c", "2"], ["-a"], ["-a", "-b", "2", "-c", "2"]]


@dataclass
class Suite:
    """The cases of one suite: which passed, and why the others did not."""

    name: str
    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def row(self) -> str:
        """A line of the table."""
        why = Counter(self.failed.values())
        said = "; ".join(f"{reason} ({count})" for reason, count in why.most_common())
        return f"| {self.name} | {len(self.passed) + len(self.failed)} | {len(self.passed)} | {said or '-'} |"


def examples(folder: Path, server: Address, scratch: Path) -> Suite:
    """Every example of tritonclient, the image clients with every way of asking."""
    suite = Suite("tritonclient's examples")
    picture = scratch / "picture.png"
    _write_picture(picture)
    (scratch / "attrdict.py").write_text(ATTRDICT)
    for path in sorted(folder.glob("*.py")):
        (scratch / path.name).write_text(of_example(path.read_text(), server))
        for name, arguments in _ways(path.stem, server, picture):
            done = _python([str(scratch / path.name), *arguments], scratch)
            said = done.stdout + done.stderr
            wanted = "PASS" if "PASS" in path.read_text() else ""
            if done.returncode == 0 and wanted in said:
                suite.passed.append(name)
            else:
                suite.failed[name] = _reason(path.stem, said)
    return suite


def _ways(stem: str, server: Address, picture: Path) -> Iterator[tuple[str, list[str]]]:
    http, grpc = ["-u", server.http.removeprefix("http://")], ["-u", server.grpc]
    if stem == "image_client":
        ways = [(wire, each) for wire in ("http", "grpc") for each in IMAGE] + [("grpc", ["--streaming"])]
        for wire, more in [*ways, ("grpc", ["--streaming", "-a"])]:
            url = http if wire == "http" else grpc
            yield f"{stem} {wire} {more}", [*url, "-i", wire, "-m", "densenet_onnx", *PICTURE, *more, str(picture)]
    elif stem == "grpc_image_client":
        for more in [*IMAGE, ["--streaming"]]:
            yield f"{stem} {more}", [*grpc, "-m", "densenet_onnx", *PICTURE, *more, str(picture)]
    elif stem == "ensemble_image_client":
        for wire, url in (("http", http), ("grpc", grpc)):
            for count in ("1", "2"):
                yield f"{stem} {wire} {count}", [*url, "-i", wire, "-c", count, str(picture)]
    elif stem == "memory_growth_test":
        for wire in ("http", "grpc"):
            yield f"{stem} {wire}", ["-i", wire, "-r", "50"]
    elif stem == "reuse_infer_objects_client":
        for wire, url in (("http", http), ("grpc", grpc)):
            yield f"{stem} {wire}", [*url, "-i", wire]
    elif "http" in stem:
        yield stem, http
        if stem == "simple_http_infer_client":
            for way in ("gzip", "deflate"):
                sides = [f"--{side}-compression-algorithm" for side in ("request", "response")]
                yield f"{stem} {way}", [*http, sides[0], way, sides[1], way]
    else:
        yield stem, grpc
        if stem == "simple_grpc_infer_client":
            for way in ("gzip", "deflate"):
                yield f"{stem} {way}", [*grpc, "-C", way]


def _reason(stem: str, said: str) -> str:
    for part, reason in NOT_OFFERED.items():
        if part in stem:
            return reason
    return "FAILED: " + (said.strip().splitlines() or ["said nothing"])[-1][:200]


def _write_picture(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (16, 16), (200, 30, 90)).save(path)


def _python(arguments: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command, environment = [sys.executable, *arguments], {**os.environ, **more}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, timeout=120, check=False, env=environment
    )


def pytest_suite(name: str, folder: Path, why: dict[str, str], *more: str) -> Suite:
    """What pytest says of the tests in a folder; `why` has the reason of each that cannot pass, by a part of its name."""
    done = _python(["-m", "pytest", *QUIET, *more, "."], folder)
    suite = Suite(name)
    for line in done.stdout.splitlines():
        outcome, _, rest = line.partition(" ")
        case, _, said = rest.partition(" - ")
        if outcome == "PASSED":
            suite.passed.append(case)
        elif outcome in ("FAILED", "ERROR"):
            known = next((reason for part, reason in why.items() if part in case), None)
            suite.failed[case] = known or f"FAILED: {said[:200]}"
    if not suite.passed and not suite.failed:
        suite.failed["all"] = "FAILED: " + (done.stdout + done.stderr)[-300:]
    return suite


def pytriton(folder: Path, server: Address) -> Suite:
    """PyTriton's clients by either wire."""
    suite = Suite("PyTriton's clients, sync, futures and asyncio")
    done = _python(
        [str(HERE / "pytriton_clients.py"), str(server.http_port), str(server.grpc_port)],
        folder,
        PYTHONPATH=str(folder),
    )
    for line in done.stdout.splitlines():
        name, _, said = line.partition("\t")
        if said == "passed":
            suite.passed.append(name)
        else:
            lost = "the client forgets its scheme, so that it asks no server in gRPC"
            suite.failed[name] = lost if name == "grpc from_existing_client" else f"FAILED: {said[:200]}"
    return suite


def main() -> None:
    """Run what is there, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ports", type=int, nargs=2, help="of a server that is up with the models of half_spaces.py")
    parser.add_argument("--verbose", action="store_true", help="name every case that did not pass")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.ports:
            suites = [*_all(options.folder, Address(*options.ports), Path(scratch))]
        else:
            write_all(Path(scratch) / "models", Path(scratch) / "plain")
            with served(Path(scratch) / "models") as server:
                suites = [*_all(options.folder, server, Path(scratch))]
    print("| suite | cases | passed | cannot pass |\n|-|-|-|-|")
    for suite in suites:
        print(suite.row())
    if options.verbose:
        for suite in suites:
            for case, why in suite.failed.items():
                print(f"{suite.name}: {case}: {why}", file=sys.stderr)


def _all(folder: Path, server: Address, scratch: Path) -> Iterator[Suite]:
    client = folder / "client" / "src" / "python" / "examples"
    if client.exists():
        (scratch / "examples").mkdir()
        yield examples(client, server, scratch / "examples")
    if (folder / "pytriton").exists():
        yield pytriton(folder / "pytriton", server)
    for name, root, prepare, why in (
        ("MLServer, tests/rest/test_endpoints.py", folder / "mlserver", mlserver_rest, MLSERVER),
        ("MLServer, tests/grpc/test_servicers.py", folder / "mlserver", mlserver_grpc, MLSERVER),
        ("KServe, test_inference_client.py", folder / "kserve", kserve, KSERVE),
    ):
        if root.exists():
            target = scratch / prepare.__name__
            target.mkdir()
            prepare(root, server, target)
            yield pytest_suite(name, target, why, *(NEVER_ASKS if prepare is kserve else ()))
        else:
            print(f"{name}: not there, left out", file=sys.stderr)


MLSERVER = {
    "test_model_openapi": "one description is of the whole server, not one of each model",
    "test_model_docs": "one description is of the whole server, not one of each model",
    "generate": "a model of texts, which answers its input",
    "stream_infer_error": "in a stream an error is a message of Triton's kind, not the end",
    "stream_infer": "a model of texts, which answers its input",
    "infer_headers": "headers of a request are not sent back",
    "model_repository": "models are changed by their folder, not by requests",
    "invalid_datatype": "what is wrong is 400 in this server's words, not pydantic's",
}
QUIET = ("-q", "-rA", "--tb=line", "-p", "no:cacheprovider", "-o", "addopts=")
NEVER_ASKS = ("-k", "not graph_endpoint and not path_based")
"""Some of KServe's tests are answered by a mock."""
KSERVE = {
    "test_is_model_ready[v1": "a model that is not ready is not served, so not known",
    "test_explain[v1": "there is no explainer",
}

if __name__ == "__main__":
    main()
