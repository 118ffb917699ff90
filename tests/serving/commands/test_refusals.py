"""Whatever is given to a command that it cannot use: one line on standard error, and an exit code that is not 0."""

from __future__ import annotations

import contextlib
import http.server
import json
import math
import os
import re
import shutil
import socket
import struct
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.commands.cli import main
from tests.half_space import write_half_space
from tests.nobody import as_nobody
from tests.servers import ROOT

PICTURE = str(ROOT / "examples" / "sneaker.png")
BUNDLE = str(ROOT / "models" / "fashion-mnist" / "1")
DATA = str(ROOT / "tests" / "data")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _a_state_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    """Between the attempts of a client, whose number stays as it is."""
    monkeypatch.setattr("serving.client.exchange._FIRST_PAUSE_S", 0.0)


@pytest.fixture
def refused(capfd):
    """Run a command that has to be refused; returns the one line."""

    def run(*words: object, code: int = 1, option: str = "") -> str:
        capfd.readouterr()
        try:
            found = main([str(word) for word in words])
        except SystemExit as ended:
            found = ended.code
        out, said = capfd.readouterr()
        assert found == code, said
        assert out == ""
        *before, last = said.splitlines()
        assert last.startswith("certserve")
        assert last.endswith("--help") == (code == 2)
        # A server says first how far it came.
        assert not before or (words[0] == "serve" and all(line.startswith("certserve: ") for line in before)), said
        assert "Traceback" not in said
        assert "defect" not in said
        assert option in said
        return last

    return run


