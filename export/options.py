"""What may be declared of a bundle, said once: each is an argument of `own_model.export` and a flag of `certserve export`.

Absent: what is done with it.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Layout = Literal["CHW", "HWC", "features"]
OneOrEach = float | Sequence[float] | None
"""One number, one for each column or colour, or nothing."""


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(float(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(part.strip() for part in text.split(","))


def labels(text: str) -> tuple[str, ...]:
    """Names with commas between them, or a file with one a line. Raises `ArgumentTypeError`."""
    file = Path(text)
    try:
        named = file.read_text("utf-8-sig").splitlines() if file.is_file() else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentTypeError(f"{text} cannot be read as UTF-8 text ({error}); write one name a line") from None
    found = tuple(label.strip() for label in named if label.strip())
    if len(found) < 2:
        raise ArgumentTypeError(
            f"expected two names or more with commas between them, or a file with one a line; got {text!r:.80}"
        )
    return found


def _flag(said: str, **how: Any) -> dict[str, Any]:
    """A field that is a flag, too: what is said of it, and how argparse reads it."""
    return {"help": said, **how}


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportOptions:
    """What the user says of a bundle. None, or what is empty, is found or has a default.

    `mean` and `std` (a number, or one for each colour) and `channels` are what the caller's preprocessing did between a
    sample and the network. What is kept in the folder `work` lets a second run go on where the first was broken off.
    `expected`, the original's own outputs on the samples, may be an array. `output` and `output_kind` are said of a model
    wherever one is named.
    """

    sigma: float | None = field(
        default=None,
        metadata=_flag("the noise, in the units of the samples; measured on --data if left out", type=float),
    )
    labels: Sequence[str] = field(
        default=(), metadata=_flag("names, or a file with one a line", type=labels, metavar="A,B,C")
    )
    score: str | None = field(
        default=None, metadata=_flag("of the detector; the one that is measured to be best if left out", metavar="NAME")
    )
    foresee: bool = field(
        default=False,
        metadata=_flag(
            "declare what the plain prediction tells of the votes, though it saves no draws on held-out rows",
            action="store_true",
        ),
    )
    also: Sequence[str] = field(
        default=(),
        metadata=_flag(
            "claims beside the usual ones, each for a share of alpha: joint (the class and in distribution, as one label),"
            " two_sided (the class against the best of the others; declared anyway where they enlarge held-out radii),"
            " alarm (one of the score, whose false ones stay rare under attack; no share), confidence (the network's mean"
            " confidence in the class under noise)",
            type=names,
            metavar="CLAIM,...",
        ),
    )
    work: Path | str | None = field(
        default=None, metadata=_flag("where long walks over the data go on", type=Path, metavar="FOLDER")
    )
    expected: NDArray[Any] | Path | str | None = field(
        default=None, metadata=_flag("the original's own outputs on the samples, .npy", type=Path, metavar="FILE")
    )
    low: OneOrEach = field(
        default=None, metadata=_flag("the least value of the grid, or one a column; found in the samples", type=numbers)
    )
    step: OneOrEach = field(
        default=None, metadata=_flag("the step of the grid, or one a column; found in the samples", type=numbers)
    )
    high: OneOrEach = field(
        default=None,
        metadata=_flag("the largest value of the grid, or one a column; found in the samples", type=numbers),
    )
    columns: bool = field(
        default=False,
        metadata=_flag(
            "find a step for each column; --sigma is then a share of each column's range", action="store_true"
        ),
    )
    batch_rows: int | None = field(
        default=None, metadata=_flag("of noisy passes; chosen by time and memory if left out", type=int, metavar="N")
    )
    rate: int | None = field(
        default=None, metadata=_flag("the samples are sound: one channel of 16 bits", type=int, metavar="HZ")
    )
    units: str = field(default="units of the samples", metadata=_flag("what a value is measured in (%(default)s)"))
    layout: Layout | None = field(
        default=None, metadata=_flag("found by the axis of 1 or 3 colours", choices=("CHW", "HWC", "features"))
    )
    mean: float | Sequence[float] = field(
        default=(), metadata=_flag("subtracted inside: one number, or one a colour", type=numbers)
    )
    std: float | Sequence[float] = field(default=(), metadata=_flag("divided by inside, after the mean", type=numbers))
    mode: Literal["RGB", "BGR"] = field(
        default="RGB", metadata=_flag("the order of the samples' colours (RGB)", choices=("RGB", "BGR"))
    )
    channels: Literal["as given", "reversed"] = field(
        default="as given", metadata=_flag("reversed: RGB to BGR", choices=("as given", "reversed"))
    )
    resize: str = field(
        default="", metadata=_flag("of pictures of another size: bilinear, or bilinear,centre,256", metavar="METHOD")
    )
    pictures: str = field(
        default="",
        metadata=_flag("of files of other forms: alpha=dropped, orientation=applied, ...", metavar="A=B,..."),
    )
    robust: Path | str | None = field(
        default=None,
        metadata=_flag(
            "the network that votes, of certserve robustify; the same if left out", type=Path, metavar="FILE"
        ),
    )
    output: str | None = None
    output_kind: str | None = None


def add_flags(parser: Any) -> None:
    """A flag for each field that is one."""
    for each in fields(ExportOptions):
        if each.metadata:
            parser.add_argument("--" + each.name.replace("_", "-"), default=each.default, **each.metadata)
