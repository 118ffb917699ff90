"""`certserve verify` and `certserve replay`: a receipt judged without trusting the server that gave it.

`verify` needs the receipt and a public key alone: neither model nor network. `replay` needs the bundle and the input, and
draws again. Each prints a numbered list of what it looked at, and fails on whatever does not hold, by the field's name.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certify import strict_json
from certify.bounds.prior import margin
from certify.receipts.prior_record import prior_record
from certify.receipts.receipt import Receipt, ReceiptError
from certify.receipts.recheck import Finding, recheck
from certify.receipts.replay import replay
from serving.client.receipts import held, verified
from serving.errors import InvalidInput
from serving.security.signing import KEY_BYTES, parse

if TYPE_CHECKING:  # `verify` needs nothing of the server, and is there without it
    from export.bundle import Bundle, InputSpec
    from serving.runtimes.runtime import Runtime


def add(commands: Any) -> None:
    """The two commands, for the parser of the command line."""
    verify = commands.add_parser(
        "verify", help="check a receipt offline: its signature, and every claim from its counts"
    )
    verify.add_argument("receipt", type=Path, help="a signed receipt (JSON)")
    verify.add_argument("--key", required=True, help="the public key: 64 hexadecimal digits, or a file of them")
    verify.set_defaults(run=_verify)
    again = commands.add_parser("replay", help="make the draws of a receipt again and compare the counts")
    again.add_argument("receipt", type=Path, help="a signed receipt (JSON)")
    again.add_argument("--bundle", type=Path, required=True, help="the folder of the bundle that answered")
    again.add_argument(
        "--picture", type=Path, required=True, help="the input: a PNG or JPEG file, or a JSON array of grid integers"
    )
    again.add_argument("--provider", default="cpu", help="cpu, cuda, tensorrt or onnx-tensorrt (%(default)s)")
    again.set_defaults(run=_replay)


def replayed(receipt: Receipt, bundle: Bundle, lattice: NDArray[np.int32], runtime: Runtime) -> Iterator[Finding]:
    """What `replay` looks at, in its order."""
    from serving.engine.record import undeclared
    from serving.runtimes.runtime import passing

    wrong = undeclared(bundle, receipt)
    yield from (Finding(field=name, said="", found="not what the bundle declares", agrees=False) for name in wrong)
    if wrong:
        return
    yield held("model.digest", receipt.model.digest, "this bundle, and all terms are those that it declares")
    yield from recheck(receipt)
    if bundle.prior and receipt.prior:
        base = runtime.base(lattice[None])[0][: len(bundle.manifest.labels)]
        foreseen = prior_record(bundle.prior.of(margin(base), 0.0))
        yield Finding(field="prior", said=receipt.prior, found=foreseen, agrees=receipt.prior == foreseen)
    calibration = bundle.detector.calibration if bundle.detector else None
    yield from replay(receipt, bundle.law, lattice, passing(runtime), calibration)


def _verify(options: argparse.Namespace) -> None:
    _report(verified(options.receipt.read_bytes(), _public(options.key)))
    print("This key signed the receipt, and its counts prove its claims. Whether the draws gave these counts: replay.")


def _replay(options: argparse.Namespace) -> None:
    from export.bundle import load
    from serving.runtimes.open import open_runtime

    receipt, bundle = parse(options.receipt.read_bytes()).receipt, load(options.bundle)
    lattice = _lattice(options.picture.read_bytes(), bundle.manifest.input)
    runtime = open_runtime(bundle, options.provider)
    if runtime.description != receipt.model.runtime:
        print(f"Note: counted by {receipt.model.runtime}; here is {runtime.description}, whose votes may differ.")
    _report(replayed(receipt, bundle, lattice, runtime))
    lost = f", save {receipt.lost} that were lost and counted against every claim" if receipt.lost else ""
    print(f"The {receipt.draws} draws gave these counts again{lost}. The signature was not looked at: verify.")


def _report(findings: Iterable[Finding]) -> None:
    """Print the list; raise `ReceiptError` with the fields that do not hold."""
    wrong = []
    for number, each in enumerate(findings, 1):
        print(f"{number:2}. {'holds' if each.agrees else 'DIFFERS'}: {each.field} {_shown(each)}")
        wrong += [] if each.agrees else [each.field]
    if wrong:
        raise ReceiptError(f"the receipt does not hold: {', '.join(wrong)}")


def _shown(each: Finding) -> str:
    same = each.agrees and each.said == each.found
    return f"{each.said}" if same else f"{each.said} (here: {each.found})".strip()


def _public(given: str) -> bytes:
    text = given if re.fullmatch("[0-9a-fA-F]+", given) else Path(given).read_bytes().decode("ascii", "replace").strip()
    if not re.fullmatch(f"[0-9a-fA-F]{{{2 * KEY_BYTES}}}", text):
        raise ReceiptError(
            f"--key: expected {2 * KEY_BYTES} hexadecimal digits or a file of them; the server's log has them"
        )
    return bytes.fromhex(text)


def _lattice(data: bytes, spec: InputSpec) -> NDArray[np.int32]:
    from serving.inputs import registry, rows
    from serving.inputs.grid import on_grid

    if not data.lstrip().startswith(b"["):
        return registry.row(data, None, spec)
    hint = f"of the grid, {-spec.zero} to {spec.top - spec.zero}"
    try:
        given = [strict_json.loads(data)]
        found = rows.array(given, (1, *spec.shape), "it", lambda leaves: rows.integers(leaves, "it", hint))
        (lattice,), _ = on_grid(found, spec, max_rows=1, snap=False)
    except (ValueError, InvalidInput) as error:
        raise InvalidInput(
            f"--picture: expected a JSON array of integers of shape {list(spec.shape)}: {error}"
        ) from error
    return lattice