@pytest.fixture
def odd(tmp_path):
    """Paths that are no readable file of any use, by what is odd about them."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "cut.json").write_text('{"receipt": {"schema": ')
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "folder").mkdir()
    names = ["empty", "binary", "list.json", "object.json", "deep.json", "cut.json", "circle", "folder"]
    return {name: tmp_path / name for name in names} | {"missing": tmp_path / "no" / "such", "long": Path("a" * 300)}


@pytest.mark.parametrize("command", [None, "serve", "predict", "verify", "replay", "recipe", "evaluate", "attack"])
def test_wrong_arguments_are_one_line(command, refused):
    before = [command] if command else []
    for words in ([], ["--no-such-option"], ["a", "b", "c"]):
        if (command == "attack" and not words) or (command == "predict" and words == ["a", "b", "c"]):
            continue  # nothing is obligatory there: see below; and these are three files
        assert "--help" in refused(*before, *words, code=2)


@pytest.mark.parametrize(
    "words",
    [
        ("serve", ""),
        ("serve", "m", "--noise-secret-file", ""),
        ("check", ""),
        ("predict", ""),
        ("verify", "", "--key", "0" * 64),
        ("evaluate", "", "--data", DATA),
        ("evaluate", BUNDLE, "--data", DATA, "--records", ""),
        ("attack", ""),
        ("build-plan", ""),
        ("recipe", "fashion-mnist", "--data", ""),
    ],
    ids=" ".join,
)
def test_an_empty_path_is_a_variable_that_is_not_set_and_not_this_folder(words, refused):
    assert "expected the path of a file or folder; got ''" in refused(*words, code=2)


def test_the_version_is_said_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out.split()[0]) == (0, "certserve")


def test_words_where_numbers_belong_are_one_line(refused):
    for command, option in [
        (("serve", "m"), "--threads"),
        (("serve", "m"), "--max-rows"),
        (("predict", PICTURE), "--deadline-ms"),
        (("predict", PICTURE), "--alpha"),
        (("attack", BUNDLE), "--seconds"),
        (("attack", BUNDLE), "--simulate"),
    ]:
        for value in ("many", "", "1,5", "0x10"):
            refused(*command, option, value, code=2, option=option)


ODD = ["missing", "folder", "circle", "long", "empty", "binary", "list.json", "object.json", "deep.json", "cut.json"]


@pytest.mark.parametrize("name", ODD)
def test_a_file_of_no_use_is_one_line_for_every_command(name, odd, refused):
    path = odd[name]
    assert "holds no bundle" in refused("serve", path, "--local", *FREE) or name == "circle"
    refused("predict", path, "--url", NOWHERE)
    refused("verify", path, "--key", "0" * 64)
    refused("replay", path, "--bundle", BUNDLE, "--picture", PICTURE)
    refused("evaluate", path, "--data", DATA)
    refused("evaluate", BUNDLE, "--data", path)
    refused("recipe", "fashion-mnist", "--data", path)
    refused("attack", path, "--data", DATA, "--split", "fashion_mnist_test_1000")
    refused("attack", BUNDLE, "--data", path)
    refused("attack", BUNDLE, "--data", DATA, "--split", "fashion_mnist_test_1000", "--work", path)


FREE = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]


@pytest.mark.parametrize("name", [*ODD, "short", "no hexadecimal"])
def test_a_key_that_is_none_is_one_line(name, odd, refused, tmp_path):
    (tmp_path / "receipt").write_text("{}")
    given = {"short": "abcd", "no hexadecimal": "g" * 64}.get(name) or odd[name]
    said = refused("verify", tmp_path / "receipt", "--key", given)
    assert "receipt" in said or "key" in said or str(given)[:20] in said


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "localhost", "", "http://", "ftp://127.0.0.1", "http://127.0.0.1:notaport"]
)
def test_a_text_that_is_no_url_is_one_line(url, refused):
    assert "expected http://host:port" in refused("predict", PICTURE, "--url", url)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://127.0.0.1:70000",
        "http://127.0.0.1:-1",
        "http://a b",
        "//",
        "http:/x",
        "http://a?b",
        "http://a#b",
    ],
)
def test_a_url_that_is_damaged_is_one_line(url, refused):
    refused("predict", PICTURE, "--url", url)
    refused("attack", BUNDLE, "--data", DATA, "--split", "fashion_mnist_test_1000", "--url", url, "--pictures", 1)


@pytest.mark.parametrize("url", [NOWHERE, "https://127.0.0.1:9", "http://no-such-name.invalid", "http://[::1]:9"])
def test_a_server_that_is_not_there_is_one_line(url, refused):
    assert "could not be reached" in refused("predict", PICTURE, "--url", url)


@pytest.mark.parametrize(
    "target", ["127.0.0.1:9", "no-such-name.invalid:1", "127.0.0.1:70000", "http://127.0.0.1:9", "", "a b", "[::1"]
)
def test_a_grpc_server_that_is_not_there_is_one_line(target, refused):
    refused("predict", PICTURE, "--grpc", target, "--deadline-ms", 1_000)


@pytest.mark.parametrize("proxy", ["nonsense://x", "socks9://x", "127.0.0.1:port"])
def test_a_proxy_of_no_use_is_one_line(proxy, refused, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("all_proxy", proxy)
    refused("predict", PICTURE, "--url", "http://certserve.invalid")


@contextmanager
def web_server(status: int, body: bytes, headers: dict[str, str]):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


ANSWERS = {
    "a page": (200, b"<html>hello</html>", {"Content-Type": "text/html"}),
    "nothing": (200, b"", {}),
    "no text": (200, bytes(range(128, 256)), {}),
    "a list": (200, b"[]", {}),
    "a number": (200, b"7", {}),
    "another object": (200, b'{"predictions": {}}', {}),
    "no predictions": (200, b'{"predictions": []}', {}),
    "strange predictions": (200, b'{"predictions": [1]}', {}),
    "no receipt": (200, b'{"predictions": [{}]}', {}),
    "not found": (404, b"<html>nothing here</html>", {}),
    "a list as error": (500, b"[]", {}),
    "an error": (429, b'{"error": "too\\nmuch"}', {"Retry-After": "7"}),
    "moved": (301, b"", {"Location": "http://127.0.0.1:9/"}),
    "unauthorised": (401, b"", {}),
    "a bad gateway": (502, b"<html>", {}),
    "damaged": (200, b"no gzip", {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_server_that_is_none_of_ours_is_one_line(answer, refused, tmp_path):
    with web_server(*ANSWERS[answer]) as url:
        refused("predict", PICTURE, "--url", url, "--receipt", tmp_path / "receipt")
    assert not (tmp_path / "receipt").exists()


STRANGE = [
    "{}",
    '{"model": 7}',
    '{"model": {}}',
    '{"model": {"digest": "sha256:0"}}',
    '{"model": {"digest": {}, "runtime": []}}',
]


@pytest.mark.parametrize("row", STRANGE)
def test_an_answer_that_is_none_of_ours_cannot_be_attacked(row, refused):
    with web_server(200, b'{"predictions": [' + row.encode() + b"]}", {}) as url:
        said = refused("attack", BUNDLE, "--data", DATA, "--split", "fashion_mnist_test_1000", "--url", url)
    assert "the answer " in said


def test_a_server_that_hangs_up_or_speaks_otherwise_is_one_line(refused):
    for greeting in (b"", b"220 smtp.example ESMTP\r\n", b"\x15\x03\x01\x00\x02\x02\x46"):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]

            def greet(greeting=greeting, listening=listening):
                with contextlib.suppress(OSError):  # the end of the listening
                    while True:
                        accepted, _ = listening.accept()
                        with accepted, contextlib.suppress(ConnectionError):
                            accepted.sendall(greeting)

            thread = threading.Thread(target=greet, daemon=True)
            thread.start()
            for scheme in ("http", "https"):
                assert "could not be reached" in refused("predict", PICTURE, "--url", f"{scheme}://127.0.0.1:{port}")
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            assert not thread.is_alive()


def test_bytes_that_are_no_text_are_one_line(refused):
    for words in (
        ("predict", "\udcff"),
        ("predict", PICTURE, "--model", "\udcff", "--url", NOWHERE),
        ("predict", PICTURE, "--model", "\udcff", "--grpc", "127.0.0.1:9"),
        ("verify", "\udcff", "--key", "\udcff"),
        ("serve", "m", "--host", "\udcff"),
        ("serve", "m", "--noise-secret-file", "\udcff", *FREE),
        ("attack", BUNDLE, "--data", "\udcff"),
    ):
        assert "udcff" in refused(*words)


@pytest.mark.parametrize("words", [["--key", "cs-hidden"], ["--key=cs-hidden"], ["--key"], ["--key", ""]])
def test_a_key_among_the_words_of_a_command_is_refused_and_not_repeated(refused, words):
    """Whoever lists the processes of the host would read it."""
    said = refused("predict", PICTURE, "--url", NOWHERE, *words)
    assert "--key-file" in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    "held", [b"", b"\n \n", b"cs-hidden cs-hidden", b"cs-hidden\ncs-hidden", b"cs-hidden\xff", b"hidden\0"]
)
def test_a_file_that_holds_no_key_is_refused_by_name_and_not_repeated(refused, tmp_path, held):
    (tmp_path / "key").write_bytes(held)
    said = refused("predict", PICTURE, "--url", NOWHERE, "--key-file", tmp_path / "key")
    assert str(tmp_path / "key") in said
    assert "hidden" not in said


def test_a_file_of_a_key_that_cannot_be_read_is_refused_by_name(refused, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("none", "fifo", "."):
        assert str(tmp_path / name) in refused("predict", PICTURE, "--url", NOWHERE, "--key-file", tmp_path / name)


def test_numbers_that_cannot_be_are_one_line(refused):
    for option, value in [
        ("--deadline-ms", "99999999999999999"),
        ("--deadline-ms", "-1"),
        ("--alpha", "nan"),
        ("--target-radius", "inf"),
        ("--target-radius", "-1"),
        ("--max-draws", "0"),
    ]:
        refused("predict", PICTURE, "--url", NOWHERE, option, value)
        refused("predict", PICTURE, "--grpc", "127.0.0.1:9", option, value)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--data", DATA],
        [BUNDLE],
        ["--simulate", "-5"],
        ["--simulate", "0"],
        *([BUNDLE, "--data", DATA, option, value] for option, value in [("--pictures", "0"), ("--draws", "0")]),
        *([BUNDLE, "--data", DATA, "--seconds", value] for value in ("0", "-1", "nan")),
        *([BUNDLE, "--data", DATA, "--test-alpha", value] for value in ("0", "1", "nan", "inf")),
        [BUNDLE, "--data", DATA, "--seed", "-1"],
        [BUNDLE, "--data", DATA, "--certify", "precision"],
        [BUNDLE, "--data", DATA, "--alpha", "nan"],
        [BUNDLE, "--data", DATA, "--max-draws", "-1"],
    ],
)
def test_an_attack_that_cannot_be_run_is_one_line(words, refused):
    refused("attack", *words, *(["--split", "fashion_mnist_test_1000"] if BUNDLE in words else []))


def idx(folder: Path, name: str, *shape: int, value: int = 0) -> None:
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    size = math.prod(shape)
    (folder / name).write_bytes(header + bytes([value]) * size)


def data(folder: Path, shape=(4, 28, 28), labels: int = 4, label: int = 0) -> Path:
    folder.mkdir()
    for split in ("train", "t10k"):
        idx(folder, f"{split}-images-idx3-ubyte", *shape)
        idx(folder, f"{split}-labels-idx1-ubyte", labels, value=label)
    return folder


@pytest.mark.parametrize(
    "wrong",
    [{"shape": (4, 32, 32)}, {"shape": (0, 28, 28), "labels": 0}, {"labels": 3}, {"label": 77}, {"shape": (4, 28)}],
    ids=str,
)
def test_a_data_set_that_does_not_fit_is_one_line(wrong, refused, tmp_path):
    folder = data(tmp_path / "data", **wrong)
    refused("evaluate", BUNDLE, "--data", folder)
    refused("recipe", "fashion-mnist", "--data", folder, "--work", tmp_path / "work", "--out", tmp_path / "out")
    if "label" not in wrong:
        refused("attack", BUNDLE, "--data", folder)
    assert not (tmp_path / "out").exists()


def test_a_model_of_another_kind_is_one_line(refused, tmp_path):
    write_half_space(tmp_path)
    bundle, folder = tmp_path / "half-space" / "1", data(tmp_path / "data")
    refused("evaluate", bundle, "--data", folder)
    refused("attack", bundle, "--data", folder)
    refused("evaluate", BUNDLE, "--data", folder, "--outside", tmp_path / "no" / "such")
    refused("serve", bundle, "--local", *FREE, option="give the folder of all models")


def test_a_data_set_that_is_too_small_is_one_line(refused, tmp_path):
    source = ROOT / "tests" / "data"
    for split in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            shutil.copy(source / f"fashion_mnist_test_1000-{kind}-ubyte.gz", tmp_path / f"{split}-{kind}-ubyte.gz")
    said = refused("recipe", "fashion-mnist", "--data", tmp_path, "--work", tmp_path / "work", "--out", tmp_path)
    assert "1000 training pictures; 5000 are held out" in said


@pytest.mark.parametrize("provider", ["gpu", "", "CPU"])
def test_a_provider_that_is_not_known_is_one_line(provider, refused):
    refused("serve", "models", "--provider", provider, option="--provider")


def test_a_file_that_may_not_be_read_is_one_line(tmp_path, capfd):
    (tmp_path / "secret").write_bytes(b"s" * 32)
    (tmp_path / "secret").chmod(0)
    for words in (["predict", "FILE"], ["verify", "FILE", "--key", "0" * 64], ["verify", PICTURE, "--key", "FILE"]):
        command = [str(tmp_path / "secret") if word == "FILE" else word for word in words]
        assert as_nobody(tmp_path, lambda command=command: str(main(command))) == "1"
        # Where gRPC runs in the process of the tests, it may speak of the fork by itself.
        said = re.sub(r"^.*fork_posix\.cc.*\n", "", capfd.readouterr().err, flags=re.M)
        assert said.count("\n") == 1
        if words[1] == "FILE":
            assert "Permission denied" in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_one_line(capfd, tmp_path):
    answer = json.dumps({"predictions": [{"label": "a", "draws": 1, "receipt": {}}]}).encode()
    with web_server(200, answer, {}) as url:
        assert main(["predict", PICTURE, "--model", "m", "--url", url, "--receipt", "/dev/full"]) == 1
        said = capfd.readouterr().err
        assert said == "certserve: /dev/full: cannot be written (No space left on device)\n"
        assert (
            main(["predict", PICTURE, "--model", "m", "--url", url, "--receipt", str(tmp_path / "no" / "receipt")]) == 1
        )
        assert "cannot be written (No such file or directory)" in capfd.readouterr().err
