"""How a command ends, whatever happens: exit code and one line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import pytest

from serving.commands import console
from serving.errors import InvalidInput
from tests.servers import ROOT


def ended(capsys, error):
    def command():
        raise error

    code = console.guarded(command)
    said = capsys.readouterr().err
    assert said.startswith("certserve: ")
    assert said.count("\n") == 1
    return code, said.removeprefix("certserve: ").strip()


def test_what_was_written_to_be_read_is_said_in_one_line(capsys):
    assert ended(capsys, InvalidInput("first\n\tsecond \x1b[2J\r third")) == (1, "first second [2J third")
    assert ended(capsys, FileNotFoundError(2, "No such file or directory", "a/b")) == (
        1,
        "a/b: No such file or directory",
    )
    assert ended(capsys, OSError("no more")) == (1, "no more")
    assert ended(capsys, RuntimeError("a library\nsays why")) == (1, "a library says why")
    assert ended(capsys, MemoryError()) == (1, "there is not enough memory for this")
    assert ended(capsys, InvalidInput("a\udcffb")) == (1, r"a\udcffb")
    assert ended(capsys, UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "no")) == (1, r"'a\udcff' is no text in UTF-8")
    assert ended(capsys, KeyboardInterrupt()) == (130, "interrupted")


def test_a_defect_says_where_it_lies_and_that_it_is_one(capsys):
    code, said = ended(capsys, KeyError("x"))
    assert code == 1
    assert re.fullmatch(r"this is a defect of certserve.*: KeyError: 'x' \(test_console.py, line \d+\)", said)


def test_only_an_extra_that_brings_what_is_missing_is_advised(capsys):
    for name, advice in {
        "torch": "install certserve[export,torch]",
        "onnxscript.values": "install certserve[export,torch]",
        "skl2onnx": "install certserve[export,sklearn]",
        "onnx.helper": "install certserve[cpu] or, for a machine with a GPU, certserve[gpu]",
        "tqdm": "install certserve[export]",
        "onnxruntime": "install certserve[cpu] or, for a machine with a GPU, certserve[gpu]",
        "scipy.special": "this installation is not whole; install certserve again",
        "ray": "install certserve[cpu] or, for a machine with a GPU, certserve[gpu]",
        "serving.nothing": "install certserve again",
    }.items():
        code, said = ended(capsys, ModuleNotFoundError(f"No module named {name!r}", name=name))
        assert code == 1
        assert repr(name.split(".")[0]) in said
        assert advice in said
        assert ("certserve[export" in said) == ("certserve[export" in advice)


def test_the_extras_are_those_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for advised in ("export", "export,sklearn", "export,torch"):
        extra = advised.split(",")[-1]
        brought = {re.match(r"[A-Za-z0-9_-]+", requirement)[0] for requirement in extras[extra]}
        assert {name for name, given in console.EXTRA_OF.items() if given == advised} == brought
    assert extras["cpu"][0] == extras["gpu"][0] == "certserve[server]"
    assert extras["cpu"][1].startswith("onnxruntime")


def started(*words, **options):
    run = "from serving.commands.cli import main; print('begun', file=sys.stderr, flush=True); sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; {run}", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


SLOW = ["attack", "--simulate", "100000000"]


def test_ctrl_c_ends_a_command_with_130_and_one_line():
    command = started(*SLOW, stdout=subprocess.PIPE)
    assert command.stderr.readline() == "begun\n"
    time.sleep(1)
    command.send_signal(signal.SIGINT)
    try:
        _, said = command.communicate(timeout=20)
    except subprocess.TimeoutExpired:  # a library that was being imported just then may have swallowed it: press again
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=40)
    assert command.returncode == 130
    assert said.splitlines()[-1] == "certserve: interrupted"
    assert "Traceback" not in said


def test_a_reader_that_goes_away_is_no_trace():
    """As in `certserve --help | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        command = started("attack", "--simulate", "2", stdout=gone)
        _, said = command.communicate(timeout=120)
    assert (command.returncode, said) == (141, "begun\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_an_output_on_a_full_disk_is_one_line():
    with open("/dev/full", "wb") as full:
        command = started("attack", "--simulate", "2", stdout=full)
        _, said = command.communicate(timeout=120)
    assert (command.returncode, said) == (1, "begun\ncertserve: No space left on device\n")
