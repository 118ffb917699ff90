from __future__ import annotations

import pytest

from export.build.picture_flags import resize, treatments
from export.bundle import Resize, Treatments
from export.sources.source import SourceError


def test_flags_of_pictures_are_what_a_manifest_declares():
    assert resize("") is None
    assert resize("bilinear") == Resize(method="bilinear", crop="none")
    assert resize("bicubic, centre") == Resize(method="bicubic", crop="centre")
    assert resize("lanczos,centre,256") == Resize(method="lanczos", crop="centre", shorter=256)
    assert treatments("") == Treatments()
    assert treatments("alpha=on white, depth=converted") == Treatments(alpha="on white", depth="converted")


@pytest.mark.parametrize(
    "text", ["guess", "bilinear,left", "bilinear,centre,0", "bilinear,centre,many", "bilinear,none,256", "a,b,c,d"]
)
def test_another_resize_is_refused_with_what_was_expected(text):
    with pytest.raises(SourceError, match=r"--resize: expected nearest, .* as in bilinear,centre,256"):
        resize(text)


@pytest.mark.parametrize("text", ["alpha", "alpha=green", "gamma=applied", "alpha=dropped=1"])
def test_another_treatment_is_refused_with_all_that_there_are(text):
    with pytest.raises(SourceError, match=r"--pictures: .*orientation=ignored\|refused\|applied.*colours="):
        treatments(text)
