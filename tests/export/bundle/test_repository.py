"""A repository of bundles: whatever stands where a bundle has to be is loaded, or refused by name."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from export.bundle import BundleError, load, load_repository
from tests.half_space import write_half_space
from tests.nobody import as_nobody


@pytest.fixture
def repository(tmp_path):
    write_half_space(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def bundle(repository):
    return repository / "half-space" / "1"


def refusal(folder):
    with pytest.raises(BundleError) as refused:
        load_repository(folder)
    said = str(refused.value)
    assert "\n" not in said
    return said


def loaded(folder):
    return [each.key for each in load_repository(folder)]


@pytest.mark.parametrize("what", ["empty", "half copied", "another file"])
def test_a_version_without_a_manifest_is_named_not_passed_over(what, repository, bundle):
    newer = repository / "half-space" / "2"
    newer.mkdir()
    if what == "half copied":
        shutil.copy(bundle / "base.onnx", newer)
    if what == "another file":
        shutil.copy(bundle / "manifest.json", newer / "manifest.json.part")
    assert refusal(repository).startswith(f"{newer} has no manifest.json; restore the bundle")


def test_a_folder_beside_the_versions_has_to_be_one(repository):
    (repository / "half-space" / "old").mkdir()
    assert "half-space/old has no manifest.json" in refusal(repository)


def test_a_model_without_a_version_is_named(repository):
    (repository / "other").mkdir()
    assert refusal(repository).startswith(f"{repository / 'other'} holds no version")
    (repository / "other" / "README").write_text("soon")
    assert refusal(repository).startswith(f"{repository / 'other'} holds no version")


def test_what_is_hidden_or_the_file_systems_own_or_a_file_beside_is_passed_over(repository, tmp_path):
    for place in (repository, repository / "half-space"):
        for name in (".git", ".2.partial", "lost+found", "..data"):
            (place / name).mkdir()
            (place / name / "HEAD").write_text("")
        (place / "README.md").write_text("read me")
        (place / ".DS_Store").write_bytes(b"\0")
        (place / ".nowhere").symlink_to(tmp_path / "nowhere")
        os.mkfifo(place / "queue")
    assert loaded(repository) == ["half-space/1"]


@pytest.mark.parametrize("what", ["file", "FIFO"])
def test_a_version_that_is_no_folder_is_named(what, repository):
    place = repository / "half-space" / "2"
    place.write_text("") if what == "file" else os.mkfifo(place)
    assert refusal(repository).startswith(f"{place} is no folder")


def test_links_are_followed_and_those_that_lead_nowhere_or_in_a_circle_are_named(repository, bundle, tmp_path):
    shutil.move(bundle, tmp_path / "elsewhere")
    bundle.symlink_to(tmp_path / "elsewhere")
    assert loaded(repository) == ["half-space/1"]
    for place in (repository / "other", repository / "half-space" / "2"):
        place.symlink_to(tmp_path / "nowhere")
        assert refusal(repository).startswith(f"{place} cannot be read (No such file or directory)")
        place.unlink()
        place.symlink_to(place)
        assert refusal(repository).startswith(f"{place} cannot be read (Too many levels of symbolic links)")
        place.unlink()
    (repository / "self").symlink_to(repository)
    assert "self/half-space has no manifest.json" in refusal(repository)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


KINDS = {"FIFO": _fifo, "socket": _socket, "folder": Path.mkdir}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "noisy.onnx", "noise.safetensors"])
def test_what_is_no_regular_file_is_named_and_waited_for_by_nobody(kind, name, repository, bundle):
    (bundle / name).unlink()
    KINDS[kind](bundle / name)
    said = refusal(repository)
    assert said.startswith(f"{bundle / name} cannot be read (it is a {kind}, not a regular file)")


def test_what_may_not_be_read_is_named(repository, bundle):
    for place, start in (
        (repository, f"{repository} holds no bundle: it cannot be read (Permission denied)"),
        (repository / "half-space", f"{repository / 'half-space'} cannot be read (Permission denied)"),
        (bundle, f"{bundle} cannot be read (Permission denied)"),
        (bundle / "noisy.onnx", f"{bundle / 'noisy.onnx'} cannot be read (Permission denied)"),
        (bundle / "manifest.json", f"{bundle / 'manifest.json'} cannot be read (Permission denied)"),
    ):
        mode = place.stat().st_mode
        place.chmod(0)
        said = as_nobody(repository.parent, lambda: refusal(repository))
        place.chmod(mode)
        assert said.startswith(start)


def test_a_folder_that_may_be_listed_and_not_entered_is_named(repository, bundle):
    (repository / "half-space").chmod(0o644)
    said = as_nobody(repository.parent, lambda: refusal(repository))
    assert said.startswith(f"{bundle} cannot be read (Permission denied)")


def test_a_wrong_folder_is_refused_with_the_right_one(repository, bundle, monkeypatch):
    assert refusal(bundle) == f"{bundle} is one bundle: give the folder of all models: {repository}"
    assert refusal(repository / "half-space").endswith(f"give the folder of all models: {repository}")
    monkeypatch.chdir(bundle)
    assert refusal(Path()).endswith(f"give the folder of all models: {repository}")
    monkeypatch.chdir(repository)
    shutil.move(bundle, repository / "flat")
    assert refusal(repository).endswith("move the bundle into a folder <name>/<version> of the repository")


def test_a_repository_that_is_missing_empty_or_no_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name, why in {
        "missing": "it cannot be read (No such file or directory); expected <name>/<version>/manifest.json",
        "empty": "expected <name>/<version>/manifest.json below it",
        "file": "it cannot be read (Not a directory)",
        "fifo": "it cannot be read (Not a directory)",
        "circle": "it cannot be read (Too many levels of symbolic links)",
    }.items():
        assert refusal(tmp_path / name).startswith(f"{tmp_path / name} holds no bundle: {why}")
    (tmp_path / "empty" / "model.onnx").write_bytes(b"")
    assert refusal(tmp_path / "empty").endswith("and found model.onnx")


def test_a_repository_of_several_models_and_versions_is_loaded_whole(repository):
    write_half_space(repository, version="2")
    write_half_space(repository, name="other")
    assert loaded(repository) == ["half-space/1", "half-space/2", "other/1"]
    assert load(repository / "other" / "1").key == "other/1"
