"""NVRTC compiles the kernels here, without a GPU, and what it compiled is kept under a name that says what it is for."""

from __future__ import annotations

import stat
from importlib.metadata import PackageNotFoundError

import pytest

from serving.runtimes import device_batch, device_program


@pytest.fixture
def compilations(monkeypatch):
    """Architectures that were compiled for, in order."""
    done = []

    def compile_it(source, element, architecture):
        done.append((architecture, element))
        return b"\x7fELF" + f"{architecture} {element} {len(source)}".encode()

    monkeypatch.setattr(device_program, "_compile", compile_it)
    return done


@pytest.mark.parametrize("element", [0, 1, 2])
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_nvrtc_compiles_the_kernels_for_every_kind_of_device(architecture, element, tmp_path):
    code = device_program.compiled(element, architecture, tmp_path)
    assert code.startswith(b"\x7fELF")
    assert b"add_noise" in code
    assert b"gather_results" in code
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == code
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_what_nvrtc_refuses_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(
        device_program.DeviceError, match="does not compile the kernels for sm_1: .*--provider cpu"
    ) as error:
        device_program.compiled(0, "sm_1", tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "broken.cu").write_text("this is no C")
    monkeypatch.setattr(device_program, "SOURCE", tmp_path / "broken.cu")
    with pytest.raises(device_program.DeviceError, match="does not compile"):
        device_program.compiled(0, "sm_90", tmp_path)


def test_a_second_start_compiles_nothing_and_whatever_differs_is_compiled(tmp_path, monkeypatch, compilations):
    first = device_program.compiled(0, "sm_90", tmp_path)
    assert device_program.compiled(0, "sm_90", tmp_path) == first
    assert compilations == [("sm_90", 0)]
    device_program.compiled(1, "sm_90", tmp_path)
    device_program.compiled(0, "sm_100", tmp_path)
    monkeypatch.setattr(device_program, "version", lambda name: "another")
    device_program.compiled(0, "sm_90", tmp_path)
    monkeypatch.undo()
    assert compilations == [("sm_90", 0), ("sm_90", 1), ("sm_100", 0), ("sm_90", 0)]


def test_another_source_is_compiled_anew(tmp_path, monkeypatch, compilations):
    device_program.compiled(0, "sm_90", tmp_path)
    (tmp_path / "other.cu").write_text(device_batch.SOURCE.read_text() + "\n")
    monkeypatch.setattr(device_program, "SOURCE", tmp_path / "other.cu")
    device_program.compiled(0, "sm_90", tmp_path)
    assert len(compilations) == 2


@pytest.mark.parametrize("content", [b"", b"half a file"])
def test_what_is_no_compiled_kernel_is_replaced(tmp_path, compilations, content):
    first = device_program.compiled(0, "sm_90", tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(content)
    assert device_program.compiled(0, "sm_90", tmp_path) == first
    assert kept.read_bytes() == first


def test_where_nothing_can_be_kept_it_is_compiled_each_time(tmp_path, compilations):
    absent = tmp_path / "absent"
    assert device_program.compiled(0, "sm_90", absent) == device_program.compiled(0, "sm_90", absent)
    assert len(compilations) == 2


@pytest.mark.parametrize("package", device_program.PACKAGES)
def test_a_missing_package_is_named_with_how_to_install_it(tmp_path, monkeypatch, package):
    def absent(name):
        if name == package:
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(device_program, "version", absent)
    with pytest.raises(device_program.DeviceError, match=rf"{package} is missing.*certserve\[gpu\].*--provider cpu"):
        device_program.compiled(0, "sm_90", tmp_path)
