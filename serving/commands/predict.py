"""`certserve predict`: files asked of a running server, with a table or a line of JSON for each row."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from certify.claims.procedures import PROCEDURES
from export import regular_file
from serving.commands.console import write
from serving.errors import CertserveError, InvalidInput

_ASKED = ("certify", "target_radius", "radius_tolerance", "max_draws", "draws", "alpha", "deadline_ms")
_HEADINGS = ("file", "row", "label", "certificate", "smoothed label", "radius", "distribution", "draws")
_FURTHER = {"joint": "joint label", "confidence": "confidence"}
"""Columns of what few models declare, by the part of an answer."""
_WIDEST = 40


_KEY = "CERTSERVE_KEY"


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    predict = commands.add_parser("predict", help="send files and print the answers")
    predict.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="PNG, JPEG, .npy, .json or .csv (a row a line)"
    )
    predict.add_argument("--model", help="(the only one, where one is served)")
    predict.add_argument("--url", default="http://127.0.0.1:8000", help="the HTTP server (%(default)s)")
    predict.add_argument("--grpc", metavar="HOST:PORT", help="ask over gRPC (certserve.v1): pictures and .json alone")
    predict.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help=f"its one line is sent as a bearer token, where the server asks for one; else what {_KEY} says is",
    )
    predict.add_argument("--key", nargs="?", const="", help=argparse.SUPPRESS)  # said by its own refusal, never read
    predict.add_argument("--ca", type=Path, metavar="FILE", help="authorities in PEM to believe instead of those known")
    predict.add_argument(
        "--cert", type=Path, metavar="FILE", help="a certificate to show, where the server asks for one"
    )
    predict.add_argument("--cert-key", type=Path, metavar="FILE", help="its key")
    predict.add_argument("--certify", choices=tuple(PROCEDURES))
    predict.add_argument("--target-radius", type=float)
    predict.add_argument("--radius-tolerance", type=float)
    predict.add_argument("--max-draws", type=int)
    predict.add_argument("--draws", type=int)
    predict.add_argument("--alpha", type=float)
    predict.add_argument("--deadline-ms", type=int)
    predict.add_argument(
        "--receipt", type=Path, metavar="FILE", help="ask for a signed receipt of the one row, to FILE"
    )
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--table", action="store_true", help="print a table, as where a terminal shows it")
    form.add_argument(
        "--json", action="store_true", help="print a line of JSON for each row, as where no terminal does"
    )
    predict.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    options.key = _key(options)
    asked = {name: value for name in _ASKED if (value := getattr(options, name)) is not None}
    asked |= {"receipt": True} if options.receipt else {}
    if options.receipt and len(options.files) > 1:
        raise InvalidInput("--receipt is for one file; ask for each by itself")
    printed = _table if options.table or (sys.stdout.isatty() and not options.json) else _lines
    answers = _answers(options, asked)
    if options.receipt:
        answers = iter([_with_receipt(next(answers), options.receipt)])
    printed(answers, options.files)


def _key(options: argparse.Namespace) -> str | None:
    """The caller's key, from where no other user of the host sees it. Refusals never repeat it."""
    if options.key is not None:
        raise InvalidInput(
            f"--key would show the key in the list of processes; put it in a file for --key-file, or in {_KEY}"
        )
    if options.key_file is None:
        return os.environ.get(_KEY)
    text = regular_file.read(options.key_file).strip()
    if not re.fullmatch(rb"[!-~]+", text):
        raise InvalidInput(f"{options.key_file}: expected one key, in printable characters of ASCII without a space")
    return text.decode()


