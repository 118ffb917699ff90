"""`certserve keys add`, `list` and `revoke`: the file of API keys that `certserve serve --keys-file` watches."""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from export import regular_file
from serving.security import keys
from serving.security.callers import INFER, SCOPES

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def add(commands: Any) -> None:
    """The commands, for the parser of the command line."""
    parser = commands.add_parser("keys", help="make, list and revoke the API keys of callers")
    ways = parser.add_subparsers(required=True, metavar="what")
    making = ways.add_parser("add", help="make a key; it is printed once, and its hash kept in the file")
    making.add_argument("file", type=Path, help="the file of keys; made if it is not there")
    making.add_argument("name", help="of the caller: letters, digits and . _ @ -")
    making.add_argument(
        "--scope", action="append", choices=SCOPES, help=f"what they may do; may be given again ({INFER})"
    )
    making.add_argument("--days", type=int, help="after which the key expires; without it, it does not")
    making.add_argument(
        "--draws-per-second", type=int, help="noisy passes; 0 means any (default: the server's setting)"
    )
    making.add_argument("--draws-per-day", type=int, help="likewise")
    making.add_argument("--weight", type=int, default=1, help="of its share of the devices under load (1)")
    making.set_defaults(run=_add)
    listing = ways.add_parser("list", help="the keys of a file: who, which, for what and until when")
    listing.add_argument("file", type=Path)
    listing.set_defaults(run=_list)
    revoking = ways.add_parser("revoke", help="have a running server refuse keys, within a second")
    revoking.add_argument("file", type=Path)
    revoking.add_argument("key", help="the name of a caller, for all keys of it, or the id of one key")
    revoking.set_defaults(run=_revoke)


def _add(options: argparse.Namespace) -> None:
    if not _NAME.fullmatch(options.name):
        raise ValueError(f"{options.name!r:.80} is no name; expected 1 to 64 letters, digits and . _ @ -")
    if options.days is not None and not 0 < options.days <= 36_500:
        raise ValueError(f"--days is {options.days}; expected 1 to 36500")
    key = keys.new()
    expires = None if options.days is None else _now() + timedelta(days=options.days)
    scopes = sorted(set(options.scope or [INFER]))
    quota = {name: getattr(options, name) for name in ("draws_per_second", "draws_per_day", "weight")}
    made = msgspec.convert(
        {"name": options.name, "sha256": keys.hashed(key), "scopes": scopes, "expires": expires, **quota}, keys.Key
    )
    with _changing(options.file) as known:
        known.append(made)
    print(key)


def _list(options: argparse.Namespace) -> None:
    for each in keys.parse(regular_file.read(options.file)):
        state = f"revoked {each.revoked:%Y-%m-%d}" if each.revoked else "in use"
        until = f", expires {each.expires:%Y-%m-%d}" if each.expires else ""
        print(f"{each.id}  {each.name}  {','.join(each.scopes)}  {state}{until}")


def _revoke(options: argparse.Namespace) -> None:
    with _changing(options.file) as known:
        meant = [place for place, each in enumerate(known) if options.key in (each.name, each.id) and not each.revoked]
        if not meant:
            raise ValueError(f"{options.file} has no key in use of the name or id {options.key!r:.80}")
        for place in meant:
            known[place] = msgspec.structs.replace(known[place], revoked=_now())
    print(f"revoked: {', '.join(known[place].id for place in meant)}")


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@contextmanager
def _changing(file: Path) -> Iterator[list[keys.Key]]:
    """The keys of a file, which has what becomes of them afterwards: whole at every moment, and by one at a time."""
    folder = os.open(file.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        known = keys.parse(regular_file.read(file)) if file.exists() else []
        yield known
        _replace(file.resolve(), keys.written(known))
    finally:
        os.close(folder)


def _replace(file: Path, data: bytes) -> None:
    descriptor, aside = tempfile.mkstemp(dir=file.parent, prefix=file.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        if file.exists():
            shutil.copymode(file, aside)  # whoever could read it still can
        os.replace(aside, file)
    except BaseException:
        os.unlink(aside)
        raise
