"""`certserve predict`: one picture asked of a running server, over either wire."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from certify.claims.procedures import PROCEDURES
from serving.commands.console import write
from serving.errors import CertserveError, InvalidInput


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    predict = commands.add_parser("predict", help="send one picture and print the answer")
    predict.add_argument("picture", type=Path, help="a PNG or JPEG file")
    predict.add_argument("--model", default="fashion-mnist", help="(%(default)s)")
    predict.add_argument("--url", default="http://127.0.0.1:8000", help="the HTTP server (%(default)s)")
    predict.add_argument("--grpc", metavar="HOST:PORT", help="ask over gRPC (certserve.v1) instead")
    predict.add_argument("--certify", choices=tuple(PROCEDURES))
    predict.add_argument("--target-radius", type=float)
    predict.add_argument("--radius-tolerance", type=float)
    predict.add_argument("--max-draws", type=int)
    predict.add_argument("--draws", type=int)
    predict.add_argument("--alpha", type=float)
    predict.add_argument("--deadline-ms", type=int)
    predict.add_argument("--receipt", type=Path, metavar="FILE", help="ask for a signed receipt and write it there")
    predict.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from serving import client  # the libraries of two wires: no other command waits for them
    from serving.inputs import registry

    asked = {
        name: value
        for name in ("certify", "target_radius", "radius_tolerance", "max_draws", "draws", "alpha", "deadline_ms")
        if (value := getattr(options, name)) is not None
    }
    asked |= {"receipt": True} if options.receipt else {}
    picture = options.picture.read_bytes()
    try:
        kind = registry.sniffed(picture)
    except CertserveError as error:
        raise InvalidInput(f"{options.picture}: {error}") from error
    if options.grpc:
        answer = client.predict_grpc(options.grpc, options.model, picture, kind, asked)
    else:
        answer = client.predict_http(options.url, options.model, picture, kind, asked)
    if options.receipt:
        write(options.receipt, json.dumps(answer["predictions"][0].pop("receipt")))
    print(json.dumps(answer, indent=1))