def _answers(options: argparse.Namespace, asked: dict[str, object]) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Each file with the documents of its rows, while a bar says on a terminal how many are done."""
    from serving import client  # httpx and scipy: no other command waits for them

    with client.Client(
        options.url,
        options.model,
        key=options.key,
        ca=options.ca,
        certificate=options.cert,
        certificate_key=options.cert_key,
    ) as over_http:
        for done, file in enumerate(options.files):
            _bar(done, len(options.files))
            try:
                if options.grpc:
                    rows = _over_grpc(options, file, asked)
                else:
                    rows = [dict(each.document) for each in over_http.predict_rows(file, **asked)]
            except CertserveError as error:
                about = error.message if str(file) in error.message else f"{file}: {error.message}"
                raise type(error)(about) from error
            finally:
                _bar(None, len(options.files))
            yield file, rows


def _over_grpc(options: argparse.Namespace, file: Path, asked: dict[str, object]) -> list[dict[str, Any]]:
    from serving import client
    from serving.client.asking import body_of, needs_shape
    from serving.client.trust import Trust

    if needs_shape(file):
        raise InvalidInput(f"{file}: over gRPC pictures and .json are sent alone; leave --grpc out")
    if options.model is None:
        raise InvalidInput("--grpc needs --model, the name of the model")
    body = body_of(file)
    found: list[dict[str, Any]] = client.predict_grpc(
        options.grpc,
        options.model,
        body.content,
        body.content_type,
        asked,
        key=options.key,
        trust=Trust(ca=options.ca, certificate=options.cert, certificate_key=options.cert_key),
    )["predictions"]
    return found


def _with_receipt(answer: tuple[Path, list[dict[str, Any]]], to: Path) -> tuple[Path, list[dict[str, Any]]]:
    file, rows = answer
    if len(rows) != 1:
        raise InvalidInput(f"{file}: --receipt is for one row, and this holds {len(rows)}")
    write(to, json.dumps(rows[0].pop("receipt")))
    return answer


def _lines(answers: Iterator[tuple[Path, list[dict[str, Any]]]], _: Sequence[Path]) -> None:
    for file, rows in answers:
        for number, row in enumerate(rows):
            print(json.dumps({"file": str(file), "row": number, "prediction": row}), flush=True)


def _table(answers: Iterator[tuple[Path, list[dict[str, Any]]]], files: Sequence[Path]) -> None:
    """A line for each row as it comes; the file's column is as wide as the names, the others as what they mostly hold."""
    widest = min(_WIDEST, max(len("file"), *(len(each.name) for each in files)))
    widths = [widest, 3, 16, 11, 16, 9, 19, 6]
    further: list[str] = []
    for index, (file, rows) in enumerate(answers):
        if index == 0:
            further = [part for part in _FURTHER if any(part in row for row in rows)]
            widths += [11] * len(further)
            print(_line((*_HEADINGS, *(_FURTHER[part] for part in further)), widths))
        for number, row in enumerate(rows):
            said = {"joint": _joint, "confidence": _confidence}
            print(_line((*_cells(file, number, row), *(said[part](row) for part in further)), widths), flush=True)


def _cells(file: Path, number: int, row: dict[str, Any]) -> tuple[str, ...]:
    from serving.client.answers import down

    certificate, ood = row.get("certificate") or {}, row.get("ood") or {}
    decided = "-" if not ood else "in_distribution" if ood.get("in_distribution") else "out_of_distribution"
    verdict = (ood.get("certified") or {}).get("verdict") or decided
    radius = down(certificate["radius"]) if certificate else "-"
    status = certificate.get("status", "off") + (", two-sided" if certificate.get("two_sided") else "")
    smoothed = status, certificate.get("label") or "-", radius
    return (file.name, str(number), row["label"], *smoothed, verdict.replace("_", " "), str(row["draws"]))


def _joint(row: dict[str, Any]) -> str:
    """A class that is in distribution, or out; with the radius within which that holds."""
    from serving.client.answers import down

    joint = row.get("joint") or {}
    said = {"in_distribution": f"in, {joint.get('label')}", "out_of_distribution": "out"}.get(joint.get("verdict", ""))
    return f"{said} within {down(joint['radius'])}" if said else "-"


def _confidence(row: dict[str, Any]) -> str:
    """In the smoothed label, within its radius, and at the input."""
    from serving.client.answers import down

    found = row.get("confidence") or {}
    return f"{down(found['lower'])}, {down(found['lower_at_input'])} here" if found.get("label") is not None else "-"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    shown = (each if each.isprintable() else ascii(each) for each in cells)
    cut = (each if len(each) <= _WIDEST else each[: _WIDEST - 1] + "…" for each in shown)
    return "  ".join(each.ljust(width) for each, width in zip(cut, widths, strict=True)).rstrip()


def _bar(done: int | None, total: int) -> None:
    """A bar on a terminal where several files are asked; with None it is taken away."""
    if total < 2 or not sys.stderr.isatty():
        return
    if done is None:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        return
    filled = 30 * done // total
    print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {done} of {total}", end="", file=sys.stderr, flush=True)
