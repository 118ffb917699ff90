"""`certserve evaluate`: a bundle measured on labelled data. What measures is imported when the command runs."""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from certify.claims.procedures import Best, Fixed
from serving.commands.console import say, write
from serving.errors import InvalidInput


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    evaluate = commands.add_parser("evaluate", help="measure a bundle on labelled data and print tables")
    evaluate.add_argument("bundle", type=Path, help="a bundle's folder")
    evaluate.add_argument("--data", type=Path, required=True, help="labelled rows: pictures, IDX, NPZ, CSV or Parquet")
    evaluate.add_argument("--label", help="the column, or array, of the labels (label, or y)")
    evaluate.add_argument(
        "--outside",
        type=Path,
        action="append",
        default=[],
        metavar="DATA",
        help="foreign rows; their labels do not count",
    )
    evaluate.add_argument("--every", type=int, default=1, help="take each so many-th row (%(default)s)")
    evaluate.add_argument("--certify", choices=(Best.name, Fixed.name), default=Best.name, help="(%(default)s)")
    evaluate.add_argument("--draws", type=int, default=1_000, help="noisy passes for each row (%(default)s)")
    evaluate.add_argument("--alpha", type=float, help="of each answer (that of the bundle)")
    evaluate.add_argument("--radii", type=float, nargs="+", default=[], help="of the table, in the bundle's units")
    evaluate.add_argument("--confidence", type=float, default=0.95, help="of bands and intervals (%(default)s)")
    evaluate.add_argument("--seed", type=int, default=0, help="of the noise (%(default)s): the same, the same answers")
    evaluate.add_argument(
        "--attack", type=int, default=0, metavar="ROWS", help="attack the accurate network on so many"
    )
    evaluate.add_argument("--attack-radius", type=float, help="how far an attack may go (the bundle's default target)")
    evaluate.add_argument("--sigmas", type=float, nargs="+", help="instead, certified accuracy at each of these sigmas")
    evaluate.add_argument(
        "--records", type=Path, metavar="FILE", help="keep each answer; a run broken off goes on there"
    )
    evaluate.add_argument("--ray", type=int, default=0, metavar="WORKERS", help="over so many workers of Ray Data")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    evaluate.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves, as SVG, PNG or PDF")
    evaluate.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from export import data
    from export.build.served_pictures import decode_for
    from export.bundle import load
    from export.evaluation import plots

    if options.plot:
        plots.check(options.plot)
    if options.every < 1 or options.ray < 0 or options.attack < 0:
        raise InvalidInput("--every must be 1 or more, --ray and --attack must not be negative")
    bundle = load(options.bundle)
    decode = decode_for(bundle.manifest.input)
    test = data.open(options.data, label=options.label, decode=decode).every(options.every)
    if options.sigmas:
        _sigmas(options, bundle, test)
    else:
        _evaluate(options, bundle, test)


def _evaluate(options: argparse.Namespace, bundle: Any, test: Any) -> None:
    from export import data
    from export.build.served_pictures import decode_for
    from export.evaluation import plots, report
    from export.evaluation.evaluate import FigureOptions, evaluate
    from export.evaluation.figures import worth
    from export.evaluation.records import TEST, Store
    from serving.deployments import in_process

    wanted = FigureOptions(confidence=options.confidence, radii=tuple(options.radii))
    decode = decode_for(bundle.manifest.input)
    outside = [data.open(each, labelled=False, decode=decode) for each in options.outside]
    run = _identity(options, bundle, test)
    store = Store(options.records, run)
    if options.ray:
        _over_ray(options, bundle, test, store)
    attacked = _attacked(options, bundle, test)
    with _when_asked(in_process.answers(bundle, asked(options), secret(options.seed), whole=True)) as answering:
        found = evaluate(bundle.manifest, test, outside, answering, store, run=run, wanted=wanted, attacked=attacked)
    print(report.markdown(found))
    if options.json:
        write(options.json, json.dumps(report.document(found), indent=1))
    if options.plot:
        records = store.of(TEST)
        lines = {"smoothed": worth(records)} | ({"mixture": worth(records, "mixture")} if found.mixed else {})
        lines |= {"joint label": worth(records, "joint")} if found.joint else {}
        plots.certified_curve(options.plot, lines, bundle.manifest.input.units, options.confidence)


