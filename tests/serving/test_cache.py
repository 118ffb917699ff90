"""Compiled code lies in one folder of the user's, where nobody else could have put any."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from serving import cache
from serving.cache import CacheError


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_made_private_whatever_the_mask(home):
    before = os.umask(0)
    try:
        found = cache.folder("tensorrt")
    finally:
        os.umask(before)
    assert found == home / "certserve" / "tensorrt"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (found, found.parent)] == [0o700, 0o700]
    assert cache.folder("tensorrt") == found


@pytest.mark.parametrize("which", ["certserve", "certserve/noise"])
def test_one_that_others_can_read_is_made_private(home, which):
    cache.folder("noise")
    (home / which).chmod(0o755)
    assert stat.S_IMODE(cache.folder("noise").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / which).stat().st_mode) == 0o700


@pytest.mark.parametrize("which", ["certserve", "certserve/noise"])
@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702, 0o1777])
def test_one_that_others_may_write_to_is_refused(home, which, mode):
    cache.folder("noise")
    (home / which).chmod(mode)
    with pytest.raises(CacheError, match="remove it, or set XDG_CACHE_HOME"):
        cache.folder("noise")


@pytest.mark.parametrize("which", ["certserve", "certserve/noise"])
def test_one_that_is_of_another_user_is_refused(home, which, monkeypatch):
    cache.folder("noise")
    honest = Path.lstat

    def lstat(path):
        found = list(honest(path))
        found[4] += str(path).endswith(which)
        return os.stat_result(found)

    monkeypatch.setattr(Path, "lstat", lstat)
    with pytest.raises(CacheError, match="others own it"):
        cache.folder("noise")


@pytest.mark.parametrize("which", ["certserve", "certserve/noise"])
def test_a_link_is_refused_though_it_leads_to_a_folder_of_ours(home, which, tmp_path):
    (home / which).parent.mkdir(parents=True, mode=0o700)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (home / which).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheError, match="is a link"):
        cache.folder("noise")


@pytest.mark.parametrize("without", ["nobody's home", "a file in its place", "a relative path"])
def test_without_a_home_it_is_of_this_process_alone(without, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if without == "nobody's home":
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    elif without == "a file in its place":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    found = cache.folder("noise")
    if without == "a relative path":
        assert found == tmp_path / "home" / ".cache" / "certserve" / "noise"
        return
    assert stat.S_IMODE(found.stat().st_mode) == stat.S_IMODE(found.parent.stat().st_mode) == 0o700
    assert cache.folder("noise") == found
    assert cache.folder("tensorrt").parent == found.parent


def test_compiled_noise_and_plans_are_kept_there(home, tmp_path):
    """In a process of its own, since numba reads where to keep what when it compiles."""
    import subprocess
    import sys

    code = "import numba; from serving.runtimes import noise_kernel; print(numba.config.CACHE_DIR)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert said.stdout.strip() == str(home / "certserve" / "noise")
