from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest

from export.sources.source import SourceError
from serving.commands import serve
from serving.commands.cli import main
from serving.config import SettingError, Settings
from tests.export.foreign import LOGITS, ROWS, written
from tests.half_space import write_half_space


def test_a_broken_bundle_stops_the_start_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_half_space(tmp_path / "models")
    (tmp_path / "models" / "half-space" / "1" / "noisy.onnx").write_bytes(b"spoiled")
    assert main(["serve", str(tmp_path / "models"), "--local"]) == 1
    assert "noisy.onnx was altered" in capsys.readouterr().err


def test_a_secret_that_others_can_read_is_warned_of_in_one_line(tmp_path, capsys):
    for name in ("secret", "key"):
        (tmp_path / name).write_bytes(b"s" * 32)
    (tmp_path / "secret").chmod(0o644)
    (tmp_path / "key").chmod(0o600)
    given = ["--noise-secret-file", str(tmp_path / "secret"), "--signing-key-file", str(tmp_path / "key")]
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    assert main(["serve", str(tmp_path / "nothing"), "--local", *given, *ports]) == 1
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warnings == [
        f"certserve: warning: {tmp_path / 'secret'} can be read or changed by others (mode 0644);"
        f" say chmod 600 {tmp_path / 'secret'}"
    ]


def test_without_the_export_extra_the_message_names_it(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['tqdm'] = None\n"
        "from serving.commands.cli import main; sys.exit(main(['recipe', 'fashion-mnist', '--data', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "certserve[export,torch]" in done.stderr


def test_an_onnx_file_is_inspected_with_what_serving_installs():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'tqdm', 'mpmath', 'skl2onnx', 'pyarrow')))\n"
        "from serving.commands.cli import main; sys.exit(main(['inspect', sys.argv[1], '--shape', '1x28x28']))"
    )
    model = Path("models/fashion-mnist/1/base.onnx").absolute()
    done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "softmax" in done.stdout


def test_certificates_are_exported_and_evaluated_without_torch_and_a_detector_asks_for_it_at_once(tmp_path):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnxscript', 'skl2onnx', 'pyarrow', 'matplotlib')))\n"
        "from serving.commands.cli import main\n"
        "export = ['export', sys.argv[1], '--name', 'parts', '--sigma', '0.2']\n"
        "assert main([*export, '--samples', 'x.npy']) == 0\n"
        "assert main(['evaluate', 'models/parts/1', '--data', 'd.npz', '--draws', '64']) == 0\n"
        "sys.exit(main([*export, '--data', 'd.npz', '--work', 'work']))"
    )
    np.save(tmp_path / "x.npy", ROWS)
    np.savez(tmp_path / "d.npz", x=ROWS, y=np.arange(len(ROWS)) % 3)
    command = [sys.executable, "-c", code, written(tmp_path, LOGITS)]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "certserve[export,torch]" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "work").exists()


def test_every_command_explains_itself(capsys):
    served = ("serve", "build-plan", "predict", "verify", "replay", "recipe", "evaluate", "attack")
    for command in (*served, "inspect", "export", "check"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert command in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "command"),
    [
        ("export.own_model.export", "export m.onnx --name parts --samples x.npy"),
        ("export.robust.robustify.robustify", "robustify m.onnx --data d --sigma 1"),
        ("export.precision.quantize", "quantize models/parts/1 --data d"),
        ("export.weighing.weigh", "weigh models/parts/1 --data d --test t"),
    ],
)
def test_what_a_command_is_given_is_what_its_function_takes(function, command, monkeypatch, capsys):
    module, _, name = function.rpartition(".")
    real = getattr(importlib.import_module(module), name)
    monkeypatch.setattr(function, create_autospec(real, side_effect=SourceError("it was called")))
    assert main(command.split()) == 1
    assert capsys.readouterr().err == "certserve: it was called\n"


def test_settings_come_from_one_flat_mapping():
    found = Settings.from_mapping({"models": "m", "engines": 2, "max_draws": 5_000, "noise_secret_file": "/s"})
    assert (found.models, found.engines, found.limits.max_draws) == (Path("m"), 2, 5_000)
    assert found.noise_secret_file == Path("/s")


@pytest.mark.parametrize(
    ("values", "message"),
    [({"models": "m", "engine": 2}, "unknown setting engine; known are"), ({}, "models is missing")],
)
def test_a_setting_that_is_not_known_or_missing_is_named(values, message):
    with pytest.raises(SettingError, match=message):
        Settings.from_mapping(values)


def test_predict_says_when_no_server_is_there(tmp_path, capsys):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG")
    for wire in (["--url", "http://127.0.0.1:9"], ["--grpc", "127.0.0.1:9"]):
        assert main(["predict", str(picture), *wire]) == 1
        assert "certserve:" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "ignored"), [("SIGINT", 0), ("SIGTERM", 0), ("SIGHUP", 0), ("SIGHUP", 1)])
async def test_each_signal_that_ends_a_server_stops_it_in_order_and_nohup_is_heeded(number, ignored):
    which, loop = getattr(signal, number), asyncio.get_running_loop()
    stop, started = asyncio.Event(), asyncio.Event()
    started.set()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        serve._heed_signals(stop, started)
        os.kill(os.getpid(), which)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.2 if ignored else 20)
        assert stop.is_set() != bool(ignored)
    finally:
        for each, handler in before.items():
            loop.remove_signal_handler(each)
            signal.signal(each, handler)
