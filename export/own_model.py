"""Your own model from Python: `inspect`, `export`, `check` and `evaluate`, with the names and arguments of the commands.

`from_scikit_learn` and `from_torch` take a model that is already in memory. Each gives a bundle, proven as serving would.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from certify.strict_json import shown
from export import data as data_sets
from export.build import picture_flags, score_graph
from export.build.assemble import assemble
from export.build.compose import Entrance
from export.build.grid import check_finite, one_or_each
from export.build.learn import Labelled, parted
from export.build.plan import Plan
from export.build.taken import arranged, shape_for
from export.build.taken import samples as taken_samples
from export.build.versions import Faults
from export.bundle import FURTHER, Bundle, ImageKind, Treatments
from export.bundle.manifest import said
from export.data.in_memory import of_arrays
from export.data.picture_file import Decode
from export.data.picture_file import decode as decode_plainly
from export.evaluation import suggested
from export.evaluation.records import EvaluationError
from export.inspection import inspect as inspection
from export.inspection.given import given
from export.inspection.outputs import KINDS, Kind
from export.options import ExportOptions
from export.sources.opening import is_factory, opened
from export.sources.source import Source, SourceError

if TYPE_CHECKING:
    from torch import nn

MODELS = Path("models")


def inspect(
    model: str | Path,
    *,
    weights: str | Path | None = None,
    samples: NDArray[Any] | str | Path | None = None,
    shape: Sequence[int] | None = None,
    output: str | None = None,
    output_kind: Kind | None = None,
) -> inspection.Found:
    """What a model is: an ONNX file, or `package.module:factory` with weights. Raises `SourceError` for what is refused."""
    values = None if samples is None else array(samples, "--samples")
    rows = None if shape is None else tuple(shape)
    source = opened(model, weights, values.shape[1:] if values is not None else rows)
    return inspection.inspect(source, shape=rows, samples=values, output=output, output_kind=_kind(output_kind))


def export(
    model: str | Path,
    *,
    name: str,
    samples: NDArray[Any] | str | Path | None = None,
    data: str | Path | None = None,
    calibration: str | Path | None = None,
    outside: Sequence[str | Path] = (),
    label: str | None = None,
    weights: str | Path | None = None,
    shape: Sequence[int] | None = None,
    **declared: Any,
) -> Bundle:
    """A bundle `out/name/<next version>`. Raises `SourceError` and its like, and writes nothing then.

    `samples` [n, *shape], an array or an .npy file in the caller's units, give certificates only. Labelled `data`, whatever
    `export.data` reads, add a detector and a mixture; `calibration` are rows that neither network nor `data` have seen, a
    third of `data` where they are left out. `outside` are foreign rows, which the score has to tell apart as well. `label`
    names their column. `shape` is that of one input where pictures are resized for a model that takes any. `declared`:
    see `from_source`.
    """
    options, rest = _options(declared)
    wanted = None if shape is None else tuple(shape)
    if samples is not None and data is None:
        if calibration is not None or outside or options.score is not None:
            raise SourceError("--calibration, --outside and --score go with --data; --samples have no labels")
        if wanted is not None:
            raise SourceError("--shape goes with --data; --samples have a shape of their own: leave it out")
        values = array(samples, "--samples")
        source = opened(model, weights, values.shape[1:])
        return _of_source(source, values, options, name=name, **rest)
    if samples is not None or data is None:
        raise SourceError("give either --samples, for certificates only, or --data, with labels, for every guarantee")
    if options.mode != "RGB":
        raise SourceError("--mode BGR goes with --samples; pictures of --data are RGB: say --channels reversed instead")
    if calibration is not None and Path(calibration).resolve() == Path(data).resolve():
        raise SourceError(
            "--calibration names the rows of --data, and a threshold holds only by rows that nothing was fitted to; leave it"
            " out, and a third of them is held out"
        )
    early = None if is_factory(model) and wanted is None else opened(model, weights, wanted)
    decode = _reading(early, wanted, options)
    rows = data_sets.open(data, label=label, decode=decode)
    held_out = None if calibration is None else data_sets.open(calibration, label=label, decode=decode)
    foreign = [data_sets.open(each, labelled=False, decode=decode) for each in outside]
    source = early or opened(model, weights, shape_for(rows, options.layout))
    wanted = shape_for(rows, options.layout, wanted or given(source.model, source.name).axes[1:])
    low, step = (one_or_each(each) for each in (options.low, options.step))
    on_grid = isinstance(step, float)
    rows, *foreign = (arranged(each, wanted, on_grid=on_grid) for each in (rows, *foreign))
    held_out = None if held_out is None else arranged(held_out, wanted, on_grid=on_grid)
    labelled = parted(rows, held_out, tuple(foreign))
    return _of_source(source, taken_samples(rows, low, step), options, name=name, labelled=labelled, **rest)


def _options(declared: dict[str, Any]) -> tuple[ExportOptions, dict[str, Any]]:
    """What is said of the bundle, and the other arguments of `from_source`. Raises `TypeError` for what is neither."""
    rest: dict[str, Any] = {each: declared.pop(each) for each in ("out", "faults", "command") if each in declared}
    return ExportOptions(**declared), rest


def _reading(source: Source | None, shape: tuple[int, ...] | None, options: ExportOptions) -> Decode:
    """How pictures of the data are read: as they are, or as the server will, where that is declared to do something."""
    resize, files = picture_flags.resize(options.resize), picture_flags.treatments(options.pictures)
    if resize is None and files == Treatments():
        return decode_plainly
    flag = "--resize" if resize else "--pictures"
    if source is None:
        raise SourceError(
            f"{flag} with --data: the module takes any size; give --shape, that of one input, as 3x224x224"
        )
    axes = given(source.model, source.name).axes[1:] if shape is None else shape
    first = options.layout != "HWC" and len(axes) == 3 and axes[0] in (1, 3)
    mode: Literal["L", "RGB"] = "L" if len(axes) == 3 and axes[0 if first else 2] == 1 else "RGB"
    kind = ImageKind(kind="image", layout="CHW" if first else "HWC", mode=mode, resize=resize, files=files)
    return picture_flags.reading(kind, axes, flag)


def from_scikit_learn(
    pipeline: Any,
    X: NDArray[Any],  # noqa: N803 the name that scikit-learn gives it
    y: NDArray[Any] | None = None,
    *,
    name: str,
    calibration: tuple[NDArray[Any], NDArray[Any]] | None = None,
    **declared: Any,
) -> Bundle:
    """The same for a fitted classifier, scalers and all. `X` are samples; their labels `y` add detector and mixture.

    Labels are the classifier's own, or their indices in its `classes_`. `calibration` is a pair (X, y) of rows that it was
    not fitted to.
    """
    from export.sources import scikit_learn

    rows = np.asarray(X)
    source = scikit_learn.converted(pipeline, rows)
    named = y is not None and bool({str(each) for each in np.unique(y)} & set(source.labels))
    return from_source(source, rows, name=name, labelled=_in_memory(rows, y, calibration, named=named), **declared)


def from_torch(
    module: nn.Module,
    X: NDArray[Any],  # noqa: N803 as in from_scikit_learn
    y: NDArray[Any] | None = None,
    *,
    name: str,
    calibration: tuple[NDArray[Any], NDArray[Any]] | None = None,
    **declared: Any,
) -> Bundle:
    """The same for a torch module, in the mode that it is in: one in training mode, whose answers vary, is refused.

    Labels that are whole numbers are indices of its outputs.
    """
    from export.sources import torch_module

    rows = np.asarray(X)
    source = torch_module.source(module, rows.shape[1:])
    return from_source(source, rows, name=name, labelled=_in_memory(rows, y, calibration, named=False), **declared)


def from_source(
    source: Source, samples: NDArray[Any], *, name: str, labelled: Labelled | None = None, **declared: Any
) -> Bundle:
    """A bundle of any source, with a detector and a mixture where there are `labelled` rows.

    `declared` are what `export.options.ExportOptions` has, and `out`, the repository to write to, `faults`, the proofs that
    have to hold, and `command`, what the user typed, which is kept in the bundle.
    """
    options, rest = _options(declared)
    return _of_source(source, samples, options, name=name, labelled=labelled, **rest)


def _of_source(
    source: Source,
    samples: NDArray[Any],
    options: ExportOptions,
    *,
    name: str,
    labelled: Labelled | None = None,
    out: str | Path = MODELS,
    faults: Faults | None = None,
    command: str = "",
) -> Bundle:
    if options.foresee and labelled is None:
        raise SourceError("--foresee goes with --data: the prior is fitted on held-out rows")
    _check_further(options.also, labelled)
    if labelled is not None:
        score_graph.check_installed()
    check_finite(samples)
    entrance = _entrance(options, samples.shape[1:])
    seen = entrance.apply(samples[: inspection.TRIED].astype(np.float64))
    found, robust = _found(source, seen, options)
    plan = Plan(
        name=name,
        samples=samples,
        sigma=options.sigma or 0.0,
        out=Path(out),
        options=options,
        expected=None if options.expected is None else array(options.expected, "--expected"),
        entrance=entrance,
        labelled=labelled,
        command=command,
        robust=robust,
    )
    try:
        if options.sigma is None:
            plan = replace(plan, sigma=suggested.sigma_for(source, found, plan))
        return assemble(source, found, plan, faults or check)
    except ValidationError as error:
        raise SourceError(f"no bundle can declare this: {said(error)}") from None


def _check_further(also: Sequence[str], labelled: Labelled | None) -> None:
    for place, name in enumerate(also):
        if name not in FURTHER or name in also[:place]:
            raise SourceError(f"--also: expected some of {', '.join(FURTHER)}, each once; got {shown(name)}")
    if "joint" in also and labelled is None:
        raise SourceError("--also joint goes with --data: the label is joined with the verdict of a detector")
    if "alarm" in also and labelled is None:
        raise SourceError("--also alarm goes with --data: what raises it is calibrated on held-out rows")


def _found(
    source: Source, seen: NDArray[Any], options: ExportOptions
) -> tuple[inspection.Found, tuple[Source, inspection.Found] | None]:
    """The accurate network, and the robust one where there is one, each by running it.

    What is said of an output is of the accurate network's, and of the robust one's where that is open. Raises `SourceError`.
    """
    kind = _kind(options.output_kind)
    robust, told = (None, False) if options.robust is None else _robust(options.robust, seen, options.output, kind)
    found = inspection.inspect(source, samples=seen, output=options.output, output_kind=kind, where_open=told)
    inspection.check_sure(found)
    return found, robust


def _robust(
    file: str | Path, seen: NDArray[Any], output: str | None, kind: Kind | None
) -> tuple[tuple[Source, inspection.Found], bool]:
    """The robust network, and whether it needed what is said of the kind of an output."""
    source = opened(file, None, seen.shape[1:])
    named = output if output in {each.name for each in source.model.graph.output} else None
    found = inspection.inspect(source, samples=seen, output=named, output_kind=kind, where_open=True)
    inspection.check_sure(found)
    return (source, found), found.output.as_said


def check(bundle: str | Path) -> list[str]:
    """Every proof that serving would run: one line for each fault, none if all hold. It runs in a process of its own."""
    command = [sys.executable, "-m", "serving.commands.cli", "check", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return []
    said = [line for line in done.stdout.splitlines() if line] or done.stderr.splitlines()[-1:]
    return said or [f"the check ended with exit code {done.returncode}"]


def evaluate(
    bundle: str | Path, data: str | Path, *, outside: Sequence[str | Path] = (), **options: object
) -> dict[str, Any]:
    """The figures of `certserve evaluate` as one document (`export.evaluation.figures`), by an engine in its own process.

    `options` are those of the command, with `_` for `-`: `draws=640, radii=[0, 0.5], records="work/records"`. Raises
    `EvaluationError` with what the command says.
    """
    words = [each for place in outside for each in ("--outside", str(place))]
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        words += ["--" + name.replace("_", "-"), *map(str, values)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "serving.commands.cli", "evaluate", str(bundle), "--data", str(data), *words]
        done = subprocess.run(
            [*command, "--json", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode != 0:
            said = done.stderr.splitlines()[-1:] or [f"it ended with exit code {done.returncode}"]
            raise EvaluationError(said[0].removeprefix("certserve: "))
        found: dict[str, Any] = json.loads(file.read_text())
        return found


def array(given: NDArray[Any] | str | Path, flag: str) -> NDArray[Any]:
    """An array, or the one in an .npy or .npz file. Raises `SourceError`."""
    if isinstance(given, str | Path):
        try:
            loaded = np.load(given, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise SourceError(
                f"{flag}: {given} holds no plain array (.npy); pickled objects are never loaded"
            ) from error
        if isinstance(loaded, np.lib.npyio.NpzFile):
            if len(loaded.files) != 1:
                raise SourceError(f"{flag}: {given} holds {len(loaded.files)} arrays; give one with a single array")
            loaded = loaded[loaded.files[0]]
        given = np.asarray(loaded)
    if given.dtype.kind not in "iufb" or given.ndim < 2 or not len(given):
        raise SourceError(f"{flag}: expected numbers [rows, ...], got {given.dtype} of shape {list(given.shape)}")
    return given


def _in_memory(
    rows: NDArray[Any], labels: NDArray[Any] | None, held_out: tuple[NDArray[Any], NDArray[Any]] | None, *, named: bool
) -> Labelled | None:
    if labels is None:
        if held_out is not None:
            raise SourceError("calibration goes with labels: give y as well")
        return None
    kept = None if held_out is None else of_arrays(np.asarray(held_out[0]), held_out[1], "calibration", named=named)
    return parted(of_arrays(rows, labels, "X", named=named), kept)


def _kind(given: str | None) -> Kind | None:
    if given is not None and given not in KINDS:
        raise SourceError(f"--output-kind: expected one of {', '.join(KINDS)}; got {given!r}")
    return given


def _entrance(options: ExportOptions, shape: tuple[int, ...]) -> Entrance:
    """What lies before the network. Raises `SourceError` where it does not fit these inputs."""
    entrance = Entrance(
        layout=options.layout or inspection.layout_of(shape),
        reverse=options.channels == "reversed",
        mean=tuple(np.atleast_1d(options.mean).tolist()),
        deviation=tuple(np.atleast_1d(options.std).tolist()),
    )
    _check_entrance(entrance, shape)
    return entrance


def _check_entrance(entrance: Entrance, shape: tuple[int, ...]) -> None:
    pictures = {"CHW": 0, "HWC": 2}
    if entrance.layout in pictures and len(shape) != 3:
        raise SourceError(f"--layout {entrance.layout}: samples have the shape {list(shape)}; expected three axes")
    colours = shape[pictures.get(entrance.layout, -1)]
    for flag, numbers in (("--mean", entrance.mean), ("--std", entrance.deviation)):
        if len(numbers) not in (0, 1, colours):
            raise SourceError(
                f"{flag}: expected one number or {colours}, one for each colour or column; got {len(numbers)}"
            )
    if any(not number > 0 for number in entrance.deviation):
        raise SourceError("--std: expected numbers above 0")
    if entrance.reverse and entrance.layout == "features":
        raise SourceError("--channels reversed: only pictures have colours; say --layout CHW or HWC")