@contextmanager
def _when_asked(opening: AbstractContextManager[Any]) -> Iterator[Callable[[Any], Any]]:
    """Who answers, opened at the first question: where every record is there already, no engine has to start."""
    with ExitStack() as stack:
        opened: list[Any] = []

        def answering(rows: Any) -> Any:
            if not opened:
                opened.append(stack.enter_context(opening))
            return opened[0](rows)

        yield answering


def asked(options: argparse.Namespace) -> dict[str, object]:
    """What is asked of the engine for each row."""
    draws = "draws" if options.certify == Fixed.name else "max_draws"
    found: dict[str, object] = {"certify": options.certify, draws: options.draws}
    return found | ({} if options.alpha is None else {"alpha": options.alpha})


def secret(seed: int) -> bytes:
    """The noise secret of an evaluation: public, so that the same run gives the same answers, and used for nothing else."""
    return hashlib.sha256(f"certserve evaluate {seed}".encode()).digest()


def _identity(options: argparse.Namespace, bundle: Any, test: Any) -> dict[str, object]:
    return {"bundle": bundle.digest, "data": test.digest, "asked": asked(options), "seed": options.seed}


def _over_ray(options: argparse.Namespace, bundle: Any, test: Any, store: Any) -> None:
    """Fill the store with the records of the test rows that it has not, from the workers of Ray."""
    from export.evaluation.evaluate import ROWS
    from export.evaluation.records import TEST, Record
    from export.progress import ProgressBar, progress
    from serving.deployments.evaluate_on_ray import spread

    start = store.complete(TEST)
    if start >= len(test):
        return
    where = (options.bundle.resolve(), options.data.resolve(), options.label, options.every)
    make = functools.partial(part_of, *where, asked(options), secret(options.seed), start)
    bar: ProgressBar[object] = progress(what="test, over Ray", total=len(test), initial=start, unit="row")
    with bar:
        for line in spread(make, len(test) - start, ROWS, options.ray):
            store.add([Record(**json.loads(line))])
            bar.update()


def part_of(
    folder: Path,
    source: Path,
    label: str | None,
    every: int,
    options: dict[str, object],
    secret: bytes,
    before: int,
) -> Callable[[int, int], Sequence[str]]:
    """In a worker: an engine of its own, and the records of rows, as lines of JSON. Rows are counted from `before` on."""
    from export import data
    from export.build.served_pictures import decode_for
    from export.bundle import load
    from export.evaluation.evaluate import of_test
    from export.evaluation.records import Store
    from serving.deployments import in_process

    bundle = load(folder)
    test = data.open(source, label=label, decode=decode_for(bundle.manifest.input)).every(every)
    until_the_worker_ends = ExitStack()
    answering = until_the_worker_ends.enter_context(in_process.answers(bundle, options, secret, whole=True))

    def part(start: int, stop: int) -> list[str]:
        assert until_the_worker_ends  # known here, or the engine would be closed at once
        at = before + start, before + stop
        rows = of_test(bundle.manifest, test, answering, Store(None, {}), part=at, quiet=True)
        return [json.dumps(asdict(each)) for each in rows]

    return part


def _attacked(options: argparse.Namespace, bundle: Any, test: Any) -> Any:
    if not options.attack:
        return None
    from export.attack.accuracy import attacked
    from serving.runtimes.open import open_runtime

    radius = bundle.manifest.defaults.target_radius if options.attack_radius is None else options.attack_radius
    return attacked(
        bundle, open_runtime(bundle).base, test, options.attack, radius, options.seed, confidence=options.confidence
    )


def _sigmas(options: argparse.Namespace, bundle: Any, test: Any) -> None:
    from export.bundle.batches import without_grades
    from export.evaluation import plots, sigma
    from serving.runtimes.open import open_runtime
    from serving.runtimes.runtime import passing

    noisy = without_grades(passing(open_runtime(bundle)), len(bundle.manifest.labels))
    found = sigma.sweep(
        bundle.manifest, test, noisy, options.sigmas, tuple(options.radii), options.draws, alpha=options.alpha
    )
    print(sigma.markdown(found))
    say(sigma.advice(found))
    if options.json:
        write(options.json, json.dumps(asdict(found), indent=1))
    if options.plot:
        lines = {f"radius {radius:.4g}": found.line(place) for place, radius in enumerate(found.radii)}
        plots.against_sigma(options.plot, [each.sigma for each in found.rows], lines, bundle.manifest.input.units)
